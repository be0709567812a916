//! What the cells have seen, summed up.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::rows::{Phase, Row};

/// What one cell has seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
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
    /// Most starts of the library in a second while a fault lasted.
    pub(crate) starts_a_second: f64,
    /// Wrong PINs the device has seen at most.
    pub(crate) wrong_pins: u64,
    /// Times that only a person could go on.
    pub(crate) persons: u64,
    /// Processes of the library.
    pub(crate) processes: u64,
}

impl Seen {
    pub(crate) fn join(&mut self, other: &Self) {
        self.requests += other.requests;
        self.signatures += other.signatures;
        self.once += other.once;
        self.mended += other.mended;
        self.recoveries += other.recoveries;
        self.slowest = self.slowest.max(other.slowest);
        self.starts = self.starts.max(other.starts);
        self.starts_a_second = self.starts_a_second.max(other.starts_a_second);
        self.wrong_pins = self.wrong_pins.max(other.wrong_pins);
        self.persons += other.persons;
        self.processes += other.processes;
    }

    /// It took so long from the end of the fault to the first signature.
    pub(crate) fn recovered(&mut self, after: Duration, starts: u64) {
        self.recoveries += 1;
        self.slowest = self.slowest.max(after);
        self.starts = self.starts.max(starts);
    }
}

/// Those of all cells.
#[derive(Default)]
pub(crate) struct Figures(Mutex<Vec<(String, bool, Seen)>>);

impl Figures {
    pub(crate) fn add(&self, row: &Row, phase: Phase, seen: Seen) {
        self.push(format!("{}::{}", row.name, phase.name()), false, seen);
    }

    /// Those of a row in threads.
    pub(crate) fn add_threads(&self, row: &Row, seen: Seen) {
        self.push(row.name.to_owned(), true, seen);
    }

    fn push(&self, name: String, threads: bool, seen: Seen) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, threads, seen));
    }

    /// Prints them.
    pub(crate) fn show(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for threads in [false, true] {
            let mut sum = Seen::default();
            let mut slowest = ("", Duration::ZERO);
            let mut cells = 0;
            for (name, _, seen) in all.iter().filter(|it| it.1 == threads) {
                cells += 1;
                sum.join(seen);
                if seen.slowest >= slowest.1 {
                    slowest = (name, seen.slowest);
                }
            }
            if cells == 0 {
                continue;
            }
            match threads {
                false => {
                    println!("library in a child process: {cells} cells, {} processes of it", sum.processes)
                }
                true => println!("library in threads: {cells} rows"),
            }
            println!("  deaths of the program                      0");
            println!("  requests, signatures delivered, wrong ones {}, {}, 0", sum.requests, sum.signatures);
            println!("  wrong PINs that a device has seen at most  {}", sum.wrong_pins);
            println!("  faults of one call, answered all the same  {}, {}", sum.once, sum.mended);
            println!("  recoveries without a person                {}", sum.recoveries);
            println!(
                "    slowest                                  {} ms ({})",
                slowest.1.as_millis(),
                slowest.0
            );
            println!("    starts of the library for one, at most   {}", sum.starts);
            println!("  stopped until a person came                {}", sum.persons);
            println!("  starts per second under a fault, at most   {:.1}", sum.starts_a_second);
        }
    }
}
