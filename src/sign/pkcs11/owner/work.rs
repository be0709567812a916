use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLockWriteGuard, atomic::Ordering},
    time::Duration,
};

use super::{
    super::{
        Uri,
        calls::{Binding, ObjectClass, load},
        code::{answered, is},
        delete, describe,
        job::{Answer, Job, KeyQuery},
        key::SigningKey,
        ladder::{Rung, is_absent, is_of_the_library},
        login::Logins,
        object, provision,
        session::{Connection, Initialized},
        trial::{self, OneTry, Renewal, Trial, Tried},
    },
    Owner, Running, State,
};
use crate::sign::Error;

/// Looking for a device that is not there, or does not answer, costs every other device of the library its sessions:
/// not more often than this.
pub(in super::super) const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The library, with nobody else inside it.
pub(super) struct Work<'a> {
    owner: &'a Owner,
    state: RwLockWriteGuard<'a, State>,
    /// The job may have written something: what has been begun is not begun again.
    is_writing: bool,
}

impl<'a> Work<'a> {
    pub(super) fn of(owner: &'a Owner) -> Self {
        let state = owner.state.write().unwrap_or_else(PoisonError::into_inner);
        Self { owner, state, is_writing: false }
    }

    /// Does `act`; once more as it is, when what failed passes by itself; and once more with the library initialized anew,
    /// when that may help; but not where something may have been written by then. `device`: whose failure it would be.
    /// `is_probe`: it is asked whether that is back.
    pub(super) fn mended<T>(
        &mut self,
        device: Option<&Uri>,
        is_probe: bool,
        mut act: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let fresh = self.state.running.is_none();
        let mut outcome = act(self);
        if outcome.as_ref().is_err_and(|error| self.owner.ladder.passes(error)) && !self.is_writing {
            outcome = act(self);
        }
        match outcome {
            Err(error) if self.may_heal(device, is_probe, &error) => {
                self.stop();
                if fresh || self.is_writing {
                    return Err(error);
                }
                act(self).inspect_err(|error| self.leave(device, is_probe, error))
            }
            outcome => outcome,
        }
    }

    /// Does a job that nobody waits for, once. When it fails, the next one may begin from the start, if that costs no
    /// other device its sessions.
    pub(super) fn in_passing(&mut self, job: &Job, logins: &dyn Logins) -> Result<Answer, Error> {
        self.attempt(job, logins).inspect_err(|error| {
            let Some(running) = &self.state.running else { return };
            let is_old = self.owner.clock.now().since(running.library.since()) >= LOOK_AGAIN;
            let is_alone = !running.library.has_others_than(job.device().as_ref());
            let may_be = is_of_the_library(error) || (is_old && is_alone);
            if may_be && self.owner.ladder.has(Rung::Reinitialize, error) {
                self.stop();
            }
        })
    }

    /// New sessions on the device of this key, which is found anew. With `logins`, a login that is gone is made again;
    /// without, it must be there still. A device that was put in anew is neither: the library is to be initialized
    /// before the next login, or some refuse the right PIN.
    pub(super) fn renew_sessions(
        &mut self,
        query: &Arc<KeyQuery>,
        generation: u64,
        logins: Option<&dyn Logins>,
    ) -> Result<(), Error> {
        if self.owner.generation() != generation {
            // Another lane has done so, or more.
            return Ok(());
        }
        let Some(running) = self.state.running.as_mut() else { return Err(Error::KeyChanged) };
        let Some(key) = running.keys.get(query).cloned() else { return Err(Error::KeyChanged) };
        let connection = running.library.renew(key.connection(), logins)?;
        running.keys.retain(|_, other| !Arc::ptr_eq(other.connection(), key.connection()));
        let found = SigningKey::find(connection, query)?;
        running.keys.insert(query.clone(), Arc::new(found));
        self.owner.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn attempt(&mut self, job: &Job, logins: &dyn Logins) -> Result<Answer, Error> {
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
                self.is_writing = true;
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
            Job::Probe { device, .. } => {
                let library = &mut self.running()?.library;
                match device {
                    Some(device) => library.probe(device)?,
                    None => {
                        library.library().slots().map_err(|why| answered(&why))?;
                    }
                }
                Ok(Answer::There)
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

    pub(super) fn key(
        &mut self,
        query: &Arc<KeyQuery>,
        logins: &dyn Logins,
    ) -> Result<Arc<SigningKey>, Error> {
        if let Some(key) = self.state.key(query) {
            return Ok(key);
        }
        let connection = self.connect(&query.uri, logins)?;
        let key = Arc::new(SigningKey::find(connection, query)?);
        let running = self.running()?;
        running.keys.insert(query.clone(), key.clone());
        running.has_worked = true;
        Ok(key)
    }

    fn connect_to_write(&mut self, device: &Uri, logins: &dyn Logins) -> Result<Arc<Connection>, Error> {
        let connection = self.connect(device, logins)?;
        // The cheapest question that a lost device cannot answer, asked before anything is written.
        object::matching(connection.keeper().as_ref(), ObjectClass::PrivateKey, Vec::new())?;
        self.is_writing = true;
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
            self.state.running = Some(Running { keys: HashMap::new(), library, has_worked: false });
        }
        self.state.running.as_mut().ok_or(Error::Closed)
    }

    /// Whether the library is to be initialized anew because of `error`.
    fn may_heal(&self, device: Option<&Uri>, is_probe: bool, error: &Error) -> bool {
        let ladder = &self.owner.ladder;
        // A device that has too much to do is not given more. Only when that lasts, it may be that what it is said to hold
        // is ours.
        if !ladder.has(Rung::Reinitialize, error) || (ladder.is_overloaded(error) && !is_probe) {
            return false;
        }
        match &self.state.running {
            // All devices are concerned, and none can be worse off.
            Some(_) if is_of_the_library(error) => true,
            Some(running) if !running.library.has_others_than(device) && is_absent(error) => true,
            _ => self.may_reinitialize(device, false),
        }
    }

    /// Initializing anew because of one device costs all others of the library their sessions, and some libraries
    /// minutes. `has_signed`: the device did, since the last time.
    fn may_reinitialize(&self, device: Option<&Uri>, has_signed: bool) -> bool {
        let Some(running) = &self.state.running else { return false };
        let age = self.owner.clock.now().since(running.library.since());
        if running.library.has_others_than(device) {
            return has_signed || age >= LOOK_AGAIN;
        }
        running.has_worked || age >= self.owner.profile.errors.pauses().0
    }

    /// After a second failure: the next job begins from the start.
    fn leave(&mut self, device: Option<&Uri>, is_probe: bool, error: &Error) {
        if self.may_heal(device, is_probe, error) {
            self.stop();
        }
    }

    /// Stops the library that `generation` was, if it may be started anew because of this key; another lane may have
    /// done so already. Whether it is stopped.
    pub(super) fn stop_for(
        &mut self,
        query: &KeyQuery,
        generation: u64,
        has_signed: bool,
        error: &Error,
    ) -> bool {
        if self.owner.generation() != generation {
            return true;
        }
        let may_be = is_of_the_library(error) || self.may_reinitialize(Some(&query.uri), has_signed);
        if may_be {
            self.stop();
        }
        may_be
    }

    pub(super) fn leave_if(&mut self, query: &KeyQuery, generation: u64, error: &Error) {
        if self.owner.generation() == generation {
            self.leave(Some(&query.uri), false, error);
        }
    }

    pub(super) fn stop(&mut self) {
        if let Some(error) = self.end() {
            tracing::debug!(%error, "the library was not finalized");
        }
    }

    /// Closes every session and finalizes the library; what it said when that failed.
    fn end(&mut self) -> Option<Error> {
        let Running { keys, library, .. } = self.state.running.take()?;
        drop(keys);
        let failure = library.finalize().err();
        // Somebody else may have finalized it already.
        let finished = |why| is(why, "CKR_CRYPTOKI_NOT_INITIALIZED");
        self.state.unfinished = !failure.as_ref().is_none_or(finished);
        failure.map(|why| answered(&why))
    }
}
