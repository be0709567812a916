use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::Error;
use crate::clock::{Clock, Instant};

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
