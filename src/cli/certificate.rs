//! `segl certificate`: what a certificate is, whether Maskinporten takes it, and the issuers that it goes with.

mod fetch_chain;
mod gather;
mod show;

use std::{io::Write, sync::Arc, time::Duration};

use clap::{Args, Subcommand};

use super::{Context, FAREWELL, failure::Failure};
use crate::{
    call::Call,
    sign::pkcs11::{Manner, Modules, PinRecords},
};

/// A card is slow, and a person types the password meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say in plain words what a certificate is, and whether it works at Maskinporten; of a set, which one does
    Show(show::Command),
    /// Fetch the issuers' certificates from where the certificate says, and write the chain
    FetchChain(fetch_chain::Command),
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let manner = Manner {
        profiles: context.profiles()?,
        look_around: true,
        pin_records: PinRecords::Usual,
        ..Manner::default()
    };
    let work = Work {
        context,
        modules: Modules::build(context.clock.clone(), manner),
        call: Call::within(context.clock(), PATIENCE),
    };
    let outcome = match command.action {
        Action::Show(command) => show::run(command, &work, out).await,
        Action::FetchChain(command) => fetch_chain::run(command, &work, out).await,
    };
    if let Err(error) = work.modules.shutdown(&Call::within(context.clock(), FAREWELL)).await {
        tracing::warn!(%error, "a device's library did not end in time");
    }
    outcome
}

/// What each of the commands works with.
struct Work<'a> {
    context: &'a Context,
    modules: Arc<Modules>,
    call: Call,
}
