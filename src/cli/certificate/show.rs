//! `segl certificate show`: what a certificate is, in plain words, and whether it works at Maskinporten.

mod facts;
mod text;

use std::io::Write;

use clap::{Args, ValueEnum};

use self::{facts::Facts, text::text};
use super::{Work, gather::Target};
use crate::{
    certificate::CertificateSet,
    cli::{failure::Failure, json},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    target: Target,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Lines for people
    Table,
    /// JSON; docs/certificate-show.schema.json says what stands where
    Json,
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let gathered = command.target.gather(work).await?;
    let now = work.context.clock().wall();
    let set = CertificateSet::judge(&gathered.certificates, &gathered.issuers, now);
    let facts = Facts::new(&set, gathered.notices);
    match command.output {
        Output::Table => out.write_all(text(&facts).as_bytes())?,
        Output::Json => json::write(&facts, out)?,
    }
    verdict(&set)
}

/// How the command ends: by the certificate that is the one for Maskinporten, or comes nearest.
fn verdict(set: &CertificateSet) -> Result<(), Failure> {
    let Some(best) = set.best() else { return Ok(()) };
    let fitness = best.judgement.fitness();
    if let Some(obstacle) = fitness.obstacles.first() {
        return Err(Failure::needs_person(format!("the certificate {}", best.judgement), obstacle.remedy()));
    }
    match fitness.cautions.first() {
        Some(caution) => Err(Failure::needs_attention(caution.to_string(), caution.remedy())),
        None => Ok(()),
    }
}
