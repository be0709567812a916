//! The ladder at work, on a library that answers what a test wants.

mod pin;

use std::{path::Path, sync::MutexGuard, time::UNIX_EPOCH};

use secrecy::SecretString;

use super::{
    super::{
        Pin, Uri,
        calls::fake::{Fake, Outcome},
        guard::{Guard, PinRecords},
        job::{Doomed, NewKeyPair},
        login::{Guarded, LoginOutcome, LoginRequest},
    },
    *,
};
use crate::{clock::ManualClock, jose::Algorithm, sign::PinProblem};

/// A library in one process after another, and what its parent remembers of PINs.
struct Desk {
    fake: Fake,
    clock: Arc<ManualClock>,
    guard: Arc<Guard>,
    profile: Arc<Profile>,
    generation: Arc<AtomicU64>,
    owner: Owner,
    query: Arc<KeyQuery>,
    /// How often the file with the PIN has been written.
    written: u64,
}

/// The parent's logins, seen from a process that may die in the middle of one.
struct Wire {
    fake: Fake,
    guarded: Guarded,
}

impl Logins for Wire {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.guarded.turn()
    }

    fn authorize(&self, request: &LoginRequest) -> Result<Option<SecretString>, PinProblem> {
        if self.fake.inside().dead.is_some() {
            return Err(PinProblem::Missing);
        }
        self.guarded.authorize(request)
    }

    fn ended(&self, request: &LoginRequest, outcome: &LoginOutcome) -> bool {
        self.fake.inside().dead.is_none() && self.guarded.ended(request, outcome)
    }
}

impl Desk {
    fn new(profile: Profile) -> Self {
        let (fake, clock, profile) = (Fake::default(), ManualClock::at(UNIX_EPOCH), Arc::new(profile));
        let guard = Arc::new(Guard::new(Path::new("/m.so"), PinRecords::Memory, clock.clone()));
        let uri: Uri = "pkcs11:token=ci;object=grant".parse().unwrap();
        let query = Arc::new(KeyQuery { uri, algorithm: Algorithm::RS256 });
        let generation = Arc::default();
        let owner = Owner::over(&fake, &profile, &clock, &generation);
        Self { fake, clock, guard, profile, generation, owner, query, written: 0 }
    }

    fn sign(&self) -> Result<Answer, Error> {
        self.answer(Job::Sign(self.query.clone()), Some(Box::new(|| b"m".to_vec())))
    }

    fn ask(&self, job: Job) -> Result<Answer, Error> {
        self.answer(job, None)
    }

    fn answer(&self, job: Job, make: Option<MakeMessage>) -> Result<Answer, Error> {
        let pin = Pin::in_file(self.written);
        let guarded = Guarded::new(self.guard.clone(), Some(pin), self.profile.clone());
        let logins = Wire { fake: self.fake.clone(), guarded };
        let answer = self.owner.answer(&job, make, None, &logins);
        if self.fake.inside().dead.is_some() {
            logins.guarded.lost();
        }
        answer
    }

    fn restart(&mut self) {
        self.fake.restart();
        self.owner = Owner::over(&self.fake, &self.profile, &self.clock, &self.generation);
    }

    fn counts(&self) -> [usize; 3] {
        ["C_Initialize", "C_Login", "C_OpenSession"].map(|function| self.fake.count(function))
    }
}

impl Owner {
    pub(in crate::sign::pkcs11) fn over(
        fake: &Fake,
        profile: &Arc<Profile>,
        clock: &Arc<ManualClock>,
        generation: &Arc<AtomicU64>,
    ) -> Self {
        let owner = Self::new("/m.so".into(), profile.clone(), clock.clone(), generation.clone());
        owner.state.write().unwrap().loaded = Some(Arc::new(fake.clone()));
        owner
    }
}

const HOST_MEMORY: u64 = 0x02;
const DEVICE_MEMORY: u64 = 0x31;
const SESSION_COUNT: u64 = 0xb1;
const FUNCTION_FAILED: u64 = 0x06;
const ARGUMENTS_BAD: u64 = 0x07;
const SESSION_HANDLE_INVALID: u64 = 0xb3;
const USER_NOT_LOGGED_IN: u64 = 0x101;
const DEVICE_ERROR: u64 = 0x30;
const GENERAL_ERROR: u64 = 0x05;

fn answers(code: u64) -> Outcome {
    Outcome::Answers(code)
}

#[test]
fn a_dead_session_is_replaced_without_a_login_and_its_key_is_another_generation() {
    let desk = Desk::new(Profile::unknown());
    desk.sign().unwrap();
    let (before, generation) = (desk.counts(), desk.owner.generation());
    desk.fake.inside().calls.push_back(answers(SESSION_HANDLE_INVALID));
    desk.sign().unwrap();
    let [starts, logins, sessions] = desk.counts();
    assert_eq!([starts, logins], [before[0], before[1]]);
    assert_eq!(sessions - before[2], 2, "one that holds the login, one that signs");
    assert_eq!(desk.owner.generation(), generation + 1);
}

#[test]
fn a_login_that_is_lost_is_made_once_more_and_then_the_library_is_started_anew() {
    let desk = Desk::new(Profile::unknown());
    desk.sign().unwrap();
    let before = desk.counts();
    desk.fake.inside().logged_in = false;
    desk.sign().unwrap();
    assert_eq!(desk.counts()[..2], [before[0], before[1] + 1], "a login, and no start");
    // It is lost, and denied by a device that confirms it.
    desk.fake.inside().calls.push_back(answers(USER_NOT_LOGGED_IN));
    desk.sign().unwrap();
    assert_eq!(desk.counts()[..2], [before[0] + 1, before[1] + 2], "a start, and its login");
    desk.fake.inside().always = Some(USER_NOT_LOGGED_IN);
    let error = desk.sign().unwrap_err();
    assert!(matches!(error, Error::Device { .. }), "{error}");
    desk.fake.inside().always = None;
    desk.sign().unwrap();
    assert_eq!(desk.fake.inside().log.iter().filter(|(_, code)| code.is_some()).count(), 0);
}

#[test]
fn what_a_key_that_has_signed_refuses_is_asked_again_unless_the_profile_says_that_nothing_helps() {
    for (code, fatal) in [
        (ARGUMENTS_BAD, None),
        (ARGUMENTS_BAD, Some("CKR_ARGUMENTS_BAD")),
        (DEVICE_ERROR, None),
        (DEVICE_ERROR, Some("C_SignInit:CKR_DEVICE_ERROR")),
    ] {
        let mut profile = Profile::unknown();
        profile.errors.fatal = fatal.map(str::to_owned).into_iter().collect();
        let desk = Desk::new(profile);
        desk.sign().unwrap();
        let before = desk.counts();
        desk.fake.inside().calls.push_back(answers(code));
        assert_eq!(desk.sign().is_ok(), fatal.is_none(), "{code:x} {fatal:?}");
        assert_eq!(desk.counts() == before, fatal.is_some(), "{code:x} {fatal:?}");
    }
}

#[test]
fn what_passes_by_itself_is_asked_once_more_before_the_library_is_started_anew() {
    let mut profile = Profile::unknown();
    profile.errors.transient = vec!["CKR_FUNCTION_FAILED".into()];
    let desk = Desk::new(profile);
    desk.sign().unwrap();
    let starts = desk.fake.count("C_Initialize");
    for (times, wanted) in [(1, 0), (2, 1)] {
        desk.fake.inside().calls = vec![answers(FUNCTION_FAILED); times].into();
        desk.ask(Job::Certificates(desk.query.uri.device())).unwrap();
        assert_eq!(desk.fake.count("C_Initialize") - starts, wanted, "{times}");
    }
}

#[test]
fn what_may_have_been_written_is_not_begun_again_whatever_failed_after_it() {
    for code in [FUNCTION_FAILED, DEVICE_ERROR] {
        let mut profile = Profile::unknown();
        profile.errors.transient = vec!["CKR_FUNCTION_FAILED".into()];
        let desk = Desk::new(profile);
        desk.sign().unwrap();
        let pair = NewKeyPair::new("new");
        let job = Job::Generate { device: desk.query.uri.device(), pair };
        // Slots, device, a search before anything is written; a session; a key, its name, no public key; the pair.
        desk.fake.inside().calls = [[Outcome::Well; 8].as_slice(), &[answers(code)]].concat().into();
        let error = desk.ask(job).unwrap_err();
        assert!(
            matches!(&error, Error::Device { function, .. } if function == "C_GetAttributeValue"),
            "{error}"
        );
        assert_eq!(desk.fake.count("C_GenerateKeyPair"), 1, "{code:x}");
        // A device that fails before that is asked again.
        desk.sign().unwrap();
        desk.fake.inside().calls = [Outcome::Well, Outcome::Well, answers(code)].into();
        assert_eq!(
            desk.ask(Job::Delete { device: desk.query.uri.device(), doomed: Doomed::default() }).map(drop),
            Ok(())
        );
    }
}

#[test]
fn a_device_that_has_too_much_to_do_is_given_no_more_until_it_is_asked_whether_it_is_back() {
    let mut profile = Profile::unknown();
    profile.errors.busy = vec!["CKR_FUNCTION_FAILED".into()];
    let desk = Desk::new(profile);
    desk.sign().unwrap();
    let starts = desk.fake.count("C_Initialize");
    let device = desk.query.uri.device();
    let ask = |job| {
        desk.fake.inside().calls = [answers(FUNCTION_FAILED)].into();
        (desk.ask(job).is_ok(), desk.fake.count("C_Initialize") - starts)
    };
    assert_eq!(ask(Job::Certificates(device.clone())), (false, 0));
    assert_eq!(ask(Job::Describe { login: Some(device.clone()), whole: false }), (false, 0));
    assert_eq!(ask(Job::Probe { device: Some(device), is_missed: true }), (true, 1));
}

#[test]
fn sessions_and_memory_that_this_process_may_hold_are_given_back_whatever_was_asked() {
    for code in [HOST_MEMORY, DEVICE_MEMORY, SESSION_COUNT] {
        let desk = Desk::new(Profile::unknown());
        let query = KeyQuery { algorithm: Algorithm::RS512, ..(*desk.query).clone() };
        for job in [Job::Certificates(query.uri.device()), Job::Find(Arc::new(query))] {
            desk.sign().unwrap();
            let starts = desk.fake.count("C_Initialize");
            // C_GetSlotList and C_GetTokenInfo come first: what is asked of a device that is away goes well.
            desk.fake.inside().calls = [Outcome::Well, Outcome::Well, answers(code)].into();
            let answer = desk.ask(job);
            assert!(answer.is_ok(), "{code:x}: {answer:?}");
            assert_eq!(desk.fake.count("C_Initialize") - starts, 1, "{code:x}");
        }
    }
}

#[test]
fn a_device_that_fails_for_good_costs_each_request_one_start_at_most() {
    for code in [DEVICE_ERROR, GENERAL_ERROR, 0x8000_0384] {
        let desk = Desk::new(Profile::unknown());
        desk.sign().unwrap();
        let before = desk.counts();
        desk.fake.inside().always = Some(code);
        for round in 1..5 {
            desk.sign().unwrap_err();
            assert!(desk.counts()[0] - before[0] <= round, "{code:x}: {:?}", desk.counts());
        }
        desk.fake.inside().always = None;
        desk.sign().unwrap();
    }
}

#[test]
fn a_device_that_nobody_wants_is_asked_for_without_cost_to_the_others() {
    let desk = Desk::new(Profile::unknown());
    desk.sign().unwrap();
    let starts = desk.fake.count("C_Initialize");
    let ask = |uri: &str, is_missed| {
        desk.clock.advance(work::LOOK_AGAIN);
        let probe = Job::Probe { device: Some(uri.parse().unwrap()), is_missed };
        let guarded = Guarded::new(desk.guard.clone(), None, desk.profile.clone());
        let _ = desk.owner.answer(&probe, None, None, &guarded);
        desk.fake.count("C_Initialize") - starts
    };
    let absent = "pkcs11:token=absent";
    assert_eq!([ask(absent, false), ask(absent, false), ask(absent, true)], [0, 0, 1]);
    // Nothing else is open now: a library that has grown old in vain is started anew.
    assert_eq!([ask(absent, false), ask(absent, false), ask(absent, false)], [2, 2, 3]);
}

#[test]
fn a_device_is_asked_in_a_session_of_its_own_that_is_alive() {
    let desk = Desk::new(Profile::unknown());
    desk.sign().unwrap();
    let ask = |keeper_answers: Outcome| {
        let sessions = desk.fake.count("C_OpenSession");
        // C_GetSlotList and C_GetTokenInfo come first.
        desk.fake.inside().calls = [Outcome::Well, Outcome::Well, keeper_answers].into();
        let probe = Job::Probe { device: Some(desk.query.uri.device()), is_missed: false };
        let guarded = Guarded::new(desk.guard.clone(), None, desk.profile.clone());
        let answer = desk.owner.answer(&probe, None, None, &guarded);
        assert!(matches!(answer, Ok(Answer::There)), "{answer:?}");
        desk.fake.count("C_OpenSession") - sessions
    };
    assert_eq!(ask(Outcome::Well), 0);
    assert_eq!(ask(answers(USER_NOT_LOGGED_IN)), 0, "it is there, whatever became of the login");
    assert_eq!(ask(answers(SESSION_HANDLE_INVALID)), 1, "it is there again");
    desk.fake.inside().is_another = true;
    assert_eq!(ask(Outcome::Well), 1, "the session that is open is the other one's");
}

#[test]
fn nobody_finalizes_while_a_lane_is_inside() {
    let desk = Desk::new(Profile::unknown());
    desk.sign().unwrap();
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let desk = &desk;
            scope.spawn(move || {
                for round in 0..40 {
                    if lane == 0 && round % 4 == 0 {
                        desk.fake.inside().calls.push_back(answers(DEVICE_ERROR));
                    }
                    let _ = desk.sign();
                }
            });
        }
    });
    assert!(desk.fake.count("C_Finalize") > 1, "it was initialized anew");
    assert!(!desk.fake.inside().was_finalized_in_use);
    desk.fake.inside().calls.clear();
    desk.sign().unwrap();
}
