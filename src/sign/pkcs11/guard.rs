//! What is remembered of refused PINs, so that a device is not locked by a program that is started again and again.
//!
//! A record lies in the state directory, under a lock that all processes share. A try is written down, on the disk,
//! before it is made, and forgotten when the login went well. An outcome that is never learnt, because the library or
//! Segl itself was killed meanwhile, was therefore a wrong PIN.

mod record;

pub(super) use self::record::refused_before;
pub use self::record::{MOST_SPENT, PinFlags, PinRecord, Standing, TriedBy};

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use self::record::LONGEST;
use super::{
    login::{DeviceId, Login, LoginRequest},
    profile::{LockoutScope, Profile},
    uri::printable,
};
use crate::{
    clock::{self, Clock},
    sign::PinProblem,
    state::{self, StateDir},
};

/// Where it is kept how many PIN tries have been spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinRecords {
    /// In the state directory of this user ([`StateDir::default_path`]), which all programs of this user share.
    #[default]
    Usual,
    /// In this directory.
    In(PathBuf),
    /// In the memory of this process: whoever starts it again tries the same PIN again.
    Memory,
}

/// One file of the records: its name, and what is in it or why that cannot be told.
pub type KeptRecord = (String, Result<PinRecord, PinProblem>);

impl PinRecords {
    /// All records, by the names that they are kept under.
    ///
    /// # Errors
    /// [`PinProblem::Unrecorded`] when the state directory cannot be used.
    pub fn all(&self) -> Result<Vec<KeptRecord>, PinProblem> {
        let Some(state) = self.open()? else { return Ok(Vec::new()) };
        let names = state.names().map_err(|why| unusable(&why))?;
        let names = names.into_iter().filter(|name| name.starts_with("pin-") && name.ends_with(".json"));
        let read = |name: String| match read(&state, &name) {
            Ok(record) => record.map(|record| (name, Ok(record))),
            Err(problem) => Some((name, Err(problem))),
        };
        Ok(names.filter_map(read).collect())
    }

    /// Forgets the record that is kept under `name`: the next PIN is tried, whichever it is. Only a person who knows
    /// how many tries the device has left should decide that.
    ///
    /// # Errors
    /// [`PinProblem::Unrecorded`] when the state directory cannot be used, or somebody is just logging in.
    pub fn forget(&self, name: &str) -> Result<(), PinProblem> {
        let Some(state) = self.open()? else { return Ok(()) };
        let _lock = lock(&state, name, Duration::from_secs(5))?;
        state.remove(name).map_err(|why| unusable(&why))
    }

    /// Where the records lie; `None` in memory.
    ///
    /// # Errors
    /// [`PinProblem::Unrecorded`] when the state directory cannot be used.
    pub fn directory(&self) -> Result<Option<PathBuf>, PinProblem> {
        Ok(self.open()?.map(|state| state.path().to_owned()))
    }

    fn open(&self) -> Result<Option<StateDir>, PinProblem> {
        let opened = match self {
            Self::Usual => StateDir::default_path().and_then(StateDir::open),
            Self::In(path) => StateDir::open(path),
            Self::Memory => return Ok(None),
        };
        opened.map(Some).map_err(|why| unusable(&why))
    }
}

/// The memory for one library.
pub(super) struct Guard {
    module: PathBuf,
    records: PinRecords,
    clock: Arc<dyn Clock>,
    /// One login at a time: the next one is authorised when it is known how this one ended.
    pub(super) turn: Mutex<()>,
    seen: Mutex<HashMap<(DeviceId, Login), Seen>>,
}

/// What this process knows.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Tries since the last login that went well.
    refused: u8,
    /// The record, where it is not kept on the disk.
    record: Option<PinRecord>,
}

/// A try that is being made. Nobody else makes one until this is dropped.
pub(super) struct Try {
    kept: Option<Kept>,
    record: PinRecord,
    /// What was known before.
    before: Option<PinRecord>,
}

struct Kept {
    state: StateDir,
    /// Of the record.
    name: String,
    _lock: state::Guard,
}

impl Guard {
    pub(super) fn new(module: &Path, records: PinRecords, clock: Arc<dyn Clock>) -> Self {
        Self { module: module.to_owned(), records, clock, turn: Mutex::default(), seen: Mutex::default() }
    }

    /// How many tries this process has spent since the last login that went well.
    pub(super) fn refused(&self, request: &LoginRequest) -> u8 {
        self.seen().get(&key(request)).map_or(0, |seen| seen.refused)
    }

    /// What is known of earlier tries, by whomever. To look is no reason to wait: it is looked at again, under the
    /// lock, before a try is made.
    pub(super) fn known(
        &self,
        request: &LoginRequest,
        profile: &Profile,
    ) -> Result<Option<PinRecord>, PinProblem> {
        match self.open(profile)? {
            Some(state) => read(&state, &self.name(request, profile)),
            None => Ok(self.seen().get(&key(request)).and_then(|seen| seen.record.clone())),
        }
    }

    /// Writes down that a PIN given by `by` is tried now, if it may be.
    pub(super) fn begin(
        &self,
        request: &LoginRequest,
        profile: &Profile,
        by: TriedBy,
    ) -> Result<Try, PinProblem> {
        let kept = match self.open(profile)? {
            Some(state) => {
                let name = self.name(request, profile);
                // A login that hangs is ended by then, or will never be.
                let longest = profile.sign.call_timeout() * 2 + Duration::from_secs(5);
                let _lock = lock(&state, &name, longest)?;
                Some(Kept { state, name, _lock })
            }
            None => None,
        };
        let known = match &kept {
            Some(kept) => read(&kept.state, &kept.name)?,
            None => self.seen().get(&key(request)).and_then(|seen| seen.record.clone()),
        };
        if let (Some(known), TriedBy::Source(origin)) = (&known, &by)
            && !known.allows(origin.as_ref(), request.flags(), profile.login.flags_reliable)
        {
            return Err(known.problem());
        }
        if self.was_refused_elsewhere(request, profile, &by)? {
            return Err(PinProblem::RefusedBefore);
        }
        let before = known.clone();
        let mut record = known.unwrap_or_else(|| PinRecord::new(&self.module, request));
        record.label.clone_from(&request.device.label);
        record.spent = record.spent.saturating_add(1);
        record.at = clock::numeric_date(self.clock.wall());
        record.by = by;
        record.answer = None;
        record.flags = request.flags();
        let begun = Try { kept, record, before };
        begun.write(&begun.record)?;
        let mut all = self.seen();
        let seen = all.entry(key(request)).or_default();
        seen.refused = seen.refused.saturating_add(1);
        if begun.kept.is_none() {
            seen.record = Some(begun.record.clone());
        }
        drop(all);
        Ok(begun)
    }

    /// Whether the device's other login has refused what this source gives: the two PINs are one then, and what one of
    /// the logins has refused is not worth a try at the other.
    fn was_refused_elsewhere(
        &self,
        request: &LoginRequest,
        profile: &Profile,
        by: &TriedBy,
    ) -> Result<bool, PinProblem> {
        let TriedBy::Source(Some(origin)) = by else { return Ok(false) };
        let other = match request.login {
            Login::User => Login::Signature,
            Login::Signature => Login::User,
        };
        let other = self.known(&LoginRequest { login: other, ..request.clone() }, profile)?;
        Ok(other.is_some_and(|other| other.was_refused_from(origin)))
    }

    /// The login went well.
    pub(super) fn succeeded(&self, request: &LoginRequest, made: Option<Try>) {
        self.seen().remove(&key(request));
        if let Some(Err(problem)) = made.and_then(|made| made.kept).map(|kept| kept.remove()) {
            let device = request.device.name();
            tracing::warn!(device, ?problem, "this login went well, and counts as refused in the record");
        }
    }

    /// The device wanted no login and looked at no PIN: what is known is what was known before.
    pub(super) fn not_made(&self, request: &LoginRequest, made: Option<Try>) {
        let Some(made) = made else { return };
        if let Some(seen) = self.seen().get_mut(&key(request)) {
            seen.refused = seen.refused.saturating_sub(1);
            if made.kept.is_none() {
                seen.record.clone_from(&made.before);
            }
        }
        let restored = match (&made.before, &made.kept) {
            (Some(before), _) => made.write(before),
            (None, Some(kept)) => kept.remove(),
            (None, None) => Ok(()),
        };
        if let Err(problem) = restored {
            let device = request.device.name();
            tracing::warn!(device, ?problem, "this PIN was not tried, and counts as refused in the record");
        }
    }

    /// It was refused with `code`.
    pub(super) fn failed(&self, request: &LoginRequest, made: Option<Try>, code: &str) {
        let Some(mut made) = made else { return };
        made.record.answer = Some(printable(code).chars().take(64).collect());
        // The try itself stands there already.
        let _ = made.write(&made.record);
        if made.kept.is_none()
            && let Some(seen) = self.seen().get_mut(&key(request))
        {
            seen.record = Some(made.record);
        }
    }

    fn open(&self, profile: &Profile) -> Result<Option<StateDir>, PinProblem> {
        match profile.login.lockout_scope {
            LockoutScope::None => Ok(None),
            LockoutScope::Token | LockoutScope::Device => self.records.open(),
        }
    }

    fn name(&self, request: &LoginRequest, profile: &Profile) -> String {
        PinRecord::new(&self.module, request).name(profile.login.lockout_scope)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<(DeviceId, Login), Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Try {
    fn write(&self, record: &PinRecord) -> Result<(), PinProblem> {
        let Some(Kept { state, name, .. }) = &self.kept else { return Ok(()) };
        let written = record.written().map_err(|why| unreadable(state, name, &why))?;
        state.write(name, &written).map_err(|why| unusable(&why))
    }
}

impl Kept {
    fn remove(&self) -> Result<(), PinProblem> {
        self.state.remove(&self.name).map_err(|why| unusable(&why))
    }
}

fn key(request: &LoginRequest) -> (DeviceId, Login) {
    (request.device.clone(), request.login)
}

fn read(state: &StateDir, name: &str) -> Result<Option<PinRecord>, PinProblem> {
    let Some(bytes) = state.read(name, LONGEST).map_err(|why| unreadable(state, name, &why.to_string()))?
    else {
        return Ok(None);
    };
    PinRecord::read(name, &bytes).map(Some).map_err(|why| unreadable(state, name, &why))
}

/// How often it is looked whether another process has ended its login.
const LOOK: Duration = Duration::from_millis(10);

fn lock(state: &StateDir, name: &str, longest: Duration) -> Result<state::Guard, PinProblem> {
    let until = std::time::Instant::now() + longest;
    loop {
        if let Some(lock) = state.try_lock(name).map_err(|why| unusable(&why))? {
            return Ok(lock);
        }
        if std::time::Instant::now() >= until {
            return Err(PinProblem::Unrecorded {
                problem: format!("another process has been logging in for {} s", longest.as_secs()),
                remedy: "See what the other programs do that use this device, and try again.".into(),
            });
        }
        thread::sleep(LOOK);
    }
}

fn unusable(why: &state::Error) -> PinProblem {
    PinProblem::Unrecorded { problem: why.to_string(), remedy: why.remedy() }
}

fn unreadable(state: &StateDir, name: &str, why: &str) -> PinProblem {
    PinProblem::Unrecorded {
        problem: format!(
            "the record {} cannot be used: {}",
            state.path().join(name).display(),
            printable(why)
        ),
        remedy: format!(
            "Nobody knows how many tries are left. Log in once in the vendor's tool, then run: segl pin unblock {name}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        sign::pkcs11::{
            Pin,
            login::{Guarded, LoginOutcome, Logins},
        },
    };

    #[test]
    fn the_next_process_knows_what_was_refused_and_two_tries_are_the_most_without_a_person() {
        let folder = tempfile::tempdir().unwrap();
        let records = PinRecords::In(folder.path().to_owned());
        let request = LoginRequest::sample("A", "e05ff6e461c5380f");
        let log_in = |written, outcome| {
            let guard = Guard::new(Path::new("/m.so"), records.clone(), SystemClock::shared());
            let pin = Some(Pin::in_file(written));
            let logins = Guarded::new(Arc::new(guard), pin, Arc::new(Profile::unknown()));
            logins.authorize(&request)?;
            logins.ended(&request, &outcome);
            Ok(())
        };
        let refused = || LoginOutcome::Refused("CKR_PIN_INCORRECT".into());
        log_in(1, refused()).unwrap();
        assert_eq!(log_in(1, refused()), Err(PinProblem::RefusedBefore));
        log_in(2, refused()).unwrap();
        assert_eq!(log_in(3, refused()), Err(PinProblem::RefusedBefore));
        let all = records.all().unwrap();
        let [(name, _)] = all.as_slice() else { panic!("{all:?}") };
        records.forget(name).unwrap();
        log_in(3, refused()).unwrap();
        log_in(4, LoginOutcome::Done).unwrap();
        assert!(records.all().unwrap().is_empty());
    }
}
