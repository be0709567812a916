//! Libraries that are odd before their first session.

use std::time::Duration;

use segl::sign::Error;

use crate::{
    faultp11::{faulty, sign},
    recovery::{assert_verifies, signs_again},
};

#[test]
fn a_library_whose_interface_cannot_be_had_is_driven_by_its_function_list() {
    let name = "loading::a_library_whose_interface_cannot_be_had_is_driven_by_its_function_list";
    faulty(name, async |fault| {
        for interface in [
            "C_GetInterface * answer CKR_GENERAL_ERROR",
            "C_GetInterface * answer CKR_FUNCTION_NOT_SUPPORTED",
            "interface null",
            // Says 3.0 and has the functions of 2.40.
            "interface 3.0",
        ] {
            fault.script([interface]);
            let modules = fault.modules();
            let asked = fault.calls("C_GetInterface");
            assert_verifies(&fault, &sign(&fault.signer(&modules)).await.unwrap());
            assert!(fault.calls("C_GetInterface") > asked, "{interface}");
        }
    });
}

#[test]
fn a_library_that_starts_slowly_is_waited_for() {
    faulty("loading::a_library_that_starts_slowly_is_waited_for", async |fault| {
        fault.script(["C_Initialize * delay 2500"]);
        let signer = fault.signer(&fault.modules());
        let begun = tokio::time::Instant::now();
        assert_verifies(&fault, &sign(&signer).await.unwrap());
        assert!(begun.elapsed() >= Duration::from_millis(2500));
        assert_eq!(fault.calls("C_Initialize"), 1);
    });
}

#[test]
fn a_library_that_started_without_slots_is_started_anew_when_it_is_asked_again() {
    let name = "loading::a_library_that_started_without_slots_is_started_anew_when_it_is_asked_again";
    faulty(name, async |fault| {
        fault.script(["no-slots"]);
        let signer = fault.signer(&fault.modules());
        for _ in 0..3 {
            let error = sign(&signer).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
        }
        fault.behave();
        assert_verifies(&fault, &signs_again(&signer).await.unwrap());
        assert_eq!(fault.calls("C_Login"), 1);
    });
}
