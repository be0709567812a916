//! What is known of one authority: whether it answers, since when it does not, and how far this machine's clock is from
//! its clock.
//!
//! While it is away, one request at a time looks whether it is back, with growing pauses; everybody else waits for how
//! that goes, a probe that takes no stored answer, too. So what an authority that is away gets to see does not grow with
//! the number of tokens and callers.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::Notify;

use super::{
    Authority, Error, Outage,
    response::no_answer,
    retry::{LONGEST_PAUSE, Pauses, backoff},
};
use crate::{
    call::Call,
    clock::{Clock, Instant, Moment, Offset, Spell},
};

/// One authority at one address, as all sources see it that ask it.
pub struct Contact {
    authority: Authority,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Whoever waits for the authority looks again.
    changed: Notify,
}

#[derive(Default)]
struct State {
    last_answer: Option<SystemTime>,
    away: Option<Away>,
    offset: Option<Offset>,
    clock_is_off: bool,
    /// Whether somebody has been told so.
    clock_is_announced: bool,
    /// How many have been let go to look whether it is back.
    trials: u64,
}

/// It does not serve, and when it may be asked again.
struct Away {
    error: Error,
    spell: Spell,
    not_before: Instant,
    trial: Option<Trial>,
    pauses: Pauses,
}

/// One has been let go to look whether it is back.
struct Trial {
    /// No other has the same.
    number: u64,
    /// Since when it is busy with something of its own, a signature for instance; `None` while it asks.
    prepares_since: Option<Instant>,
}

impl Away {
    fn outage(&self) -> Outage {
        Outage::of(self.error.clone(), self.spell.wall())
    }
}

/// What is known of an authority at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContactState {
    /// When it last gave an answer: a token, or a refusal with a reason.
    pub last_answer: Option<SystemTime>,
    /// Since when it gives none, and why.
    pub outage: Option<Outage>,
    /// How far this machine's clock is from its clock, by the last answer that said.
    pub clock: Option<Offset>,
    /// Whether that is more than [`CLOCK_LIMIT`].
    pub clock_is_off: bool,
}

/// How far this machine's clock may be from an authority's before that is said. Maskinporten refuses grants from clocks
/// that are 10 s ahead.
pub const CLOCK_LIMIT: Duration = Duration::from_secs(5);

/// The longest that an authority can ask to be left alone: nobody locks us out for longer.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(5 * 60);

/// An authority that has not answered for so long when its caller gives up has shown that it is slow; before that, the
/// caller has shown that it is in a hurry.
const SILENCE: Duration = Duration::from_secs(2);

/// How long the others wait for one that has been let go to look, and that signs or fetches a token for it. After that
/// another may go, and the first that is ready asks: a device that hangs keeps nobody else from the authority.
const PREPARATION: Duration = Duration::from_secs(2);

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Contact {
    /// With an authority that nobody has asked yet.
    #[must_use]
    pub fn new(authority: Authority, clock: Arc<dyn Clock>) -> Self {
        Self { authority, clock, state: Mutex::default(), changed: Notify::new() }
    }

    /// A snapshot; touches nothing.
    #[must_use]
    pub fn state(&self) -> ContactState {
        let state = self.locked();
        ContactState {
            last_answer: state.last_answer,
            outage: state.away.as_ref().map(Away::outage),
            clock: state.offset,
            clock_is_off: state.clock_is_off,
        }
    }

    /// Since when it is away, and why.
    pub(super) fn outage(&self) -> Option<Outage> {
        self.locked().away.as_ref().map(Away::outage)
    }

    /// Returns when it may be asked: at once as long as it answers.
    ///
    /// # Errors
    /// [`Error::Deadline`] when that is not before the call's deadline; at once when that is known.
    pub(super) async fn turn(&self, call: &Call) -> Result<Turn<'_>, Error> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let until = match self.look(call) {
                Look::Ask { trial } => return Ok(Turn { contact: self, trial, asked: None }),
                Look::TooLate(outage) => return Err(Error::Deadline(Some(Box::new(outage)))),
                Look::Wait(until) => until,
            };
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep_until(until) => {}
            }
        }
    }

    fn look(&self, call: &Call) -> Look {
        let mut state = self.locked();
        let State { away, trials, .. } = &mut *state;
        let Some(away) = away else { return Look::Ask { trial: None } };
        let now = self.clock.now();
        if away.not_before.max(now) >= call.deadline() {
            return Look::TooLate(away.outage());
        }
        if let Some(trial) = &away.trial {
            match trial.prepares_since.map(|since| since + PREPARATION) {
                Some(until) if until <= now => {}
                until => return Look::Wait(until.unwrap_or(call.deadline()).min(call.deadline())),
            }
        }
        if away.not_before > now {
            return Look::Wait(away.not_before);
        }
        *trials += 1;
        away.trial = Some(Trial { number: *trials, prepares_since: Some(now) });
        Look::Ask { trial: Some(*trials) }
    }

    /// Whether the one with this number may ask now. Of several that were let go, one after the other, the first that is
    /// ready may; the others have to wait for how that goes.
    fn may_ask(&self, number: u64) -> bool {
        let now = self.clock.now();
        let mut state = self.locked();
        let Some(away) = &mut state.away else { return true };
        let is_asked = |trial: &Trial| trial.number != number && trial.prepares_since.is_none();
        if away.not_before > now || away.trial.as_ref().is_some_and(is_asked) {
            return false;
        }
        away.trial = Some(Trial { number, prepares_since: None });
        true
    }

    /// The one with this number does something of its own before it asks again.
    fn prepares(&self, number: u64) {
        let now = self.clock.now();
        if let Some(trial) = self.locked().trial(number) {
            trial.prepares_since = Some(now);
        }
        self.changed.notify_waiters();
    }

    /// An answer said what time it is there. Once a line of the log says so when the clocks are apart, and once when
    /// they are together again; `is_said`: an error says it already.
    pub(super) fn compared(&self, offset: Option<Offset>, is_said: bool) {
        let Some(offset) = offset else { return };
        let mut state = self.locked();
        state.offset = Some(offset);
        state.clock_is_off = offset.surely_exceeds(CLOCK_LIMIT);
        if state.clock_is_off == state.clock_is_announced || is_said {
            return;
        }
        state.clock_is_announced = state.clock_is_off;
        let (authority, offset) = (self.authority, offset.to_string());
        if state.clock_is_off {
            tracing::warn!(%authority, offset, "this machine's clock is not the authority's: let NTP keep it");
        } else {
            tracing::info!(%authority, offset, "this machine's clock is the authority's again");
        }
    }

    fn answered(&self) {
        let mut state = self.locked();
        state.last_answer = Some(self.clock.wall());
        if let Some(Away { spell, .. }) = state.away.take() {
            if spell.was_announced() {
                let (authority, lasted) = (self.authority, spell.lasted(&*self.clock));
                tracing::info!(%authority, ?lasted, "the authority is back");
            }
            self.changed.notify_waiters();
        }
    }

    fn failed(&self, error: Error, asked: Moment, trial: Option<u64>) {
        let now = self.clock.now();
        let mut state = self.locked();
        let first = state.away.is_none();
        let was_trial = trial.is_some_and(|number| state.trial(number).is_some());
        let away = state.away.get_or_insert_with(|| Away {
            error: error.clone(),
            spell: Spell::since(asked),
            not_before: now,
            trial: None,
            pauses: backoff(),
        });
        // Those that were under way together when it went away fail together: that is one failure.
        if first || was_trial {
            away.not_before = now + away.pauses.next().unwrap_or(LONGEST_PAUSE);
            away.trial = None;
        }
        away.not_before = away.not_before.max(now + asked_for(&error));
        away.error = error;
        if away.spell.is_to_be_announced(&*self.clock) {
            let outage = away.outage();
            let (authority, side, since) = (self.authority, outage.side, crate::clock::utc(outage.since));
            tracing::warn!(%authority, ?side, since, error = %away.error, "the authority is away");
        }
        self.changed.notify_waiters();
    }

    /// The one with this number did not get as far as to ask: another one may.
    fn not_tried(&self, number: u64) {
        let mut state = self.locked();
        if state.trial(number).is_some() {
            state.away.as_mut().map(|away| away.trial.take());
        }
        self.changed.notify_waiters();
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The one with this number, unless another has gone since.
    fn trial(&mut self, number: u64) -> Option<&mut Trial> {
        self.away.as_mut()?.trial.as_mut().filter(|trial| trial.number == number)
    }
}

enum Look {
    Ask { trial: Option<u64> },
    Wait(Instant),
    TooLate(Outage),
}

/// Leave to ask the authority once. Dropped without an [`end`](Self::end), it counts as a failure when the authority was
/// silent for long, and else as nothing.
pub(super) struct Turn<'a> {
    contact: &'a Contact,
    /// The number of the one that looks whether the authority is back.
    trial: Option<u64>,
    asked: Option<Moment>,
}

impl Turn<'_> {
    /// Whether the authority may be asked now, as it is to be when this says so. It may not when another one, let go
    /// since this one took long to be ready, is asking: then another turn is to be waited for.
    #[must_use]
    pub(super) fn asks(&mut self) -> bool {
        let may = self.trial.is_none_or(|number| self.contact.may_ask(number));
        self.asked = may.then(|| Moment::of(&*self.contact.clock));
        may
    }

    /// What comes now is our own again.
    pub(super) fn pauses(&mut self) {
        self.asked = None;
        if let Some(number) = self.trial {
            self.contact.prepares(number);
        }
    }

    /// How it ended, passed on.
    pub(super) fn end<T>(mut self, result: Result<T, Error>) -> Result<T, Error> {
        let Some(asked) = self.asked else { return result };
        match &result {
            Ok(_) => {}
            Err(Error::Refused(refusal)) if !refusal.is_a_page() => {}
            Err(error) if is_an_outage(error) => {
                self.asked = None;
                self.contact.failed(error.clone(), asked, self.trial.take());
                return result;
            }
            Err(_) => return result,
        }
        self.asked = None;
        self.trial = None;
        self.contact.answered();
        result
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let clock = &*self.contact.clock;
        match (self.asked, self.trial) {
            (Some(asked), trial) if clock.now().since(asked.now) >= SILENCE => {
                self.contact.failed(no_answer(self.contact.authority), asked, trial);
            }
            (_, Some(number)) => self.contact.not_tried(number),
            _ => {}
        }
    }
}

/// Whether the authority, or the way to it, is away for everybody.
fn is_an_outage(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Unavailable { .. } | Error::Malformed { .. } => true,
        // What answers with a page is not the authority's API but something in front of it.
        Error::Refused(refusal) => refusal.is_a_page(),
        _ => false,
    }
}

/// How long the server asks to be left alone, within reason.
fn asked_for(error: &Error) -> Duration {
    match error {
        Error::Unavailable { retry_after, .. } => retry_after.unwrap_or_default().min(LONGEST_ASKED),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
