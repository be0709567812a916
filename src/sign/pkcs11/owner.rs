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

mod work;

pub(super) use self::work::LOOK_AGAIN;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use self::work::Work;
use super::{
    calls::Library,
    job::{Answer, FoundKey, Job, KeyQuery, Signature},
    key::SigningKey,
    ladder::{Class, Climb, Ladder, Rung},
    login::Logins,
    profile::Profile,
    session::Initialized,
};
use crate::{
    clock::{Clock, Instant},
    sign::{Error, MakeMessage},
};

/// A message made before the device or the library's process was lost is still signed when there is one again within this
/// time; later, its `iat` is too old to be worth it.
pub(super) const LONGEST_WAIT_OF_A_MESSAGE: Duration = Duration::from_secs(5);

/// Owns a library.
pub(super) struct Owner {
    path: PathBuf,
    profile: Arc<Profile>,
    ladder: Ladder,
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
    /// A key was found since.
    has_worked: bool,
}

impl Owner {
    /// Touches nothing yet. `generation` rises each time handles of keys become others.
    pub(super) fn new(
        path: PathBuf,
        profile: Arc<Profile>,
        clock: Arc<dyn Clock>,
        generation: Arc<AtomicU64>,
    ) -> Self {
        let ladder = Ladder::of(&profile);
        Self { path, profile, ladder, clock, generation, state: RwLock::default() }
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
            (job, _) if job.is_for_nobody() => Work::of(self).in_passing(job, logins),
            (job, _) => {
                let (device, is_probe) = (job.device(), matches!(job, Job::Probe { .. }));
                Work::of(self).mended(device.as_ref(), is_probe, |work| work.attempt(job, logins))
            }
        }
    }

    /// Closes every session and finalizes the library.
    pub(super) fn stop(&self) {
        Work::of(self).stop();
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
        let mut climb = Climb::default();
        let mut was_overtaken = false;
        loop {
            let attempt = self.sign_together(query, &message, logins);
            let error = match attempt.outcome {
                Ok((signature, key)) => return Ok(Answer::Signature(Signature { message, signature, key })),
                // Another lane has initialized the library anew in between.
                Err(Error::KeyChanged) if !was_overtaken => {
                    was_overtaken = true;
                    self.make_ready(query, logins)?;
                    continue;
                }
                Err(error) => error,
            };
            let failed = Failed { generation: attempt.generation, had_signed: attempt.had_signed, error };
            self.mend(query, failed, &mut climb, logins)?;
            if self.clock.now().since(made) > LONGEST_WAIT_OF_A_MESSAGE {
                return Err(Error::KeyChanged);
            }
        }
    }

    /// Takes the next rungs until one of them holds; what failed otherwise.
    fn mend(
        &self,
        query: &Arc<KeyQuery>,
        failed: Failed,
        climb: &mut Climb,
        logins: &dyn Logins,
    ) -> Result<(), Error> {
        let Failed { generation, had_signed, error } = failed;
        let class = match self.ladder.class_of(&error) {
            // What a key has done before, it does not refuse for good: some libraries say so of a lost login.
            Some(Class::Caller)
                if had_signed && matches!(error, Error::Device { .. }) && !self.ladder.is_fatal(&error) =>
            {
                Class::SessionDead
            }
            Some(class) => class,
            None => return Err(error),
        };
        while let Some(rung) = climb.next(&self.ladder, class) {
            let taken = match rung {
                Rung::NewSession => Work::of(self).renew_sessions(query, generation, None),
                Rung::LogIn => Work::of(self).renew_sessions(query, generation, Some(logins)),
                Rung::Reinitialize => {
                    if !Work::of(self).stop_for(query, generation, had_signed, &error) {
                        break;
                    }
                    tracing::warn!(%error, "the library is initialized anew");
                    // From here on, the library starts from nothing: what it says now is what is the matter.
                    return self.make_ready(query, logins);
                }
                // Of those who asked for this job.
                Rung::NewProcess | Rung::OpenCircuit => break,
            };
            match taken {
                Ok(()) => {
                    tracing::debug!(%error, ?rung, "mended");
                    return Ok(());
                }
                Err(refused @ Error::Pin { .. }) => return Err(refused),
                Err(why) => tracing::debug!(%why, ?rung, "of no help"),
            }
        }
        Work::of(self).leave_if(query, generation, &error);
        Err(error)
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
        Work::of(self).mended(Some(&query.uri), false, |work| work.key(query, logins).map(drop))
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn together(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
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

/// A try to sign that failed.
struct Failed {
    generation: u64,
    had_signed: bool,
    error: Error,
}

impl State {
    fn key(&self, query: &Arc<KeyQuery>) -> Option<Arc<SigningKey>> {
        self.running.as_ref()?.keys.get(query).cloned()
    }
}

#[cfg(test)]
mod tests;
