//! Trying a key out, for a report on its device: what the library lists, which forms of a signature work, how fast, in
//! how many sessions side by side, and whether all of it works again after a new start. Every signature is verified
//! here; C_Verify is never asked.
//!
//! Each trial is a job of its own, so that a library that crashes or hangs in one of them takes no other along.

mod bench;
mod mechanisms;
mod particulars;

pub(super) use self::bench::Bench;
pub use self::particulars::{ListedMechanism, MechanismUse, Particulars, TriedKey};

use std::{sync::MutexGuard, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{
    Device,
    job::{Answer, Job},
    login::{LoginOutcome, LoginRequest, Logins},
    modules::mismatched,
    profile::{Module, SignForm},
};
use crate::{
    call::Call,
    jose::Algorithm,
    sign::{Error, PinProblem},
};

/// One trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Trial {
    /// Read what library, device and key say of themselves.
    Look,
    /// Sign once.
    Sign { algorithm: Algorithm, form: SignForm },
    /// Sign again and again for a while, in threads with a session each.
    Pace { algorithm: Algorithm, form: SignForm, threads: u8, milliseconds: u64 },
    /// Close all sessions, finalize, initialize, log in, sign once.
    Renew { algorithm: Algorithm, form: SignForm },
}

impl Trial {
    /// For log lines.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Sign { .. } => "trial of a signature",
            Self::Pace { .. } => "trial of its pace",
            Self::Renew { .. } => "trial of a new start",
        }
    }

    /// How much longer than one signature it may take.
    pub(super) fn lasts(&self, module: &Module) -> Duration {
        match self {
            Self::Look | Self::Renew { .. } => module.init_timeout(),
            Self::Sign { .. } => Duration::ZERO,
            Self::Pace { milliseconds, .. } => Duration::from_millis(*milliseconds),
        }
    }
}

/// What a trial came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Tried {
    Particulars(Box<Particulars>),
    Form(TriedForm),
    Pace(Pace),
    Renewal(Renewal),
}

/// What became of one form of a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TriedForm {
    /// The mechanism that was asked for (`CKM_…`).
    pub mechanism: String,
    /// What came of it.
    pub outcome: FormOutcome,
    /// How long the device took.
    pub took: Duration,
}

/// How an attempt to sign ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FormOutcome {
    /// With a signature that verifies.
    Signed,
    /// With a signature that does not verify with the key's public half.
    Wrong,
    /// The device does not do this with the key.
    Refused(Error),
    /// Something else went wrong.
    Failed(Error),
}

/// How a key signed for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pace {
    /// Threads that signed side by side, each with a session of its own.
    pub threads: u8,
    /// What the device answered when another session was to be opened: there are fewer threads than were asked for.
    pub no_more_sessions: Option<Error>,
    /// Signatures that were made and verify.
    pub signatures: u64,
    /// Signatures that do not verify, or are those of another thread's message.
    pub wrong: u64,
    /// From the first signature's start to the last one's end.
    pub took: Duration,
    /// Of all signatures, half took no longer than this.
    pub median: Duration,
    /// The longest that one took.
    pub slowest: Duration,
    /// Why one of the threads stopped early.
    pub failed: Option<Error>,
}

/// How a new start went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Renewal {
    /// What C_Finalize answered when it failed.
    pub ended: Option<Error>,
    /// How the first signature afterwards ended.
    pub signed: FormOutcome,
}

impl Device {
    /// What library and device say of themselves, and of the key that the device's URI names. Logs in; a PIN that is
    /// refused is not asked for again.
    ///
    /// # Errors
    /// What the device says.
    pub async fn particulars(&self, call: &Call) -> Result<Particulars, Error> {
        match self.try_out(Trial::Look, call).await? {
            Tried::Particulars(particulars) => Ok(*particulars),
            other => Err(mismatched(&Answer::Tried(Box::new(other)))),
        }
    }

    /// Signs once with the key that the device's URI names, in this form and no other.
    ///
    /// # Errors
    /// [`Error::Host`] when the library crashed or hung; otherwise what kept the key from being tried. What the device
    /// answers to the signature itself is part of the result.
    pub async fn try_form(
        &self,
        algorithm: Algorithm,
        form: SignForm,
        call: &Call,
    ) -> Result<TriedForm, Error> {
        match self.try_out(Trial::Sign { algorithm, form }, call).await? {
            Tried::Form(tried) => Ok(tried),
            other => Err(mismatched(&Answer::Tried(Box::new(other)))),
        }
    }

    /// Signs for as long as `time` in up to `threads` threads. Nothing else is done with the library meanwhile.
    ///
    /// # Errors
    /// Those of [`try_form`](Self::try_form).
    pub async fn try_pace(
        &self,
        algorithm: Algorithm,
        form: SignForm,
        threads: u8,
        time: Duration,
        call: &Call,
    ) -> Result<Pace, Error> {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self.try_out(Trial::Pace { algorithm, form, threads, milliseconds }, call).await? {
            Tried::Pace(pace) => Ok(pace),
            other => Err(mismatched(&Answer::Tried(Box::new(other)))),
        }
    }

    /// Closes all sessions, finalizes the library, initializes it, logs in and signs once. This costs a login.
    ///
    /// # Errors
    /// Those of [`try_form`](Self::try_form).
    pub async fn try_renewal(
        &self,
        algorithm: Algorithm,
        form: SignForm,
        call: &Call,
    ) -> Result<Renewal, Error> {
        match self.try_out(Trial::Renew { algorithm, form }, call).await? {
            Tried::Renewal(renewal) => Ok(renewal),
            other => Err(mismatched(&Answer::Tried(Box::new(other)))),
        }
    }

    async fn try_out(&self, trial: Trial, call: &Call) -> Result<Tried, Error> {
        match self.ask(call, Job::Try { key: self.uri().clone(), trial }, None).await? {
            Answer::Tried(tried) => Ok(*tried),
            other => Err(mismatched(&other)),
        }
    }
}

/// Logins of a trial: a refused PIN ends it, whoever typed it.
pub(super) struct OneTry<'a>(pub(super) &'a dyn Logins);

impl Logins for OneTry<'_> {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn()
    }

    fn authorize(&self, request: &LoginRequest) -> Result<Option<SecretString>, PinProblem> {
        self.0.authorize(request)
    }

    fn ended(&self, request: &LoginRequest, outcome: &LoginOutcome) -> bool {
        self.0.ended(request, outcome);
        false
    }

    fn lost(&self) {
        self.0.lost();
    }
}
