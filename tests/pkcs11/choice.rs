//! Which device and which key: exactly one, or none.

use aws_lc_rs::digest::{SHA256, digest};
use segl::{
    jose::RsaPublicKey,
    sign::{Error, Signer, Sought, pkcs11::NewCertificate},
};

use crate::{
    description::certificates,
    fixture::{Fixture, call},
    signing::{assert_verifies, sign},
};

pub(crate) async fn a_key_is_found_by_label_by_id_and_by_serial(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    let serial = pair.uri.serial().unwrap();
    let id: String = pair.uri.id().unwrap().iter().map(|byte| format!("%{byte:02x}")).collect();
    let mut uris = vec![
        "pkcs11:token=ci;object=grant".to_owned(),
        format!("pkcs11:token=ci;id={id}"),
        format!("pkcs11:token=ci;object=grant;id={id};type=private"),
        "pkcs11:token=ci".to_owned(),
        pair.uri.to_string(),
    ];
    if module.nature.has_serials {
        uris.push(format!("pkcs11:serial={serial};object=grant"));
    }
    for uri in uris {
        let signer = module.signer(&modules, &uri);
        let key = signer.key(&call()).await.unwrap();
        assert_eq!(key.public_key, RsaPublicKey::from_spki(&pair.spki).unwrap(), "{uri}");
        assert_eq!(key.device, Some(format!("{} ({serial})", module.own_label("ci"))));
        let signed = sign(&signer, b"header.payload").await.unwrap();
        assert_eq!(signed.message, b"header.payload");
        assert_eq!(signed.generation, key.generation);
        assert_verifies(key.algorithm, &pair.spki, &signed);
    }
}

pub(crate) async fn a_key_is_not_guessed_among_several_and_the_candidates_are_uris_to_paste(
    module: &mut Fixture,
) {
    module.create("ci");
    let modules = module.modules();
    let first = module.generate(&modules, "ci", "grant-2026").await;
    let second = module.generate(&modules, "ci", "grant-2027").await;

    let error = module.signer(&modules, "pkcs11:token=ci").key(&call()).await.unwrap_err();
    let Error::Ambiguous { sought: Sought::Key, mut candidates, .. } = error else { panic!("{error}") };
    candidates.sort();
    let mut expected = vec![first.uri.to_string(), second.uri.to_string()];
    expected.sort();
    assert_eq!(candidates, expected);
    for pair in [first, second] {
        let key = module.signer(&modules, &pair.uri.to_string()).key(&call()).await.unwrap();
        assert_eq!(key.public_key, RsaPublicKey::from_spki(&pair.spki).unwrap());
    }

    // The start of a label is no label.
    let error = module.signer(&modules, "pkcs11:token=ci;object=grant-").key(&call()).await.unwrap_err();
    let Error::NotFound { sought: Sought::Key, candidates, .. } = error else { panic!("{error}") };
    assert_eq!(candidates.len(), 2);
}

pub(crate) async fn a_device_is_not_guessed_among_several(module: &mut Fixture) {
    let labels = &["first", "other"][..module.nature.devices];
    for label in labels {
        module.create(label);
    }
    let modules = module.modules();
    let pair = module.generate(&modules, "first", "grant").await;

    let error = module.signer(&modules, "pkcs11:token=none").key(&call()).await.unwrap_err();
    let Error::NotFound { sought: Sought::Device, candidates, .. } = error else { panic!("{error}") };
    for label in labels {
        let label = module.own_label(label).replace(' ', "%20");
        assert!(candidates.iter().any(|uri| uri.contains(&format!("token={label}"))), "{candidates:?}");
    }
    if labels.len() > 1 {
        let error = module.signer(&modules, "pkcs11:object=grant").key(&call()).await.unwrap_err();
        assert!(matches!(error, Error::Ambiguous { sought: Sought::Device, .. }), "{error}");
    }
    let key = module.signer(&modules, "pkcs11:token=first;object=grant").key(&call()).await.unwrap();
    assert_eq!(key.public_key, RsaPublicKey::from_spki(&pair.spki).unwrap());
}

pub(crate) async fn a_key_among_others_is_found_by_the_thumbprint_of_its_certificate_or_of_itself(
    module: &mut Fixture,
) {
    module.create("ci");
    let modules = module.modules();
    let mut pairs = Vec::new();
    for label in ["old", "new"] {
        let pair = module.generate(&modules, "ci", label).await;
        let (leaf, _) = certificates(&pair.spki);
        let new = NewCertificate { der: leaf.clone(), label: None };
        module.signer(&modules, "pkcs11:token=ci").device().store_certificate(new, &call()).await.unwrap();
        pairs.push((pair, leaf));
    }
    for (pair, leaf) in &pairs {
        let key = RsaPublicKey::from_spki(&pair.spki).unwrap();
        let certificate = hex::encode(digest(&SHA256, leaf));
        for uri in [
            format!("pkcs11:token=ci;jkt={}", key.thumbprint()),
            format!("pkcs11:token=ci;x5t-S256={certificate}"),
        ] {
            let found = module.signer(&modules, &uri).key(&call()).await.unwrap();
            assert_eq!(found.public_key, key, "{uri}");
        }
    }
}
