//! The one thread that calls into a library: it alone initializes and finalizes, and it does one job at a time.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cryptoki::{context::Pkcs11, object::ObjectClass};

use super::{
    Pin, Uri,
    code::{is_absent, is_gone},
    discover,
    job::{Answer, FoundKey, Job, KeyQuery, Signature},
    key::SigningKey,
    object, provision,
    queue::{Queue, Ticket},
    session::{Connection, DeviceId, Library, load},
};
use crate::{
    clock::{Clock, Instant},
    sign::{Error, MakeMessage},
};

/// A message made before the device was lost is still signed when the device is back within this time; later, its
/// `iat` is too old to be worth it.
const LONGEST_WAIT_OF_A_MESSAGE: Duration = Duration::from_secs(5);

/// Looking for a device that is not there costs every other device of the library its sessions: not more often
/// than this.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Owns a library. Lives on its own thread, and what the binding gives never leaves it.
pub(super) struct Owner {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    generation: Arc<AtomicU64>,
    loaded: Option<Pkcs11>,
    running: Option<Running>,
    refused: HashSet<DeviceId>,
}

/// What holds from one C_Initialize to the next C_Finalize.
struct Running {
    // Before `library`: keys hold connections, which are to be closed before the library is finalized.
    keys: HashMap<Arc<KeyQuery>, Rc<SigningKey>>,
    library: Library,
}

impl Owner {
    /// Touches nothing yet.
    pub(super) fn new(path: PathBuf, clock: Arc<dyn Clock>, generation: Arc<AtomicU64>) -> Self {
        Self { path, clock, generation, loaded: None, running: None, refused: HashSet::new() }
    }

    /// Does jobs until the queue is closed.
    pub(super) fn run(mut self, queue: &Queue) {
        // However this thread ends, nobody is left waiting for it.
        let _close = CloseOnDrop(queue);
        while let Some(ticket) = queue.take() {
            let Ticket { job, make, pin, deadline, reply } = ticket;
            if reply.is_closed() || self.clock.now() >= deadline {
                let _ = reply.send(Err(Error::Deadline));
                continue;
            }
            let _span = tracing::debug_span!("pkcs11", job = job.name()).entered();
            let answer = self.answer(&job, make, pin.as_ref());
            if let Err(error) = &answer {
                tracing::debug!(job = job.name(), %error, "the job failed");
            }
            let _ = reply.send(answer);
        }
        self.stop();
    }

    fn answer(&mut self, job: &Job, make: Option<MakeMessage>, pin: Option<&Pin>) -> Result<Answer, Error> {
        match (job, make) {
            (Job::Sign(query), Some(make)) => self.sign(query, pin, make),
            (job, _) => self.twice(|owner| owner.attempt(job, pin)),
        }
    }

    /// Does `act`, and once more with the library initialized anew when that may help.
    fn twice<T>(&mut self, mut act: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let fresh = self.running.is_none();
        match act(self) {
            Err(error) if self.may_heal(&error) => {
                self.stop();
                if fresh { Err(error) } else { act(self).inspect_err(|error| self.leave(error)) }
            }
            outcome => outcome,
        }
    }

    fn sign(&mut self, query: &Arc<KeyQuery>, pin: Option<&Pin>, make: MakeMessage) -> Result<Answer, Error> {
        let key = self.twice(|owner| owner.key(query, pin))?;
        let message = make();
        let made = self.clock.now();
        let signature = match self.sign_with(&key, &message) {
            Err(error) if is_gone(&error) => {
                tracing::warn!(%error, "the library is initialized anew");
                drop(key);
                self.stop();
                self.sign_again(query, pin, &message, made).inspect_err(|error| self.leave(error))?
            }
            outcome => outcome?,
        };
        Ok(Answer::Signature(Signature { message, signature, generation: self.generation() }))
    }

    fn sign_again(
        &mut self,
        query: &Arc<KeyQuery>,
        pin: Option<&Pin>,
        message: &[u8],
        made: Instant,
    ) -> Result<Vec<u8>, Error> {
        let key = self.key(query, pin)?;
        if self.clock.now().since(made) > LONGEST_WAIT_OF_A_MESSAGE {
            return Err(Error::KeyChanged);
        }
        self.sign_with(&key, message)
    }

    fn sign_with(&mut self, key: &SigningKey, message: &[u8]) -> Result<Vec<u8>, Error> {
        key.sign(self.running()?.library.context(), message)
    }

    fn attempt(&mut self, job: &Job, pin: Option<&Pin>) -> Result<Answer, Error> {
        match job {
            Job::Find(query) | Job::Sign(query) => {
                let key = self.key(query, pin)?;
                Ok(Answer::Key(FoundKey {
                    spki: key.spki.clone(),
                    generation: self.generation(),
                    device: key.connection.device.name(),
                }))
            }
            Job::Describe { login } => {
                let logged_in = match login {
                    Some(uri) => Some(self.connect(uri, pin)?),
                    None => None,
                };
                let path = self.path.clone();
                let library = &self.running()?.library;
                let description = discover::describe(path, library.context(), logged_in.as_deref())?;
                Ok(Answer::Description(Box::new(description)))
            }
            Job::Certificates(uri) => {
                let connection = self.connect(uri, pin)?;
                discover::certificates(&connection.keeper).map(Answer::Certificates)
            }
            Job::Provide { label } => {
                let context = self.running()?.library.context().clone();
                let provided = provision::provide(&context, label, pin);
                // Libraries number their slots anew when a device has been made.
                self.stop();
                provided.map(|uri| Answer::Provided(Box::new(uri)))
            }
            Job::Generate { device, pair } => {
                let (connection, context) = self.connect_to_write(device, pin)?;
                provision::generate(&context, &connection, pair).map(|pair| Answer::Generated(Box::new(pair)))
            }
            Job::Store { device, certificate } => {
                let (connection, context) = self.connect_to_write(device, pin)?;
                provision::store(&context, &connection, certificate)
                    .map(|stored| Answer::Stored(Box::new(stored)))
            }
        }
    }

    fn key(&mut self, query: &Arc<KeyQuery>, pin: Option<&Pin>) -> Result<Rc<SigningKey>, Error> {
        if let Some(key) = self.running.as_ref().and_then(|running| running.keys.get(query)) {
            return Ok(key.clone());
        }
        let connection = self.connect(&query.uri, pin)?;
        let running = self.running()?;
        let key = Rc::new(SigningKey::find(running.library.context(), connection, query)?);
        running.keys.insert(query.clone(), key.clone());
        Ok(key)
    }

    fn connect_to_write(
        &mut self,
        device: &Uri,
        pin: Option<&Pin>,
    ) -> Result<(Rc<Connection>, Pkcs11), Error> {
        let connection = self.connect(device, pin)?;
        // The cheapest question that a lost device cannot answer, asked before anything is written.
        object::matching(&connection.keeper, ObjectClass::PRIVATE_KEY, Vec::new())?;
        Ok((connection, self.running()?.library.context().clone()))
    }

    fn connect(&mut self, uri: &Uri, pin: Option<&Pin>) -> Result<Rc<Connection>, Error> {
        self.running()?;
        match &mut self.running {
            Some(running) => running.library.connect(uri, pin, &mut self.refused),
            None => Err(Error::Closed),
        }
    }

    /// The library, loaded and initialized by now.
    fn running(&mut self) -> Result<&mut Running, Error> {
        if self.running.is_none() {
            let context = match &self.loaded {
                Some(context) => context.clone(),
                None => self.loaded.insert(load(&self.path)?).clone(),
            };
            let library = Library::initialize(&context, self.clock.now())?;
            let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
            tracing::debug!(library = %self.path.display(), generation, "initialized");
            self.running = Some(Running { keys: HashMap::new(), library });
        }
        self.running.as_mut().ok_or(Error::Closed)
    }

    fn may_heal(&self, error: &Error) -> bool {
        let Some(running) = &self.running else { return false };
        let long_ago = || self.clock.now().since(running.library.since()) >= LOOK_AGAIN;
        is_gone(error) || (is_absent(error) && (running.library.is_idle() || long_ago()))
    }

    /// After a second failure: the next job begins from the start.
    fn leave(&mut self, error: &Error) {
        if self.may_heal(error) {
            self.stop();
        }
    }

    fn stop(&mut self) {
        if let Some(Running { keys, library }) = self.running.take() {
            drop(keys);
            library.finalize();
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

struct CloseOnDrop<'a>(&'a Queue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
