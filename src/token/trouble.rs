use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{Contact, Error, Outage, Side};
use crate::{
    clock::{Clock, Moment},
    sign,
};

/// What goes wrong for one source: what is known of the authority, what else failed last, and what is being waited for.
#[derive(Debug)]
pub(super) struct Trouble {
    contact: Arc<Contact>,
    clock: Arc<dyn Clock>,
    /// The last failure that is not the authority's, until something goes right.
    last: Mutex<Option<Failure>>,
    pending: Mutex<Option<(Moment, Error)>>,
}

#[derive(Debug)]
struct Failure {
    outage: Outage,
    /// Whether it shows that somebody is away. Else it is worth a word to whoever runs out of time, and nothing more.
    counts: bool,
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

    /// Notes how a try ended and passes it on. A refusal with a reason is an answer: the authority is there. Why there
    /// was no signature has been noted by [`signing`](Self::signing).
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
            Err(Error::Sign(_)) => {}
            Err(error) => self.note(&mut last, error, true),
        }
        result
    }

    /// Does `work`, which signs, and notes what it shows of the signer.
    pub(super) async fn signing<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let asked = self.clock.now();
        let result = self.unless(Error::Sign(sign::Error::Deadline), work).await;
        match &result {
            // Whatever becomes of the grant, it has just been signed.
            Ok(_) => {
                locked(&self.last).take_if(|failure| failure.outage.side == Side::Signer);
            }
            Err(error @ Error::Sign(why)) => {
                let counts = why.is_trouble(self.clock.now().since(asked));
                self.note(&mut locked(&self.last), error, counts);
            }
            Err(_) => {}
        }
        result
    }

    fn note(&self, last: &mut Option<Failure>, error: &Error, counts: bool) {
        if last.as_ref().is_none_or(|known| counts || !known.counts) {
            let known = last.as_ref().map(|known| &known.outage);
            let outage = Outage::of(error.clone(), self.clock.wall()).going_on(known);
            *last = Some(Failure { outage, counts });
        }
    }

    /// `error` as a part of the outage that is going on.
    pub(super) fn explained(
        &self,
        error: Error,
        signer_since: impl FnOnce() -> Option<SystemTime>,
    ) -> Outage {
        let outage = Outage::of(error, self.clock.wall());
        dated(outage.going_on(self.last(|_| true).as_ref()), signer_since)
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
        Some(dated(self.last(|failure| failure.counts)?, signer_since))
    }

    /// What there is to say to whoever runs out of time, though nobody is known to be away: what has not answered for a
    /// while now, or what failed last.
    pub(super) fn hint(&self) -> Option<Outage> {
        let pending = locked(&self.pending).clone();
        let is_long = |since: &Moment| self.clock.now().since(since.now) >= LONG;
        let long = pending.filter(|(since, _)| is_long(since));
        long.map(|(since, trouble)| Outage::of(trouble, since.wall)).or_else(|| self.last(|_| true))
    }

    fn last(&self, is_meant: impl FnOnce(&Failure) -> bool) -> Option<Outage> {
        self.contact.outage().or_else(|| {
            let last = locked(&self.last);
            last.as_ref().filter(|failure| is_meant(failure)).map(|failure| failure.outage.clone())
        })
    }
}

fn dated(outage: Outage, signer_since: impl FnOnce() -> Option<SystemTime>) -> Outage {
    let since = if outage.side == Side::Signer { signer_since() } else { None };
    Outage { since: since.unwrap_or(outage.since), ..outage }
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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{clock::ManualClock, token::Authority};

    fn trouble() -> Trouble {
        let clock = ManualClock::at(UNIX_EPOCH);
        Trouble::new(Arc::new(Contact::new(Authority::Maskinporten, clock.clone())), clock)
    }

    fn side(outage: Option<Outage>) -> Option<Side> {
        Some(outage?.side)
    }

    #[tokio::test]
    async fn a_signer_that_has_just_signed_is_to_blame_for_nothing_that_comes_after() {
        let gone = sign::Error::Device { function: "C_Sign".into(), code: "CKR_DEVICE_REMOVED".into() };
        for (error, counts) in [(gone, Some(Side::Signer)), (sign::Error::KeyChanged, None)] {
            let trouble = trouble();
            trouble.signing(async { Err::<(), _>(Error::Sign(error)) }).await.unwrap_err();
            assert_eq!([side(trouble.outage(|| None)), side(trouble.hint())], [counts, Some(Side::Signer)]);
            trouble.signing(async { Ok(()) }).await.unwrap();
            assert_eq!([trouble.outage(|| None), trouble.hint()], [None, None]);
        }
    }

    #[tokio::test]
    async fn a_signature_says_nothing_of_an_authority_that_failed() {
        let trouble = trouble();
        let authority = Authority::Maskinporten;
        let error = Error::Unavailable { authority, status: 503, retry_after: None };
        let away = Outage::of(error, UNIX_EPOCH);
        trouble.watch(Err::<(), _>(Error::Away(Box::new(away)))).unwrap_err();
        trouble.signing(async { Ok(()) }).await.unwrap();
        assert_eq!(side(trouble.outage(|| None)), Some(Side::Authority));
    }
}
