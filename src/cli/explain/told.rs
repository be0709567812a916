use std::io::{self, Write};

use serde::Serialize;

use super::situation::Situation;
use crate::{
    advice::{Advice, Again, Recognised},
    language::Language,
    scope::Scope,
    sign::pkcs11::Profiles,
};

/// Everything that is told.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    pub(super) schema: u32,
    pub(super) matches: Vec<Explanation>,
    /// Known scopes that were named.
    pub(super) scopes: Vec<&'static Scope>,
    /// The authority's reference, for its support.
    pub(super) trace_id: Option<String>,
    pub(super) token: Option<Situation>,
}

/// One piece of advice, and what is known beside it.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    found: String,
    #[serde(flatten)]
    advice: &'static Advice,
    profiles: Vec<Note>,
}

/// What a profile says of a code.
#[derive(Debug, Serialize)]
struct Note {
    profile: String,
    note: String,
}

pub(super) fn explanation(recognised: &Recognised, profiles: &Profiles) -> Explanation {
    let code = recognised.by.to_ascii_lowercase();
    let is_devices = code.starts_with("ckr_") || code.starts_with("0x");
    let says = |note: &&String| is_devices && note.to_ascii_lowercase().contains(&code);
    let notes = profiles.iter().flat_map(|profile| {
        let notes = profile.notes.iter().filter(says);
        notes.map(|note| Note { profile: profile.name.clone(), note: note.clone() })
    });
    Explanation { found: recognised.by.clone(), advice: recognised.advice, profiles: notes.collect() }
}

/// Labels of the lines, as long as the longest.
struct Labels {
    cause: &'static str,
    who: &'static str,
    remedy: &'static str,
    again: &'static str,
    page: &'static str,
    write_to: &'static str,
    checks: &'static str,
    scope: &'static str,
    trace_id: &'static str,
}

const ENGLISH: Labels = Labels {
    cause: "Why:",
    who: "Who must act:",
    remedy: "What to do:",
    again: "Ask again:",
    page: "Official page:",
    write_to: "Write to:",
    checks: "Check:",
    scope: "The scope:",
    trace_id: "Give them:",
};

const BOKMAL: Labels = Labels {
    cause: "Hvorfor:",
    who: "Hvem:",
    remedy: "Gjør dette:",
    again: "Prøv igjen:",
    page: "Offisiell side:",
    write_to: "Skriv til:",
    checks: "Sjekk:",
    scope: "Scopet:",
    trace_id: "Oppgi:",
};

pub(super) fn page_of(told: &Told, language: Language, out: &mut dyn Write) -> io::Result<()> {
    let labels = match language {
        Language::English => &ENGLISH,
        Language::Bokmal => &BOKMAL,
    };
    for (index, explanation) in told.matches.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        one(explanation, told.token.as_ref(), labels, language, out)?;
    }
    for scope in &told.scopes {
        line(labels.scope, &format!("{}: {}", scope.name, scope.purpose.in_language(language)), out)?;
    }
    if let Some(trace_id) = &told.trace_id {
        line(labels.trace_id, &format!("trace id {trace_id}"), out)?;
    }
    if let Some(situation) = &told.token {
        writeln!(out)?;
        for known in situation.lines(language) {
            writeln!(out, "{known}")?;
        }
    }
    Ok(())
}

fn one(
    explanation: &Explanation,
    situation: Option<&Situation>,
    labels: &Labels,
    language: Language,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Explanation { found, advice, profiles } = explanation;
    let told = |text: &crate::language::Text| text.in_language(language).to_owned();
    let is_code = advice.codes.contains(found) || found.starts_with("0x");
    let heading = if is_code { found.as_str() } else { advice.code() };
    writeln!(out, "{heading}: {}", told(&advice.title))?;
    line(labels.cause, &told(&advice.cause), out)?;
    for note in profiles {
        line("", &format!("{}: {}", note.profile, note.note), out)?;
    }
    let who: Vec<&str> = advice.who.iter().map(|party| party.name(language)).collect();
    line(labels.who, &who.join(", "), out)?;
    line(labels.remedy, &told(&advice.remedy), out)?;
    if advice.again != Again::Never {
        line(labels.again, advice.again.sentence(language), out)?;
    }
    for (label, value) in [(labels.page, &advice.page), (labels.write_to, &advice.write_to)] {
        if let Some(value) = value {
            line(label, value, out)?;
        }
    }
    for (index, check) in advice.checks.iter().enumerate() {
        let label = if index == 0 { labels.checks } else { "" };
        line(label, &format!("{}. {}", index + 1, told(&check.text)), out)?;
        if let Some(answer) = situation.and_then(|situation| situation.answer(advice, &check.name, language))
        {
            line("", &format!("   {answer}"), out)?;
        }
    }
    Ok(())
}

/// A label, and its value broken into lines that fit.
fn line(label: &str, value: &str, out: &mut dyn Write) -> io::Result<()> {
    let indented = value.len() - value.trim_start().len();
    for (index, part) in broken(value.trim_start(), WIDTH - indented).into_iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        writeln!(out, "  {label:15} {:indented$}{part}", "")?;
    }
    Ok(())
}

/// Columns for a value, beside its label: 100 in all.
const WIDTH: usize = 82;

/// `text` in lines of `width` characters at most, where words allow it.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words_and_a_long_word_stays_whole() {
        assert_eq!(broken("blå bær og fløte", 8), ["blå bær", "og fløte"]);
        assert_eq!(broken("a https://long.example.no b", 6), ["a", "https://long.example.no", "b"]);
        assert_eq!(broken("", 6), [""]);
    }
}
