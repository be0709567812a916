//! `segl pin`: the PIN of a signer, where it is kept.

mod set;

use clap::{Args, Subcommand};

use super::{Context, failure::Failure};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put a signer's PIN where the signer looks for it; the device is not asked, so no try is spent
    Set(set::Command),
}

pub(super) fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command.action {
        Action::Set(command) => set::run(command, context),
    }
}
