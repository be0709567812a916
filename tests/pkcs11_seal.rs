//! Seals and pairs of devices, on SoftHSM2.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

#[path = "support/softhsm.rs"]
mod softhsm;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use segl::{
    certificate::Certificate,
    clock::SystemClock,
    jose::Algorithm,
    sign::{
        Error, EsealSigner, Failover, MakeMessage, PinProblem, Pkcs11Signer, Signed, Signer,
        pkcs11::{Device, Modules, Pin, PinAnswer},
    },
};

use self::softhsm::{LIBRARY, PIN, SoftHsm, alone, call, counted_pin, good_pin};

/// A key that asks for a PIN at each signature, made by another program.
fn create_seal(hsm: &SoftHsm) {
    hsm.create("seal");
    tool(&[
        "--token-label",
        "seal",
        "--keypairgen",
        "--key-type",
        "rsa:2048",
        "--label",
        "seal",
        "--id",
        "01",
        "--always-auth",
    ]);
}

fn tool(arguments: &[&str]) {
    let made = Command::new("pkcs11-tool")
        .args(["--module", LIBRARY, "--login", "--pin", PIN])
        .args(arguments)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn seal(modules: &Arc<Modules>, pin: Option<Pin>) -> Pkcs11Signer {
    let uri = "pkcs11:token=seal;id=%01".parse().unwrap();
    let device = Device::new(modules.clone(), uri, Some("softhsm2".into()), pin);
    Pkcs11Signer::new(device, Algorithm::RS256).unwrap()
}

async fn sign(signer: &dyn Signer) -> Result<Signed, Error> {
    let message: MakeMessage = Box::new(|| b"header.payload".to_vec());
    signer.sign(&call(), message).await
}

#[test]
fn a_seal_that_asks_at_each_signature_gets_its_second_pin_each_time() {
    alone("a_seal_that_asks_at_each_signature_gets_its_second_pin_each_time", async |hsm: SoftHsm| {
        create_seal(&hsm);
        let (login, logins) = counted_pin(PIN);
        let (signature, signatures) = counted_pin(PIN);
        let signer = EsealSigner::new(seal(&hsm.modules(), Some(login.with_signature_pin(&signature))));
        signer.check_unattended(&call()).await.unwrap();
        for _ in 0..3 {
            sign(&signer).await.unwrap();
        }
        assert_eq!((logins.load(Ordering::SeqCst), signatures.load(Ordering::SeqCst)), (1, 3));
        assert_eq!(signer.health().signatures, 3);
    });
}

#[test]
fn a_wrong_second_pin_is_tried_once() {
    alone("a_wrong_second_pin_is_tried_once", async |hsm: SoftHsm| {
        create_seal(&hsm);
        let (wrong, reads) = counted_pin("wrong-0815");
        let signer = EsealSigner::new(seal(&hsm.modules(), Some(good_pin().with_signature_pin(&wrong))));
        for _ in 0..3 {
            let error = sign(&signer).await.unwrap_err();
            assert!(
                matches!(
                    &error,
                    Error::Pin { problem: PinProblem::Refused(_) | PinProblem::RefusedBefore, .. }
                ),
                "{error}"
            );
        }
        assert_eq!(reads.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_seal_that_a_person_must_be_there_for_is_refused_before_anything_is_tried() {
    let name = "a_seal_that_a_person_must_be_there_for_is_refused_before_anything_is_tried";
    alone(name, async |hsm: SoftHsm| {
        create_seal(&hsm);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let typed = Pin::asking(true, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(PinAnswer::None)
        });
        for pin in [Some(typed.clone()), Some(good_pin().with_signature_pin(&typed)), None] {
            let error =
                EsealSigner::new(seal(&hsm.modules(), pin)).check_unattended(&call()).await.unwrap_err();
            assert!(matches!(error, Error::Attended { .. }), "{error}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_seal_goes_with_its_whole_chain_or_the_missing_issuer_is_named() {
    alone("a_seal_goes_with_its_whole_chain_or_the_missing_issuer_is_named", async |hsm: SoftHsm| {
        create_seal(&hsm);
        let modules = hsm.modules();
        let spki = seal(&modules, Some(good_pin())).key(&call()).await.unwrap().public_key.to_spki().unwrap();
        let [leaf, issuing, root] = chain(&spki);
        let with = |certificates: &[&Certificate]| {
            let certificates = certificates.iter().map(|it| (*it).clone()).collect();
            EsealSigner::new(seal(&modules, Some(good_pin())).with_certificates(certificates))
        };
        let error = with(&[&leaf, &root]).chain(&call()).await.unwrap_err().to_string();
        assert!(error.contains("Issuing CA"), "{error}");
        let error = with(&[&issuing, &leaf]).chain(&call()).await.unwrap_err().to_string();
        assert!(error.contains("Root CA"), "{error}");
        let whole = with(&[&root, &leaf, &issuing]).chain(&call()).await.unwrap();
        assert_eq!(whole.to_der(true), [leaf.der(), issuing.der(), root.der()]);
    });
}

#[test]
fn the_same_key_in_two_devices_signs_on_when_one_refuses_its_pin() {
    alone("the_same_key_in_two_devices_signs_on_when_one_refuses_its_pin", async |hsm: SoftHsm| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let file = hsm.tokens().join("../key.pem");
        std::fs::write(&file, key.serialize_pem()).unwrap();
        for label in ["one", "two"] {
            hsm.create(label);
            let imported = Command::new("softhsm2-util")
                .args([
                    "--import",
                    file.to_str().unwrap(),
                    "--token",
                    label,
                    "--label",
                    "grant",
                    "--id",
                    "01",
                ])
                .args(["--pin", PIN])
                .output()
                .unwrap();
            assert!(imported.status.success(), "{imported:?}");
        }
        let modules = hsm.modules();
        let (wrong, reads) = counted_pin("wrong-0815");
        let member = |label: &str, pin: Pin| -> Arc<dyn Signer> {
            let uri = format!("pkcs11:token={label};object=grant").parse().unwrap();
            let device = Device::new(modules.clone(), uri, Some("softhsm2".into()), Some(pin));
            Arc::new(Pkcs11Signer::new(device, Algorithm::RS256).unwrap())
        };
        let both = Failover::new(member("one", wrong), [member("two", good_pin())], SystemClock::shared());
        let key = both.key(&call()).await.unwrap();
        assert!(key.device.unwrap().starts_with("two ("));
        for _ in 0..3 {
            assert_eq!(sign(&both).await.unwrap().generation, key.generation);
        }
        assert_eq!(reads.load(Ordering::SeqCst), 1);
        assert!(matches!(both.health().trouble, Some(Error::Pin { .. })));
    });
}

/// A certificate for the key, its issuer's, and the root's.
fn chain(spki: &[u8]) -> [Certificate; 3] {
    let authority = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        (params, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
    };
    let (root, root_key) = authority("Root CA");
    let root_certificate = root.self_signed(&root_key).unwrap();
    let root = rcgen::Issuer::new(root, root_key);
    let (issuing, issuing_key) = authority("Issuing CA");
    let issuing_certificate = issuing.signed_by(&issuing_key, &root).unwrap();
    let issuing = rcgen::Issuer::new(issuing, issuing_key);
    let mut leaf = rcgen::CertificateParams::default();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "Åkeri AB");
    leaf.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let leaf = leaf.signed_by(&rcgen::SubjectPublicKeyInfo::from_der(spki).unwrap(), &issuing).unwrap();
    [leaf, issuing_certificate, root_certificate]
        .map(|certificate| Certificate::from_der(certificate.der()).unwrap())
}
