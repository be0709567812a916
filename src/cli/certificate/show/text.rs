//! The facts for people: which of several is the one, and then that one, a line for each fact.

use std::fmt::Write as _;

use super::facts::{Entry, Facts, FindingEntry};
use crate::{cli::table, language::counted};

/// All of `facts`.
pub(super) fn text(facts: &Facts) -> String {
    let mut text = String::new();
    if facts.certificates.len() > 1 {
        text.push_str(&list(facts));
        text.push_str("\n\n");
    }
    let best = facts.best.and_then(|place| facts.certificates.get(place));
    for (name, value) in best.iter().flat_map(|entry| lines(entry)) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<13}  {value}");
    }
    for notice in &facts.notices {
        let _ = writeln!(text, "{:<13}  {notice}", "note");
    }
    text
}

fn list(facts: &Facts) -> String {
    let rows = facts.certificates.iter().enumerate().map(|(place, entry)| {
        let answer = match entry.works_as {
            Some(_) if facts.chosen == Some(place) => "yes: this is the one to use".to_owned(),
            Some(_) => "yes".to_owned(),
            None => match entry.fitness().obstacles.first() {
                Some(obstacle) => format!("no: {}", obstacle.what),
                None => "no".to_owned(),
            },
        };
        [
            (place + 1).to_string(),
            entry.holder.clone().unwrap_or_else(|| entry.subject.clone()),
            entry.purpose.clone(),
            entry.not_after.clone(),
            answer,
        ]
    });
    table::plain(["", "certificate of", "purpose", "until", "Maskinporten"], rows)
}

fn lines(entry: &Entry) -> Vec<(&'static str, String)> {
    let mut lines = vec![("certificate", entry.what.clone()), ("Maskinporten", entry.verdict.clone())];
    let fitness = entry.fitness();
    for obstacle in fitness.obstacles.iter().skip(1) {
        lines.push(("", format!("and {}", obstacle.what)));
    }
    for caution in &fitness.cautions {
        lines.push(("but", caution.what.clone()));
    }
    for finding in fitness.obstacles.iter().chain(&fitness.cautions) {
        lines.push(("to do", advice(finding)));
    }
    if let Some(holder) = &entry.holder {
        lines.push(("organisation", holder.clone()));
    }
    if let Some(number) = &entry.organisation_number {
        lines.push(("number", number.clone()));
    }
    if let Some(identifier) = &entry.organization_identifier {
        lines.push(("identifier", identifier.clone()));
    }
    if let Some(seal) = entry.seal.as_ref().filter(|_| entry.kind == "virksomhetssertifikat") {
        let way = match entry.eseal.obstacles.first() {
            None => "works as an eSeal, too".to_owned(),
            Some(obstacle) => format!("as an eSeal it does not work: {}", obstacle.what),
        };
        lines.push(("eSeal", format!("{}; {way}", seal.what)));
    }
    lines.push(("purpose", entry.purpose.clone()));
    lines.push(("key", entry.key.clone()));
    let left = match entry.days_left {
        left @ 0.. => format!("{} left", counted(left, "day")),
        past => format!("{} ago", counted(past.saturating_neg(), "day")),
    };
    let earlier = if entry.until == entry.not_after {
        String::new()
    } else {
        format!(", its issuers to {}", entry.until)
    };
    lines.push(("valid", format!("{} to {}{earlier} ({left})", entry.not_before, entry.not_after)));
    lines.push(("subject", entry.subject.clone()));
    lines.push(("issuer", entry.issuer.clone()));
    lines.push(("chain", chain(entry)));
    lines.push((
        "policies",
        if entry.policies.is_empty() { "none".into() } else { entry.policies.join(", ") },
    ));
    lines.push(("serial", entry.serial_number.clone()));
    lines.push(("SHA-256", entry.fingerprint.clone()));
    lines
}

fn chain(entry: &Entry) -> String {
    match (&entry.missing_issuer, entry.chain.len()) {
        (None, 0) => "it is a root".into(),
        (None, 1) => "complete: the issuer is there, and is a root".into(),
        (None, count) => format!("complete: {count} issuers, up to a root"),
        (Some(missing), 0) => format!("the certificate of its issuer is not here: {missing}"),
        (Some(missing), 1) => format!("its issuer is here; not here: {missing}"),
        (Some(missing), count) => format!("{count} issuers are here; not here: {missing}"),
    }
}

fn advice(finding: &FindingEntry) -> String {
    match finding.who {
        "issuer" => format!("{} (with the issuer)", finding.remedy),
        "api-owner" => format!("{} (with the API's owner)", finding.remedy),
        _ => finding.remedy.to_owned(),
    }
}
