//! European eSeals, whose grants name no client.

use segl::sandbox::EsealSpelling;

use super::*;

const EU_ROAD: &str = "toll:eu/movement/road/v2";

impl Stand {
    /// A good grant with an eSeal of `profile`, its whole chain in it.
    fn by_seal(&self, profile: Profile) -> Grant {
        let issued = seal(profile);
        let x5c = [&issued.leaf, &issued.issuing, &issued.root].map(|der| STANDARD.encode(der));
        let grant = self.by_x5c(Profile::Seid2).header("x5c", x5c.to_vec());
        grant.set("iss", "Norrbottens Åkeri AB").set("scope", EU_ROAD)
    }
}

fn seal(profile: Profile) -> segl::sandbox::Issued {
    let ca = ca().clone().with_clock(ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW)));
    ca.issue_for(&spki(), Clients::ORGANISATION, profile).unwrap()
}

#[tokio::test]
async fn a_seal_gets_a_token_that_names_its_holder_and_customs_exchanges_it() {
    let stand = Stand::new().await;
    let answer = stand.send(&stand.by_seal(Profile::Seal)).await;
    assert!(answer.header("segl-sandbox-guess").contains("of an eSeal"));
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let claims = claims(&token);
    let client_id = claims["client_id"].as_str().unwrap();
    let serial = client_id.strip_prefix("eidas-").unwrap();
    assert!(serial.len() > 30 && serial.bytes().all(|byte| byte.is_ascii_digit()), "{client_id}");
    assert_eq!(claims["client_amr"], "QCForESeal");
    assert_eq!(
        claims["consumer"],
        json!({
            "authority": "etsi-en-319-412",
            "ID": "VATSE-556012345601",
            "commonName": "SEGL SANDBOX TEST",
            "organizationName": "SEGL SANDBOX TEST",
            "countryName": "SE",
        })
    );
    let exchanged = stand.exchange_at_customs(&token).await;
    assert_eq!(exchanged.status, StatusCode::OK, "{}", exchanged.body);
    assert_eq!(stand.test_auth(exchanged.json()["access_token"].as_str().unwrap(), "v2").await, 200);
    assert_eq!(stand.exchange_at_altinn(&token, &[]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_spelling_of_the_prose_can_be_had_too() {
    let stand = Stand::new().await;
    stand.sandbox.turn(|knobs| knobs.eseal_spelling = EsealSpelling::Prose);
    let claims = claims(&stand.token(&stand.by_seal(Profile::SealAdvanced)).await);
    assert_eq!(
        (&claims["client_amr"], &claims["consumer"]["authority"]),
        (&json!("CForeSeals"), &json!("etsi_en_119_612"))
    );
}

#[tokio::test]
async fn what_stands_in_iss_does_not_matter_to_a_seal() {
    let stand = Stand::new().await;
    for iss in ["anybody", Clients::KEY_CLIENT, Clients::CERTIFICATE_CLIENT] {
        stand.token(&stand.by_seal(Profile::Seal).set("iss", iss)).await;
    }
    stand.send(&stand.by_seal(Profile::Seal).without("iss")).await.refused("invalid_request", "MP-011");
}

#[tokio::test]
async fn the_scope_for_a_first_try_is_given_and_cannot_be_exchanged() {
    let stand = Stand::new().await;
    let token = stand.token(&stand.by_seal(Profile::Seal).set("scope", Clients::VERKSEMD)).await;
    let answer = stand.exchange_at_customs(&token).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("Not authorized to request scope digdir:verksemd.eu"), "{}", answer.body);
}

#[tokio::test]
async fn each_reason_to_refuse_a_seal_has_a_code_and_says_that_it_is_a_guess() {
    let stand = Stand::new().await;
    let good = || stand.by_seal(Profile::Seal);
    let alone = json!([good().header["x5c"][0]]);
    let stranger = TestCa::ephemeral().unwrap();
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW));
    let unlisted =
        stranger.with_clock(clock).issue_for(&spki(), Clients::ORGANISATION, Profile::Seal).unwrap();
    let unlisted =
        [&unlisted.leaf, &unlisted.issuing, &unlisted.root].map(|der| STANDARD.encode(der)).to_vec();
    for (grant, error, text) in [
        (good().header("x5c", alone), "invalid_grant", "without the chain above it. MP-123"),
        (good().header("x5c", unlisted), "invalid_grant", "on no trusted list. MP-120"),
        (stand.by_seal(Profile::SealNameless), "invalid_grant", "it is missing. MP-122"),
        (stand.by_seal(Profile::SealExpired), "invalid_grant", "it expired on "),
        (good().set("scope", ROAD), "invalid_scope", "not open to eSeals: toll:movement/road/v2. MP-200"),
        (good().set("consumer_org", Clients::CUSTOMER), "invalid_request", "not available to eSeals. MP-011"),
        (good().header("kid", KID), "invalid_grant", "Both kid and x5c"),
        (good().set("aud", "https://test.maskinporten.no/"), "invalid_grant", "MP-110"),
    ] {
        stand.send(&grant).await.refused(error, text);
    }
    let signed_by_another = good().sign_with(&new_key(), &RSA_PKCS1_SHA256);
    stand.post_assertion(&signed_by_another).await.refused("invalid_grant", "MP-124");
    let once = good().sign();
    assert_eq!(stand.post_assertion(&once).await.status, StatusCode::OK);
    stand.post_assertion(&once).await.refused("invalid_grant", "MP-012");
}

#[tokio::test]
async fn a_norwegian_certificate_is_no_seal_and_a_registered_client_has_no_scope_of_seals() {
    let stand = Stand::new().await;
    stand.send(&stand.by_x5c(Profile::Seid2).set("scope", EU_ROAD)).await.refused("invalid_scope", "MP-200");
    stand.send(&stand.by_kid().set("scope", EU_ROAD)).await.refused("invalid_scope", "MP-200");
    let stranger = stand.by_x5c(Profile::Seid2).set("iss", "unknown");
    stand.send(&stranger).await.refused("invalid_grant", "MP-100");
    stand.send(&stranger.set("scope", EU_ROAD)).await.refused("invalid_grant", "on no trusted list. MP-120");
}

#[tokio::test]
async fn issuers_of_ones_own_are_trusted_beside_the_test_cas() {
    let own = TestCa::ephemeral().unwrap();
    let options = Options { seal_issuers: vec![own.seal_issuing().to_vec()], ..Options::default() };
    let stand = Stand::with(options).await;
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW));
    let issued = own.with_clock(clock).issue_for(&spki(), Clients::ORGANISATION, Profile::Seal).unwrap();
    let x5c = [&issued.leaf, &issued.issuing].map(|der| STANDARD.encode(der)).to_vec();
    let answer = stand.send(&stand.by_seal(Profile::Seal).header("x5c", x5c)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(answer.header("segl-sandbox-guess").contains("chain without its root accepted"));
    stand.token(&stand.by_seal(Profile::Seal)).await;
    for odd in [b"0".to_vec(), seal(Profile::Seal).leaf] {
        let options = Options { seal_issuers: vec![odd], ca: Some(ca().clone()), ..Options::default() };
        assert!(matches!(Sandbox::start_with(options).await, Err(Error::SealIssuer(_))));
    }
}

#[tokio::test]
async fn customs_exchanges_only_for_those_it_knows_where_it_has_a_list() {
    let clients = |known: &str| {
        let text = format!(
            "schema = 1\n[scopes.\"{EU_ROAD}\"]\neseal = true\n[customs]\nregistered = [\"{known}\"]\n"
        );
        Clients::from_toml(&text).unwrap()
    };
    for (known, status) in [(Clients::FOREIGN_ORGANISATION, 200), ("NTRDE-HRB1", 403)] {
        let stand = Stand::with(Options { clients: clients(known), ..Options::default() }).await;
        let token = stand.token(&stand.by_seal(Profile::Seal)).await;
        assert_eq!(stand.exchange_at_customs(&token).await.status, status, "{known}");
    }
}
