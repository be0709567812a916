//! `segl doctor`: every check of a token, or of all of them, and what to do about each finding.

use std::{collections::BTreeSet, io::Write, time::Duration};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    Context,
    failure::{Failure, Outcome},
    json, table,
};
use crate::{
    config::{self, Config},
    doctor::{Examination, Finding, Host, Verdict, hosts},
    language::printable,
    sign::{Fault, pkcs11::PinRecords},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    /// Names of [tokens.NAME] tables [default: all of them]
    names: Vec<String>,
    /// Ask the authorities, too: are they there, do the clocks agree, does a token come
    #[arg(long)]
    online: bool,
    /// Print the hosts that Segl connects to, for the firewall, and check nothing
    #[arg(long, conflicts_with_all = ["online", "names"])]
    hosts: bool,
    /// Seconds for each question to a device or an authority
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// A line for each check
    Text,
    /// All checks as JSON
    Json,
}

/// All findings, as programs see them.
#[derive(Serialize)]
struct Report<'a> {
    schema: u8,
    findings: &'a [Finding],
    ok: usize,
    warnings: usize,
    failures: usize,
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    if command.hosts {
        let config = context.configuration_if_any()?;
        return print_hosts(&hosts(config.as_ref()), command.output, out);
    }
    // Not through the context, which says the warnings by itself: here they are findings.
    let config = match Config::find(context.config.as_deref()) {
        Ok(config) => config,
        Err(config::Error::Invalid { path, problems }) => {
            // A wrong configuration leads nowhere: there is nothing else to look at.
            let findings = Finding::of_configuration(path.as_deref(), &problems);
            if let Output::Text = command.output {
                findings.iter().try_for_each(|finding| line(finding, out))?;
            }
            return end(&findings, command.output, out);
        }
        Err(error) => return Err(error.into()),
    };
    let profiles = context.profiles()?;
    let examination = Examination {
        config: &config,
        profiles,
        clock: context.clock.clone(),
        variables: variables(),
        records: PinRecords::Usual,
        online: command.online,
    };
    let mut findings = Vec::new();
    let mut written = Ok(());
    let patience = Duration::from_secs(command.timeout);
    let mut found = |finding: &Finding| {
        if let (Output::Text, Ok(())) = (command.output, &written) {
            written = line(finding, out);
        }
        findings.push(finding.clone());
    };
    examination.run(&command.names, patience, &mut found).await?;
    written?;
    end(&findings, command.output, out)
}

/// The names of this process's environment variables.
fn variables() -> BTreeSet<String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
}

fn line(finding: &Finding, out: &mut dyn Write) -> std::io::Result<()> {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failure => "failure",
    };
    let about = if finding.about.is_empty() { "-" } else { &finding.about };
    // Devices and authorities have their say in it.
    writeln!(out, "{verdict:<8} {about:<14} {:<22} {}", finding.check, printable(&finding.reason))?;
    match &finding.remedy {
        Some(remedy) if finding.verdict != Verdict::Ok => {
            writeln!(out, "{:9}{}", "", printable(&remedy.replace('\n', " ")))
        }
        _ => Ok(()),
    }
}

fn end(findings: &[Finding], output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (ok, warnings, failures) = (count(Verdict::Ok), count(Verdict::Warning), count(Verdict::Failure));
    match output {
        Output::Text => {
            writeln!(out, "{} checks: {ok} ok, {warnings} to look at, {failures} failed.", findings.len())?;
        }
        Output::Json => {
            let report = Report { schema: 1, findings, ok, warnings, failures };
            json::write(&report, out)?;
        }
    }
    let Some(outcome) = outcome(findings) else { return Ok(()) };
    Err(if failures > 0 {
        let what = format!("{failures} of {} checks failed", findings.len());
        Failure::of(outcome, what, "Mend the first failure first: later ones may come from it.")
    } else {
        let what = format!("nothing fails, and {warnings} of {} checks warn", findings.len());
        Failure::of(outcome, what, "Look at the warnings, when there is time.")
    })
}

/// The exit code: what a person has to mend goes before what an authority refused, and that before what is away.
fn outcome(findings: &[Finding]) -> Option<Outcome> {
    let has = |wanted: fn(Fault) -> bool| findings.iter().filter_map(|finding| finding.fault).any(wanted);
    if has(|fault| fault == Fault::Configuration) {
        Some(Outcome::NeedsPerson)
    } else if has(|fault| fault == Fault::Authority) {
        Some(Outcome::Refused)
    } else if has(|_| true) {
        Some(Outcome::Unreachable)
    } else if findings.iter().any(|finding| finding.verdict == Verdict::Warning) {
        Some(Outcome::NeedsAttention)
    } else {
        None
    }
}

fn print_hosts(hosts: &[Host], output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    match output {
        Output::Json => json::write(hosts, out)?,
        Output::Text => {
            let rows = hosts.iter().map(|host| [host.host.clone(), host.port.to_string(), host.why.clone()]);
            writeln!(out, "{}", table::plain(["HOST", "PORT", "WHY"], rows))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_or_an_authority_says_steers_no_terminal() {
        let finding = Finding {
            check: "device",
            about: "hsm".into(),
            verdict: Verdict::Warning,
            reason: "a\u{1b}[2J\u{202e}b".into(),
            remedy: Some("one\ntwo\u{7}".into()),
            fault: None,
        };
        let mut out = Vec::new();
        line(&finding, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(
            shown.contains("a\u{fffd}[2J\u{fffd}b\n") && shown.ends_with("one two\u{fffd}\n"),
            "{shown:?}"
        );
    }
}
