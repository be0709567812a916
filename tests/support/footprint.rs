//! What a program takes of its machine, and whether that grows.

use std::{fmt, fs};

use crate::processes;

/// Of this process and of the process of a library, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// Processes that this one has started.
    pub(crate) children: usize,
    /// This process.
    pub(crate) own: Taken,
    /// The one that a library runs in.
    pub(crate) library: Option<Taken>,
}

/// What one process takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) threads: usize,
    /// `None` when this user may not see it.
    pub(crate) descriptors: Option<usize>,
    /// Resident, in KiB.
    pub(crate) memory: usize,
}

impl Footprint {
    pub(crate) fn now() -> Self {
        let children = children();
        let library = children.iter().copied().find(|child| is_of_a_library(*child));
        Self {
            children: children.len(),
            own: Taken::by(std::process::id()).unwrap(),
            library: library.and_then(Taken::by),
        }
    }
}

impl Taken {
    /// `None` when there is no such process any more.
    fn by(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).ok().map(Iterator::count);
        Some(Self { threads: number("Threads:")?, descriptors, memory: number("VmRSS:")? })
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let descriptors = self.descriptors.map_or("?".into(), |number| number.to_string());
        let Self { threads, memory, .. } = self;
        write!(f, "{threads} threads, {descriptors} descriptors, {memory} KiB")
    }
}

/// The processes that this one has started and that have not ended.
pub(crate) fn children() -> Vec<u32> {
    let mut all = processes::children(std::process::id());
    all.retain(|child| lives(*child));
    all
}

/// Whether it is more than an exit code that somebody has yet to ask for.
fn lives(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}

/// The process of a library is this program again, under the name `segl`.
pub(crate) fn is_of_a_library(process: u32) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.starts_with(b"segl\0"))
}

/// The middle one.
pub(crate) fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

/// One of the things that are taken.
type Share = fn(&Footprint) -> Option<usize>;

/// Of fewer moments, a third is one or two: what came and went just then, and no middle.
const ENOUGH: usize = 9;

/// Fails when more is taken at the last of these moments than at the first of them. Says so when they are too few.
pub(crate) fn nothing_grows(footprints: &[Footprint]) {
    if footprints.len() < ENOUGH {
        println!("{} moments: too few to say whether anything grows", footprints.len());
        return;
    }
    let third = footprints.len() / 3;
    let (first, last) = (&footprints[..third], &footprints[footprints.len() - third..]);
    let mid = |of: &[Footprint], what: Share| median(of.iter().filter_map(what));
    let rows: [(&str, Share, usize); 7] = [
        ("processes", |at| Some(at.children), 0),
        ("threads", |at| Some(at.own.threads), 4),
        ("descriptors", |at| at.own.descriptors, 8),
        ("memory, KiB", |at| Some(at.own.memory), 1024),
        ("threads of the library's process", |at| Some(at.library?.threads), 2),
        ("descriptors of the library's process", |at| at.library?.descriptors, 4),
        ("memory of the library's process, KiB", |at| Some(at.library?.memory), 1024),
    ];
    let mut grown = Vec::new();
    println!("medians of the first and of the last {third} times:");
    for (name, what, slack) in rows {
        // Only root sees what a process has open that keeps its memory to itself.
        if [first, last].iter().any(|third| third.iter().filter_map(what).count() == 0) {
            assert!(!rustix::process::geteuid().is_root(), "{name}: not seen, though root sees everything");
            println!("{name}: not to be seen by this user");
            continue;
        }
        let (before, after) = (mid(first, what), mid(last, what));
        println!("{name}: {before}, {after}");
        if after > before + slack {
            grown.push(name);
        }
    }
    assert!(grown.is_empty(), "{grown:?} grew: {footprints:#?}");
}
