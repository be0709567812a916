//! A key in a device, as a signer: found when it is first needed, and what it signs is verified before it leaves.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::ParsedPublicKey;

use super::{
    Device, ObjectKind,
    job::{Answer, FoundKey, Job, KeyQuery},
    modules::mismatched,
    profile::Errors,
};
use crate::{
    call::Call,
    certificate::{Certificate, Chain},
    clock::BoxFuture,
    jose::{Algorithm, RsaPublicKey},
    sign::{Error, Health, Key, MakeMessage, Signed, Signer, last_trouble::LastTrouble, verify},
};

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
    trouble: LastTrouble,
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
        if device.uri().kind().is_some_and(|kind| kind != ObjectKind::Private) {
            return Err(Error::Uri {
                uri: device.uri().to_string(),
                problem: "only type=private can sign; leave type out".into(),
            });
        }
        let query = Arc::new(KeyQuery { uri: device.uri().clone(), algorithm });
        Ok(Self {
            device,
            further: Vec::new(),
            query,
            verify: true,
            key: Mutex::default(),
            signatures: AtomicU64::new(0),
            trouble: LastTrouble::default(),
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

    /// Does `work` and remembers how it went.
    async fn noted<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.trouble.watch(&**self.device.modules.clock(), work).await
    }
}

impl Signer for Pkcs11Signer {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        Box::pin(self.noted(async move { Ok(self.find(call).await?.key) }))
    }

    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        Box::pin(self.noted(self.sign_verified(call, make)))
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(self.noted(self.read_chain(call)))
    }

    fn health(&self) -> Health {
        let away = self.device.outages();
        let health = Health {
            signatures: self.signatures.load(Ordering::Relaxed),
            all_away: !away.is_empty(),
            away,
            answered: self.device.answered(),
            ..Health::default()
        };
        Health { trouble: self.trouble.lasting(&health), ..health }
    }

    fn pauses(&self) -> (Duration, Duration) {
        let module = self.device.module.get();
        module.map_or_else(|| Errors::default().pauses(), |module| module.profile.errors.pauses())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
