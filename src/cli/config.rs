//! `segl config`: what the configuration says, without touching network or device.

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};

use super::{Context, failure::Failure, table};
use crate::config;

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Validate; touches neither network nor device
    Check,
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

pub(super) fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    match command.action {
        Action::Check => check(context, out),
        Action::Show { output } => show(output, context, out),
        Action::Schema => Ok(writeln!(out, "{:#}", config::schema())?),
    }
}

fn check(context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let config = context.configuration()?;
    config.profiles(context.profiles.as_deref())?;
    let from =
        config.path.as_ref().map_or_else(|| "the environment".into(), |path| path.display().to_string());
    writeln!(
        out,
        "{from} is valid: {}, {}, {}.",
        counted(config.signers.len(), "signer"),
        counted(config.clients.len(), "client"),
        counted(config.tokens.len(), "token"),
    )?;
    Ok(())
}

fn show(output: Output, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = context.configuration()?.show();
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&settings).unwrap_or_default())?,
        Output::Table => {
            let rows = settings.into_iter().map(|set| [set.name, set.value, set.origin.to_string()]);
            writeln!(out, "{}", table::plain(["KEY", "VALUE", "FROM"], rows))?;
        }
    }
    Ok(())
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
