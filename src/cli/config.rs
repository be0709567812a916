//! `segl config`: what the configuration says, without touching network or device unless that is asked for.

use std::{io::Write, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::{Context, failure::Failure, json, table};
use crate::{call::Call, config, language::counted, pipeline::Pipeline};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Validate; touches neither network nor device unless told to
    Check {
        /// Also ask every signer for its key, and compare it with the clients' certificates; logs in to devices
        #[arg(long)]
        require_signer: bool,
        /// Seconds until giving up on the signers
        #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "require_signer", value_parser = clap::value_parser!(u64).range(1..=600))]
        timeout: u64,
    },
    /// Print the effective values and where each comes from; of secrets only their place
    Show {
        /// What to print
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print the JSON Schema of segl.toml, for editors
    Schema,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// A table for people
    Table,
    /// JSON
    Json,
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    match command.action {
        Action::Check { require_signer, timeout } => {
            let patience = require_signer.then_some(Duration::from_secs(timeout));
            check(patience, context, out).await
        }
        Action::Show { output } => show(output, context, out),
        Action::Schema => Ok(writeln!(out, "{:#}", config::schema())?),
    }
}

async fn check(
    signers_within: Option<Duration>,
    context: &Context,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = context.configuration()?;
    config.profiles(context.profiles.as_deref())?;
    if let Some(patience) = signers_within {
        let ask = async |pipeline: &Pipeline| {
            Ok(pipeline.require_signers(&Call::within(context.clock(), patience)).await?)
        };
        context.with_pipeline(ask).await?;
    }
    let from =
        config.path.as_ref().map_or_else(|| "the environment".into(), |path| path.display().to_string());
    writeln!(
        out,
        "{from} is valid: {}, {}, {}.",
        counted(config.signers.len(), "signer"),
        counted(config.clients.len(), "client"),
        counted(config.tokens.len(), "token"),
    )?;
    if signers_within.is_some() {
        writeln!(out, "Every signer is there, with the key that its clients name.")?;
    }
    Ok(())
}

fn show(output: Output, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = context.configuration()?.show();
    match output {
        Output::Json => json::write(&settings, out)?,
        Output::Table => {
            let rows = settings.into_iter().map(|set| [set.name, set.value, set.origin.to_string()]);
            writeln!(out, "{}", table::plain(["KEY", "VALUE", "FROM"], rows))?;
        }
    }
    Ok(())
}
