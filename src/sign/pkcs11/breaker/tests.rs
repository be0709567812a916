use std::time::UNIX_EPOCH;

use super::*;
use crate::{
    clock::ManualClock,
    sign::{Fault, Retry, pkcs11::job::FoundKey},
};

fn of(label: &str) -> Whose {
    Some(format!("pkcs11:token={label}").parse().unwrap())
}

fn broken(function: &str) -> Error {
    Error::Device { function: function.into(), code: "CKR_DEVICE_ERROR".into() }
}

fn refused() -> Error {
    Error::Pin { device: "A (1)".into(), problem: PinProblem::Refused("CKR_PIN_INCORRECT".into()) }
}

struct Desk {
    breaker: Arc<Breaker>,
    clock: Arc<ManualClock>,
}

/// The login of the user at A.
fn login() -> LoginRequest {
    LoginRequest::sample("A", "1")
}

impl Desk {
    fn new() -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let profile = Arc::new(Profile::unknown());
        Self { breaker: Breaker::new("/opt/lib.so".into(), profile, clock.clone()), clock }
    }

    fn failed(&self, whose: &Whose, error: Error) -> Option<(Whose, Error)> {
        self.breaker.note(whose, &Err(error), None)
    }

    /// Fails until it is left alone.
    fn opened(&self, whose: &Whose) {
        for _ in 0..3 {
            self.failed(whose, broken("C_Sign"));
        }
        assert!(self.away(whose).is_some());
    }

    fn shows_its_key(&self, whose: &Whose) {
        let key = FoundKey { spki: Vec::new(), generation: 1, device: "A (1)".into() };
        self.breaker.note(whose, &Ok(Answer::Key(key)), None);
        self.breaker.note(whose, &Ok(Answer::Certificates(Vec::new())), None);
    }

    fn went_well(&self, whose: &Whose) {
        self.breaker.note(whose, &Ok(Answer::Deleted(0)), None);
    }

    fn away(&self, whose: &Whose) -> Option<Error> {
        match self.breaker.turn(whose, |_| false) {
            Turn::Go => None,
            Turn::Away { error, .. } | Turn::Tried { error, .. } | Turn::Stop(error) => Some(error),
            Turn::Try(_) => panic!("a login may be tried"),
        }
    }

    /// How long it is until somebody is to ask, and what becomes of it when it answers so.
    fn probe(&self, outcome: Result<(), Error>) -> Duration {
        let now = self.clock.now();
        let wait = match self.breaker.due() {
            Err(at) => at.since(now),
            Ok(_) => Duration::ZERO,
        };
        self.clock.advance(wait);
        let permit = self.breaker.due().unwrap().expect("a device is to be asked");
        assert!(matches!(self.breaker.due(), Ok(None)), "one asks at a time");
        self.breaker.probed(permit, &outcome);
        wait
    }
}

#[test]
fn three_failures_within_a_minute_and_it_is_left_alone_with_a_word_on_when_and_why() {
    let desk = Desk::new();
    let (a, b) = (of("A"), of("B"));
    assert!(desk.failed(&a, broken("C_Sign")).is_none());
    desk.clock.advance(Duration::from_secs(59));
    assert!(desk.failed(&a, broken("C_Sign")).is_none());
    assert_eq!(desk.away(&a), None);
    let (whose, error) = desk.failed(&a, broken("C_SignInit")).expect("it is left alone");
    assert_eq!(whose, a);
    assert_eq!(
        error.to_string(),
        "pkcs11:token=A is away since 2027-01-15 08:00:59 UTC: the device answered CKR_DEVICE_ERROR to C_SignInit; \
         it is asked again in 0.2 s"
    );
    assert_eq!((error.kind(), error.retry()), (Fault::Device, Retry::After(Duration::from_millis(250))));
    assert_eq!(desk.away(&a), Some(error));
    assert_eq!(desk.away(&b), None, "others have nothing to do with it");
    assert_eq!(desk.breaker.outages(&a).len(), 1);
    assert_eq!(desk.breaker.outages(&b), []);
}

#[test]
fn failures_far_apart_and_what_says_nothing_of_the_device_leave_it_where_it_is() {
    let desk = Desk::new();
    let a = of("A");
    for _ in 0..10 {
        desk.failed(&a, broken("C_Sign"));
        desk.clock.advance(Duration::from_secs(31));
    }
    for error in [
        Error::Deadline,
        Error::Busy { waiting: 64, after: Duration::ZERO },
        Error::KeyChanged,
        Error::Closed,
    ] {
        for _ in 0..10 {
            assert!(desk.failed(&a, error.clone()).is_none());
        }
    }
    for _ in 0..10 {
        desk.failed(&a, broken("C_Sign"));
        desk.failed(
            &a,
            Error::Device { function: "C_SignInit".into(), code: "CKR_MECHANISM_INVALID".into() },
        );
    }
    assert_eq!(desk.away(&a), None, "it answered in between");
}

#[test]
fn it_is_asked_after_a_quarter_of_a_second_then_later_each_time_up_to_one() {
    let desk = Desk::new();
    let a = of("A");
    desk.opened(&a);
    let waits: Vec<_> = (0..6).map(|_| desk.probe(Err(broken("C_FindObjects"))).as_millis()).collect();
    assert_eq!(waits, [250, 500, 1000, 1000, 1000, 1000]);
    let Some(Error::Away(outage)) = desk.away(&a) else { panic!("it is away") };
    assert_eq!(*outage.error, broken("C_FindObjects"));
    desk.probe(Ok(()));
    assert_eq!(desk.away(&a), None);
}

#[test]
fn one_that_answers_and_fails_again_is_on_trial_and_one_that_does_its_work_is_not() {
    let desk = Desk::new();
    let a = of("A");
    desk.opened(&a);
    desk.probe(Ok(()));
    assert!(desk.failed(&a, broken("C_Sign")).is_some(), "the first failure counts");
    assert_eq!(desk.probe(Ok(())), Duration::from_millis(500), "and it is left alone for longer");
    desk.went_well(&a);
    assert!(desk.failed(&a, broken("C_Sign")).is_none());
    assert!(desk.failed(&a, broken("C_Sign")).is_none());
    assert!(desk.failed(&a, broken("C_Sign")).is_some());
    assert_eq!(desk.probe(Ok(())), Duration::from_millis(250));
}

#[test]
fn one_that_finds_its_key_each_time_and_cannot_sign_is_left_alone_too() {
    for (whose, error) in [
        (of("A"), broken("C_Sign")),
        (None, Error::Host { module: "/opt/lib.so".into(), problem: "it crashed".into() }),
    ] {
        let desk = Desk::new();
        let fails = || {
            desk.shows_its_key(&of("A"));
            desk.failed(&of("A"), error.clone()).map(|(whose, _)| whose)
        };
        assert_eq!((fails(), fails()), (None, None));
        assert_eq!(fails(), Some(whose.clone()));
        desk.shows_its_key(&of("A"));
        assert!(desk.away(&of("A")).is_some(), "one that was asked before says nothing of now");
        desk.probe(Ok(()));
        assert_eq!(fails(), Some(whose), "and it stays on trial");
        assert_eq!(desk.probe(Ok(())), Duration::from_millis(500));
    }
}

#[test]
fn a_library_that_fails_takes_all_its_devices_along_and_brings_them_back() {
    let desk = Desk::new();
    for _ in 0..3 {
        desk.failed(&of("A"), broken("C_Initialize"));
    }
    for whose in [of("A"), of("B"), None] {
        let error = desk.away(&whose).expect("it is away").to_string();
        assert!(error.starts_with("/opt/lib.so is away since "), "{error}");
    }
    desk.went_well(&of("B"));
    assert_eq!(desk.away(&of("A")), None);
}

#[test]
fn a_permit_that_is_dropped_goes_to_somebody_else() {
    let desk = Desk::new();
    desk.opened(&of("A"));
    desk.clock.advance(Duration::from_secs(1));
    drop(desk.breaker.due().unwrap().expect("its time has come"));
    assert!(desk.breaker.due().unwrap().is_some());
}

#[test]
fn a_refused_pin_stops_everybody_at_once_until_a_person_has_acted() {
    let desk = Desk::new();
    let a = of("A");
    desk.breaker.note(&a, &Err(refused()), None);
    assert_eq!(desk.away(&a), None, "that was a PIN for one signature");
    desk.breaker.note(&a, &Err(refused()), Some(login()));
    let before = Error::Pin { device: "A (1)".into(), problem: PinProblem::RefusedBefore };
    assert_eq!(desk.away(&a), Some(before.clone()));
    assert!(matches!(desk.breaker.due(), Ok(None)), "and nobody asks it behind their backs");
    // A person has corrected it: one job finds out, and nobody else meanwhile.
    let Turn::Try(permit) = desk.breaker.turn(&a, |_| true) else { panic!("it may be tried") };
    let asked = desk.clock.now();
    desk.clock.advance(Duration::from_secs(1));
    let turn = desk.breaker.turn(&a, |_| true);
    assert!(matches!(turn, Turn::Tried { since, error } if since == asked && error == before));
    desk.went_well(&a);
    drop(permit);
    assert_eq!(desk.away(&a), None);
    // Even if nobody saw a change, one job is let through now and then: who logs in decides.
    desk.breaker.note(&a, &Err(refused()), Some(login()));
    desk.clock.advance(Duration::from_secs(1));
    assert!(matches!(desk.breaker.turn(&a, |_| panic!("it is tried anyway")), Turn::Try(_)));
    desk.shows_its_key(&a);
    assert_eq!(desk.away(&a), None, "a key that was found behind the login is enough");
}

#[test]
fn other_devices_do_not_wait_while_it_is_looked_up_whether_a_login_might_be_granted() {
    let desk = Desk::new();
    let a = of("A");
    desk.breaker.note(&a, &Err(refused()), Some(login()));
    let turn = desk.breaker.turn(&a, |_| desk.breaker.circuits.try_lock().is_ok());
    assert!(matches!(turn, Turn::Try(_)));
}

#[test]
fn a_login_that_is_refused_while_another_is_looked_up_is_not_taken_for_that() {
    let desk = Desk::new();
    let a = of("A");
    desk.breaker.note(&a, &Err(refused()), Some(login()));
    let turn = desk.breaker.turn(&a, |_| {
        desk.clock.advance(Duration::from_millis(1));
        desk.breaker.note(&a, &Err(refused()), Some(login()));
        true
    });
    assert!(matches!(turn, Turn::Stop(Error::Pin { .. })));
}

#[test]
fn a_device_that_fails_while_a_corrected_pin_is_tried_is_tried_again_later_each_time() {
    let desk = Desk::new();
    let a = of("A");
    desk.breaker.note(&a, &Err(refused()), Some(login()));
    for pause in [500, 1000, 1000] {
        let Turn::Try(permit) = desk.breaker.turn(&a, |_| true) else { panic!("it may be tried") };
        assert!(desk.failed(&a, broken("C_OpenSession")).is_none());
        drop(permit);
        desk.clock.advance(Duration::from_millis(pause - 1));
        assert!(matches!(desk.breaker.turn(&a, |_| true), Turn::Stop(Error::Pin { .. })));
        desk.clock.advance(Duration::from_millis(1));
    }
    assert!(matches!(desk.breaker.turn(&a, |_| true), Turn::Try(_)));
}

#[test]
fn one_watches_at_a_time_and_only_while_something_is_to_be_asked() {
    let desk = Desk::new();
    assert!(desk.breaker.watch().is_none());
    desk.breaker.note(&of("B"), &Err(refused()), Some(login()));
    assert!(desk.breaker.watch().is_none(), "whether a login is possible again is not asked");
    desk.opened(&of("A"));
    let watch = desk.breaker.watch().expect("somebody is to watch");
    assert!(desk.breaker.watch().is_none());
    drop(watch);
    assert!(desk.breaker.watch().is_some());
}

#[test]
fn a_circuit_that_opens_while_a_watch_ends_is_watched_over_all_the_same() {
    let desk = Desk::new();
    desk.opened(&of("A"));
    let watch = desk.breaker.watch().expect("somebody is to watch");
    desk.probe(Ok(()));
    assert!(matches!(desk.breaker.due(), Ok(None)), "nothing is to be asked");
    desk.opened(&of("B"));
    assert!(desk.breaker.watch().is_none(), "whoever opened it leaves it to the watch");
    let watch = watch.end().expect("it goes on");
    assert!(desk.breaker.watch().is_none());
    desk.probe(Ok(()));
    assert!(watch.end().is_none());
    desk.opened(&of("A"));
    assert!(desk.breaker.watch().is_some());
}

#[test]
fn a_device_that_is_silent_when_it_is_asked_and_holds_others_up_is_asked_more_and_more_rarely() {
    let desk = Desk::new();
    let a = of("A");
    desk.went_well(&of("B"));
    desk.opened(&a);
    let silent = |rounds: usize| -> Vec<u64> {
        (0..rounds).map(|_| desk.probe(Err(Error::Deadline)).as_secs()).collect()
    };
    assert_eq!(silent(9), [0, 5, 10, 20, 40, 80, 160, 300, 300]);
    assert!(desk.away(&a).is_some());
    assert!(!desk.breaker.was_missed(&a), "its process has been started anew");
    assert_eq!(desk.probe(Err(broken("C_OpenSession"))).as_secs(), 300);
    assert_eq!(silent(2), [1, 5], "it has answered in between");
}

#[test]
fn a_device_that_is_silent_and_holds_nobody_up_is_asked_as_soon_as_any() {
    let desk = Desk::new();
    let waits =
        |desk: &Desk| -> Vec<_> { (0..5).map(|_| desk.probe(Err(Error::Deadline)).as_millis()).collect() };
    desk.opened(&of("A"));
    assert_eq!(waits(&desk), [250, 500, 1000, 1000, 1000]);
    // All that the library has waits for it anyway.
    let desk = Desk::new();
    desk.went_well(&of("B"));
    desk.opened(&None);
    assert_eq!(waits(&desk), [250, 500, 1000, 1000, 1000]);
}

#[test]
fn a_device_under_two_names_is_not_spared_for_its_own_sake() {
    let desk = Desk::new();
    let whole = of("A;serial=1");
    for whose in [of("A"), whole] {
        desk.shows_its_key(&whose);
    }
    desk.opened(&of("A"));
    let waits: Vec<_> = (0..5).map(|_| desk.probe(Err(Error::Deadline)).as_millis()).collect();
    assert_eq!(waits, [250, 500, 1000, 1000, 1000]);
}

#[test]
fn devices_that_are_silent_together_do_not_spare_each_other() {
    let desk = Desk::new();
    for whose in [of("A"), of("B")] {
        desk.opened(&whose);
    }
    let begun = desk.clock.now();
    let mut asked = 0;
    while asked < 40 {
        match desk.breaker.due() {
            Ok(Some(permit)) => {
                asked += 1;
                desk.breaker.probed(permit, &Err(Error::Deadline));
            }
            Ok(None) => panic!("both are away"),
            Err(at) => desk.clock.advance(at.since(desk.clock.now())),
        }
    }
    let took = desk.clock.now().since(begun);
    assert!(took < Duration::from_secs(30), "a second each, but for the first that was silent: {took:?}");
}
