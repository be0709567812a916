//! A foreign business with an eSeal: in a file, in a device, and in a device that asks for a PIN at each signature.

use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use segl::{
    certificate::Certificate,
    sandbox::{Authentication, Clients, Issued, Profile, Setup},
    sign::pkcs11::NewCertificate,
};
use serde_json::json;

use crate::{
    softhsm::{LIBRARY, PIN, SoftHsm, alone, call},
    stand::{Stand, key, other_key, part, spki},
};

const EU_ROAD: &str = "toll:eu/movement/road/v2";

#[tokio::test]
async fn a_seal_in_a_file_gets_its_first_token_and_a_customs_token() {
    let stand = Stand::new().await;
    let issued = seal_in_file(&stand, Profile::Seal);

    let grant = stand.segl(&["grant", "road"]).await;
    let sent = [&issued.leaf, &issued.issuing, &issued.root].map(|der| STANDARD.encode(der));
    assert_eq!(part(grant.token(), 0), json!({ "alg": "RS256", "x5c": sent }));
    assert_eq!(part(grant.token(), 1)["iss"], "Segl Sandbox");

    let token = stand.segl(&["token", "verksemd"]).await;
    let claims = part(token.token(), 1);
    assert_eq!((&claims["scope"], &claims["client_amr"]), (&json!(Clients::VERKSEMD), &json!("QCForESeal")));
    assert_eq!(claims["consumer"]["ID"], Clients::FOREIGN_ORGANISATION);

    let said = stand.segl(&["probe", "road"]).await;
    let lines: Vec<&str> = said.done().lines().collect();
    let [key, token, call, _] = lines[..] else { panic!("{said:?}") };
    assert!(key.contains("certificate of SEGL SANDBOX TEST (VATSE-556012345601)"), "{key}");
    assert!(token.contains("Customs exchanged it; toll:eu/movement/road/v2 for 9"), "{token}");
    assert!(call.contains("test-auth answered 200"), "{call}");
    assert_eq!(stand.sandbox.counters().token.refused, 0);
}

#[tokio::test]
async fn a_chain_that_breaks_off_is_refused_before_anything_is_signed_with_the_issuer_and_the_command() {
    let stand = Stand::new().await;
    let issued = seal_in_file(&stand, Profile::Seal);
    for (kept, missing) in
        [(issued.leaf_pem(), "European eSeal CA"), (issued.chain_pem(), "European Root CA")]
    {
        stand.write("chain.pem", kept);
        for command in ["grant", "token"] {
            let said = stand.segl(&[command, "road"]).await;
            let (what, remedy) = said.failed(2);
            assert!(what.contains("goes with its whole chain") && what.contains(missing), "{what}");
            assert!(remedy.contains("segl certificate fetch-chain"), "{remedy}");
        }
    }
    assert_eq!(stand.sandbox.counters().token.hits, 0);

    // What the signer's own file of issuers adds is enough.
    stand.write("issuers.pem", issued.whole_chain_pem());
    let config = config(&stand, "chain.pem")
        .replace("[signers.sandbox]", "[signers.sandbox]\nchain = \"issuers.pem\"");
    stand.configure(&config);
    stand.segl(&["token", "road"]).await.token();
}

#[tokio::test]
async fn a_certificate_that_names_no_business_is_no_seal() {
    let stand = Stand::new().await;
    seal_in_file(&stand, Profile::SealNameless);
    let said = stand.segl(&["token", "road"]).await;
    assert!(said.failed(2).0.contains("has no organizationIdentifier"), "{said:?}");
    assert_eq!(stand.sandbox.counters().token.hits, 0);
}

#[tokio::test]
async fn a_seal_of_a_norwegian_organisation_works_with_a_warning() {
    let stand = Stand::new().await;
    seal_in_file(&stand, Profile::SealNorwegian);
    let said = stand.segl(&["token", "verksemd"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(part(&said.out, 1)["consumer"]["ID"], format!("NTRNO-{}", Clients::ORGANISATION));
    assert!(said.err.contains("a Norwegian organisation signs with an eSeal"), "{said:?}");
}

#[tokio::test]
async fn scopes_and_exchanges_that_no_seal_can_have_are_refused_at_load() {
    let stand = Stand::new().await;
    seal_in_file(&stand, Profile::Seal);
    let config = config(&stand, "chain.pem");
    for (old, new, expected) in [
        (EU_ROAD, "toll:movement/road/v2", "is not for eSeals"),
        ("\"customs\"", "\"altinn\"", "answers 401"),
        (EU_ROAD, "digdir:verksemd.eu", "Customs does not exchange tokens for digdir:verksemd.eu"),
        ("kind = \"eseal\"", "kind = \"eseal\"\nclient_id = \"x\"", "an eSeal has no client_id"),
    ] {
        assert!(config.contains(old), "{old}");
        stand.configure(&config.replace(old, new));
        let said = stand.segl(&["token", "road"]).await;
        assert!(said.code == Some(2) && said.err.contains(expected), "{new}: {said:?}");
    }
    stand.configure(&config);
    for scope in ["toll:movement/road/v2", Clients::VERKSEMD] {
        let said = stand.segl(&["token", "road", "--scope", scope]).await;
        assert!(said.failed(2).0.contains("digdir:verksemd.eu"), "{said:?}");
    }
    stand.configure(&stand.key_client());
    let said = stand.segl(&["token", "road", "--scope", EU_ROAD]).await;
    assert!(said.failed(2).0.contains("for foreign companies with an eSeal"), "{said:?}");
    assert_eq!(stand.sandbox.counters().token.hits, 0);
}

#[tokio::test]
async fn a_seal_of_another_key_is_refused_before_anything_is_sent() {
    let stand = Stand::new().await;
    seal_in_file(&stand, Profile::Seal);
    stand.write("key.pem", other_key().serialize_pem());
    let said = stand.segl(&["token", "road"]).await;
    assert!(said.failed(2).0.contains("belongs to another key"), "{said:?}");
    assert_eq!(stand.sandbox.counters().token.hits, 0);
}

#[test]
fn a_seal_in_a_device_gets_a_customs_token_and_says_that_it_can_do_so_alone() {
    let name = "eseal::a_seal_in_a_device_gets_a_customs_token_and_says_that_it_can_do_so_alone";
    alone(name, async |hsm: SoftHsm| {
        let stand = Stand::new().await;
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        let issued = issue(&stand, &pair.spki);
        let device = hsm.device(&modules, "pkcs11:token=ci");
        // The root is not on the device; it comes from the signer's file.
        for der in [&issued.leaf, &issued.issuing] {
            let certificate = NewCertificate { der: der.clone(), label: None };
            device.store_certificate(certificate, &call()).await.unwrap();
        }
        modules.shutdown(&call()).await.unwrap();
        stand.write("pin", format!("{PIN}\n"));
        let config = stand.sandbox.config_toml_for(&Setup {
            key: "pkcs11:token=ci;object=grant".into(),
            pin: Some("file:pin".into()),
            authentication: Authentication::Eseal("token".into()),
        });
        stand.configure(&config);
        let said = stand.segl(&["token", "road"]).await;
        let (what, remedy) = said.failed(2);
        assert!(what.contains("European Root CA") && remedy.contains("fetch-chain"), "{said:?}");
        assert_eq!(stand.sandbox.counters().token.hits, 0);

        stand.write("root.pem", issued.root_pem());
        stand.configure(&config.replace("[signers.sandbox]", "[signers.sandbox]\nchain = \"root.pem\""));
        let said = stand.segl(&["probe", "road"]).await;
        let lines: Vec<&str> = said.done().lines().collect();
        let [key, seal, token, call, _] = lines[..] else { panic!("{said:?}") };
        assert!(key.starts_with("key    device ci ("), "{key}");
        assert!(seal.starts_with("seal ") && seal.contains("it signs with nobody there"), "{seal}");
        assert!(token.contains("Customs exchanged it"), "{token}");
        assert!(call.contains("test-auth answered 200"), "{call}");
    });
}

#[test]
fn a_seal_that_asks_at_each_signature_says_what_it_lacks_and_signs_once_it_has_it() {
    let name = "eseal::a_seal_that_asks_at_each_signature_says_what_it_lacks_and_signs_once_it_has_it";
    alone(name, async |hsm: SoftHsm| {
        let stand = Stand::new().await;
        hsm.create("seal");
        let made = Command::new("pkcs11-tool")
            .args(["--module", LIBRARY, "--login", "--pin", PIN, "--token-label", "seal", "--keypairgen"])
            .args(["--key-type", "rsa:2048", "--label", "seal", "--id", "01", "--always-auth"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let shown = Command::new("pkcs11-tool")
            .args([
                "--module",
                LIBRARY,
                "--token-label",
                "seal",
                "--read-object",
                "--type",
                "pubkey",
                "--id",
                "01",
            ])
            .output()
            .unwrap();
        let issued = issue(&stand, &shown.stdout);
        stand.write("chain.pem", issued.whole_chain_pem());
        stand.write("pin", format!("{PIN}\n"));
        let config = stand.sandbox.config_toml_for(&Setup {
            key: "pkcs11:token=seal;id=%01".into(),
            pin: Some("file:pin".into()),
            authentication: Authentication::Eseal("token".into()),
        });
        let with = |lines: &str| {
            config.replace("[signers.sandbox]", &format!("[signers.sandbox]\nchain = \"chain.pem\"\n{lines}"))
        };
        // The software asks for the PIN of the login again; as on such devices, it is not taken for granted.
        let separate = "\n[profiles.softhsm2.sign]\ncontext_pin = \"separate\"\n";
        stand.configure(&(with("") + separate));
        let said = stand.segl(&["token", "road"]).await;
        assert_eq!((said.code, stand.sandbox.counters().token.hits), (Some(2), 0), "{said:?}");

        stand.configure(&(with("sign_pin = \"file:pin\"") + separate));
        let said = stand.segl(&["probe", "road"]).await;
        assert!(said.done().contains("it signs with nobody there"), "{said:?}");
        let token = stand.segl(&["token", "verksemd"]).await;
        assert_eq!(part(token.token(), 1)["client_amr"], "QCForESeal");
    });
}

fn issue(stand: &Stand, spki: &[u8]) -> Issued {
    stand.sandbox.ca().issue_for(spki, Clients::ORGANISATION, Profile::Seal).unwrap()
}

/// Has a seal issued for the key, and puts key, whole chain and configuration into files.
fn seal_in_file(stand: &Stand, profile: Profile) -> Issued {
    let issued = stand.sandbox.ca().issue_for(&spki(key()), Clients::ORGANISATION, profile).unwrap();
    stand.write("key.pem", key().serialize_pem());
    stand.write("chain.pem", issued.whole_chain_pem());
    stand.configure(&config(stand, "chain.pem"));
    assert!(Certificate::from_der(&issued.leaf).is_ok());
    issued
}

fn config(stand: &Stand, chain: &str) -> String {
    stand.sandbox.config_toml_for(&Setup {
        key: "file:key.pem".into(),
        pin: None,
        authentication: Authentication::Eseal(chain.into()),
    })
}
