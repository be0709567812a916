//! `segl pin`: the PIN of a signer, where it is kept, and what became of it.

mod set;
mod status;
mod unblock;

use std::io::{self, Write};

use clap::{Args, Subcommand};

use super::{Context, failure::Failure};
use crate::{
    config::Key,
    pipeline,
    sign::{
        PinProblem,
        pkcs11::{KeptRecord, PinRecords, Uri},
    },
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put a signer's PIN where the signer looks for it; the device is not asked, so no try is spent
    Set(set::Command),
    /// Show which devices refused a PIN, and when it is tried again; the devices are not asked
    Status(status::Command),
    /// Let a PIN be tried again after it was refused
    Unblock(unblock::Command),
}

pub(super) fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    match command.action {
        Action::Set(command) => set::run(command, context),
        Action::Status(command) => status::run(command, context, out),
        Action::Unblock(command) => unblock::run(command, context),
    }
}

/// The devices that `name` means: a PKCS#11 URI, or the name of a signer.
fn named_uris(name: &str, context: &Context) -> Result<Vec<Uri>, Failure> {
    if name.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:")) {
        return Ok(vec![name.parse()?]);
    }
    let mut config = context.configuration()?;
    let Some(signer) = config.signers.remove(name) else {
        let known = config.signers.into_keys().collect();
        return Err(pipeline::Error::Unknown { what: "signer", name: name.to_owned(), known }.into());
    };
    match &signer.key {
        Key::Pkcs11(uris) => Ok(uris.iter().cloned().collect()),
        Key::File(_) | Key::Jwk(_) => Ok(Vec::new()),
    }
}

fn kept(records: &PinRecords) -> Result<Vec<KeptRecord>, Failure> {
    records.all().map_err(|problem| {
        let (what, remedy) = sentence(&problem);
        Failure::needs_person(what, remedy)
    })
}

/// What is wrong with a record, and what to do.
fn sentence(problem: &PinProblem) -> (String, String) {
    match problem {
        PinProblem::Unrecorded { problem, remedy } => (problem.clone(), remedy.clone()),
        other => (format!("{other:?}"), String::new()),
    }
}

/// For people who watch: on standard error, since standard output is the result's.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
