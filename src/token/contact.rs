//! What is known of one authority: whether it answers, since when it does not, and how far this machine's clock is from
//! its clock.
//!
//! While it is away, one request at a time looks whether it is back, with growing pauses; everybody else waits for how
//! that goes. So what an authority that is away gets to see does not grow with the number of tokens and callers.

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
}

/// It does not serve, and when it may be asked again.
struct Away {
    error: Error,
    spell: Spell,
    not_before: Instant,
    is_being_tried: bool,
    pauses: Pauses,
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
                Look::Ask { is_trial } => return Ok(Turn { contact: self, is_trial, asked: None }),
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
        let Some(away) = &mut state.away else { return Look::Ask { is_trial: false } };
        if call.wants_fresh() {
            return Look::Ask { is_trial: false };
        }
        let now = self.clock.now();
        if away.not_before.max(now) >= call.deadline() {
            return Look::TooLate(away.outage());
        }
        if away.is_being_tried {
            return Look::Wait(call.deadline());
        }
        if away.not_before > now {
            return Look::Wait(away.not_before);
        }
        away.is_being_tried = true;
        Look::Ask { is_trial: true }
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

    fn failed(&self, error: Error, asked: Moment, was_trial: bool) {
        let now = self.clock.now();
        let mut state = self.locked();
        let first = state.away.is_none();
        let away = state.away.get_or_insert_with(|| Away {
            error: error.clone(),
            spell: Spell::since(asked),
            not_before: now,
            is_being_tried: false,
            pauses: backoff(),
        });
        // Those that were under way together when it went away fail together: that is one failure.
        if first || was_trial {
            away.not_before = now + away.pauses.next().unwrap_or(LONGEST_PAUSE);
            away.is_being_tried = false;
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

    /// The one that was to look did not get that far: another one may.
    fn not_tried(&self) {
        if let Some(away) = &mut self.locked().away {
            away.is_being_tried = false;
        }
        self.changed.notify_waiters();
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look {
    Ask { is_trial: bool },
    Wait(Instant),
    TooLate(Outage),
}

/// Leave to ask the authority once. Dropped without an [`end`](Self::end), it counts as a failure when the authority was
/// silent for long, and else as nothing.
pub(super) struct Turn<'a> {
    contact: &'a Contact,
    is_trial: bool,
    asked: Option<Moment>,
}

impl Turn<'_> {
    /// The authority is asked now.
    pub(super) fn asks(&mut self) {
        self.asked = Some(Moment::of(&*self.contact.clock));
    }

    /// What comes now is our own again.
    pub(super) fn pauses(&mut self) {
        self.asked = None;
    }

    /// How it ended, passed on.
    pub(super) fn end<T>(mut self, result: Result<T, Error>) -> Result<T, Error> {
        let Some(asked) = self.asked else { return result };
        match &result {
            Ok(_) => {}
            Err(Error::Refused(refusal)) if !refusal.is_a_page() => {}
            Err(error) if is_an_outage(error) => {
                self.asked = None;
                self.contact.failed(error.clone(), asked, std::mem::take(&mut self.is_trial));
                return result;
            }
            Err(_) => return result,
        }
        self.asked = None;
        self.is_trial = false;
        self.contact.answered();
        result
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let clock = &*self.contact.clock;
        match self.asked {
            Some(asked) if clock.now().since(asked.now) >= SILENCE => {
                self.contact.failed(no_answer(self.contact.authority), asked, self.is_trial);
            }
            _ if self.is_trial => self.contact.not_tried(),
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
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::ManualClock;

    struct Stand {
        clock: Arc<ManualClock>,
        contact: Arc<Contact>,
    }

    impl Stand {
        fn new() -> Self {
            let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
            let contact = Arc::new(Contact::new(Authority::Customs, clock.clone()));
            Self { clock, contact }
        }

        fn call(&self, patience: u64) -> Call {
            Call::within(&*self.clock, Duration::from_secs(patience))
        }

        async fn ends(&self, result: Result<(), Error>) {
            let call = self.call(3_600);
            let mut turn = self.contact.turn(&call).await.unwrap();
            turn.asks();
            let _ = turn.end(result);
        }
    }

    fn down(retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::Unavailable { authority: Authority::Customs, status: 503, retry_after }
    }

    /// Whether `work` has ended by itself.
    async fn is_done<T>(work: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = tokio::task::yield_now() => None,
        }
    }

    #[tokio::test]
    async fn one_looks_whether_it_is_back_and_the_others_wait_for_how_that_goes() {
        let stand = Stand::new();
        stand.ends(Err(down(None))).await;
        stand.clock.advance(Duration::from_secs(1));
        let call = stand.call(30);
        let mut trial = stand.contact.turn(&call).await.unwrap();
        trial.asks();
        let mut waits = std::pin::pin!(stand.contact.turn(&call));
        assert!(is_done(&mut waits).await.is_none());
        trial.end(Ok(())).unwrap();
        assert!(is_done(&mut waits).await.unwrap().is_ok());
        assert_eq!(stand.contact.outage(), None);
    }

    #[tokio::test]
    async fn one_that_gave_up_before_it_asked_leaves_the_turn_to_another() {
        let stand = Stand::new();
        stand.ends(Err(down(None))).await;
        stand.clock.advance(Duration::from_secs(1));
        let call = stand.call(30);
        let trial = stand.contact.turn(&call).await.unwrap();
        let mut waits = std::pin::pin!(stand.contact.turn(&call));
        assert!(is_done(&mut waits).await.is_none());
        drop(trial);
        assert!(is_done(&mut waits).await.unwrap().is_ok());
        assert!(stand.contact.outage().is_some(), "nothing is known anew");
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_from_a_silent_authority_has_seen_that_it_is_silent() {
        let stand = Stand::new();
        for (waited, is_away) in [(1, false), (2, true)] {
            let call = stand.call(30);
            let mut turn = stand.contact.turn(&call).await.unwrap();
            turn.asks();
            stand.clock.advance(Duration::from_secs(waited));
            drop(turn);
            assert_eq!(stand.contact.outage().is_some(), is_away, "{waited} s");
        }
    }

    #[tokio::test]
    async fn a_wait_that_was_asked_for_holds_for_those_who_come_later_and_ends_after_five_minutes() {
        let stand = Stand::new();
        stand.ends(Err(down(Some(86_400)))).await;
        stand.clock.advance(Duration::from_secs(1));
        let error = stand.contact.turn(&stand.call(30)).await.err().unwrap();
        assert!(error.to_string().contains("HTTP 503"), "{error}");
        stand.clock.advance(Duration::from_secs(298));
        let call = stand.call(30);
        let mut waits = std::pin::pin!(stand.contact.turn(&call));
        assert!(is_done(&mut waits).await.is_none());
        stand.clock.advance(Duration::from_secs(1));
        assert!(is_done(&mut waits).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn who_wants_a_fresh_answer_asks_at_once() {
        let stand = Stand::new();
        stand.ends(Err(down(Some(60)))).await;
        let call = stand.call(30).fresh();
        assert!(stand.contact.turn(&call).await.is_ok());
    }

    #[tokio::test]
    async fn failures_of_one_moment_are_one_failure() {
        let stand = Stand::new();
        let call = stand.call(3_600);
        let mut turns = Vec::new();
        for _ in 0..200 {
            turns.push(stand.contact.turn(&call).await.unwrap());
        }
        for mut turn in turns {
            turn.asks();
            let _ = turn.end::<()>(Err(down(None)));
        }
        // A quarter of a second, and what the jitter adds.
        stand.clock.advance(Duration::from_millis(500));
        let mut turn = std::pin::pin!(stand.contact.turn(&call));
        assert!(is_done(&mut turn).await.is_some());
    }

    #[test]
    fn a_clock_that_is_off_is_noticed_and_so_is_one_that_is_right_again() {
        let stand = Stand::new();
        let sent = Moment::of(&*stand.clock);
        for (behind, is_off) in [(3, false), (30, true), (0, false)] {
            let there = sent.wall + Duration::from_secs(behind);
            stand.contact.compared(Offset::measured(sent, sent, there), false);
            assert_eq!(stand.contact.state().clock_is_off, is_off, "{behind} s");
        }
    }
}
