//! `segl pin set` with the real program and the real `systemd-creds`.
//!
//! It has a `main` of its own: where `systemd-creds` cannot encrypt, its test is reported as ignored, by name. In CI, it
//! fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/need.rs"]
mod need;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, ExitCode, Output, Stdio},
};

use libtest_mimic::Arguments;
use segl::state::{Mode, write_file};

use self::need::Need;

const CONFIGURATION: &str = r#"
schema = 1
[signers.hsm]
key = "pkcs11:token=A"
pin = ["credential:hsm-pin", "prompt"]
sign_pin = ["file:seal-pin"]
[signers.asking]
key = "pkcs11:token=A"
pin = "prompt"
"#;

const PIN: &str = "4711-0815";

macro_rules! tests {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn())),*] };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let lack = cannot_encrypt().map(|why| format!("{why}: systemd 250 or newer has it, and root its key"));
    let need = Need::of("systemd-creds", lack, &arguments);
    let with_systemd = tests![a_credential_is_encrypted_by_systemd_and_comes_back_as_the_pin];
    let without = tests![
        without_systemd_creds_a_credential_is_a_file_for_its_owner_alone_and_that_is_said,
        what_is_there_is_replaced_only_when_that_is_meant,
        what_cannot_be_done_is_said_and_nothing_is_repeated,
    ];
    let mut trials = need.trials(&with_systemd);
    trials.extend(Need::nothing().trials(&without));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Why `systemd-creds` does not encrypt on this machine.
fn cannot_encrypt() -> Option<String> {
    let home = home();
    let trial = Command::new("systemd-creds")
        .args(["encrypt", "--name=trial", "given", "trial"])
        .current_dir(home.path())
        .output();
    match trial {
        Ok(trial) if trial.status.success() => None,
        Ok(trial) => Some(format!("it says: {}", String::from_utf8_lossy(&trial.stderr).trim())),
        Err(why) => Some(format!("it cannot be started ({why})")),
    }
}

fn home() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("segl.toml", CONFIGURATION), ("given", PIN)] {
        write_file(&folder.path().join(name), content.as_bytes(), Mode::Private, false).unwrap();
    }
    folder
}

fn segl(home: &Path, path: &str, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_segl"))
        .args(["pin", "set"])
        .args(arguments)
        .current_dir(home)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains(PIN), "{said}");
    assert!(output.stdout.is_empty());
    (output, said)
}

fn a_credential_is_encrypted_by_systemd_and_comes_back_as_the_pin() {
    let home = home();
    let path = std::env::var("PATH").unwrap();
    let (output, said) = segl(home.path(), &path, &["hsm", "--from", "file:given", "--directory", "store"]);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("LoadCredentialEncrypted=hsm-pin:"), "{said}");
    let kept = home.path().join("store/hsm-pin");
    assert!(!String::from_utf8_lossy(&fs::read(&kept).unwrap()).contains(PIN));
    let back = Command::new("systemd-creds").args(["decrypt", "--name=hsm-pin"]).arg(&kept).arg("-").output();
    assert_eq!(back.unwrap().stdout, PIN.as_bytes());
}

fn without_systemd_creds_a_credential_is_a_file_for_its_owner_alone_and_that_is_said() {
    let home = home();
    let (output, said) =
        segl(home.path(), "/nonexistent", &["hsm", "--from", "file:given", "--directory", "s"]);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("It is not encrypted") && said.contains("LoadCredential=hsm-pin:"), "{said}");
    let kept = home.path().join("s/hsm-pin");
    assert_eq!(fs::read_to_string(&kept).unwrap(), PIN);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
}

fn what_is_there_is_replaced_only_when_that_is_meant() {
    let home = home();
    let kept = home.path().join("seal-pin");
    fs::write(&kept, "old").unwrap();
    let arguments = ["hsm", "--sign-pin", "--from", "file:given"];
    let (output, said) = segl(home.path(), "", &arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("is there already") && said.contains("--force"), "{said}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "old");
    let (output, said) = segl(home.path(), "", &[&arguments[..], &["--force"]].concat());
    assert!(output.status.success(), "{said}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), PIN);
}

fn what_cannot_be_done_is_said_and_nothing_is_repeated() {
    let home = home();
    fs::set_permissions(home.path().join("given"), fs::Permissions::from_mode(0o644)).unwrap();
    for (arguments, expected) in [
        (&["asking", "--from", "file:given"][..], "names no place where a PIN can be kept"),
        (&["asking", "--sign-pin"], "names no place"),
        (&["hsm", "--directory", ".", "--from", PIN], "--from names no file"),
        (&["hsm", "--directory", ".", "--from", "file:given"], "can be used by others"),
        (&["hsm", "--directory", ".", "--from", "file:none"], "is not there"),
        (&["other"], "there is no signer called"),
    ] {
        let (output, said) = segl(home.path(), "", arguments);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
