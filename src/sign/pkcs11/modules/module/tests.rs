//! Jobs on their way to a library that answers what a test wants, past the breaker.

use std::{pin::pin, time::UNIX_EPOCH};

use secrecy::SecretString;
use tokio::task::JoinSet;

use super::{
    super::{
        super::{calls::fake::Fake, guard::PinRecords, job::KeyQuery, owner::LOOK_AGAIN},
        *,
    },
    *,
};
use crate::{
    clock::ManualClock,
    jose::Algorithm,
    sign::{
        Signer, Watched,
        pkcs11::{Device, Pkcs11Signer},
    },
};

struct Desk {
    fake: Fake,
    clock: Arc<ManualClock>,
    module: Arc<Module>,
    query: Arc<KeyQuery>,
}

impl Desk {
    fn new() -> Self {
        let mut profile = Profile::unknown();
        profile.session.lanes = 2;
        let (fake, clock, profile) = (Fake::default(), ManualClock::at(UNIX_EPOCH), Arc::new(profile));
        let generation = Arc::default();
        let owner = Owner::over(&fake, &profile, &clock, &generation);
        let guard = Arc::new(Guard::new(Path::new("/m.so"), PinRecords::Memory, clock.clone()));
        let backend = Backend::Threads(Arc::new(owner));
        let module =
            Module::new("/m.so".into(), profile, clock.clone(), Arc::default(), generation, guard, backend);
        let uri: Uri = "pkcs11:token=ci;object=grant".parse().unwrap();
        let query = Arc::new(KeyQuery { uri, algorithm: Algorithm::RS256 });
        Self { fake, clock, module: Arc::new(module), query }
    }

    /// Its PIN is refused once.
    async fn refuses(&self) {
        self.fake.inside().logins = vec![super::super::super::calls::fake::Outcome::Answers(0xa0)].into();
        let error = self.sign(self.call()).await.unwrap_err();
        assert!(matches!(error, Error::Pin { .. }), "{error}");
    }

    async fn sign(&self, call: Call) -> Result<Answer, Error> {
        sign(self.module.clone(), self.query.clone(), call).await
    }

    fn call(&self) -> Call {
        Call::new(&*self.clock)
    }

    /// Fails until it is left alone.
    async fn goes_away(&self) {
        self.fake.inside().always = Some(DEVICE_ERROR);
        for _ in 0..3 {
            let error = self.sign(self.call()).await.unwrap_err();
            assert!(matches!(error, Error::Device { .. }), "{error}");
        }
    }

    /// Lets the device be asked again, as often as it is away, until `work` is done.
    async fn while_it_is_asked<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            if let Some(outage) = self.away().first() {
                self.clock.advance(outage.again);
            }
        }
    }

    fn away(&self) -> Vec<Outage> {
        self.module.outages(&Some(self.query.uri.device()))
    }

    fn made(&self) -> usize {
        self.fake.inside().made.len()
    }
}

async fn sign(module: Arc<Module>, query: Arc<KeyQuery>, call: Call) -> Result<Answer, Error> {
    let pin = Pin::new(|| Ok(Some(SecretString::from("1234"))));
    module.ask(&call, Job::Sign(query), Some(Box::new(|| b"m".to_vec())), Some(pin)).await
}

const DEVICE_ERROR: u64 = 0x30;

/// Lets other tasks and threads go on until it is so.
async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it never came to pass");
}

#[tokio::test]
async fn a_device_that_is_away_is_left_alone_and_who_cannot_wait_is_told_at_once() {
    let desk = Desk::new();
    desk.sign(desk.call()).await.unwrap();
    desk.goes_away().await;
    let made = desk.made();
    for call in [
        desk.call().at_once(),
        desk.call().in_background(),
        Call::within(&*desk.clock, Duration::from_millis(100)),
    ] {
        let error = desk.sign(call).await.unwrap_err();
        assert!(
            matches!(&error, Error::Away(outage) if outage.again <= Duration::from_millis(250)),
            "{error}"
        );
    }
    assert_eq!(desk.made(), made, "nothing was called");
    assert_eq!(desk.away().len(), 1);
}

#[tokio::test]
async fn it_is_found_when_it_is_back_though_nobody_asks_and_without_a_login() {
    let desk = Desk::new();
    desk.sign(desk.call()).await.unwrap();
    desk.goes_away().await;
    let logins = desk.fake.count("C_Login");
    desk.fake.inside().always = None;
    desk.clock.advance(Duration::from_millis(250));
    until(|| desk.away().is_empty()).await;
    assert_eq!(desk.fake.count("C_Login"), logins);
    desk.sign(desk.call()).await.unwrap();
    assert_eq!(desk.fake.count("C_Login"), logins + 1);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn a_question_that_is_not_answered_keeps_no_library_from_being_dropped() {
    let desk = Desk::new();
    runtime().block_on(desk.goes_away());
    // Whoever calls it waits.
    let silent = desk.fake.inside();
    desk.clock.advance(Duration::from_millis(250));
    // The library's, the watch's, and that of the right to ask.
    runtime().block_on(until(|| Arc::strong_count(&desk.module.breaker) > 2));
    let module = Arc::downgrade(&desk.module);
    drop(desk.module);
    runtime().block_on(until(|| module.upgrade().is_none()));
    drop(silent);
}

#[test]
fn it_is_found_by_whoever_asks_when_the_runtime_of_those_who_lost_it_is_driven_no_more() {
    let desk = Desk::new();
    let (first, second) = (runtime(), runtime());
    first.block_on(desk.goes_away());
    desk.fake.inside().always = None;
    desk.clock.advance(Duration::from_millis(250));
    second.block_on(until(|| desk.away().is_empty()));
    second.block_on(desk.sign(desk.call())).unwrap();
}

#[tokio::test]
async fn a_signer_is_well_again_when_its_device_is_found_to_be_back_though_nobody_asks() {
    let desk = Desk::new();
    let pin = Pin::new(|| Ok(Some(SecretString::from("1234"))));
    let device = Device::new(Modules::new(desk.clock.clone()), desk.query.uri.clone(), None, Some(pin));
    assert!(device.module.set(desk.module.clone()).is_ok());
    let signer = Arc::new(Pkcs11Signer::new(device, Algorithm::RS256).unwrap().without_verification());
    let watched = Watched::new("hsm", signer, desk.clock.clone());
    desk.fake.inside().always = Some(DEVICE_ERROR);
    while watched.health().away.is_empty() {
        watched.sign(&desk.call(), Box::new(|| b"m".to_vec())).await.unwrap_err();
    }
    let health = watched.health();
    assert!(matches!(health.trouble, Some(Error::Device { .. })) && health.trouble_since.is_some());
    desk.fake.inside().always = None;
    desk.clock.advance(Duration::from_millis(250));
    until(|| watched.health().away.is_empty()).await;
    let health = watched.health();
    assert_eq!((health.trouble, health.trouble_since), (None, None));
}

#[tokio::test]
async fn a_caller_with_time_left_gets_its_signature_when_the_device_is_back() {
    let desk = Desk::new();
    desk.goes_away().await;
    let signing = tokio::spawn(sign(desk.module.clone(), desk.query.clone(), desk.call()));
    tokio::task::yield_now().await;
    desk.fake.inside().always = None;
    desk.clock.advance(Duration::from_millis(250));
    signing.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_waits_for_a_device_that_is_away_is_told_when_the_program_ends() {
    let desk = Desk::new();
    desk.goes_away().await;
    let signing = tokio::spawn(sign(desk.module.clone(), desk.query.clone(), desk.call()));
    tokio::task::yield_now().await;
    assert!(!signing.is_finished());
    desk.module.close();
    until(|| signing.is_finished()).await;
    assert_eq!(signing.await.unwrap().unwrap_err(), Error::Closed);
}

#[tokio::test]
async fn a_crowd_waits_for_one_question_and_hears_its_answer() {
    let desk = Desk::new();
    desk.goes_away().await;
    let starts = desk.fake.count("C_Initialize");
    let mut crowd = JoinSet::new();
    for _ in 0..100 {
        crowd.spawn(sign(desk.module.clone(), desk.query.clone(), desk.call()));
    }
    // And the one who asks: a caller who came after that would wait for the next question.
    until(|| desk.module.breaker.listeners() == 101).await;
    desk.clock.advance(Duration::from_millis(250));
    while let Some(outcome) = crowd.join_next().await {
        let error = outcome.unwrap().unwrap_err();
        assert!(matches!(error, Error::Away(_)), "{error}");
    }
    assert_eq!(desk.fake.count("C_Initialize") - starts, 1);
}

#[tokio::test]
async fn only_a_device_that_somebody_wants_costs_the_others_their_sessions() {
    let desk = Desk::new();
    let absent: Uri = "pkcs11:token=absent;object=grant".parse().unwrap();
    let whose = Some(absent.device());
    let query = Arc::new(KeyQuery { uri: absent, algorithm: Algorithm::RS256 });
    for _ in 0..3 {
        sign(desk.module.clone(), query.clone(), desk.call()).await.unwrap_err();
    }
    desk.sign(desk.call()).await.unwrap();
    let starts = desk.fake.count("C_Initialize");
    let again = || desk.module.outages(&whose)[0].again;
    let asked_once_more = async || {
        let asked = desk.fake.count("C_GetSlotList");
        desk.clock.advance(LOOK_AGAIN);
        until(|| desk.fake.count("C_GetSlotList") > asked && again() > Duration::ZERO).await;
        desk.fake.count("C_Initialize") - starts
    };
    assert_eq!([asked_once_more().await, asked_once_more().await], [0, 0]);
    sign(desk.module.clone(), query, desk.call().at_once()).await.unwrap_err();
    assert_eq!(asked_once_more().await, 1);
}

#[tokio::test]
async fn those_in_line_when_a_device_goes_away_do_not_each_find_that_out() {
    let desk = Desk::new();
    desk.sign(desk.call()).await.unwrap();
    let starts = desk.fake.count("C_Initialize");
    desk.fake.inside().always = Some(DEVICE_ERROR);
    let mut crowd = JoinSet::new();
    for _ in 0..50 {
        crowd.spawn(sign(desk.module.clone(), desk.query.clone(), desk.call()));
    }
    until(|| !desk.away().is_empty()).await;
    desk.fake.inside().always = None;
    let mut signed = 0;
    while let Some(outcome) = desk.while_it_is_asked(crowd.join_next()).await {
        signed += usize::from(outcome.unwrap().is_ok());
    }
    assert!(signed >= 40, "those who had not been begun are signed: {signed}");
    assert!(desk.fake.count("C_Initialize") - starts < 10);
    assert!(!desk.fake.inside().was_finalized_in_use, "by no lane and by no question");
}

#[tokio::test]
async fn a_refused_pin_is_not_tried_again_and_the_device_not_even_asked() {
    let desk = Desk::new();
    desk.refuses().await;
    let made = desk.made();
    for _ in 0..5 {
        let error = desk.sign(desk.call()).await.unwrap_err();
        assert!(matches!(error, Error::Pin { .. }), "{error}");
    }
    assert_eq!(desk.made(), made);
    desk.clock.advance(Duration::from_secs(3));
    desk.sign(desk.call()).await.unwrap_err();
    assert_eq!(desk.fake.count("C_Login"), 1);
}

#[tokio::test]
async fn who_comes_while_a_corrected_pin_is_tried_waits_to_hear_of_it() {
    let desk = Desk::new();
    desk.refuses().await;
    let whose = Some(desk.query.uri.device());
    let Turn::Try(permit) = desk.module.breaker.turn(&whose, |_| true) else { panic!("it may be tried") };
    let made = desk.made();
    for call in [desk.call().at_once(), desk.call().in_background()] {
        let error = desk.sign(call).await.unwrap_err();
        assert!(matches!(error, Error::Pin { .. }), "{error}");
    }
    let signing = tokio::spawn(sign(desk.module.clone(), desk.query.clone(), desk.call()));
    tokio::task::yield_now().await;
    assert_eq!(desk.made(), made, "nobody but the one tries it");
    desk.module.breaker.note(&whose, &Ok(Answer::Deleted(0)), None);
    drop(permit);
    // Past the breaker, the record of tries still holds for a PIN that nobody has changed.
    let error = signing.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Pin { .. }), "{error}");
    assert!(desk.made() > made, "it was let through");
}

#[tokio::test]
async fn who_waits_for_a_pin_to_be_tried_does_not_wait_for_ever() {
    let desk = Desk::new();
    desk.refuses().await;
    let whose = Some(desk.query.uri.device());
    let Turn::Try(_permit) = desk.module.breaker.turn(&whose, |_| true) else { panic!("it may be tried") };
    let signing = tokio::spawn(sign(desk.module.clone(), desk.query.clone(), desk.call()));
    tokio::task::yield_now().await;
    assert!(!signing.is_finished());
    desk.clock.advance(PATIENCE);
    let error = signing.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Pin { .. }), "{error}");
}
