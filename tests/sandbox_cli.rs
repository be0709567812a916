//! `segl sandbox` through the real binary: what it prints is used by the real binary, and nothing is left behind.

#![cfg(all(feature = "sandbox", feature = "cli"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustix::process::{Pid, Signal, kill_process};
use segl::{
    certificate::{Certificate, Chain},
    config::Config,
    sandbox::{Clients, Knobs},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// Longer than anything takes on a busy machine: what hangs is to fail, not to hang the run.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `segl sandbox` that answers.
struct Running {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
    folder: TempDir,
}

/// How it ended, and all that it said.
struct Ended {
    code: Option<i32>,
    stdout: String,
    said: String,
    folder: TempDir,
}

impl Running {
    /// With a configuration and a ready file in a folder of its own, in which `arguments` are relative.
    async fn start(folder: TempDir, arguments: &[&str]) -> Self {
        let common = ["sandbox", "--any-ports", "--ready-file", "ready.json", "--write-config", "segl.toml"];
        Self::start_as(folder, &[&common, arguments].concat()).await
    }

    async fn start_as(folder: TempDir, arguments: &[&str]) -> Self {
        let mut child = segl(folder.path(), arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut running = Self { child, stderr, said: Vec::new(), folder };
        // The last line that it says before it waits.
        while running.said.last().is_none_or(|line| !line.starts_with("Altinn ")) {
            let line = timeout(PATIENCE, running.stderr.next_line()).await.unwrap().unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended:\n{}", running.said.join("\n")));
            running.said.push(line);
        }
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ready(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("ready.json")).unwrap()).unwrap()
    }

    /// Runs another `segl` with the configuration that was written.
    async fn segl(&self, arguments: &[&str]) -> Output {
        let mut command = segl(self.folder.path(), &["--config", "segl.toml"]);
        let conf = self.path("hsm/softhsm2.conf");
        command.args(arguments).env("SOFTHSM2_CONF", conf).stdin(Stdio::null());
        timeout(PATIENCE, command.output()).await.unwrap().unwrap()
    }

    async fn token(&self, name: &str) -> Value {
        let output = self.segl(&["token", name, "--output", "json"]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn end(mut self, signal: Signal) -> Ended {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let mut stdout = String::new();
        let ended = async {
            self.child.stdout.take().unwrap().read_to_string(&mut stdout).await.unwrap();
            while let Some(line) = self.stderr.next_line().await.unwrap() {
                self.said.push(line);
            }
            self.child.wait().await.unwrap()
        };
        let status = timeout(PATIENCE, ended).await.unwrap();
        Ended { code: status.code(), stdout, said: self.said.join("\n"), folder: self.folder }
    }
}

impl Ended {
    /// Hits, served and refused of an endpoint.
    #[track_caller]
    fn counter(&self, endpoint: &str) -> [u64; 3] {
        let line = self.said.lines().find_map(|line| line.strip_prefix(endpoint)).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }

    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

#[tokio::test]
async fn what_it_prints_works_as_it_is_and_nothing_is_left_behind() {
    let running = Running::start(private_folder(), &[]).await;
    assert!(running.said.iter().any(|line| line.contains("nothing here is real")));
    let ready = running.ready();
    assert_eq!(ready["pid"], running.child.id().unwrap());
    let config = Config::load(&running.path("segl.toml")).unwrap();
    let environment = &config.clients["sandbox"].environment;
    assert_eq!(ready["maskinporten"], environment.issuer);
    let key = key_file(&running.path("segl.toml"));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(running.token("maskinporten").await["scope"], "toll:movement/road/v2");
    running.token("instances").await;
    let probe = running.segl(&["probe", "road"]).await;
    assert!(text(&probe.stdout).contains("answered 200"), "{}", text(&probe.stderr));

    let ended = running.end(Signal::TERM).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert_eq!(ended.counter("Maskinporten token"), [3, 3, 0]);
    assert_eq!(ended.counter("Customs exchange"), [1, 1, 0]);
    assert_eq!(ended.counter("Customs test-auth"), [1, 1, 0]);
    assert_eq!(ended.counter("Altinn exchange"), [1, 1, 0]);
    assert_eq!(ended.counter("any other path"), [0, 0, 0]);
    assert!(ended.names().is_empty(), "{:?}", ended.names());
    assert!(!key.parent().unwrap().exists(), "the made key is gone");
    for authority in ["maskinporten", "customs", "altinn"] {
        let address = ready[authority].as_str().unwrap().trim_start_matches("http://").trim_end_matches('/');
        TcpListener::bind(address).unwrap_or_else(|why| panic!("{authority}'s port is not free: {why}"));
    }
}

#[tokio::test]
async fn a_key_of_ones_own_is_registered_under_the_kid_that_was_given() {
    let folder = private_folder();
    write_key(folder.path());
    let arguments = ["sandbox", "--any-ports", "--key", "file:key.pem", "--kid", "mine-2026", "--state"];
    let running = Running::start_as(folder, &[&arguments[..], &[state()]].concat()).await;
    let pid = running.child.id();
    // The configuration stands on standard output; what it needs is read from there once it has ended.
    let ended = running.end(Signal::INT).await;
    assert_eq!(ended.code, Some(0));
    assert!(pid.is_some() && ended.names() == ["key.pem"], "{:?}", ended.names());
    let config = Config::parse(&ended.stdout, Path::new("/elsewhere")).unwrap();
    assert!(config.tokens.contains_key("road"));
    assert!(ended.stdout.contains("kid = \"mine-2026\""), "{}", ended.stdout);
    // The path is absolute: the configuration may be read from another directory.
    assert!(ended.stdout.contains(&format!("file:{}", ended.folder.path().join("key.pem").display())));

    let arguments = ["--key", "file:key.pem", "--kid", "mine-2026", "--state", state()];
    let running = Running::start(ended.folder, &arguments).await;
    running.token("road").await;
    assert_eq!(running.end(Signal::TERM).await.counter("Maskinporten token"), [1, 1, 0]);
}

#[tokio::test]
async fn a_certificate_issued_for_a_request_chains_and_is_taken_by_a_sandbox_of_the_same_ca() {
    let folder = private_folder();
    let key = write_key(folder.path());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "FJORD FRAKT");
    fs::write(folder.path().join("request.csr"), params.serialize_request(&key).unwrap().pem().unwrap())
        .unwrap();
    let issue = |more: &[&str]| {
        let arguments = [&["sandbox", "issue", "request.csr", "--state", state()], more].concat();
        segl(folder.path(), &arguments).stdin(Stdio::null()).output()
    };
    let printed = issue(&[]).await.unwrap();
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let chain = Chain::from_file(&printed.stdout, None, SystemTime::now()).unwrap();
    assert_eq!(chain.len(), 2, "leaf and issuing CA, linked by a verified signature");
    assert_eq!(chain.leaf().common_name(), Some("FJORD FRAKT"));
    assert_eq!(chain.leaf().organisation_number().unwrap().to_string(), "312700018");
    chain.check_validity(SystemTime::now()).unwrap();

    assert!(issue(&["--out", "chain.pem"]).await.unwrap().status.success());
    let again = issue(&["--out", "chain.pem"]).await.unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));
    let other = issue(&["--organisation-number", "312700019"]).await.unwrap();
    assert!(text(&other.stderr).contains("no organisation number"), "{}", text(&other.stderr));

    let arguments = ["--key", "file:key.pem", "--certificate", "chain.pem", "--state", state()];
    let running = Running::start(folder, &arguments).await;
    running.token("road").await;
    running.end(Signal::TERM).await;
}

#[tokio::test]
async fn a_device_is_made_and_used_again_at_the_next_start() {
    let arguments = ["--softhsm", "hsm"];
    let running = Running::start(private_folder(), &arguments).await;
    let first = fs::read_to_string(running.path("segl.toml")).unwrap();
    let pin = fs::read_to_string(running.path("hsm/pin")).unwrap();
    let export = format!("export SOFTHSM2_CONF={}", running.path("hsm/softhsm2.conf").display());
    assert!(first.starts_with(&format!("# {export}\n")), "{first}");
    assert!(running.said.contains(&export), "{:?}", running.said);
    for secret in ["hsm/pin", "hsm/segl-sandbox-ca.pem", "hsm/softhsm2.conf"] {
        let mode = fs::metadata(running.path(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    running.token("road").await;
    running.token("instances").await;
    let probe = running.segl(&["probe", "road"]).await;
    assert!(text(&probe.stdout).contains("device segl-sandbox ("), "{}", text(&probe.stderr));
    let ended = running.end(Signal::TERM).await;
    assert_eq!(ended.code, Some(0));
    assert!(!ended.said.contains(&pin) && !first.contains(&pin), "the PIN stays in its file");

    let objects = || {
        let tokens = ended.folder.path().join("hsm/tokens");
        names(&tokens).iter().map(|device| names(&tokens.join(device))).collect::<Vec<_>>()
    };
    let before = objects();
    assert_eq!(before.len(), 1);
    let folder = ended.folder.path().to_owned();
    let running = Running::start(ended.folder, &arguments).await;
    let line = |config: &str| config.lines().find(|line| line.starts_with("key = ")).unwrap().to_owned();
    assert_eq!(line(&fs::read_to_string(folder.join("segl.toml")).unwrap()), line(&first));
    running.token("road").await;
    let ended = running.end(Signal::TERM).await;
    let tokens = folder.join("hsm/tokens");
    let after: Vec<_> = names(&tokens).iter().map(|device| names(&tokens.join(device))).collect();
    assert_eq!(after, before, "nothing was made twice");
    drop(ended);
}

#[tokio::test]
async fn a_device_keeps_its_key_and_gets_a_new_certificate_when_the_ca_is_another() {
    let running = Running::start(private_folder(), &["--softhsm", "hsm"]).await;
    let first = fs::read_to_string(running.path("segl.toml")).unwrap();
    let folder = running.end(Signal::TERM).await.folder;
    let running = Running::start(folder, &["--softhsm", "hsm", "--state", state()]).await;
    let second = fs::read_to_string(running.path("segl.toml")).unwrap();
    let line = |config: &str| config.lines().find(|line| line.starts_with("key = ")).unwrap().to_owned();
    assert_eq!(line(&second), line(&first));
    running.token("road").await;
    assert_eq!(running.end(Signal::TERM).await.counter("Maskinporten token"), [1, 1, 0]);
}

#[tokio::test]
async fn a_softhsm2_configuration_of_somebody_else_is_left_alone() {
    let folder = private_folder();
    fs::DirBuilder::new().mode(0o700).create(folder.path().join("hsm")).unwrap();
    let path = folder.path().join("hsm/softhsm2.conf");
    fs::write(&path, "directories.tokendir = /mine\n").unwrap();
    let said = refused(folder.path(), &["--any-ports", "--softhsm", "hsm", "--state", state()]).await;
    assert!(said.contains("was not written by the sandbox"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "directories.tokendir = /mine\n");
}

#[tokio::test]
async fn half_a_way_out_of_loopback_is_refused_before_anything_is_made() {
    let folder = private_folder();
    for (arguments, expected) in [
        (["--bind", "127.0.0.1"], "--bind was given without --public-url"),
        (["--public-url", "http://localhost"], "--public-url was given without --bind"),
    ] {
        let said = refused(folder.path(), &[&arguments[..], &["--state", "state"]].concat()).await;
        assert!(said.contains(expected) && said.contains("stays on loopback"), "{said}");
    }
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn a_sandbox_that_others_can_reach_warns_first_and_says_what_segl_cannot_use() {
    let open = |host| ["--bind", "127.0.0.1", "--public-url", host, "--state", state()];
    let running = Running::start(private_folder(), &open("http://localhost")).await;
    assert!(running.said[0].starts_with("WARNING"), "{:?}", running.said);
    assert!(running.ready()["customs"].as_str().unwrap().starts_with("http://localhost:"));
    running.token("road").await;
    let ended = running.end(Signal::TERM).await;
    assert!(!ended.said.contains("plain http to its own machine"), "{}", ended.said);

    let running = Running::start(ended.folder, &open("http://segl-sandbox")).await;
    assert!(running.said.iter().any(|line| line.contains("plain http to its own machine")));
    running.end(Signal::TERM).await;
    let folder = private_folder();
    let said =
        refused(folder.path(), &[&["--any-ports"], &open("http://test.maskinporten.no")[..]].concat()).await;
    assert!(said.contains("host of a real authority"), "{said}");
}

#[tokio::test]
async fn a_seal_is_made_to_go_with_it_in_a_file_or_a_device() {
    let mut folder = private_folder();
    for more in [&["--state", state()][..], &["--softhsm", "hsm"]] {
        let running = Running::start(folder, &[&["--eseal"], more].concat()).await;
        let verksemd = running.token("verksemd").await;
        assert_eq!(verksemd["scope"], "digdir:verksemd.eu");
        let probe = running.segl(&["probe", "road"]).await;
        assert!(text(&probe.stdout).contains("answered 200"), "{}", text(&probe.stderr));
        let config = fs::read_to_string(running.path("segl.toml")).unwrap();
        assert!(config.contains("kind = \"eseal\"") && !config.contains("client_id"), "{config}");
        let ended = running.end(Signal::TERM).await;
        assert_eq!(ended.counter("Customs exchange"), [1, 1, 0]);
        folder = ended.folder;
    }
    // The device of the seal has a key with a virksomhetssertifikat too, when one is asked for.
    for more in [&[][..], &["--eseal"]] {
        let running = Running::start(folder, &[&["--softhsm", "hsm"], more].concat()).await;
        running.token("road").await;
        folder = running.end(Signal::TERM).await.folder;
    }
}

#[tokio::test]
async fn a_seal_for_a_key_of_ones_own_is_issued_with_its_whole_chain() {
    let folder = private_folder();
    let key = write_key(folder.path());
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    fs::write(folder.path().join("request.csr"), request).unwrap();
    let issue = ["sandbox", "issue", "request.csr", "--state", state(), "--eseal", "--out", "seal.pem"];
    let identifier = ["--organisation-identifier", "NTRDE-HRB1234"];
    let issued = segl(folder.path(), &[&issue[..], &identifier].concat()).stdin(Stdio::null()).output();
    let issued = issued.await.unwrap();
    assert!(issued.status.success(), "{}", text(&issued.stderr));
    let pem = fs::read(folder.path().join("seal.pem")).unwrap();
    let chain = Chain::from_file(&pem, None, SystemTime::now()).unwrap();
    assert_eq!((chain.len(), chain.missing_issuer()), (3, None));
    assert_eq!(chain.leaf().organization_identifier(), Some("NTRDE-HRB1234"));

    let own = ["--key", "file:key.pem", "--certificate", "seal.pem", "--eseal"];
    let running = Running::start(folder, &[&["--state", state()], &own[..]].concat()).await;
    running.token("road").await;
    // Of another CA, it is taken where that CA is named.
    let folder = running.end(Signal::TERM).await.folder;
    let running = Running::start(folder, &own).await;
    let refused = running.segl(&["token", "road"]).await;
    assert!(text(&refused.stderr).contains("no trusted list"), "{}", text(&refused.stderr));
    let folder = running.end(Signal::TERM).await.folder;
    // In whatever form certificates come.
    let issuers: Vec<&[u8]> = chain.certificates().skip(1).map(Certificate::der).collect();
    fs::write(folder.path().join("issuers.cer"), issuers.concat()).unwrap();
    let running = Running::start(folder, &[&own[..], &["--seal-issuer", "issuers.cer"]].concat()).await;
    running.token("road").await;
    running.end(Signal::TERM).await;
}

#[tokio::test]
async fn files_that_are_there_are_not_overwritten() {
    let folder = private_folder();
    for (option, name) in [("--write-config", "segl.toml"), ("--ready-file", "ready.json")] {
        let path = folder.path().join(name);
        fs::write(&path, "mine").unwrap();
        let said = refused(folder.path(), &["--any-ports", "--state", state(), option, name]).await;
        assert!(said.contains("exists already"), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}

#[tokio::test]
async fn a_ready_file_of_a_sandbox_that_was_killed_is_replaced() {
    let mut running = Running::start(private_folder(), &["--state", state()]).await;
    running.child.kill().await.unwrap();
    let (old, folder) = (running.ready(), running.folder);
    fs::remove_file(folder.path().join("segl.toml")).unwrap();
    let running = Running::start(folder, &["--state", state()]).await;
    assert_ne!(running.ready()["pid"], old["pid"]);
    running.end(Signal::TERM).await;
}

#[tokio::test]
async fn clients_of_ones_own_take_the_place_of_the_demonstrations() {
    let folder = private_folder();
    write_key(folder.path());
    let client = |id: &str| {
        format!("[clients.{id}]\norganisation = \"312700018\"\nscopes = [\"toll:declaration.feed\"]\n")
    };
    let scope = "[scopes.\"toll:declaration.feed\"]\naccessible_for_all = true\n";
    fs::write(folder.path().join("one.toml"), format!("schema = 1\n{}{scope}", client("only"))).unwrap();
    fs::write(folder.path().join("two.toml"), format!("schema = 1\n{}{}", client("a"), client("b"))).unwrap();

    let clients = ["--clients", "one.toml", "--state", state()];
    let running =
        Running::start(folder, &[&clients[..], &["--key", "file:key.pem", "--kid", "k"]].concat()).await;
    assert_eq!(running.token("road").await["scope"], "toll:declaration.feed");
    let text = fs::read_to_string(running.path("segl.toml")).unwrap();
    assert!(text.contains("client_id = \"only\"") && !text.contains("[tokens.instances]"), "{text}");

    let running = Running::start(running.end(Signal::TERM).await.folder, &clients).await;
    let config = Config::load(&running.path("segl.toml")).unwrap();
    assert!(config.clients.is_empty() && config.tokens.is_empty());
    let folder = running.end(Signal::TERM).await.folder;

    let two =
        ["--any-ports", "--state", state(), "--clients", "two.toml", "--key", "file:key.pem", "--kid", "k"];
    let said = refused(folder.path(), &two).await;
    assert!(said.contains("Give --client-id."), "{said}");
    let said = refused(folder.path(), &[&two[..], &["--client-id", "c"]].concat()).await;
    assert!(said.contains("has no c") && said.contains("a, b"), "{said}");
}

#[tokio::test]
async fn knobs_change_the_answers_and_unknown_ones_are_refused() {
    let arguments = ["--state", state(), "--knob", "customs_lifetime=100", "--knob", "error_style=2022"];
    let running = Running::start(private_folder(), &arguments).await;
    assert!(running.token("road").await["expires_in"].as_u64().unwrap() <= 100);
    running.token("instances").await;
    let folder = running.end(Signal::TERM).await.folder;
    for (knob, expected) in [
        ("strict", "has no value"),
        ("strict_time=true", "unknown field `strict_time`"),
        ("strict_iat=perhaps", "expected a boolean"),
        ("error_style=2023", "expected `2022` or `2026`"),
        ("token_lifetime=-1", "expected u64"),
        ("altinn_body=json", "unknown variant `json`"),
    ] {
        let said = refused(folder.path(), &["--any-ports", "--knob", knob]).await;
        assert!(said.contains(expected) && said.contains("--knob NAME=VALUE"), "{said}");
    }
}

#[tokio::test]
async fn presets_and_single_settings_are_told_by_the_management_interface() {
    let arguments = ["--state", state(), "--strict", "--clock-offset", "-3", "--burst", "100:2"];
    let single = ["--error-style", "2022", "--knob", "strict_claims=false", "--propagation-delay", "60"];
    let running = Running::start(private_folder(), &[&arguments[..], &single].concat()).await;
    let management = running.ready()["management"].as_str().unwrap().to_owned();
    assert!(running.said.iter().any(|line| line.ends_with(&management)), "{:?}", running.said);
    let knobs: Value = serde_json::from_str(&get(&format!("{management}/knobs")).await).unwrap();
    for (name, value) in [
        ("strict_iat", Value::from(true)),
        ("strict_claims", false.into()),
        ("clock_offset", (-3).into()),
        ("burst_every", 100.into()),
        ("burst_length", 2.into()),
        ("error_style", "2022".into()),
        ("propagation_delay", 60.into()),
    ] {
        assert_eq!(knobs[name], value, "{name}");
    }
    // The key that was made for the run is known at once.
    running.token("maskinporten").await;
    running.token("maskinporten").await;
    let ended = running.end(Signal::TERM).await;
    assert!(
        ended.said.contains("bad manners: the token for toll:movement/road/v2 was asked for again"),
        "{}",
        ended.said
    );
    assert!(ended.said.contains("BAD MANNERS") && ended.said.contains("Keep the token"), "{}", ended.said);
    for (arguments, why) in [
        (&["--burst", "3"][..], "not of the form N:M"),
        (&["--code-position", "middle"], "unknown variant `middle`"),
    ] {
        assert!(refused(ended.folder.path(), arguments).await.contains(why));
    }
}

#[tokio::test]
async fn a_scenario_brings_its_clients_and_its_faults() {
    let folder = private_folder();
    write_key(folder.path());
    let scenario = "schema = 1\n[registry.clients.only]\norganisation = \"312700018\"\nscopes = [\"a:b\"]\n\
                    [registry.scopes.\"a:b\"]\naccessible_for_all = true\n[[faults]]\noutage = [\"customs\"]\n";
    fs::write(folder.path().join("scenario.toml"), scenario).unwrap();
    fs::write(folder.path().join("clients.toml"), "schema = 1\n").unwrap();
    let arguments =
        ["--state", state(), "--scenario", "scenario.toml", "--key", "file:key.pem", "--kid", "k"];
    let running = Running::start(folder, &arguments).await;
    assert_eq!(running.token("maskinporten").await["scope"], "a:b");
    let ready = running.ready();
    let faults = get(&format!("{}/faults", ready["management"].as_str().unwrap())).await;
    assert!(faults.contains("\"on\":true"), "{faults}");
    let folder = running.end(Signal::TERM).await.folder;
    let both = [&arguments[..], &["--clients", "clients.toml"]].concat();
    assert!(refused(folder.path(), &both).await.contains("the scenario has clients too"));
    fs::write(folder.path().join("scenario.toml"), "schema = 1\nspeed = 1\n").unwrap();
    assert!(refused(folder.path(), &arguments).await.contains("unknown field `speed`"));
}

async fn get(url: &str) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.get(url).send().await.unwrap().text().await.unwrap()
}

#[test]
fn the_documentation_has_every_knob_with_its_default_and_an_example_of_clients_that_is_valid() {
    let document = include_str!("../docs/sandbox.md");
    let examiner = include_str!("../docs/examiner.md");
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let clients = Clients::from_toml(example).unwrap();
    assert_eq!(clients.ids().collect::<Vec<_>>(), ["5e610000-0000-4000-8000-0000000000aa"]);
    let defaults = serde_json::to_value(Knobs::default()).unwrap();
    for (name, value) in defaults.as_object().unwrap() {
        let value = match value {
            Value::Null => "none".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        assert!(examiner.contains(&format!("| `{name}` | {value} |")), "{name} = {value}");
    }
}

#[tokio::test]
async fn a_pin_in_place_of_its_source_is_refused_and_not_repeated() {
    let folder = private_folder();
    let said = refused(folder.path(), &["--key", "pkcs11:token=a", "--kid", "k", "--pin", "98761234"]).await;
    assert!(said.contains("--pin") && !said.contains("98761234"), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = private_folder();
    let said = refused(folder.path(), &["--maskinporten-port", &port, "--state", state()]).await;
    assert!(said.contains("Maskinporten") && said.contains(&port), "{said}");
}

/// Runs a sandbox that does not start; what it says, and that a person must act.
async fn refused(folder: &Path, arguments: &[&str]) -> String {
    let arguments = [&["sandbox"], arguments].concat();
    let output = segl(folder, &arguments).stdin(Stdio::null()).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    said
}

fn segl(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segl"));
    command.args(arguments).current_dir(folder).env("LC_ALL", "C").kill_on_drop(true);
    for name in ["SEGL_CONFIG", "HTTPS_PROXY", "https_proxy", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// A state directory whose CA all tests share: making one costs seconds.
fn state() -> &'static str {
    const STATE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/sandbox-cli");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(STATE).unwrap();
    STATE
}

fn private_folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write_key(folder: &Path) -> KeyPair {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let path = folder.join("key.pem");
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    std::io::Write::write_all(&mut { file }, key.serialize_pem().as_bytes()).unwrap();
    key
}

/// The file that a configuration's key is in.
fn key_file(config: &Path) -> PathBuf {
    let table: toml::Table = fs::read_to_string(config).unwrap().parse().unwrap();
    let key = table["signers"]["sandbox"]["key"].as_str().unwrap();
    key.strip_prefix("file:").unwrap().into()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
