//! Devices fail, Segl does not: what is proven under load and at random, with figures. Each test has a process of its
//! own.
//!
//! It has a `main` of its own, since this program is also the process that a library runs in, and since what cannot run
//! on this machine is reported as ignored, by name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows its figures"
)]
#![allow(clippy::duplicate_mod, reason = "both kinds of devices run tests in processes of their own")]

#[path = "../support/cable.rs"]
mod cable;
#[path = "../support/chance.rs"]
mod chance;
#[path = "../support/faultp11.rs"]
mod faultp11;
#[path = "../support/faulty_module.rs"]
mod faulty_module;
#[path = "../support/fixture.rs"]
mod fixture;
#[path = "../support/footprint.rs"]
mod footprint;
mod killed;
#[path = "../support/leap.rs"]
mod leap;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/need.rs"]
mod need;
#[path = "../support/processes.rs"]
mod processes;
mod pulled;
mod soak;
#[path = "../support/softhsm.rs"]
mod softhsm;
#[path = "../support/stand.rs"]
mod stand;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use segl::sign::pkcs11::module_host;

use self::need::Need;

/// A test, and what is missing for it on this machine.
struct Proof {
    name: &'static str,
    test: fn(&str),
    lack: Option<String>,
}

fn main() -> ExitCode {
    if let Some(code) = module_host() {
        return code;
    }
    let arguments = Arguments::from_args();
    let proofs = [pulled::proof(), killed::proof(), soak::proof()];
    let trials = proofs.into_iter().map(|Proof { name, test, lack }| {
        Need::of(name, lack, &arguments).trial(name, move || {
            test(name);
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
