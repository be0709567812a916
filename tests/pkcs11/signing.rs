//! Signatures, which are all verified here by another library than the device's.

use std::{mem::forget, sync::atomic::Ordering};

use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, ObjectHandle},
    session::{Session, UserType},
};
use segl::{
    jose::Algorithm,
    sign::{Error, PinProblem, Pkcs11Signer, Signed, Signer},
};

use crate::fixture::{Fixture, PIN, call, counted_pin, good_pin};

pub(crate) async fn sign(signer: &Pkcs11Signer, message: &'static [u8]) -> Result<Signed, Error> {
    signer.sign(&call(), Box::new(|| message.to_vec())).await
}

pub(crate) fn assert_verifies(algorithm: Algorithm, spki: &[u8], signed: &Signed) {
    let scheme = match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        _ => &RSA_PKCS1_2048_8192_SHA512,
    };
    let key = ParsedPublicKey::new(scheme, spki).unwrap();
    key.verify_sig(&signed.message, &signed.signature).unwrap();
}

pub(crate) async fn every_hash_is_signed(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512] {
        let signer = module.signer_of(&modules, "pkcs11:token=ci", algorithm);
        for message in [&b""[..], b"m", &[b'm'; 5000]] {
            assert_verifies(algorithm, &pair.spki, &sign(&signer, message).await.unwrap());
        }
        assert_eq!(signer.health().signatures, 3);
        assert_eq!(signer.health().trouble, None);
    }
}

pub(crate) async fn a_key_that_knows_only_the_raw_form_gets_it(module: &mut Fixture) {
    module.create("ci");
    generate_raw_only(module);
    let modules = module.modules();
    for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512] {
        let device = module.device(&modules, module.watched("pkcs11:token=ci;object=raw"), Some(good_pin()));
        let signer = Pkcs11Signer::new(device, algorithm).unwrap();
        let spki = signer.key(&call()).await.unwrap().public_key.to_spki().unwrap();
        for _ in 0..2 {
            assert_verifies(algorithm, &spki, &sign(&signer, b"hashed here").await.unwrap());
        }
    }
    modules.shutdown(&call()).await.unwrap();
    // Per algorithm: at most one refusal, then the form that works, twice.
    assert!((6..=9).contains(&module.calls("C_SignInit")), "{}", module.calls("C_SignInit"));
}

/// A key whose CKA_ALLOWED_MECHANISMS holds CKM_RSA_PKCS alone and that has no public object beside it, as some
/// devices have by nature.
fn generate_raw_only(module: &Fixture) {
    generate(
        module,
        "raw",
        Attribute::AllowedMechanisms(vec![MechanismType::RSA_PKCS]),
        |session, public| {
            session.destroy_object(public).unwrap();
        },
    );
}

/// A key with one attribute that Segl gives to none.
fn generate(
    module: &Fixture,
    label: &str,
    attribute: Attribute,
    change: impl FnOnce(&Session, ObjectHandle),
) {
    let library = Pkcs11::new(module.library()).unwrap();
    // Loaded for good: unloading leaves some libraries' threads without their code.
    forget(library.clone());
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = library.get_slots_with_initialized_token().unwrap()[0];
    let session = library.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&PIN.to_owned().into())).unwrap();
    let named = [Attribute::Token(true), Attribute::Label(label.into()), Attribute::Id(vec![7])];
    let mut public = named.to_vec();
    public.extend([Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])]);
    let mut private = named.to_vec();
    private.extend([Attribute::Private(true), Attribute::Sensitive(true), Attribute::Sign(true), attribute]);
    let made = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private);
    let (public, _) = made.unwrap();
    change(&session, public);
    drop(session);
    library.finalize().unwrap();
}

pub(crate) async fn many_requests_at_a_time_are_all_signed_after_one_login(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    modules.shutdown(&call()).await.unwrap();

    let modules = module.modules();
    let device = module.device(&modules, module.watched("pkcs11:token=ci"), Some(good_pin()));
    let signer = Pkcs11Signer::new(device, Algorithm::RS256).unwrap();
    let deadline = call();
    let requests = (0..24_u8).map(|number| {
        let make = Box::new(move || vec![number; 40]);
        signer.sign(&deadline, make)
    });
    for (number, signed) in (0_u8..).zip(together(requests).await) {
        let signed = signed.unwrap();
        assert_eq!(signed.message, [number; 40]);
        assert_verifies(Algorithm::RS256, &pair.spki, &signed);
    }
    modules.shutdown(&call()).await.unwrap();
    assert_eq!(["C_Initialize", "C_Login", "C_Finalize"].map(|function| module.calls(function)), [1, 1, 1]);
}

/// All of them under way before the first is waited for.
async fn together<F: Future + Unpin>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<F> = all.collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = std::pin::Pin::new(future).poll(context) {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

pub(crate) async fn a_key_that_wants_a_pin_for_each_signature_gets_it(module: &mut Fixture) {
    module.create("ci");
    generate(module, "seal", Attribute::AlwaysAuthenticate(true), |_, _| ());
    let modules = module.modules();
    let (pin, reads) = counted_pin(PIN);
    let device = module.device(&modules, module.watched("pkcs11:token=ci;object=seal"), Some(pin));
    let signer = Pkcs11Signer::new(device, Algorithm::RS256).unwrap();
    let spki = signer.key(&call()).await.unwrap().public_key.to_spki().unwrap();
    for _ in 0..3 {
        assert_verifies(Algorithm::RS256, &spki, &sign(&signer, b"sealed").await.unwrap());
    }
    modules.shutdown(&call()).await.unwrap();
    assert_eq!((module.calls("C_Login"), reads.load(Ordering::SeqCst)), (4, 4));
}

pub(crate) async fn a_wrong_pin_for_a_signature_is_tried_once_and_never_again(module: &mut Fixture) {
    module.create("ci");
    generate(module, "seal", Attribute::AlwaysAuthenticate(true), |_, _| ());
    let modules = module.modules();
    let (wrong, reads) = counted_pin("0000-wrong");
    let pin = good_pin().with_signature_pin(&wrong);
    let device = module.device(&modules, module.watched("pkcs11:token=ci;object=seal"), Some(pin));
    let signer = Pkcs11Signer::new(device, Algorithm::RS256).unwrap();
    let mut problems = Vec::new();
    for _ in 0..3 {
        match sign(&signer, b"sealed").await.unwrap_err() {
            Error::Pin { problem, .. } => problems.push(problem),
            other => panic!("{other}"),
        }
    }
    let before = PinProblem::RefusedBefore;
    assert_eq!(problems, [PinProblem::Refused("CKR_PIN_INCORRECT".into()), before.clone(), before]);
    modules.shutdown(&call()).await.unwrap();
    assert_eq!((module.calls("C_Login"), reads.load(Ordering::SeqCst)), (2, 1));
}
