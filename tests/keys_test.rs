//! `segl keys test` through the real program on the real SoftHSM2, and on a SoftHSM2 whose answers are spoilt on the way.

#![cfg(all(feature = "cli", feature = "sandbox"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

#[path = "support/said.rs"]
mod said;
#[path = "support/softhsm.rs"]
mod softhsm;

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use segl::sign::pkcs11::Uri;
use serde_json::Value;
use tempfile::TempDir;

use self::{
    said::{Said, beside_softhsm},
    softhsm::{LIBRARY, PIN, SO_PIN, configure, spy},
};

const WRONG_PIN: &str = "0815-4711";

/// Of the device and of the key: neither may stand in a report.
const DEVICE: &str = "hemmelig-kort";
const KEY: &str = "hemmelig-nøkkel";

/// A folder with a SoftHSM2 of its own and one device.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        assert!(Path::new(LIBRARY).exists(), "SoftHSM2 is missing: apt-get install softhsm2");
        let bench = Self(tempfile::tempdir().unwrap());
        configure(bench.0.path());
        for (name, pin) in [("pin", PIN), ("wrong-pin", WRONG_PIN)] {
            fs::write(bench.path(name), pin).unwrap();
            fs::set_permissions(bench.path(name), Permissions::from_mode(0o600)).unwrap();
        }
        bench.do_with(
            "softhsm2-util",
            &["--init-token", "--free", "--label", DEVICE, "--so-pin", SO_PIN, "--pin", PIN],
        );
        bench
    }

    /// Makes a key with another program.
    fn make(&self, kind: &str, further: &[&str]) {
        let asked = ["--module", LIBRARY, "--token-label", DEVICE, "--login", "--pin", PIN, "--keypairgen"];
        let named = ["--key-type", kind, "--label", KEY, "--id", "07"];
        self.do_with("pkcs11-tool", &[&asked[..], &named, further].concat());
    }

    fn with_key() -> Self {
        let bench = Self::new();
        bench.make("rsa:2048", &[]);
        bench
    }

    fn do_with(&self, program: &str, arguments: &[&str]) {
        let done = Command::new(program)
            .args(arguments)
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .unwrap_or_else(|why| panic!("{program}: {why}"));
        assert!(done.status.success(), "{done:?}");
    }

    /// A library that has SoftHSM2 behind it and spoils some of its answers.
    fn stumbling(&self, fault: &str, most_sessions: u8) -> PathBuf {
        let library = self.path("stumbling.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/keys_test/stumbling.c");
        let defined = format!("-DMOST_SESSIONS={most_sessions}");
        let fault = format!("-DFAULT={fault}");
        let place = format!("-DLIBRARY=\"{LIBRARY}\"");
        let [source, made] = [&source, &library].map(|path| path.to_str().unwrap());
        self.do_with(
            "cc",
            &["-Wall", "-Werror", "-shared", "-fPIC", &fault, &defined, &place, "-o", made, source, "-ldl"],
        );
        library
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `segl keys test URI ARGUMENTS` for the key in `library`.
    fn test(&self, library: &Path, pin: &str, arguments: &[&str]) -> Said {
        let uri =
            format!("pkcs11:token={DEVICE};object=hemmelig-n%C3%B8kkel?module-path={}", library.display());
        let output = beside_softhsm(self.0.path(), LIBRARY)
            .args(["keys", "test", &uri, "--seconds", "1", "--pin", &format!("file:{pin}")])
            // Those that stumble lie below a folder that everybody may write to.
            .arg("--trust-module")
            .args(arguments)
            .output()
            .unwrap();
        Said::from(output).without(&[PIN, WRONG_PIN])
    }

    /// What shows on the terminal (which `script` of util-linux plays) of a person who types `pin` when asked.
    fn type_pin(&self, pin: &str) -> String {
        let uri = format!("'pkcs11:token={DEVICE}?module-path={LIBRARY}'");
        let command =
            format!("{} keys test {uri} --seconds 1; echo ended with $?", env!("CARGO_BIN_EXE_segl"));
        let mut terminal = Command::new("timeout")
            .args(["120", "script", "-qec", &command, "/dev/null"])
            .current_dir(self.0.path())
            .env_remove("SEGL_CONFIG")
            .env("LC_ALL", "C")
            .env("STATE_DIRECTORY", self.path("state"))
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut keyboard, mut output) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
        let mut screen = Vec::new();
        while !String::from_utf8_lossy(&screen).contains("PIN for ") {
            let mut some = [0; 256];
            let count = output.read(&mut some).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&screen));
            screen.extend_from_slice(&some[..count]);
        }
        write!(keyboard, "{pin}\r").unwrap();
        // The keyboard stays connected until here.
        output.read_to_end(&mut screen).unwrap();
        assert!(terminal.wait().unwrap().success());
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// The same as JSON, with the exit code that is expected.
    #[track_caller]
    fn report(&self, library: &Path, code: i32, arguments: &[&str]) -> Value {
        let said = self.test(library, "pin", &[&["--output", "json"], arguments].concat());
        assert_eq!(said.code, code, "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    }

    fn serial(&self) -> String {
        let listed = Command::new(env!("CARGO_BIN_EXE_segl"))
            .args(["keys", "--module", LIBRARY, "--output", "uri"])
            .current_dir(self.0.path())
            .env("STATE_DIRECTORY", self.path("state"))
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .unwrap();
        let uri: Uri = String::from_utf8(listed.stdout).unwrap().trim().parse().unwrap();
        uri.serial().unwrap().to_owned()
    }
}

/// Of each trial what was tried, with which mechanism, how it ended, and whether that is odd.
fn trials(report: &Value) -> Vec<(&str, &str, bool)> {
    let trials = report["trials"].as_array().unwrap().iter();
    trials
        .map(|trial| {
            let what = trial["mechanism"].as_str().or(trial["what"].as_str()).unwrap();
            (what, trial["verdict"].as_str().unwrap(), trial["odd"].as_bool().unwrap())
        })
        .collect()
}

fn detail<'a>(report: &'a Value, what: &str) -> &'a str {
    let trials = report["trials"].as_array().unwrap();
    let trial = trials.iter().find(|trial| trial["mechanism"] == what || trial["what"] == what);
    trial.unwrap_or_else(|| panic!("{report}"))["detail"].as_str().unwrap()
}

#[test]
fn a_report_begins_with_what_a_vendor_asks_for_and_names_neither_device_nor_key() {
    let bench = Bench::with_key();
    let serial = bench.serial();
    let said = bench.test(Path::new(LIBRARY), "pin", &["--threads", "2"]);
    assert_eq!(said.code, 0, "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    for (line, expected) in [
        (0, "library              /usr/lib/"),
        (1, "  manufacturer       SoftHSM"),
        (3, "  version            2."),
        (4, "  PKCS#11            2.40"),
        (5, "device               SoftHSM v2"),
        (6, "  manufacturer       SoftHSM project"),
        (8, "  firmware           2."),
    ] {
        assert!(lines[line].starts_with(expected), "line {line} of {said:?}");
    }
    for expected in [
        "profile              softhsm2 (tested here)\n",
        &format!(
            "Segl                 {} on {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
        "key                  RSA-2048\n",
        "  PIN per signature  no (CKA_ALWAYS_AUTHENTICATE)\n",
        "  may be used with   all (CKA_ALLOWED_MECHANISMS)\n",
        "CKM_RSA_PKCS ",
        "RS256, hashed by the device: CKM_SHA256_RSA_PKCS  ok ",
        "RS512, hashed by Segl: CKM_RSA_PKCS ",
        " signatures a second, half of them within ",
        "signs again",
        "one is welcome, with this report, at ",
    ] {
        assert!(said.out.contains(expected), "{expected}: {said:?}");
    }
    for secret in [DEVICE, KEY, serial.as_str()] {
        assert!(!said.out.contains(secret) && !said.err.contains(secret), "{secret}: {said:?}");
    }
    let named = bench.test(Path::new(LIBRARY), "pin", &["--serials"]);
    assert!(named.out.contains(&format!("  label              {DEVICE}\n")), "{named:?}");
    assert!(named.out.contains(&format!("  serial number      {serial}\n")), "{named:?}");
}

#[test]
fn everything_works_on_a_device_that_does_what_it_says_and_json_has_the_same_facts() {
    let bench = Bench::with_key();
    let report = bench.report(Path::new(LIBRARY), 0, &["--threads", "2"]);
    assert_eq!(report["schema"], 1);
    assert_eq!(report["profile"], serde_json::json!({ "name": "softhsm2", "confidence": "tested" }));
    assert_eq!(report["key"]["bits"], 2048);
    assert!(report["device"].get("serial").is_none() && report["device"].get("label").is_none(), "{report}");
    let listed = report["mechanisms"].as_array().unwrap();
    let raw = listed.iter().find(|listed| listed["name"] == "CKM_RSA_PKCS").unwrap();
    assert_eq!((&raw["signs"], raw["key_size"].as_array().unwrap().len()), (&true.into(), 2));
    assert!(report["mechanisms_in_all"].as_u64().unwrap() > listed.len() as u64);
    assert_eq!(
        trials(&report),
        [
            ("CKM_SHA256_RSA_PKCS", "ok", false),
            ("CKM_RSA_PKCS", "ok", false),
            ("CKM_SHA384_RSA_PKCS", "ok", false),
            ("CKM_RSA_PKCS", "ok", false),
            ("CKM_SHA512_RSA_PKCS", "ok", false),
            ("CKM_RSA_PKCS", "ok", false),
            ("one after another", "ok", false),
            ("in 2 threads", "ok", false),
            ("a new start and login", "ok", false),
        ]
    );
    for (at, threads) in [(6, 1), (7, 2)] {
        let pace = &report["trials"][at]["pace"];
        assert_eq!((&pace["threads"], &pace["wrong"]), (&threads.into(), &0.into()), "{report}");
        let [rate, median, slowest] =
            ["rate", "median_ms", "slowest_ms"].map(|it| pace[it].as_f64().unwrap());
        assert!(rate > 0.0 && median > 0.0 && slowest >= median, "{report}");
        assert!(pace["signatures"].as_u64().unwrap() >= threads, "{report}");
    }
}

#[test]
fn a_key_that_is_held_to_one_mechanism_is_no_oddity() {
    let bench = Bench::new();
    bench.make("rsa:2048", &["--allowed-mechanisms", "RSA-PKCS"]);
    let report = bench.report(Path::new(LIBRARY), 0, &[]);
    assert_eq!(report["key"]["allowed_mechanisms"], serde_json::json!(["CKM_RSA_PKCS"]));
    assert_eq!(
        trials(&report)[..6],
        [
            ("CKM_SHA256_RSA_PKCS", "refused", false),
            ("CKM_RSA_PKCS", "ok", false),
            ("CKM_SHA384_RSA_PKCS", "refused", false),
            ("CKM_RSA_PKCS", "ok", false),
            ("CKM_SHA512_RSA_PKCS", "refused", false),
            ("CKM_RSA_PKCS", "ok", false),
        ]
    );
    assert_eq!(
        detail(&report, "CKM_SHA256_RSA_PKCS"),
        "CKR_MECHANISM_INVALID (C_SignInit); CKA_ALLOWED_MECHANISMS leaves it out"
    );
}

#[test]
fn a_wrong_signature_and_a_crash_are_lines_of_the_report_and_the_rest_goes_on() {
    let bench = Bench::with_key();
    let library = bench.stumbling("abort", 100);
    let report = bench.report(&library, 4, &[]);
    assert_eq!(report["profile"]["name"], "unknown");
    assert_eq!(
        trials(&report),
        [
            ("CKM_SHA256_RSA_PKCS", "ok", false),
            ("CKM_RSA_PKCS", "ok", false),
            ("CKM_SHA384_RSA_PKCS", "wrong", true),
            ("CKM_RSA_PKCS", "ok", false),
            ("RS512, hashed by the device", "crashed", true),
            ("CKM_RSA_PKCS", "ok", false),
            ("one after another", "ok", false),
            ("a new start and login", "ok", false),
        ]
    );
    let crash = detail(&report, "RS512, hashed by the device");
    assert!(crash.contains("ended unexpectedly (signal: 6 (SIGABRT))"), "{crash}");
    let said = bench.test(&library, "pin", &[]);
    assert!(said.out.contains("crashed (odd)") && said.out.contains("wrong (odd)"), "{said:?}");
    assert!(said.err.contains("2 of 8 trials did not go as the device says they should"), "{said:?}");
}

#[test]
fn a_library_that_hangs_is_ended_when_its_profile_says_so_and_the_rest_goes_on() {
    let bench = Bench::with_key();
    let library = bench.stumbling("pause", 100);
    fs::create_dir(bench.path("profiles")).unwrap();
    let profile = "schema = 1\nname = \"stumbling\"\ntitle = \"Stumbling\"\nconfidence = \"guess\"\n\
        sources = [\"this test\"]\n[match]\nmodule_file = [\"stumbling.so\"]\n\
        [module]\ninit_timeout_s = 20\nenv = [\"SOFTHSM2_CONF\"]\n[sign]\ncall_timeout_s = 1\n";
    fs::write(bench.path("profiles/stumbling.toml"), profile).unwrap();
    let folder = bench.path("profiles");
    let report = bench.report(&library, 4, &["--profiles", folder.to_str().unwrap()]);
    assert_eq!(report["profile"], serde_json::json!({ "name": "stumbling", "confidence": "guess" }));
    assert_eq!(
        trials(&report)[4..],
        [
            ("RS512, hashed by the device", "crashed", true),
            ("CKM_RSA_PKCS", "ok", false),
            ("one after another", "ok", false),
            ("a new start and login", "ok", false),
        ]
    );
    let hang = detail(&report, "RS512, hashed by the device");
    assert!(hang.starts_with("the library's process hung in trial of a signature for "), "{hang}");
}

#[test]
fn a_device_with_few_sessions_is_tried_in_as_many_threads_as_it_has_room_for() {
    let bench = Bench::with_key();
    let library = bench.stumbling("abort", 3);
    let report = bench.report(&library, 4, &["--threads", "4"]);
    assert_eq!(trials(&report)[6..9].iter().map(|(_, verdict, _)| *verdict).collect::<Vec<_>>(), ["ok"; 3]);
    // One session holds the login, two sign.
    assert_eq!(report["trials"][7]["pace"]["threads"], 2);
    assert_eq!(report["trials"][8]["pace"]["threads"], 2);
    let said = detail(&report, "in 4 threads");
    assert!(
        said.ends_with("the device has sessions for 2 of 4: CKR_SESSION_COUNT (C_OpenSession)"),
        "{said}"
    );
}

#[test]
fn a_wrong_pin_is_tried_once_and_ends_the_test() {
    let bench = Bench::with_key();
    let refused = bench.test(&spy().unwrap(), "wrong-pin", &[]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{refused:?}");
    assert!(refused.err.contains("refused the PIN (CKR_PIN_INCORRECT); it was tried once"), "{refused:?}");
    assert_eq!(calls(&bench, "C_Login"), 1);
}

#[test]
fn a_person_types_the_pin_once_whether_it_was_right_or_not() {
    let bench = Bench::with_key();
    let ok = bench.type_pin(PIN);
    assert!(
        ok.contains("ended with 0") && ok.contains("left out  it wants a PIN to be typed once more"),
        "{ok}"
    );
    let refused = bench.type_pin(WRONG_PIN);
    assert!(refused.contains("ended with 2") && refused.contains("CKR_PIN_INCORRECT"), "{refused}");
    for screen in [ok, refused] {
        assert_eq!(screen.matches("PIN for ").count(), 1, "{screen}");
    }
}

#[test]
fn signatures_are_verified_here_and_only_the_new_start_costs_another_login() {
    let bench = Bench::with_key();
    bench.report(&spy().unwrap(), 0, &[]);
    let counted = ["C_Initialize", "C_Login", "C_Finalize", "C_VerifyInit"].map(|it| calls(&bench, it));
    assert_eq!(counted, [2, 2, 2, 0]);
    assert!(calls(&bench, "C_Sign") > 8);
}

/// How often the library was called through the one that writes down every call.
fn calls(bench: &Bench, function: &str) -> usize {
    let log = fs::read_to_string(bench.path("spy.log")).unwrap();
    log.lines().filter(|line| line.split_once(": ").is_some_and(|(_, name)| name == function)).count()
}

#[test]
fn a_key_that_cannot_be_used_has_a_report_all_the_same() {
    let bench = Bench::new();
    bench.make("EC:prime256v1", &[]);
    let said = bench.test(Path::new(LIBRARY), "pin", &[]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.out.contains("key                  cannot be used: its type is EC\n"), "{said:?}");
    assert!(said.out.contains("CKM_ECDSA ") && !said.out.contains("TRIED"), "{said:?}");
    assert!(
        said.err.contains("the key cannot be used: its type is EC") && !said.err.contains(KEY),
        "{said:?}"
    );
}

#[test]
fn a_device_that_is_away_or_a_key_that_is_not_there_is_told_apart() {
    let bench = Bench::new();
    let no_key = bench.test(Path::new(LIBRARY), "pin", &[]);
    assert_eq!((no_key.code, no_key.out.as_str()), (2, ""), "{no_key:?}");
    fs::rename(bench.path("tokens"), bench.path("away")).unwrap();
    fs::create_dir(bench.path("tokens")).unwrap();
    let away = bench.test(Path::new(LIBRARY), "pin", &[]);
    assert_eq!((away.code, away.out.as_str()), (3, ""), "{away:?}");
}
