//! What is left of a secret in memory once it has been used. A program is stopped after it has signed, and all memory
//! that it and the process of its library can write to is searched for pieces of the secret. The secrets are made here,
//! and the program learns of them as it always does: from files.
//!
//! Two programs: `segl`, into which only root may look, since it shields itself; and one that uses the library (this
//! one, started again), which neither shields itself nor wipes what is freed.
//!
//! It has a `main` of its own: that other program is this one, and what only root may do is reported as ignored for
//! others, by name. In CI, it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows its figures"
)]

#[path = "memory/key_files.rs"]
mod key_files;
#[path = "support/need.rs"]
mod need;
#[path = "support/pkcs1.rs"]
mod pkcs1;
#[path = "support/processes.rs"]
mod processes;
#[path = "memory/search.rs"]
mod search;
#[path = "support/softhsm_folder.rs"]
mod softhsm_folder;

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Arguments;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use segl::{call::Call, clock::SystemClock, config::Config, pipeline::Pipeline};
use tempfile::TempDir;

use self::{
    key_files::{KeyFile, USED, key_files},
    need::Need,
    processes::children,
    search::{Found, Needles, searched},
    softhsm_folder::configure,
};

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

macro_rules! tests {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn())),*] };
}

fn main() -> ExitCode {
    if std::env::var_os(ASKED).is_some() {
        sign();
    }
    let arguments = Arguments::from_args();
    let lack = (!geteuid().is_root())
        .then(|| "only root may look into a process that has shielded itself: run the tests as root".into());
    let need = Need::of("what is left in the memory of segl", lack, &arguments);
    let of_segl = tests![
        a_pin_is_in_the_memory_of_neither_process_after_its_login,
        a_pin_that_stays_in_memory_is_found_there,
        of_a_key_file_neither_text_nor_encoding_nor_password_stays_in_memory,
    ];
    let of_ones_own = tests![
        a_pin_is_nowhere_in_the_memory_of_a_program_that_uses_the_library,
        of_a_key_file_a_program_that_uses_the_library_keeps_what_it_signs_with,
    ];
    let mut trials = need.trials(&of_segl);
    trials.extend(Need::nothing().trials(&of_ones_own));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// An authority that takes a grant and never answers.
struct Silent {
    issuer: String,
    asked: mpsc::Receiver<()>,
}

impl Silent {
    fn listen() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let issuer = format!("http://{}/", listener.local_addr().unwrap());
        let (ask, asked) = mpsc::channel();
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                match line(&stream) {
                    Some(line) if line.starts_with("POST ") => {
                        held.push(stream);
                        if ask.send(()).is_err() {
                            return;
                        }
                    }
                    // It has no metadata.
                    _ => drop((&stream).write_all(
                        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    )),
                }
            }
        });
        Self { issuer, asked }
    }
}

fn line(stream: &TcpStream) -> Option<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}

/// Which program signs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Program {
    Segl,
    /// This one: [`sign`].
    OnesOwn,
}

/// What this program finds in its environment when it is to sign.
const ASKED: &str = "SEGL_TEST_SIGNS";

/// Signs as a program that uses the library.
fn sign() -> ! {
    let config = Config::find(None).unwrap();
    let clock = SystemClock::shared();
    let pipeline = Pipeline::new(&config, clock.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let never = runtime.block_on(pipeline.token("one").unwrap().token(&Call::within(&*clock, PATIENCE)));
    panic!("the authority never answers: {never:?}");
}

/// A folder with what the program reads.
struct Desk {
    folder: TempDir,
    /// Something that is to be found wherever is searched.
    kid: String,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), kid: random() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keep(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }

    /// The program, stopped after it has signed with this signer.
    fn stopped(&self, program: Program, signer: &str, variables: &[(&str, &str)]) -> Stopped {
        let authority = Silent::listen();
        let (mut command, isolation) = match program {
            Program::Segl => (Command::new(env!("CARGO_BIN_EXE_segl")), "process"),
            Program::OnesOwn => (Command::new(std::env::current_exe().unwrap()), "thread"),
        };
        match program {
            Program::Segl => command.args(["token", "one"]),
            Program::OnesOwn => command.env(ASKED, "1"),
        };
        let (issuer, kid) = (&authority.issuer, &self.kid);
        let configuration = format!(
            "schema = 1\n[environments.silent]\nfrom = \"test\"\nissuer = {issuer:?}\n[signers.one]\n{signer}\n\
             [clients.one]\nenvironment = \"silent\"\nclient_id = \"one\"\nsigner = \"one\"\nkid = {kid:?}\n\
             [tokens.one]\nclient = \"one\"\nscopes = [\"digdir:memory\"]\n\
             [profiles.softhsm2.module]\nisolation = {isolation:?}\n"
        );
        self.keep("segl.toml", configuration.as_bytes());
        let process = command
            .current_dir(self.folder.path())
            .env_remove("SEGL_CONFIG")
            .env("STATE_DIRECTORY", self.path("state"))
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stopped = Stopped { process, library: None };
        if authority.asked.recv_timeout(PATIENCE).is_err() {
            panic!("it never signed: {}", stopped.said());
        }
        let library = children(stopped.process.id()).first().copied();
        stopped.library = library.map(|number| Pid::from_raw(number.cast_signed()).unwrap());
        for process in stopped.library.into_iter().chain([stopped.program()]) {
            kill_process(process, Signal::STOP).unwrap();
            wait_until_stopped(process);
        }
        stopped
    }
}

/// Until none of its threads changes its memory any more.
fn wait_until_stopped(process: Pid) {
    let begin = Instant::now();
    let is_stopped = |task: PathBuf| {
        // A thread that has ended since it was listed: those that are left are listed anew.
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:\tT"))
    };
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
    while !fs::read_dir(&tasks).unwrap().all(|task| is_stopped(task.unwrap().path())) {
        assert!(begin.elapsed() < PATIENCE, "the process does not stop");
        thread::yield_now();
    }
}

/// The program and the process of its library, both stopped.
struct Stopped {
    process: Child,
    library: Option<Pid>,
}

impl Stopped {
    fn program(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed()).unwrap()
    }

    fn said(&mut self) -> String {
        let _ = self.process.kill();
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The library's process ends with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A SoftHSM2 device with a key, both of them with random names, and a random PIN of 32 characters.
struct Device {
    label: String,
    pin: String,
}

impl Device {
    fn make(desk: &Desk) -> Self {
        let device = Self { label: random(), pin: random() };
        let configuration = configure(desk.folder.path());
        let run = |program: &str, arguments: &[&str]| {
            let done = Command::new(program)
                .args(arguments)
                .env("SOFTHSM2_CONF", &configuration)
                .output()
                .unwrap_or_else(|why| panic!("{program}: {why}"));
            assert!(done.status.success(), "{done:?}");
        };
        let Self { label, pin } = &device;
        run(
            "softhsm2-util",
            &["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", pin],
        );
        let made = ["--module", LIBRARY, "--token-label", label, "--login", "--pin", pin, "--keypairgen"];
        run(
            "pkcs11-tool",
            &[&made[..], &["--key-type", "rsa:2048", "--label", "grant", "--id", "07"]].concat(),
        );
        device
    }

    fn signer(&self, pin: &str) -> String {
        format!("key = \"pkcs11:token={};object=grant\"\npin = {pin:?}", self.label)
    }
}

fn a_pin_is_in_the_memory_of_neither_process_after_its_login() {
    let desk = Desk::new();
    let device = Device::make(&desk);
    desk.keep("pin", device.pin.as_bytes());
    let stopped = desk.stopped(Program::Segl, &device.signer("file:pin"), &[]);
    let mut needles = Needles::default();
    needles.text("PIN", &device.pin);
    needles.text("label", &device.label);
    let program = searched(stopped.program(), &needles);
    let library = searched(stopped.library.expect("the library has a process of its own"), &needles);
    println!("segl, PIN: {program}\nits library's process, PIN: {library}");
    assert!(program.has("label") && library.has("label"), "what is there is found");
    assert!(!program.has("PIN") && !library.has("PIN"));
}

fn a_pin_is_nowhere_in_the_memory_of_a_program_that_uses_the_library() {
    let desk = Desk::new();
    let device = Device::make(&desk);
    desk.keep("pin", device.pin.as_bytes());
    let stopped = desk.stopped(Program::OnesOwn, &device.signer("file:pin"), &[]);
    let mut needles = Needles::default();
    needles.text("PIN", &device.pin);
    needles.text("label", &device.label);
    let program = searched(stopped.program(), &needles);
    println!("a program of one's own, its library within: {program}");
    assert!(program.has("label"), "what is there is found");
    assert!(!program.has("PIN"));
}

fn a_pin_that_stays_in_memory_is_found_there() {
    let desk = Desk::new();
    let device = Device::make(&desk);
    let signer = device.signer("env:CARD_PIN");
    let stopped = desk.stopped(Program::Segl, &signer, &[("CARD_PIN", &device.pin)]);
    let mut needles = Needles::default();
    needles.text("PIN", &device.pin);
    let program = searched(stopped.program(), &needles);
    let library = searched(stopped.library.unwrap(), &needles);
    assert!(program.has("PIN"), "an environment stays as long as its process");
    assert!(!library.has("PIN"), "it does not go over to the library: {library}");
}

/// The program after it has signed with this file, searched for all that was in it.
fn search_for_key(program: Program, KeyFile { name, content, password, mut secrets }: KeyFile) -> Found {
    let desk = Desk::new();
    desk.keep("key", &content);
    desk.keep("password", password.as_deref().unwrap_or("unused").as_bytes());
    secrets.text("kid", &desk.kid);
    let stopped = desk.stopped(program, "key = \"file:key\"\npin = \"file:password\"", &[]);
    let found = searched(stopped.program(), &secrets);
    println!("{program:?}, {name}: {found}");
    assert!(found.has("kid") && found.has(USED), "{name}: what is there is found");
    for text in ["PEM", "JWK", "password", "password in UTF-16"] {
        assert!(!found.has(text), "{name}: {text}");
    }
    found
}

fn of_a_key_file_neither_text_nor_encoding_nor_password_stays_in_memory() {
    for file in key_files() {
        let name = file.name;
        assert!(!search_for_key(Program::Segl, file).has("DER"), "{name}");
    }
}

fn of_a_key_file_a_program_that_uses_the_library_keeps_what_it_signs_with() {
    for file in key_files() {
        let name = file.name;
        let found = search_for_key(Program::OnesOwn, file);
        // The reader of PKCS#12 frees its copies of the key as they are (docs/security.md).
        assert!(!found.has("DER") || name == "PKCS#12", "{name}");
    }
}
