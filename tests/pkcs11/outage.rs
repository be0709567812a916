//! Devices that go away and come back.

use std::{
    mem::forget,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cryptoki::context::Pkcs11;
use segl::{
    jose::Algorithm,
    sign::{Error, Signer},
};

use crate::{
    fixture::{Fixture, call},
    signing::{assert_verifies, sign},
};

pub(crate) async fn a_device_that_was_away_signs_again_when_it_is_back(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    let signer = module.signer(&modules, "pkcs11:token=ci");
    let before = signer.key(&call()).await.unwrap();
    sign(&signer, b"m").await.unwrap();
    module.stop();
    for _ in 0..2 {
        match sign(&signer, b"m").await {
            Ok(signed) => {
                assert!(module.nature.signs_while_away);
                assert_verifies(Algorithm::RS256, &pair.spki, &signed);
            }
            Err(error) => {
                assert!(!module.nature.signs_while_away, "{error}");
                assert!(matches!(error, Error::Device { .. } | Error::NotFound { .. }), "{error}");
                assert_eq!(signer.health().trouble, Some(error));
            }
        }
    }
    module.resume();
    let signed = sign(&signer, b"m").await.unwrap();
    assert_verifies(Algorithm::RS256, &pair.spki, &signed);
    assert_eq!(signer.health().trouble, None);
    let after = signer.key(&call()).await.unwrap();
    assert_eq!(after.public_key, before.public_key);
    assert_eq!(after.generation, signed.generation);
    assert_eq!(after.generation > before.generation, !module.nature.signs_while_away);
}

pub(crate) async fn an_interruption_between_two_signatures_costs_no_request(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    let signer = module.signer(&modules, "pkcs11:token=ci");
    sign(&signer, b"m").await.unwrap();
    for _ in 0..2 {
        module.stop();
        module.resume();
        assert_verifies(Algorithm::RS256, &pair.spki, &sign(&signer, b"m").await.unwrap());
    }
    assert_eq!(signer.health().signatures, 3);
}

pub(crate) async fn a_device_that_is_away_at_the_start_is_found_when_it_appears(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    modules.shutdown(&call()).await.unwrap();
    module.stop();

    let modules = module.modules();
    let signer = module.signer(&modules, "pkcs11:token=ci");
    for _ in 0..2 {
        let error = sign(&signer, b"m").await.unwrap_err();
        assert!(matches!(error, Error::Device { .. } | Error::NotFound { .. }), "{error}");
        assert_eq!(signer.health().trouble, Some(error));
    }
    module.resume();
    assert_verifies(Algorithm::RS256, &pair.spki, &sign(&signer, b"m").await.unwrap());
    assert_eq!(signer.health().trouble, None);
}

pub(crate) async fn a_library_that_somebody_else_finalized_is_replaced_within_one_request(
    module: &mut Fixture,
) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    let signer = module.signer(&modules, "pkcs11:token=ci");
    let first = sign(&signer, b"m").await.unwrap();
    let other = Pkcs11::new(module.library()).unwrap();
    forget(other.clone());
    assert_eq!(other.finalize().is_ok(), module.nature.has_one_state);
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let make = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        b"once".to_vec()
    });
    let signed = signer.sign(&call(), make).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert_eq!(signed.generation, first.generation + u64::from(module.nature.has_one_state));
    assert_verifies(Algorithm::RS256, &pair.spki, &signed);
}

pub(crate) async fn after_shutdown_the_library_is_free_for_another(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    let signer = module.signer(&modules, "pkcs11:token=ci");
    sign(&signer, b"m").await.unwrap();
    modules.shutdown(&call()).await.unwrap();
    assert_eq!(sign(&signer, b"m").await.unwrap_err(), Error::Closed);

    let others = module.modules();
    let signed = sign(&module.signer(&others, "pkcs11:token=ci"), b"m").await.unwrap();
    assert_verifies(Algorithm::RS256, &pair.spki, &signed);
}
