//! Parse, run, words and exit code: the only place that ends the process.

use std::{alloc::System, process::ExitCode};

use zeroizing_alloc::ZeroAlloc;

/// Whatever is freed is wiped: some libraries free the keys and passwords that they have read as they are.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    segl::cli::main(std::env::args_os())
}
