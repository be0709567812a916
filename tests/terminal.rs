//! A person at a terminal, which `script` (of util-linux) plays.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use pkcs8::pkcs5::pbes2;
use segl::state::{Mode, write_file};

const CONFIGURATION: &str = r#"
schema = 1
[signers.s]
key = "file:key.pem"
pin = "prompt"
[signers.hsm]
key = "pkcs11:token=A"
profile = "softhsm2"
pin = ["prompt", "credential:hsm-pin"]
sign_pin = "file:seal-pin"
[clients.c]
environment = "test"
client_id = "c"
signer = "s"
kid = "k"
[tokens.t]
client = "c"
scopes = ["a:b"]
"#;

const PASSWORD: &str = "correct horse";

/// The key of the fuzzer, whose own password is the empty one, which nobody can type.
fn encrypted_key() -> Vec<u8> {
    let pem = include_str!("../fuzz/corpus/key_file/encrypted.pem");
    let (_, file) = pkcs8::SecretDocument::from_pem(pem).unwrap();
    let key = pkcs8::EncryptedPrivateKeyInfoRef::try_from(file.as_bytes()).unwrap().decrypt("").unwrap();
    let encryption = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(2048, &[7; 16], [9; 16]).unwrap();
    let key = pkcs8::PrivateKeyInfoRef::try_from(key.as_bytes()).unwrap();
    key.encrypt_with_params(encryption, PASSWORD).unwrap().as_bytes().to_vec()
}

/// What follows a command, to see how it left the terminal.
const AFTERWARDS: &str = "echo ended with $?; stty -a";

/// A terminal in which `segl` runs, in a folder of its own with an encrypted key.
struct Terminal {
    process: Child,
    keyboard: ChildStdin,
    output: ChildStdout,
    screen: String,
    folder: tempfile::TempDir,
}

impl Terminal {
    fn with(arguments: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            write_file(&folder.path().join(name), content, Mode::Private, false).unwrap();
        };
        write("key.pem", &encrypted_key());
        write("segl.toml", CONFIGURATION.as_bytes());
        write("run", format!("{} {arguments}; {AFTERWARDS}", env!("CARGO_BIN_EXE_segl")).as_bytes());
        let mut process = Command::new("timeout")
            .args(["120", "script", "-qec", "sh run", "/dev/null"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keyboard = process.stdin.take().unwrap();
        let output = process.stdout.take().unwrap();
        Self { process, keyboard, output, screen: String::new(), folder }
    }

    /// Waits until `text` shows once more than it did so far, then types `keys`.
    fn type_after(&mut self, text: &str, keys: &str) {
        let seen = self.screen.len();
        while !self.screen[seen..].contains(text) {
            let mut some = [0; 256];
            let count = self.output.read(&mut some).unwrap();
            assert!(count > 0, "{text} never showed: {}", self.screen);
            self.screen.push_str(&String::from_utf8_lossy(some.get(..count).unwrap()));
        }
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// All that showed, once everything has ended. What is typed must show again then.
    fn screen(&mut self) -> String {
        let mut rest = Vec::new();
        // Held open until here: nobody types any more, and nobody goes away.
        self.output.read_to_end(&mut rest).unwrap();
        let status = self.process.wait().unwrap();
        self.screen.push_str(&String::from_utf8_lossy(&rest));
        let screen = self.screen.clone();
        assert!(status.success(), "{status}: {screen}");
        for mode in ["echo", "icanon", "isig"] {
            assert!(
                screen.split_whitespace().any(|word| word == mode),
                "the terminal is left without {mode}: {screen}"
            );
        }
        screen
    }
}

const QUESTION: &str = "Password of the key file of s";

#[test]
fn a_person_who_does_not_type_the_password_in_time_gets_the_terminal_back() {
    let mut terminal = Terminal::with("grant t --timeout 1");
    let screen = terminal.screen();
    assert!(screen.contains(QUESTION) && screen.contains("ended with 3"), "{screen}");
}

#[test]
fn a_person_who_gives_up_with_ctrl_c_gets_the_terminal_back() {
    let mut terminal = Terminal::with("grant t");
    terminal.type_after(QUESTION, "secr\u{3}");
    let screen = terminal.screen();
    assert!(screen.contains("ended with 130") && !screen.contains("secr"), "{screen}");
}

#[test]
fn a_person_who_mistypes_is_asked_three_times_and_no_more() {
    let mut terminal = Terminal::with("grant t");
    terminal.type_after(&format!("{QUESTION}: "), "wrong1\r");
    terminal.type_after(&format!("{QUESTION}, try 2 of 3: "), "wrong2\r");
    terminal.type_after(&format!("{QUESTION}, try 3 of 3 (most devices lock"), "wrong3\r");
    let screen = terminal.screen();
    assert!(screen.contains("ended with 2") && !screen.contains("wrong1"), "{screen}");
    assert_eq!(screen.matches("another try").count(), 2, "{screen}");
}

#[test]
fn a_password_that_is_right_the_second_time_is_right() {
    let mut terminal = Terminal::with("grant t --decode");
    terminal.type_after(&format!("{QUESTION}: "), "wrong\r");
    terminal.type_after("try 2 of 3: ", &format!("{PASSWORD}\r"));
    let screen = terminal.screen();
    assert!(screen.contains("\"iss\": \"c\"") && screen.contains("ended with 0"), "{screen}");
}

#[test]
fn a_pin_is_asked_for_twice_and_kept_in_a_file_for_its_owner_alone() {
    let mut terminal = Terminal::with("pin set hsm --sign-pin");
    terminal.type_after("New sign_pin of hsm: ", "4711-0815\r");
    terminal.type_after("The same again: ", "4711-0815\r");
    let screen = terminal.screen();
    assert!(screen.contains("ended with 0") && !screen.contains("4711"), "{screen}");
    let file = terminal.folder.path().join("seal-pin");
    assert_eq!(fs::read_to_string(&file).unwrap(), "4711-0815");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn two_pins_that_differ_are_not_written() {
    let mut terminal = Terminal::with("pin set hsm --sign-pin");
    terminal.type_after("New sign_pin of hsm: ", "4711-0815\r");
    terminal.type_after("The same again: ", "4711-0816\r");
    let screen = terminal.screen();
    assert!(screen.contains("the two are not the same") && screen.contains("ended with 2"), "{screen}");
    assert!(!terminal.folder.path().join("seal-pin").exists());
}

#[test]
fn a_person_who_answers_a_few_questions_has_a_configuration_that_holds() {
    let mut terminal = Terminal::with("init --out first.toml");
    for (question, answer) in [
        ("Number [1]: ", "4"),
        ("1, 2 or 3", "2"),
        ("Environment: test or prod [test]: ", ""),
        ("file:PATH", "client.pem"),
        ("a key begins with pkcs11: or file:", "file:key.pem"),
        ("empty for none: ", "prompt"),
        ("kid or certificate: ", "kid"),
        ("kid, as Samarbeidsportalen shows it: ", "k-2026"),
        ("empty if you do not know: ", "soon"),
        ("a day is written as YYYY-MM-DD", "2099-05-01"),
        ("Client id, from Samarbeidsportalen: ", "0b1c2d3e-0000-4000-8000-000000000003"),
        ("Scope: ", "lorry"),
        ("toll:movement/road/v2: ", "toll:movement/road/v2"),
    ] {
        terminal.type_after(question, &format!("{answer}\r"));
    }
    let screen = terminal.screen();
    assert!(screen.contains("written: first.toml") && screen.contains("ended with 0"), "{screen}");
    let written = fs::read_to_string(terminal.folder.path().join("first.toml")).unwrap();
    for line in [
        "environment  = \"test\"",
        "kid_expires  = 2099-05-01",
        "consumer_org = \"required\"",
        "exchange     = \"customs\"",
    ] {
        assert!(written.contains(line), "{line}: {written}");
    }
}
