//! What is shown of a device, and the certificates on it.

use segl::{
    jose::Algorithm,
    sign::{
        Error, Signer,
        pkcs11::{NewCertificate, Pin, SlotDescription},
    },
};

use crate::{
    fixture::{Fixture, call, good_pin},
    signing::{assert_verifies, sign},
};

pub(crate) async fn without_a_pin_the_device_is_shown_and_with_one_its_keys(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    modules.shutdown(&call()).await.unwrap();

    let modules = module.modules();
    let shown = modules.describe(module.library(), None, &call()).await.unwrap();
    let library = shown.library.unwrap();
    assert!(library.manufacturer.contains(module.nature.manufacturer), "{library:?}");
    let slot = of_device(&shown.slots, module.own_label("ci"));
    assert_eq!(slot.problems, []);
    assert!(!slot.logged_in);
    let [key] = &slot.keys[..] else { panic!("{slot:?}") };
    assert_eq!((key.public, key.private), (true, module.nature.shows_private_keys));
    assert_eq!((&key.spki, key.bits, key.label.as_str()), (&Some(pair.spki.clone()), Some(2048), "grant"));
    let blank = |slot: &SlotDescription| slot.device.as_ref().is_some_and(|device| !device.initialized);
    assert_eq!(shown.slots.iter().any(blank), module.nature.shows_blanks);

    let uri = module.uri("pkcs11:token=ci");
    let shown = modules.describe(module.library(), Some((&uri, &good_pin())), &call()).await.unwrap();
    let slot = of_device(&shown.slots, module.own_label("ci"));
    assert_eq!(slot.problems, []);
    assert!(slot.logged_in);
    let [key] = &slot.keys[..] else { panic!("{slot:?}") };
    assert!(key.private && key.public);
    assert_eq!((key.sensitive, key.extractable, key.signs), (Some(true), Some(false), Some(true)));
    assert_ne!(key.always_authenticate, Some(true));
    assert_eq!((key.key_type.as_str(), key.bits), ("RSA", Some(2048)));
    assert_eq!(key.uri, pair.uri);
    assert_eq!(key.spki, Some(pair.spki));
}

pub(crate) async fn certificates_stand_beside_their_key_and_come_back_as_its_chain(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    let signer = module.signer(&modules, "pkcs11:token=ci");
    assert!(matches!(signer.chain(&call()).await.unwrap_err(), Error::Certificate(_)));
    let (leaf, authority) = certificates(&pair.spki);
    for (der, certifies) in [(&leaf, Some(pair.uri.clone())), (&authority, None)] {
        let new = NewCertificate { der: der.clone(), label: None };
        let stored = signer.device().store_certificate(new.clone(), &call()).await.unwrap();
        assert_eq!((&stored.key, stored.was_there), (&certifies, false));
        let again = signer.device().store_certificate(new, &call()).await.unwrap();
        assert_eq!((&again.uri, again.was_there), (&stored.uri, true));
    }
    modules.shutdown(&call()).await.unwrap();

    let modules = module.modules();
    let signer = module.signer(&modules, "pkcs11:token=ci");
    let mut read = signer.device().certificates(&call()).await.unwrap();
    read.sort();
    let mut expected = vec![leaf.clone(), authority.clone()];
    expected.sort();
    assert_eq!(read, expected);
    let chain = signer.chain(&call()).await.unwrap();
    assert_eq!(chain.to_der(true), [leaf.clone(), authority.clone()]);
    modules.shutdown(&call()).await.unwrap();

    // Certificates are no secret: they are seen without a PIN.
    let modules = module.modules();
    let shown = modules.describe(module.library(), None, &call()).await.unwrap();
    let slot = of_device(&shown.slots, module.own_label("ci"));
    assert_eq!(slot.keys[0].certificates[0].der, leaf);
    assert_eq!(slot.keys[0].certificates[0].label, "grant");
    assert_eq!(slot.certificates[0].der, authority);
    assert_eq!(slot.certificates[0].label, "Test CA");
}

pub(crate) async fn a_blank_device_is_made_usable_once_and_left_as_it_is_from_then_on(module: &mut Fixture) {
    let modules = module.modules();
    let deadline = call();
    let provide = |label, pin| modules.provide_test_device(module.library(), label, pin, &deadline);
    let made = provide("ci", good_pin()).await.unwrap();
    assert_eq!(made.token(), Some("ci"));
    let pair = module.generate(&modules, "ci", "grant").await;
    let other = Pin::new(|| Ok(Some("0000-other".to_owned().into())));
    assert_eq!(provide("ci", other).await.unwrap(), made);
    let signed = sign(&module.signer(&modules, "pkcs11:token=ci"), b"m").await.unwrap();
    assert_verifies(Algorithm::RS256, &pair.spki, &signed);
    if module.nature.devices > 1 {
        let second = provide("second", good_pin()).await.unwrap();
        assert_eq!(second.token(), Some("second"));
        assert_ne!(second.serial() == made.serial(), module.nature.has_serials);
    }
}

fn of_device<'a>(slots: &'a [SlotDescription], label: &str) -> &'a SlotDescription {
    let is_it = |slot: &&SlotDescription| slot.device.as_ref().is_some_and(|device| device.label == label);
    slots.iter().find(is_it).unwrap()
}

/// A certificate for the key and that of its authority, DER.
pub(crate) fn certificates(spki: &[u8]) -> (Vec<u8>, Vec<u8>) {
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
