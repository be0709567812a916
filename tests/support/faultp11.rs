//! The module that misbehaves on request (`tests/faultp11`), over a SoftHSM2 of one's own.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use segl::{
    clock::SystemClock,
    jose::Algorithm,
    sign::{
        Error, Pkcs11Signer, Signed, Signer,
        pkcs11::{Device, HostProgram, KeyPair, Manner, Modules, Pin, Profiles},
    },
};

use crate::softhsm::{self, SoftHsm, call, good_pin, is_alone};

/// Short enough for a test to wait for a call that hangs; only for tests in which nothing else may be slow.
pub(crate) const IMPATIENT: &str = "[module]\ninit_timeout_s = 3\n[sign]\ncall_timeout_s = 1\n";

/// What the module's profile says of itself; a test adds how it wants it to be driven.
const PROFILE: &str = r#"
schema = 1
name = "faultp11"
title = "Faults on request"
confidence = "tested"
sources = ["tests/faultp11"]

[match]
module_file = ["libfaultp11.so"]
"#;

/// Runs `body` in a process of its own, with a device `ci` that holds a key `grant`; `name` is the full name of the
/// calling test.
pub(crate) fn faulty(name: &str, body: impl AsyncFnOnce(FaultP11)) {
    if !is_alone() {
        build();
    }
    softhsm::alone(name, async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        modules.shutdown(&call()).await.unwrap();
        fs::copy(built(), hsm.folder().join("libfaultp11.so")).unwrap();
        body(FaultP11 { hsm, pair, scripts: AtomicU64::new(0) }).await;
    });
}

/// Builds it; cargo does so once, however many ask at a time.
fn build() {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faultp11/Cargo.toml"))
        .arg("--target-dir")
        .arg(target())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A folder of its own beside what the main package is built in, which may be locked.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("faultp11")
}

fn built() -> PathBuf {
    target().join("debug/libfaultp11.so")
}

/// The module of this process, and its script.
pub(crate) struct FaultP11 {
    pub(crate) hsm: SoftHsm,
    /// The key on its device.
    pub(crate) pair: KeyPair,
    scripts: AtomicU64,
}

impl FaultP11 {
    /// The script from now on, in the language of `tests/faultp11/README.md`.
    pub(crate) fn script<L: AsRef<str>>(&self, lines: impl IntoIterator<Item = L>) {
        let text: String = lines.into_iter().map(|line| format!("{}\n", line.as_ref())).collect();
        // Earlier files are kept, so that no two scripts have one inode.
        let number = self.scripts.fetch_add(1, Ordering::SeqCst);
        let written = self.hsm.folder().join(format!("script.{number}"));
        let next = self.hsm.folder().join("script.next");
        fs::write(&written, text).unwrap();
        fs::hard_link(&written, &next).unwrap();
        fs::rename(&next, self.hsm.folder().join("faultp11.script")).unwrap();
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn behave(&self) {
        self.script::<&str>([]);
    }

    /// The line for the next call of `function`, whichever process makes it.
    pub(crate) fn next(&self, function: &str, action: &str) -> String {
        format!("{function} {} {action}", self.calls(function) + 1)
    }

    /// The line for every call of `function` until the library is initialized anew.
    pub(crate) fn until_initialized(&self, function: &str, action: &str) -> String {
        format!("{function} * until-initialize {} {action}", self.calls("C_Initialize") + 1)
    }

    /// Ends the process that the module runs in.
    pub(crate) fn kill(&self) {
        let process = self.calls("process");
        let killed = Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// How often `function` was called, by all processes so far.
    pub(crate) fn calls(&self, function: &str) -> u64 {
        self.row(function).map_or(0, |row| row.0)
    }

    /// How many calls of `function` ended.
    pub(crate) fn ended(&self, function: &str) -> u64 {
        self.row(function).map_or(0, |row| row.1)
    }

    /// How many wrong PINs the device has been given.
    pub(crate) fn wrong_pins(&self) -> u64 {
        self.calls("user-pin") + self.calls("signature-pin")
    }

    /// Most sessions that were open at a time.
    pub(crate) fn most_sessions(&self) -> u64 {
        self.ended("sessions")
    }

    fn row(&self, wanted: &str) -> Option<(u64, u64)> {
        // Before the first call there is no such file.
        let table = fs::read(self.hsm.folder().join("faultp11.counts")).ok()?;
        let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
        let row = table.chunks_exact(64).find(|row| {
            let name = row[..48].split(|byte| *byte == 0).next().unwrap();
            name == wanted.as_bytes()
        });
        let row = row.unwrap_or_else(|| panic!("{wanted} is not counted"));
        Some((number(&row[48..56]), number(&row[56..])))
    }

    /// Libraries as a program has them, each in a process of its own; nothing is known of this one.
    pub(crate) fn modules(&self) -> Arc<Modules> {
        self.modules_with("")
    }

    /// The same, with a profile for this one: some of the tables of a profile file.
    pub(crate) fn modules_with(&self, tables: &str) -> Arc<Modules> {
        let mut manner = Manner::default();
        manner.program = HostProgram::at(env!("CARGO_BIN_EXE_segl"));
        // It lies below a folder that everybody may write to.
        manner.trust_any = true;
        if !tables.is_empty() {
            let folder = self.hsm.folder().join("profiles");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("faultp11.toml"), format!("{PROFILE}\n{tables}")).unwrap();
            let mut profiles = Profiles::embedded();
            profiles.load_dir(&folder).unwrap();
            // What the module that it wraps looks at.
            let seen = "[module]\nenv = [\"SOFTHSM2_CONF\"]".parse().unwrap();
            profiles.override_with("faultp11", seen).unwrap();
            manner.profiles = Arc::new(profiles);
        }
        let modules = Modules::build(SystemClock::shared(), manner);
        self.hsm.keep(&modules);
        modules
    }

    /// What `uri` names, through this module.
    pub(crate) fn device(&self, modules: &Arc<Modules>, uri: &str, pin: Pin) -> Device {
        let library = self.hsm.folder().join("libfaultp11.so");
        let separator = if uri.contains('?') { '&' } else { '?' };
        let uri = format!("{uri}{separator}module-path={}", library.display());
        Device::new(modules.clone(), uri.parse().unwrap(), None, Some(pin))
    }

    pub(crate) fn signer_of(&self, modules: &Arc<Modules>, uri: &str, pin: Pin) -> Pkcs11Signer {
        Pkcs11Signer::new(self.device(modules, uri, pin), Algorithm::RS256).unwrap()
    }

    /// A signer for the key, with the right PIN.
    pub(crate) fn signer(&self, modules: &Arc<Modules>) -> Pkcs11Signer {
        self.signer_of(modules, "pkcs11:token=ci;object=grant", good_pin())
    }
}

/// Signs, once.
pub(crate) async fn sign(signer: &Pkcs11Signer) -> Result<Signed, Error> {
    signer.sign(&call(), Box::new(|| b"header.payload".to_vec())).await
}
