//! Signatures. What a key is, who holds it, and the proof that it is the one the authority knows.
//!
//! ```text
//!   Identity (kid | certificate) ─┐
//!                                 ├─ Credential ── prove ──▶ Proven ──▶ grant
//!   Signer (device | file) ───────┘
//! ```
//!
//! A [`Signer`] is handed a *maker* of the message, not a message: the maker runs once, when the device's turn has
//! come, so that `iat` does not age in a queue.

mod error;
mod eseal;
mod failover;
mod file;
mod last_trouble;
mod outage;
pub mod pkcs11;
mod verify;
mod watched;

pub use self::{
    error::{Error, Fault, PinProblem, Retry, Sought},
    eseal::EsealSigner,
    failover::Failover,
    file::{FileSigner, Password},
    outage::Outage,
    pkcs11::Pkcs11Signer,
    watched::Watched,
};

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use crate::{
    call::Call,
    certificate::Chain,
    clock::{BoxFuture, Instant},
    jose::{Algorithm, Header, KeyReference, RsaPublicKey},
};

/// A signer's key, as far as the world may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What it signs with.
    pub algorithm: Algorithm,
    /// The public half.
    pub public_key: RsaPublicKey,
    /// Another one each time the signer found its key anew (a device that came back, a file read again): a proof made
    /// for one generation is repeated for the next. Two keys of one signer never have the same.
    pub generation: u64,
    /// The device that holds it, as `label (serial)`; `None` for files.
    pub device: Option<String>,
}

/// Makes the message to be signed. Called at most once, when the device's turn has come; it must not wait for anything.
pub type MakeMessage = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// A message and its signature.
#[derive(Clone)]
pub struct Signed {
    /// What [`MakeMessage`] returned.
    pub message: Vec<u8>,
    /// JOSE-encoded signature (RFC 7518 section 3.3: PKCS#1 v1.5 as it is), verified with the public key.
    pub signature: Vec<u8>,
    /// Generation of the key that signed.
    pub generation: u64,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Message and signature together are an assertion: a credential for two minutes.
        f.debug_struct("Signed").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// What a signer can say of itself without touching its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Signatures made since the start.
    pub signatures: u64,
    /// What went wrong last, when nothing has gone right since.
    pub trouble: Option<Error>,
    /// When it last made a signature, or showed a key that had not been seen before. Only a [`Watched`] signer knows.
    pub last_success: Option<SystemTime>,
    /// When the trouble began that keeps it from signing. Only a [`Watched`] signer knows.
    pub trouble_since: Option<SystemTime>,
    /// What failed again and again and is left alone for a while: devices, libraries, members of a
    /// [`Failover`]. Empty when nothing is away.
    pub away: Vec<Outage>,
    /// Whether nothing of it would be asked for a signature now. Of several devices one that would be is enough, whatever
    /// the others do.
    pub all_away: bool,
    /// When a device that was away was last found to be back, whether or not anybody has asked it for anything since.
    pub answered: Option<Instant>,
}

impl Health {
    /// Whether trouble that was heard of at `heard` is over though nothing has been signed since: what was away is back,
    /// or of several devices one that can sign.
    pub(crate) fn has_ended(&self, trouble: &Error, heard: Instant) -> bool {
        let has_answered = self.answered.is_some_and(|answered| answered > heard);
        let is_over = matches!(trouble, Error::Away(_)) || (trouble.kind() == Fault::Device && has_answered);
        is_over && !self.all_away
    }
}

/// Makes signatures with one private key.
///
/// Constructing one touches neither device nor file: the key is asked for when it is first needed and remembered.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The key, asked of the device when it is first there.
    ///
    /// # Errors
    /// [`Error`] when device or key cannot be had within the call's deadline.
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>>;

    /// Signs what `make` makes. A signature that does not verify with the public key is never returned.
    ///
    /// # Errors
    /// [`Error`] when there is no signature within the call's deadline; `make` may or may not have run.
    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>>;

    /// The certificates that stand beside the key, chained by verified signatures, leaf first, as far as they go.
    ///
    /// # Errors
    /// [`Error`] when the device cannot be had, or no certificate of this key is there.
    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>>;

    /// A snapshot; touches nothing.
    fn health(&self) -> Health;

    /// How long it is left alone when it failed: at first, and at most. Touches nothing.
    fn pauses(&self) -> (Duration, Duration) {
        pkcs11::profile::Errors::default().pauses()
    }

    /// Whether this signer has more than one key, so that a `kid`, which names one, cannot stand for it. As far as it is
    /// known; touches nothing.
    fn has_several_keys(&self) -> bool {
        false
    }
}

/// Who we are at the authority.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Identity {
    /// By a key that is registered on the client under this `kid`.
    KeyId(String),
    /// By the certificate of a Norwegian organisation. Its issuers go along as far as they are there; the authority
    /// knows their roots.
    Certificate(CertificateSource),
    /// By a European eSeal. Its chain goes whole, with the root.
    Eseal(CertificateSource),
}

/// Where a certificate chain comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CertificateSource {
    /// It stands beside the key; read when the key is first there.
    Beside,
    /// It was read from a file.
    Given(Chain),
}

/// An identity and the signer that is said to hold its key. Nothing has been touched or compared yet.
pub struct Credential {
    identity: Identity,
    signer: Arc<dyn Signer>,
    proof: RwLock<Option<Proven>>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("signer", &self.signer).finish_non_exhaustive()
    }
}

impl Credential {
    /// Puts the two together; touches nothing.
    #[must_use]
    pub fn new(identity: Identity, signer: Arc<dyn Signer>) -> Self {
        Self { identity, signer, proof: RwLock::new(None) }
    }

    /// The signer.
    #[must_use]
    pub fn signer(&self) -> &Arc<dyn Signer> {
        &self.signer
    }

    /// Compares the identity's key with the signer's. The proof is remembered for the key's generation and made
    /// again after a reconnection. A `kid` says nothing about the key it names, so there is nothing to compare.
    ///
    /// # Errors
    /// [`Error`] when the key cannot be had, is none that Maskinporten takes, or is not the certificate's.
    pub async fn prove(&self, call: &Call) -> Result<Proven, Error> {
        let key = self.signer.key(call).await?;
        if matches!(self.identity, Identity::KeyId(_)) && self.signer.has_several_keys() {
            return Err(Error::SeveralKeys { reason: "a kid names one key".into() });
        }
        if let Some(proven) = self.remembered(key.generation) {
            return Ok(proven);
        }
        if !key.algorithm.accepted_by_maskinporten() {
            return Err(Error::Algorithm(key.algorithm));
        }
        if key.public_key.bits() < 2048 {
            return Err(Error::UnusableKey {
                key: key.device.clone().unwrap_or_else(|| "in the file".into()),
                reason: format!("it has {} bits; Maskinporten wants 2048 or more", key.public_key.bits()),
            });
        }
        let (reference, chain) = match &self.identity {
            Identity::KeyId(kid) => (KeyReference::Kid(kid.clone()), None),
            Identity::Certificate(source) | Identity::Eseal(source) => {
                let chain = match source {
                    CertificateSource::Beside => self.signer.chain(call).await?,
                    CertificateSource::Given(chain) => chain.clone(),
                };
                let certified =
                    chain.leaf().public_key().map_err(|why| Error::Certificate(why.to_string()))?;
                if certified != key.public_key {
                    if matches!(source, CertificateSource::Beside) && self.signer.has_several_keys() {
                        // Between the two questions another device's turn came.
                        return Err(Error::KeyChanged);
                    }
                    return Err(Error::Mismatch {
                        certificate: certified.thumbprint(),
                        key: key.public_key.thumbprint(),
                    });
                }
                let is_eseal = matches!(self.identity, Identity::Eseal(_));
                if is_eseal {
                    eseal::check_chain(&chain)?;
                }
                (KeyReference::X5c(chain.to_der(is_eseal)), Some(chain))
            }
        };
        let proven = Proven(Arc::new(Proof {
            thumbprint: key.public_key.thumbprint(),
            header: Header { alg: key.algorithm, key: reference }.encode(),
            identity: self.identity.clone(),
            key,
            chain,
            signer: self.signer.clone(),
        }));
        *self.proof.write().unwrap_or_else(PoisonError::into_inner) = Some(proven.clone());
        Ok(proven)
    }

    fn remembered(&self, generation: u64) -> Option<Proven> {
        let proof = self.proof.read().unwrap_or_else(PoisonError::into_inner);
        proof.as_ref().filter(|proven| proven.0.key.generation == generation).cloned()
    }
}

/// A credential whose key was there and was the right one: the only thing that can make a grant.
#[derive(Clone)]
pub struct Proven(Arc<Proof>);

struct Proof {
    header: String,
    thumbprint: String,
    identity: Identity,
    key: Key,
    chain: Option<Chain>,
    signer: Arc<dyn Signer>,
}

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proven").field("thumbprint", &self.0.thumbprint).finish_non_exhaustive()
    }
}

impl Proven {
    /// The protected header, base64url-encoded once and for all.
    #[must_use]
    pub fn encoded_header(&self) -> &str {
        &self.0.header
    }

    /// RFC 7638 thumbprint of the key.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// The device that holds the key, as `label (serial)`.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.0.key.device.as_deref()
    }

    /// The `kid` that the key is registered under, for identities that have one.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        match &self.0.identity {
            Identity::KeyId(kid) => Some(kid),
            Identity::Certificate(_) | Identity::Eseal(_) => None,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// The certificate chain, for identities that have one.
    #[must_use]
    pub fn chain(&self) -> Option<&Chain> {
        self.0.chain.as_ref()
    }

    /// Signs what `make` makes with the proven key and with no other.
    ///
    /// # Errors
    /// Those of [`Signer::sign`], and [`Error::KeyChanged`] when another key has taken the proven one's place.
    pub async fn sign(&self, call: &Call, make: MakeMessage) -> Result<Signed, Error> {
        let signed = self.0.signer.sign(call, make).await?;
        if signed.generation == self.0.key.generation { Ok(signed) } else { Err(Error::KeyChanged) }
    }
}
