//! `segl keys`: what is on a device, and how a key gets there, is certified and registered.

mod configured;
mod csr;
mod delete;
mod generate;
mod import;
mod issuers;
mod jwk;
mod list;
mod listing;
mod matched;
mod near;
#[cfg(test)]
pub(super) mod sample;
mod show;
mod survey;
mod target;
mod test;
mod unattended;
mod verdict;

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{Context, failure::Failure};
use crate::{
    call::Call,
    sign::{
        self, PinProblem,
        pkcs11::{Manner, Modules, PinRecords, Uri},
    },
};

/// A card may take minutes for a long key, and a person types the PIN meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: list::Command,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List devices, keys and certificates, with the line to paste (what `segl keys` alone does)
    List(list::Command),
    /// Show all that is known of a device, key or certificate: mechanisms, flags, limits, attributes
    Show(show::Command),
    /// Make a key pair inside a device, called what the URI's object says; its private half never leaves it
    Generate(generate::Command),
    /// Write a certificate request (PKCS#10), signed by the key
    Csr(csr::Command),
    /// Store a certificate and its issuers beside their key
    Import(import::Command),
    /// Print the public key as a JWK, to register it at Samarbeidsportalen
    Jwk(jwk::Command),
    /// Try a key and its device out: what works, how fast, what is odd; for a vendor's support or a new profile
    Test(test::Command),
    /// Delete a key pair, a certificate, or both, for good
    Delete(delete::Command),
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    // Libraries that nobody has chosen, and those that may crash, are looked at from a distance.
    let looks = command
        .action
        .as_ref()
        .is_none_or(|action| matches!(action, Action::List(_) | Action::Show(_) | Action::Test(_)));
    let trust_any = match &command.action {
        None => command.list.trusts_any(),
        Some(Action::List(command)) => command.trusts_any(),
        Some(Action::Show(command)) => command.trusts_any(),
        Some(Action::Test(command)) => command.trusts_any(),
        Some(Action::Delete(command)) => command.trusts_any(),
        Some(Action::Generate(_) | Action::Csr(_) | Action::Import(_) | Action::Jwk(_)) => false,
    };
    let manner = |usual| Manner { look_around: looks, trust_any, pin_records: PinRecords::Usual, ..usual };
    let work = async |modules: &Arc<Modules>| {
        let work = Work::with(context, modules);
        match command.action {
            None => list::run(command.list, &work, out).await,
            Some(Action::List(command)) => list::run(command, &work, out).await,
            Some(Action::Show(command)) => show::run(command, &work, out).await,
            Some(Action::Generate(command)) => generate::run(command, &work, out).await,
            Some(Action::Csr(command)) => csr::run(command, &work, out).await,
            Some(Action::Import(command)) => import::run(command, &work, out).await,
            Some(Action::Jwk(command)) => jwk::run(command, &work, out).await,
            Some(Action::Test(command)) => test::run(command, &work, out).await,
            Some(Action::Delete(command)) => delete::run(command, &work, out).await,
        }
    };
    context.with_modules(manner, work).await
}

/// The keys that Maskinporten takes on the devices of this machine, as far as they show without a login.
#[derive(Debug, Default)]
pub(super) struct Usable {
    pub(super) keys: Vec<UsableKey>,
    /// Labels of devices that may have more.
    pub(super) hiding: Vec<String>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct UsableKey {
    /// The line to paste.
    pub(super) uri: String,
    /// In words: kind, name, device.
    pub(super) what: String,
    /// The profile of its library.
    pub(super) profile: Option<String>,
}

/// Looks through every library of the machine, each in a process of its own.
pub(super) async fn usable(context: &Context) -> Result<Usable, Failure> {
    let work = async |modules: &Arc<Modules>| {
        let looked = list::Place::anywhere().look(None, &Work::with(context, modules)).await;
        // A machine without any library has no keys on devices.
        let Ok((wanted, looked)) = looked else { return Ok(Usable::default()) };
        let configured = configured::Configured::default();
        let now = context.clock().wall();
        let listing = listing::Listing::new(looked, modules.profiles(), &wanted, &configured, now);
        Ok(listing.usable_keys())
    };
    context.with_modules(|usual| Manner { look_around: true, ..usual }, work).await
}

/// What each of the commands works with.
struct Work<'a> {
    context: &'a Context,
    modules: Arc<Modules>,
    call: Call,
}

impl<'a> Work<'a> {
    fn with(context: &'a Context, modules: &Arc<Modules>) -> Self {
        Self { context, modules: modules.clone(), call: Call::within(context.clock(), PATIENCE) }
    }
}

/// A device's error, with the remedy of a person at the command line.
fn refused(error: sign::Error) -> Failure {
    match &error {
        sign::Error::Pin { problem: PinProblem::Missing, .. } => Failure::needs_person(
            error.to_string(),
            "Say where it is found: --pin file:PATH, credential:NAME, exec:COMMAND, prompt or env:NAME.",
        ),
        _ => error.into(),
    }
}

/// For people who watch: on standard error, since standard output is the result's.
fn say(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", line.as_ref());
}

/// `uri` as a word that can be pasted into a shell.
fn quoted(uri: &Uri) -> String {
    format!("'{uri}'")
}
