use super::*;

const FUNCTIONS: &[&str] = &[
    "C_Initialize",
    "C_GetSlotList",
    "C_GetTokenInfo",
    "C_OpenSession",
    "C_Login",
    "C_FindObjects",
    "C_GetAttributeValue",
    "C_SignInit",
    "C_Sign",
    "C_InitPIN",
    "C_InitToken",
    "C_SetPIN",
    "C_CreateObject",
];

fn codes() -> impl Iterator<Item = String> {
    (1..0x300).chain([0x8000_0000, 0x8000_0384, u64::MAX]).map(code_name)
}

#[test]
fn every_name_in_the_tables_is_one_that_a_code_has() {
    let names: Vec<String> = codes().collect();
    let in_tables = FIRST.iter().chain(TABLE).flat_map(|row| row.codes);
    for wanted in in_tables.chain(REFUSES_MECHANISM) {
        assert!(names.iter().any(|name| name == wanted), "{wanted}");
    }
}

#[test]
fn no_profile_makes_anything_of_a_pin_but_an_end() {
    for list in 0..4 {
        let mut profile = Profile::unknown();
        let all = codes().chain(codes().map(|code| format!("C_Login:{code}"))).collect();
        let errors = &mut profile.errors;
        *[&mut errors.reinit, &mut errors.transient, &mut errors.fatal, &mut errors.busy][list] = all;
        let ladder = Ladder::of(&profile);
        for function in FUNCTIONS {
            let takes_pin = ["C_Login", "C_InitPIN", "C_InitToken", "C_SetPIN"].contains(function);
            for code in codes() {
                let is_about_pin = code.starts_with("CKR_PIN_") || code == "CKR_USER_PIN_NOT_INITIALIZED";
                let is_pin = takes_pin || (is_about_pin && *function != "C_Initialize");
                assert_eq!(ladder.class(function, &code) == Class::Pin, is_pin, "{function} {code}");
            }
        }
    }
    let rungs: Vec<_> = Class::Pin.steps().iter().map(|step| step.rung).collect();
    assert_eq!(rungs, [Rung::OpenCircuit]);
}

#[test]
fn a_request_climbs_a_bounded_number_of_rungs_whatever_it_is_answered() {
    let ladder = Ladder::default();
    let classes = [
        Class::SessionDead,
        Class::LoggedOut,
        Class::Device,
        Class::Busy,
        Class::Transient,
        Class::Pin,
        Class::Caller,
    ];
    for first in classes {
        for then in classes {
            let mut climb = Climb::default();
            let mut rungs = Vec::new();
            while let Some(rung) = climb.next(&ladder, if rungs.is_empty() { first } else { then }) {
                rungs.push(rung);
                assert!(rungs.len() < 8);
            }
            assert!(rungs.is_sorted(), "{rungs:?}");
            let logins = rungs.iter().filter(|rung| **rung == Rung::LogIn).count();
            assert!(logins <= 1, "{rungs:?}");
        }
    }
}

#[test]
fn answers_climb_as_the_table_says() {
    let rungs = |ladder: &Ladder, function: &str, code: &str| {
        let mut climb = Climb::default();
        let class = ladder.class(function, code);
        std::iter::from_fn(move || climb.next(ladder, class)).collect::<Vec<_>>()
    };
    use Rung::*;
    let ladder = Ladder::default();
    for (function, code, wanted) in [
        ("C_SignInit", "CKR_KEY_HANDLE_INVALID", &[NewSession, Reinitialize, NewProcess, OpenCircuit][..]),
        ("C_Sign", "CKR_USER_NOT_LOGGED_IN", &[LogIn, Reinitialize, NewProcess, OpenCircuit]),
        ("C_Sign", "CKR_GENERAL_ERROR", &[Reinitialize, NewProcess, OpenCircuit]),
        ("C_Sign", "0x80000384", &[Reinitialize, NewProcess, OpenCircuit]),
        ("C_OpenSession", "CKR_SESSION_COUNT", &[NewSession, Reinitialize, OpenCircuit]),
        ("C_Initialize", "CKR_ARGUMENTS_BAD", &[Reinitialize, NewProcess, OpenCircuit]),
        ("C_Initialize", "CKR_PIN_LOCKED", &[Reinitialize, NewProcess, OpenCircuit]),
        ("C_Login", "CKR_DEVICE_ERROR", &[OpenCircuit]),
        ("C_SignInit", "CKR_PIN_EXPIRED", &[OpenCircuit]),
        ("C_SignInit", "CKR_MECHANISM_INVALID", &[]),
    ] {
        assert_eq!(rungs(&ladder, function, code), wanted, "{function} {code}");
    }
    let mut profile = Profile::unknown();
    profile.errors.transient = vec!["C_Sign:CKR_FUNCTION_FAILED".into()];
    profile.errors.fatal = vec!["0x8000001A".into()];
    profile.errors.reinit_kind = ReinitKind::Process;
    let ladder = Ladder::of(&profile);
    assert_eq!(rungs(&ladder, "C_Sign", "CKR_FUNCTION_FAILED"), [NewSession, NewSession, OpenCircuit]);
    assert_eq!(rungs(&ladder, "C_SignInit", "CKR_FUNCTION_FAILED"), [NewProcess, OpenCircuit]);
    assert_eq!(rungs(&ladder, "C_Sign", "0x8000001a"), []);
}

#[test]
fn what_may_have_been_written_is_not_written_twice() {
    let mut profile = Profile::unknown();
    profile.errors.transient = vec!["CKR_FUNCTION_FAILED".into()];
    let ladder = Ladder::of(&profile);
    for function in ["C_GenerateKeyPair", "C_CreateObject", "C_DestroyObject"] {
        let error = Error::Device { function: function.into(), code: "CKR_DEVICE_ERROR".into() };
        assert!(!ladder.has(Rung::Reinitialize, &error) && !ladder.has(Rung::NewProcess, &error));
        let passes = |function: &str| {
            ladder.passes(&Error::Device { function: function.into(), code: "CKR_FUNCTION_FAILED".into() })
        };
        assert!(!passes(function) && passes("C_FindObjects"));
        assert!(ladder.has(Rung::OpenCircuit, &error), "it says something of the device all the same");
    }
}
