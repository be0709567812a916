//! The fault matrix: everything that goes wrong with PKCS#11 modules, at every phase of a signature's way, and how it
//! has to end.
//!
//! The expected ends are data ([`rows`]); each cell is a test with a name of its own, such as
//! `process::CKR_DEVICE_ERROR::login`. The modules of `process` run in children of this process, the one program that
//! uses the library here: would one of them take it along, no figure would be printed at the end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows its figures, and clippy knows only #[test] functions as tests"
)]

#[path = "../support/alone.rs"]
mod alone;
mod cell;
mod documents;
#[path = "../support/faulty_module.rs"]
mod faulty_module;
mod figures;
mod login;
#[path = "../support/need.rs"]
mod need;
mod program;
mod rows;
#[path = "../support/softhsm_folder.rs"]
mod softhsm_folder;
mod stand;
mod threads;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Failed, Trial};

use self::{
    figures::{Figures, Way},
    rows::{End, PHASES, ROWS},
    stand::Stand,
};

/// Most of a cell's time is spent waiting, so more of them run at a time than there are processors.
const SIDE_BY_SIDE: usize = 12;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(SIDE_BY_SIDE));
    let stand = Arc::new(Stand::default());
    let figures = Arc::new(Figures::default());
    let mut trials = documents::trials();
    let need = program::need(&arguments);
    // Those that take longest are begun first.
    trials.extend(ROWS.iter().rev().filter_map(|row| program::trial(&need, &stand, &figures, row)));
    for row in ROWS {
        for (phase, end) in PHASES.into_iter().zip(row.ends) {
            if matches!(end, End::No(_)) {
                continue;
            }
            let (stand, figures) = (stand.clone(), figures.clone());
            let name = format!("{}::{}", row.name, phase.name());
            trials.push(Trial::test(format!("process::{name}"), move || {
                let bench = stand.bench();
                let seen = cell::run(&bench, row, phase, end).map_err(Failed::from)?;
                figures.add(Way::Process, name, seen);
                Ok(())
            }));
        }
        if row.runs_in_threads() {
            let (stand, figures, name) = (stand.clone(), figures.clone(), format!("threads::{}", row.name));
            trials.push(Trial::test(name.clone(), move || threads::run(&stand, &figures, &name, row)));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !conclusion.has_failed() {
        figures.show();
    }
    conclusion.exit_code()
}
