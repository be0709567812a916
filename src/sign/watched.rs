//! A signer that is watched: when it last worked, and since when it does not.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    call::Call,
    certificate::Chain,
    clock::{BoxFuture, Clock, Instant, Moment, Spell},
    sign::{Error, Health, Key, MakeMessage, Signed, Signer},
};

/// Passes everything on to another signer, and remembers how it went: [`health`](Signer::health) then says since when.
/// One line of the log tells that it is away, one that it is back.
pub struct Watched {
    name: String,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    last_success: Option<SystemTime>,
    trouble: Option<Trouble>,
    generation: Option<u64>,
}

struct Trouble {
    error: Error,
    /// When it was last heard of.
    heard: Instant,
    spell: Spell,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("name", &self.name)
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

impl Watched {
    /// `signer` under the name that the configuration has for it; touches nothing.
    #[must_use]
    pub fn new(name: impl Into<String>, signer: Arc<dyn Signer>, clock: Arc<dyn Clock>) -> Self {
        Self { name: name.into(), signer, clock, record: Mutex::default() }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worked(&self) {
        let mut record = self.record();
        record.last_success = Some(self.clock.wall());
        if let Some(Trouble { spell, .. }) = record.trouble.take()
            && spell.was_announced()
        {
            let lasted = spell.lasted(&*self.clock);
            tracing::info!(signer = self.name, ?lasted, "the signer is back");
        }
    }

    fn failed(&self, error: &Error, asked: Moment) {
        let heard = self.clock.now();
        if !error.is_trouble(heard.since(asked.now)) {
            return;
        }
        let mut record = self.record();
        let mut spell = record.trouble.take().map_or_else(|| Spell::since(asked), |trouble| trouble.spell);
        if spell.is_to_be_announced(&*self.clock) {
            let since = crate::clock::utc(spell.wall());
            tracing::warn!(signer = self.name, since, %error, "the signer is away");
        }
        record.trouble = Some(Trouble { error: error.clone(), heard, spell });
    }

    async fn watch<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let asked = Moment::of(&*self.clock);
        let result = work.await;
        if let Err(error) = &result {
            self.failed(error, asked);
        }
        result
    }
}

impl Signer for Watched {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        Box::pin(async move {
            let key = self.watch(self.signer.key(call)).await?;
            // A key from memory shows nothing of the device; a new generation was found on it just now.
            let known = self.record().generation.replace(key.generation);
            if known != Some(key.generation) {
                self.worked();
            }
            Ok(key)
        })
    }

    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        Box::pin(async move {
            let signed = self.watch(self.signer.sign(call, make)).await?;
            self.worked();
            Ok(signed)
        })
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(self.watch(self.signer.chain(call)))
    }

    /// Of several devices one may be in trouble while another signs: then there is trouble, and no time since when.
    fn health(&self) -> Health {
        let health = self.signer.health();
        let record = self.record();
        // What was away may have come back while nobody asked.
        let lasts = |trouble: &&Trouble| !health.has_ended(&trouble.error, trouble.heard);
        let trouble = record.trouble.as_ref().filter(lasts);
        Health {
            last_success: record.last_success,
            trouble_since: trouble.map(|trouble| trouble.spell.wall()),
            trouble: trouble.map(|trouble| trouble.error.clone()).or(health.trouble),
            ..health
        }
    }

    fn pauses(&self) -> (Duration, Duration) {
        self.signer.pauses()
    }

    fn has_several_keys(&self) -> bool {
        self.signer.has_several_keys()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::UNIX_EPOCH,
    };

    use super::*;
    use crate::{
        clock::ManualClock,
        jose::{Algorithm, RsaPublicKey},
    };

    /// Signs, or fails as it is told.
    #[derive(Debug)]
    struct Device {
        error: Mutex<Option<Error>>,
        answered: Mutex<Option<Instant>>,
        generation: AtomicU64,
        key: RsaPublicKey,
    }

    impl Device {
        fn outcome<T>(&self, good: T) -> Result<T, Error> {
            self.error.lock().unwrap().clone().map_or(Ok(good), Err)
        }
    }

    impl Signer for Device {
        fn key<'a>(&'a self, _call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
            let key = Key {
                algorithm: Algorithm::RS256,
                public_key: self.key.clone(),
                generation: self.generation.load(Ordering::SeqCst),
                device: None,
            };
            // From memory, whether the device is there or not.
            Box::pin(std::future::ready(Ok(key)))
        }

        fn sign<'a>(&'a self, _call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
            let signed = Signed { message: make(), signature: Vec::new(), generation: 1 };
            Box::pin(std::future::ready(self.outcome(signed)))
        }

        fn chain<'a>(&'a self, _call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
            Box::pin(std::future::ready(Err(Error::Closed)))
        }

        fn health(&self) -> Health {
            let answered = *self.answered.lock().unwrap();
            Health { signatures: 7, trouble: Some(Error::WrongSignature), answered, ..Health::default() }
        }
    }

    struct Stand {
        clock: Arc<ManualClock>,
        device: Arc<Device>,
        watched: Watched,
    }

    impl Stand {
        fn new() -> Self {
            let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_000));
            let key = RsaPublicKey::new(&[0xC5; 256], &[1, 0, 1]);
            let (error, answered) = (Mutex::default(), Mutex::default());
            let device = Arc::new(Device { error, answered, generation: AtomicU64::new(1), key });
            let watched = Watched::new("hsm", device.clone(), clock.clone());
            Self { clock, device, watched }
        }

        fn fails_with(&self, error: Option<Error>) {
            *self.device.error.lock().unwrap() = error;
        }

        async fn signs(&self) -> bool {
            self.watched.sign(&Call::new(&*self.clock), Box::new(Vec::new)).await.is_ok()
        }

        async fn shows_its_key(&self) {
            self.watched.key(&Call::new(&*self.clock)).await.unwrap();
        }
    }

    fn gone() -> Error {
        Error::Device { function: "C_Sign".into(), code: "CKR_DEVICE_REMOVED".into() }
    }

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[tokio::test]
    async fn trouble_is_dated_from_its_first_failure_and_ends_with_a_signature() {
        let stand = Stand::new();
        stand.shows_its_key().await;
        assert!(stand.signs().await);
        assert_eq!(
            (stand.watched.health().last_success, stand.watched.health().trouble_since),
            (at(1_000), None)
        );
        stand.fails_with(Some(gone()));
        for _ in 0..3 {
            stand.clock.advance(Duration::from_secs(10));
            assert!(!stand.signs().await);
            // The key is remembered: that it can be had is no sign of life.
            stand.shows_its_key().await;
        }
        let health = stand.watched.health();
        assert_eq!((health.trouble, health.trouble_since, health.signatures), (Some(gone()), at(1_010), 7));
        stand.fails_with(None);
        assert!(stand.signs().await);
        let health = stand.watched.health();
        assert_eq!((health.last_success, health.trouble_since), (at(1_030), None));
        assert_eq!(health.trouble, Some(Error::WrongSignature), "that of a device beside it");
    }

    #[tokio::test]
    async fn a_key_that_was_found_anew_is_a_sign_of_life() {
        let stand = Stand::new();
        stand.shows_its_key().await;
        assert_eq!(stand.watched.health().last_success, at(1_000));
        stand.fails_with(Some(gone()));
        assert!(!stand.signs().await);
        stand.device.generation.store(2, Ordering::SeqCst);
        stand.clock.advance(Duration::from_secs(1));
        stand.shows_its_key().await;
        let health = stand.watched.health();
        assert_eq!((health.last_success, health.trouble_since), (at(1_001), None));
    }

    #[tokio::test]
    async fn trouble_with_a_device_ends_when_it_answers_again_and_that_of_a_person_does_not() {
        let wrong_pin =
            Error::Pin { device: "A (1)".into(), problem: crate::sign::PinProblem::RefusedBefore };
        for (error, since_then) in [(gone(), None), (wrong_pin, at(1_000))] {
            let stand = Stand::new();
            let before = stand.clock.now();
            *stand.device.answered.lock().unwrap() = Some(before);
            stand.fails_with(Some(error));
            assert!(!stand.signs().await);
            assert_eq!(stand.watched.health().trouble_since, at(1_000), "it has not answered since");
            stand.clock.advance(Duration::from_secs(1));
            *stand.device.answered.lock().unwrap() = Some(stand.clock.now());
            assert_eq!(stand.watched.health().trouble_since, since_then);
            stand.clock.advance(Duration::from_secs(1));
            assert!(!stand.signs().await);
            assert_eq!(stand.watched.health().trouble_since, at(1_000), "nothing has been signed between");
        }
    }

    #[tokio::test]
    async fn what_is_the_callers_own_says_nothing_of_the_device() {
        let stand = Stand::new();
        let busy = Error::Busy { waiting: 9, after: Duration::from_secs(2) };
        for error in [Error::Deadline, Error::KeyChanged, Error::Closed, busy] {
            stand.fails_with(Some(error));
            assert!(!stand.signs().await);
            assert_eq!(stand.watched.health().trouble_since, None);
        }
    }
}
