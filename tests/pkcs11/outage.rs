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
    fixture::{Fixture, call, hasty},
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
    // Where the library is not shared, there is nothing to finalize; some say so, and some that it is done.
    let finalized = other.finalize();
    assert!(finalized.is_ok() || !module.is_shared(), "{finalized:?}");
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let make = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        b"once".to_vec()
    });
    let signed = signer.sign(&call(), make).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert_eq!(signed.generation, first.generation + u64::from(module.is_shared()));
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

pub(crate) async fn a_device_that_falls_silent_costs_no_more_than_the_deadline_and_signs_when_it_wakes(
    module: &mut Fixture,
) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    let signer = module.signer(&modules, "pkcs11:token=ci");
    sign(&signer, b"m").await.unwrap();
    module.freeze();
    for _ in 0..2 {
        let late = signer.sign(&hasty(200), Box::new(|| b"late".to_vec())).await.unwrap_err();
        assert_eq!(late, Error::Deadline);
    }
    module.thaw();
    assert_verifies(Algorithm::RS256, &pair.spki, &sign(&signer, b"m").await.unwrap());
    assert_eq!(signer.health().trouble, None);
}

pub(crate) async fn a_connection_that_breaks_while_a_signature_is_made_is_made_anew(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    let signer = module.signer(&modules, "pkcs11:token=ci");
    let first = sign(&signer, b"m").await.unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let call = call();
    let (asked, begun) = tokio::sync::oneshot::channel();
    let make = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let _ = asked.send(());
        b"once".to_vec()
    });
    module.freeze();
    let (signed, ()) = tokio::join!(signer.sign(&call, make), async {
        begun.await.unwrap();
        module.cut();
    });
    let signed = signed.unwrap();
    assert_verifies(Algorithm::RS256, &pair.spki, &signed);
    assert!(signed.generation > first.generation);
    assert_eq!(made.load(Ordering::SeqCst), 1);
}
