//! What the lanes of one library share: they sign side by side, and everything else is done by one of them alone.
//!
//! ```text
//!   lane ─┐                        ┌─ a known key signs: together with other lanes
//!   lane ─┼─▶ Owner (lock) ────────┤
//!   lane ─┘                        └─ initialize, open, log in, find, list, write, finalize: alone
//! ```
//!
//! Finalizing a library under another thread's call crashes most of them, and opening two sessions at a time breaks
//! some. Whoever holds the lock alone knows that no other lane is inside the library.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Uri,
    calls::{Binding, Library, ObjectClass, load},
    code::{answered, is, is_absent, is_answer, is_gone},
    delete, describe,
    job::{Answer, FoundKey, Job, KeyQuery, Signature},
    key::SigningKey,
    login::Logins,
    object,
    profile::Profile,
    provision,
    session::{Connection, Initialized},
    trial::{self, OneTry, Renewal, Trial, Tried},
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

/// Owns a library.
pub(super) struct Owner {
    path: PathBuf,
    profile: Arc<Profile>,
    clock: Arc<dyn Clock>,
    generation: Arc<AtomicU64>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    loaded: Option<Arc<dyn Library>>,
    running: Option<Running>,
    /// It did not let itself be finalized the last time.
    unfinished: bool,
}

/// What holds from one C_Initialize to the next C_Finalize.
struct Running {
    // Before `library`: keys hold connections, which are to be closed before the library is finalized.
    keys: HashMap<Arc<KeyQuery>, Arc<SigningKey>>,
    library: Initialized,
}

impl Owner {
    /// Touches nothing yet. `generation` rises each time the library is initialized.
    pub(super) fn new(
        path: PathBuf,
        profile: Arc<Profile>,
        clock: Arc<dyn Clock>,
        generation: Arc<AtomicU64>,
    ) -> Self {
        Self { path, profile, clock, generation, state: RwLock::default() }
    }

    /// Does one job. `made`: when the message was made, if `make` only hands it over.
    pub(super) fn answer(
        &self,
        job: &Job,
        make: Option<MakeMessage>,
        made: Option<Instant>,
        logins: &dyn Logins,
    ) -> Result<Answer, Error> {
        match (job, make) {
            (Job::Sign(query), Some(make)) => self.sign(query, make, made, logins),
            (job, _) => self.alone().twice(|work| work.attempt(job, logins)),
        }
    }

    /// Closes every session and finalizes the library.
    pub(super) fn stop(&self) {
        self.alone().stop();
    }

    fn sign(
        &self,
        query: &Arc<KeyQuery>,
        make: MakeMessage,
        made: Option<Instant>,
        logins: &dyn Logins,
    ) -> Result<Answer, Error> {
        self.make_ready(query, logins)?;
        let message = make();
        let made = made.unwrap_or_else(|| self.clock.now());
        if self.clock.now().since(made) > LONGEST_WAIT_OF_A_MESSAGE {
            return Err(Error::KeyChanged);
        }
        let mut healed = false;
        loop {
            let Attempt { generation, outcome, had_signed } = self.sign_together(query, &message, logins);
            match outcome {
                Ok((signature, key)) => return Ok(Answer::Signature(Signature { message, signature, key })),
                // What a key has done before, it does not refuse for good: some libraries say so of a lost login.
                Err(error) if !healed && (is_gone(&error) || (had_signed && is_answer(&error))) => {
                    tracing::warn!(%error, "the library is initialized anew");
                    self.alone().stop_if(generation);
                }
                // Another lane has initialized the library anew in between.
                Err(Error::KeyChanged) if !healed => {}
                Err(error) => {
                    self.alone().leave_if(generation, &error);
                    return Err(error);
                }
            }
            healed = true;
            self.make_ready(query, logins)?;
            if self.clock.now().since(made) > LONGEST_WAIT_OF_A_MESSAGE {
                return Err(Error::KeyChanged);
            }
        }
    }

    /// Signs side by side with other lanes.
    fn sign_together(&self, query: &Arc<KeyQuery>, message: &[u8], logins: &dyn Logins) -> Attempt {
        // Held to the end: as long as somebody signs, nobody finalizes, and the generation stays what it is.
        let state = self.together();
        let generation = self.generation();
        let Some(key) = state.key(query) else {
            return Attempt { generation, outcome: Err(Error::KeyChanged), had_signed: false };
        };
        let had_signed = key.has_signed();
        let outcome = key.sign(message, logins).map(|signature| (signature, key.found(generation)));
        Attempt { generation, outcome, had_signed }
    }

    /// Finds the key that `query` names, unless that has been done.
    fn make_ready(&self, query: &Arc<KeyQuery>, logins: &dyn Logins) -> Result<(), Error> {
        if self.together().key(query).is_some() {
            return Ok(());
        }
        self.alone().twice(|work| work.key(query, logins).map(drop))
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn together(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn alone(&self) -> Work<'_> {
        Work { owner: self, state: self.state.write().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// One try to sign.
struct Attempt {
    /// Of the library that tried.
    generation: u64,
    outcome: Result<(Vec<u8>, FoundKey), Error>,
    /// The key had signed before, with the same handle.
    had_signed: bool,
}

impl State {
    fn key(&self, query: &Arc<KeyQuery>) -> Option<Arc<SigningKey>> {
        self.running.as_ref()?.keys.get(query).cloned()
    }
}

/// The library, with nobody else inside it.
struct Work<'a> {
    owner: &'a Owner,
    state: RwLockWriteGuard<'a, State>,
}

impl Work<'_> {
    /// Does `act`, and once more with the library initialized anew when that may help.
    fn twice<T>(&mut self, mut act: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let fresh = self.state.running.is_none();
        match act(self) {
            Err(error) if self.may_heal(&error) => {
                self.stop();
                if fresh { Err(error) } else { act(self).inspect_err(|error| self.leave(error)) }
            }
            outcome => outcome,
        }
    }

    fn attempt(&mut self, job: &Job, logins: &dyn Logins) -> Result<Answer, Error> {
        match job {
            Job::Find(query) | Job::Sign(query) => {
                let key = self.key(query, logins)?;
                Ok(Answer::Key(key.found(self.owner.generation())))
            }
            Job::Describe { login, whole } => {
                if let Some(uri) = login {
                    self.connect(uri, logins)?;
                }
                let path = self.owner.path.clone();
                let description = describe::describe(path, &self.running()?.library, *whole)?;
                Ok(Answer::Description(Box::new(description)))
            }
            Job::Certificates(uri) => {
                let connection = self.connect(uri, logins)?;
                describe::certificates(connection.keeper().as_ref()).map(Answer::Certificates)
            }
            Job::Provide { label } => {
                let library = self.running()?.library.library().clone();
                let provided = provision::provide(library.as_ref(), label, logins);
                // Libraries number their slots anew when a device has been made.
                self.stop();
                provided.map(|uri| Answer::Provided(Box::new(uri)))
            }
            Job::Generate { device, pair } => {
                let connection = self.connect_to_write(device, logins)?;
                provision::generate(&connection, pair).map(|pair| Answer::Generated(Box::new(pair)))
            }
            Job::Delete { device, doomed } => {
                let connection = self.connect_to_write(device, logins)?;
                // Whoever signs with a key that is gone finds that out by itself; a new one may get its handle.
                self.running()?.keys.clear();
                delete::delete(&connection, doomed).map(Answer::Deleted)
            }
            Job::Store { device, certificate } => {
                let connection = self.connect_to_write(device, logins)?;
                provision::store(&connection, certificate).map(|stored| Answer::Stored(Box::new(stored)))
            }
            Job::Try { key, trial } => {
                self.try_out(key, trial, &OneTry(logins)).map(|tried| Answer::Tried(Box::new(tried)))
            }
        }
    }

    fn try_out(&mut self, key: &Uri, trial: &Trial, logins: &OneTry<'_>) -> Result<Tried, Error> {
        let ended = match trial {
            Trial::Renew { .. } => self.end(),
            Trial::Look | Trial::Sign { .. } | Trial::Pace { .. } => None,
        };
        let connection = self.connect(key, logins)?;
        let bench = trial::Bench { connection, key, clock: &*self.owner.clock, logins };
        match trial {
            Trial::Look => bench.look(&self.owner.path).map(|seen| Tried::Particulars(Box::new(seen))),
            Trial::Sign { algorithm, form } => bench.sign(*algorithm, *form).map(Tried::Form),
            Trial::Pace { algorithm, form, threads, milliseconds } => {
                let time = Duration::from_millis(*milliseconds);
                bench.pace(*algorithm, *form, *threads, time).map(Tried::Pace)
            }
            Trial::Renew { algorithm, form } => {
                let signed = bench.sign(*algorithm, *form)?.outcome;
                Ok(Tried::Renewal(Renewal { ended, signed }))
            }
        }
    }

    fn key(&mut self, query: &Arc<KeyQuery>, logins: &dyn Logins) -> Result<Arc<SigningKey>, Error> {
        if let Some(key) = self.state.key(query) {
            return Ok(key);
        }
        let connection = self.connect(&query.uri, logins)?;
        let key = Arc::new(SigningKey::find(connection, query)?);
        self.running()?.keys.insert(query.clone(), key.clone());
        Ok(key)
    }

    fn connect_to_write(&mut self, device: &Uri, logins: &dyn Logins) -> Result<Arc<Connection>, Error> {
        let connection = self.connect(device, logins)?;
        // The cheapest question that a lost device cannot answer, asked before anything is written.
        object::matching(connection.keeper().as_ref(), ObjectClass::PrivateKey, Vec::new())?;
        Ok(connection)
    }

    fn connect(&mut self, uri: &Uri, logins: &dyn Logins) -> Result<Arc<Connection>, Error> {
        self.running()?.library.connect(uri, logins)
    }

    /// The library, loaded and initialized by now.
    fn running(&mut self) -> Result<&mut Running, Error> {
        if self.state.running.is_none() {
            let library = match &self.state.loaded {
                Some(library) => library.clone(),
                None => {
                    let binding =
                        if self.owner.profile.module.force_v2 { Binding::Raw } else { Binding::Either };
                    self.state.loaded.insert(load(&self.owner.path, binding)?).clone()
                }
            };
            let (profile, now) = (&self.owner.profile, self.owner.clock.now());
            let library = Initialized::new(&library, profile, self.state.unfinished, now)?;
            let generation = self.owner.generation.fetch_add(1, Ordering::AcqRel) + 1;
            tracing::debug!(library = %self.owner.path.display(), generation, "initialized");
            self.state.running = Some(Running { keys: HashMap::new(), library });
        }
        self.state.running.as_mut().ok_or(Error::Closed)
    }

    fn may_heal(&self, error: &Error) -> bool {
        let Some(running) = &self.state.running else { return false };
        let long_ago = || self.since(running.library.since()) >= LOOK_AGAIN;
        is_gone(error) || (is_absent(error) && (running.library.is_idle() || long_ago()))
    }

    fn since(&self, then: Instant) -> Duration {
        self.owner.clock.now().since(then)
    }

    /// After a second failure: the next job begins from the start.
    fn leave(&mut self, error: &Error) {
        if self.may_heal(error) {
            self.stop();
        }
    }

    /// Stops the library that `generation` was; another lane may have done so already.
    fn stop_if(&mut self, generation: u64) {
        if self.owner.generation() == generation {
            self.stop();
        }
    }

    fn leave_if(&mut self, generation: u64, error: &Error) {
        if self.owner.generation() == generation {
            self.leave(error);
        }
    }

    fn stop(&mut self) {
        if let Some(error) = self.end() {
            tracing::debug!(%error, "the library was not finalized");
        }
    }

    /// Closes every session and finalizes the library; what it said when that failed.
    fn end(&mut self) -> Option<Error> {
        let Running { keys, library } = self.state.running.take()?;
        drop(keys);
        let failure = library.finalize().err();
        // Somebody else may have finalized it already.
        let finished = |why| is(why, "CKR_CRYPTOKI_NOT_INITIALIZED");
        self.state.unfinished = !failure.as_ref().is_none_or(finished);
        failure.map(|why| answered(&why))
    }
}
