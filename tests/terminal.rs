//! A person at a terminal, which `script` (of util-linux) plays.

#![cfg(feature = "cli")]

use std::{
    fs,
    process::{Command, Stdio},
};

use segl::state::{Mode, write_file};

const CONFIGURATION: &str = r#"
schema = 1
[signers.s]
key = "file:key.pem"
pin = "prompt"
[clients.c]
environment = "test"
client_id = "c"
signer = "s"
kid = "k"
[tokens.t]
client = "c"
scopes = ["a:b"]
"#;

#[test]
fn a_person_who_does_not_type_the_password_in_time_gets_the_terminal_back() {
    let folder = tempfile::tempdir().unwrap();
    let encrypted = include_bytes!("../fuzz/corpus/key_file/encrypted.pem");
    write_file(&folder.path().join("key.pem"), encrypted, Mode::Private, false).unwrap();
    write_file(&folder.path().join("segl.toml"), CONFIGURATION.as_bytes(), Mode::Private, false).unwrap();
    let script = format!("{} grant t --timeout 1; echo ended with $?; stty -a", env!("CARGO_BIN_EXE_segl"));
    write_file(&folder.path().join("run"), script.as_bytes(), Mode::Private, false).unwrap();

    let mut terminal = Command::new("timeout")
        .args(["60", "script", "-qec", "sh run", "/dev/null"])
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(fs::File::create(folder.path().join("screen")).unwrap())
        .spawn()
        .unwrap();
    // Held open: nobody types, and nobody goes away.
    let keyboard = terminal.stdin.take();
    let status = terminal.wait().unwrap();
    drop(keyboard);

    let screen = fs::read_to_string(folder.path().join("screen")).unwrap();
    assert!(status.success(), "{status}: {screen}");
    assert!(screen.contains("Password of the key file of s:"), "{screen}");
    assert!(screen.contains("ended with 3"), "{screen}");
    assert!(screen.split_whitespace().any(|word| word == "echo"), "what is typed stays invisible: {screen}");
}
