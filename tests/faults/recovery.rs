//! One call goes wrong, once: Segl signs again without a person, and logs in no more often than it starts the library.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use segl::sign::{Error, Pkcs11Signer, Signed};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    faultp11::{FaultP11, IMPATIENT, faulty, sign},
    softhsm::call,
};

/// What becomes of the request that meets the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    /// It is answered with a signature: the fault was mended on the way.
    Signature,
    /// It is answered with an error, and a later one with a signature.
    Error,
}

/// Whether the key has signed before the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// The library is not even loaded.
    Cold,
    Warm,
}

/// A request, and which call goes wrong on its way.
struct Phase {
    start: Start,
    function: &'static str,
}

const fn cold(function: &'static str) -> Phase {
    Phase { start: Start::Cold, function }
}

const fn warm(function: &'static str) -> Phase {
    Phase { start: Start::Warm, function }
}

/// From the loading of the library to the signature; C_Login has tests of its own.
const PHASES: &[Phase] = &[
    cold("C_GetFunctionList"),
    cold("C_GetInterface"),
    cold("C_Initialize"),
    cold("C_GetSlotList"),
    cold("C_GetTokenInfo"),
    cold("C_OpenSession"),
    cold("C_GetSessionInfo"),
    cold("C_FindObjectsInit"),
    cold("C_FindObjects"),
    cold("C_FindObjectsFinal"),
    cold("C_GetAttributeValue"),
    cold("C_GetMechanismList"),
    cold("C_SignInit"),
    cold("C_Sign"),
    warm("C_SignInit"),
    warm("C_Sign"),
];

/// Recovery after the end of a fault may take one step of waiting, and a start of the library on a busy machine.
const MOST: Duration = Duration::from_secs(15);

/// Has one call of each phase go wrong by `action`, each with libraries of its own.
async fn every_phase_survives(
    fault: &FaultP11,
    phases: &[Phase],
    action: &str,
    profile: &str,
    meets: impl Fn(&Phase) -> Meets,
) {
    let mut failures = Vec::new();
    let mut slowest = Duration::ZERO;
    for phase in phases {
        let Phase { start, function } = phase;
        fault.behave();
        let modules = fault.modules_with(profile);
        let signer = fault.signer(&modules);
        if *start == Start::Warm {
            sign(&signer).await.unwrap();
        }
        let before = Calls::now(fault);
        let met = fault.calls(function);
        fault.script([fault.next(function, action)]);
        let outcome = sign(&signer).await;
        let wanted = meets(phase);
        let found = if outcome.is_ok() { Meets::Signature } else { Meets::Error };
        let what = format!("{start:?} {function} {action}");
        if found != wanted {
            failures.push(format!("{what}: {found:?} ({:?}), not {wanted:?}", outcome.as_ref().err()));
        }
        let ended = Instant::now();
        match signs_again(&signer).await {
            Ok(signed) => assert_verifies(fault, &signed),
            Err(error) => failures.push(format!("{what}: never signed again: {error:?}")),
        }
        slowest = slowest.max(ended.elapsed());
        let after = Calls::now(fault);
        if fault.calls(function) == met {
            failures.push(format!("{what}: the fault was not met"));
        }
        let (logins, starts) = (after.logins - before.logins, after.starts - before.starts);
        if logins > starts {
            failures.push(format!("{what}: {logins} logins, {starts} initializations"));
        }
        modules.shutdown(&call()).await.unwrap();
    }
    println!("{action}: a signature at most {} ms after the fault", slowest.as_millis());
    assert_eq!(fault.wrong_pins(), 0);
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

struct Calls {
    logins: u64,
    starts: u64,
}

impl Calls {
    fn now(fault: &FaultP11) -> Self {
        Self { logins: fault.calls("C_Login"), starts: fault.calls("C_Initialize") }
    }
}

/// `number` requests at a time, all of which are to be answered with signatures.
pub(crate) async fn many(fault: &FaultP11, signer: &Arc<Pkcs11Signer>, number: usize) {
    let mut asked = JoinSet::new();
    for _ in 0..number {
        let signer = signer.clone();
        asked.spawn(async move { sign(&signer).await });
    }
    while let Some(signed) = asked.join_next().await {
        assert_verifies(fault, &signed.unwrap().unwrap());
    }
}

/// Asks as a caller does, who tries again until it works.
pub(crate) async fn signs_again(signer: &Pkcs11Signer) -> Result<Signed, Error> {
    let asked = Instant::now();
    loop {
        match sign(signer).await {
            Err(_) if asked.elapsed() < MOST => tokio::time::sleep(Duration::from_millis(20)).await,
            outcome => return outcome,
        }
    }
}

pub(crate) fn assert_verifies(fault: &FaultP11, signed: &Signed) {
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &fault.pair.spki).unwrap();
    key.verify_sig(&signed.message, &signed.signature).unwrap();
}

/// A library that fails right after it was started is not started once more for the same request; what a signature
/// does not depend on fails unseen.
fn an_error(phase: &Phase) -> Meets {
    match (phase.start, phase.function) {
        (Start::Warm, _) => Meets::Signature,
        (
            Start::Cold,
            "C_GetInterface" | "C_GetSessionInfo" | "C_GetMechanismList" | "C_SignInit" | "C_Sign",
        ) => Meets::Signature,
        (Start::Cold, _) => Meets::Error,
    }
}

macro_rules! every_phase {
    ($($name:ident: $action:literal, $meets:expr;)*) => {
        $(#[test]
        fn $name() {
            let name = concat!("recovery::", stringify!($name));
            faulty(name, async |fault| every_phase_survives(&fault, PHASES, $action, "", $meets).await);
        })*
    };
}

every_phase! {
    a_device_error: "answer CKR_DEVICE_ERROR", an_error;
    // Attributes that were refused together are asked for one by one.
    a_general_error: "answer CKR_GENERAL_ERROR", |phase| match phase.function {
        "C_GetAttributeValue" => Meets::Signature,
        _ => an_error(phase),
    };
    a_session_that_is_gone: "answer CKR_SESSION_HANDLE_INVALID", an_error;
    a_removed_device: "answer CKR_DEVICE_REMOVED", an_error;
    a_code_of_the_vendor: "answer 0x80000384", |phase| match phase.function {
        // Asked again, one attribute at a time.
        "C_GetAttributeValue" => Meets::Signature,
        _ => an_error(phase),
    };
    a_crash: "crash", |_| Meets::Signature;
    an_exit: "exit 0", |_| Meets::Signature;
    an_abort: "abort", |_| Meets::Signature;
    a_kill: "kill", |_| Meets::Signature;
    a_crash_after_the_work: "after crash", |_| Meets::Signature;
}

/// Where the login is lost between two calls.
#[test]
fn a_logout_behind_our_back() {
    faulty("recovery::a_logout_behind_our_back", async |fault| {
        let phases = [
            warm("C_SignInit"),
            warm("C_Sign"),
            cold("C_SignInit"),
            cold("C_Sign"),
            cold("C_GetMechanismList"),
        ];
        every_phase_survives(&fault, &phases, "logout", "", |_| Meets::Signature).await;
    });
}

macro_rules! a_hang {
    ($($name:ident: $phase:expr;)*) => {
        $(#[test]
        fn $name() {
            let name = concat!("recovery::", stringify!($name));
            faulty(name, async |fault| {
                every_phase_survives(&fault, &[$phase], "hang", IMPATIENT, |_| Meets::Error).await;
            });
        })*
    };
}

// A test for each, so that their waits overlap.
a_hang! {
    a_library_that_hangs_while_it_is_loaded: cold("C_GetFunctionList");
    a_library_that_hangs_in_its_start: cold("C_Initialize");
    a_library_that_hangs_in_opening_a_session: cold("C_OpenSession");
    a_library_that_hangs_in_a_search: cold("C_FindObjects");
    a_library_that_hangs_before_a_signature: warm("C_SignInit");
    a_library_that_hangs_in_a_signature: warm("C_Sign");
}

#[test]
fn a_process_that_ends_while_nobody_asks_is_replaced_at_the_next_request() {
    let name = "recovery::a_process_that_ends_while_nobody_asks_is_replaced_at_the_next_request";
    faulty(name, async |fault| {
        let signer = fault.signer(&fault.modules());
        for round in 1..=3 {
            assert_verifies(&fault, &sign(&signer).await.unwrap());
            assert_eq!((fault.calls("C_Initialize"), fault.calls("C_Login")), (round, round));
            fault.kill();
        }
    });
}

#[test]
fn a_link_that_stays_lost_until_the_library_is_started_anew_costs_no_request() {
    let name = "recovery::a_link_that_stays_lost_until_the_library_is_started_anew_costs_no_request";
    faulty(name, async |fault| {
        let signer = fault.signer(&fault.modules());
        for code in
            ["CKR_DEVICE_ERROR", "CKR_GENERAL_ERROR", "CKR_TOKEN_NOT_PRESENT", "CKR_CRYPTOKI_NOT_INITIALIZED"]
        {
            sign(&signer).await.unwrap();
            let lost = |function| fault.until_initialized(function, &format!("answer {code}"));
            fault.script(
                ["C_SignInit", "C_Sign", "C_OpenSession", "C_GetTokenInfo", "C_GetSessionInfo"].map(lost),
            );
            assert_verifies(&fault, &sign(&signer).await.unwrap());
        }
        assert_eq!((fault.calls("C_Initialize"), fault.calls("C_Login")), (5, 5));
    });
}

#[test]
fn a_device_that_fails_for_a_while_is_used_again_when_it_works() {
    let name = "recovery::a_device_that_fails_for_a_while_is_used_again_when_it_works";
    faulty(name, async |fault| {
        for action in ["answer CKR_DEVICE_ERROR", "answer 0x80000384", "crash", "exit 3"] {
            let signer = fault.signer(&fault.modules());
            sign(&signer).await.unwrap();
            fault.script([format!("C_Sign * {action}")]);
            for _ in 0..5 {
                sign(&signer).await.unwrap_err();
            }
            fault.behave();
            assert_verifies(&fault, &signs_again(&signer).await.unwrap());
        }
        assert_eq!(fault.wrong_pins(), 0);
    });
}

#[test]
fn a_crash_under_load_costs_no_request() {
    faulty("recovery::a_crash_under_load_costs_no_request", async |fault| {
        let signer = Arc::new(fault.signer(&fault.modules_with("[session]\nlanes = 2\n")));
        sign(&signer).await.unwrap();
        for _ in 0..3 {
            let signed = fault.calls("C_Sign");
            fault.script([format!("C_Sign {} crash", signed + 10)]);
            many(&fault, &signer, 40).await;
        }
        assert_eq!((fault.calls("C_Initialize"), fault.calls("C_Login")), (4, 4));
    });
}

#[test]
fn a_library_that_fails_while_it_is_ended_is_replaced() {
    faulty("recovery::a_library_that_fails_while_it_is_ended_is_replaced", async |fault| {
        let signer = fault.signer(&fault.modules_with(IMPATIENT));
        for (action, meets) in [
            ("answer CKR_GENERAL_ERROR", Meets::Signature),
            ("crash", Meets::Signature),
            ("exit 0", Meets::Signature),
            ("hang", Meets::Error),
        ] {
            sign(&signer).await.unwrap();
            let lost = fault.next("C_SignInit", "answer CKR_DEVICE_ERROR");
            fault.script([lost, fault.next("C_Finalize", action)]);
            let outcome = sign(&signer).await;
            let found = if outcome.is_ok() { Meets::Signature } else { Meets::Error };
            assert_eq!(found, meets, "{action}: {outcome:?}");
            assert_verifies(&fault, &signs_again(&signer).await.unwrap());
        }
        assert_eq!(fault.wrong_pins(), 0);
    });
}

#[test]
fn a_library_that_does_not_let_itself_be_ended_does_not_keep_a_program_from_ending() {
    let name = "recovery::a_library_that_does_not_let_itself_be_ended_does_not_keep_a_program_from_ending";
    faulty(name, async |fault| {
        fault.script(["C_Finalize * hang"]);
        let modules = fault.modules();
        sign(&fault.signer(&modules)).await.unwrap();
        modules.shutdown(&call()).await.unwrap();
        assert_eq!((fault.calls("C_Finalize"), fault.ended("C_Finalize")), (1, 0));
    });
}
