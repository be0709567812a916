//! What the cells have seen, summed up. A cell that fails has seen nothing, so these are figures only when none did.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// What one cell has seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) cells: u64,
    /// Requests made, and those that were answered with a signature; each of these was verified.
    pub(crate) requests: u64,
    pub(crate) signatures: u64,
    /// Faults that happened once, and those whose very request was answered with a signature.
    pub(crate) once: u64,
    pub(crate) mended: u64,
    /// Recoveries without a person: how many, the slowest, and the most that the library was started for one.
    pub(crate) recoveries: u64,
    pub(crate) slowest: Duration,
    pub(crate) starts: u64,
    /// Most starts of the library while a fault lasted for a short while, and for long.
    pub(crate) starts_in_short: u64,
    pub(crate) starts_in_long: u64,
    /// Wrong PINs the device has seen at most.
    pub(crate) wrong_pins: u64,
    /// Times that only a person could go on.
    pub(crate) persons: u64,
}

impl Seen {
    pub(crate) fn join(&mut self, other: &Self) {
        self.cells += other.cells;
        self.requests += other.requests;
        self.signatures += other.signatures;
        self.once += other.once;
        self.mended += other.mended;
        self.recoveries += other.recoveries;
        self.slowest = self.slowest.max(other.slowest);
        self.starts = self.starts.max(other.starts);
        self.starts_in_short = self.starts_in_short.max(other.starts_in_short);
        self.starts_in_long = self.starts_in_long.max(other.starts_in_long);
        self.wrong_pins = self.wrong_pins.max(other.wrong_pins);
        self.persons += other.persons;
    }

    /// It took so long from the end of the fault to the first signature.
    pub(crate) fn recovered(&mut self, after: Duration, starts: u64) {
        self.recoveries += 1;
        self.slowest = self.slowest.max(after);
        self.starts = self.starts.max(starts);
    }
}

/// How the library was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In a child of the program that runs the tests.
    Process,
    /// In threads of a program.
    Threads,
    /// In a child of `segl`.
    Program,
}

impl Way {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Process, "a program with the library in a child process"),
        (Self::Threads, "programs with the library in threads"),
        (Self::Program, "segl grant, with the library in a child process"),
    ];
}

/// Those of all cells.
#[derive(Default)]
pub(crate) struct Figures(Mutex<Vec<(Way, String, Seen)>>);

impl Figures {
    pub(crate) fn add(&self, way: Way, name: impl Into<String>, seen: Seen) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((way, name.into(), seen));
    }

    /// Prints them.
    pub(crate) fn show(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (way, title) in Way::ALL {
            let mut sum = Seen::default();
            let mut slowest = ("", Duration::ZERO);
            for (_, name, seen) in all.iter().filter(|it| it.0 == way) {
                sum.join(seen);
                if seen.slowest >= slowest.1 {
                    slowest = (name, seen.slowest);
                }
            }
            if sum.cells == 0 {
                continue;
            }
            println!("{title}: {} cells", sum.cells);
            println!("  requests, and signatures, each verified    {}, {}", sum.requests, sum.signatures);
            println!("  wrong PINs that a device has seen at most  {}", sum.wrong_pins);
            println!("  faults of one call, answered all the same  {}, {}", sum.once, sum.mended);
            println!("  stopped until a person came                {}", sum.persons);
            println!("  recoveries without a person                {}", sum.recoveries);
            if way == Way::Program {
                continue;
            }
            println!(
                "    slowest                                  {} ms ({})",
                slowest.1.as_millis(),
                slowest.0
            );
            println!("    starts of the library for one, at most   {}", sum.starts);
            println!("  starts within a fault of half a second     {}", sum.starts_in_short);
            println!("    within one of eight seconds              {}", sum.starts_in_long);
        }
    }
}
