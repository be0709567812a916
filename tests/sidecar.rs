//! `segl` with no file at all: environment variables alone, as platforms hand them to a sidecar.

#![cfg(all(feature = "cli", feature = "sandbox"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

use std::{
    process::{Output, Stdio},
    sync::LazyLock,
    time::Duration,
};

use segl::{
    jose,
    sandbox::{Clients, Options, Sandbox, TestCa},
    state::{Mode, write_file},
};
use tempfile::TempDir;
use tokio::process::Command;

/// One key in two formats; it was made for the fuzzer's corpus and opens nothing.
const JWK: &str = include_str!("../fuzz/corpus/key_file/jwk.json");
const PEM: &str = include_str!("../fuzz/corpus/key_file/pkcs8.pem");
const PUBLIC_KEY: &[u8] = include_bytes!("../fuzz/corpus/certificates/public-key.der");

const SCOPE: &str = "toll:movement/road/v2";

/// Longer than any of this takes on a busy machine: a program that hangs is to fail its test.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stand {
    sandbox: Sandbox,
    folder: TempDir,
}

impl Stand {
    async fn new(kid: &str) -> Self {
        // One for all tests: making its keys takes a while.
        static CA: LazyLock<TestCa> = LazyLock::new(|| TestCa::ephemeral().unwrap());
        let options = Options { ca: Some(CA.clone()), ..Options::default() };
        let sandbox = Sandbox::start_with(options).await.unwrap();
        sandbox.register_key(Clients::KEY_CLIENT, kid, PUBLIC_KEY).unwrap();
        Self { sandbox, folder: tempfile::tempdir().unwrap() }
    }

    /// The program with these variables and those that every sidecar has, and no others.
    async fn segl(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let program = Command::new(env!("CARGO_BIN_EXE_segl"))
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("MASKINPORTEN_CLIENT_ID", Clients::KEY_CLIENT)
            .env("MASKINPORTEN_SCOPES", SCOPE)
            .env("MASKINPORTEN_ISSUER", self.sandbox.issuer())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(PATIENCE, program).await.expect("the program hangs").unwrap()
    }
}

/// What it printed, after it has been seen to end well.
fn token(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let token = String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_owned();
    assert_eq!(jose::unverified_payload(&token).unwrap()["scope"], SCOPE);
    assert!(!said.contains("eyJ"), "a token or grant: {said}");
    token
}

fn private_number(name: &str) -> String {
    let jwk: serde_json::Value = serde_json::from_str(JWK).unwrap();
    jwk[name].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_jwk_in_the_environment_is_enough_and_is_warned_of() {
    let stand = Stand::new("k").await;
    let output = stand.segl(&["-vv", "token", "maskinporten"], &[("MASKINPORTEN_CLIENT_JWK", JWK)]).await;
    token(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("MASKINPORTEN_CLIENT_JWK holds a private key"), "{said}");
    for name in ["d", "p", "q", "dp", "dq", "qi"] {
        assert!(!said.contains(&private_number(name)), "{name} of the private key: {said}");
    }
    assert_eq!(stand.sandbox.counters().token.hits, 1);
    stand.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_and_its_kid_are_enough_and_nothing_is_said() {
    let stand = Stand::new("file-2026").await;
    let key = stand.folder.path().join("key.pem");
    write_file(&key, PEM.as_bytes(), Mode::Private, false).unwrap();
    let uri = format!("file:{}", key.display());
    let variables = [("SEGL_KEY", uri.as_str()), ("MASKINPORTEN_CLIENT_KID", "file-2026")];
    let output = stand.segl(&["token", "maskinporten"], &variables).await;
    token(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    stand.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_of_the_metadata_serves_in_place_of_the_issuer() {
    let stand = Stand::new("k").await;
    let metadata = format!("{}.well-known/oauth-authorization-server", stand.sandbox.issuer());
    let variables = [
        ("MASKINPORTEN_ISSUER", ""),
        ("MASKINPORTEN_WELL_KNOWN_URL", metadata.as_str()),
        ("MASKINPORTEN_CLIENT_JWK", JWK),
    ];
    token(&stand.segl(&["token", "maskinporten"], &variables).await);
    stand.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_variable_is_named_and_needs_a_person() {
    let stand = Stand::new("k").await;
    let variables = [("MASKINPORTEN_SCOPES", ""), ("MASKINPORTEN_CLIENT_JWK", JWK)];
    let output = stand.segl(&["token", "maskinporten"], &variables).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("MASKINPORTEN_SCOPES"), "{said}");
    assert!(!said.contains(&private_number("d")), "{said}");
    assert_eq!(stand.sandbox.counters().token.hits, 0);
    stand.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_before_the_variables() {
    let stand = Stand::new("k").await;
    write_file(&stand.folder.path().join("segl.toml"), b"schema = 2", Mode::Private, false).unwrap();
    let output = stand.segl(&["token", "maskinporten"], &[("MASKINPORTEN_CLIENT_JWK", JWK)]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("segl.toml"), "{said}");
    stand.sandbox.shutdown().await;
}
