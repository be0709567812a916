//! Devices that are odd, or come and go.

use std::time::Duration;

use segl::sign::{Error, Signer, Sought};

use crate::{
    faultp11::{IMPATIENT, faulty},
    faulty_module::sign,
    recovery::{assert_verifies, many, signs_again},
    softhsm::{call, good_pin},
};

#[test]
fn a_device_with_few_sessions_signs_within_them() {
    faulty("device::a_device_with_few_sessions_signs_within_them", async |fault| {
        for (most, lanes) in [(1, 1), (1, 4), (2, 1), (2, 4), (16, 4)] {
            for said in ["", "max-sessions-unreported"] {
                fault.behave();
                let modules = fault.modules_with(&format!("[session]\nlanes = {lanes}\n"));
                fault.script([&format!("max-sessions {most}"), said]);
                let signer = fault.signer(&modules).into();
                let what = format!("{most} sessions {said}, {lanes} lanes");
                let before = fault.calls("C_Login");
                many(&fault, &signer, 32).await;
                assert_eq!(signer.health().trouble, None, "{what}");
                assert_eq!(fault.calls("C_Login") - before, 1, "{what}");
                modules.shutdown(&call()).await.unwrap();
            }
        }
    });
}

#[test]
fn a_device_with_one_session_in_all_gets_no_second() {
    faulty("device::a_device_with_one_session_in_all_gets_no_second", async |fault| {
        for (script, profile) in [("max-sessions 1", ""), ("", "[session]\ntotal = 1\n")] {
            fault.script([script]);
            let modules = fault.modules_with(profile);
            let signer = fault.signer(&modules);
            for _ in 0..5 {
                assert_verifies(&fault, &sign(&signer).await.unwrap());
            }
            modules.shutdown(&call()).await.unwrap();
        }
        assert_eq!(fault.calls("C_OpenSession"), 2);
        assert_eq!(fault.most_sessions(), 1);
    });
}

#[test]
fn labels_that_end_in_nuls_are_found_without_them() {
    faulty("device::labels_that_end_in_nuls_are_found_without_them", async |fault| {
        fault.script(["nul-padded-labels"]);
        let modules = fault.modules();
        let signer = fault.signer(&modules);
        assert_verifies(&fault, &sign(&signer).await.unwrap());
        let missing = fault.signer_of(&modules, "pkcs11:token=ci;object=gran", good_pin());
        let error = missing.key(&call()).await.unwrap_err();
        let Error::NotFound { sought: Sought::Key, candidates, .. } = error else { panic!("{error:?}") };
        assert_eq!(candidates.len(), 1);
        assert!(candidates[0].contains(";object=grant;"), "{candidates:?}");
    });
}

#[test]
fn two_keys_that_share_an_id_are_not_guessed_between() {
    faulty("device::two_keys_that_share_an_id_are_not_guessed_between", async |fault| {
        let direct = fault.hsm.modules();
        let other = fault.hsm.generate(&direct, "ci", "other").await;
        direct.shutdown(&call()).await.unwrap();
        fault.script(["duplicate-ids"]);
        let modules = fault.modules();
        let by_id = fault.signer_of(&modules, "pkcs11:token=ci;id=%01", good_pin());
        let error = by_id.key(&call()).await.unwrap_err();
        let Error::Ambiguous { sought: Sought::Key, candidates, .. } = error else { panic!("{error:?}") };
        assert_eq!(candidates.len(), 2, "{candidates:?}");
        // By its label each is found, with its own public half and not that of the other.
        assert_verifies(&fault, &sign(&fault.signer(&modules)).await.unwrap());
        let key =
            fault.signer_of(&modules, "pkcs11:token=ci;object=other", good_pin()).key(&call()).await.unwrap();
        assert_eq!(key.public_key.to_spki().unwrap(), other.spki);
    });
}

#[test]
fn a_device_is_found_in_whatever_slot_it_has_moved_to() {
    faulty("device::a_device_is_found_in_whatever_slot_it_has_moved_to", async |fault| {
        fault.script(["slots-move"]);
        let signer = fault.signer(&fault.modules());
        for _ in 0..3 {
            assert_verifies(&fault, &sign(&signer).await.unwrap());
            fault.kill();
        }
        sign(&signer).await.unwrap();
        // Put into another slot, while the library runs on.
        fault.script(["slot-offset 7", "insertion 1"]);
        assert_verifies(&fault, &signs_again(&signer).await.unwrap());
    });
}

#[test]
fn what_a_device_does_not_say_of_itself_keeps_nobody_from_signing() {
    faulty("device::what_a_device_does_not_say_of_itself_keeps_nobody_from_signing", async |fault| {
        for script in [
            "unavailable-limits",
            "unavailable CKA_ALLOWED_MECHANISMS CKA_ALWAYS_AUTHENTICATE CKA_SIGN CKA_MODULUS_BITS",
            "unavailable CKA_ID",
            "C_GetMechanismList * answer CKR_FUNCTION_NOT_SUPPORTED",
            "C_GetSessionInfo * answer CKR_FUNCTION_NOT_SUPPORTED",
        ] {
            fault.script([script]);
            let modules = fault.modules();
            let signed = sign(&fault.signer(&modules)).await;
            assert_verifies(&fault, &signed.unwrap_or_else(|error| panic!("{script}: {error:?}")));
            modules.shutdown(&call()).await.unwrap();
        }
    });
}

#[test]
fn a_device_that_hangs_when_it_is_asked_is_left_alone_for_longer_where_it_holds_another_up() {
    let name =
        "device::a_device_that_hangs_when_it_is_asked_is_left_alone_for_longer_where_it_holds_another_up";
    faulty(name, async |fault| {
        fault.hsm.create("beside");
        let pauses = "[errors]\nfirst_retry_ms = 3000\nlongest_retry_ms = 3000\n";
        let modules = fault.modules_with(&format!("{IMPATIENT}{pauses}"));
        let signer = fault.signer(&modules);
        sign(&signer).await.unwrap();
        let beside = fault.device(&modules, "pkcs11:token=beside", good_pin());
        beside.certificates(&call()).await.unwrap();
        fault.script(["C_SignInit * answer CKR_DEVICE_ERROR"]);
        while signer.health().away.is_empty() {
            sign(&signer).await.unwrap_err();
        }
        fault.script(["C_GetTokenInfo * hang"]);
        while signer.health().away[0].again <= Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
