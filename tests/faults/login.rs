//! Logins that the fault matrix has no cell for: several signers, last tries, locked devices, PINs for signatures.

use segl::sign::{
    Error, PinProblem, Pkcs11Signer, Signer,
    pkcs11::{Modules, Pin},
};

use std::sync::Arc;

use crate::{
    faultp11::{FaultP11, faulty},
    faulty_module::sign,
    recovery::assert_verifies,
    softhsm::{PIN, good_pin},
};

const SIGNATURE_PIN: &str = "2468-1357";

fn pin(pin: &'static str) -> Pin {
    Pin::new(move || Ok(Some(pin.to_owned().into())))
}

fn signer(fault: &FaultP11, modules: &Arc<Modules>, pin: Pin) -> Pkcs11Signer {
    fault.signer_of(modules, "pkcs11:token=ci;object=grant", pin)
}

fn problem(error: &Error) -> &PinProblem {
    match error {
        Error::Pin { problem, .. } => problem,
        other => panic!("{other:?} is not about a PIN"),
    }
}

#[test]
fn a_wrong_pin_costs_one_try_however_many_signers_have_it() {
    faulty("login::a_wrong_pin_costs_one_try_however_many_signers_have_it", async |fault| {
        let modules = fault.modules();
        for _ in 0..3 {
            sign(&signer(&fault, &modules, pin("0000-wrong"))).await.unwrap_err();
        }
        let error = sign(&signer(&fault, &modules, pin("0000-wrong"))).await.unwrap_err();
        assert_eq!(problem(&error), &PinProblem::RefusedBefore);
        assert_eq!((fault.calls("C_Login"), fault.wrong_pins()), (1, 1));
    });
}

#[test]
fn a_login_of_unknown_end_is_not_made_again_though_the_pin_was_right() {
    faulty("login::a_login_of_unknown_end_is_not_made_again_though_the_pin_was_right", async |fault| {
        for when in ["crash", "after crash", "answer CKR_DEVICE_ERROR", "after answer CKR_GENERAL_ERROR"] {
            let logins = fault.calls("C_Login");
            fault.script([fault.next("C_Login", when)]);
            let signer = fault.signer(&fault.modules());
            for _ in 0..3 {
                problem(&sign(&signer).await.unwrap_err());
            }
            let error = sign(&signer).await.unwrap_err();
            // Some devices say so of a wrong PIN. In all other cases it is said that it may be right.
            let refused = when.ends_with("CKR_GENERAL_ERROR");
            let wanted = if refused { PinProblem::RefusedBefore } else { PinProblem::CutShort };
            assert_eq!(problem(&error), &wanted, "{when}");
            assert_eq!(fault.calls("C_Login") - logins, 1, "{when}");
        }
        assert_eq!(fault.wrong_pins(), 0);
    });
}

#[test]
fn the_last_try_is_left_to_a_person_and_a_locked_device_is_not_tried() {
    faulty("login::the_last_try_is_left_to_a_person_and_a_locked_device_is_not_tried", async |fault| {
        fault.script(["pin-tries 3"]);
        for _ in 0..2 {
            let error = sign(&signer(&fault, &fault.modules(), pin("0000-wrong"))).await.unwrap_err();
            assert_eq!(problem(&error), &PinProblem::Refused("CKR_PIN_INCORRECT".into()));
        }
        let error = sign(&fault.signer(&fault.modules())).await.unwrap_err();
        assert_eq!(problem(&error), &PinProblem::FinalTry);
        assert_eq!(fault.calls("C_Login"), 2);
        fault.script(["pin-tries 2"]);
        let error = sign(&fault.signer(&fault.modules())).await.unwrap_err();
        assert_eq!(problem(&error), &PinProblem::Locked);
        assert_eq!(fault.calls("C_Login"), 2);
    });
}

#[test]
fn a_locked_device_that_does_not_say_so_is_tried_once() {
    faulty("login::a_locked_device_that_does_not_say_so_is_tried_once", async |fault| {
        fault.script(["pin-tries 1", "pin-flags-hidden"]);
        sign(&signer(&fault, &fault.modules(), pin("0000-wrong"))).await.unwrap_err();
        for code in ["CKR_PIN_LOCKED", "CKR_PIN_INCORRECT"] {
            fault.script(["pin-tries 1", "pin-flags-hidden", &format!("locked-answer {code}")]);
            let logins = fault.calls("C_Login");
            let signer = fault.signer(&fault.modules());
            assert_eq!(problem(&sign(&signer).await.unwrap_err()), &PinProblem::Refused(code.into()));
            for _ in 0..3 {
                assert_eq!(problem(&sign(&signer).await.unwrap_err()), &PinProblem::RefusedBefore);
            }
            assert_eq!(fault.calls("C_Login") - logins, 1, "{code}");
        }
        assert_eq!(fault.wrong_pins(), 1);
    });
}

#[test]
fn a_key_with_a_pin_for_each_signature_is_given_that_one() {
    faulty("login::a_key_with_a_pin_for_each_signature_is_given_that_one", async |fault| {
        fault.script([format!("signature-pin {SIGNATURE_PIN}")]);
        let both = good_pin().with_signature_pin(&pin(SIGNATURE_PIN));
        let signer = signer(&fault, &fault.modules(), both);
        for _ in 0..3 {
            assert_verifies(&fault, &sign(&signer).await.unwrap());
        }
        // The user's once, and one for each signature.
        assert_eq!(fault.calls("C_Login"), 4);
        assert_eq!(fault.wrong_pins(), 0);
    });
}

#[test]
fn a_wrong_pin_for_a_signature_costs_one_try() {
    faulty("login::a_wrong_pin_for_a_signature_costs_one_try", async |fault| {
        for end in ["", "answer CKR_GENERAL_ERROR", "crash"] {
            fault.behave();
            let wrong = fault.wrong_pins();
            let signature_pin = format!("signature-pin {SIGNATURE_PIN}");
            // The user's login comes first and goes well.
            let second = fault.calls("C_Login") + 2;
            let fails = if end.is_empty() { String::new() } else { format!("C_Login {second}- after {end}") };
            fault.script([signature_pin, fails]);
            let wrong_one = good_pin().with_signature_pin(&pin("1111-wrong"));
            let signer = signer(&fault, &fault.modules(), wrong_one);
            for _ in 0..4 {
                sign(&signer).await.unwrap_err();
            }
            assert_eq!(fault.wrong_pins() - wrong, 1, "{end}");
        }
    });
}

#[test]
fn the_users_pin_is_not_tried_as_that_of_a_signature_where_they_differ() {
    faulty("login::the_users_pin_is_not_tried_as_that_of_a_signature_where_they_differ", async |fault| {
        fault.script([format!("signature-pin {SIGNATURE_PIN}")]);
        let modules = fault.modules_with("[sign]\ncontext_pin = \"separate\"\n");
        for _ in 0..3 {
            let error = sign(&fault.signer(&modules)).await.unwrap_err();
            assert_eq!(problem(&error), &PinProblem::Missing);
        }
        assert_eq!(fault.wrong_pins(), 0);
        // One signer with the right PIN is all it takes.
        let both = signer(&fault, &modules, pin(PIN).with_signature_pin(&pin(SIGNATURE_PIN)));
        assert_verifies(&fault, &sign(&both).await.unwrap());
        assert_eq!(both.health().trouble, None);
    });
}

#[test]
fn a_device_that_denies_a_login_it_confirms_is_started_anew() {
    faulty("login::a_device_that_denies_a_login_it_confirms_is_started_anew", async |fault| {
        let signer = fault.signer(&fault.modules());
        sign(&signer).await.unwrap();
        fault.script([fault.until_initialized("C_Sign", "answer CKR_USER_NOT_LOGGED_IN")]);
        assert_verifies(&fault, &sign(&signer).await.unwrap());
        // It may have wanted a PIN for the signature: that is found out once.
        assert_eq!((fault.calls("C_Initialize"), fault.calls("C_Login")), (2, 3));
    });
}
