//! What Segl does when a PKCS#11 module fails, as far as the fault matrix (`tests/fault_matrix`) has no cell for it: each
//! test in a process of its own, with a module that misbehaves as a script says (`tests/faultp11`) in a child of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows its figures, and clippy knows only #[test] functions as tests"
)]

#[path = "faults/device.rs"]
mod device;
#[path = "support/faultp11.rs"]
mod faultp11;
#[path = "support/faulty_module.rs"]
mod faulty_module;
#[path = "faults/login.rs"]
mod login;
#[path = "faults/recovery.rs"]
mod recovery;
#[path = "faults/signature.rs"]
mod signature;
#[path = "support/softhsm.rs"]
mod softhsm;
