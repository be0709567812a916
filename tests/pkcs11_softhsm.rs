//! The PKCS#11 signer against the real SoftHSM2 library, one process per test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy knows only by their attribute"
)]

#[path = "support/softhsm.rs"]
mod softhsm;

use std::{
    fs::Permissions,
    future::poll_fn,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::Poll,
};

use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::{Mechanism, MechanismType},
    object::Attribute,
    session::UserType,
};
use segl::{
    clock::{BoxFuture, SystemClock},
    jose::{Algorithm, RsaPublicKey},
    sign::{
        Error, PinProblem, Pkcs11Signer, Signed, Signer, Sought,
        pkcs11::{Device, Manner, Modules, NewCertificate, NewKeyPair, Pin, PinState, Profile, Uri},
    },
    state::{Mode, write_file},
};

use self::softhsm::{PIN, SoftHsm, alone, call, counted_pin, good_pin, hasty};

async fn sign(signer: &Pkcs11Signer, message: &'static [u8]) -> Result<Signed, Error> {
    signer.sign(&call(), Box::new(|| message.to_vec())).await
}

fn assert_verifies(algorithm: Algorithm, spki: &[u8], signed: &Signed) {
    let scheme = match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        _ => &RSA_PKCS1_2048_8192_SHA512,
    };
    let key = ParsedPublicKey::new(scheme, spki).unwrap();
    key.verify_sig(&signed.message, &signed.signature).unwrap();
}

#[test]
fn a_key_is_found_by_label_by_id_and_by_serial_and_its_signatures_verify() {
    alone("a_key_is_found_by_label_by_id_and_by_serial_and_its_signatures_verify", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        let serial = pair.uri.serial().unwrap();
        let id: String = pair.uri.id().unwrap().iter().map(|byte| format!("%{byte:02x}")).collect();
        for uri in [
            "pkcs11:token=ci;object=grant".to_owned(),
            format!("pkcs11:token=ci;id={id}"),
            format!("pkcs11:serial={serial};object=grant"),
            format!("pkcs11:serial={serial}"),
            pair.uri.to_string(),
            "pkcs11:".to_owned(),
        ] {
            let signer = hsm.signer(&modules, &uri);
            let key = signer.key(&call()).await.unwrap();
            assert_eq!(key.public_key, RsaPublicKey::from_spki(&pair.spki).unwrap(), "{uri}");
            assert_eq!(key.device, Some(format!("ci ({serial})")));
            let signed = sign(&signer, b"header.payload").await.unwrap();
            assert_eq!(signed.message, b"header.payload");
            assert_eq!(signed.generation, key.generation);
            assert_verifies(Algorithm::RS256, &pair.spki, &signed);
            assert_eq!(signer.health().signatures, 1);
            assert_eq!(signer.health().trouble, None);
        }
    });
}

#[test]
fn a_blank_device_is_made_usable_once_and_left_as_it_is_from_then_on() {
    alone("a_blank_device_is_made_usable_once_and_left_as_it_is_from_then_on", async |hsm: SoftHsm| {
        let modules = hsm.modules();
        let call = call();
        let provide = |label| modules.provide_test_device(hsm.library(), label, good_pin(), &call);
        let made = provide("ci").await.unwrap();
        assert_eq!(made.token(), Some("ci"));
        let pair = hsm.generate(&modules, "ci", "grant").await;
        let other = Pin::new(|| Ok(Some("0000-other".to_owned().into())));
        let again = modules.provide_test_device(hsm.library(), "ci", other, &call).await.unwrap();
        assert_eq!(again, made);
        let signer = hsm.signer(&modules, &pair.uri.to_string());
        assert_verifies(Algorithm::RS256, &pair.spki, &sign(&signer, b"m").await.unwrap());
        assert_ne!(provide("second").await.unwrap().serial(), made.serial());
        for label in ["", " ci", "a label that is longer than 32 bytes"] {
            assert!(matches!(provide(label).await, Err(Error::Uri { .. })), "{label}");
        }
        modules.shutdown(&call).await.unwrap();
    });
}

#[test]
fn a_key_is_not_guessed_among_several_and_the_candidates_are_uris_to_paste() {
    alone("a_key_is_not_guessed_among_several_and_the_candidates_are_uris_to_paste", async |hsm: SoftHsm| {
        hsm.create("ci");
        hsm.create("other");
        let modules = hsm.modules();
        let first = hsm.generate(&modules, "ci", "grant-2026").await;
        let second = hsm.generate(&modules, "ci", "grant-2027").await;

        let error = hsm.signer(&modules, "pkcs11:token=ci").key(&call()).await.unwrap_err();
        let Error::Ambiguous { sought: Sought::Key, mut candidates, .. } = error else { panic!("{error}") };
        candidates.sort();
        let mut expected = vec![first.uri.to_string(), second.uri.to_string()];
        expected.sort();
        assert_eq!(candidates, expected);
        assert!(hsm.signer(&modules, &candidates[0]).key(&call()).await.is_ok());

        // The start of a label is no label.
        let error = hsm.signer(&modules, "pkcs11:token=ci;object=grant-").key(&call()).await.unwrap_err();
        let Error::NotFound { sought: Sought::Key, candidates, .. } = error else { panic!("{error}") };
        assert_eq!(candidates.len(), 2);

        let error = hsm.signer(&modules, "pkcs11:object=grant-2026").key(&call()).await.unwrap_err();
        assert!(matches!(error, Error::Ambiguous { sought: Sought::Device, .. }), "{error}");
        let error = hsm.signer(&modules, "pkcs11:token=none").key(&call()).await.unwrap_err();
        let Error::NotFound { sought: Sought::Device, candidates, .. } = error else { panic!("{error}") };
        assert_eq!(candidates.len(), 2);
    });
}

#[test]
fn a_wrong_pin_is_tried_once_and_never_again() {
    alone("a_wrong_pin_is_tried_once_and_never_again", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let (pin, reads) = counted_pin("0000-wrong");
        let signer = |pin: Pin| {
            let device = Device::new(modules.clone(), hsm.watched("pkcs11:token=ci"), None, Some(pin));
            Pkcs11Signer::new(device, Algorithm::RS256).unwrap()
        };
        let first = signer(pin);
        let problem = |error: Error| match error {
            Error::Pin { problem, .. } => problem,
            other => panic!("{other}"),
        };
        let refused = problem(first.key(&call()).await.unwrap_err());
        assert_eq!(refused, PinProblem::Refused("CKR_PIN_INCORRECT".into()));
        let again = [
            first.key(&call()).await.unwrap_err(),
            sign(&first, b"m").await.unwrap_err(),
            // Another signer on the same device, even with the right PIN: a person decides, not a race.
            signer(good_pin()).key(&call()).await.unwrap_err(),
        ];
        for error in again {
            assert_eq!(problem(error), PinProblem::RefusedBefore);
        }
        assert_eq!(reads.load(Ordering::SeqCst), 1);
        let path = hsm.watched("pkcs11:");
        let shown = modules.describe(path.module_path().unwrap(), None, &call()).await.unwrap();
        let device =
            shown.slots.iter().find_map(|slot| slot.device.as_ref().filter(|device| device.initialized));
        assert_eq!(device.unwrap().pin, PinState::CountLow);
        modules.shutdown(&call()).await.unwrap();
        assert_eq!(hsm.calls("C_Login"), 1);
    });
}

#[test]
fn a_missing_or_impossible_pin_costs_no_try() {
    alone("a_missing_or_impossible_pin_costs_no_try", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        for (pin, expected) in [
            (None, PinProblem::Missing),
            (Some(Pin::new(|| Ok(None))), PinProblem::Missing),
            (Some(Pin::new(|| Ok(Some("12".to_owned().into())))), PinProblem::Length(4, 255)),
            (Some(Pin::new(|| Err(PinProblem::Source("gone".into())))), PinProblem::Source("gone".into())),
        ] {
            let device = Device::new(modules.clone(), hsm.watched("pkcs11:token=ci"), None, pin);
            let error = Pkcs11Signer::new(device, Algorithm::RS256).unwrap().key(&call()).await.unwrap_err();
            assert!(matches!(&error, Error::Pin { problem, .. } if *problem == expected), "{error}");
        }
        modules.shutdown(&call()).await.unwrap();
        assert_eq!(hsm.calls("C_Login"), 0);
    });
}

#[test]
fn signers_on_one_device_share_one_login_and_one_initialization() {
    alone("signers_on_one_device_share_one_login_and_one_initialization", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let device = |uri: &str| Device::new(modules.clone(), hsm.watched(uri), None, Some(good_pin()));
        for label in ["one", "two"] {
            let mut pair = NewKeyPair::new(label);
            pair.bits = 2048;
            device("pkcs11:token=ci").generate_key_pair(pair, &call()).await.unwrap();
        }
        let one = Pkcs11Signer::new(device("pkcs11:object=one"), Algorithm::RS256).unwrap();
        let two = Pkcs11Signer::new(device("pkcs11:token=ci;object=two"), Algorithm::RS512).unwrap();
        for _ in 0..3 {
            sign(&one, b"m").await.unwrap();
            sign(&two, b"m").await.unwrap();
        }
        modules.shutdown(&call()).await.unwrap();
        assert_eq!(hsm.calls("C_Login"), 1);
        assert_eq!(hsm.calls("C_Initialize"), 1);
        assert_eq!(hsm.calls("C_Finalize"), 1);
        assert_eq!(hsm.calls("C_SignInit"), 6);
    });
}

#[test]
fn a_key_born_in_the_device_cannot_leave_it_and_shows_itself_only_after_login() {
    alone(
        "a_key_born_in_the_device_cannot_leave_it_and_shows_itself_only_after_login",
        async |hsm: SoftHsm| {
            hsm.create("ci");
            let modules = hsm.modules();
            let device = hsm.device(&modules, "pkcs11:token=ci");
            let pair = device.generate_key_pair(NewKeyPair::new("grant"), &call()).await.unwrap();
            assert_eq!(RsaPublicKey::from_spki(&pair.spki).unwrap().bits(), 3072);

            let again = device.generate_key_pair(NewKeyPair::new("grant"), &call()).await.unwrap_err();
            assert!(again.to_string().contains("of this label is on the device already"), "{again}");
            assert_eq!(again.remedy(), "Choose another label, or use the key that is there.");
            let id = pair.uri.id().map(<[u8]>::to_vec);
            let same_id = NewKeyPair { label: "new".into(), id, bits: 2048 };
            let again = device.generate_key_pair(same_id, &call()).await.unwrap_err();
            assert!(again.to_string().contains("of this id is on the device already"), "{again}");
            let weak = NewKeyPair { label: "weak".into(), id: None, bits: 1024 };
            assert!(matches!(
                device.generate_key_pair(weak, &call()).await.unwrap_err(),
                Error::UnusableKey { .. }
            ));
            modules.shutdown(&call()).await.unwrap();

            let modules = hsm.modules();
            let shown = modules.describe(hsm.library(), None, &call()).await.unwrap();
            let slot = shown.slots.iter().find(|slot| !slot.keys.is_empty()).unwrap();
            assert!(!slot.logged_in);
            assert!(slot.keys[0].public && !slot.keys[0].private);

            let uri = "pkcs11:token=ci".parse().unwrap();
            let shown = modules.describe(hsm.library(), Some((&uri, &good_pin())), &call()).await.unwrap();
            assert!(shown.library.unwrap().manufacturer.contains("SoftHSM"));
            let slot = shown.slots.iter().find(|slot| slot.logged_in).unwrap();
            assert_eq!(slot.problems, []);
            let [key] = &slot.keys[..] else { panic!("{slot:?}") };
            assert!(key.private && key.public);
            assert_eq!((key.sensitive, key.extractable, key.signs), (Some(true), Some(false), Some(true)));
            assert_eq!(key.always_authenticate, Some(false));
            assert_eq!((key.key_type.as_str(), key.bits), ("RSA", Some(3072)));
            assert_eq!(key.uri, pair.uri);
            assert_eq!(key.spki.as_ref(), Some(&pair.spki));
            // The blank slot that SoftHSM2 always has is shown as what it is.
            assert!(
                shown.slots.iter().any(|slot| slot.device.as_ref().is_some_and(|device| !device.initialized))
            );
        },
    );
}

#[test]
fn every_hash_is_signed_and_a_key_that_knows_only_the_raw_form_gets_it() {
    alone("every_hash_is_signed_and_a_key_that_knows_only_the_raw_form_gets_it", async |hsm: SoftHsm| {
        hsm.create("ci");
        generate_raw_only(&hsm);
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "any").await;
        for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512] {
            let signer = Pkcs11Signer::new(hsm.device(&modules, &pair.uri.to_string()), algorithm).unwrap();
            assert_verifies(algorithm, &pair.spki, &sign(&signer, b"hashed there").await.unwrap());

            let device = Device::new(
                modules.clone(),
                hsm.watched("pkcs11:token=ci;object=raw"),
                None,
                Some(good_pin()),
            );
            let signer = Pkcs11Signer::new(device, algorithm).unwrap();
            let spki = signer.key(&call()).await.unwrap().public_key.to_spki().unwrap();
            for _ in 0..2 {
                assert_verifies(algorithm, &spki, &sign(&signer, b"hashed here").await.unwrap());
            }
        }
        modules.shutdown(&call()).await.unwrap();
        // Per algorithm: the form that the key allows, twice, and none that it does not.
        assert_eq!(hsm.calls("C_SignInit"), 6);
        for algorithm in [Algorithm::PS256, Algorithm::ES256] {
            let refused = Pkcs11Signer::new(hsm.device(&modules, "pkcs11:"), algorithm).unwrap_err();
            assert_eq!(refused, Error::Algorithm(algorithm));
        }
    });
}

/// A key whose CKA_ALLOWED_MECHANISMS holds CKM_RSA_PKCS alone and that has no public object beside it, as some
/// devices have by nature.
fn generate_raw_only(hsm: &SoftHsm) {
    let library = Pkcs11::new(hsm.library()).unwrap();
    std::mem::forget(library.clone());
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = library.get_slots_with_initialized_token().unwrap()[0];
    let session = library.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&PIN.to_owned().into())).unwrap();
    let named = [Attribute::Token(true), Attribute::Label(b"raw".to_vec()), Attribute::Id(vec![7])];
    let mut public = named.to_vec();
    public.extend([Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])]);
    let mut private = named.to_vec();
    private.extend([Attribute::Sign(true), Attribute::AllowedMechanisms(vec![MechanismType::RSA_PKCS])]);
    let made = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private);
    let (public, _) = made.unwrap();
    session.destroy_object(public).unwrap();
    drop(session);
    library.finalize().unwrap();
}

#[test]
fn a_device_that_is_away_at_the_start_works_when_it_is_there() {
    alone("a_device_that_is_away_at_the_start_works_when_it_is_there", async |hsm: SoftHsm| {
        let modules = hsm.modules();
        let signer = hsm.signer(&modules, "pkcs11:token=late;object=grant");
        let error = signer.key(&call()).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { sought: Sought::Device, .. }), "{error}");
        assert_eq!(signer.health().trouble, Some(error));
        hsm.create("late");
        let pair = hsm.generate(&modules, "late", "grant").await;
        assert_verifies(Algorithm::RS256, &pair.spki, &sign(&signer, b"m").await.unwrap());
        assert_eq!(signer.health().trouble, None);
    });
}

#[test]
fn a_library_that_is_not_there_yet_is_looked_for_again() {
    alone("a_library_that_is_not_there_yet_is_looked_for_again", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("late.so");
        let uri = format!("pkcs11:token=ci?module-path={}", path.display());
        let signer = hsm.signer(&modules, &uri);
        assert!(matches!(signer.key(&call()).await.unwrap_err(), Error::Module { .. }));
        std::os::unix::fs::symlink(hsm.library(), &path).unwrap();
        // By now it is the library that another name means, too: one owner for both.
        hsm.generate(&modules, "ci", "grant").await;
        assert!(signer.key(&call()).await.is_ok());

        let no_library = folder.path().join("text.so");
        std::fs::write(&no_library, "no library").unwrap();
        let error = modules.describe(&no_library, None, &call()).await.unwrap_err();
        assert!(matches!(error, Error::Module { .. }), "{error}");
    });
}

#[test]
fn a_library_that_others_can_change_never_sees_the_pin() {
    alone("a_library_that_others_can_change_never_sees_the_pin", async |hsm: SoftHsm| {
        hsm.create("ci");
        hsm.generate(&hsm.modules(), "ci", "grant").await;
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.so");
        std::fs::copy(hsm.library(), &copy).unwrap();
        std::fs::set_permissions(&copy, Permissions::from_mode(0o666)).unwrap();
        let uri: Uri = format!("pkcs11:token=ci?module-path={}", copy.display()).parse().unwrap();
        let (pin, reads) = counted_pin(PIN);
        let mut manner = Manner::default();
        for trust_any in [false, true] {
            manner.trust_any = trust_any;
            let modules = Modules::build(SystemClock::shared(), manner.clone());
            let device = Device::new(modules, uri.clone(), Some("softhsm2".into()), Some(pin.clone()));
            let signer = Pkcs11Signer::new(device, Algorithm::RS256).unwrap();
            let answer = signer.key(&call()).await;
            if trust_any {
                assert!(answer.is_ok(), "{answer:?}");
            } else {
                let Err(Error::Untrusted { path, reason, .. }) = answer else { panic!("{answer:?}") };
                assert_eq!(path, copy.canonicalize().unwrap().display().to_string());
                assert_eq!(reason, "has mode 0666");
                assert_eq!(reads.load(Ordering::SeqCst), 0);
            }
        }
    });
}

#[test]
fn a_device_that_was_unplugged_signs_again_when_it_is_back_and_its_generation_has_risen() {
    let name = "a_device_that_was_unplugged_signs_again_when_it_is_back_and_its_generation_has_risen";
    alone(name, async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        let signer = hsm.signer(&modules, "pkcs11:token=ci");
        let before = signer.key(&call()).await.unwrap();
        sign(&signer, b"m").await.unwrap();
        hsm.unplug();
        for _ in 0..2 {
            let error = sign(&signer, b"m").await.unwrap_err();
            assert!(matches!(error, Error::Device { .. } | Error::NotFound { .. }), "{error}");
            assert_eq!(signer.health().trouble, Some(error));
        }
        hsm.plug();
        let signed = sign(&signer, b"m").await.unwrap();
        assert_verifies(Algorithm::RS256, &pair.spki, &signed);
        let after = signer.key(&call()).await.unwrap();
        assert!(after.generation > before.generation);
        assert_eq!(after.generation, signed.generation);
        assert_eq!(after.public_key, before.public_key);
    });
}

#[test]
fn a_session_that_was_lost_is_replaced_within_one_request_and_the_message_is_made_once() {
    let name = "a_session_that_was_lost_is_replaced_within_one_request_and_the_message_is_made_once";
    alone(name, async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        let signer = hsm.signer(&modules, "pkcs11:token=ci");
        let first = sign(&signer, b"m").await.unwrap();
        // Somebody else in this process finalizes the library under the signer.
        let other = Pkcs11::new(hsm.library()).unwrap();
        std::mem::forget(other.clone());
        other.finalize().unwrap();
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let make = Box::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            b"once".to_vec()
        });
        let signed = signer.sign(&call(), make).await.unwrap();
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert_eq!(signed.generation, first.generation + 1);
        assert_verifies(Algorithm::RS256, &pair.spki, &signed);
    });
}

/// Keeps every lane busy until the senders are dropped; returns once all are.
async fn block(
    signer: &Arc<Pkcs11Signer>,
) -> (Vec<mpsc::Sender<()>>, tokio::task::JoinHandle<Result<(), Error>>) {
    let (mut releases, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..Profile::named("softhsm2").unwrap().session.lanes {
        let (release, blocked) = mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let signer = signer.clone();
        tasks.push(tokio::spawn(async move {
            let make = Box::new(move || {
                let _ = begin.send(());
                let _ = blocked.recv();
                b"slow".to_vec()
            });
            signer.sign(&call(), make).await
        }));
        begun.await.unwrap();
        releases.push(release);
    }
    let all = tokio::spawn(async move {
        for task in tasks {
            task.await.unwrap()?;
        }
        Ok(())
    });
    (releases, all)
}

#[test]
fn a_request_whose_deadline_passes_in_the_queue_is_dropped_untouched() {
    alone("a_request_whose_deadline_passes_in_the_queue_is_dropped_untouched", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        hsm.generate(&modules, "ci", "grant").await;
        let signer = Arc::new(hsm.signer(&modules, "pkcs11:token=ci"));
        let (release, slow) = block(&signer).await;
        let made = Arc::new(AtomicBool::new(false));
        let flag = made.clone();
        let make = Box::new(move || {
            flag.store(true, Ordering::SeqCst);
            Vec::new()
        });
        let late = signer.sign(&hasty(20), make).await.unwrap_err();
        assert_eq!(late, Error::Deadline);
        drop(release);
        slow.await.unwrap().unwrap();
        // A later request is answered, so the late one's turn has come and gone.
        sign(&signer, b"m").await.unwrap();
        assert!(!made.load(Ordering::SeqCst));
        assert_eq!(signer.sign(&hasty(0), Box::new(Vec::new)).await.unwrap_err(), Error::Deadline);
    });
}

#[test]
fn a_full_queue_is_answered_at_once_and_background_work_leaves_room() {
    alone("a_full_queue_is_answered_at_once_and_background_work_leaves_room", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        hsm.generate(&modules, "ci", "grant").await;
        let signer = Arc::new(hsm.signer(&modules, "pkcs11:token=ci"));
        let (release, slow) = block(&signer).await;
        let mut asked = Vec::new();
        for background in [true, false] {
            for _ in 0..40 {
                let signer = signer.clone();
                let mut request: BoxFuture<'static, _> = Box::pin(async move {
                    let call = if background { call().in_background() } else { call() };
                    signer.sign(&call, Box::new(|| b"m".to_vec())).await
                });
                let at_once = poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await;
                asked.push((background, request, at_once));
            }
        }
        drop(release);
        slow.await.unwrap().unwrap();
        // Signed and refused at once, for background work and for callers.
        let mut outcomes = [[0, 0], [0, 0]];
        for (background, request, at_once) in asked {
            let outcome = &mut outcomes[usize::from(!background)];
            match at_once {
                Poll::Ready(Err(Error::Busy { .. })) => outcome[1] += 1,
                Poll::Ready(other) => panic!("{other:?}"),
                Poll::Pending => {
                    request.await.unwrap();
                    outcome[0] += 1;
                }
            }
        }
        assert_eq!(outcomes, [[32, 8], [32, 8]]);
    });
}

#[test]
fn after_shutdown_nothing_is_signed_and_the_library_is_free_for_another() {
    alone("after_shutdown_nothing_is_signed_and_the_library_is_free_for_another", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        hsm.generate(&modules, "ci", "grant").await;
        let signer = Arc::new(hsm.signer(&modules, "pkcs11:token=ci"));
        let (release, slow) = block(&signer).await;
        let mut waiting = Box::pin(sign(&signer, b"m"));
        let at_once = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
        assert!(at_once.is_pending());
        assert_eq!(modules.shutdown(&hasty(20)).await, Err(Error::Deadline));
        assert_eq!(waiting.await.unwrap_err(), Error::Closed);
        drop(release);
        modules.shutdown(&call()).await.unwrap();
        slow.await.unwrap().unwrap();
        assert_eq!(sign(&signer, b"m").await.unwrap_err(), Error::Closed);
        modules.shutdown(&call()).await.unwrap();

        let others = hsm.modules();
        sign(&hsm.signer(&others, "pkcs11:token=ci"), b"m").await.unwrap();
    });
}

#[test]
fn certificates_stand_beside_their_key_and_come_back_as_its_chain() {
    alone("certificates_stand_beside_their_key_and_come_back_as_its_chain", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        let signer = hsm.signer(&modules, "pkcs11:token=ci");
        assert!(matches!(signer.chain(&call()).await.unwrap_err(), Error::Certificate(_)));
        let (leaf, authority) = certificates(&pair.spki);
        for (der, certifies) in [(&leaf, Some(pair.uri.clone())), (&authority, None)] {
            let new = NewCertificate { der: der.clone(), label: None };
            let stored = signer.device().store_certificate(new.clone(), &call()).await.unwrap();
            assert_eq!((&stored.key, stored.was_there), (&certifies, false));
            let again = signer.device().store_certificate(new, &call()).await.unwrap();
            assert_eq!((&again.uri, again.was_there), (&stored.uri, true));
        }
        let no_certificate = NewCertificate { der: vec![0x30, 0], label: None };
        let refused = signer.device().store_certificate(no_certificate, &call()).await.unwrap_err();
        assert!(matches!(refused, Error::Certificate(_)), "{refused}");

        let mut read = signer.device().certificates(&call()).await.unwrap();
        read.sort();
        let mut expected = vec![leaf.clone(), authority.clone()];
        expected.sort();
        assert_eq!(read, expected);
        let chain = signer.chain(&call()).await.unwrap();
        assert_eq!(chain.to_der(true), [leaf.clone(), authority.clone()]);

        let shown = modules.describe(hsm.library(), None, &call()).await.unwrap();
        let slot = shown.slots.iter().find(|slot| !slot.keys.is_empty()).unwrap();
        assert_eq!(slot.keys[0].certificates[0].der, leaf);
        assert_eq!(slot.keys[0].certificates[0].label, "grant");
        assert_eq!(slot.certificates[0].der, authority);
        assert_eq!(slot.certificates[0].label, "Test CA");
    });
}

#[test]
fn a_key_among_others_is_found_by_the_thumbprint_of_its_certificate_or_of_itself() {
    alone("a_key_among_others_is_found_by_the_thumbprint_of_its_certificate_or_of_itself", async |hsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let mut pairs = Vec::new();
        for label in ["old", "new"] {
            let pair = hsm.generate(&modules, "ci", label).await;
            let (leaf, _) = certificates(&pair.spki);
            let device = hsm.device(&modules, "pkcs11:token=ci");
            let new = NewCertificate { der: leaf.clone(), label: None };
            device.store_certificate(new, &call()).await.unwrap();
            pairs.push((pair, leaf));
        }
        for (pair, leaf) in &pairs {
            let key = RsaPublicKey::from_spki(&pair.spki).unwrap();
            let certificate = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf));
            let own = key.thumbprint();
            for uri in [
                format!("pkcs11:token=ci;jkt={own}"),
                format!("pkcs11:token=ci;x5t-S256={certificate}"),
                format!("pkcs11:jkt={own};x5t-S256={certificate}"),
            ] {
                let found = hsm.signer(&modules, &uri).key(&call()).await.unwrap();
                assert_eq!(found.public_key, key, "{uri}");
            }
            let other =
                pairs.iter().find(|(other, _)| other.uri != pair.uri).unwrap().0.uri.object().unwrap();
            let nothing = hsm.signer(&modules, &format!("pkcs11:object={other};jkt={own}"));
            let error = nothing.key(&call()).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { sought: Sought::Key, .. }), "{error}");
        }
        let unknown = hsm.signer(&modules, &format!("pkcs11:x5t-S256={}", "00".repeat(32)));
        let error = unknown.key(&call()).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { sought: Sought::Certificate, .. }), "{error}");
    });
}

/// A certificate for the key and that of its authority, DER.
fn certificates(spki: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let authority_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "Test CA");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let mut leaf = rcgen::CertificateParams::default();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "Test AS");
    leaf.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let public_key = rcgen::SubjectPublicKeyInfo::from_der(spki).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let leaf = leaf.signed_by(&public_key, &issuer).unwrap();
    (leaf.der().to_vec(), authority_certificate.der().to_vec())
}

#[test]
fn neither_pin_nor_message_is_in_what_can_be_printed() {
    alone("neither_pin_nor_message_is_in_what_can_be_printed", async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        hsm.generate(&modules, "ci", "grant").await;
        let signer = hsm.signer(&modules, "pkcs11:token=ci");
        let signed = sign(&signer, b"the assertion").await.unwrap();
        let printed = format!("{signer:?} {modules:?} {signed:?} {:?} {:?}", signer.device(), good_pin());
        assert!(!printed.contains(PIN) && !printed.contains("assertion"), "{printed}");
    });
}

#[cfg(feature = "cli")]
#[test]
fn a_command_lets_go_of_the_device_when_it_is_done() {
    alone("a_command_lets_go_of_the_device_when_it_is_done", async |hsm: SoftHsm| {
        hsm.create("cli");
        let modules = hsm.modules();
        hsm.generate(&modules, "cli", "sign").await;
        modules.shutdown(&call()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (pin, file) = (folder.path().join("pin"), folder.path().join("segl.toml"));
        write_file(&pin, PIN.as_bytes(), Mode::Private, false).unwrap();
        let toml = format!(
            "schema = 1\n[signers.hsm]\nkey = \"{}\"\npin = \"file:{}\"\n[clients.c]\nenvironment = \"test\"\n\
             client_id = \"c\"\nsigner = \"hsm\"\nkid = \"k\"\n[tokens.t]\nclient = \"c\"\nscopes = [\"a:b\"]\n",
            hsm.watched("pkcs11:token=cli;object=sign"),
            pin.display(),
        );
        write_file(&file, toml.as_bytes(), Mode::Private, false).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_segl"))
            .args(["grant", "t", "--config", file.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let calls = ["C_Initialize", "C_Login", "C_Finalize"].map(|function| hsm.calls(function));
        assert_eq!(calls, [1, 1, 1]);
    });
}
