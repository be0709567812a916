use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::{Error, Outage};
use crate::{
    call::Call,
    clock::{Clock, Instant},
    sign::{Fault, Retry},
};

/// The tries of one call: how long to pause after each, and when there is to be no other.
pub(super) struct Tries<'a> {
    clock: &'a dyn Clock,
    deadline: Instant,
    delays: Pauses,
    minted_again: bool,
}

impl<'a> Tries<'a> {
    pub(super) fn new(clock: &'a dyn Clock, call: &Call) -> Self {
        Self { clock, deadline: call.deadline(), delays: backoff(), minted_again: false }
    }

    /// Returns when it is time for another try, which always begins with a newly minted grant.
    ///
    /// # Errors
    /// `error` itself when another try cannot help; [`Error::Deadline`] with what `explained` makes of it when there is
    /// no time for one.
    pub(super) async fn pause_after(
        &mut self,
        error: Error,
        explained: impl FnOnce(Error) -> Outage,
    ) -> Result<(), Error> {
        let wait = match error.retry() {
            Retry::NewGrant if !self.minted_again => {
                self.minted_again = true;
                Duration::ZERO
            }
            Retry::After(least) if worth_waiting_for(&error) => {
                self.delays.next().unwrap_or(LONGEST_PAUSE).max(least)
            }
            _ => return Err(error),
        };
        let at = self.clock.now() + wait;
        if at < self.deadline {
            tracing::debug!(%error, ?wait, "trying again");
            self.clock.sleep_until(at).await;
            // The machine may have slept, too.
            if self.clock.now() < self.deadline {
                return Ok(());
            }
        }
        Err(Error::Deadline(Some(Box::new(explained(error)))))
    }
}

/// The longest pause between two tries: who waits for an authority that is back waits no longer than this.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Pauses, one after the other.
pub(super) type Pauses = ExponentialBackoff;

/// Pauses between tries: doubling from a quarter of a second to ten seconds, with jitter, for ever.
pub(super) fn backoff() -> Pauses {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

/// Whether a caller would rather wait than be told now. A missing device or a key on its way through the portal is
/// a matter of minutes, which the caller should hear of at once.
fn worth_waiting_for(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Unavailable { .. } | Error::Malformed { .. } => true,
        Error::Refused(refusal) => !refusal.is_clear() && !refusal.may_be_propagation(),
        Error::Sign(error) => error.kind() == Fault::Load,
        _ => false,
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
