//! `segl profiles`: what is known of each kind of device.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{Context, failure::Failure, json, table};
use crate::{
    pipeline,
    sign::pkcs11::profile::{Confidence, Difference, Match, Profile, Profiles},
};

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the profiles, with the library of each where it is installed (what `segl profiles` alone does)
    List(List),
    /// Explain in what a kind of device differs from others, what will bite, and where that is known from
    Show(Show),
}

#[derive(Debug, Args)]
struct List {
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Args)]
struct Show {
    /// Name of the profile
    name: String,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Text for people
    Table,
    /// JSON
    Json,
}

pub(super) fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let profiles = context.profiles()?;
    match command.action {
        None => list(&command.list, &profiles, out),
        Some(Action::List(command)) => list(&command, &profiles, out),
        Some(Action::Show(command)) => show(&command, &profiles, out),
    }
}

/// A profile in a list.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    title: &'a str,
    confidence: Confidence,
    origin: String,
    library: Option<PathBuf>,
}

fn list(command: &List, profiles: &Profiles, out: &mut dyn Write) -> Result<(), Failure> {
    let rows = profiles.iter().map(|profile| Row {
        name: &profile.name,
        title: &profile.title,
        confidence: profile.confidence,
        origin: origin(profile, profiles),
        library: profile.installed_library(),
    });
    match command.output {
        Output::Json => {
            let rows: Vec<Row<'_>> = rows.collect();
            Ok(json::write(&serde_json::json!({ "schema": SCHEMA, "profiles": rows }), out)?)
        }
        Output::Table => {
            let rows = rows.map(|row| {
                let library = row.library.map_or_else(|| "-".into(), |path| path.display().to_string());
                [row.name.into(), row.title.into(), row.confidence.to_string(), library]
            });
            Ok(writeln!(out, "{}", table::plain(["NAME", "DEVICE", "KNOWN FROM", "LIBRARY HERE"], rows))?)
        }
    }
}

/// All that is known of one kind of device.
#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    #[serde(flatten)]
    row: Row<'a>,
    #[serde(rename = "match")]
    matching: &'a Match,
    differences: Vec<Difference>,
    notes: &'a [String],
    sources: &'a [String],
}

fn show(command: &Show, profiles: &Profiles, out: &mut dyn Write) -> Result<(), Failure> {
    let profile = profiles.named(&command.name).ok_or_else(|| pipeline::Error::Unknown {
        what: "profile",
        name: command.name.clone(),
        known: profiles.iter().map(|profile| profile.name.clone()).collect(),
    })?;
    let shown = Shown {
        schema: SCHEMA,
        row: Row {
            name: &profile.name,
            title: &profile.title,
            confidence: profile.confidence,
            origin: origin(profile, profiles),
            library: profile.installed_library(),
        },
        matching: &profile.matching,
        differences: profile.differences(),
        notes: &profile.notes,
        sources: &profile.sources,
    };
    match command.output {
        Output::Json => Ok(json::write(&shown, out)?),
        Output::Table => Ok(explain(&shown, out)?),
    }
}

fn explain(shown: &Shown<'_>, out: &mut dyn Write) -> io::Result<()> {
    let row = &shown.row;
    writeln!(out, "{}: {}", row.name, row.title)?;
    writeln!(out, "Known from: {} (profile from {})", row.confidence, row.origin)?;
    match &row.library {
        Some(path) => writeln!(out, "Library: {}", path.display())?,
        None => writeln!(out, "Library: not found on this machine")?,
    }
    writeln!(out, "Recognised by: {}", recognised(shown.matching))?;
    if !shown.differences.is_empty() {
        writeln!(out, "\nIn what it differs from a device that nobody knows:")?;
        for difference in &shown.differences {
            writeln!(out, "  {} = {}", difference.field, difference.value)?;
            writeln!(out, "      {}", difference.why)?;
        }
    }
    for (heading, lines) in [("What will bite:", shown.notes), ("Sources:", shown.sources)] {
        if !lines.is_empty() {
            writeln!(out, "\n{heading}")?;
        }
        for line in lines {
            writeln!(out, "  - {line}")?;
        }
    }
    Ok(())
}

fn recognised(matching: &Match) -> String {
    let criteria = [
        ("file", &matching.module_file),
        ("manufacturer", &matching.manufacturer),
        ("model", &matching.model),
    ];
    let told = criteria.into_iter().filter(|(_, globs)| !globs.is_empty());
    let told: Vec<String> = told.map(|(what, globs)| format!("{what} {}", globs.join(" or "))).collect();
    if told.is_empty() { "nothing; used where it is named".into() } else { told.join("; ") }
}

fn origin(profile: &Profile, profiles: &Profiles) -> String {
    profiles.origin(&profile.name).map(ToString::to_string).unwrap_or_default()
}
