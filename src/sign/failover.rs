//! One signer over several devices.
//!
//! ```text
//!   same key in all          one signs; when its device fails, another takes over within the same call
//!   different keys           the one whose certificate is the newest valid one signs: an old device and its successor
//! ```
//!
//! A signature never goes by the generation of another key than the one that made it, so a proof made for one key is
//! never passed off as one for another. Devices with the same key share a generation: a take-over among them is nobody's
//! business but the operator's.

mod standing;

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use self::standing::{Announced, State};
use crate::{
    call::Call,
    certificate::Chain,
    clock::{BoxFuture, Clock, Instant},
    sign::{Error, Fault, Health, Key, MakeMessage, Signed, Signer},
};

/// How long a member that is looked at beside others may hold them up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How old a message may be when a second member signs it: its `iat` was taken when the first one's turn had come.
const FRESH: Duration = Duration::from_secs(5);

/// Signs with one of several signers.
///
/// A member that fails is left alone for as long as its profile says, 0.25 s at first and 1 s at most by default; one
/// that does not answer, for 5 s to 5 min; and one whose PIN was refused, for good. Others go on, and
/// [`health`](Signer::health) shows who is away and since when.
pub struct Failover {
    members: Vec<Arc<dyn Signer>>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    signatures: AtomicU64,
    trouble: Mutex<Option<(Error, Instant)>>,
}

impl fmt::Debug for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failover").field(&self.members).finish()
    }
}

impl Failover {
    /// `first`, and `others` in the order in which they are preferred where nothing else decides. Touches nothing.
    #[must_use]
    pub fn new(
        first: Arc<dyn Signer>,
        others: impl IntoIterator<Item = Arc<dyn Signer>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let members: Vec<_> = std::iter::once(first).chain(others).collect();
        let state = Mutex::new(State::of(members.len()));
        Self { members, clock, state, signatures: AtomicU64::new(0), trouble: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with what members know better by now.
    fn state_as_known(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.look_again(|index| Some(self.members.get(index)?.health()));
        state
    }

    fn member(&self, index: usize) -> Result<&Arc<dyn Signer>, Error> {
        self.members.get(index).ok_or(Error::Closed)
    }

    /// The member that signs, and its key, asked of it just now.
    async fn chosen(&self, call: &Call) -> Result<(usize, Key), Error> {
        self.look(call).await;
        let mut late = Vec::new();
        // Each round takes a member out, finds one to be another than it was, or is the last.
        for _ in 0..=2 * self.members.len() {
            let index = self.state().choose(self.clock.wall(), &late)?;
            late.push(index);
            let has_others = self.state().others_ready(&late);
            late.pop();
            let left = call.left(&*self.clock) / if has_others { 2 } else { 1 };
            let part = in_part(call, self.clock.now() + left, has_others);
            match self.member(index)?.key(&part).await {
                Ok(key) => {
                    if !self.state().met(index, &key) {
                        return Ok((index, key));
                    }
                    self.certify(call).await;
                }
                Err(error) if says_nothing(&error, left) => {
                    if call.is_over(&*self.clock) {
                        return Err(error);
                    }
                    late.push(index);
                }
                Err(error) => self.failed(index, error, call)?,
            }
        }
        Err(Error::KeyChanged)
    }

    /// Asks those whose time has come for their keys, and for certificates where these decide.
    async fn look(&self, call: &Call) {
        let (due, any_ready) = {
            let state = self.state_as_known();
            (state.due(self.clock.now()), state.any_ready())
        };
        if due.is_empty() {
            return;
        }
        let began = self.clock.now();
        let part = in_part(call, call.deadline(), any_ready);
        let asked = due.into_iter().filter_map(|index| Some((index, self.members.get(index)?.key(&part))));
        for (index, outcome) in self.answers(asked.collect(), any_ready).await {
            match outcome {
                Ok(key) => {
                    self.state().met(index, &key);
                }
                Err(error) if says_nothing(&error, self.clock.now().since(began)) => {}
                Err(error) => self.note(index, error),
            }
        }
        self.certify(call).await;
    }

    async fn certify(&self, call: &Call) {
        let uncertified = self.state().uncertified(self.clock.now());
        if uncertified.is_empty() {
            return;
        }
        let began = self.clock.now();
        let asked =
            uncertified.into_iter().filter_map(|index| Some((index, self.members.get(index)?.chain(call))));
        for (index, outcome) in self.answers(asked.collect(), false).await {
            match outcome {
                Ok(chain) => self.state().certified(index, chain.leaf().clone()),
                Err(error) if says_nothing(&error, self.clock.now().since(began)) => {}
                Err(error) => self.note(index, error),
            }
        }
    }

    /// What all of them answer. One that takes long is not waited for when another has answered, or is there anyway.
    async fn answers<T>(
        &self,
        mut open: Vec<(usize, BoxFuture<'_, Result<T, Error>>)>,
        any_ready: bool,
    ) -> Vec<(usize, Result<T, Error>)> {
        let patience = || self.clock.sleep_until(self.clock.now() + PATIENCE);
        let mut waiting = any_ready.then(patience);
        let mut done = Vec::new();
        poll_fn(|context| {
            open.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(outcome) => {
                    done.push((*index, outcome));
                    false
                }
                Poll::Pending => true,
            });
            if open.is_empty() {
                return Poll::Ready(());
            }
            if waiting.is_none() && done.iter().any(|(_, outcome)| outcome.is_ok()) {
                waiting = Some(patience());
            }
            waiting.as_mut().map_or(Poll::Pending, |waiting| waiting.as_mut().poll(context))
        })
        .await;
        done.extend(open.into_iter().map(|(index, _)| (index, Err(Error::Deadline))));
        done
    }

    /// Notes that a member failed; an error when there is no time or reason to ask another one.
    fn failed(&self, index: usize, error: Error, call: &Call) -> Result<(), Error> {
        let over = call.is_over(&*self.clock);
        self.note(index, error.clone());
        if over || error.kind() == Fault::Load { Err(error) } else { Ok(()) }
    }

    fn note(&self, index: usize, error: Error) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let pauses = self.members.get(index).map_or_else(Default::default, |member| member.pauses());
        self.state().failed(index, error, now, wall, pauses);
    }

    async fn find(&self, call: &Call) -> Result<Key, Error> {
        let (_, key) = self.chosen(call).await?;
        let generation = self.state().announce(&key.public_key);
        Ok(Key { generation, ..key })
    }

    async fn sign_with_one(&self, call: &Call, make: MakeMessage) -> Result<Signed, Error> {
        let (chosen, key) = self.chosen(call).await?;
        let (order, announced) = {
            let mut state = self.state();
            state.announce_once(&key.public_key);
            (state.order(chosen), state.announced())
        };
        let message = Message::new(make, self.clock.clone());
        let mut first = None;
        for (position, index) in order.iter().enumerate() {
            let others = u32::try_from(order.len() - position).unwrap_or(u32::MAX);
            let share = call.left(&*self.clock) / others;
            let began = self.clock.now();
            let (make, is_stale) = message.maker();
            let part = in_part(call, began + share, others > 1);
            match self.member(*index)?.sign(&part, make).await {
                Ok(_) if is_stale.load(Ordering::SeqCst) => break,
                Ok(signed) => return self.identified(*index, signed, call, &announced).await,
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    if !says_nothing(&error, share) {
                        self.note(*index, error.clone());
                    }
                    first.get_or_insert(error);
                }
            }
            if call.is_over(&*self.clock) {
                break;
            }
        }
        let error = first.unwrap_or(Error::Deadline);
        // Another key is ready: a grant for it has to be made anew, and the first step there is a proof.
        let goes_on = error.kind() != Fault::Load && self.state().any_ready() && !call.is_over(&*self.clock);
        Err(if goes_on { Error::KeyChanged } else { error })
    }

    /// The signature under the generation of the key that made it.
    async fn identified(
        &self,
        index: usize,
        signed: Signed,
        call: &Call,
        announced: &[Announced],
    ) -> Result<Signed, Error> {
        let known = self.state().key(index).filter(|key| key.generation == signed.generation).cloned();
        let key = match known {
            Some(key) => key,
            // The device came back in between, perhaps with another key.
            None => {
                let key = self.member(index)?.key(call).await?;
                self.state().met(index, &key);
                if key.generation != signed.generation {
                    return Err(Error::KeyChanged);
                }
                key
            }
        };
        let mut state = self.state();
        state.signed(index);
        let generation = Announced::generation_of(announced, &key.public_key)
            .unwrap_or_else(|| state.announce_once(&key.public_key));
        self.signatures.fetch_add(1, Ordering::Relaxed);
        Ok(Signed { generation, ..signed })
    }

    async fn read_chain(&self, call: &Call) -> Result<Chain, Error> {
        let (chosen, _) = self.chosen(call).await?;
        let mut first = None;
        let order = self.state().order(chosen);
        for index in order {
            match self.member(index)?.chain(call).await {
                Ok(chain) => return Ok(chain),
                // It may stand beside the same key in another device.
                Err(error) => first.get_or_insert(error),
            };
        }
        Err(first.unwrap_or(Error::Deadline))
    }

    /// Remembers how it went.
    fn noted<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(_) => *trouble = None,
            Err(Error::Closed) => {}
            Err(error) => *trouble = Some((error.clone(), self.clock.now())),
        }
        outcome
    }
}

impl Signer for Failover {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        Box::pin(async move { self.noted(self.find(call).await) })
    }

    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        Box::pin(async move { self.noted(self.sign_with_one(call, make).await) })
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(async move { self.noted(self.read_chain(call).await) })
    }

    fn health(&self) -> Health {
        let (away, of_a_member) = {
            let state = self.state_as_known();
            (state.away(self.clock.now()), state.trouble())
        };
        let health = Health {
            signatures: self.signatures.load(Ordering::Relaxed),
            away,
            answered: self.members.iter().filter_map(|member| member.health().answered).max(),
            ..Health::default()
        };
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What was away may have come back while nobody asked.
        let trouble = trouble.filter(|(error, heard)| !health.has_ended(error, *heard));
        Health { trouble: trouble.map(|(error, _)| error).or(of_a_member), ..health }
    }

    fn pauses(&self) -> (Duration, Duration) {
        let of_members = self.members.iter().map(|member| member.pauses());
        of_members.min().unwrap_or_default()
    }

    fn has_several_keys(&self) -> bool {
        self.state().keys_differ()
    }
}

/// A part of the time of `call`; where there are others to ask, a device that is away is not waited for.
fn in_part(call: &Call, until: Instant, has_others: bool) -> Call {
    let part = call.clone().no_later_than(until);
    if has_others { part.at_once() } else { part }
}

/// A caller in a hurry says nothing of the device.
fn says_nothing(error: &Error, waited: Duration) -> bool {
    *error == Error::Deadline && waited < PATIENCE
}

/// A message that is made once, whoever signs it.
struct Message {
    made: Arc<Mutex<Made>>,
    clock: Arc<dyn Clock>,
}

enum Made {
    NotYet(Option<MakeMessage>),
    At(Instant, Vec<u8>),
}

impl Message {
    fn new(make: MakeMessage, clock: Arc<dyn Clock>) -> Self {
        Self { made: Arc::new(Mutex::new(Made::NotYet(Some(make)))), clock }
    }

    /// What one member is to call, and whether what it was given then had grown too old.
    fn maker(&self) -> (MakeMessage, Arc<AtomicBool>) {
        let is_stale = Arc::new(AtomicBool::new(false));
        let (made, clock, stale) = (self.made.clone(), self.clock.clone(), is_stale.clone());
        let make = move || {
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *made {
                Made::NotYet(make) => {
                    let bytes = make.take().map(|make| make()).unwrap_or_default();
                    *made = Made::At(clock.now(), bytes.clone());
                    bytes
                }
                Made::At(at, bytes) => {
                    stale.store(clock.now().since(*at) > FRESH, Ordering::SeqCst);
                    bytes.clone()
                }
            }
        };
        (Box::new(make), is_stale)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::AtomicU32, time::Duration};

    use aws_lc_rs::{rsa::PublicKeyComponents, signature::RSA_PKCS1_2048_8192_SHA256};
    use proptest::prelude::*;
    use rcgen::DnType;

    use super::*;
    use crate::{
        certificate::{
            Certificate,
            sample::{self, Authority, Pair, days},
        },
        clock::ManualClock,
        jose::{Algorithm, RsaPublicKey},
        sign::{CertificateSource, Credential, FileSigner, Identity, PinProblem},
    };

    /// What a device does besides working.
    #[derive(Clone, Debug, PartialEq)]
    enum Mood {
        Well,
        /// It answers with this error; `true`: after the message was made.
        Fails(Error, bool),
        /// It never answers.
        Hangs,
    }

    /// A file signer that plays a device: it can fail, hang, come back, and come back with another key.
    #[derive(Debug)]
    struct Device {
        clock: Arc<ManualClock>,
        folder: tempfile::TempDir,
        inside: Mutex<(Arc<FileSigner>, u64)>,
        mood: Mutex<Mood>,
        asked: AtomicU32,
        /// When it was last found to be back, by somebody else.
        answered: Mutex<Option<Instant>>,
    }

    impl Device {
        fn with(pair: &Pair, certificates: Vec<Certificate>, clock: &Arc<ManualClock>) -> Arc<Self> {
            let folder = tempfile::tempdir().unwrap();
            let signer = file_signer(&folder, pair, certificates, clock);
            Arc::new(Self {
                clock: clock.clone(),
                folder,
                inside: Mutex::new((signer, 1)),
                mood: Mutex::new(Mood::Well),
                asked: AtomicU32::new(0),
                answered: Mutex::default(),
            })
        }

        fn set(&self, mood: Mood) {
            *self.mood.lock().unwrap() = mood;
        }

        fn comes_back_with(&self, pair: &Pair, certificates: Vec<Certificate>) {
            let mut inside = self.inside.lock().unwrap();
            let signer = file_signer(&self.folder, pair, certificates, &self.clock);
            *inside = (signer, inside.1 + 1);
        }

        /// Somebody else finds it to be back.
        fn is_found(&self) {
            *self.answered.lock().unwrap() = Some(self.clock.now());
        }

        fn asked(&self) -> u32 {
            self.asked.swap(0, Ordering::SeqCst)
        }

        fn inside(&self) -> (Arc<FileSigner>, u64) {
            self.inside.lock().unwrap().clone()
        }

        async fn answer(&self, call: &Call, make: Option<MakeMessage>) -> Result<Option<MakeMessage>, Error> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let mood = self.mood.lock().unwrap().clone();
            match mood {
                Mood::Well => Ok(make),
                Mood::Fails(error, spends) => {
                    if let Some(make) = make.filter(|_| spends) {
                        make();
                    }
                    Err(error)
                }
                Mood::Hangs => {
                    self.clock.sleep_until(call.deadline()).await;
                    Err(Error::Deadline)
                }
            }
        }
    }

    fn file_signer(
        folder: &tempfile::TempDir,
        pair: &Pair,
        certificates: Vec<Certificate>,
        clock: &Arc<ManualClock>,
    ) -> Arc<FileSigner> {
        let path = folder.path().join("key");
        crate::state::write_file(&path, pair.pkcs8(), crate::state::Mode::Private, true).unwrap();
        let signer = FileSigner::new(&path, Algorithm::RS256, Arc::new(|| Ok(None)), clock.clone());
        Arc::new(signer.with_certificates(certificates))
    }

    impl Signer for Device {
        fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
            Box::pin(async move {
                self.answer(call, None).await?;
                let (signer, generation) = self.inside();
                Ok(Key { generation, ..signer.key(call).await? })
            })
        }

        fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
            Box::pin(async move {
                let make = self.answer(call, Some(make)).await?.unwrap();
                let (signer, generation) = self.inside();
                Ok(Signed { generation, ..signer.sign(call, make).await? })
            })
        }

        fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
            Box::pin(async move {
                self.answer(call, None).await?;
                self.inside().0.chain(call).await
            })
        }

        fn health(&self) -> Health {
            Health { answered: *self.answered.lock().unwrap(), ..self.inside().0.health() }
        }
    }

    fn clock() -> Arc<ManualClock> {
        ManualClock::at(sample::today())
    }

    fn broken() -> Mood {
        Mood::Fails(Error::Device { function: "C_Sign".into(), code: "CKR_DEVICE_ERROR".into() }, false)
    }

    fn pin_refused() -> Mood {
        let problem = PinProblem::Refused("CKR_PIN_INCORRECT".into());
        Mood::Fails(Error::Pin { device: "A".into(), problem }, false)
    }

    fn failover(devices: &[&Arc<Device>], clock: &Arc<ManualClock>) -> Failover {
        let mut members = devices.iter().map(|device| -> Arc<dyn Signer> { (*device).clone() });
        Failover::new(members.next().unwrap(), members, clock.clone())
    }

    fn message() -> MakeMessage {
        Box::new(|| b"header.payload".to_vec())
    }

    fn verifies(signed: &Signed, key: &RsaPublicKey) -> bool {
        let components = PublicKeyComponents { n: key.modulus(), e: key.exponent() };
        components.verify(&RSA_PKCS1_2048_8192_SHA256, &signed.message, &signed.signature).is_ok()
    }

    /// A certificate of `pair` for this organisation, valid in these days from today.
    fn certificate(pair: &Pair, number: &str, from: i64, to: i64) -> Vec<Certificate> {
        let root = Authority::root("Rot");
        let mut params = sample::parameters("Virksomhet");
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), format!("NTRNO-{number}"));
        params.not_before = days(from).into();
        params.not_after = days(to).into();
        vec![root.issue(&params, pair), root.certificate]
    }

    fn pairs() -> [&'static Pair; 2] {
        Pair::shared()
    }

    const DIGDIR: &str = "991825827";
    const CUSTOMS: &str = "974761343";

    #[tokio::test]
    async fn the_other_device_takes_over_within_the_same_call_and_under_the_same_generation() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = failover(&[&a, &b], &clock);
        let before = failover.key(&Call::new(&*clock)).await.unwrap();
        for (mood, made_first) in [(broken(), false), (broken(), true)] {
            let Mood::Fails(error, _) = mood else { unreachable!() };
            let call = Call::new(&*clock);
            a.set(Mood::Fails(error.clone(), made_first));
            let signed = failover.sign(&call, message()).await.unwrap();
            assert_eq!(signed.generation, before.generation);
            assert!(verifies(&signed, &before.public_key));
            assert_eq!(failover.health().trouble, Some(error));
            assert_eq!(failover.key(&call).await.unwrap().generation, before.generation);
            a.set(Mood::Well);
            clock.advance(Duration::from_secs(301));
            failover.key(&Call::new(&*clock)).await.unwrap();
            assert_eq!(failover.health().trouble, None, "it is seen to be well again");
            b.set(broken());
            assert!(failover.sign(&Call::new(&*clock), message()).await.is_ok(), "and takes over again");
            b.set(Mood::Well);
            clock.advance(Duration::from_secs(301));
        }
    }

    #[tokio::test]
    async fn a_device_that_failed_is_left_alone_for_longer_each_time() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = failover(&[&a, &b], &clock);
        a.set(broken());
        let mut pauses = Vec::new();
        let mut pause = 0;
        while pauses.len() < 7 {
            failover.sign(&Call::new(&*clock), message()).await.unwrap();
            if a.asked() > 0 {
                pauses.push(pause);
                pause = 0;
            }
            clock.advance(Duration::from_millis(250));
            pause += 250;
        }
        assert_eq!(pauses, [0, 250, 500, 1000, 1000, 1000, 1000]);
    }

    #[tokio::test]
    async fn a_device_that_refused_its_pin_is_never_asked_again_and_the_other_goes_on() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = failover(&[&a, &b], &clock);
        a.set(pin_refused());
        failover.sign(&Call::new(&*clock), message()).await.unwrap();
        assert_eq!(a.asked(), 1);
        for _ in 0..5 {
            clock.advance(Duration::from_secs(1000));
            failover.sign(&Call::new(&*clock), message()).await.unwrap();
        }
        assert_eq!(a.asked(), 0);
        let health = failover.health();
        assert!(matches!(health.trouble, Some(Error::Pin { .. })));
        assert_eq!(health.away, [], "nobody is told when it is asked again");
        b.set(broken());
        assert!(failover.sign(&Call::new(&*clock), message()).await.is_err());
        assert_eq!(a.asked(), 0, "not even when it is the last");
    }

    #[tokio::test]
    async fn a_device_that_hangs_leaves_the_other_its_share_of_the_time() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = Arc::new(failover(&[&a, &b], &clock));
        failover.key(&Call::new(&*clock)).await.unwrap();
        a.set(Mood::Hangs);
        let signing = tokio::spawn({
            let (failover, clock) = (failover.clone(), clock.clone());
            async move { failover.sign(&Call::within(&*clock, Duration::from_secs(60)), message()).await }
        });
        while !signing.is_finished() {
            tokio::task::yield_now().await;
            if a.asked() > 0 {
                // Half of what is left, for the proof that its key is there still.
                clock.advance(Duration::from_secs(30));
            }
        }
        signing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_caller_in_a_hurry_says_nothing_of_a_device() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = Arc::new(failover(&[&a, &b], &clock));
        failover.key(&Call::new(&*clock)).await.unwrap();
        a.asked();
        a.set(Mood::Hangs);
        let signing = tokio::spawn({
            let (failover, clock) = (failover.clone(), clock.clone());
            async move { failover.sign(&Call::within(&*clock, Duration::from_secs(1)), message()).await }
        });
        while !signing.is_finished() {
            tokio::task::yield_now().await;
            if a.asked() > 0 {
                clock.advance(Duration::from_millis(500));
            }
        }
        signing.await.unwrap().expect("the other one had half of the time");
        assert_eq!(failover.health(), Health { signatures: 1, ..Health::default() });
        a.set(Mood::Well);
        b.set(broken());
        failover.sign(&Call::new(&*clock), message()).await.expect("it is not left alone");
    }

    #[tokio::test]
    async fn it_is_known_which_device_is_away_and_since_when() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = failover(&[&a, &b], &clock);
        let since = clock.wall();
        b.set(broken());
        for _ in 0..4 {
            failover.sign(&Call::new(&*clock), message()).await.unwrap();
            clock.advance(Duration::from_secs(2));
        }
        let away = failover.health().away;
        let Mood::Fails(said, _) = broken() else { unreachable!() };
        let [outage] = away.as_slice() else { panic!("{away:?}") };
        assert_eq!((outage.device.as_str(), outage.since), ("device 2 of this signer", since));
        assert_eq!(*outage.error, said);
        b.set(Mood::Well);
        clock.advance(Duration::from_secs(2));
        failover.sign(&Call::new(&*clock), message()).await.unwrap();
        assert_eq!(failover.health().away, []);
    }

    #[tokio::test]
    async fn devices_that_are_known_to_be_back_are_called_away_no_more_though_nobody_asks() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = failover(&[&a, &b], &clock);
        a.set(broken());
        b.set(broken());
        failover.sign(&Call::new(&*clock), message()).await.unwrap_err();
        let away = || (failover.health().away.len(), failover.health().trouble.is_some());
        assert_eq!(away(), (2, true));
        clock.advance(Duration::from_millis(1));
        a.is_found();
        assert_eq!(away(), (1, true));
        b.is_found();
        assert_eq!(away(), (0, false));
    }

    #[tokio::test]
    async fn a_device_that_is_known_to_be_back_is_asked_before_its_pause_is_over() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = failover(&[&a, &b], &clock);
        b.set(broken());
        failover.sign(&Call::new(&*clock), message()).await.unwrap();
        assert_eq!(b.asked(), 1);
        clock.advance(Duration::from_millis(1));
        failover.sign(&Call::new(&*clock), message()).await.unwrap();
        assert_eq!(b.asked(), 0);
        b.is_found();
        failover.sign(&Call::new(&*clock), message()).await.unwrap();
        assert_eq!(b.asked(), 1);
    }

    #[test]
    fn a_message_is_made_once_and_is_stale_after_five_seconds() {
        let clock = clock();
        let message = Message::new(message(), clock.clone());
        let (first, is_stale) = message.maker();
        let made = first();
        assert!(!is_stale.load(Ordering::SeqCst));
        clock.advance(Duration::from_secs(5));
        let (second, is_stale) = message.maker();
        assert_eq!(second(), made);
        assert!(!is_stale.load(Ordering::SeqCst));
        clock.advance(Duration::from_secs(1));
        let (third, is_stale) = message.maker();
        third();
        assert!(is_stale.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn of_different_keys_the_one_with_the_newest_valid_certificate_signs() {
        let clock = clock();
        let [old, new] = pairs();
        let a = Device::with(old, certificate(old, DIGDIR, -300, 60), &clock);
        let b = Device::with(new, certificate(new, DIGDIR, 10, 700), &clock);
        let signer: Arc<dyn Signer> = Arc::new(failover(&[&a, &b], &clock));
        let credential = Credential::new(Identity::Certificate(CertificateSource::Beside), signer.clone());
        let proven = credential.prove(&Call::new(&*clock)).await.unwrap();
        assert_eq!(proven.key().public_key, old.public_key(), "the other one is not valid yet");

        clock.advance(Duration::from_secs(11 * 86_400));
        let call = Call::new(&*clock);
        assert_eq!(proven.sign(&call, message()).await.unwrap_err(), Error::KeyChanged);
        let proven = credential.prove(&call).await.unwrap();
        assert_eq!(proven.key().public_key, new.public_key());
        assert_eq!(proven.chain().unwrap().leaf().public_key().unwrap(), new.public_key());
        assert!(verifies(&proven.sign(&call, message()).await.unwrap(), &new.public_key()));

        b.set(broken());
        assert_eq!(proven.sign(&call, message()).await.unwrap_err(), Error::KeyChanged);
        let proven = credential.prove(&call).await.unwrap();
        assert_eq!(proven.key().public_key, old.public_key(), "the old one steps in while it is valid");
        proven.sign(&call, message()).await.unwrap();
    }

    #[tokio::test]
    async fn a_certificate_that_was_renewed_beside_its_key_is_found_in_time() {
        let clock = clock();
        let [old, new] = pairs();
        let a = Device::with(old, certificate(old, DIGDIR, -300, 60), &clock);
        let b = Device::with(new, certificate(new, DIGDIR, -100, 700), &clock);
        let failover = failover(&[&a, &b], &clock);
        let key = failover.key(&Call::new(&*clock)).await.unwrap();
        assert_eq!(key.public_key, new.public_key());
        a.comes_back_with(old, certificate(old, DIGDIR, -1, 700));
        clock.advance(Duration::from_secs(601));
        assert_eq!(failover.key(&Call::new(&*clock)).await.unwrap().public_key, old.public_key());
    }

    #[tokio::test]
    async fn a_kid_cannot_stand_for_two_keys() {
        let clock = clock();
        let [old, new] = pairs();
        let a = Device::with(old, certificate(old, DIGDIR, -300, 60), &clock);
        let b = Device::with(new, certificate(new, DIGDIR, -10, 700), &clock);
        let credential = Credential::new(Identity::KeyId("k".into()), Arc::new(failover(&[&a, &b], &clock)));
        let error = credential.prove(&Call::new(&*clock)).await.unwrap_err();
        assert_eq!(error, Error::SeveralKeys { reason: "a kid names one key".into() });
        assert!(!error.remedy().is_empty() && error.kind() == Fault::Configuration);
    }

    #[tokio::test]
    async fn keys_of_two_organisations_and_keys_without_certificates_are_no_pair() {
        let clock = clock();
        let [one, two] = pairs();
        let a = Device::with(one, certificate(one, DIGDIR, -10, 60), &clock);
        let b = Device::with(two, certificate(two, CUSTOMS, -10, 60), &clock);
        let error = failover(&[&a, &b], &clock).key(&Call::new(&*clock)).await.unwrap_err().to_string();
        assert!(error.contains(DIGDIR) && error.contains(CUSTOMS), "{error}");
        let [a, b] = [one, two].map(|pair| Device::with(pair, Vec::new(), &clock));
        let error = failover(&[&a, &b], &clock).key(&Call::new(&*clock)).await.unwrap_err();
        assert_eq!(error.kind(), Fault::Configuration, "{error}");
    }

    #[tokio::test]
    async fn nothing_is_touched_before_it_is_needed() {
        let clock = clock();
        let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
        let failover = failover(&[&a, &b], &clock);
        assert_eq!((a.asked(), b.asked(), failover.health()), (0, 0, Health::default()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize, usize),
        ComesBack(usize, usize),
        Advance(u64),
        Prove,
        Sign,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3_usize, 0..4_usize).prop_map(|(device, mood)| Step::Set(device, mood)),
            (0..3_usize, 0..2_usize).prop_map(|(device, pair)| Step::ComesBack(device, pair)),
            (1..700_u64).prop_map(Step::Advance),
            Just(Step::Prove),
            Just(Step::Sign),
            Just(Step::Sign),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_devices_do_a_signature_goes_by_the_generation_of_the_key_that_made_it(
            steps in proptest::collection::vec(step(), 1..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let clock = clock();
                let certified = pairs().map(|pair| certificate(pair, DIGDIR, -10, 700));
                let devices = [0, 0, 1].map(|pair| Device::with(pairs()[pair], certified[pair].clone(), &clock));
                let signer: Arc<dyn Signer> = Arc::new(failover(&devices.each_ref(), &clock));
                let identity = Identity::Certificate(CertificateSource::Beside);
                let credential = Credential::new(identity, signer.clone());
                let mut names: HashMap<u64, RsaPublicKey> = HashMap::new();
                let mut proven = None;
                for step in steps {
                    let call = Call::new(&*clock);
                    match step {
                        Step::Set(device, 0) => devices[device].set(Mood::Well),
                        Step::Set(device, mood) => {
                            let Mood::Fails(error, _) = broken() else { unreachable!() };
                            devices[device].set(if mood == 3 { pin_refused() } else { Mood::Fails(error, mood == 1) });
                        }
                        Step::ComesBack(device, pair) => {
                            devices[device].comes_back_with(pairs()[pair], certified[pair].clone());
                        }
                        Step::Advance(seconds) => clock.advance(Duration::from_secs(seconds)),
                        Step::Prove => {
                            if let Ok(proof) = credential.prove(&call).await {
                                let key = proof.key();
                                let known = names.entry(key.generation).or_insert_with(|| key.public_key.clone());
                                assert_eq!(*known, key.public_key);
                                assert_eq!(proof.chain().unwrap().leaf().public_key().unwrap(), key.public_key);
                                proven = Some(proof);
                            }
                        }
                        Step::Sign => {
                            let Some(proof) = &proven else { continue };
                            let made = Arc::new(AtomicU32::new(0));
                            let count = made.clone();
                            let make: MakeMessage = Box::new(move || {
                                count.fetch_add(1, Ordering::SeqCst);
                                b"m".to_vec()
                            });
                            if let Ok(signed) = proof.sign(&call, make).await {
                                assert!(verifies(&signed, &proof.key().public_key));
                            }
                            assert!(made.load(Ordering::SeqCst) <= 1);
                        }
                    }
                }
                // Whatever was, as soon as all is well and its time has come, there are signatures again.
                if devices.iter().all(|device| *device.mood.lock().unwrap() != pin_refused()) {
                    devices.iter().for_each(|device| device.set(Mood::Well));
                    clock.advance(Duration::from_secs(301));
                    let call = Call::new(&*clock);
                    let left = matches!(signer.health().trouble, Some(Error::Pin { .. }));
                    if !left {
                        let proof = credential.prove(&call).await.unwrap();
                        proof.sign(&call, message()).await.unwrap();
                    }
                }
            });
        }
    }
}
