//! Parse, run, words and exit code: the only place that ends the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    segl::cli::main(std::env::args_os())
}
