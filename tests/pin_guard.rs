//! However often and in whatever way Segl is started, a wrong PIN is not tried until the device locks. With the real
//! program and the real SoftHSM2 behind a library that writes down every call, which Segl takes for that of an unknown
//! device: one that can lock.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows its figures, and clippy knows only #[test] functions as tests"
)]

#[path = "support/processes.rs"]
mod processes;
#[path = "support/said.rs"]
mod said;
#[path = "support/softhsm.rs"]
mod softhsm;

use std::{
    fs::{self, File, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FileType, Mode},
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

use self::{
    processes::children,
    said::beside_softhsm,
    softhsm::{LIBRARY, PIN, SO_PIN, configure, spy},
};

const WRONG_PIN: &str = "0815-4711";

/// Longer than a program takes to come to its login on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder on a disk with a SoftHSM2 of its own, and the state of Segl.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        assert!(Path::new(LIBRARY).exists(), "SoftHSM2 is missing: apt-get install softhsm2");
        let target = fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let desk = Self(tempfile::tempdir_in(target).unwrap());
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "ci", "--so-pin", SO_PIN, "--pin", PIN])
            .env("SOFTHSM2_CONF", configure(desk.0.path()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let library = spy().expect("pkcs11-spy is missing: apt-get install opensc-pkcs11");
        fs::copy(&library, desk.path("proxy.so")).unwrap();
        let signer = |name: &str, library: &Path, pin: &str| {
            format!(
                "[signers.{name}]\nkey = \"pkcs11:token=ci?module-path={}\"\npin = {pin:?}\n",
                library.display()
            )
        };
        let pin_file = format!("file:{}", desk.path("pin").display());
        let configuration = [
            "schema = 1\n".into(),
            signer("file", &library, &pin_file),
            signer("proxy", &desk.path("proxy.so"), &pin_file),
            signer("credential", &library, "credential:hsm-pin"),
        ];
        fs::write(desk.path("segl.toml"), configuration.concat()).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a PIN, into a new file each time.
    fn keep(&self, name: &str, pin: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The old file is there until the new one is: no two have one inode.
        fs::write(self.path("new"), pin).unwrap();
        fs::set_permissions(self.path("new"), Permissions::from_mode(0o600)).unwrap();
        fs::rename(self.path("new"), path).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = beside_softhsm(self.0.path(), LIBRARY);
        command.args(arguments).env("CREDENTIALS_DIRECTORY", self.path("credentials"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn segl(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().unwrap())
    }

    /// Looks for the only key of `signer`, which takes a login; there is none, which is seen after the login.
    fn log_in(&self, signer: &str) -> Said {
        self.segl(&["keys", "jwk", signer])
    }

    fn logins(&self) -> usize {
        let log = fs::read_to_string(self.path("spy.log")).unwrap_or_default();
        log.lines().filter(|line| line.split_once(": ").is_some_and(|(_, name)| name == "C_Login")).count()
    }

    /// What the device answered to the last try, as the only record has it.
    fn answer(&self) -> Option<String> {
        let [record] = &self.records()[..] else { panic!("one record: {:?}", self.records()) };
        let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        record["answer"].as_str().map(str::to_owned)
    }

    fn records(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("state")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
    }
}

/// What one start of the program said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        for pin in [PIN, WRONG_PIN] {
            assert!(!said.out.contains(pin) && !said.err.contains(pin), "a PIN was printed: {said:?}");
        }
        said
    }
}

impl Said {
    #[track_caller]
    fn refused(&self, sentence: &str) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.err.contains(sentence), "{self:?}");
    }

    /// The login went well: what is missing is the key.
    #[track_caller]
    fn logged_in(&self) {
        assert!(self.err.contains("no private key matches"), "{self:?}");
    }
}

const REFUSED_BEFORE: &str = "was refused before; it was not tried again";
const CUT_SHORT: &str = "ended without a word on the PIN";

#[test]
fn a_hundred_starts_with_a_wrong_pin_spend_one_try() {
    let desk = Desk::new();
    desk.keep("pin", WRONG_PIN);
    desk.log_in("file").refused("refused the PIN (CKR_PIN_INCORRECT)");
    for _ in 1..100 {
        desk.log_in("file").refused(REFUSED_BEFORE);
    }
    assert_eq!(desk.logins(), 1);
    println!("100 starts with a wrong PIN: {} try", desk.logins());
    let record = fs::read_to_string(&desk.records()[0]).unwrap();
    assert!(!record.contains(WRONG_PIN) && record.contains("\"spent\": 1"), "{record}");
}

#[test]
fn a_credential_that_is_made_anew_at_each_of_a_hundred_starts_spends_one_try() {
    let desk = Desk::new();
    for _ in 0..100 {
        desk.keep("credentials/hsm-pin", WRONG_PIN);
        assert_eq!(desk.log_in("credential").code, Some(2));
    }
    assert_eq!(desk.logins(), 1);
    println!("100 starts, each with the wrong PIN in a new file, as a credential: {} try", desk.logins());
    // Not even the right one: nobody can see that it is another one.
    desk.keep("credentials/hsm-pin", PIN);
    desk.log_in("credential").refused(REFUSED_BEFORE);
    desk.segl(&["pin", "unblock", "credential", "--yes"]);
    desk.log_in("credential").logged_in();
    assert_eq!(desk.logins(), 2);
}

#[test]
fn a_file_that_is_rewritten_ten_times_with_the_same_wrong_pin_spends_two_tries() {
    let desk = Desk::new();
    for _ in 0..10 {
        desk.keep("pin", WRONG_PIN);
        assert_eq!(desk.log_in("file").code, Some(2));
    }
    assert_eq!(desk.logins(), 2);
    println!("a file rewritten ten times with the same wrong PIN: {} tries", desk.logins());
}

#[test]
fn a_corrected_file_is_tried_once_more_and_all_is_forgotten() {
    let desk = Desk::new();
    desk.keep("pin", WRONG_PIN);
    desk.log_in("file").refused("CKR_PIN_INCORRECT");
    assert_eq!(desk.records().len(), 1);
    desk.keep("pin", PIN);
    desk.log_in("file").logged_in();
    assert_eq!(desk.logins(), 2);
    assert_eq!(desk.records(), Vec::<PathBuf>::new());
    println!("a corrected file: {} tries in all, the second good, nothing left on record", desk.logins());
}

#[test]
fn two_processes_at_once_spend_one_try() {
    let desk = Desk::new();
    desk.keep("pin", WRONG_PIN);
    let starts: Vec<_> = (0..2).map(|_| desk.command(&["keys", "jwk", "file"]).spawn().unwrap()).collect();
    for start in starts {
        assert_eq!(Said::from(start.wait_with_output().unwrap()).code, Some(2));
    }
    assert_eq!(desk.logins(), 1);
    println!("two processes at once: {} try", desk.logins());
}

#[test]
fn one_device_behind_two_libraries_spends_one_try() {
    let desk = Desk::new();
    desk.keep("pin", WRONG_PIN);
    desk.log_in("proxy").refused("refused the PIN (CKR_PIN_INCORRECT)");
    desk.log_in("file").refused(REFUSED_BEFORE);
    assert_eq!((desk.logins(), desk.records().len()), (1, 1));
    println!("one device behind two libraries: {} try", desk.logins());
    desk.keep("pin", PIN);
    desk.log_in("file").logged_in();
    desk.log_in("proxy").logged_in();
    assert_eq!((desk.logins(), desk.records().len()), (3, 0));
}

#[test]
fn what_blocks_a_whole_hardware_is_found_by_the_name_of_any_device_in_it() {
    let desk = Desk::new();
    let configuration = fs::read_to_string(desk.path("segl.toml")).unwrap();
    let configuration = configuration.replace("pin = \"file", "profile = \"softhsm2\"\npin = \"file");
    let scope = |scope: &str| {
        let profile =
            format!("[profiles.softhsm2.login]\nlockout_scope = {scope:?}\nflags_reliable = false\n");
        fs::write(desk.path("segl.toml"), configuration.clone() + &profile).unwrap();
    };
    scope("device");
    desk.keep("pin", WRONG_PIN);
    desk.log_in("file").refused("CKR_PIN_INCORRECT");
    // As it is when another device of this hardware was the last one whose PIN was refused.
    let record = desk.records().remove(0);
    let of_another =
        fs::read_to_string(&record).unwrap().replace("\"label\": \"ci\"", "\"label\": \"other\"");
    fs::write(&record, of_another).unwrap();
    desk.log_in("file").refused(REFUSED_BEFORE);
    let status = || desk.segl(&["pin", "status", "file"]).out;
    assert!(status().contains("other ("), "{}", status());
    // To a device that locks by itself, it says nothing.
    scope("token");
    assert!(!status().contains("other ("), "{}", status());
    assert!(desk.segl(&["pin", "unblock", "file", "--yes"]).err.contains("Nothing is blocked there"));
    scope("device");
    let unblocked = desk.segl(&["pin", "unblock", "file", "--yes"]);
    assert_eq!((unblocked.code, desk.records().len()), (Some(0), 0), "{unblocked:?}");
    desk.keep("pin", PIN);
    desk.log_in("file").logged_in();
    assert_eq!(desk.logins(), 2);
}

#[test]
fn a_device_is_asked_what_it_says_of_its_pin_without_a_try() {
    let desk = Desk::new();
    desk.keep("pin", PIN);
    let status = |arguments: &[&str]| {
        let said = desk.segl(&[&["pin", "status"], arguments].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
    };
    let told = status(&["file", "--device"]);
    assert!(told.contains("No PIN has been refused") && told.contains("no wrong one was entered"), "{told}");
    desk.keep("pin", WRONG_PIN);
    desk.log_in("file").refused("CKR_PIN_INCORRECT");
    let uri = format!("pkcs11:token=ci?module-path={}", desk.path("proxy.so").display());
    for arguments in [&["file", "--device"][..], &["--device", &uri], &["--device"]] {
        let told = status(arguments);
        assert!(told.contains("CKR_PIN_INCORRECT"), "{told}");
        assert!(told.contains("a wrong PIN was entered since the last login"), "{told}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&status(&["file", "--device", "--output", "json"])).unwrap();
    assert_eq!((&json["schema"], &json["records"][0]["spent"]), (&1.into(), &1.into()));
    assert_eq!(json["devices"][0]["pin"], "count-low");
    let json: serde_json::Value = serde_json::from_str(&status(&["--output", "json"])).unwrap();
    assert!(json["devices"].is_null());
    let other = format!("pkcs11:token=other?module-path={}", desk.path("proxy.so").display());
    let told = status(&["--device", &other]);
    assert!(told.contains("token=other") && told.contains("it is not there"), "{told}");
    assert_eq!(desk.logins(), 1);
}

/// The procedure in docs/operations.md, word by word.
#[test]
fn a_pin_that_is_changed_as_the_manual_says_is_not_tried_with_its_old_value() {
    const NEW_PIN: &str = "1999-2026";
    let desk = Desk::new();
    desk.keep("pin", PIN);
    desk.log_in("file").logged_in();
    let changed = Command::new("pkcs11-tool")
        .args(["--module", LIBRARY, "--token-label", "ci", "--login", "--pin", PIN])
        .args(["--change-pin", "--new-pin", NEW_PIN])
        .env("SOFTHSM2_CONF", desk.path("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(changed.status.success(), "{changed:?}");
    desk.keep("new-pin", NEW_PIN);
    let from = format!("file:{}", desk.path("new-pin").display());
    let set = desk.segl(&["pin", "set", "file", "--force", "--from", &from]);
    assert_eq!(set.code, Some(0), "{set:?}");
    desk.log_in("file").logged_in();
    let status = desk.segl(&["pin", "status", "file", "--device"]);
    assert!(status.out.contains("No PIN has been refused"), "{status:?}");
    assert!(status.out.contains("no wrong one was entered"), "{status:?}");
    // One before the change, one after.
    assert_eq!((desk.logins(), desk.records().len()), (2, 0));
    println!("a PIN changed by the book: 0 tries with the old one");
}

/// What dies during a login.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Segl,
    TheLibrarysProcess,
}

/// Sends whenever C_Login is called, from inside of that call: it has been written down and is about to be made.
fn watch(fifo: &Path) -> mpsc::Receiver<()> {
    rustix::fs::mknodat(rustix::fs::CWD, fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // Opened for writing, too: it stays when a writer goes.
    let log = File::options().read(true).write(true).open(fifo).unwrap();
    let (seen, sees) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if line.split_once(": ").is_some_and(|(_, name)| name == "C_Login") && seen.send(()).is_err() {
                return;
            }
        }
    });
    sees
}

/// Kills `victim` once C_Login has been called. `false` when it was too late: the login had ended, and so had the
/// program, which happens where others have the processor meanwhile.
fn killed_in_time(victim: Victim) -> bool {
    let desk = Desk::new();
    desk.keep("pin", WRONG_PIN);
    let logins = watch(&desk.path("spy.log"));
    let start = desk.command(&["keys", "jwk", "file"]).spawn().unwrap();
    logins.recv_timeout(PATIENCE).expect("a login");
    let its = match victim {
        Victim::Segl => Some(start.id()),
        Victim::TheLibrarysProcess => children(start.id()).first().copied(),
    };
    let its = its.and_then(|process| Pid::from_raw(process.cast_signed()));
    // One that has ended and was not waited for yet takes the signal, and does nothing with it.
    let in_time = its.is_some_and(|process| kill_process(process, Signal::KILL).is_ok());
    let said = Said::from(start.wait_with_output().unwrap());
    let in_time = in_time && (said.code.is_none() || victim == Victim::TheLibrarysProcess);
    // Killed a moment later, it had been told the answer.
    let why = if desk.answer().is_some() { REFUSED_BEFORE } else { CUT_SHORT };
    for _ in 1..if in_time { 100 } else { 2 } {
        desk.log_in("file").refused(why);
    }
    assert_eq!(logins.try_recv(), Err(mpsc::TryRecvError::Empty));
    in_time
}

#[test]
fn a_process_that_is_killed_during_a_login_has_spent_its_try() {
    for victim in [Victim::Segl, Victim::TheLibrarysProcess] {
        assert!((0..50).any(|_| killed_in_time(victim)), "it was never killed in time");
        println!("kill -9 of {victim:?} during C_Login, then 99 starts: 1 try");
    }
}

#[test]
fn a_record_that_cannot_be_understood_blocks_until_a_person_removes_it() {
    let desk = Desk::new();
    desk.keep("pin", WRONG_PIN);
    desk.log_in("file");
    let record = desk.records().remove(0);
    let name = record.file_name().unwrap().to_str().unwrap();
    let good = fs::read_to_string(&record).unwrap();
    let other_version = good.replace("\"version\": 1", "\"version\": 2");
    let other_device = good.replace("\"label\": \"ci\"", "\"label\": \"other\"");
    desk.keep("pin", PIN);
    for broken in ["", "{", "null", &other_version, &other_device, &"x".repeat(100_000)] {
        fs::write(&record, broken).unwrap();
        let said = desk.log_in("file");
        said.refused("cannot be used");
        assert!(said.err.contains(&format!("segl pin unblock {name}")), "{said:?}");
        assert!(desk.segl(&["pin", "status"]).out.contains(name));
    }
    assert_eq!(desk.logins(), 1);
    let said = desk.segl(&["pin", "unblock", name, "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    desk.log_in("file").logged_in();
}

#[test]
fn without_a_state_directory_of_ones_own_nobody_logs_in() {
    let desk = Desk::new();
    desk.keep("pin", PIN);
    // A file in its place cannot be written to by anybody, not even by root.
    fs::write(desk.path("state"), "").unwrap();
    desk.log_in("file").refused("what was tried before is not known");
    fs::remove_file(desk.path("state")).unwrap();
    fs::create_dir(desk.path("state")).unwrap();
    fs::set_permissions(desk.path("state"), Permissions::from_mode(0o777)).unwrap();
    let said = desk.log_in("file");
    said.refused("others can write to");
    assert!(said.err.contains("chmod go-w"), "{said:?}");
    fs::remove_dir(desk.path("state")).unwrap();
    fs::create_dir(desk.path("elsewhere")).unwrap();
    symlink(desk.path("elsewhere"), desk.path("state")).unwrap();
    desk.log_in("file").refused("is a symbolic link");
    fs::remove_file(desk.path("state")).unwrap();
    if is_root() {
        fs::create_dir(desk.path("state")).unwrap();
        std::os::unix::fs::chown(desk.path("state"), Some(4711), None).unwrap();
        desk.log_in("file").refused("belongs to user 4711");
    }
    assert_eq!(desk.logins(), 0);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
