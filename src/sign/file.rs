//! A private key in a file: for development, for test environments, and for those whose certificate came as `.p12`.
//!
//! The file is read when the key is first needed and never again: a key that has been replaced is used after a
//! restart.

mod access;
mod content;
#[cfg(test)]
mod encoded;
mod format;
mod jwk;
mod rsa;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use secrecy::{ExposeSecret, SecretString};
use tokio::task::{JoinError, spawn_blocking};
use zeroize::zeroize_stack;

use self::{
    content::{KeyFile, Refusal},
    rsa::mechanism,
};
use super::{Error, Health, Key, MakeMessage, PinProblem, Signed, Signer, last_trouble::LastTrouble};
use crate::{
    call::Call,
    certificate::{Certificate, Chain},
    clock::{BoxFuture, Clock},
    jose::Algorithm,
};

/// Where the password of an encrypted file comes from. Asked for only when the file is encrypted, on a thread that may
/// wait for a person; `Ok(None)` says that there is no password, `Err` why it cannot be had.
pub type Password = Arc<dyn Fn() -> Result<Option<SecretString>, String> + Send + Sync>;

/// Signs with an RSA key from a file: PKCS#8 (RFC 5958, encrypted or not) and PKCS#1 (RFC 8017) as PEM or DER, PKCS#12
/// (RFC 7292), or a private JWK (RFC 7517).
///
/// The file must belong to root or to the user who runs the program, and nobody else may have any right to it.
pub struct FileSigner {
    shared: Arc<Shared>,
    further: Vec<Certificate>,
}

struct Shared {
    place: Place,
    algorithm: Algorithm,
    password: Password,
    clock: Arc<dyn Clock>,
    loaded: OnceLock<Arc<KeyFile>>,
    /// Held by whoever reads the file, so that a person is asked for the password once.
    reading: Arc<tokio::sync::Mutex<()>>,
    signatures: AtomicU64,
    trouble: LastTrouble,
}

/// Where the key stands.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// A private JWK in memory: silent in `Debug`.
    Memory(SecretString),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Memory(_) => f.write_str("the private JWK from the environment"),
        }
    }
}

/// How much of the stack is wiped after a file was read: ciphers leave blocks of the key there.
const STACK: usize = 128 * 1024;

/// The file is read once, so there is one generation of its key.
const GENERATION: u64 = 1;

impl FileSigner {
    /// A signer for the key in `path`; touches nothing.
    #[must_use]
    pub fn new(
        path: impl Into<PathBuf>,
        algorithm: Algorithm,
        password: Password,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::at(Place::File(path.into()), algorithm, password, clock)
    }

    /// A signer for a private JWK (RFC 7517) that stood in an environment variable: for sidecars. Any process of the
    /// same user can read such a key; a device or a file serves better.
    #[must_use]
    pub fn from_jwk(jwk: SecretString, algorithm: Algorithm, clock: Arc<dyn Clock>) -> Self {
        Self::at(Place::Memory(jwk), algorithm, Arc::new(|| Ok(None)), clock)
    }

    fn at(place: Place, algorithm: Algorithm, password: Password, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            place,
            algorithm,
            password,
            clock,
            loaded: OnceLock::new(),
            reading: Arc::default(),
            signatures: AtomicU64::new(0),
            trouble: LastTrouble::default(),
        };
        Self { shared: Arc::new(shared), further: Vec::new() }
    }

    /// Certificates from elsewhere that [`chain`](Signer::chain) may use besides those in the file.
    #[must_use]
    pub fn with_certificates(mut self, certificates: Vec<Certificate>) -> Self {
        self.further.extend(certificates);
        self
    }

    /// The `kid` that a JWK says to have; other formats have none.
    ///
    /// # Errors
    /// Those of [`Signer::key`].
    pub async fn key_id(&self, call: &Call) -> Result<Option<String>, Error> {
        Ok(self.loaded(call).await?.key_id.clone())
    }

    async fn loaded(&self, call: &Call) -> Result<Arc<KeyFile>, Error> {
        if let Some(loaded) = self.shared.loaded.get() {
            return Ok(loaded.clone());
        }
        if mechanism(self.shared.algorithm).is_none() {
            return Err(Error::Algorithm(self.shared.algorithm));
        }
        let turn = self.before_deadline(call, self.shared.reading.clone().lock_owned()).await?;
        let shared = self.shared.clone();
        // The task outlives its caller: what a person has typed for one who went away serves the next.
        let reading = spawn_blocking(move || {
            let _turn = turn;
            let loaded = shared.load();
            zeroize_stack::<STACK>();
            loaded
        });
        self.before_deadline(call, reading).await?.unwrap_or_else(|ended| {
            Err(if ended.is_cancelled() { Error::Closed } else { self.shared.defeated() })
        })
    }

    async fn signed(&self, call: &Call, make: MakeMessage) -> Result<Signed, Error> {
        let loaded = self.loaded(call).await?;
        let shared = self.shared.clone();
        let deadline = call.clone();
        let signing = spawn_blocking(move || {
            if deadline.is_over(shared.clock.as_ref()) {
                return Err(Error::Deadline);
            }
            let message = make();
            let signature = shared.signature(&loaded, &message)?;
            Ok(Signed { message, signature, generation: GENERATION })
        });
        self.before_deadline(call, signing).await?.unwrap_or_else(|ended| Err(after(ended)))
    }

    async fn before_deadline<T>(&self, call: &Call, work: impl Future<Output = T>) -> Result<T, Error> {
        if call.is_over(self.shared.clock.as_ref()) {
            return Err(Error::Deadline);
        }
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.shared.clock.sleep_until(call.deadline()) => Err(Error::Deadline),
        }
    }

    /// Does `work` and remembers how it went.
    async fn noted<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.shared.trouble.watch(&*self.shared.clock, work).await
    }
}

impl fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSigner")
            .field("place", &self.shared.place.to_string())
            .field("algorithm", &self.shared.algorithm)
            .finish_non_exhaustive()
    }
}

impl Signer for FileSigner {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        Box::pin(async move {
            let loaded = self.noted(self.loaded(call)).await?;
            Ok(Key {
                algorithm: self.shared.algorithm,
                public_key: loaded.rsa.public_key().clone(),
                generation: GENERATION,
                device: None,
            })
        })
    }

    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        Box::pin(self.noted(self.signed(call, make)))
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(async move {
            let loaded = self.loaded(call).await?;
            let mut pool = loaded
                .certificates
                .clone()
                .map_err(|why| self.shared.file_error(why.to_string(), why.remedy()))?;
            pool.extend_from_slice(&self.further);
            if pool.is_empty() {
                return Err(self
                    .shared
                    .file_error("there is no certificate beside the key", WHERE_TO_PUT_IT));
            }
            Chain::assemble(loaded.rsa.public_key(), pool, self.shared.clock.wall())
                .map_err(|why| Error::Certificate(why.to_string()))
        })
    }

    fn health(&self) -> Health {
        Health {
            signatures: self.shared.signatures.load(Ordering::Relaxed),
            trouble: self.shared.trouble.lasting(&Health::default()),
            ..Health::default()
        }
    }
}

const WHERE_TO_PUT_IT: &str = "Put the certificate and its issuers behind the key in the same PEM file, use the \
    issuer's .p12, or name a PEM file with chain = \"PATH\" on the signer.";

impl Shared {
    /// Never within its caller, which wipes the stack that it used.
    #[inline(never)]
    fn load(&self) -> Result<Arc<KeyFile>, Error> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded.clone());
        }
        let loaded = match &self.place {
            Place::File(path) => format::read(&access::read(path)?, self.algorithm, &*self.password),
            Place::Memory(jwk) => {
                format::read(jwk.expose_secret().as_bytes(), self.algorithm, &*self.password)
            }
        };
        let loaded = loaded.map_err(|refusal| self.error_of(refusal))?;
        Ok(self.loaded.get_or_init(|| Arc::new(loaded)).clone())
    }

    fn signature(&self, loaded: &KeyFile, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mechanism = mechanism(self.algorithm).ok_or(Error::Algorithm(self.algorithm))?;
        let signature = loaded.rsa.sign(mechanism, message).ok_or(Error::WrongSignature)?;
        self.signatures.fetch_add(1, Ordering::Relaxed);
        Ok(signature)
    }

    fn error_of(&self, refusal: Refusal) -> Error {
        let shown = || self.place.to_string();
        match refusal {
            Refusal::File { problem, remedy } => self.file_error(problem, remedy),
            Refusal::Key { reason } => Error::UnusableKey { key: shown(), reason },
            Refusal::Keys { candidates } => {
                Error::Ambiguous { sought: super::Sought::Key, uri: format!("file:{}", shown()), candidates }
            }
            Refusal::NoPassword => Error::Pin { device: shown(), problem: PinProblem::Missing },
            Refusal::PasswordSource { reason } => {
                Error::Pin { device: shown(), problem: PinProblem::Source(reason) }
            }
            Refusal::WrongPassword => Error::Pin {
                device: shown(),
                problem: PinProblem::Refused("the password does not open the file".into()),
            },
        }
    }

    fn file_error(&self, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::File { path: self.place.to_string(), problem: problem.into(), remedy: remedy.into() }
    }

    /// For a file that its reader could not stomach.
    fn defeated(&self) -> Error {
        self.file_error(
            "the file is damaged in a way that its reader does not survive",
            "Export the key anew from where it came.",
        )
    }
}

fn after(ended: JoinError) -> Error {
    match ended.try_into_panic() {
        // Only the caller's own maker can have panicked: it is the caller's panic.
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::Closed,
    }
}

#[cfg(test)]
mod tests;
