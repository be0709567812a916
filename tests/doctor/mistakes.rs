//! The mistakes that cost a day each, made on purpose: what `segl doctor` finds before anything is asked.
//!
//! docs/mistakes.md names these tests.

use segl::sandbox::{Clients, Knobs, Profile};

use crate::{
    Examined,
    stand::{KID, Stand, ca, key, other_key, spki},
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
async fn a_clock_that_the_authority_would_refuse_is_found_by_its_date() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    for (offset, verdict) in [(-30, "failure"), (30, "warning")] {
        stand.sandbox.turn(|knobs: &mut Knobs| knobs.clock_offset = offset);
        let examined = Examined::of(&stand, &config, &["maskinporten", "--online"], &[]).await;
        let way = if offset < 0 { "ahead" } else { "behind" };
        examined.says("clock", verdict, way, "NTP");
    }
    stand.sandbox.turn(|knobs: &mut Knobs| knobs.clock_offset = 0);
    let examined = Examined::of(&stand, &config, &["maskinporten", "--online"], &[]).await;
    assert!(examined.all("clock").len() == 1 && examined.bad("clock").is_empty(), "{:#}", examined.report);
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

#[tokio::test]
async fn the_proxy_of_the_environment_is_among_the_hosts_for_the_firewall() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    let proxy_of = async |config: &str, variables: &[(&str, &str)]| {
        stand.configure(config);
        let said = stand.segl_with(&["doctor", "--hosts"], variables, "").await;
        assert!(said.code == Some(0) && !said.out.contains("s3cret"), "{said:?}");
        let line = said.out.lines().find(|line| line.contains("the proxy"))?;
        Some(line.split_whitespace().take(2).collect::<Vec<_>>().join(":"))
    };
    assert_eq!(proxy_of(&config, &[]).await, None);
    let https = ("HTTPS_PROXY", "http://me:s3cret@proxy.example.no:3128");
    let all = ("ALL_PROXY", "other.example.no:8080");
    assert_eq!(proxy_of(&config, &[https, all]).await.as_deref(), Some("proxy.example.no:3128"));
    assert_eq!(proxy_of(&config, &[all]).await.as_deref(), Some("other.example.no:8080"));
    let own = format!("{config}\n[http]\nproxy = \"http://own.example.no:3128\"\n");
    assert_eq!(proxy_of(&own, &[https]).await.as_deref(), Some("own.example.no:3128"));
}

/// A business certificate for `key`, by an issuer of this name; the issuer's own is not there.
fn issued_by(organisation: &str, common_name: &str, policy: &[u64]) -> String {
    use rcgen::{
        CertificateParams, CustomExtension, DistinguishedName, DnType, Issuer, KeyPair, KeyUsagePurpose,
        SubjectPublicKeyInfo,
    };
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = DistinguishedName::new();
    issuer.distinguished_name.push(DnType::OrganizationName, organisation);
    issuer.distinguished_name.push(DnType::CommonName, common_name);
    let issuer = Issuer::new(issuer, KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "NO");
    params.distinguished_name.push(DnType::OrganizationName, "FJORD FRAKT");
    params.distinguished_name.push(DnType::CommonName, "FJORD FRAKT");
    params
        .distinguished_name
        .push(DnType::from_oid(&[2, 5, 4, 97]), format!("NTRNO-{}", Clients::ORGANISATION));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.custom_extensions =
        vec![CustomExtension::from_oid_content(&[2, 5, 29, 32], certificate_policies(policy))];
    let key = SubjectPublicKeyInfo::from_der(&spki(key())).unwrap();
    params.signed_by(&key, &issuer).unwrap().pem()
}

/// CertificatePolicies with one policy (RFC 5280 section 4.2.1.4), DER.
fn certificate_policies(policy: &[u64]) -> Vec<u8> {
    use der::{Encode as _, asn1::ObjectIdentifier};
    let oid: Vec<String> = policy.iter().map(ToString::to_string).collect();
    let oid = ObjectIdentifier::new(&oid.join(".")).unwrap().to_der().unwrap();
    let sequence = |content: &[u8]| [&[0x30, u8::try_from(content.len()).unwrap()], content].concat();
    sequence(&sequence(&oid))
}

const TEST_ISSUER: (&str, &str) = ("Commfides Norge AS", "Commfides Legal Person - G3 - TEST");
const TEST_POLICY: &[u64] = &[2, 16, 578, 1, 29, 913, 200, 1, 0];

#[tokio::test]
async fn a_test_certificate_in_production_is_found_and_one_in_test_is_not_held_against_it() {
    let stand = Stand::new().await;
    stand.write("key.pem", key().serialize_pem());
    stand.write("certificate.pem", issued_by(TEST_ISSUER.0, TEST_ISSUER.1, TEST_POLICY));
    for (environment, wrong) in [("prod", true), ("test", false)] {
        let config = format!(
            "schema = 1\n[signers.k]\nkey = \"file:key.pem\"\n[clients.c]\nenvironment = \"{environment}\"\n\
             client_id = \"0b1c2d3e-0000-4000-8000-000000000001\"\nsigner = \"k\"\ncertificate = \"certificate.pem\"\n\
             [tokens.t]\nclient = \"c\"\nscopes = [\"toll:movement/road/v2\"]\nexchange = \"customs\"\n"
        );
        let examined = Examined::of(&stand, &config, &[], &[]).await;
        if wrong {
            examined.says("certificate's environment", "failure", "belongs to test", "MP-120");
            assert_eq!(examined.code, Some(2), "{:#}", examined.report);
        } else {
            assert!(examined.bad("certificate's environment").is_empty(), "{:#}", examined.report);
            assert_eq!(examined.report["failures"], 0, "{:#}", examined.report);
        }
        // Its issuer's certificate is not in the file.
        examined.says("chain", "warning", "Commfides Legal Person - G3 - TEST", "fetch-chain");
    }
}

#[tokio::test]
async fn a_certificate_that_is_for_encryption_or_has_expired_is_found() {
    let stand = Stand::new().await;
    for (profile, said) in [(Profile::Encryption, "encryption"), (Profile::Expired, "expired")] {
        let issued = ca().issue_for(&spki(key()), Clients::ORGANISATION, profile).unwrap();
        let config = stand.client_with(&issued);
        let examined = Examined::of(&stand, &config, &[], &[]).await;
        assert_eq!(examined.code, Some(2), "{:#}", examined.report);
        let findings = examined.report["findings"].as_array().unwrap();
        let named = findings.iter().any(|finding| {
            finding["verdict"] == "failure" && finding["reason"].as_str().unwrap().contains(said)
        });
        assert!(named, "{said}: {:#}", examined.report);
    }
}

#[tokio::test]
async fn a_misspelt_scope_and_a_missing_exchange_are_pointed_out() {
    let stand = Stand::new().await;
    let (config, _) = stand.certificate_client();
    let misspelt = config.replace("toll:movement/road/v2", "toll:movment/road/v2");
    let examined = Examined::of(&stand, &misspelt, &["maskinporten"], &[]).await;
    examined.says("scope", "warning", "did you mean toll:movement/road/v2?", "segl scopes");
    assert!(examined.bad("scope")[0]["reason"].as_str().unwrap().starts_with("toll:movment/road/v2: "));
    let real = config.replace("environment = \"sandbox\"", "environment = \"prod\"");
    let examined = Examined::of(&stand, &real, &["maskinporten"], &[]).await;
    examined.says("exchange", "warning", "wants another authority's token", "exchange = \"customs\"");
}

#[tokio::test]
async fn a_scope_that_was_replaced_or_does_not_work_yet_is_one_finding() {
    let stand = Stand::new().await;
    let (config, _) = stand.certificate_client();
    for (scope, said, remedy) in [
        ("toll:movement/road", "has been replaced by toll:movement/road/v2", "Add toll:movement/road/v2"),
        ("toll:declaration.feed", "is not ready", "by now"),
    ] {
        let config = config.replace("toll:movement/road/v2", scope);
        let examined = Examined::of(&stand, &config, &["maskinporten"], &[]).await;
        examined.says("scope", "warning", said, remedy);
        let of_it =
            examined.all("scope").into_iter().filter(|it| it["reason"].as_str().unwrap().contains(scope));
        assert_eq!(of_it.count(), 1, "{:#}", examined.report);
    }
}

#[tokio::test]
async fn a_customer_that_is_the_own_organisation_is_found() {
    let stand = Stand::new().await;
    let (config, _) = stand.certificate_client();
    let own = format!("[tokens.maskinporten]\nconsumer_org = \"{}\"", Clients::ORGANISATION);
    let examined =
        Examined::of(&stand, &config.replace("[tokens.maskinporten]", &own), &["maskinporten"], &[]).await;
    examined.says("grant", "failure", "is the organisation that signs", "");
}

/// The table's last column names the tests that hold it.
#[test]
fn every_mistake_in_the_table_has_its_end_and_its_test() {
    let page = include_str!("../../docs/mistakes.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let numbers: std::collections::BTreeSet<u32> =
        rows.iter().map(|row| row[0].trim_end_matches(char::is_alphabetic).parse().unwrap()).collect();
    assert_eq!(numbers, (1..=15).collect());
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for row in rows {
        let [_, _, end, how, test] = row.as_slice() else { panic!("{row:?}") };
        assert!(["found by doctor", "cannot be written", "seen only online"].contains(end), "{row:?}");
        assert!(!how.is_empty(), "{row:?}");
        let (file, name) = test.trim_matches('`').split_once("::").unwrap_or_else(|| panic!("{row:?}"));
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert!(source.contains(&format!("fn {name}(")), "{file} has no test {name}");
    }
}
