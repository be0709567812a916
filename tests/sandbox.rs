//! The sandbox over HTTP, against grants made by hand: none of the client's code is used here.

#![cfg(feature = "sandbox")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

#[path = "sandbox/eseal.rs"]
mod eseal;
#[path = "sandbox/examiner.rs"]
mod examiner;

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, OnceLock},
    time::{Duration, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use reqwest::{Response, StatusCode, header::HeaderMap};
use segl::{
    clock::ManualClock,
    sandbox::{
        AltinnBody, Authority, Clients, CodePosition, CustomsError, Error, Options, Ports, Profile, Sandbox,
        TestCa,
    },
};
use serde_json::{Map, Value, json};

const NOW: u64 = 1_800_000_000;
const KID: &str = "key-2026";
const ROAD: &str = "toll:movement/road/v2";
const INSTANCES: &str = "altinn:serviceowner/instances.read";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const PID: &str = "01811210028";

/// A sandbox with a registered key, a clock by hand, and what a test needs to talk to it.
struct Stand {
    sandbox: Sandbox,
    clock: Arc<ManualClock>,
    http: reqwest::Client,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

/// A grant that can be spoilt before it is signed.
#[derive(Clone)]
struct Grant {
    header: Value,
    claims: Map<String, Value>,
}

impl Stand {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW));
        let options = Options { ca: Some(ca().clone()), clock: Some(clock.clone()), ..options };
        let sandbox = Sandbox::start_with(options).await.unwrap();
        if let Err(error) = sandbox.register_key(Clients::KEY_CLIENT, KID, &spki()) {
            // Tests with clients of their own register their own keys.
            assert!(matches!(error, Error::Key(_)));
        }
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { sandbox, clock, http }
    }

    /// A good grant of the client with a registered key.
    fn by_kid(&self) -> Grant {
        let mut grant = self.by_x5c(Profile::Seid2);
        grant.header = json!({ "alg": "RS256", "kid": KID });
        grant.set("iss", Clients::KEY_CLIENT)
    }

    /// A grant of the certificate client, with a certificate of `profile`.
    fn by_x5c(&self, profile: Profile) -> Grant {
        let ca = ca().clone().with_clock(ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW)));
        let issued = ca.issue_for(&spki(), Clients::ORGANISATION, profile).unwrap();
        let x5c: Vec<String> = issued.chain().iter().map(|der| STANDARD.encode(der)).collect();
        let claims = json!({
            "aud": self.sandbox.issuer(),
            "iss": Clients::CERTIFICATE_CLIENT,
            "scope": ROAD,
            "iat": NOW,
            "exp": NOW + 60,
            "jti": uuid::Uuid::new_v4().to_string(),
        });
        let Value::Object(claims) = claims else { unreachable!() };
        Grant { header: json!({ "alg": "RS256", "x5c": x5c }), claims }
    }

    async fn send(&self, grant: &Grant) -> Answer {
        self.post_assertion(&grant.sign()).await
    }

    async fn post_assertion(&self, assertion: &str) -> Answer {
        self.post_form(&[("grant_type", JWT_BEARER), ("assertion", assertion)]).await
    }

    async fn post_form(&self, fields: &[(&str, &str)]) -> Answer {
        let url = format!("{}token", self.sandbox.issuer());
        read(self.http.post(url).headers(form_type()).body(form(fields)).send().await.unwrap()).await
    }

    async fn token(&self, grant: &Grant) -> String {
        let answer = self.send(grant).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn customs(&self, fields: &[(&str, &str)]) -> Answer {
        let url = format!("{}/api/access/external/oauth/token", self.sandbox.customs());
        read(self.http.post(url).headers(form_type()).body(form(fields)).send().await.unwrap()).await
    }

    async fn exchange_at_customs(&self, token: &str) -> Answer {
        let fields = [
            ("grant_type", "token-exchange"),
            ("subject_token_type", "access_token"),
            ("subject_token", token),
        ];
        self.customs(&fields).await
    }

    async fn get(&self, url: &str, bearer: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut request = self.http.get(url).header("authorization", format!("Bearer {bearer}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send().await.unwrap()).await
    }

    async fn exchange_at_altinn(&self, token: &str, headers: &[(&'static str, &str)]) -> Answer {
        let url = format!("{}/authentication/api/v1/exchange/maskinporten", self.sandbox.altinn());
        self.get(&url, token, headers).await
    }

    async fn test_auth(&self, token: &str, version: &str) -> StatusCode {
        let url = format!("{}/api/movement/road/{version}/test-auth", self.sandbox.customs());
        self.get(&url, token, &[]).await.status
    }
}

impl Grant {
    fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    fn sign(&self) -> String {
        self.sign_with(key(), &RSA_PKCS1_SHA256)
    }

    fn sign_with(&self, key: &KeyPair, padding: &'static dyn RsaEncoding) -> String {
        let part = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
        let header = self.header.to_string();
        let claims = Value::from(self.claims.clone()).to_string();
        let input = format!("{}.{}", part(header.as_bytes()), part(claims.as_bytes()));
        let pair = RsaKeyPair::from_pkcs8(key.serialized_der()).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
        format!("{input}.{}", part(&signature))
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// A refusal with this error and this text in its description.
    #[track_caller]
    fn refused(&self, error: &str, text: &str) {
        assert_eq!(self.status, StatusCode::BAD_REQUEST, "{}", self.body);
        let body = self.json();
        let description = body["error_description"].as_str().unwrap();
        assert!(body["error"] == error && description.contains(text), "{error}, {text}: {body}");
        assert!(description.contains("(trace_id: "), "{description}");
        assert!(!self.header("segl-sandbox-guess").is_empty());
    }
}

async fn read(response: Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, body: response.text().await.unwrap() }
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn form_type() -> HeaderMap {
    HeaderMap::from_iter([(
        reqwest::header::CONTENT_TYPE,
        reqwest::header::HeaderValue::from_static("application/x-www-form-urlencoded"),
    )])
}

fn ca() -> &'static TestCa {
    static CA: OnceLock<TestCa> = OnceLock::new();
    CA.get_or_init(|| TestCa::ephemeral().unwrap())
}

fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(new_key)
}

fn new_key() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

fn spki() -> Vec<u8> {
    key().subject_public_key_info()
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// Verifies `token` with the key it names in the key set at `url`.
async fn verify(stand: &Stand, token: &str, url: &str) {
    let keys: Value = stand.get(url, "", &[]).await.json();
    let (input, signature) = token.rsplit_once('.').unwrap();
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(input.split('.').next().unwrap()).unwrap()).unwrap();
    let key = &keys["keys"][0];
    assert_eq!(header["kid"], key["kid"]);
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let public = RsaPublicKeyComponents { n: number("n"), e: number("e") };
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    public.verify(&RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &signature).unwrap();
}

#[tokio::test]
async fn a_grant_by_kid_and_one_by_x5c_get_tokens_that_the_published_key_verifies() {
    let stand = Stand::new().await;
    let issuer = stand.sandbox.issuer().to_owned();
    for (grant, client, amr) in [
        (stand.by_kid(), Clients::KEY_CLIENT, "private_key_jwt"),
        (stand.by_x5c(Profile::Seid2), Clients::CERTIFICATE_CLIENT, "virksomhetssertifikat"),
        (stand.by_x5c(Profile::Seid1), Clients::CERTIFICATE_CLIENT, "virksomhetssertifikat"),
    ] {
        let answer = stand.send(&grant).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.header("server"), "segl-sandbox");
        let body = answer.json();
        assert_eq!(
            (&body["token_type"], &body["expires_in"], &body["scope"]),
            (&json!("Bearer"), &json!(119), &json!(ROAD))
        );
        let token = body["access_token"].as_str().unwrap();
        verify(&stand, token, &format!("{issuer}jwk")).await;
        let claims = claims(token);
        assert_eq!(claims["iss"], *issuer);
        assert_eq!(claims["client_id"], client);
        assert_eq!(claims["client_amr"], amr);
        assert_eq!(claims["exp"], NOW + 120);
        assert_eq!(claims["consumer"], json!({"authority": "iso6523-actorid-upis", "ID": "0192:312700018"}));
        assert_eq!(claims.get("aud"), None);
    }
    stand.sandbox.shutdown().await;
}

#[tokio::test]
async fn the_metadata_names_the_issuer_and_the_three_algorithms() {
    let stand = Stand::new().await;
    let issuer = stand.sandbox.issuer();
    let metadata =
        stand.get(&format!("{issuer}.well-known/oauth-authorization-server"), "", &[]).await.json();
    assert_eq!(metadata["issuer"], issuer);
    assert_eq!(metadata["token_endpoint"], format!("{issuer}token"));
    assert_eq!(
        metadata["token_endpoint_auth_signing_alg_values_supported"],
        json!(["RS256", "RS384", "RS512"])
    );
}

#[tokio::test]
async fn optional_claims_come_back_in_the_token() {
    let stand = Stand::new().await;
    let details = json!([{
        "type": "urn:altinn:systemuser",
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": "0192:313005003" },
    }]);
    let grant = stand
        .by_kid()
        .set("resource", json!(["https://api.example.no/"]))
        .set("pid", PID)
        .set("consumer_org", Clients::CUSTOMER)
        .set("authorization_details", details);
    let claims = claims(&stand.token(&grant).await);
    assert_eq!(claims["aud"], json!(["https://api.example.no/"]));
    assert_eq!(claims["pid"], PID);
    assert_eq!(claims["consumer"]["ID"], "0192:313005003");
    assert_eq!(claims["supplier"]["ID"], "0192:312700018");
    assert!(claims["delegation_source"].is_string());
    assert_eq!(claims["authorization_details"][0]["systemuser_id"].as_array().unwrap().len(), 1);
    let plain = stand.by_kid().set("resource", "https://api.example.no/");
    assert_eq!(self::claims(&stand.token(&plain).await)["aud"], "https://api.example.no/");
}

#[tokio::test]
async fn a_form_that_is_not_the_documented_one_is_refused() {
    let stand = Stand::new().await;
    let good = stand.by_kid().sign();
    let grant_type = ("grant_type", JWT_BEARER);
    let assertion = ("assertion", good.as_str());
    for (fields, error) in [
        (vec![("grant_type", "client_credentials"), assertion], "unsupported_grant_type"),
        (vec![grant_type], "invalid_request"),
        (vec![assertion], "invalid_request"),
        (vec![grant_type, assertion, ("scope", ROAD)], "invalid_request"),
        (vec![grant_type, assertion, assertion], "invalid_request"),
    ] {
        stand.post_form(&fields).await.refused(error, "");
    }
    let url = format!("{}token", stand.sandbox.issuer());
    let json =
        stand.http.post(&url).header("content-type", "application/json").body("{}").send().await.unwrap();
    read(json).await.refused("invalid_request", "content type");
    assert_eq!(stand.get(&url, "", &[]).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let huge = stand.post_form(&[grant_type, ("assertion", &"a".repeat(70_000))]).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    // None of these used the grant up.
    assert_eq!(stand.post_assertion(&good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn mp_011_is_for_what_is_no_jwt_or_has_a_wrong_value_and_unknown_claims_have_no_code() {
    let stand = Stand::new().await;
    let good = stand.by_kid();
    stand.post_assertion("no.jwt").await.refused("invalid_request", "MP-011");
    stand.send(&good.clone().set("pid", "123")).await.refused("invalid_request", "MP-011");
    stand.send(&good.clone().without("exp")).await.refused("invalid_request", "MP-011");
    let unknown = stand.send(&good.clone().set("consumer_orgno", "313005003")).await;
    unknown.refused("invalid_request", "Invalid assertion");
    assert!(!unknown.body.contains("MP-"), "{}", unknown.body);
    for (iat, exp) in [(NOW, NOW + 121), (NOW + 9, NOW + 5)] {
        stand.send(&good.clone().set("iat", iat).set("exp", exp)).await.refused("invalid_request", "MP-011");
    }
    stand.send(&good.header("alg", "PS256")).await.refused("invalid_grant", "algorithm");
}

#[tokio::test]
async fn mp_012_is_for_a_grant_that_was_used_before() {
    let stand = Stand::new().await;
    let grant = stand.by_kid();
    assert_eq!(stand.send(&grant).await.status, StatusCode::OK);
    stand.send(&grant).await.refused("invalid_grant", "Grant is used before. MP-012");
    let same_jti = grant.clone().set("iat", NOW - 1);
    stand.send(&same_jti).await.refused("invalid_grant", "MP-012");
    let without_jti = stand.by_kid().without("jti");
    assert_eq!(stand.send(&without_jti).await.status, StatusCode::OK);
    stand.send(&without_jti).await.refused("invalid_grant", "MP-012");
}

#[tokio::test]
async fn mp_100_is_for_an_unknown_client() {
    let stand = Stand::new().await;
    stand
        .send(&stand.by_kid().set("iss", "unknown"))
        .await
        .refused("invalid_grant", "Client not found. MP-100");
}

#[tokio::test]
async fn mp_110_is_for_every_audience_but_the_issuer() {
    let stand = Stand::new().await;
    let issuer = stand.sandbox.issuer().to_owned();
    let slashless = issuer.trim_end_matches('/');
    let odd = [
        json!(slashless),
        json!(format!("{issuer}token")),
        json!("https://maskinporten.no/"),
        json!([issuer, "https://maskinporten.no/"]),
        json!([]),
    ];
    for aud in odd {
        stand
            .send(&stand.by_kid().set("aud", aud))
            .await
            .refused("invalid_grant", "Invalid JWT claim aud. MP-110");
    }
    assert_eq!(stand.send(&stand.by_kid().set("aud", json!([issuer]))).await.status, StatusCode::OK);
    stand.sandbox.turn(|knobs| knobs.tolerate_aud_no_slash = true);
    assert_eq!(stand.send(&stand.by_kid().set("aud", slashless)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_key_must_be_named_the_way_the_client_is_registered() {
    let stand = Stand::new().await;
    let unknown = stand.by_kid().header("kid", "other");
    stand.send(&unknown).await.refused("invalid_grant", "Unknown key identifier (kid) for client");
    let certificate_client = stand.by_kid().set("iss", Clients::CERTIFICATE_CLIENT);
    stand.send(&certificate_client).await.refused("invalid_grant", "Unknown key identifier (kid) for client");
    let with_certificate = stand.by_x5c(Profile::Seid2).set("iss", Clients::KEY_CLIENT);
    let required = "The client requires pre-registered jwk and no key identifier (kid) provided";
    stand.send(&with_certificate).await.refused("invalid_grant", required);
    let both = stand.by_x5c(Profile::Seid2).header("kid", KID);
    stand.send(&both).await.refused("invalid_grant", "Both kid and x5c");
}

#[tokio::test]
async fn mp_120_is_for_certificates_that_are_not_this_cas_or_not_for_authentication_now() {
    let stand = Stand::new().await;
    for profile in [Profile::Expired, Profile::NotYetValid, Profile::Encryption] {
        stand.send(&stand.by_x5c(profile)).await.refused("invalid_grant", "MP-120");
    }
    let other = TestCa::ephemeral().unwrap();
    let foreign = other.issue_for(&spki(), Clients::ORGANISATION, Profile::Seid2).unwrap();
    let grant = stand.by_x5c(Profile::Seid2).header("x5c", json!([STANDARD.encode(&foreign.leaf)]));
    stand.send(&grant).await.refused("invalid_grant", "signed with an invalid certificate");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Commfides Legal Person - G3");
    let real = params.self_signed(key()).unwrap();
    let grant = grant.header("x5c", json!([STANDARD.encode(real.der())]));
    stand
        .send(&grant)
        .await
        .refused("invalid_grant", "a real certificate of Commfides was sent to a sandbox");
    let signing = stand.send(&stand.by_x5c(Profile::Signing)).await;
    assert_eq!(
        (signing.status, signing.header("segl-sandbox-guess")),
        (StatusCode::OK, "signing certificate accepted")
    );
}

#[tokio::test]
async fn mp_121_is_for_a_registered_key_past_its_end() {
    let stand = Stand::new().await;
    stand.sandbox.register_key_until(Clients::KEY_CLIENT, "short", &spki(), NOW + 30).unwrap();
    let grant = || stand.by_kid().header("kid", "short");
    assert_eq!(stand.send(&grant()).await.status, StatusCode::OK);
    stand.clock.advance(Duration::from_secs(30));
    stand.send(&grant()).await.refused("invalid_grant", "Expired key. MP-121");
}

#[tokio::test]
async fn mp_122_is_for_a_certificate_of_another_organisation() {
    let stand = Stand::new().await;
    let foreign = stand.send(&stand.by_x5c(Profile::Foreign)).await;
    foreign.refused("invalid_grant", "Does not match certificate orgno. MP-122");
    let issued = stand.sandbox.ca().issue_for(&spki(), Clients::CUSTOMER, Profile::Seid2).unwrap();
    let grant = stand.by_x5c(Profile::Seid2).header("x5c", json!([STANDARD.encode(issued.leaf)]));
    stand.send(&grant).await.refused("invalid_grant", "MP-122");
}

#[tokio::test]
async fn mp_123_is_for_an_x5c_that_is_no_array_of_certificates() {
    let stand = Stand::new().await;
    let good = stand.by_x5c(Profile::Seid2);
    let one = good.header["x5c"][0].clone();
    for odd in [one.clone(), json!([]), json!([1]), json!(["-----BEGIN CERTIFICATE-----"]), json!(["AAAA"])] {
        stand.send(&good.clone().header("x5c", odd)).await.refused("invalid_grant", "Invalid JWT header x5c");
    }
    let mut missing = good;
    missing.header = json!({ "alg": "RS256" });
    stand.send(&missing).await.refused("invalid_grant", "MP-123");
}

#[tokio::test]
async fn mp_124_is_for_a_signature_of_another_key_or_algorithm() {
    let stand = Stand::new().await;
    let grant = stand.by_kid();
    let other_key = grant.sign_with(&new_key(), &RSA_PKCS1_SHA256);
    stand.post_assertion(&other_key).await.refused("invalid_grant", "Invalid JWT signature. MP-124");
    let other_hash = grant.sign_with(key(), &RSA_PKCS1_SHA512);
    stand.post_assertion(&other_hash).await.refused("invalid_grant", "MP-124");
    let x5c = stand.by_x5c(Profile::Seid2).sign_with(&new_key(), &RSA_PKCS1_SHA256);
    stand.post_assertion(&x5c).await.refused("invalid_grant", "MP-124");
    let rs512 = grant.header("alg", "RS512").sign_with(key(), &RSA_PKCS1_SHA512);
    assert_eq!(stand.post_assertion(&rs512).await.status, StatusCode::OK);
}

#[tokio::test]
async fn mp_130_is_for_an_expired_grant_and_a_grant_from_the_future_is_told_so() {
    let stand = Stand::new().await;
    let old = stand.by_kid().set("iat", NOW - 60).set("exp", NOW);
    stand.send(&old).await.refused("invalid_grant", "JWT is expired. MP-130");
    let early = |by: u64| stand.by_kid().set("iat", NOW + by).set("exp", NOW + by + 60);
    stand.send(&early(11)).await.refused("invalid_grant", "Issue time is after now");
    assert_eq!(stand.send(&early(10)).await.status, StatusCode::OK);
    let stale = || stand.by_kid().set("iat", NOW - 11).set("exp", NOW + 60);
    let accepted = stand.send(&stale()).await;
    assert_eq!(
        (accepted.status, accepted.header("segl-sandbox-guess")),
        (StatusCode::OK, "old iat accepted")
    );
    stand.sandbox.turn(|knobs| knobs.strict_iat = true);
    stand.send(&stale()).await.refused("invalid_grant", "Issue time is too long ago");
}

#[tokio::test]
async fn mp_200_201_and_250_are_for_scopes_of_the_client_the_type_and_the_organisation() {
    let stand = Stand::new().await;
    let scope = |scope: &str| stand.by_kid().set("scope", scope);
    for name in [Clients::NOT_REGISTERED, "toll:movement/road/v2,toll:movement/air", "unknown"] {
        let text = "Token request contains invalid scopes for client. MP-200";
        stand.send(&scope(name)).await.refused("invalid_scope", text);
    }
    let text = format!("Consumer has not been granted access to the scope {}. MP-250", Clients::NOT_GRANTED);
    stand.send(&scope(Clients::NOT_GRANTED)).await.refused("invalid_scope", &text);
    let both = format!("{ROAD} {}", Clients::NOT_GRANTED);
    stand.send(&scope(&both)).await.refused("invalid_scope", "MP-250");
    let other_type = stand.by_x5c(Profile::Seid2).set("iss", Clients::OTHER_TYPE_CLIENT);
    stand.send(&other_type).await.refused("invalid_scope", "scopes not allowed for maskinporten. MP-201");
}

#[tokio::test]
async fn mp_251_is_for_a_customer_that_has_delegated_nothing() {
    let stand = Stand::new().await;
    let acting_for = |number: &str| stand.by_kid().set("consumer_org", number);
    let text = "Consumer 315550009 has not delegated access to the scope toll:movement/road/v2 to supplier 312700018";
    stand.send(&acting_for(Clients::STRANGER)).await.refused("invalid_scope", text);
    let own = "The combination consumer_org in claim and delegation scope on client is invalid";
    stand.send(&acting_for(Clients::ORGANISATION)).await.refused("invalid_request", own);
    let not_delegable = acting_for(Clients::CUSTOMER).set("scope", INSTANCES);
    stand.send(&not_delegable).await.refused("invalid_scope", "MP-251");
}

#[tokio::test]
async fn mp_301_302_and_303_are_for_authorization_details() {
    let stand = Stand::new().await;
    let org = |number: &str| json!({ "authority": "iso6523-actorid-upis", "ID": number });
    let system_user =
        |number: &str| json!([{ "type": "urn:altinn:systemuser", "systemuser_org": org(number) }]);
    for (details, error, code) in [
        (json!([{ "type": "urn:other" }]), "invalid_authorization_details", "MP-301"),
        (json!([{ "type": "urn:altinn:systemuser", "org": 1 }]), "invalid_authorization_details", "MP-302"),
        (system_user("313005003"), "invalid_authorization_details", "MP-303"),
        (system_user("0192:315550009"), "invalid_altinn_customer_configuration", "MP-303"),
    ] {
        stand.send(&stand.by_kid().set("authorization_details", details)).await.refused(error, code);
    }
}

#[tokio::test]
async fn a_customs_token_opens_the_test_call_and_lives_as_long_as_it_says() {
    let stand = Stand::new().await;
    let answer = stand.exchange_at_customs(&stand.token(&stand.by_kid()).await).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let body = answer.json();
    assert_eq!((&body["issued_token_type"], &body["expires_in"]), (&json!("access_token"), &json!(970)));
    let token = body["access_token"].as_str().unwrap();
    assert!(token.contains("sandbox"));
    assert_eq!(stand.test_auth(token, "v2").await, StatusCode::OK);
    assert_eq!(stand.test_auth(token, "v1").await, StatusCode::NOT_FOUND);
    assert_eq!(stand.test_auth("other", "v2").await, StatusCode::UNAUTHORIZED);
    stand.clock.advance(Duration::from_secs(969));
    assert_eq!(stand.test_auth(token, "v2").await, StatusCode::OK);
    stand.clock.advance(Duration::from_secs(1));
    assert_eq!(stand.test_auth(token, "v2").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_customs_token_without_a_road_scope_does_not_open_the_test_call() {
    let stand = Stand::new().await;
    let token = stand.token(&stand.by_kid().set("scope", "toll:movement/air")).await;
    let issued = stand.exchange_at_customs(&token).await.json();
    let issued = issued["access_token"].as_str().unwrap();
    assert_eq!(stand.test_auth(issued, "v2").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn customs_refuses_the_urns_of_rfc_8693_other_scopes_and_tokens_that_are_not_valid() {
    let stand = Stand::new().await;
    let token = stand.token(&stand.by_kid()).await;
    let urns = stand
        .customs(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token", &token),
        ])
        .await;
    assert_eq!(
        (urns.status, urns.json()["error"].clone()),
        (StatusCode::BAD_REQUEST, json!("unsupported_grant_type"))
    );
    let type_urn = stand
        .customs(&[
            ("grant_type", "token-exchange"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token", &token),
        ])
        .await;
    assert_eq!(type_urn.status, StatusCode::BAD_REQUEST);
    let instances = stand.token(&stand.by_kid().set("scope", INSTANCES)).await;
    let text = format!("Not authorized to request scope {INSTANCES}");
    let refused = stand.exchange_at_customs(&instances).await;
    assert_eq!(
        (refused.status, refused.json()["error_description"].clone()),
        (StatusCode::FORBIDDEN, json!(text))
    );
    stand.sandbox.turn(|knobs| knobs.customs_error = CustomsError::Text);
    assert_eq!(stand.exchange_at_customs(&instances).await.body, text);
    // Signed by the client instead of by Maskinporten.
    let forged = stand.by_kid().set("iss", stand.sandbox.issuer()).sign();
    assert_eq!(stand.exchange_at_customs(&forged).await.status, StatusCode::BAD_REQUEST);
    stand.clock.advance(Duration::from_secs(120));
    assert_eq!(stand.exchange_at_customs(&token).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn altinn_answers_bare_or_quoted_with_a_token_of_thirty_minutes() {
    let stand = Stand::new().await;
    let subject = stand.token(&stand.by_x5c(Profile::Seid2).set("scope", INSTANCES)).await;
    let bare = stand.exchange_at_altinn(&subject, &[]).await;
    assert_eq!((bare.status, bare.header("content-type")), (StatusCode::OK, "text/plain; charset=utf-8"));
    let keys = "/authentication/api/v1/openid/.well-known/openid-configuration/jwks";
    verify(&stand, &bare.body, &format!("{}{keys}", stand.sandbox.altinn())).await;
    let claims = claims(&bare.body);
    assert_eq!(claims["exp"], NOW + 1800);
    assert_eq!(claims["iss"], format!("{}/authentication/api/v1/openid/", stand.sandbox.altinn()));
    assert_eq!(claims["urn:altinn:orgNumber"], Clients::ORGANISATION);
    assert_eq!(claims["urn:altinn:org"], "ttd");
    assert_eq!(claims["urn:altinn:authlevel"], 3);
    assert_eq!(claims["consumer"]["ID"], "0192:312700018");
    assert_eq!(claims.get("client_amr"), None);
    let json = [("accept", "application/json")];
    let quoted = stand.exchange_at_altinn(&subject, &json).await.json();
    assert_eq!(quoted.as_str().unwrap().split('.').count(), 3);
    stand.sandbox.turn(|knobs| knobs.altinn_body = AltinnBody::Bare);
    assert!(!stand.exchange_at_altinn(&subject, &json).await.body.starts_with('"'));
}

#[tokio::test]
async fn altinn_flattens_a_single_system_user() {
    let stand = Stand::new().await;
    let details = json!([{
        "type": "urn:altinn:systemuser",
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": "0192:313005003" },
    }]);
    let subject = stand.token(&stand.by_kid().set("authorization_details", details)).await;
    let issued = stand.exchange_at_altinn(&subject, &[]).await.body;
    assert_eq!(claims(&issued)["authorization_details"]["type"], "urn:altinn:systemuser");
}

#[tokio::test]
async fn digdir_becomes_the_test_department_when_it_asks_to() {
    let clients = format!(
        r#"
        schema = 1
        [clients.digdir]
        organisation = "991825827"
        scopes = ["{INSTANCES}"]
        [scopes."{INSTANCES}"]
        accessible_for_all = true
        max_age = 3600
        [service_owners]
        "991825827" = "digdir"
        "#
    );
    let clients = Clients::from_toml(&clients).unwrap();
    let stand = Stand::with(Options { clients, ..Options::default() }).await;
    stand.sandbox.register_key("digdir", KID, &spki()).unwrap();
    let subject = stand.token(&stand.by_kid().set("iss", "digdir").set("scope", INSTANCES)).await;
    assert_eq!(claims(&subject)["exp"], NOW + 3600);
    for (query, code) in [("", "digdir"), ("?test=true", "ttd"), ("?test=false", "digdir")] {
        let url = format!("{}/authentication/api/v1/exchange/maskinporten{query}", stand.sandbox.altinn());
        assert_eq!(claims(&stand.get(&url, &subject, &[]).await.body)["urn:altinn:org"], code);
    }
}

#[tokio::test]
async fn altinn_refuses_other_methods_providers_tokens_and_the_enterprise_user() {
    let stand = Stand::new().await;
    let subject = stand.token(&stand.by_kid()).await;
    let url = format!("{}/authentication/api/v1/exchange/maskinporten", stand.sandbox.altinn());
    for method in [reqwest::Method::POST, reqwest::Method::HEAD] {
        let answer = stand.http.request(method, &url).bearer_auth(&subject).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    let other = stand.get(&url.replace("exchange/maskinporten", "exchange/other"), &subject, &[]).await;
    assert!(other.status == StatusCode::BAD_REQUEST && other.body.contains("maskinporten"));
    let gone = stand.exchange_at_altinn(&subject, &[("x-altinn-enterpriseuser-authentication", "x")]).await;
    assert_eq!(gone.status, StatusCode::GONE);
    let forged = stand.by_kid().set("iss", stand.sandbox.issuer()).sign();
    assert_eq!(stand.exchange_at_altinn(&forged, &[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(stand.exchange_at_altinn("", &[]).await.status, StatusCode::UNAUTHORIZED);
    stand.clock.advance(Duration::from_secs(129));
    assert_eq!(stand.exchange_at_altinn(&subject, &[]).await.status, StatusCode::OK, "ten seconds of grace");
    stand.clock.advance(Duration::from_secs(1));
    assert_eq!(stand.exchange_at_altinn(&subject, &[]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn hits_are_counted_per_endpoint_with_their_outcome() {
    let stand = Stand::new().await;
    let token = stand.token(&stand.by_kid()).await;
    stand.send(&stand.by_kid().set("iss", "unknown")).await;
    stand.exchange_at_customs(&token).await;
    stand.test_auth("other", "v2").await;
    stand.exchange_at_altinn(&token, &[]).await;
    stand.test_auth("other", "v1").await;
    let counters = stand.sandbox.counters();
    let of = |hits: segl::sandbox::Hits| (hits.hits, hits.served, hits.refused);
    assert_eq!(of(counters.token), (2, 1, 1));
    assert_eq!(of(counters.customs_exchange), (1, 1, 0));
    assert_eq!(of(counters.customs_test_auth), (1, 0, 1));
    assert_eq!(of(counters.altinn_exchange), (1, 1, 0));
    assert_eq!(of(counters.other), (1, 0, 1));
    assert_eq!(of(counters.metadata), (0, 0, 0));
}

#[tokio::test]
async fn an_outage_answers_503_until_it_is_over_and_leaves_the_other_authorities_alone() {
    let stand = Stand::new().await;
    stand.sandbox.turn(|knobs| knobs.retry_after = Some(7));
    stand.sandbox.set_outage(Authority::Maskinporten, true);
    let down = stand.send(&stand.by_kid()).await;
    assert_eq!((down.status, down.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "7"));
    assert_eq!(stand.test_auth("other", "v2").await, StatusCode::UNAUTHORIZED);
    stand.sandbox.set_outage(Authority::Maskinporten, false);
    stand.sandbox.set_metadata_outage(true);
    let metadata = format!("{}.well-known/oauth-authorization-server", stand.sandbox.issuer());
    assert_eq!(stand.get(&metadata, "", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stand.send(&stand.by_kid()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_held_authority_answers_when_it_is_let_go() {
    let stand = Arc::new(Stand::new().await);
    let held = stand.sandbox.hold(Authority::Maskinporten);
    let waiting = tokio::spawn({
        let stand = stand.clone();
        async move { stand.send(&stand.by_kid()).await.status }
    });
    let counters = stand.sandbox.wait_until(|counters| counters.token.hits == 1).await;
    assert_eq!((counters.token.served, counters.token.refused), (0, 0));
    drop(held);
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn a_delay_runs_on_the_clock_that_was_handed_in() {
    let stand = Arc::new(Stand::new().await);
    stand.sandbox.turn(|knobs| knobs.delay = Duration::from_secs(5));
    let waiting = tokio::spawn({
        let stand = stand.clone();
        async move { stand.send(&stand.by_kid()).await.status }
    });
    // On the one thread of this test, whoever has seen the hit comes after the request has gone to sleep.
    stand.sandbox.wait_until(|counters| counters.token.hits == 1).await;
    stand.clock.advance(Duration::from_secs(4));
    tokio::task::yield_now().await;
    assert_eq!(stand.sandbox.counters().token.served, 0);
    stand.clock.advance(Duration::from_secs(1));
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn the_clock_offset_moves_the_authorities_time_and_their_date_header() {
    let stand = Stand::new().await;
    let before = stand.send(&stand.by_kid()).await;
    stand.sandbox.turn(|knobs| knobs.clock_offset = -60);
    let after = stand.send(&stand.by_kid()).await;
    after.refused("invalid_grant", "Issue time is after now");
    assert_eq!(before.header("date"), "Fri, 15 Jan 2027 08:00:00 GMT");
    assert_eq!(after.header("date"), "Fri, 15 Jan 2027 07:59:00 GMT");
}

#[tokio::test]
async fn the_position_of_the_code_can_be_turned_while_it_runs() {
    let stand = Stand::new().await;
    let unknown = stand.by_kid().set("iss", "unknown");
    stand.sandbox.turn(|knobs| knobs.mp_code_position = CodePosition::Absent);
    assert!(!stand.send(&unknown).await.body.contains("MP-"));
    stand.sandbox.turn(|knobs| knobs.mp_code_position = CodePosition::Prefix);
    stand.send(&unknown).await.refused("invalid_grant", "MP-100: Invalid assertion");
}

#[tokio::test]
async fn the_ports_are_free_after_shutdown_even_with_open_connections_and_held_requests() {
    // An address of its own, so that no test beside this one can take the ports over.
    let address = Ipv4Addr::new(127, 77, 0, 1);
    let (bind, public_url) = (Some(address.into()), Some("http://segl-sandbox".to_owned()));
    let stand = Stand::with(Options { bind, public_url, ..Options::default() }).await;
    let ports = [stand.sandbox.issuer(), stand.sandbox.customs(), stand.sandbox.altinn()]
        .map(|url| url::Url::parse(url).unwrap().port().unwrap());
    let held = stand.sandbox.hold(Authority::Maskinporten);
    let idle = tokio::net::TcpStream::connect((address, ports[1])).await.unwrap();
    let waiting = tokio::spawn({
        let request = stand.http.post(format!("http://{address}:{}/token", ports[0]));
        async move { request.send().await.is_ok_and(|answer| answer.status().is_success()) }
    });
    stand.sandbox.wait_until(|counters| counters.token.hits == 1).await;
    tokio::time::timeout(Duration::from_secs(20), stand.sandbox.shutdown()).await.unwrap();
    assert!(!waiting.await.unwrap());
    for port in ports {
        // Closed connections may linger in the kernel; a listener that takes the address over shows that ours
        // is gone.
        let again = tokio::net::TcpSocket::new_v4().unwrap();
        again.set_reuseaddr(true).unwrap();
        again.bind((address, port).into()).unwrap();
        again.listen(1).unwrap();
    }
    drop((held, idle));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_its_authority() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ports = Ports { altinn: taken.local_addr().unwrap().port(), ..Ports::default() };
    let error = Sandbox::start_with(Options { ports, ..Options::default() }).await.unwrap_err();
    assert!(matches!(error, Error::Listen { authority: Authority::Altinn, .. }), "{error}");
}

#[tokio::test]
async fn the_outside_is_reached_only_when_both_options_say_so_and_never_under_a_real_name() {
    let start = |bind: Option<[u8; 4]>, url: Option<&str>| {
        let (bind, public_url) = (bind.map(Into::into), url.map(str::to_owned));
        Sandbox::start_with(Options { bind, public_url, ca: Some(ca().clone()), ..Options::default() })
    };
    let all = Some([0, 0, 0, 0]);
    assert!(matches!(start(all, None).await.unwrap_err(), Error::HalfOpen { .. }));
    assert!(matches!(start(None, Some("http://ci")).await.unwrap_err(), Error::HalfOpen { .. }));
    for url in ["http://test.maskinporten.no", "http://API.toll.no/", "https://platform.altinn.no"] {
        assert!(matches!(start(all, Some(url)).await.unwrap_err(), Error::RealHost { .. }), "{url}");
    }
    for url in ["https://ci", "http://ci:80/path", "http://ci:8400", "http://u:p@ci", "ci", "mailto:ci"] {
        assert!(matches!(start(all, Some(url)).await.unwrap_err(), Error::PublicUrl { .. }), "{url}");
    }
    let open = start(Some([127, 0, 0, 1]), Some("http://segl-sandbox")).await.unwrap();
    assert!(open.issuer().starts_with("http://segl-sandbox:") && open.issuer().ends_with('/'));
    assert!(open.warning().unwrap().contains("WARNING"));
    assert_eq!(Stand::new().await.sandbox.warning(), None);
}

#[tokio::test]
async fn the_written_configuration_names_the_running_authorities() {
    let stand = Stand::new().await;
    let setup = segl::sandbox::Setup {
        key: "file:/tmp/a \"quoted\" key.pem".into(),
        pin: None,
        authentication: segl::sandbox::Authentication::Kid(KID.into()),
    };
    let config: toml::Table = stand.sandbox.config_toml_for(&setup).parse().unwrap();
    assert_eq!(config["signers"]["sandbox"]["key"].as_str(), Some("file:/tmp/a \"quoted\" key.pem"));
    assert_eq!(config["clients"]["sandbox"]["kid"].as_str(), Some(KID));
    assert_eq!(config["clients"]["sandbox"]["client_id"].as_str(), Some(Clients::KEY_CLIENT));
    let config: toml::Table = stand.sandbox.config_toml().parse().unwrap();
    assert_eq!(config["schema"].as_integer(), Some(1));
    assert_eq!(config["clients"]["sandbox"]["certificate"].as_str(), Some("token"));
    let environment = &config["environments"]["sandbox"];
    assert_eq!(environment["issuer"].as_str(), Some(stand.sandbox.issuer()));
    assert_eq!(environment["customs"].as_str(), Some(stand.sandbox.customs()));
    assert_eq!(environment["altinn"].as_str(), Some(stand.sandbox.altinn()));
    assert_eq!(config["tokens"]["road"]["exchange"].as_str(), Some("customs"));
    assert_eq!(config["tokens"]["instances"]["exchange"].as_str(), Some("altinn"));
    assert_eq!(config["tokens"]["maskinporten"].get("exchange"), None);
}
