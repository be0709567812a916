//! What went wrong last for a signer, when nothing has gone right since.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    clock::{Clock, Instant},
    sign::{Error, Health},
};

/// The error, and when it was heard of.
#[derive(Debug, Default)]
pub(super) struct LastTrouble(Mutex<Option<(Error, Instant)>>);

impl LastTrouble {
    /// Does `work` and remembers how it went. A failure that says nothing of the signer, as a caller's own haste, changes
    /// nothing.
    pub(super) async fn watch<T>(
        &self,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let asked = clock.now();
        let outcome = work.await;
        let heard = clock.now();
        match &outcome {
            Ok(_) => *self.locked() = None,
            Err(error) if error.is_trouble(heard.since(asked)) => {
                *self.locked() = Some((error.clone(), heard));
            }
            Err(_) => {}
        }
        outcome
    }

    /// What is wrong still, as `health` has it: what was away may have come back while nobody asked.
    pub(super) fn lasting(&self, health: &Health) -> Option<Error> {
        let last = self.locked();
        let (error, _) = last.as_ref().filter(|(error, heard)| !health.has_ended(error, *heard))?;
        Some(error.clone())
    }

    fn locked(&self) -> MutexGuard<'_, Option<(Error, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test]
    async fn what_is_the_callers_own_is_neither_trouble_nor_the_end_of_it() {
        let gone = Error::Device { function: "C_Sign".into(), code: "CKR_DEVICE_REMOVED".into() };
        let busy = Error::Busy { waiting: 64, after: Duration::from_secs(1) };
        let (at_once, hurried, patient) =
            (Duration::ZERO, Duration::from_millis(300), Duration::from_secs(2));
        for (error, waited, is_trouble) in [
            (Error::WrongSignature, at_once, true),
            (Error::Deadline, patient, true),
            (Error::Deadline, hurried, false),
            (busy, at_once, false),
            (Error::KeyChanged, at_once, false),
            (Error::Closed, at_once, false),
        ] {
            let clock = ManualClock::at(UNIX_EPOCH);
            let last = LastTrouble::default();
            let fails = async |error: &Error, after| {
                let work = async {
                    clock.advance(after);
                    Err::<(), _>(error.clone())
                };
                last.watch(&*clock, work).await.unwrap_err();
                last.lasting(&Health::default())
            };
            assert_eq!(fails(&error, waited).await, is_trouble.then(|| error.clone()));
            assert_eq!(fails(&gone, at_once).await, Some(gone.clone()));
            let then = if is_trouble { &error } else { &gone };
            assert_eq!(fails(&error, waited).await.as_ref(), Some(then));
            last.watch(&*clock, async { Ok(()) }).await.unwrap();
            assert_eq!(last.lasting(&Health::default()), None);
        }
    }
}
