//! The mistakes that cost a day each, made on purpose: what `segl doctor` finds before anything is asked.
//!
//! docs/mistakes.md names these tests.

use segl::sandbox::{Clients, Knobs, Profile};

use crate::{
    Examined,
    stand::{KID, Stand, ca, other_key, spki},
};

#[tokio::test]
async fn a_client_id_that_is_no_uuid_is_pointed_out() {
    let stand = Stand::new().await;
    let config = stand
        .key_client()
        .replace(Clients::KEY_CLIENT, "312700018")
        .replace("environment = \"sandbox\"", "environment = \"test\"");
    let examined = Examined::of(&stand, &config, &[], &[]).await;
    examined.says("client id", "warning", "312700018 is no UUID", "no client id");
}

#[tokio::test]
async fn a_certificate_of_another_key_is_found() {
    let stand = Stand::new().await;
    let issued = ca().issue_for(&spki(other_key()), Clients::ORGANISATION, Profile::Seid2).unwrap();
    let config = stand.client_with(&issued);
    let examined = Examined::of(&stand, &config, &[], &[]).await;
    assert_eq!(examined.code, Some(2), "{:#}", examined.report);
    examined.says("identity", "failure", "", "");
    assert!(examined.bad("identity")[0]["reason"].as_str().unwrap().contains("key"), "{:#}", examined.report);
}

#[tokio::test]
async fn a_key_whose_registration_has_run_out_or_will_soon_is_found() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    let with = |date: &str| {
        config.replace(&format!("kid = \"{KID}\""), &format!("kid = \"{KID}\"\nkid_expires = {date}"))
    };
    let examined = Examined::of(&stand, &with("2020-01-01"), &[], &[]).await;
    examined.says("registered key", "failure", "has expired", "Samarbeidsportalen");
    assert_eq!(examined.code, Some(2));
    Examined::of(&stand, &with("2099-01-01"), &[], &[]).await.is_well();
    let examined = Examined::of(&stand, &config, &[], &[]).await;
    examined.says("registered key", "warning", "registered keys die one year after upload", "kid_expires");
    assert_eq!(examined.code, Some(4));
    // A certificate client has no registered key, and nothing is said about one.
    let (config, _) = stand.certificate_client();
    assert!(Examined::of(&stand, &config, &[], &[]).await.all("registered key").is_empty());
}

#[tokio::test]
async fn a_private_key_or_pin_in_the_environment_is_pointed_out() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    let variables = [("HSM_PIN", "4711"), ("MASKINPORTEN_CLIENT_JWK", "{}"), ("PKCS11SPY_OUTPUT", "/x")];
    let examined = Examined::of(&stand, &config, &[], &variables).await;
    let named: Vec<&str> =
        examined.bad("environment").iter().map(|finding| finding["about"].as_str().unwrap()).collect();
    assert_eq!(named, ["HSM_PIN", "MASKINPORTEN_CLIENT_JWK", "PKCS11SPY_OUTPUT"]);
    assert!(!examined.report.to_string().contains("4711"));
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_found_before_it_is_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let stand = Stand::new().await;
    let config = stand.key_client();
    let path = stand.folder().join("key.pem");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let examined = Examined::of(&stand, &config, &[], &[]).await;
    assert_eq!(examined.code, Some(2), "{:#}", examined.report);
    examined.says("key", "failure", "key.pem", "chmod");
}

#[tokio::test]
async fn every_mistake_of_the_file_is_a_finding_with_its_line() {
    let stand = Stand::new().await;
    let config = format!("{}\n[tokens.bad]\nclient = \"nobody\"\nscopes = [\"a,b\"]\n", stand.key_client());
    let examined = Examined::of(&stand, &config, &[], &[]).await;
    assert_eq!(examined.code, Some(2));
    let reasons: Vec<&str> =
        examined.bad("configuration").iter().map(|finding| finding["reason"].as_str().unwrap()).collect();
    assert!(
        reasons.len() >= 2 && reasons.iter().all(|reason| reason.starts_with("segl.toml:")),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn an_authority_that_is_away_or_refuses_is_told_apart_from_what_a_person_must_mend() {
    let stand = Stand::new().await;
    let config = stand
        .key_client()
        .replace(&format!("kid = \"{KID}\""), &format!("kid = \"{KID}\"\nkid_expires = 2099-01-01"));
    let nowhere = config.replace(stand.sandbox.issuer(), "http://127.0.0.1:9/");
    let examined = Examined::of(&stand, &nowhere, &["--online"], &[]).await;
    assert_eq!(examined.code, Some(3), "{:#}", examined.report);
    examined.says("reachable", "failure", "no connection to 127.0.0.1:9", "[environments]");
    stand.sandbox.turn(|knobs: &mut Knobs| knobs.strict_claims = true);
    let refused = config.replace(KID, "another-kid");
    let examined = Examined::of(&stand, &refused, &["maskinporten", "--online"], &[]).await;
    assert_eq!(examined.code, Some(1), "{:#}", examined.report);
    examined.says("token", "failure", "Unknown key identifier", "kid");
}

#[tokio::test]
async fn only_the_tokens_that_are_named_are_examined() {
    let stand = Stand::new().await;
    let (config, _) = stand.certificate_client();
    let examined = Examined::of(&stand, &config, &["road"], &[]).await;
    let about: Vec<&str> =
        examined.all("renewal").iter().map(|finding| finding["about"].as_str().unwrap()).collect();
    assert_eq!(about, ["road"]);
    stand.configure(&config);
    let said = stand.segl(&["doctor", "raod"]).await;
    assert!(said.code == Some(2) && said.err.contains("\"raod\"") && said.err.contains("road"), "{said:?}");
}

#[tokio::test]
async fn the_hosts_for_the_firewall_are_those_that_the_tokens_lead_to() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client().replace("environment = \"sandbox\"", "environment = \"prod\""));
    let said = stand.segl(&["doctor", "--hosts"]).await;
    for host in ["maskinporten.no", "api.toll.no", "platform.altinn.no"] {
        assert!(said.out.contains(host), "{said:?}");
    }
    assert!(!said.out.contains("127.0.0.1") && !said.out.contains("test."), "{said:?}");
}
