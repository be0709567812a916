//! `segl certificate fetch-chain`: the issuers' certificates, from where the certificate itself says that they are.

use std::{
    io::{self, Write},
    path::{self, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{Work, gather::Target};
use crate::{
    call::Call,
    certificate::{Certificate, CertificateSet, Completed},
    cli::failure::{Failure, Outcome},
    http::{self, Http, Reach},
    language::counted,
    pipeline,
    state::{self, Mode},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    target: Target,
    /// File to write: the certificate and its issuers, PEM
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Follow addresses into private networks and to this machine, too: for certificates of your own authority
    #[arg(long)]
    allow_private: bool,
    /// Seconds until giving up
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    // Said before anything is fetched; the writing itself replaces nothing either.
    if !command.force && command.out.symlink_metadata().is_ok() {
        return Err(state::Error::Exists { path: command.out }.into());
    }
    let gathered = command.target.gather(work).await?;
    for notice in &gathered.notices {
        say(&format!("note: {notice}"));
    }
    let clock = work.context.clock();
    let set = CertificateSet::judge(&gathered.certificates, &gathered.issuers, clock.wall());
    let Some(best) = set.best() else { return Ok(()) };
    let options = match work.context.configuration_if_any()? {
        Some(config) => pipeline::http_options(&config.http)?,
        None => http::Options::default(),
    };
    let http = Http::new(options, work.context.clock.clone());
    let call = Call::within(clock, Duration::from_secs(command.timeout));
    let reach = if command.allow_private { Reach::Private } else { Reach::Public };
    let completed = best.chain.clone().fetched(&http, clock, reach, clock.wall(), &call).await;
    for found in &completed.fetched {
        say(&format!("fetched: {} from {}", found.certificate.subject(), found.url));
    }
    let missing = completed.chain.missing_issuer();
    if let Some(issuer) = missing.as_ref().filter(|_| completed.fetched.is_empty()) {
        return Err(nothing(issuer, &completed, reach));
    }
    for miss in &completed.misses {
        say(&format!("passed over: {miss}"));
    }
    let pem: String = completed.chain.certificates().map(Certificate::to_pem).collect();
    state::write_file(&command.out, pem.as_bytes(), Mode::Public, command.force)?;
    let count = counted(completed.chain.len(), "certificate");
    say(&format!("written: {} with {count}", command.out.display()));
    writeln!(out, "chain = {}", toml::Value::from(path::absolute(&command.out)?.display().to_string()))?;
    match missing {
        None => Ok(()),
        Some(issuer) => Err(Failure::needs_attention(
            format!("the chain is not complete yet: the certificate of {issuer} was nowhere to be had"),
            "Get it from the issuer, and add it to the file.",
        )),
    }
}

/// Why nothing was fetched.
fn nothing(issuer: &str, completed: &Completed, reach: Reach) -> Failure {
    let what = format!("the certificate of {issuer} could not be fetched");
    if completed.misses.is_empty() {
        return Failure::needs_person(
            format!("{what}: {} does not say where it is", completed.chain.leaf().subject()),
            "Get the certificates of the issuers from the issuer, and put them behind it in the file.",
        );
    }
    let reasons: Vec<String> = completed.misses.iter().map(ToString::to_string).collect();
    let what = format!("{what}: {}", reasons.join("; "));
    if completed.misses.iter().any(|miss| miss.again) {
        return Failure::of(
            Outcome::Unreachable,
            what,
            "Try again later. Where only a proxy leads out, download it there, and put it behind the certificate in the file.",
        );
    }
    Failure::needs_person(
        what,
        match reach {
            Reach::Public => {
                "Get it from the issuer, and put it behind the certificate in the file; --allow-private follows addresses \
                 into your own network."
            }
            Reach::Private => "Get it from the issuer, and put it behind the certificate in the file.",
        },
    )
}

/// For people who watch: on standard error, since standard output is the result's.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
