//! A key that was born in a device: SoftHSM2, one process per test.

use base64::{Engine, engine::general_purpose::STANDARD};
use segl::{
    clock::SystemClock,
    pipeline::Pipeline,
    sandbox::{Authentication, Clients, Issued, Profile, Setup},
    sign::{self, Sought, pkcs11::NewCertificate},
    token::{Error, Side, TokenSource},
};
use serde_json::json;

use crate::{
    softhsm::{PIN, SoftHsm, alone, call},
    stand::{Stand, part},
};

const KEY: &str = "pkcs11:token=ci;object=grant";

#[test]
fn a_key_in_a_device_gets_customs_and_altinn_tokens_with_the_chain_from_the_device() {
    let name = "device::a_key_in_a_device_gets_customs_and_altinn_tokens_with_the_chain_from_the_device";
    alone(name, async |hsm: SoftHsm| {
        let stand = Stand::new().await;
        let issued = provision(&stand, &hsm).await;
        stand.configure(&config(&stand));

        let header = part(stand.segl(&["grant", "road"]).await.token(), 0);
        // The root stands on the device, too, and stays there.
        let sent = json!([STANDARD.encode(&issued.leaf), STANDARD.encode(&issued.issuing)]);
        assert_eq!(header, json!({ "alg": "RS256", "x5c": sent }));

        let said = stand.segl(&["probe", "road"]).await;
        let lines: Vec<&str> = said.done().lines().collect();
        assert!(
            lines[0].starts_with("key    device ci (") && lines[0].contains("certificate of "),
            "{said:?}"
        );
        assert!(lines[1].contains("Customs exchanged it"), "{said:?}");
        assert!(lines[2].contains("test-auth answered 200"), "{said:?}");
        assert!(lines[3].contains("from the cache; the key was not touched"), "{said:?}");

        let token = stand.segl(&["token", "instances"]).await;
        assert_eq!(part(token.token(), 1)["urn:altinn:orgNumber"], Clients::ORGANISATION);
        let token = stand.segl(&["token", "maskinporten"]).await;
        assert_eq!(part(token.token(), 1)["client_amr"], "virksomhetssertifikat");
        let counters = stand.sandbox.counters();
        assert_eq!((counters.token.hits, counters.token.refused), (3, 0));
    });
}

#[test]
fn a_device_that_is_away_at_the_start_is_missed_at_the_first_use_and_used_when_it_is_there() {
    let name =
        "device::a_device_that_is_away_at_the_start_is_missed_at_the_first_use_and_used_when_it_is_there";
    alone(name, async |hsm: SoftHsm| {
        let stand = Stand::new().await;
        provision(&stand, &hsm).await;
        hsm.unplug();
        std::fs::create_dir(hsm.tokens()).unwrap();
        let config = config(&stand).replace("[tokens.road]", "[tokens.road]\nkeep_warm = true");
        stand.configure(&config);

        let pipeline: Pipeline = stand.live_pipeline(&config);
        pipeline.start();
        let road = pipeline.token("road").unwrap();
        let error = road.token(&call()).await.unwrap_err();
        let missing = |error: &Error| {
            matches!(error.cause(), Error::Sign(sign::Error::NotFound { sought: Sought::Device, .. }))
        };
        assert!(missing(&error), "{error}");
        assert!(error.remedy().contains("segl keys"), "{}", error.remedy());
        assert!(
            road.source()
                .outage()
                .is_some_and(|outage| outage.side == Side::Signer && missing(&outage.error))
        );
        let said = stand.segl(&["config", "check", "--require-signer"]).await;
        assert!(
            said.failed(3).0.starts_with("the signer sandbox is not ready: no device matches"),
            "{said:?}"
        );
        let said = stand.segl(&["token", "road"]).await;
        let (what, remedy) = said.failed(3);
        assert!(what.contains("the signer has been away since 20"), "{what}");
        assert!(what.contains("no device matches pkcs11:token=ci"), "{what}");
        assert!(remedy.contains("segl keys"), "{remedy}");
        assert_eq!(stand.sandbox.counters().token.hits, 0, "nothing was sent without a signature");

        std::fs::remove_dir(hsm.tokens()).unwrap();
        hsm.plug();
        let token = road.token(&call()).await.unwrap();
        assert!(token.provenance().device.as_ref().is_some_and(|device| device.starts_with("ci (")));
        assert_eq!(pipeline.signer("sandbox").unwrap().health().trouble, None);
        pipeline.shutdown(std::time::Duration::from_secs(5)).await;
        stand.segl(&["token", "road"]).await.token();
    });
}

#[test]
fn a_device_that_is_pulled_out_is_missed_only_when_a_signature_is_needed() {
    let name = "device::a_device_that_is_pulled_out_is_missed_only_when_a_signature_is_needed";
    alone(name, async |hsm: SoftHsm| {
        let stand = Stand::new().await;
        provision(&stand, &hsm).await;
        let pipeline = stand.pipeline(&config(&stand), SystemClock::shared());
        let road = pipeline.token("road").unwrap();
        let token = road.token(&call()).await.unwrap();
        hsm.unplug();
        assert_eq!(road.token(&call()).await.unwrap().secret(), token.secret());
        let instances = pipeline.token("instances").unwrap();
        let error = instances.token(&call()).await.unwrap_err();
        assert_eq!(error.side(), Some(Side::Signer), "{error}");
        assert!(!error.remedy().is_empty());
        hsm.plug();
        instances.token(&call()).await.unwrap();
    });
}

#[test]
fn a_pin_that_is_refused_is_a_matter_for_a_person() {
    alone("device::a_pin_that_is_refused_is_a_matter_for_a_person", async |hsm: SoftHsm| {
        let stand = Stand::new().await;
        provision(&stand, &hsm).await;
        stand.configure(&config(&stand));
        stand.write("pin", "9999-wrong\n");
        let said = stand.segl(&["-vv", "token", "road"]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("refused the PIN (CKR_PIN_INCORRECT); it was tried once"), "{said:?}");
        assert!(!said.err.contains("9999-wrong"), "{said:?}");
        std::fs::remove_file(stand.folder().join("pin")).unwrap();
        let said = stand.segl(&["token", "road"]).await;
        let (what, remedy) = said.failed(2);
        assert!(what.contains("needs a PIN") && remedy.contains("pin = "), "{said:?}");
    });
}

/// Makes a key on a new device and puts its certificates beside it.
pub(crate) async fn provision(stand: &Stand, hsm: &SoftHsm) -> Issued {
    hsm.create("ci");
    let modules = hsm.modules();
    let pair = hsm.generate(&modules, "ci", "grant").await;
    let issued = stand.sandbox.ca().issue_for(&pair.spki, Clients::ORGANISATION, Profile::Seid2).unwrap();
    let device = hsm.device(&modules, "pkcs11:token=ci");
    for der in [&issued.root, &issued.issuing, &issued.leaf] {
        let certificate = NewCertificate { der: der.clone(), label: None };
        device.store_certificate(certificate, &call()).await.unwrap();
    }
    modules.shutdown(&call()).await.unwrap();
    issued
}

/// The configuration for that key, its PIN in a file.
pub(crate) fn config(stand: &Stand) -> String {
    stand.write("pin", format!("{PIN}\n"));
    stand.sandbox.config_toml_for(&Setup {
        key: KEY.into(),
        pin: Some("file:pin".into()),
        authentication: Authentication::Certificate("token".into()),
    })
}
