//! The sandbox: a fake Maskinporten, Customs (Toll) and Altinn, and a test CA, in one process on loopback.
//!
//! It examines like the real authorities, or stricter, by code of its own, and it forgets everything when it
//! ends: its signing keys are random at each start, and its tokens open nothing anywhere. What nobody has
//! published about the real answers is guessed, and such an answer says so in the header
//! `segl-sandbox-guess`. It cannot be mistaken for production: its issuer is its own address, every answer
//! says `Server: segl-sandbox`, and the names and certificates of the real authorities are refused.
//!
//! ```
//! # async fn run() -> Result<(), segl::sandbox::Error> {
//! use segl::sandbox::Sandbox;
//!
//! let sandbox = Sandbox::start().await?;
//! assert!(sandbox.issuer().starts_with("http://127.0.0.1:"));
//! assert_eq!(sandbox.counters().token.hits, 0);
//! sandbox.shutdown().await;
//! # Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
//! ```

mod altinn;
mod assertion;
mod ca;
mod ca_file;
mod chain;
mod clients;
mod configuration;
mod counters;
mod customs;
mod details;
mod error;
mod examine;
mod issuer_key;
mod journal;
mod jws;
mod knobs;
mod management;
mod manners;
mod maskinporten;
mod message;
mod organisation;
mod production;
mod qc_statements;
mod reach;
mod refusal;
mod registry;
mod replay;
mod scenario;
mod seal;
mod server;
mod timeline;
mod world;

pub use self::{
    ca::{Issued, Profile, TestCa},
    clients::Clients,
    configuration::{Authentication, Setup},
    counters::{Authority, Counters, Hits},
    error::Error,
    knobs::{AltinnBody, CodePosition, CustomsError, ErrorStyle, EsealSpelling, Knobs, ResourceType},
    manners::{Lapse, Manner},
    scenario::Scenario,
    timeline::{Fault, Out},
};

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::{
    clients::RegisteredKey,
    issuer_key::IssuerKey,
    reach::{Reach, listen, listen_for_management},
    refusal::Refusal,
    registry::Registry,
    timeline::Timeline,
    world::{World, locked},
};
use crate::{
    clock::{Clock, SystemClock},
    jose::RsaPublicKey,
};

/// A running sandbox. Dropping it ends it; [`shutdown`](Self::shutdown) also waits until the ports are free.
#[derive(Debug)]
pub struct Sandbox {
    world: Arc<World>,
    tracker: TaskTracker,
    is_open: bool,
    management: Option<SocketAddr>,
}

/// How a sandbox is started. The default is for tests: any free ports of loopback, demonstration clients, a
/// test CA that is gone afterwards.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where the authorities listen.
    pub ports: Ports,
    /// The address to listen on instead of 127.0.0.1. Only together with `public_url`.
    pub bind: Option<IpAddr>,
    /// Scheme and host under which others reach the sandbox, such as `http://segl-sandbox`; each authority
    /// adds its port. Only together with `bind`.
    pub public_url: Option<String>,
    /// Where the test CA is kept. `None`: it is made anew.
    pub state_dir: Option<PathBuf>,
    /// A test CA that is there already; goes before `state_dir`. Tests that start many sandboxes save time
    /// with one.
    pub ca: Option<TestCa>,
    /// Who is known, and may have what.
    pub clients: Clients,
    /// Certificates of issuers of eSeals (DER) that are trusted beside the test CA's own, as if they stood on a national
    /// trusted list.
    pub seal_issuers: Vec<Vec<u8>>,
    /// How the authorities answer at first.
    pub knobs: Knobs,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
    /// Port of the management interface, on loopback; 0 is any free one, `None`: there is none.
    pub management: Option<u16>,
    /// The authorities' time; `None`: the system's.
    pub clock: Option<Arc<dyn Clock>>,
}

/// A port for each authority; 0 is any free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Maskinporten's port.
    pub maskinporten: u16,
    /// Customs' port.
    pub customs: u16,
    /// Altinn's port.
    pub altinn: u16,
}

impl Ports {
    /// The ports of `segl sandbox`: 8400, 8401 and 8402.
    pub const FIXED: Self = Self { maskinporten: 8400, customs: 8401, altinn: 8402 };
}

impl Sandbox {
    /// Starts a sandbox with the default [`Options`].
    ///
    /// # Errors
    /// As [`start_with`](Self::start_with).
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(Options::default()).await
    }

    /// Starts a sandbox. It answers when this returns. Must be called in a Tokio runtime, which serves it.
    ///
    /// # Errors
    /// [`Error`] when an address is taken, the state directory is not usable, or production is named.
    pub async fn start_with(options: Options) -> Result<Self, Error> {
        let reach = Reach::of(&options)?;
        let clock = options.clock.unwrap_or_else(SystemClock::shared);
        let listen = |authority, port| listen(authority, SocketAddr::new(reach.bind, port));
        let maskinporten = listen(Authority::Maskinporten, options.ports.maskinporten).await?;
        let customs = listen(Authority::Customs, options.ports.customs).await?;
        let altinn = listen(Authority::Altinn, options.ports.altinn).await?;
        let management = match options.management {
            Some(port) => Some(listen_for_management(port).await?),
            None => None,
        };

        let ca = match (options.ca, options.state_dir) {
            (Some(ca), _) => ca,
            (None, Some(directory)) => {
                joined(spawn_blocking(move || TestCa::open_or_create(&directory))).await?
            }
            (None, None) => joined(spawn_blocking(TestCa::ephemeral)).await?,
        };
        let ca = ca.with_clock(clock.clone());
        let seal_issuers = trusted(&ca, options.seal_issuers)?;
        let key = |name: &'static str| {
            let ca = ca.clone();
            spawn_blocking(move || IssuerKey::generate(&ca, name))
        };
        let (first, second) = (key("Segl Sandbox fake Maskinporten"), key("Segl Sandbox fake Altinn"));
        let (maskinporten_key, altinn_key) = (joined(first).await?, joined(second).await?);

        options.clients.check(&options.knobs)?;
        let world = Arc::new(World {
            issuer: reach.address(Authority::Maskinporten, &maskinporten)? + "/",
            customs: reach.address(Authority::Customs, &customs)?,
            altinn: reach.address(Authority::Altinn, &altinn)?,
            timeline: Timeline::new(clock.now(), options.faults)?,
            clock,
            ca,
            seal_issuers,
            maskinporten_key,
            altinn_key,
            registry: Registry::new(options.clients),
            journal: Default::default(),
            knobs: RwLock::new(options.knobs),
            replay: Default::default(),
            customs_tokens: Default::default(),
            counting: Default::default(),
            gates: Default::default(),
            stop: CancellationToken::new(),
        });
        let tracker = TaskTracker::new();
        for (authority, listener, router) in [
            (Authority::Maskinporten, maskinporten, maskinporten::router()),
            (Authority::Customs, customs, customs::router()),
            (Authority::Altinn, altinn, altinn::router()),
        ] {
            server::serve(authority, listener, router, &world, &tracker);
        }
        let management = match management {
            Some((listener, address)) => {
                server::serve_as_it_is(listener, management::router(&world), &world, &tracker);
                Some(address)
            }
            None => None,
        };
        tracker.close();
        Ok(Self { world, tracker, is_open: reach.host.is_some(), management })
    }

    /// Maskinporten's issuer, and thereby the `aud` of grants: ends in a slash.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.world.issuer
    }

    /// Base address of Customs, without a final slash.
    #[must_use]
    pub fn customs(&self) -> &str {
        &self.world.customs
    }

    /// Base address of Altinn, without a final slash.
    #[must_use]
    pub fn altinn(&self) -> &str {
        &self.world.altinn
    }

    /// Address of the management interface, when there is one.
    #[must_use]
    pub fn management(&self) -> Option<String> {
        self.management.map(|address| format!("http://{address}"))
    }

    /// What was bad about the clients' manners so far.
    #[must_use]
    pub fn manners(&self) -> Vec<Lapse> {
        locked(&self.world.journal).lapses()
    }

    /// The test CA whose certificates this sandbox takes.
    #[must_use]
    pub fn ca(&self) -> &TestCa {
        &self.world.ca
    }

    /// What must be said loudly before anything else: the sandbox can be reached from other machines. `None`
    /// on loopback.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        self.is_open.then_some(
            "WARNING: this sandbox can be reached from other machines. It is fake: it gives tokens to anybody \
             who can reach it, over plain http. Never let anything of value trust it.",
        )
    }

    /// What happened at each endpoint so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.world.counting.snapshot()
    }

    /// Waits until the counters are as `reached` wants them, and returns them. A request counts as a hit when
    /// it arrives, also while it is [held](Self::hold).
    pub fn wait_until<F>(&self, reached: F) -> impl Future<Output = Counters> + Send + use<F>
    where
        F: FnMut(&Counters) -> bool + Send,
    {
        self.world.counting.until(reached)
    }

    /// How the authorities answer now.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        self.world.knobs()
    }

    /// Changes how the authorities answer from the next request on.
    pub fn turn(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.world.knobs.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets `authority` answer 503 to everything, or work again.
    pub fn set_outage(&self, authority: Authority, outage: bool) {
        self.world.gates.of(authority).send_modify(|gate| gate.outage = outage);
    }

    /// Lets Maskinporten's metadata document answer 503 while its token endpoint works, or work again.
    pub fn set_metadata_outage(&self, outage: bool) {
        self.world.gates.metadata.send_modify(|gate| gate.outage = outage);
    }

    /// Holds all requests to `authority` back until the returned guard is dropped.
    #[must_use]
    pub fn hold(&self, authority: Authority) -> Held {
        self.world.gates.of(authority).send_modify(|gate| gate.holders += 1);
        Held { world: self.world.clone(), authority }
    }

    /// Registers an RSA public key (DER SubjectPublicKeyInfo) on a client, as one does in Samarbeidsportalen.
    /// A key of the same name is replaced. Maskinporten knows of it after [`Knobs::propagation_delay`].
    ///
    /// # Errors
    /// [`Error::Key`] when there is no such client, or it cannot have this key.
    pub fn register_key(&self, client_id: &str, kid: &str, spki: &[u8]) -> Result<(), Error> {
        self.register(client_id, kid, spki, None)
    }

    /// As [`register_key`](Self::register_key), with the end of the key's life in seconds since 1970.
    ///
    /// # Errors
    /// As [`register_key`](Self::register_key).
    pub fn register_key_until(
        &self,
        client_id: &str,
        kid: &str,
        spki: &[u8],
        expires: u64,
    ) -> Result<(), Error> {
        self.register(client_id, kid, spki, Some(expires))
    }

    /// Ends the sandbox: cuts its connections, and returns when all its tasks have ended and its ports are
    /// free.
    pub async fn shutdown(self) {
        self.world.stop.cancel();
        self.tracker.wait().await;
    }

    fn register(&self, client_id: &str, kid: &str, spki: &[u8], expires: Option<u64>) -> Result<(), Error> {
        let key = RsaPublicKey::from_spki(spki).map_err(|_| Error::Key("it is no RSA public key"))?;
        let key = RegisteredKey::new(kid, key, None, expires).map_err(|refusal| Error::Key(refusal.0))?;
        let change = |clients: &mut Clients| clients.register(client_id, key);
        self.world.registry.change(self.world.now(), &self.world.knobs(), change)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.world.stop.cancel();
    }
}

/// While it lives, an authority does not answer. See [`Sandbox::hold`].
#[derive(Debug)]
pub struct Held {
    world: Arc<World>,
    authority: Authority,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.world.gates.of(self.authority).send_modify(|gate| gate.holders = gate.holders.saturating_sub(1));
    }
}

/// The issuers of eSeals on the sandbox's own trusted list: the test CA's, and those that the user names.
fn trusted(ca: &TestCa, named: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Error> {
    for der in &named {
        let parsed = X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty());
        let (_, certificate) = parsed.ok_or(Error::SealIssuer("is no certificate"))?;
        if !certificate.is_ca() {
            return Err(Error::SealIssuer("is not a certification authority's certificate"));
        }
        if production::real_issuer(der).is_some() {
            return Err(Error::SealIssuer("is a real one of Norwegian certificates"));
        }
    }
    Ok([vec![ca.seal_issuing().to_vec()], named].concat())
}

async fn joined<T>(task: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    // A task ends without a result only when the runtime is shut down around it.
    task.await.unwrap_or(Err(Error::Crypto("make its keys before the runtime ended")))
}
