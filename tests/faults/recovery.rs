//! What the fault matrix has no cell for: a link that is lost until the library is started anew, a crash under load, a
//! library that does not end as it should.

use std::{sync::Arc, time::Duration};

use segl::sign::{Error, Pkcs11Signer, Signed, Signer};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    faultp11::{FaultP11, IMPATIENT, faulty},
    faulty_module::{sign, verifies},
    softhsm::call,
};

/// Recovery after the end of a fault may take one step of waiting, and a start of the library on a busy machine.
const MOST: Duration = Duration::from_secs(15);

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
    assert!(verifies(&fault.pair.spki, &signed.message, &signed.signature));
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
        for (action, answered) in
            [("answer CKR_GENERAL_ERROR", true), ("crash", true), ("exit 0", true), ("hang", false)]
        {
            sign(&signer).await.unwrap();
            let lost = fault.next("C_SignInit", "answer CKR_DEVICE_ERROR");
            fault.script([lost, fault.next("C_Finalize", action)]);
            let outcome = sign(&signer).await;
            assert_eq!(outcome.is_ok(), answered, "{action}: {outcome:?}");
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

#[test]
fn a_library_that_only_a_new_process_revives_gets_one() {
    faulty("recovery::a_library_that_only_a_new_process_revives_gets_one", async |fault| {
        let modules = fault.modules_with("[errors]\nfirst_retry_ms = 10\n");
        let signer = fault.signer(&modules);
        sign(&signer).await.unwrap();
        let (process, starts) = (fault.calls("process"), fault.calls("C_Initialize"));
        fault.script(["C_SignInit * answer CKR_DEVICE_ERROR"]);
        let begun = Instant::now();
        while fault.calls("process") == process {
            assert!(sign(&signer).await.is_err());
            assert!(begun.elapsed() < MOST, "no new process");
        }
        assert!(fault.calls("C_Initialize") > starts + 1, "it was not initialized anew in place before");
        fault.behave();
        assert_verifies(&fault, &signs_again(&signer).await.unwrap());
        modules.shutdown(&call()).await.unwrap();
        assert_eq!(fault.wrong_pins(), 0);
    });
}

#[test]
fn a_library_whose_profile_wants_a_new_process_is_not_initialized_anew_in_place() {
    let name = "recovery::a_library_whose_profile_wants_a_new_process_is_not_initialized_anew_in_place";
    faulty(name, async |fault| {
        let modules = fault.modules_with("[errors]\nreinit_kind = \"process\"\nfirst_retry_ms = 10\n");
        let signer = fault.signer(&modules);
        sign(&signer).await.unwrap();
        // A process that is younger than the first pause is not replaced.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(50) {
            sign(&signer).await.unwrap();
        }
        let (process, finalized) = (fault.calls("process"), fault.calls("C_Finalize"));
        let until = fault.calls("C_Initialize") + 1;
        fault.script([format!("C_SignInit * until-initialize {until} answer CKR_DEVICE_ERROR")]);
        assert_verifies(&fault, &sign(&signer).await.unwrap());
        assert_ne!(fault.calls("process"), process);
        assert_eq!(fault.calls("C_Initialize"), until);
        let orderly = fault.calls("C_Finalize") - finalized;
        assert!(orderly <= 1, "the old one may end in order, and none is initialized anew");
        modules.shutdown(&call()).await.unwrap();
        assert_eq!(fault.wrong_pins(), 0);
    });
}

/// The figure of the promise: one step of waiting, a second at most, and what a signature takes.
#[test]
fn a_device_that_was_away_for_long_signs_within_one_step_of_its_return() {
    faulty("recovery::a_device_that_was_away_for_long_signs_within_one_step_of_its_return", async |fault| {
        for action in ["answer CKR_DEVICE_ERROR", "answer CKR_TOKEN_NOT_PRESENT", "crash"] {
            fault.behave();
            let modules = fault.modules();
            let signer = fault.signer(&modules);
            sign(&signer).await.unwrap();
            fault.script(["C_SignInit", "C_GetTokenInfo"].map(|function| format!("{function} * {action}")));
            // Long enough for the longest pause.
            let gone = Instant::now();
            while gone.elapsed() < Duration::from_secs(5) {
                sign(&signer).await.unwrap_err();
            }
            let away = signer.health().away;
            assert_eq!(away.len(), 1, "{away:?}");
            fault.behave();
            let back = Instant::now();
            assert_verifies(&fault, &signs_again(&signer).await.unwrap());
            println!("{action}: a signature {} ms after the device was back", back.elapsed().as_millis());
            assert!(back.elapsed() < MOST);
            assert_eq!(signer.health().away, []);
            modules.shutdown(&call()).await.unwrap();
        }
        assert_eq!(fault.wrong_pins(), 0);
    });
}
