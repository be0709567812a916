//! `segl explain`: what a refusal or a code means, and who must do what about it. Asks nobody.

mod situation;
mod told;

use std::io::{self, Read, Write};

use clap::{Args, ValueEnum};

use self::{
    situation::Situation,
    told::{Told, explanation, page_of},
};
use super::{Context, failure::Failure, json, table};
use crate::{
    advice::{self, Advice, Recognised},
    language::Language,
    scope,
    sign::pkcs11::return_value_name,
    token::{Authority, Refusal, cleaned},
};

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 256 * 1024;

#[derive(Debug, Args)]
pub(super) struct Command {
    /// A code, a status or a piece of a message; - to read a whole answer from standard input; nothing for a list
    #[arg(value_name = "CODE|TEXT|-")]
    words: Vec<String>,
    /// Say what this [tokens.NAME] table answers of it; nothing is asked of anybody
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Text for people
    Text,
    /// JSON, in both languages
    Json,
}

pub(super) fn run(command: &Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let situation = command.token.as_deref().map(|name| Situation::of(name, context)).transpose()?;
    let asked = command.words.join(" ");
    let text = if asked == "-" { read(context.language)? } else { asked.clone() };
    let recognised: Vec<Recognised> = match &situation {
        Some(situation) if asked.is_empty() => situation.topics().filter_map(by_name).collect(),
        None if asked.is_empty() => return list(command.output, context.language, out),
        _ => advice::recognise(&text).into_iter().map(with_its_name).collect(),
    };
    if recognised.is_empty() {
        return Err(unknown(&asked, context.language));
    }
    let profiles = context.profiles()?;
    let told = Told {
        schema: SCHEMA,
        matches: recognised.iter().map(|recognised| explanation(recognised, &profiles)).collect(),
        scopes: scopes_in(&text),
        trace_id: Refusal::read(Authority::Maskinporten, 0, text.as_bytes())
            .trace_id
            .filter(|id| is_plain(id)),
        token: situation,
    };
    match command.output {
        Output::Json => Ok(json::write(&told, out)?),
        Output::Text => Ok(page_of(&told, context.language, out)?),
    }
}

fn by_name(code: &str) -> Option<Recognised> {
    advice::recognise(code).into_iter().next()
}

/// A number that the standard has a name for, under that name.
fn with_its_name(recognised: Recognised) -> Recognised {
    let digits = recognised.by.to_ascii_lowercase();
    let number = digits.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.map(return_value_name).and_then(|name| by_name(&name)).unwrap_or(recognised)
}

fn read(language: Language) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let failed = |what: String, remedy: (&str, &str)| {
        Failure::needs_person(what, if language == Language::Bokmal { remedy.1 } else { remedy.0 })
    };
    io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| {
        failed(
            format!("standard input: {error}"),
            ("Pipe the answer in.", "Send svaret inn på standard inn."),
        )
    })?;
    if bytes.len() as u64 > LONGEST {
        let remedy = ("Give the part with the message.", "Gi delen med meldingen.");
        return Err(failed(format!("standard input: more than {} KiB", LONGEST / 1024), remedy));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The known scopes that stand in `text`.
fn scopes_in(text: &str) -> Vec<&'static scope::Scope> {
    let in_scope = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '.' | '_' | '-');
    let words = text.split(|c: char| !in_scope(c)).map(|word| word.trim_end_matches(['.', ':']));
    let mut found: Vec<&scope::Scope> = Vec::new();
    for scope in words.filter_map(scope::named) {
        if !found.contains(&scope) {
            found.push(scope);
        }
    }
    found
}

/// Whether a reference is one, and not something else that stood in its place.
fn is_plain(id: &str) -> bool {
    id.len() <= 64 && cleaned(id) == id
}

fn unknown(asked: &str, language: Language) -> Failure {
    let (what, remedy) = match (asked, language) {
        ("-", Language::English) => ("nothing in this answer is known here".to_owned(), "Look"),
        ("-", Language::Bokmal) => ("ingenting i dette svaret er kjent her".to_owned(), "Slå"),
        (_, Language::English) => (format!("there is no advice on {:?}", shown(asked)), "Look"),
        (_, Language::Bokmal) => (format!("det finnes ingen råd om {:?}", shown(asked)), "Slå"),
    };
    let remedy = match (advice::nearest(asked), language) {
        (Some(nearest), Language::English) => format!("The nearest known code: segl explain {nearest}"),
        (Some(nearest), Language::Bokmal) => format!("Nærmeste kjente kode: segl explain {nearest}"),
        (None, Language::English) => {
            format!("{remedy} it up at {TROUBLESHOOTING}; `segl explain` lists what is known.")
        }
        (None, Language::Bokmal) => {
            format!("{remedy} opp på {TROUBLESHOOTING}; `segl explain` lister det som er kjent.")
        }
    };
    Failure::needs_person(what, remedy)
}

const TROUBLESHOOTING: &str = "https://docs.digdir.no/docs/Maskinporten/maskinporten_feilsoking";

fn shown(asked: &str) -> String {
    cleaned(asked).chars().take(64).collect()
}

fn list(output: Output, language: Language, out: &mut dyn Write) -> Result<(), Failure> {
    let all = advice::all();
    match output {
        Output::Json => {
            json::write(&serde_json::json!({ "schema": SCHEMA, "advice": all }), out)?;
        }
        Output::Text => {
            let header = match language {
                Language::English => ["CODE", "MEANS"],
                Language::Bokmal => ["KODE", "BETYR"],
            };
            let rows = all.iter().map(|advice: &Advice| {
                [advice.codes.join(" "), advice.title.in_language(language).to_owned()]
            });
            writeln!(out, "{}", table::plain(header, rows))?;
        }
    }
    Ok(())
}
