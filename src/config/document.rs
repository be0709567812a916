//! From TOML text to tables, with the line of every key, so that each problem can say where it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{
    error::{Fault, Origin, Problem},
    wire,
};
use crate::sign::pkcs11::profile;

/// The longest list of problems that is worth reading.
const MOST_PROBLEMS: usize = 50;

/// Where each key is written, by its path, and what was wrong so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn written(&mut self, place: &str, origin: Origin) {
        self.origins.insert(place.to_owned(), origin);
    }

    /// Where `place` is written, or else the table that holds it.
    pub(super) fn origin(&self, place: &str) -> Origin {
        let mut path = place;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return *origin;
            }
            match path.rsplit_once('.') {
                Some((table, _)) => path = table,
                None => return Origin::Default,
            }
        }
    }

    /// Where `place` itself is written.
    pub(super) fn exact_origin(&self, place: &str) -> Origin {
        self.origins.get(place).copied().unwrap_or(Origin::Default)
    }

    pub(super) fn refuse(&mut self, place: &str, fault: impl Into<Fault>) {
        if self.problems.len() < MOST_PROBLEMS {
            let origin = self.origin(place);
            self.problems.push(Problem { place: place.to_owned(), origin, fault: fault.into() });
        }
    }

    /// The names that stand in `table`, in the file or among `read`.
    pub(super) fn names_in<'a>(&self, table: &str, read: impl Iterator<Item = &'a String>) -> Vec<String> {
        let written = self.origins.keys().filter_map(|place| {
            let (found, name) = place.split_once('.')?;
            (found == table && !name.contains('.')).then(|| name.to_owned())
        });
        let names: BTreeSet<String> = written.chain(read.cloned()).collect();
        names.into_iter().collect()
    }

    /// What was wrong, in the order of the file.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line } => line,
            Origin::Default | Origin::Variable(_) => 0,
        });
        self.problems
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// Reads `text` into its tables. What is wrong is in the report; the rest is read all the same.
pub(super) fn read(text: &str) -> (wire::Tables, Report) {
    let mut reader = Reader { lines: Lines::new(text), report: Report::default() };
    let mut tables = wire::Tables::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // Only the message: the error's own display would print the line, and with it a misplaced PIN.
        let line = reader.lines.line(error.span().map_or(0, |span| span.start));
        reader.report.written("", Origin::File { line });
        reader.report.refuse("", Fault::Syntax { message: error.message().to_owned() });
    }
    if errors.is_empty() {
        reader.root(root.into_inner(), &mut tables);
    }
    (tables, reader.report)
}

struct Reader {
    lines: Lines,
    report: Report,
}

impl Reader {
    fn root(&mut self, root: DeTable<'_>, tables: &mut wire::Tables) {
        let root = self.known_keys::<wire::File>("", root);
        let mut has_schema = false;
        for (key, value) in root {
            match key.get_ref().as_ref() {
                "schema" => {
                    has_schema = true;
                    if self.value::<i64>("schema", value).is_some_and(|version| version != 1) {
                        self.report.refuse("schema", Fault::Schema);
                    }
                }
                "signers" => tables.signers = self.collection("signers", value),
                "clients" => tables.clients = self.collection("clients", value),
                "environments" => tables.environments = self.collection("environments", value),
                "tokens" => tables.tokens = self.collection("tokens", value),
                "profiles" => tables.profiles = self.profiles(value),
                "http" => tables.http = self.table("http", value).unwrap_or_default(),
                _ => {}
            }
        }
        if !has_schema {
            self.report.refuse("", Fault::SchemaMissing);
        }
    }

    fn collection<T: DeserializeOwned + JsonSchema>(
        &mut self,
        place: &str,
        value: Spanned<DeValue<'_>>,
    ) -> BTreeMap<String, T> {
        let DeValue::Table(entries) = value.into_inner() else {
            self.report.refuse(place, Fault::NotATable);
            return BTreeMap::new();
        };
        let mut collected = BTreeMap::new();
        for (key, value) in entries {
            let name = key.get_ref().to_string();
            let place = format!("{place}.{name}");
            self.report.written(&place, Origin::File { line: self.lines.line(key.span().start) });
            if !is_name(&name) {
                self.report.refuse(&place, Fault::Name);
            } else if let Some(entry) = self.table(&place, value) {
                collected.insert(name, entry);
            }
        }
        collected
    }

    /// Changes of profiles: tables of tables, kept as they are written.
    fn profiles(&mut self, value: Spanned<DeValue<'_>>) -> BTreeMap<String, toml::Table> {
        let DeValue::Table(entries) = value.into_inner() else {
            self.report.refuse("profiles", Fault::NotATable);
            return BTreeMap::new();
        };
        let mut collected = BTreeMap::new();
        for (key, value) in entries {
            let name = key.get_ref().to_string();
            let place = format!("profiles.{name}");
            self.report.written(&place, Origin::File { line: self.lines.line(key.span().start) });
            let span = value.span();
            let DeValue::Table(table) = value.into_inner() else {
                self.report.refuse(&place, Fault::NotATable);
                continue;
            };
            let mut table = self.known_keys::<wire::ProfileChanges>(&place, table);
            for (key, value) in &mut table {
                let place = format!("{place}.{}", key.get_ref());
                let DeValue::Table(section) = value.get_mut() else { continue };
                let section_keys = mem::take(section);
                *section = match key.get_ref().as_ref() {
                    "match" => self.known_keys::<profile::Match>(&place, section_keys),
                    "module" => self.known_keys::<profile::Module>(&place, section_keys),
                    "login" => self.known_keys::<profile::Login>(&place, section_keys),
                    "session" => self.known_keys::<profile::Session>(&place, section_keys),
                    "sign" => self.known_keys::<profile::Sign>(&place, section_keys),
                    "objects" => self.known_keys::<profile::Objects>(&place, section_keys),
                    _ => section_keys,
                };
            }
            if let Some(table) = self.value(&place, Spanned::new(span, DeValue::Table(table))) {
                collected.insert(name, table);
            }
        }
        collected
    }

    fn table<T: DeserializeOwned + JsonSchema>(
        &mut self,
        place: &str,
        value: Spanned<DeValue<'_>>,
    ) -> Option<T> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            self.report.refuse(place, Fault::NotATable);
            return None;
        };
        let table = self.known_keys::<T>(place, table);
        self.value(place, Spanned::new(span, DeValue::Table(table)))
    }

    /// Reports the keys that `T` does not have and returns the others.
    fn known_keys<'a, T: JsonSchema>(&mut self, place: &str, table: DeTable<'a>) -> DeTable<'a> {
        let known = keys_of::<T>();
        let mut kept = DeTable::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
            self.report.written(&place, Origin::File { line: self.lines.line(key.span().start) });
            if known.contains(&name) {
                kept.insert(key, value);
            } else {
                let nearest = nearest(&name, known.iter().map(String::as_str));
                self.report.refuse(&place, Fault::UnknownKey { nearest, known: known.clone() });
            }
        }
        kept
    }

    fn value<T: DeserializeOwned>(&mut self, place: &str, value: Spanned<DeValue<'_>>) -> Option<T> {
        let keys: Vec<(String, usize)> = match value.get_ref() {
            DeValue::Table(table) => {
                table.iter().map(|(key, value)| (key.get_ref().to_string(), value.span().start)).collect()
            }
            _ => Vec::new(),
        };
        T::deserialize(ValueDeserializer::from(value))
            .map_err(|error| {
                // The key whose value begins last before the error is the one that holds it.
                let at = error.span().map_or(0, |span| span.start);
                let key = keys.iter().filter(|(_, start)| *start <= at).max_by_key(|(_, start)| *start);
                let place = key.map_or_else(|| place.to_owned(), |(key, _)| format!("{place}.{key}"));
                let message = error.message().trim_end().to_owned();
                let is_secret = place.ends_with(".pin") || place.ends_with(".sign_pin");
                let fault = if is_secret { Fault::SecretPlace { message } } else { Fault::Value { message } };
                self.report.refuse(&place, fault);
            })
            .ok()
    }
}

/// The names of the keys that `T` is written with, from its JSON Schema.
fn keys_of<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// The candidate that `name` is most likely a slip of.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Whether `name` may name a signer, client, environment or token.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// Byte offsets at which lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line that holds the byte `at`, counted from 1.
    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }
}
