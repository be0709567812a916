//! Whatever a library answers and whenever its process dies, no PIN that was refused is tried again.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::super::{
        calls::{User, code_name},
        profile::ReinitKind,
    },
    *,
};

const OPERATION_NOT_INITIALIZED: u64 = 0x91;
const USER_ALREADY_LOGGED_IN: u64 = 0x100;

#[derive(Clone, Debug)]
enum Step {
    Sign {
        calls: Vec<Outcome>,
        logins: Vec<Outcome>,
    },
    Restart,
    Advance(u64),
    /// Somebody writes another PIN into the file.
    Write,
}

fn outcome(well: u32) -> impl Strategy<Value = Outcome> {
    let named = select(vec![
        0x05,
        0x06,
        0x30,
        0x31,
        0x32,
        0x54,
        0x60,
        0x70,
        0x82,
        0x90,
        0x91,
        0xa0,
        0xa1,
        0xa2,
        0xa3,
        0xa4,
        0xb0,
        0xb1,
        0xb3,
        0xe0,
        0xe1,
        0x100,
        0x101,
        0x102,
        0x190,
        0x191,
        0x8000_0384,
    ]);
    prop_oneof![
        well => Just(Outcome::Well),
        6 => named.prop_map(Outcome::Answers),
        1 => (1_u64..0x205).prop_map(Outcome::Answers),
        1 => Just(Outcome::Dies),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (vec(outcome(40), 0..60), vec(outcome(6), 0..4))
            .prop_map(|(calls, logins)| Step::Sign { calls, logins }),
        1 => Just(Step::Restart),
        1 => (1_u64..100_000).prop_map(Step::Advance),
        2 => Just(Step::Write),
    ]
}

/// Refused logins, counted from what the device was asked.
#[derive(Debug, Default)]
struct Refused {
    /// Since the last login that went well.
    in_all: u8,
    /// Since the file was written, too.
    of_one: u8,
}

impl Refused {
    fn count(&mut self, (user, code): (User, Option<u64>)) {
        match code {
            None => *self = Self::default(),
            // They say nothing of a PIN: this one may be right, and those that were refused before are as wrong.
            Some(USER_ALREADY_LOGGED_IN) => {}
            Some(OPERATION_NOT_INITIALIZED) if user == User::ContextSpecific => {}
            Some(_) => {
                self.in_all += 1;
                self.of_one += 1;
            }
        }
    }
}

proptest! {
    #[test]
    fn no_path_leads_from_a_refused_pin_to_another_try_of_it(
        steps in vec(step(), 1..25),
        always_authenticate: bool,
        by_process: bool,
        moved in vec((0..4_usize, 1_u64..0x205), 0..6),
    ) {
        let mut profile = Profile::unknown();
        if by_process {
            profile.errors.reinit_kind = ReinitKind::Process;
        }
        for (list, code) in moved {
            let errors = &mut profile.errors;
            let lists = [&mut errors.reinit, &mut errors.transient, &mut errors.fatal, &mut errors.busy];
            lists.into_iter().nth(list).unwrap().push(code_name(code));
        }
        let mut desk = Desk::new(profile);
        desk.fake.inside().always_authenticate = always_authenticate;
        let (mut refused, mut told) = (Refused::default(), 0);
        for step in steps {
            match step {
                Step::Sign { calls, logins } => {
                    {
                        let mut inside = desk.fake.inside();
                        inside.calls = calls.into();
                        inside.logins = logins.into();
                    }
                    let _ = desk.sign();
                    if desk.fake.inside().dead.is_some() {
                        desk.restart();
                    }
                }
                Step::Restart => desk.restart(),
                Step::Advance(seconds) => desk.clock.advance(Duration::from_secs(seconds)),
                Step::Write => {
                    desk.written += 1;
                    refused.of_one = 0;
                }
            }
            let log = desk.fake.inside().log.clone();
            for login in &log[told..] {
                refused.count(*login);
                prop_assert!(refused.of_one <= 1 && refused.in_all <= 2, "{refused:?}: {log:?}");
            }
            told = log.len();
        }
    }
}
