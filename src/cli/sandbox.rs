//! `segl sandbox`: fake authorities on this machine, until it is told to end.

mod behaviour;
mod end;
mod issue;
mod key;
mod placed;
mod softhsm;
mod start;

use std::io::Write;

use clap::{Args, Subcommand};

use super::{Context, failure::Failure};
use crate::sandbox;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Command {
    #[command(flatten)]
    start: start::Start,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Issue a test certificate for a PKCS#10 request; no running sandbox is needed
    Issue(issue::Issue),
    /// Make or complete the device of --softhsm: run by the sandbox itself, with SOFTHSM2_CONF set
    #[command(hide = true)]
    PrepareDevice(softhsm::Prepare),
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    match command.action {
        None => start::run(command.start, context, out).await,
        Some(Action::Issue(issue)) => issue::run(&issue, out),
        Some(Action::PrepareDevice(prepare)) => softhsm::prepare(&prepare, context, out).await,
    }
}

impl From<sandbox::Error> for Failure {
    fn from(error: sandbox::Error) -> Self {
        Self::needs_person(error.to_string(), error.remedy())
    }
}
