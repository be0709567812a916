//! Front door B: the command line. One command, one file; results on standard output, everything else on standard
//! error.

mod ask;
mod certificate;
mod completions;
mod config;
mod decode;
mod doctor;
mod explain;
mod failure;
mod file;
mod grant;
mod init;
mod json;
mod keys;
mod logging;
mod pin;
mod probe;
mod profiles;
#[cfg(feature = "sandbox")]
mod sandbox;
mod scopes;
mod secret_source;
mod table;
mod terminal;
mod token;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use self::{failure::Failure, terminal::Terminal};
use crate::{
    call::Call,
    clock::{Clock, SystemClock},
    config::{self as configuration, Config},
    language::Language,
    pipeline::Pipeline,
    secret,
    sign::pkcs11::{Manner, Modules, Profiles, module_host},
};

/// Access tokens for Norwegian public APIs from a key that never leaves its hardware
#[derive(Debug, Parser)]
#[command(name = "segl", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// Configuration file [default: $SEGL_CONFIG, ./segl.toml, /etc/segl/segl.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say more on standard error; twice for every step
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Folder with device profiles of your own [default: $SEGL_PROFILES]
    #[arg(long, global = true, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// Language of what is explained, en or nb [default: as LC_ALL, LC_MESSAGES or LANG has it]
    #[arg(long, global = true, value_name = "LANGUAGE")]
    lang: Option<Language>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask a few questions and write a commented segl.toml
    Init(Box<init::Command>),
    /// Print one access token
    Token(token::Command),
    /// Sign a grant and send nothing
    Grant(grant::Command),
    /// Get a token and make a first harmless call, step by step
    Probe(probe::Command),
    /// Check everything about one token or all, and say what to fix
    Doctor(doctor::Command),
    /// Say what a refusal or a code means, and who must do what about it
    Explain(explain::Command),
    /// Show and prepare the keys on a device
    Keys(keys::Command),
    /// Say what a certificate is and whether Maskinporten takes it; fetch its issuers
    Certificate(certificate::Command),
    /// Keep a signer's PIN, and see which were refused
    Pin(pin::Command),
    /// Show what is known of each kind of device
    Profiles(profiles::Command),
    /// List the scopes that are known, and what each is for
    Scopes(scopes::Command),
    /// Run fake authorities on this machine
    #[cfg(feature = "sandbox")]
    Sandbox(Box<sandbox::Command>),
    /// Check and show the configuration
    Config(config::Command),
    /// Print completions for a shell
    Completions(completions::Completions),
    /// Print the manual page
    Man(completions::Man),
}

/// Runs the command line `arguments`, the program's name first, and says how the process is to end: 0 done, 1 refused
/// by the authority, 2 a person must act, 3 unreachable, 4 done but something needs attention.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Before anything else: this may be the process of a PKCS#11 library.
    if let Some(code) = module_host() {
        return code;
    }
    // PINs and keys pass through this process. Where that is not to be had, it works all the same.
    let _ = secret::shield();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(help_or_mistake) => {
            let _ = help_or_mistake.print();
            return ExitCode::from(u8::try_from(help_or_mistake.exit_code()).unwrap_or(2));
        }
    };
    logging::start(match cli.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::TRACE,
    });
    let named = cli.profiles.or_else(|| std::env::var_os("SEGL_PROFILES").map(PathBuf::from));
    let profiles = named.filter(|folder| !folder.as_os_str().is_empty());
    let language = cli.lang.unwrap_or_else(usual_language);
    let context = Context { config: cli.config, profiles, language, clock: SystemClock::shared() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            let failure = Failure::needs_person(why.to_string(), "Look at the limits of this user.");
            return report(&failure, language);
        }
    };
    let terminal = Terminal::as_found();
    let mut out = Printed { to: io::stdout().lock(), anything: false };
    let mut result = runtime.block_on(run(cli.command, &context, &mut out));
    while let Err(failure) = &result
        && failure.is_refused_pin()
        && !out.anything
        && secret::tries_left().is_some_and(|left| left > 0)
        // The arguments have been read once; asked for anew, since a command is used up when it is run.
        && let Ok(cli) = Cli::try_parse_from(&arguments)
    {
        let _ = writeln!(io::stderr(), "segl: {}; another try:", failure.what());
        result = runtime.block_on(run(cli.command, &context, &mut out));
    }
    // A thread that still waits for a person to type is not waited for.
    runtime.shutdown_background();
    terminal.restore();
    match result.and_then(|()| out.flush().map_err(Failure::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, context.language),
    }
}

async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Token(command) => token::run(command, context, out).await,
        Command::Grant(command) => grant::run(command, context, out).await,
        Command::Probe(command) => probe::run(command, context, out).await,
        Command::Init(command) => init::run(*command, context, out).await,
        Command::Doctor(command) => doctor::run(command, context, out).await,
        Command::Keys(command) => keys::run(command, context, out).await,
        Command::Certificate(command) => certificate::run(command, context, out).await,
        Command::Pin(command) => pin::run(command, context, out).await,
        Command::Profiles(command) => profiles::run(command, context, out),
        Command::Explain(command) => explain::run(&command, context, out),
        Command::Scopes(command) => scopes::run(&command, context, out),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(command) => sandbox::run(*command, context, out).await,
        Command::Config(command) => config::run(command, context, out).await,
        Command::Completions(command) => command.run(&mut Cli::command(), out),
        Command::Man(command) => command.run(Cli::command(), out),
    }
}

/// Standard output, and whether anything has been written there.
struct Printed<W> {
    to: W,
    anything: bool,
}

impl<W: Write> Write for Printed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.anything = true;
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// How long a device may take to be let go of: what the command was for is done by then.
const FAREWELL: Duration = Duration::from_secs(5);

/// What every command has at hand.
struct Context {
    config: Option<PathBuf>,
    profiles: Option<PathBuf>,
    language: Language,
    clock: Arc<dyn Clock>,
}

impl Context {
    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The configuration, with its warnings said.
    fn configuration(&self) -> Result<Config, configuration::Error> {
        let config = Config::find(self.config.as_deref())?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }

    /// The same, and `None` when there is none at all: for commands that can do without.
    fn configuration_if_any(&self) -> Result<Option<Config>, configuration::Error> {
        match self.configuration() {
            Err(configuration::Error::Absent { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// What is known of each kind of device. A configuration that is wrong changes nothing in it: commands that need
    /// one say what is wrong with it, and the others are not to fail for it.
    fn profiles(&self) -> Result<Arc<Profiles>, Failure> {
        let changes = match Config::find(self.config.as_deref()) {
            Ok(config) => config.profiles,
            Err(configuration::Error::Absent { .. }) => BTreeMap::new(),
            Err(_) if self.config.is_none() => {
                tracing::warn!("the configuration is wrong, so its [profiles] do not count");
                BTreeMap::new()
            }
            Err(error) => return Err(error.into()),
        };
        let mut profiles = Profiles::usual()?;
        if let Some(folder) = &self.profiles {
            profiles.load_dir(folder)?;
        }
        profiles.override_all(&changes)?;
        Ok(Arc::new(profiles))
    }

    /// Does `work` with everything that the configuration names, and lets go of the devices that it touched.
    async fn with_pipeline(
        &self,
        work: impl AsyncFnOnce(&Pipeline) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let config = self.configuration()?;
        let profiles = Arc::new(config.profiles(self.profiles.as_deref())?);
        let pipeline = Pipeline::with_profiles(&config, self.clock.clone(), profiles)?;
        let outcome = work(&pipeline).await;
        pipeline.shutdown(FAREWELL).await;
        outcome
    }

    /// Does `work` with the PKCS#11 libraries of this machine, and lets go of those that it touched. `change` says how
    /// they are driven otherwise than usual.
    async fn with_modules<T>(
        &self,
        change: impl FnOnce(Manner) -> Manner,
        work: impl AsyncFnOnce(&Arc<Modules>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let usual = Manner { profiles: self.profiles()?, ..Manner::default() };
        let modules = Modules::build(self.clock.clone(), change(usual));
        let outcome = work(&modules).await;
        if let Err(error) = modules.shutdown(&Call::within(self.clock(), FAREWELL)).await {
            tracing::warn!(%error, "a device's library did not end in time");
        }
        outcome
    }
}

/// Whether `text` is meant as a PKCS#11 URI; its scheme may stand in capitals (RFC 3986 section 3.1).
fn is_pkcs11_uri(text: &str) -> bool {
    text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
}

/// The language of this user's messages (POSIX: the first of these variables that is set).
fn usual_language() -> Language {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    set.into_iter()
        .find(|locale| !locale.is_empty())
        .map_or_else(Language::default, |locale| Language::of_locale(&locale))
}

fn report(failure: &Failure, language: Language) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}", failure.told(language));
    failure.exit_code()
}
