//! Signatures that are none: they never come out.

use segl::sign::{Error, Signer};

use crate::{
    faultp11::faulty,
    faulty_module::sign,
    recovery::{assert_verifies, signs_again},
};

/// C_Sign answers CKR_OK to all of these.
const WRONG: &[&str] = &[
    "wrong-signature",
    "truncated-signature 255",
    "truncated-signature 1",
    "truncated-signature 0",
    "blank-signature",
];

#[test]
fn a_wrong_or_short_signature_never_comes_out_and_the_next_good_one_does() {
    let name = "signature::a_wrong_or_short_signature_never_comes_out_and_the_next_good_one_does";
    faulty(name, async |fault| {
        for wrong in WRONG {
            let modules = fault.modules();
            let signer = fault.signer(&modules);
            // From its very first signature on, whatever form it is asked for in.
            fault.script([format!("C_Sign * {wrong}")]);
            for _ in 0..3 {
                assert_eq!(sign(&signer).await.unwrap_err(), Error::WrongSignature, "{wrong}");
            }
            fault.behave();
            assert_verifies(&fault, &signs_again(&signer).await.unwrap());
            // And once it has signed well.
            fault.script([format!("C_Sign * {wrong}")]);
            for _ in 0..3 {
                assert_eq!(sign(&signer).await.unwrap_err(), Error::WrongSignature, "{wrong}");
            }
            assert_eq!(signer.health().signatures, 1, "{wrong}");
            fault.behave();
            assert_verifies(&fault, &signs_again(&signer).await.unwrap());
        }
        assert_eq!(fault.wrong_pins(), 0);
    });
}

#[test]
fn a_device_that_signs_one_form_wrongly_is_asked_for_the_other() {
    let name = "signature::a_device_that_signs_one_form_wrongly_is_asked_for_the_other";
    faulty(name, async |fault| {
        let signer = fault.signer(&fault.modules());
        fault.script([fault.next("C_Sign", "wrong-signature")]);
        for _ in 0..3 {
            assert_verifies(&fault, &sign(&signer).await.unwrap());
        }
        // The form that was wrong is not tried again.
        assert_eq!(fault.calls("C_Sign"), 4);
    });
}
