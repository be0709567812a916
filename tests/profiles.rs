//! Device profiles as an administrator meets them: the real program, folders and a configuration of its own.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::Value;

const MADE_UP: &str = r#"
schema = 1
name = "made-up"
title = "A made-up device"
confidence = "guess"
sources = ["https://example.com/"]
notes = ["It does not exist."]
[match]
module_file = ["libmade-up.so*"]
[module]
paths = ["/no/such/libmade-up.so"]
[session]
lanes = 3
"#;

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("profiles")).unwrap();
        let desk = Self { folder };
        desk.set_mode("profiles", 0o755);
        desk
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        fs::write(self.folder.path().join(name), text).unwrap();
        self.set_mode(name, 0o644);
        self
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_segl"));
        command.args(arguments).current_dir(self.folder.path());
        command
            .env_remove("SEGL_PROFILES")
            .env_remove("SEGL_CONFIG")
            .env("COLUMNS", "100")
            .env("LC_ALL", "C");
        command
    }

    /// Standard output of a command that succeeds.
    fn ok(&self, arguments: &[&str]) -> String {
        said(&mut self.command(arguments))
    }

    /// Exit code and standard error of one that does not.
    fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_folder_adds_profiles_and_takes_the_place_of_others() {
    let desk = Desk::new();
    desk.write("profiles/made-up.toml", MADE_UP);
    desk.write("profiles/luna.toml", &MADE_UP.replace("\"made-up\"", "\"luna\""));
    let listed = json(&desk.ok(&["--profiles", "profiles", "profiles", "--output", "json"]));
    assert_eq!(listed["schema"], 1);
    let row = |name: &str| {
        let rows = listed["profiles"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    assert_eq!(row("made-up")["origin"], "profiles/made-up.toml");
    assert_eq!(row("made-up")["library"], Value::Null);
    assert_eq!(row("luna")["title"], "A made-up device");
    assert_eq!(row("nss")["origin"], "this build");
    assert_eq!(row("nss")["confidence"], "tested");
    let by_variable = said(desk.command(&["profiles", "list"]).env("SEGL_PROFILES", "profiles"));
    assert!(by_variable.contains("A made-up device"), "{by_variable}");
    assert!(!desk.ok(&["profiles"]).contains("made-up"));
}

#[test]
fn a_library_that_is_installed_is_shown() {
    let desk = Desk::new();
    let library = desk.folder.path().join("libmade-up.so");
    let library = library.to_str().unwrap();
    desk.write("libmade-up.so", "");
    desk.write("profiles/made-up.toml", &MADE_UP.replace("/no/such/libmade-up.so", library));
    let table = desk.ok(&["--profiles", "profiles", "profiles"]);
    let row = table.lines().find(|line| line.starts_with("made-up ")).unwrap();
    assert!(row.ends_with(library) && row.contains("a guess"), "{row}");
}

#[test]
fn the_configuration_changes_fields_and_makes_profiles_out_of_others() {
    let desk = Desk::new();
    desk.write("profiles/made-up.toml", MADE_UP);
    desk.write(
        "segl.toml",
        "schema = 1\n[profiles.made-up.session]\nlanes = 5\n[profiles.spare]\nbased_on = \"made-up\"\n",
    );
    let show =
        |name| json(&desk.ok(&["--profiles", "profiles", "profiles", "show", name, "--output", "json"]));
    for name in ["made-up", "spare"] {
        let shown = show(name);
        assert_eq!(shown["origin"], "the configuration");
        let differences = shown["differences"].as_array().unwrap();
        let lanes = differences.iter().find(|found| found["field"] == "session.lanes").unwrap();
        assert_eq!(lanes["value"], 5);
        assert!(lanes["why"].as_str().unwrap().ends_with('.'));
    }
    assert_eq!(show("spare")["match"]["module_file"], Value::Array(Vec::new()));
    let text = desk.ok(&["--profiles", "profiles", "profiles", "show", "made-up"]);
    for part in
        ["made-up: A made-up device", "a guess", "session.lanes = 5", "It does not exist.", "https://e"]
    {
        assert!(text.contains(part), "{text}");
    }
    // Without the folder there is nothing that could be changed.
    let (code, error) = desk.refused(&["--config", "segl.toml", "profiles"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("[profiles.made-up]: there is no profile \"made-up\""), "{error}");
    let (code, error) = desk.refused(&["config", "check"]);
    assert_eq!(code, Some(2), "{error}");
    desk.ok(&["--profiles", "profiles", "config", "check"]);
}

#[test]
fn a_mistake_is_said_with_file_and_key_and_what_to_do() {
    let desk = Desk::new();
    desk.write("profiles/made-up.toml", &MADE_UP.replace("lanes = 3", "lanes = 33"));
    let (code, error) = desk.refused(&["--profiles", "profiles", "profiles"]);
    assert_eq!(code, Some(2));
    let mut lines = error.lines();
    assert_eq!(lines.next(), Some("segl: profiles/made-up.toml: session.lanes: is 1 to 32, not 33"));
    assert!(lines.next().is_some_and(|remedy| remedy.starts_with("      Correct")), "{error}");
    desk.write("profiles/made-up.toml", MADE_UP);
    desk.write("segl.toml", "schema = 1\n[profiles.luna.session]\nlanse = 2\n");
    let (code, error) = desk.refused(&["config", "check"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("segl.toml:3: profiles.luna.session.lanse: this key is not known"), "{error}");
    assert!(error.contains("did you mean \"lanes\"?"), "{error}");
}

#[test]
fn a_profile_that_others_could_have_written_is_refused() {
    let desk = Desk::new();
    desk.write("profiles/made-up.toml", MADE_UP);
    for (path, mode) in [("profiles/made-up.toml", 0o664), ("profiles", 0o777)] {
        desk.set_mode(path, mode);
        let (code, error) = desk.refused(&["--profiles", "profiles", "profiles"]);
        assert_eq!(code, Some(2));
        assert!(error.contains(path) && error.contains("chmod go-w"), "{error}");
        desk.set_mode(path, 0o644 | (mode & 0o111));
    }
    desk.ok(&["--profiles", "profiles", "profiles"]);
}

#[test]
fn a_signer_with_a_profile_that_nobody_knows_is_refused_before_anything_is_signed() {
    let desk = Desk::new();
    desk.write(
        "segl.toml",
        r#"schema = 1
[signers.hsm]
key = "pkcs11:token=a;object=b"
profile = "lunar"
pin = "file:pin"
[clients.app]
environment = "test"
client_id = "c"
signer = "hsm"
kid = "k"
[tokens.road]
client = "app"
scopes = ["toll:movement/road/v2"]
"#,
    );
    let (code, error) = desk.refused(&["grant", "road"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("there is no profile called \"lunar\"") && error.contains("luna"), "{error}");
}
