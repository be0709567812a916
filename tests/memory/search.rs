//! Searching the memory of another process.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::{self, File},
    os::unix::fs::FileExt,
};

use rustix::process::Pid;

/// Pieces of a secret so long are looked for: a copy that is written over in part is a copy. Long enough for none to be
/// there by chance.
const PIECE: usize = 12;

/// From one piece to the next. What frees memory writes over the first sixteen bytes of it.
const STEP: usize = 4;

/// What is looked for: pieces of secrets, with the names of the secrets.
#[derive(Default)]
pub(crate) struct Needles {
    /// By their first eight bytes.
    pieces: HashMap<[u8; 8], Vec<(&'static str, Vec<u8>)>>,
    count: usize,
}

impl Needles {
    /// Whether pieces of this secret are looked for.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pieces.values().flatten().any(|(known, _)| *known == name)
    }

    /// All of a text.
    pub(crate) fn text(&mut self, name: &'static str, text: &str) {
        self.bytes(name, text.as_bytes());
    }

    /// All of these bytes.
    pub(crate) fn bytes(&mut self, name: &'static str, bytes: &[u8]) {
        assert!(bytes.len() >= PIECE, "{name} is too short to be told from chance");
        for piece in bytes.windows(PIECE).step_by(STEP) {
            let first = piece[..8].try_into().unwrap();
            self.pieces.entry(first).or_default().push((name, piece.to_vec()));
            self.count += 1;
        }
    }
}

/// What a search found.
pub(crate) struct Found {
    searched: usize,
    pieces: usize,
    /// How often pieces of each secret were met, and in which part of the memory first.
    met: BTreeMap<&'static str, (usize, String)>,
}

impl Found {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.met.contains_key(name)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB searched for {} pieces:", self.searched >> 20, self.pieces)?;
        if self.met.is_empty() {
            return write!(f, " none found");
        }
        for (name, (count, place)) in &self.met {
            write!(f, " {name} {count} times, first in {place};")?;
        }
        Ok(())
    }
}

/// Looks for `needles` in all memory that the process, which is stopped, can write to.
pub(crate) fn searched(process: Pid, needles: &Needles) -> Found {
    let number = process.as_raw_nonzero();
    let memory = File::open(format!("/proc/{number}/mem")).unwrap();
    let mut found = Found { searched: 0, pieces: needles.count, met: BTreeMap::new() };
    // Most places begin no piece.
    let mut begins = vec![false; 1 << 16];
    for first in needles.pieces.keys() {
        begins[usize::from(u16::from_ne_bytes([first[0], first[1]]))] = true;
    }
    for line in fs::read_to_string(format!("/proc/{number}/maps")).unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let place = fields.nth(3).unwrap_or("memory without a name");
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // What cannot be searched might have it all.
        memory.read_exact_at(&mut bytes, start).unwrap_or_else(|why| panic!("{place}: {why}"));
        found.searched += bytes.len();
        for (at, pair) in bytes.windows(2).enumerate() {
            if !begins[usize::from(u16::from_ne_bytes([pair[0], pair[1]]))] {
                continue;
            }
            let rest = &bytes[at..];
            let pieces = rest.first_chunk::<8>().and_then(|first| needles.pieces.get(first));
            for (name, piece) in pieces.into_iter().flatten() {
                if rest.starts_with(piece) {
                    found.met.entry(name).or_insert_with(|| (0, place.to_owned())).0 += 1;
                }
            }
        }
    }
    found
}
