//! Foreign businesses with an eSeal: the first configuration, and what can be wrong with a seal.

use segl::sandbox::{Authentication, Clients, Profile, Setup};

use crate::{
    Examined,
    stand::{Stand, key, spki},
};

/// Writes a seal and its key into files, and returns the `segl.toml` for them.
fn seal(stand: &Stand, profile: Profile, whole: bool) -> String {
    let issued = stand.sandbox.ca().issue_for(&spki(key()), Clients::ORGANISATION, profile).unwrap();
    stand.write("key.pem", key().serialize_pem());
    stand.write("chain.pem", if whole { issued.whole_chain_pem() } else { issued.leaf_pem() });
    stand.sandbox.config_toml_for(&Setup {
        key: "file:key.pem".into(),
        pin: None,
        authentication: Authentication::Eseal("chain.pem".into()),
    })
}

#[tokio::test]
async fn a_seal_with_its_whole_chain_is_well_and_nothing_is_said_of_registered_keys() {
    let stand = Stand::new().await;
    let config = seal(&stand, Profile::Seal, true);
    let examined = Examined::of(&stand, &config, &["--online"], &[]).await;
    examined.is_well();
    assert!(examined.all("registered key").is_empty(), "{:#}", examined.report);
    assert!(
        examined.all("certificate")[0]["reason"].as_str().unwrap().contains("eSeal"),
        "{:#}",
        examined.report
    );
}

#[tokio::test]
async fn a_seal_without_its_issuers_is_found_with_the_command_that_fetches_them() {
    let stand = Stand::new().await;
    let config = seal(&stand, Profile::Seal, false);
    let examined = Examined::of(&stand, &config, &[], &[]).await;
    assert_eq!(examined.code, Some(2), "{:#}", examined.report);
    examined.says("identity", "failure", "whole chain", "segl certificate fetch-chain");
}

#[tokio::test]
async fn the_first_configuration_of_a_seal_proposes_the_scope_that_needs_no_registration() {
    let stand = Stand::new().await;
    seal(&stand, Profile::Seal, true);
    let said = stand
        .segl(&[
            "init",
            "--eseal",
            "--environment",
            "test",
            "--key",
            "file:key.pem",
            "--certificate",
            "chain.pem",
            "--name",
            "Norrbottens Åkeri AB",
        ])
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let written = std::fs::read_to_string(stand.folder().join("segl.toml")).unwrap();
    assert!(written.contains("\"digdir:verksemd.eu\"") && !written.contains("exchange"), "{written}");
    let examined = Examined::read(&stand.segl(&["doctor", "--output", "json"]).await);
    assert_eq!(examined.report["failures"], 0, "{:#}", examined.report);
}
