use std::collections::BTreeSet;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use segl::sandbox::{AltinnBody, Clients};
use serde_json::{Value, json};

use crate::stand::{KID, PID, Said, Stand, now, part};

const ROAD: &str = "toll:movement/road/v2";

#[tokio::test]
async fn a_client_with_a_registered_key_gets_a_maskinporten_token() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let said = stand.segl(&["token", "maskinporten"]).await;
    let claims = part(said.token(), 1);
    assert_eq!(claims["iss"], stand.sandbox.issuer());
    assert_eq!(claims["client_amr"], "private_key_jwt");
    assert_eq!(claims["client_id"], Clients::KEY_CLIENT);
    assert_eq!(claims["scope"], ROAD);
    assert_eq!(claims["consumer"]["ID"], format!("0192:{}", Clients::ORGANISATION));
    let counters = stand.sandbox.counters();
    assert_eq!((counters.token.hits, counters.token.served), (1, 1));
}

#[tokio::test]
async fn a_grant_has_the_documented_header_and_claims_and_nothing_else() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let said = stand.segl(&["grant", "road"]).await;
    let grant = said.token();
    assert_eq!(part(grant, 0), json!({ "alg": "RS256", "kid": KID }));
    let claims = part(grant, 1);
    let names: BTreeSet<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["aud", "exp", "iat", "iss", "jti", "scope"]));
    assert_eq!(claims["aud"], stand.sandbox.issuer());
    assert_eq!(claims["iss"], Clients::KEY_CLIENT);
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(exp - iat == 60 && iat.abs_diff(now()) < 60, "{claims}");
    let other = stand.segl(&["grant", "road"]).await;
    assert_ne!(part(other.token(), 1)["jti"], claims["jti"]);
    assert_eq!(stand.sandbox.counters(), Default::default(), "a grant is not sent");
}

#[tokio::test]
async fn a_client_with_a_certificate_sends_leaf_and_issuing_ca_and_leaves_the_root_out() {
    let stand = Stand::new().await;
    let (config, issued) = stand.certificate_client();
    stand.configure(&config);
    let header = part(stand.segl(&["grant", "maskinporten"]).await.token(), 0);
    let sent = json!([STANDARD.encode(&issued.leaf), STANDARD.encode(&issued.issuing)]);
    assert_eq!(header, json!({ "alg": "RS256", "x5c": sent }));

    let claims = part(stand.segl(&["token", "maskinporten"]).await.token(), 1);
    assert_eq!(claims["client_amr"], "virksomhetssertifikat");
    assert_eq!(claims["client_id"], Clients::CERTIFICATE_CLIENT);
}

#[tokio::test]
async fn a_customs_token_is_exchanged_tried_and_then_comes_from_the_cache() {
    let stand = Stand::new().await;
    let (config, _) = stand.certificate_client();
    for config in [stand.key_client(), config] {
        stand.configure(&config);
        let before = stand.sandbox.counters();
        let said = stand.segl(&["probe", "road"]).await;
        let lines: Vec<&str> = said.done().lines().collect();
        let [key, token, call, again] = lines[..] else { panic!("{said:?}") };
        assert!(key.starts_with("key    key file; "), "{key}");
        assert!(token.contains("Maskinporten issued one, Customs exchanged it; toll:movement/road/v2 for 9"));
        let url = format!("{}/api/movement/road/v2/test-auth", stand.sandbox.customs());
        assert!(call.contains(&format!("GET {url} answered 200")), "{call}");
        assert!(again.contains("from the cache; the key was not touched"), "{again}");
        let after = stand.sandbox.counters();
        assert_eq!(after.token.served - before.token.served, 1);
        assert_eq!(after.customs_exchange.served - before.customs_exchange.served, 1);
        assert_eq!(after.customs_test_auth.served - before.customs_test_auth.served, 1);
        assert_eq!(after.token.refused + after.customs_exchange.refused, 0);
    }
    let said = stand.segl(&["token", "road"]).await;
    assert!(said.token().starts_with("segl-sandbox-customs."));
}

#[tokio::test]
async fn a_customs_token_without_a_test_call_is_proven_by_its_exchange() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let said = stand.segl(&["probe", "road", "--scope", "toll:movement/air"]).await;
    assert!(said.done().contains("Customs offers no test call for these scopes"), "{said:?}");
    assert_eq!(stand.sandbox.counters().customs_test_auth.hits, 0);
}

#[tokio::test]
async fn an_altinn_token_is_the_same_whether_it_comes_quoted_or_bare() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    for body in [AltinnBody::Quoted, AltinnBody::Bare, AltinnBody::ByAccept] {
        stand.sandbox.turn(|knobs| knobs.altinn_body = body);
        let said = stand.segl(&["token", "instances"]).await;
        let claims = part(said.token(), 1);
        assert_eq!(claims["iss"], format!("{}/authentication/api/v1/openid/", stand.sandbox.altinn()));
        assert_eq!(claims["urn:altinn:orgNumber"], Clients::ORGANISATION);
        let answer = stand.segl(&["token", "instances", "--output", "json"]).await.json();
        // Altinn says nothing of a life; it is read from the token.
        assert!((1_700..=1_800).contains(&answer["expires_in"].as_u64().unwrap()), "{body:?}");
        assert_eq!(answer["scope"], "altinn:serviceowner/instances.read");
    }
    let said = stand.segl(&["probe", "instances"]).await;
    assert!(said.done().contains("Maskinporten issued one, Altinn exchanged it"), "{said:?}");
    assert!(said.done().contains("from the cache; the key was not touched"), "{said:?}");
}

#[tokio::test]
async fn a_token_is_printed_alone_as_json_or_as_a_header() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let ask = async |output: &str| stand.segl(&["token", "maskinporten", "--output", output]).await;
    assert_eq!(part(ask("token").await.token(), 1)["token_type"], "Bearer");
    let answer = ask("json").await.json();
    assert_eq!(part(answer["access_token"].as_str().unwrap(), 1)["scope"], ROAD);
    assert_eq!((&answer["token_type"], &answer["scope"]), (&json!("Bearer"), &json!(ROAD)));
    assert!((100..120).contains(&answer["expires_in"].as_u64().unwrap()), "{}", answer["expires_in"]);
    assert_eq!((&answer["delivery"], answer.as_object().unwrap().len()), (&json!("fresh"), 5));
    let header = ask("header").await;
    let token = header.done().strip_prefix("Authorization: Bearer ").unwrap();
    assert_eq!(part(token, 1)["iss"], stand.sandbox.issuer());
}

#[tokio::test]
async fn decoding_shows_header_and_claims_and_hides_the_signature() {
    let stand = Stand::new().await;
    let (config, _) = stand.certificate_client();
    for config in [stand.key_client(), config] {
        stand.configure(&config);
        for command in ["grant", "token"] {
            let whole = stand.segl(&[command, "maskinporten"]).await;
            let signature = whole.token().rsplit('.').next().unwrap().len();
            assert_eq!(signature, 342, "2048 bits");
            let said = stand.segl(&[command, "maskinporten", "--decode"]).await;
            let shown = said.json();
            assert_eq!(shown["signature"], "(hidden)");
            assert_eq!(shown["header"]["alg"], "RS256");
            assert_eq!(shown["claims"]["scope"], ROAD);
            assert!(longest_base64(&said) < 64, "{said:?}");
        }
    }
    let said = stand.segl(&["token", "road", "--decode"]).await;
    assert!(said.done().starts_with("The token is opaque: its "), "{said:?}");
    assert!(!said.out.contains("segl-sandbox-customs"), "{said:?}");
}

/// Each grant has a signature of its own, but one that can be made again: RS256 is deterministic.
#[tokio::test]
async fn the_signature_of_a_decoded_grant_is_not_shown_in_any_piece() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let whole = stand.segl(&["grant", "maskinporten"]).await;
    let (header, claims) = (part(whole.token(), 0), part(whole.token(), 1));
    assert_eq!(whole.token(), signed_again(&header, &claims), "or this test proves nothing");

    let said = stand.segl(&["grant", "maskinporten", "--decode"]).await;
    let shown = said.json();
    let grant = signed_again(&shown["header"], &shown["claims"]);
    let signature = grant.rsplit('.').next().unwrap();
    for at in 0..signature.len() - 12 {
        assert!(!said.out.contains(&signature[at..at + 12]), "{said:?}");
    }
}

#[tokio::test]
async fn a_supplier_names_its_customer_and_the_token_names_both() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let ask = ["token", "maskinporten", "--consumer-org", Clients::CUSTOMER];
    let claims = part(stand.segl(&ask).await.token(), 1);
    assert_eq!(claims["consumer"]["ID"], format!("0192:{}", Clients::CUSTOMER));
    assert_eq!(claims["supplier"]["ID"], format!("0192:{}", Clients::ORGANISATION));

    let said = stand.segl(&["token", "maskinporten", "--consumer-org", "313005004"]).await;
    let (what, remedy) = said.failed(2);
    assert!(what.contains("consumer_org") && remedy.contains("consumer_org"), "{said:?}");
    assert_eq!(stand.sandbox.counters().token.hits, 1, "a wrong number is not sent");
}

#[tokio::test]
async fn a_person_is_named_as_an_argument_or_on_standard_input_and_never_in_the_log() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    for (argument, input) in [(PID, ""), ("-", "01811210028\n")] {
        let said = stand.segl_with(&["-vv", "token", "maskinporten", "--pid", argument], &[], input).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(part(&said.out, 1)["pid"], PID);
        assert!(!said.err.contains(PID), "{said:?}");
    }
    for (argument, input) in [("0181121002", ""), ("-", "0181121002\n")] {
        let said = stand.segl_with(&["-vv", "token", "maskinporten", "--pid", argument], &[], input).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("pid") && !said.err.contains("0181121002"), "{said:?}");
    }
}

#[tokio::test]
async fn scopes_on_the_command_line_take_the_place_of_the_configured_ones() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let ask = ["token", "maskinporten", "--scope", "toll:movement/rail", "--scope", "toll:movement/air"];
    let claims = part(stand.segl(&ask).await.token(), 1);
    assert_eq!(claims["scope"], "toll:movement/air toll:movement/rail");
}

/// The longest run of base64 letters.
fn longest_base64(said: &Said) -> usize {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_+/=".contains(c);
    said.out.split(|c| !is_letter(c)).map(str::len).max().unwrap_or_default()
}

/// The grant with this header and these claims, its members in the order in which grants are made.
fn signed_again(header: &Value, claims: &Value) -> String {
    let header = format!(r#"{{"alg":{},"kid":{}}}"#, header["alg"], header["kid"]);
    let claims = format!(
        r#"{{"aud":{},"iss":{},"scope":{},"iat":{},"exp":{},"jti":{}}}"#,
        claims["aud"], claims["iss"], claims["scope"], claims["iat"], claims["exp"], claims["jti"]
    );
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let pair = aws_lc_rs::signature::RsaKeyPair::from_pkcs8(crate::stand::key().serialized_der()).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(&aws_lc_rs::signature::RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}
