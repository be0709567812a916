//! `segl scopes`: the catalogue of scopes.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::{Context, failure::Failure, json, table};
use crate::{
    language::Language,
    scope::{self, Exchange, Group, Holder, Scope, State},
};

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;

#[derive(Debug, Args)]
pub(super) struct Command {
    /// Words that must stand in it, in English or Norwegian; or one scope's whole name
    words: Vec<String>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Tables for people; for a single scope everything about it
    Table,
    /// JSON
    Json,
}

pub(super) fn run(command: &Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let words = command.words.join(" ");
    let found = match scope::named(&words) {
        Some(scope) => vec![scope],
        None => scope::search(&words),
    };
    if found.is_empty() {
        return Err(nothing(&words, context.language));
    }
    match command.output {
        Output::Json => Ok(json::write(&serde_json::json!({ "schema": SCHEMA, "scopes": found }), out)?),
        Output::Table => match found.as_slice() {
            [scope] => Ok(whole(scope, context.language, out)?),
            several => Ok(tables(several, context.language, out)?),
        },
    }
}

fn nothing(words: &str, language: Language) -> Failure {
    let words: String = words.chars().filter(|c| !c.is_control()).take(64).collect();
    let (what, remedy) = match language {
        Language::English => (
            format!("no known scope has {words:?}"),
            "The list is not complete: ask the API's owner for the scope, and use it as it is written there.",
        ),
        Language::Bokmal => (
            format!("ingen kjente scope har {words:?}"),
            "Listen er ikke komplett: spør eieren av API-et om scopet, og bruk det slik det er skrevet der.",
        ),
    };
    let remedy = match scope::meant(&words) {
        None => remedy.to_owned(),
        Some(meant) => match language {
            Language::English => format!("Did you mean {}?", meant.name),
            Language::Bokmal => format!("Mente du {}?", meant.name),
        },
    };
    Failure::needs_person(what, remedy)
}

fn tables(found: &[&Scope], language: Language, out: &mut dyn Write) -> io::Result<()> {
    let header = match language {
        Language::English => ["SCOPE", "EXCHANGE", "STATE", "USE"],
        Language::Bokmal => ["SCOPE", "VEKSLING", "TILSTAND", "BRUK"],
    };
    let mut groups: Vec<Group> = found.iter().map(|scope| scope.group).collect();
    groups.dedup();
    for (index, group) in groups.into_iter().enumerate() {
        let rows = found.iter().filter(|scope| scope.group == group).map(|scope| {
            [
                scope.name.clone(),
                exchange(scope.exchange, language).into(),
                state(scope.state, language).into(),
                scope.purpose.in_language(language).to_owned(),
            ]
        });
        let gap = if index == 0 { "" } else { "\n" };
        writeln!(out, "{gap}{}\n{}", group.title(language), table::plain(header, rows))?;
    }
    Ok(())
}

fn whole(scope: &Scope, language: Language, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}\n{}\n", scope.name, scope.purpose.in_language(language))?;
    let words = match language {
        Language::English => ["Belongs to", "Opens", "For", "Exchange", "State", "Successor", "Source"],
        Language::Bokmal => ["Hører til", "Åpner", "For", "Veksling", "Tilstand", "Etterfølger", "Kilde"],
    };
    let apis = if scope.apis.is_empty() { "-".to_owned() } else { scope.apis.join(", ") };
    let values = [
        Some(scope.group.title(language).to_owned()),
        Some(apis),
        Some(holder(scope.holder, language).to_owned()),
        Some(exchange(scope.exchange, language).to_owned()),
        Some(state(scope.state, language).to_owned()),
        scope.successor.clone(),
        Some(format!("{} ({})", scope.source, scope.dated)),
    ];
    for (word, value) in words.into_iter().zip(values) {
        if let Some(value) = value {
            writeln!(out, "{:12} {value}", format!("{word}:"))?;
        }
    }
    Ok(())
}

fn holder(holder: Holder, language: Language) -> &'static str {
    match (holder, language) {
        (Holder::Client, Language::English) => "clients registered in Samarbeidsportalen",
        (Holder::Client, Language::Bokmal) => "klienter registrert i Samarbeidsportalen",
        (Holder::Eseal, Language::English) => "foreign businesses with an eSeal",
        (Holder::Eseal, Language::Bokmal) => "utenlandske virksomheter med eSegl",
    }
}

/// As `exchange = …` in the configuration has it.
fn exchange(exchange: Exchange, language: Language) -> &'static str {
    match (exchange, language) {
        (Exchange::Customs, _) => "customs",
        (Exchange::Altinn, _) => "altinn",
        (Exchange::None, _) => "-",
        (Exchange::Either, Language::English) => "- or altinn",
        (Exchange::Either, Language::Bokmal) => "- eller altinn",
    }
}

fn state(state: State, language: Language) -> &'static str {
    match (state, language) {
        (State::Open, Language::English) => "open",
        (State::Open, Language::Bokmal) => "åpent",
        (State::NotReady, Language::English) => "not ready",
        (State::NotReady, Language::Bokmal) => "ikke klart",
        (State::Legacy, Language::English) => "legacy",
        (State::Legacy, Language::Bokmal) => "utgått",
    }
}
