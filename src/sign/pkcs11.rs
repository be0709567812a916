//! Keys in PKCS#11 devices: smart cards, USB tokens, network HSMs, SoftHSM.
//!
//! ```text
//!   Pkcs11Signer ─┐                    ┌─ lanes ─▶ owner ─▶ calls ─▶ library     (threads of this process)
//!   Device ───────┼─ job ─▶ queue ─────┤
//!   Modules ──────┘        (bounded)   └─ host ══▶ lanes ─▶ owner ─▶ calls ─▶ library      (one of its own)
//! ```
//!
//! A PKCS#11 library is shared state of the whole process, its calls block, many are not thread-safe, and some crash or
//! hang. So nobody calls one directly: jobs are plain data, and cross a thread or the border of a process alike. What
//! differs from one kind of device to another stands in its [`Profile`], in `hsm-profiles/`.

mod authenticate;
mod breaker;
mod calls;
mod code;
mod delete;
mod describe;
mod detail;
mod ec;
mod find;
mod guard;
mod holders;
mod host;
mod installed;
mod job;
mod key;
mod ladder;
mod lane;
mod login;
mod manner;
mod mechanism;
mod modules;
mod object;
mod owner;
mod pairing;
pub mod profile;
mod provision;
mod queue;
mod session;
mod trial;
mod uri;

#[doc(hidden)]
pub use self::{calls::attribute_values, host::host_says};
pub use self::{
    code::{return_value_name, return_values},
    guard::{KeptRecord, MOST_SPENT, PinFlags, PinRecord, PinRecords, Standing, TriedBy},
    holders::{Holder, holders, may_be_held},
    host::{HostProgram, module_host},
    installed::{Installed, NamedBy, check_trust},
    job::{
        CertificateDescription, DeviceDescription, Doomed, KeyDescription, KeyPair, LibraryDescription,
        MechanismDescription, ModuleDescription, NewCertificate, NewKeyPair, PinState, Problem,
        SessionCounts, SessionLimit, SlotDescription, StoredCertificate,
    },
    login::{Login, Pin, PinAnswer, PinRequest},
    manner::Manner,
    modules::Modules,
    profile::{Confidence, Profile, Profiles, library_for},
    trial::{FormOutcome, ListedMechanism, MechanismUse, Pace, Particulars, Renewal, TriedForm, TriedKey},
    uri::{ObjectKind, Thumbprint, Uri},
};

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::ParsedPublicKey;

use self::{
    job::{Answer, FoundKey, Job, KeyQuery},
    modules::{Module, mismatched},
};
use crate::{
    call::Call,
    certificate::{Certificate, Chain},
    clock::{BoxFuture, Instant},
    jose::{Algorithm, RsaPublicKey},
    sign::{Error, Health, Key, MakeMessage, Outage, Signed, Signer, verify},
};

/// One PKCS#11 device, by URI, and what may be done to it besides signing. Making one touches nothing.
#[derive(Debug)]
pub struct Device {
    modules: Arc<Modules>,
    uri: Uri,
    profile: Option<String>,
    pin: Option<Pin>,
    module: OnceLock<Arc<Module>>,
}

impl Device {
    /// The device that `uri` names, in the library that [`Profiles::library_for`] finds when it is first needed.
    #[must_use]
    pub fn new(modules: Arc<Modules>, uri: Uri, profile: Option<String>, pin: Option<Pin>) -> Self {
        Self { modules, uri, profile, pin, module: OnceLock::new() }
    }

    /// As it was named.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Where its PINs come from.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// What is known of its library.
    ///
    /// # Errors
    /// [`Error::Module`] when there is no such library.
    pub fn profile(&self) -> Result<Arc<Profile>, Error> {
        Ok(self.module()?.profile.clone())
    }

    /// What the device's library shows to anybody, without a login.
    ///
    /// # Errors
    /// Those of [`Modules::describe`].
    pub async fn describe_as_found(&self, call: &Call) -> Result<ModuleDescription, Error> {
        self.describe_as(Job::Describe { login: None, whole: false }, call).await
    }

    /// All that the device's library shows, logged in to this device.
    ///
    /// # Errors
    /// Those of [`Modules::describe`].
    pub async fn describe(&self, call: &Call) -> Result<ModuleDescription, Error> {
        self.describe_as(Job::Describe { login: Some(self.uri.device()), whole: false }, call).await
    }

    /// The same with mechanisms and all attributes, which takes many more calls.
    ///
    /// # Errors
    /// Those of [`Modules::describe`].
    pub async fn inspect(&self, call: &Call) -> Result<ModuleDescription, Error> {
        self.describe_as(Job::Describe { login: Some(self.uri.device()), whole: true }, call).await
    }

    async fn describe_as(&self, job: Job, call: &Call) -> Result<ModuleDescription, Error> {
        match self.ask(call, job, None).await? {
            Answer::Description(description) => Ok(*description),
            other => Err(mismatched(&other)),
        }
    }

    /// Generates an RSA key pair inside the device: sensitive, not extractable, for signing only.
    ///
    /// # Errors
    /// [`Error::Taken`] when a key has the label or the `CKA_ID` already, [`Error::UnusableKey`] when the pair cannot be
    /// made as it should be; otherwise what the device says.
    pub async fn generate_key_pair(&self, pair: NewKeyPair, call: &Call) -> Result<KeyPair, Error> {
        match self.ask(call, Job::Generate { device: self.uri.device(), pair }, None).await? {
            Answer::Generated(pair) => Ok(*pair),
            other => Err(mismatched(&other)),
        }
    }

    /// Stores a certificate beside the key that it certifies, or by itself when that key is not here. One that is
    /// there already is left as it is.
    ///
    /// # Errors
    /// [`Error::Certificate`] when it cannot be read; otherwise what the device says.
    pub async fn store_certificate(
        &self,
        certificate: NewCertificate,
        call: &Call,
    ) -> Result<StoredCertificate, Error> {
        match self.ask(call, Job::Store { device: self.uri.device(), certificate }, None).await? {
            Answer::Stored(certificate) => Ok(*certificate),
            other => Err(mismatched(&other)),
        }
    }

    /// Deletes what is `doomed`, for good: certificates first, then the private half of the key, then the public one.
    /// Returns how many objects are gone.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when several private keys look like the doomed one, [`Error::NotFound`] when something is
    /// not there any more; then nothing has been deleted. Otherwise what the device says.
    pub async fn delete(&self, doomed: Doomed, call: &Call) -> Result<u64, Error> {
        match self.ask(call, Job::Delete { device: self.uri.device(), doomed }, None).await? {
            Answer::Deleted(gone) => Ok(gone),
            other => Err(mismatched(&other)),
        }
    }

    /// DER of every certificate on the device, in its order.
    ///
    /// # Errors
    /// What the device says.
    pub async fn certificates(&self, call: &Call) -> Result<Vec<Vec<u8>>, Error> {
        match self.ask(call, Job::Certificates(self.uri.device()), None).await? {
            Answer::Certificates(certificates) => Ok(certificates),
            other => Err(mismatched(&other)),
        }
    }

    async fn ask(&self, call: &Call, job: Job, make: Option<MakeMessage>) -> Result<Answer, Error> {
        self.module()?.ask(call, job, make, self.pin.clone()).await
    }

    /// What is away of it: the library, the device.
    fn outages(&self) -> Vec<Outage> {
        self.module.get().map(|module| module.outages(&Some(self.uri.device()))).unwrap_or_default()
    }

    /// When what was away of it was last found to be back.
    fn answered(&self) -> Option<Instant> {
        self.module.get()?.answered(&Some(self.uri.device()))
    }

    /// The library, once it is there.
    fn module(&self) -> Result<&Arc<Module>, Error> {
        if let Some(module) = self.module.get() {
            return Ok(module);
        }
        let profile = self.profile.as_deref();
        let library = self.modules.profiles().library_for(&self.uri, profile)?;
        let module = self.modules.module(&library, profile.or(self.uri.module_name()))?;
        Ok(self.module.get_or_init(|| module))
    }
}

/// A key that was found, made ready to verify what it signs.
#[derive(Clone)]
struct Found {
    key: Key,
    verifier: Arc<ParsedPublicKey>,
}

/// Signs with a key that lives in a PKCS#11 device.
pub struct Pkcs11Signer {
    device: Device,
    further: Vec<Certificate>,
    query: Arc<KeyQuery>,
    /// Whether signatures are verified before they leave; off only to measure what that costs.
    verify: bool,
    key: Mutex<Option<Found>>,
    signatures: AtomicU64,
    trouble: Mutex<Option<(Error, Instant)>>,
}

impl fmt::Debug for Pkcs11Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Signer").field("uri", &self.query.uri.to_string()).finish_non_exhaustive()
    }
}

impl Pkcs11Signer {
    /// A signer for the one private key on `device` that the device's URI names (`object`, `id`; without them, the
    /// only one there). Touches nothing.
    ///
    /// # Errors
    /// [`Error::Uri`] when the URI names something else than a private key, [`Error::Algorithm`] for algorithms that
    /// Maskinporten does not take.
    pub fn new(device: Device, algorithm: Algorithm) -> Result<Self, Error> {
        if !algorithm.accepted_by_maskinporten() {
            return Err(Error::Algorithm(algorithm));
        }
        if device.uri.kind().is_some_and(|kind| kind != ObjectKind::Private) {
            return Err(Error::Uri {
                uri: device.uri.to_string(),
                problem: "only type=private can sign; leave type out".into(),
            });
        }
        let query = Arc::new(KeyQuery { uri: device.uri.clone(), algorithm });
        Ok(Self {
            device,
            further: Vec::new(),
            query,
            verify: true,
            key: Mutex::default(),
            signatures: AtomicU64::new(0),
            trouble: Mutex::default(),
        })
    }

    /// Certificates from elsewhere that [`chain`](Signer::chain) may use besides those on the device.
    #[must_use]
    pub fn with_certificates(mut self, certificates: Vec<Certificate>) -> Self {
        self.further.extend(certificates);
        self
    }

    /// Lets signatures out unverified: only to measure what verifying costs.
    #[doc(hidden)]
    #[must_use]
    pub fn without_verification(mut self) -> Self {
        self.verify = false;
        self
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    async fn find(&self, call: &Call) -> Result<Found, Error> {
        let module = self.device.module()?;
        if let Some(found) = self.found(module.generation()) {
            return Ok(found);
        }
        match self.device.ask(call, Job::Find(self.query.clone()), None).await? {
            Answer::Key(found) => self.remember(found),
            other => Err(mismatched(&other)),
        }
    }

    fn remember(&self, found: FoundKey) -> Result<Found, Error> {
        let algorithm = self.query.algorithm;
        let public_key = RsaPublicKey::from_spki(&found.spki)
            .map_err(|why| Error::UnusableKey { key: self.query.uri.to_string(), reason: why.to_string() })?;
        let verifier = Arc::new(verify::verifier(algorithm, &found.spki)?);
        let (generation, device) = (found.generation, Some(found.device));
        let found = Found { key: Key { algorithm, public_key, generation, device }, verifier };
        *lock(&self.key) = Some(found.clone());
        Ok(found)
    }

    /// The key, if it was found in this generation of the library.
    fn found(&self, generation: u64) -> Option<Found> {
        lock(&self.key).as_ref().filter(|found| found.key.generation == generation).cloned()
    }

    /// A signature leaves only when it verifies with the key that was found; the library that made it, or the process
    /// that the library runs in, is not taken at its word.
    async fn sign_verified(&self, call: &Call, make: MakeMessage) -> Result<Signed, Error> {
        let made = match self.device.ask(call, Job::Sign(self.query.clone()), Some(make)).await? {
            Answer::Signature(made) => made,
            other => return Err(mismatched(&other)),
        };
        let generation = made.key.generation;
        // The library may have been initialized anew meanwhile; then the key was found anew, too.
        let found = match self.found(generation) {
            Some(found) => found,
            // A generation never comes back; a process that says so is not to be trusted with another key.
            None if lock(&self.key).as_ref().is_some_and(|known| known.key.generation > generation) => {
                return Err(Error::KeyChanged);
            }
            None => self.remember(made.key)?,
        };
        if self.verify && found.verifier.verify_sig(&made.message, &made.signature).is_err() {
            return Err(Error::WrongSignature);
        }
        self.signatures.fetch_add(1, Ordering::Relaxed);
        Ok(Signed { message: made.message, signature: made.signature, generation })
    }

    async fn read_chain(&self, call: &Call) -> Result<Chain, Error> {
        let key = self.find(call).await?.key;
        let certificates = self.device.certificates(call).await?;
        // One that cannot be read is none of ours; devices hold all sorts of things.
        let on_device = certificates.iter().filter_map(|der| Certificate::from_der(der).ok());
        let pool: Vec<Certificate> = on_device.chain(self.further.iter().cloned()).collect();
        let now = self.device.modules.clock().wall();
        Chain::assemble(&key.public_key, pool, now).map_err(|why| Error::Certificate(why.to_string()))
    }

    /// Remembers how it went.
    fn noted<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        let mut trouble = lock(&self.trouble);
        match &outcome {
            Ok(_) => *trouble = None,
            // A program that ends says nothing of the device.
            Err(Error::Closed) => {}
            Err(error) => *trouble = Some((error.clone(), self.device.modules.clock().now())),
        }
        outcome
    }
}

impl Signer for Pkcs11Signer {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        Box::pin(async move { self.noted(self.find(call).await.map(|found| found.key)) })
    }

    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        Box::pin(async move { self.noted(self.sign_verified(call, make).await) })
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(async move { self.noted(self.read_chain(call).await) })
    }

    fn health(&self) -> Health {
        let health = Health {
            signatures: self.signatures.load(Ordering::Relaxed),
            away: self.device.outages(),
            answered: self.device.answered(),
            ..Health::default()
        };
        let trouble = lock(&self.trouble).clone();
        // It may have come back while nobody asked.
        let trouble = trouble.filter(|(error, heard)| !health.has_ended(error, *heard));
        Health { trouble: trouble.map(|(error, _)| error), ..health }
    }

    fn pauses(&self) -> (Duration, Duration) {
        let module = self.device.module.get();
        module.map_or_else(|| profile::Errors::default().pauses(), |module| module.profile.errors.pauses())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
