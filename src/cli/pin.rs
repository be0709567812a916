//! `segl pin`: the PIN of a signer, where it is kept, and what became of it.

mod ask;
mod set;
mod status;
mod unblock;

use std::{
    fs,
    io::{self, Write},
};

use clap::{Args, Subcommand};

use super::{Context, failure::Failure, is_pkcs11_uri};
use crate::{
    config::{Key, Signer},
    pipeline,
    sign::{
        PinProblem,
        pkcs11::{
            KeptRecord, PinRecord, PinRecords, PinState, Profile, Profiles, Uri, profile::LockoutScope,
        },
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
    /// Show which devices refused a PIN, and when it is tried again; no try is spent
    Status(status::Command),
    /// Let a PIN be tried again after it was refused
    Unblock(unblock::Command),
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    match command.action {
        Action::Set(command) => set::run(command, context),
        Action::Status(command) => status::run(command, context, out).await,
        Action::Unblock(command) => unblock::run(command, context),
    }
}

/// A device as it is named, and the profile that its library is driven by, if that is said.
struct Named {
    uri: Uri,
    profile: Option<String>,
}

impl Named {
    /// Whether it may be this one's record.
    fn may_have(&self, record: &PinRecord, profiles: &Profiles) -> bool {
        record.is_named_by(&self.uri, self.lockout_scope(profiles))
    }

    /// What refused PINs lock: as the profile says that is named, else those of the libraries that can be meant.
    fn lockout_scope(&self, profiles: &Profiles) -> LockoutScope {
        let scope = |profile: &Profile| profile.login.lockout_scope;
        if let Some(name) = &self.profile {
            return profiles.named(name).map(scope).unwrap_or_default();
        }
        let libraries = profiles.libraries_for(&self.uri, None).into_iter().flatten();
        let files = libraries.filter_map(|library| fs::canonicalize(library).ok());
        let known: Vec<Profile> = files.filter_map(|file| profiles.matching(&file, None, None)).collect();
        let is_whole = known.iter().any(|profile| scope(profile) == LockoutScope::Device);
        if is_whole { LockoutScope::Device } else { LockoutScope::Token }
    }
}

/// The devices that `name` means: a PKCS#11 URI, or the name of a signer.
fn named(name: &str, context: &Context) -> Result<Vec<Named>, Failure> {
    if is_pkcs11_uri(name) {
        return Ok(vec![Named { uri: name.parse()?, profile: None }]);
    }
    let mut config = context.configuration()?;
    let Some(signer) = config.signers.remove(name) else {
        let known = config.signers.into_keys().collect();
        return Err(pipeline::Error::Unknown { what: "signer", name: name.to_owned(), known }.into());
    };
    Ok(devices_of(&signer))
}

/// The devices of a signer; a key file has none.
fn devices_of(signer: &Signer) -> Vec<Named> {
    let named = |uri: &Uri| Named { uri: uri.clone(), profile: signer.profile.clone() };
    match &signer.key {
        Key::Pkcs11(uris) => uris.iter().map(named).collect(),
        Key::File(_) | Key::Jwk(_) => Vec::new(),
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

/// What a device says about its PIN, when that is worth a word.
pub(super) fn trouble(pin: PinState) -> Option<&'static str> {
    match pin {
        PinState::Good => None,
        PinState::NotSet => Some("no PIN has been set"),
        PinState::ToBeChanged => Some("must be changed before the device is of use"),
        PinState::CountLow => Some("a wrong PIN was entered since the last login"),
        PinState::FinalTry => Some("one PIN try is left"),
        PinState::Locked => Some("the PIN is locked"),
    }
}

/// For people who watch: on standard error, since standard output is the result's.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
