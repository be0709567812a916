//! `segl init`: from questions, or from what another tool was configured with, to a commented `segl.toml` that holds.

mod answers;
mod dialogue;
mod from;
mod written;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use self::{
    answers::{Answers, Date},
    dialogue::Dialogue,
    from::Taken,
};
use super::{Context, failure::Failure};
use crate::{
    config::Config,
    state::{Mode, write_file},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    /// Who asks for tokens
    #[arg(long, value_enum)]
    who: Option<Who>,
    /// Short for --who supplier
    #[arg(long, conflicts_with_all = ["who", "eseal"])]
    supplier: bool,
    /// Short for --who foreign: a company outside Norway, known by its eSeal
    #[arg(long, conflicts_with = "who")]
    eseal: bool,
    /// Maskinporten's environment: test or prod
    #[arg(long, value_name = "NAME", value_parser = ["test", "prod"])]
    environment: Option<String>,
    /// The key: a line of `segl keys`, or file:PATH
    #[arg(long, value_name = "URI")]
    key: Option<String>,
    /// Where the PIN or the file's password is found: credential:NAME, file:PATH, exec:COMMAND, prompt, env:NAME
    #[arg(long, value_name = "SOURCE")]
    pin: Option<String>,
    /// Client identifier, from Samarbeidsportalen
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Name of the public key that is registered on the client
    #[arg(long, conflicts_with = "certificate")]
    kid: Option<String>,
    /// Day on which the registered key expires
    #[arg(long, value_name = "YYYY-MM-DD", requires = "kid")]
    kid_expires: Option<Date>,
    /// `token` for the certificate beside the key, or a PEM file
    #[arg(long, value_name = "token|FILE")]
    certificate: Option<String>,
    /// Name of the foreign company
    #[arg(long)]
    name: Option<String>,
    /// Scope; may be given more than once
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// Take the answers from a client.properties of Digdir's jwt-grant-generator; passwords are not read
    #[arg(long, value_name = "FILE", conflicts_with = "from_env")]
    from: Option<PathBuf>,
    /// Take the answers from the variables MASKINPORTEN_CLIENT_ID, …_SCOPES, …_ISSUER and their companions
    #[arg(long)]
    from_env: bool,
    /// File to write; one that is there already is never replaced
    #[arg(long, value_name = "FILE", default_value = "segl.toml")]
    out: PathBuf,
}

/// Who asks for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Who {
    /// A Norwegian company or public body, for itself
    Company,
    /// A supplier, for its customers
    Supplier,
    /// A company outside Norway with an eSeal
    Foreign,
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    // Before anybody is asked anything.
    if command.out.symlink_metadata().is_ok() {
        return Err(Failure::needs_person(
            format!("{} is there already", command.out.display()),
            "Name another file with --out, or edit this one; segl doctor says what is wrong with it.",
        ));
    }
    let taken = match (&command.from, command.from_env) {
        (Some(path), _) => from::properties(path)?,
        (None, true) => from::variables(std::env::vars_os())?,
        (None, false) => Taken::default(),
    };
    let mut dialogue = Dialogue::at_terminal();
    let answers = Answers::gather(&command, &taken, &mut dialogue, context).await?;
    let text = written::toml(&answers);
    let folder =
        command.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let config = Config::parse(&text, folder).map_err(|problems| {
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let remedies: Vec<String> = problems.iter().map(|problem| problem.fault.remedy()).collect();
        Failure::needs_person(
            format!("these answers make no configuration: {}", said.join("; ")),
            remedies.join("\n"),
        )
    })?;
    write_file(&command.out, text.as_bytes(), Mode::Public, false)?;
    writeln!(out, "written: {}", command.out.display())?;
    for warning in &config.warnings {
        writeln!(out, "  {warning}")?;
    }
    for note in taken.notes.iter().chain(&answers.notes) {
        writeln!(out, "  {note}")?;
    }
    let config = if command.out == Path::new("segl.toml") {
        String::new()
    } else {
        format!(" --config {}", command.out.display())
    };
    writeln!(out, "next: segl doctor{config}")?;
    Ok(())
}

impl Command {
    fn who(&self) -> Option<Who> {
        match (self.who, self.supplier, self.eseal) {
            (Some(who), ..) => Some(who),
            (None, true, _) => Some(Who::Supplier),
            (None, _, true) => Some(Who::Foreign),
            (None, false, false) => None,
        }
    }
}
