//! Clients that are not Segl get their tokens from the sandbox, the usual mistakes are refused as they should be, and an
//! independent implementation verifies Segl's grants.
//!
//! Python and its packages are in `target/interop`, which `scripts/test` makes. Where they are missing, the tests that need
//! them are reported as ignored, by name; in CI, they fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/need.rs"]
mod need;
#[path = "support/stand.rs"]
mod stand;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::Pin,
    process::{ExitCode, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use libtest_mimic::Arguments;
use segl::sandbox::{Authentication, Clients, Issued, Manner, Profile, Setup, TestCa};
use serde_json::{Value, json};

use self::{
    need::Need,
    stand::{KID, PATIENCE, Stand, key, now, other_key, spki},
};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/interop/bin/python");
const ROAD: &str = "toll:movement/road/v2";

type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! tests {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), (|| Box::pin($name())) as Test)),*] };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let python = lack(&[PYTHON], "scripts/test makes it");
    let openssl = lack(&["/usr/bin/openssl", "/usr/bin/curl"], "apt install openssl curl");
    let with_python = tests![
        a_client_of_pyjwt_and_requests_gets_every_kind_of_token,
        each_mistake_that_shows_on_the_wire_is_refused_with_its_code,
        a_grant_under_a_kid_is_verified_by_another_implementation,
        a_grant_with_a_certificate_is_verified_by_another_implementation,
        a_grant_with_an_eseal_is_verified_by_another_implementation,
    ];
    let by_hand = tests![a_grant_by_hand_with_openssl_and_curl_gets_a_customs_token];
    let mut trials = Vec::new();
    for (what, lack, tests) in
        [("Python clients", python, &with_python[..]), ("a client by hand", openssl, &by_hand[..])]
    {
        let need = Need::of(what, lack, &arguments);
        for &(name, test) in tests {
            trials.push(need.trial(name, move || {
                tokio::runtime::Runtime::new().unwrap().block_on(test());
                Ok(())
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What is missing of `files`, and where it comes from.
fn lack(files: &[&str], remedy: &str) -> Option<String> {
    let missing = files.iter().find(|file| !Path::new(file).exists())?;
    Some(format!("{missing} is missing: {remedy}"))
}

async fn a_client_of_pyjwt_and_requests_gets_every_kind_of_token() {
    let stand = Stand::new().await;
    let got = python(&stand, "client.py", &described(&stand)).await;
    for (name, amr, client) in [
        ("kid", "private_key_jwt", Some(Clients::KEY_CLIENT)),
        ("certificate", "virksomhetssertifikat", Some(Clients::CERTIFICATE_CLIENT)),
        ("seal", "QCForESeal", None),
    ] {
        assert_eq!(got[name]["client_amr"], amr, "{got}");
        assert!(client.is_none_or(|client| got[name]["client_id"] == client), "{got}");
    }
    assert_eq!(got["seal"]["consumer"]["ID"], Clients::FOREIGN_ORGANISATION);
    assert_eq!(
        (&got["customs"], &got["test_auth"], &got["seal_at_customs"]),
        (&json!(970), &json!(200), &json!(200))
    );
    assert_eq!(got["altinn"]["urn:altinn:orgNumber"], Clients::ORGANISATION);
    let counters = stand.sandbox.counters();
    assert_eq!((counters.token.refused, counters.jwk.hits), (0, 1));
}

/// Mistake, status, and what stands in the answer.
const REFUSALS: [(&str, u64, &str); 57] = [
    ("1 aud without its slash", 400, "MP-110"),
    ("1 aud of the token endpoint", 400, "MP-110"),
    ("1 aud of another environment", 400, "MP-110"),
    ("2 client of another environment", 400, "MP-100"),
    ("3 certificate of another environment", 400, "MP-120"),
    ("3 seal of an issuer that is not listed", 400, "MP-120"),
    ("4 certificate of a client with keys", 400, "requires pre-registered jwk"),
    ("4 kid of a client with a certificate", 400, "Unknown key identifier (kid) for client"),
    ("4 kid and certificate", 400, "Both kid and x5c"),
    ("4 neither", 400, "MP-123"),
    ("5 x5c is text", 400, "MP-123"),
    ("5 x5c is base64url", 400, "MP-123"),
    ("5 x5c is PEM", 400, "MP-123"),
    ("5 x5c in the wrong order", 400, "MP-123"),
    ("5 seal without its chain", 400, "MP-123"),
    ("6 certificate of another organisation", 400, "MP-122"),
    ("6 seal without organizationIdentifier", 400, "MP-122"),
    ("7 certificate for encryption", 400, "MP-120"),
    ("7 certificate that has ended", 400, "MP-120"),
    ("7 certificate of another key", 400, "MP-124"),
    ("8 PS256", 400, "Unsupported signature algorithm"),
    ("8 PSS under RS256", 400, "MP-124"),
    ("8 another hash under RS256", 400, "MP-124"),
    ("9 too long a life", 400, "MP-011"),
    ("9 seconds with a fraction", 400, "MP-011"),
    ("9 milliseconds", 400, "Issue time is after now"),
    ("9 clock ahead", 400, "Issue time is after now"),
    ("9 expired", 400, "MP-130"),
    ("10 sent twice", 400, "MP-012"),
    ("10 constant jti", 400, "MP-012"),
    ("11 misspelt claim", 400, "Invalid assertion. Unknown field consumer_orgno"),
    ("11 claim of tokens", 400, "Invalid assertion. Unknown field client_id"),
    ("11 consumer_org with its prefix", 400, "MP-011"),
    ("11 consumer_org is oneself", 400, "The combination consumer_org in claim"),
    ("11 consumer_org that delegated nothing", 400, "MP-251"),
    ("11 system user of a bare number", 400, "MP-303"),
    ("11 system user misspelt", 400, "MP-302"),
    ("11 unknown kind of details", 400, "MP-301"),
    ("11 two details", 400, "MP-303"),
    ("11 details are no array", 400, "MP-303"),
    ("12 scopes separated by commas", 400, "MP-200"),
    ("12 scopes in an array", 400, "MP-011"),
    ("12 scope not on the client", 400, "MP-200"),
    ("12 scope not granted", 400, "MP-250"),
    ("12 scope of seals on a client", 400, "MP-200"),
    ("12 scope of clients on a seal", 400, "MP-200"),
    ("12 scope that was replaced", 400, "MP-200"),
    ("13 key that has expired", 400, "MP-121"),
    ("13 key that is not registered", 400, "Unknown key identifier (kid) for client"),
    ("14 RFC 8693 at Customs", 400, "unsupported_grant_type"),
    ("14 digdir:verksemd.eu at Customs", 403, "Not authorized to request scope digdir:verksemd.eu"),
    ("14 Customs gets another's token", 400, "The subject token is not valid"),
    ("14 POST to Altinn", 405, ""),
    ("14 enterprise user at Altinn", 410, "Virksomhetsbruker"),
    ("14 seal at Altinn", 401, ""),
    ("14 quoted token at Altinn", 401, ""),
    ("form with more fields", 400, "invalid_request"),
];

async fn each_mistake_that_shows_on_the_wire_is_refused_with_its_code() {
    let stand = Stand::new().await;
    let said = python(&stand, "mistakes.py", &described(&stand)).await;
    let mut said: BTreeMap<String, Value> = serde_json::from_value(said).unwrap();
    for (mistake, status, text) in REFUSALS {
        let answer = said.remove(mistake).unwrap_or_else(|| panic!("{mistake} was not made"));
        assert_eq!(answer["status"], status, "{mistake}: {answer}");
        assert!(answer["body"].as_str().unwrap().contains(text), "{mistake}: {answer}");
    }
    assert!(said.is_empty(), "nothing is expected of {:?}", said.keys());
    // The fifteenth, asking again and again, is none that is refused.
    let manners: Vec<Manner> = stand.sandbox.manners().into_iter().map(|lapse| lapse.manner).collect();
    for manner in [Manner::RefreshStorm, Manner::AskedWhileValid, Manner::JtiTwice] {
        assert!(manners.contains(&manner), "{manner}");
    }
}

async fn a_grant_by_hand_with_openssl_and_curl_gets_a_customs_token() {
    let stand = Stand::new().await;
    stand.key_client();
    let key = stand.folder().join("key.pem");
    let sandbox = &stand.sandbox;
    let arguments =
        [sandbox.issuer(), sandbox.customs(), key.to_str().unwrap(), KID, Clients::KEY_CLIENT, ROAD];
    let out = run("bash", &[&[&format!("{SCRIPTS}/by_hand.sh")[..]], &arguments[..]].concat()).await;
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(answer["access_token"].as_str().unwrap().starts_with("segl-sandbox-customs."), "{answer}");
}

async fn a_grant_under_a_kid_is_verified_by_another_implementation() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let verified = verified(&stand).await;
    assert_eq!(verified["header"], json!({ "alg": "RS256", "kid": KID }));
    has_documented_claims(&verified["claims"], &stand, Clients::KEY_CLIENT, ROAD);
}

async fn a_grant_with_a_certificate_is_verified_by_another_implementation() {
    let stand = Stand::new().await;
    let (config, _) = stand.certificate_client();
    stand.configure(&config);
    let verified = verified(&stand).await;
    assert_eq!(verified["header"], json!({ "alg": "RS256" }));
    let subjects = verified["subjects"].as_array().unwrap();
    assert!(subjects.len() == 2 && subjects[0].as_str().unwrap().contains("NTRNO-312700018"), "{verified}");
    assert_eq!(verified["has_root"], false);
    has_documented_claims(&verified["claims"], &stand, Clients::CERTIFICATE_CLIENT, ROAD);
}

async fn a_grant_with_an_eseal_is_verified_by_another_implementation() {
    let stand = Stand::new().await;
    stand.write("key.pem", key().serialize_pem());
    stand.write("seal.pem", issued(&stand, Profile::Seal).whole_chain_pem());
    stand.configure(&stand.sandbox.config_toml_for(&Setup {
        key: "file:key.pem".into(),
        pin: None,
        authentication: Authentication::Eseal("seal.pem".into()),
    }));
    let verified = verified(&stand).await;
    let subjects = verified["subjects"].as_array().unwrap();
    assert!(
        subjects.len() == 3 && subjects[0].as_str().unwrap().contains("VATSE-556012345601"),
        "{verified}"
    );
    assert_eq!(verified["has_root"], true);
    has_documented_claims(&verified["claims"], &stand, "Segl Sandbox", "toll:eu/movement/road/v2");
}

/// A grant for the token `road`, as another implementation reads it.
async fn verified(stand: &Stand) -> Value {
    let said = stand.segl(&["grant", "road"]).await;
    let public_key = pem::encode(&pem::Pem::new("PUBLIC KEY", spki(key())));
    let given = json!({ "grant": said.token(), "public_key": public_key, "algorithm": "RS256" });
    python(stand, "verify.py", &given).await
}

#[track_caller]
fn has_documented_claims(claims: &Value, stand: &Stand, iss: &str, scope: &str) {
    let names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "jti", "scope"]);
    assert_eq!((&claims["aud"], &claims["iss"]), (&json!(stand.sandbox.issuer()), &json!(iss)));
    assert_eq!(claims["scope"], scope);
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(exp - iat == 60 && iat.abs_diff(now()) < 120, "{claims}");
}

/// All that the scripts need to know of `stand`, with the right certificates and the wrong ones.
fn described(stand: &Stand) -> Value {
    stand.key_client();
    stand.sandbox.register_key_until(Clients::KEY_CLIENT, "expired", &spki(key()), now() - 60).unwrap();
    let elsewhere = TestCa::ephemeral().unwrap();
    let of = |profile| x5c(&issued(stand, profile), false);
    let own = |ca: &TestCa, profile| ca.issue_for(&spki(key()), Clients::ORGANISATION, profile).unwrap();
    let ca = stand.sandbox.ca();
    let other_organisation = ca.issue_for(&spki(key()), Clients::CUSTOMER, Profile::Seid2).unwrap();
    let other_key = ca.issue_for(&spki(other_key()), Clients::ORGANISATION, Profile::Seid2).unwrap();
    json!({
        "issuer": stand.sandbox.issuer(),
        "customs": stand.sandbox.customs(),
        "altinn": stand.sandbox.altinn(),
        "key": stand.folder().join("key.pem"),
        "kid": KID,
        "expired_kid": "expired",
        "key_client": Clients::KEY_CLIENT,
        "certificate_client": Clients::CERTIFICATE_CLIENT,
        "organisation": Clients::ORGANISATION,
        "customer": Clients::CUSTOMER,
        "stranger": Clients::STRANGER,
        "scope": ROAD,
        "not_granted": Clients::NOT_GRANTED,
        "not_registered": Clients::NOT_REGISTERED,
        "chain": of(Profile::Seid2),
        "encryption": of(Profile::Encryption),
        "expired": of(Profile::Expired),
        "elsewhere": x5c(&own(&elsewhere, Profile::Seid2), false),
        "other_organisation": x5c(&other_organisation, false),
        "other_key_chain": x5c(&other_key, false),
        "seal": x5c(&issued(stand, Profile::Seal), true),
        "seal_nameless": x5c(&issued(stand, Profile::SealNameless), true),
        "seal_elsewhere": x5c(&own(&elsewhere, Profile::Seal), true),
    })
}

fn issued(stand: &Stand, profile: Profile) -> Issued {
    stand.sandbox.ca().issue_for(&spki(key()), Clients::ORGANISATION, profile).unwrap()
}

fn x5c(issued: &Issued, with_root: bool) -> Vec<String> {
    let root = with_root.then_some(&issued.root);
    [&issued.leaf, &issued.issuing].into_iter().chain(root).map(|der| STANDARD.encode(der)).collect()
}

/// What one of the scripts prints when it is given `input`.
async fn python(stand: &Stand, script: &str, input: &Value) -> Value {
    let input: PathBuf = stand.write("input.json", input.to_string());
    let out = run(PYTHON, &["-B", &format!("{SCRIPTS}/{script}"), input.to_str().unwrap()]).await;
    serde_json::from_str(&out).unwrap()
}

async fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn().unwrap();
    let output = tokio::time::timeout(PATIENCE * 2, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {arguments:?} hangs")).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
