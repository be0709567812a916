//! Starts the sandbox, says where it is, waits, and leaves nothing behind.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokio::task::spawn_blocking;

use super::{
    super::{Context, failure::Failure, file},
    behaviour::{Behaviour, Plan},
    end::{End, report},
    key::{KeyArguments, MadeKey},
    placed::{Placed, make_way_for_ready_file},
    softhsm::{Holder, SoftHsm},
};
use crate::{
    call::Call,
    certificate::Certificate,
    config::{self, Config},
    pipeline::Pipeline,
    sandbox::{Authentication, Clients, Knobs, Options, Ports, Sandbox, Setup},
};

/// One more byte than the sandbox takes, so that it is the one to refuse.
const LARGEST_FILE: u64 = 1024 * 1024 + 1;

/// Usual port of the management interface; 8403 is kept for Samarbeidsportalen.
const MANAGEMENT: u16 = 8404;

/// How long a device may take to close.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Start {
    /// Port of the fake Maskinporten
    #[arg(long, value_name = "PORT", default_value_t = Ports::FIXED.maskinporten)]
    maskinporten_port: u16,
    /// Port of the fake Customs
    #[arg(long, value_name = "PORT", default_value_t = Ports::FIXED.customs)]
    customs_port: u16,
    /// Port of the fake Altinn
    #[arg(long, value_name = "PORT", default_value_t = Ports::FIXED.altinn)]
    altinn_port: u16,
    /// Port of the management interface, on loopback
    #[arg(long, value_name = "PORT", default_value_t = MANAGEMENT)]
    management_port: u16,
    /// Take any free ports
    #[arg(
        long,
        conflicts_with_all = ["maskinporten_port", "customs_port", "altinn_port", "management_port"]
    )]
    any_ports: bool,
    /// Directory that keeps the test CA and the made key from one start to the next
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Clients and their grants (TOML) [default: those of the demonstration]
    #[arg(long, value_name = "FILE")]
    clients: Option<PathBuf>,
    /// Client that the printed configuration is for [default: the only one of --clients or --scenario]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// File with certificates of CAs whose eSeals are taken, beside the test CA; may be given more than once
    #[arg(long, value_name = "FILE")]
    seal_issuer: Vec<PathBuf>,
    #[command(flatten)]
    behaviour: Behaviour,
    #[command(flatten)]
    key: KeyArguments,
    /// Make a SoftHSM2 device with a key and a test certificate here, or use the one that is here
    #[arg(long, value_name = "DIR", conflicts_with = "key")]
    softhsm: Option<PathBuf>,
    /// File to write once the ports answer: their addresses as JSON
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// File to write the configuration to, instead of printing it
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    /// Listen on this address instead of loopback; only with --public-url
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// Scheme and host that others reach the sandbox by, such as http://segl-sandbox; only with --bind
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

pub(super) async fn run(start: Start, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let mut end = End::listen()?;
    let running = tokio::select! {
        running = open(start, context, out) => running?,
        () = end.asked() => return Ok(()),
    };
    end.asked().await;
    running.close().await
}

/// A sandbox, and what goes away with it.
struct Running {
    sandbox: Sandbox,
    _key: Option<MadeKey>,
    _files: Vec<Placed>,
}

impl Running {
    async fn close(self) -> Result<(), Failure> {
        let (counters, manners) = (self.sandbox.counters(), self.sandbox.manners());
        self.sandbox.shutdown().await;
        Ok(report(&counters, &manners)?)
    }
}

async fn open(start: Start, context: &Context, out: &mut dyn Write) -> Result<Running, Failure> {
    start.check_reach()?;
    if let Some(path) = &start.ready_file {
        make_way_for_ready_file(path)?;
    }
    let own_key = start.key.setup()?;
    let Plan { knobs, clients: planned, faults } = start.behaviour.plan()?;
    let own_clients = match (planned, &start.clients) {
        (Some(_), Some(_)) => {
            return Err(Failure::needs_person(
                "--clients was given, and the scenario has clients too",
                "Leave --clients out, or take [registry] out of the scenario.",
            ));
        }
        (Some(planned), None) => Some(planned),
        (None, Some(path)) => {
            Some(Clients::from_toml(&text_of(path, "Name a file with clients that you can read.")?)?)
        }
        (None, None) => None,
    };
    let client = start.client(own_clients.as_ref(), own_key.as_ref())?;
    let state = start.state.clone().or_else(|| start.softhsm.clone());
    let sandbox = Sandbox::start_with(Options {
        ports: start.ports(),
        bind: start.bind,
        public_url: start.public_url.clone(),
        state_dir: state.clone(),
        clients: own_clients.unwrap_or_default(),
        seal_issuers: start.seal_issuers()?,
        // What is registered for the start has long arrived.
        knobs: Knobs { propagation_delay: 0, ..knobs.clone() },
        faults,
        management: Some(if start.any_ports { 0 } else { start.management_port }),
        clock: Some(context.clock.clone()),
        ..Options::default()
    })
    .await?;

    let mut made = None;
    let mut hints = Vec::new();
    let config = match client {
        None => {
            hints.push("The configuration names no client: give --client-id to have one in it.".to_owned());
            sandbox.environment_toml()
        }
        Some(Client { id, organisation }) => {
            let setup = match (own_key, &start.softhsm, state) {
                (Some(setup), ..) => setup,
                (None, Some(directory), Some(state)) => {
                    let holder =
                        if start.key.eseal { Holder::Foreign } else { Holder::Norwegian(organisation) };
                    let device = blocking({
                        let directory = directory.clone();
                        move || SoftHsm::provide(&directory, &state, &holder)
                    })
                    .await?;
                    hints.push(device.export());
                    device.setup
                }
                (None, _, state) if start.key.eseal => {
                    let ca = sandbox.ca().clone();
                    made.insert(blocking(move || MadeKey::make_seal(state, &ca)).await?).setup()
                }
                (None, _, state) => made.insert(blocking(move || MadeKey::make(state)).await?).setup(),
            };
            let config = sandbox.config_toml_of(&id, &setup);
            if let Authentication::Kid(kid) = &setup.authentication {
                register(&sandbox, &id, kid, &config, context).await?;
            }
            config
        }
    };
    sandbox.turn(|current| *current = knobs);
    let comments: String = hints.iter().map(|hint| format!("# {hint}\n")).collect();
    let config = comments + &config;
    hints.extend(check(&config, start.write_config.as_deref(), &sandbox)?);

    let mut files = Vec::new();
    match &start.write_config {
        Some(path) => files.push(Placed::config(path, &config)?),
        None => {
            write!(out, "{config}")?;
            out.flush()?;
        }
    }
    if let Some(path) = &start.ready_file {
        files.push(Placed::ready(path, &sandbox)?);
    }
    announce(&sandbox, &hints)?;
    Ok(Running { sandbox, _key: made, _files: files })
}

/// Which client the configuration is for.
struct Client {
    id: String,
    organisation: String,
}

impl Start {
    fn check_reach(&self) -> Result<(), Failure> {
        let (given, missing) = match (self.bind, &self.public_url) {
            (Some(_), None) => ("--bind", "--public-url"),
            (None, Some(_)) => ("--public-url", "--bind"),
            _ => return Ok(()),
        };
        Err(Failure::needs_person(
            format!("{given} was given without {missing}"),
            "Give both, or neither: without them, the sandbox stays on loopback.",
        ))
    }

    fn ports(&self) -> Ports {
        if self.any_ports {
            return Ports::default();
        }
        Ports { maskinporten: self.maskinporten_port, customs: self.customs_port, altinn: self.altinn_port }
    }

    fn seal_issuers(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let mut issuers = Vec::new();
        for path in &self.seal_issuer {
            let certificates = Certificate::all_from_file(&file::read(path)?)
                .map_err(|why| Failure::needs_person(format!("{}: {why}", path.display()), why.remedy()))?;
            issuers.extend(certificates.iter().map(|certificate| certificate.der().to_vec()));
        }
        Ok(issuers)
    }

    /// `None` for clients of the user's own without a word on which of them is meant, or with what key.
    fn client(&self, own: Option<&Clients>, own_key: Option<&Setup>) -> Result<Option<Client>, Failure> {
        if self.key.eseal {
            // A seal has no client: neither of the two ends up anywhere.
            let (id, organisation) = (Clients::CERTIFICATE_CLIENT.into(), Clients::ORGANISATION.into());
            return Ok(Some(Client { id, organisation }));
        }
        let usual = Clients::default();
        let clients = own.unwrap_or(&usual);
        let has_key = own_key.is_some() || self.softhsm.is_some();
        let by_certificate = self.softhsm.is_some()
            || own_key.is_some_and(|setup| matches!(setup.authentication, Authentication::Certificate(_)));
        let named = match (&self.client_id, own) {
            (Some(id), _) if has_key => id.as_str(),
            (Some(_), _) => {
                return Err(Failure::needs_person(
                    "--client-id was given without the key of that client",
                    "Give its key with --key, or have one made with --softhsm.",
                ));
            }
            (None, Some(_)) => {
                let mut ids = clients.ids();
                match (ids.next(), ids.next()) {
                    (Some(only), None) if has_key => only,
                    _ if has_key => {
                        return Err(Failure::needs_person(
                            "there is not exactly one client, so it is not clear whose key this is",
                            "Give --client-id.",
                        ));
                    }
                    _ => return Ok(None),
                }
            }
            (None, None) if by_certificate => Clients::CERTIFICATE_CLIENT,
            (None, None) => Clients::KEY_CLIENT,
        };
        match clients.organisation_of(named) {
            Some(organisation) => {
                Ok(Some(Client { id: named.to_owned(), organisation: organisation.to_owned() }))
            }
            None => Err(Failure::needs_person(
                format!("the file of clients has no {named}"),
                format!("Give one of: {}.", clients.ids().collect::<Vec<_>>().join(", ")),
            )),
        }
    }
}

pub(super) fn text_of(path: &Path, remedy: &str) -> Result<String, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE).read_to_string(&mut text))
        .map_err(|why| Failure::needs_person(format!("{}: {why}", path.display()), remedy))?;
    Ok(text)
}

fn announce(sandbox: &Sandbox, hints: &[String]) -> io::Result<()> {
    let mut err = io::stderr().lock();
    if let Some(warning) = sandbox.warning() {
        writeln!(err, "{warning}")?;
    }
    for hint in hints {
        writeln!(err, "{hint}")?;
    }
    writeln!(err, "Segl sandbox: nothing here is real, its tokens open nothing, and it ends with Ctrl-C.")?;
    if let Some(address) = sandbox.management() {
        writeln!(err, "Management    {address}")?;
    }
    writeln!(err, "Maskinporten  {}", sandbox.issuer())?;
    writeln!(err, "Customs       {}", sandbox.customs())?;
    writeln!(err, "Altinn        {}", sandbox.altinn())
}

/// Registers the public half of the key that `config` signs with, as one does in Samarbeidsportalen.
async fn register(
    sandbox: &Sandbox,
    client_id: &str,
    kid: &str,
    config: &str,
    context: &Context,
) -> Result<(), Failure> {
    // The signer alone: the addresses of an open sandbox are none that Segl itself would use.
    let mut table: toml::Table = config.parse().unwrap_or_default();
    table.retain(|name, _| name == "schema" || name == "signers");
    let config =
        Config::parse(&table.to_string(), Path::new("")).map_err(|problems| invalid(None, problems))?;
    let pipeline = Pipeline::new(&config, context.clock.clone())?;
    let key = pipeline.signer("sandbox")?.key(&Call::new(context.clock())).await;
    pipeline.shutdown(PATIENCE).await;
    let spki = key?.public_key.to_spki();
    let spki = spki.map_err(|why| Failure::needs_person(why.to_string(), "Use an RSA key."))?;
    Ok(sandbox.register_key(client_id, kid, &spki)?)
}

/// Reads the configuration as its users will. What they could not use is an error, or for an open sandbox a hint.
fn check(config: &str, path: Option<&Path>, sandbox: &Sandbox) -> Result<Option<String>, Failure> {
    match Config::parse(config, Path::new("")) {
        Ok(_) => Ok(None),
        Err(_) if sandbox.warning().is_some() => Ok(Some(
            "Segl itself speaks plain http to its own machine only: this configuration is for other clients."
                .to_owned(),
        )),
        Err(problems) => Err(invalid(path, problems)),
    }
}

fn invalid(path: Option<&Path>, problems: Vec<config::Problem>) -> Failure {
    let path = path.unwrap_or(Path::new("segl.toml"));
    config::Error::Invalid { path: Some(path.to_owned()), problems }.into()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Failure::needs_person("the work was broken off", "Start the sandbox again.")))
}
