//! `segl certificate`: what a certificate is, whether Maskinporten takes it, and the issuers that it goes with.

mod fetch_chain;
mod gather;
mod show;

use std::{io::Write, sync::Arc, time::Duration};

use clap::{Args, Subcommand};

use super::{Context, failure::Failure};
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
    let manner = |usual| Manner { look_around: true, pin_records: PinRecords::Usual, ..usual };
    let work = async |modules: &Arc<Modules>| {
        let call = Call::within(context.clock(), PATIENCE);
        let work = Work { context, modules: modules.clone(), call };
        match command.action {
            Action::Show(command) => show::run(command, &work, out).await,
            Action::FetchChain(command) => fetch_chain::run(command, &work, out).await,
        }
    };
    context.with_modules(manner, work).await
}

/// What each of the commands works with.
struct Work<'a> {
    context: &'a Context,
    modules: Arc<Modules>,
    call: Call,
}
