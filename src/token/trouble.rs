use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{Contact, Error, Outage, Side};
use crate::clock::{Clock, Moment};

/// What goes wrong for one source: what is known of the authority, what else failed last, and what is being waited for.
#[derive(Debug)]
pub(super) struct Trouble {
    contact: Arc<Contact>,
    clock: Arc<dyn Clock>,
    /// The last failure that is not the authority's, until something goes right.
    last: Mutex<Option<Outage>>,
    pending: Mutex<Option<(Moment, Error)>>,
}

/// What takes longer than this is worth a word to whoever runs out of time.
const LONG: Duration = Duration::from_millis(500);

impl Trouble {
    pub(super) fn new(contact: Arc<Contact>, clock: Arc<dyn Clock>) -> Self {
        Self { contact, clock, last: Mutex::default(), pending: Mutex::default() }
    }

    pub(super) fn contact(&self) -> &Arc<Contact> {
        &self.contact
    }

    /// Notes how a try ended and passes it on. A refusal with a reason is an answer: the authority is there.
    pub(super) fn watch<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let mut last = locked(&self.last);
        match &result {
            Ok(_) => *last = None,
            Err(Error::Refused(refusal)) if refusal.is_clear() || refusal.is_a_page() => *last = None,
            // A caller's lack of time says nothing of anybody, and of the authority the contact knows.
            Err(Error::Request(_) | Error::Deadline(_) | Error::Closed | Error::TooShort { .. }) => {}
            Err(Error::Unreachable { .. } | Error::Unavailable { .. } | Error::Malformed { .. }) => {
                *last = None
            }
            Err(error) => *last = Some(Outage::of(error.clone(), self.clock.wall()).going_on(last.as_ref())),
        }
        result
    }

    /// `error` as a part of the outage that is going on.
    pub(super) fn explained(
        &self,
        error: Error,
        signer_since: impl FnOnce() -> Option<SystemTime>,
    ) -> Outage {
        Outage::of(error, self.clock.wall()).going_on(self.outage(signer_since).as_ref())
    }

    /// Does `work`; as long as it is not done, `trouble` is what there is to say of it. Of several at a time the
    /// latest is remembered: it is a hint for people.
    pub(super) async fn unless<T>(&self, trouble: Error, work: impl Future<Output = T>) -> T {
        *locked(&self.pending) = Some((Moment::of(&*self.clock), trouble));
        let _pending = Pending(self);
        work.await
    }

    /// Who is away. `signer_since` is what the signer itself says of the beginning, for trouble with it.
    pub(super) fn outage(&self, signer_since: impl FnOnce() -> Option<SystemTime>) -> Option<Outage> {
        let outage = self.contact.outage().or_else(|| locked(&self.last).clone())?;
        let since = if outage.side == Side::Signer { signer_since() } else { None };
        Some(Outage { since: since.unwrap_or(outage.since), ..outage })
    }

    /// What has not answered for a while now.
    pub(super) fn pending(&self) -> Option<Outage> {
        let pending = locked(&self.pending);
        let (since, trouble) = pending.as_ref()?;
        let is_long = self.clock.now().since(since.now) >= LONG;
        is_long.then(|| Outage::of(trouble.clone(), since.wall))
    }
}

/// Dropped when the work is done, or given up.
struct Pending<'a>(&'a Trouble);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        *locked(&self.0.pending) = None;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
