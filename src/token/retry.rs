use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};

use super::Error;
use crate::{
    call::Call,
    clock::{Clock, Instant},
    sign::{Fault, Retry},
};

/// The tries of one call: how long to pause after each, and when there is to be no other.
pub(super) struct Tries<'a> {
    clock: &'a dyn Clock,
    deadline: Instant,
    delays: Box<dyn Iterator<Item = Duration> + Send>,
    minted_again: bool,
}

impl<'a> Tries<'a> {
    pub(super) fn new(clock: &'a dyn Clock, call: &Call) -> Self {
        Self { clock, deadline: call.deadline(), delays: Box::new(backoff()), minted_again: false }
    }

    /// Returns when it is time for another try, which always begins with a newly minted grant.
    ///
    /// # Errors
    /// `error` itself when another try cannot help, inside [`Error::Deadline`] when there is no time for one.
    pub(super) async fn pause_after(&mut self, error: Error) -> Result<(), Error> {
        let wait = match error.retry() {
            Retry::NewGrant if !self.minted_again => {
                self.minted_again = true;
                Duration::ZERO
            }
            Retry::After(least) if worth_waiting_for(&error) => {
                self.delays.next().unwrap_or_default().max(least).max(asked_for(&error))
            }
            _ => return Err(error),
        };
        let at = self.clock.now() + wait;
        if at >= self.deadline {
            return Err(Error::Deadline(Some(Box::new(error))));
        }
        tracing::debug!(%error, ?wait, "trying again");
        self.clock.sleep_until(at).await;
        // The machine may have slept, too.
        if self.clock.now() >= self.deadline {
            return Err(Error::Deadline(Some(Box::new(error))));
        }
        Ok(())
    }
}

/// Pauses between tries: doubling from a quarter of a second to half a minute, with jitter, for ever.
pub(super) fn backoff() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .without_max_times()
        .build()
}

/// Whether a caller would rather wait than be told now. A missing device or a key on its way through the portal is
/// a matter of minutes, which the caller should hear of at once.
fn worth_waiting_for(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Malformed { .. } => true,
        Error::Refused(refusal) => !refusal.is_clear() && !refusal.may_be_propagation(),
        Error::Sign(error) => error.kind() == Fault::Load,
        _ => false,
    }
}

/// How long the server asks to be left alone.
fn asked_for(error: &Error) -> Duration {
    match error {
        Error::Unreachable { retry_after, .. } => retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// The last failure that was no answer, until something goes right; and what is being waited for.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    last: Mutex<Option<Error>>,
    pending: Mutex<Option<(Instant, Error)>>,
}

/// What takes longer than this is worth a word to whoever runs out of time.
const LONG: Duration = Duration::from_millis(500);

impl Trouble {
    /// Notes how a try ended and passes it on. A refusal is an answer: the authority is there.
    pub(super) fn watch<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let trouble = match &result {
            Ok(_) => None,
            Err(Error::Refused(refusal)) if refusal.is_clear() => None,
            // A caller's lack of time says nothing of the authority.
            Err(Error::Deadline(_)) => return result,
            Err(error) => Some(error.clone()),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        result
    }

    /// Does `work`; as long as it is not done, `trouble` is what there is to say of it. Of several at a time the
    /// latest is remembered: it is a hint for people.
    pub(super) async fn unless<T>(
        &self,
        trouble: Error,
        clock: &dyn Clock,
        work: impl Future<Output = T>,
    ) -> T {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some((clock.now(), trouble));
        let _pending = Pending(self);
        work.await
    }

    pub(super) fn last(&self, clock: &dyn Clock) -> Option<Error> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.or_else(|| {
            let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let (since, trouble) = pending.as_ref()?;
            (clock.now().since(*since) >= LONG).then(|| trouble.clone())
        })
    }
}

/// Dropped when the work is done, or given up.
struct Pending<'a>(&'a Trouble);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        *self.0.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many machines lose the same authority at the same moment.
    #[test]
    fn two_programs_do_not_pause_alike() {
        let pauses = || backoff().take(8).collect::<Vec<_>>();
        assert_ne!(pauses(), pauses());
    }
}
