//! `segl pin status`: how many tries have been spent, and what stands between Segl and the next.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Named,
    ask::{Told, ask},
    devices_of, named,
};
use crate::{
    cli::{Context, failure::Failure, json, table},
    sign::pkcs11::{Login, PinRecord, PinRecords, Standing, TriedBy},
};

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;

#[derive(Debug, Args)]
pub(super) struct Command {
    /// Only the devices of this [signers.NAME] table, or the one that this PKCS#11 URI names
    #[arg(value_name = "NAME|URI")]
    name: Option<String>,
    /// Ask the devices themselves, too, what they say of their PIN; nobody logs in
    #[arg(long)]
    device: bool,
    /// For people, or for programs
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What programs see. Members may be added under one `schema`; none goes or changes its meaning.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    records: Vec<Shown<'a>>,
    /// What the devices say; null unless they were asked.
    devices: Option<&'a [Told]>,
}

/// One record, as programs see it.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    #[serde(flatten)]
    record: Option<&'a PinRecord>,
    standing: Option<Standing>,
    problem: Option<String>,
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let meant = command.name.as_deref().map(|name| named(name, context)).transpose()?;
    let kept = super::kept(&PinRecords::Usual)?;
    let profiles = context.profiles()?;
    let wanted: Vec<_> = kept
        .iter()
        .filter(|(_, record)| match (record, &meant) {
            (Ok(record), Some(meant)) => meant.iter().any(|it| it.may_have(record, &profiles)),
            // Nobody knows whose it is.
            _ => true,
        })
        .collect();
    let told = match (command.device, meant) {
        (false, _) => None,
        (true, Some(meant)) => Some(ask(&meant, context).await?),
        (true, None) => Some(ask(&configured(context)?, context).await?),
    };
    if let Output::Json = command.output {
        let shown = wanted.iter().map(|(name, record)| Shown {
            name,
            record: record.as_ref().ok(),
            standing: record.as_ref().ok().map(PinRecord::standing),
            problem: record.as_ref().err().map(|problem| super::sentence(problem).0),
        });
        let report = Report { schema: SCHEMA, records: shown.collect(), devices: told.as_deref() };
        return Ok(json::write(&report, out)?);
    }
    if wanted.is_empty() {
        writeln!(out, "No PIN has been refused since the last good login.")?;
    } else {
        let rows = wanted.iter().map(|(name, record)| match record {
            Ok(record) => row(record),
            Err(problem) => {
                [name.clone(), String::new(), "?".into(), String::new(), super::sentence(problem).0]
            }
        });
        writeln!(out, "{}", table::plain(["DEVICE", "LOGIN", "SPENT", "LAST TRY", "NEXT TRY"], rows))?;
    }
    if let Some(told) = told {
        let rows = told.iter().map(|it| [it.device.clone(), it.words()]);
        writeln!(out, "\n{}", table::plain(["DEVICE", "SAYS OF ITS PIN"], rows))?;
    }
    Ok(())
}

/// The devices of all signers.
fn configured(context: &Context) -> Result<Vec<Named>, Failure> {
    Ok(context.configuration()?.signers.values().flat_map(devices_of).collect())
}

fn row(record: &PinRecord) -> [String; 5] {
    let login = match record.login {
        Login::User => "user",
        Login::Signature => "signature",
    };
    [record.device(), login.to_owned(), record.spent.to_string(), last_try(record), next_try(record)]
}

/// When, who gave the PIN, and what the device answered.
pub(super) fn last_try(record: &PinRecord) -> String {
    let at = i64::try_from(record.at).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    let at = at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    let by = match &record.by {
        TriedBy::Source(Some(origin)) => origin.source().to_owned(),
        TriedBy::Source(None) => "a program".to_owned(),
        TriedBy::Person => "typed".to_owned(),
        TriedBy::Pad => "typed on the device".to_owned(),
    };
    let answer = record.answer.as_deref().unwrap_or("how it ended is not known");
    format!("{at}, {by}: {answer}")
}

fn next_try(record: &PinRecord) -> String {
    match record.standing() {
        Standing::Changed => "at the next login: the file has been changed".to_owned(),
        Standing::UntilChanged(source) => format!("when {source} has been changed"),
        Standing::UntilUnblocked => "after: segl pin unblock".to_owned(),
        Standing::Exhausted => format!("after: segl pin unblock ({} tries are the most)", record.spent),
    }
}
