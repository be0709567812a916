//! Copies of the module that misbehaves on request (`tests/faultp11`), each with a script and counts of its own.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use segl::{
    call::Call,
    clock::SystemClock,
    jose::Algorithm,
    sign::{
        Error, Pkcs11Signer, Signed, Signer,
        pkcs11::{Device, HostProgram, Manner, Modules, Pin, Profiles},
    },
};

/// What the module's profile says of itself; a test adds how it wants it to be driven.
pub(crate) const PROFILE: &str = r#"
schema = 1
name = "faultp11"
title = "Faults on request"
confidence = "tested"
sources = ["tests/faultp11"]

[match]
module_file = ["libfaultp11.so"]
"#;

/// Builds the module; cargo does so once, however many ask at a time.
pub(crate) fn build() {
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

/// One copy of the module.
pub(crate) struct FaultyModule {
    folder: PathBuf,
    scripts: AtomicU64,
}

impl FaultyModule {
    /// A copy of what was [built](build), in `folder`, which is there already.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        fs::copy(target().join("debug/libfaultp11.so"), folder.join("libfaultp11.so")).unwrap();
        Self { folder: folder.to_owned(), scripts: AtomicU64::new(0) }
    }

    /// What it counts in, and its script.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it lies.
    pub(crate) fn library(&self) -> PathBuf {
        self.folder.join("libfaultp11.so")
    }

    /// The script from now on, in the language of `tests/faultp11/README.md`.
    pub(crate) fn script<L: AsRef<str>>(&self, lines: impl IntoIterator<Item = L>) {
        let text: String = lines.into_iter().map(|line| format!("{}\n", line.as_ref())).collect();
        // Earlier files are kept, so that no two scripts have one inode.
        let number = self.scripts.fetch_add(1, Ordering::SeqCst);
        let written = self.folder.join(format!("script.{number}"));
        let next = self.folder.join("script.next");
        fs::write(&written, text).unwrap();
        fs::hard_link(&written, &next).unwrap();
        fs::rename(&next, self.folder.join("faultp11.script")).unwrap();
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn behave(&self) {
        self.script::<&str>([]);
    }

    /// The line for the next call of `function`, whichever process makes it.
    pub(crate) fn next(&self, function: &str, action: &str) -> String {
        format!("{function} {} {action}", self.calls(function) + 1)
    }

    /// The line for the next call of `function` and all that follow.
    pub(crate) fn onwards(&self, function: &str, action: &str) -> String {
        format!("{function} {}- {action}", self.calls(function) + 1)
    }

    /// The line for every call of `function` until the library is initialized anew.
    pub(crate) fn until_initialized(&self, function: &str, action: &str) -> String {
        format!("{function} * until-initialize {} {action}", self.calls("C_Initialize") + 1)
    }

    /// The process that the module runs in.
    pub(crate) fn process(&self) -> u64 {
        self.calls("process")
    }

    /// Ends the process that the module runs in.
    pub(crate) fn kill(&self) {
        self.signal("KILL");
    }

    /// Sends a signal to the process that the module runs in.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// How often `function` was called, by all processes so far.
    pub(crate) fn calls(&self, function: &str) -> u64 {
        self.rows().iter().find(|row| row.0 == function).map_or(0, |row| row.1)
    }

    /// How many calls of `function` ended.
    pub(crate) fn ended(&self, function: &str) -> u64 {
        self.rows().iter().find(|row| row.0 == function).map_or(0, |row| row.2)
    }

    /// How many calls of any function were made.
    pub(crate) fn all_calls(&self) -> u64 {
        self.rows().iter().filter(|row| row.0.starts_with("C_")).map(|row| row.1).sum()
    }

    /// How many wrong PINs the device has been given.
    pub(crate) fn wrong_pins(&self) -> u64 {
        self.calls("user-pin") + self.calls("signature-pin")
    }

    /// Most sessions that were open at a time.
    pub(crate) fn most_sessions(&self) -> u64 {
        self.ended("sessions")
    }

    fn rows(&self) -> Vec<(String, u64, u64)> {
        // Before the first call there is no such file.
        let Ok(table) = fs::read(self.folder.join("faultp11.counts")) else { return Vec::new() };
        let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
        let row = |row: &[u8]| {
            let name = row[..48].split(|byte| *byte == 0).next().unwrap();
            (String::from_utf8_lossy(name).into_owned(), number(&row[48..56]), number(&row[56..]))
        };
        table.chunks_exact(64).map(row).collect()
    }

    /// How libraries are run, with a profile for this one: some of the tables of a profile file.
    pub(crate) fn manner(&self, tables: &str) -> Manner {
        let mut manner = Manner::default();
        manner.program = HostProgram::at(env!("CARGO_BIN_EXE_segl"));
        // It lies below a folder that everybody may write to.
        manner.trust_any = true;
        if !tables.is_empty() {
            let folder = self.folder.join("profiles");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("faultp11.toml"), format!("{PROFILE}\n{tables}")).unwrap();
            let mut profiles = Profiles::embedded();
            profiles.load_dir(&folder).unwrap();
            // What the module that it wraps looks at.
            let seen = "[module]\nenv = [\"SOFTHSM2_CONF\"]".parse().unwrap();
            profiles.override_with("faultp11", seen).unwrap();
            manner.profiles = Arc::new(profiles);
        }
        manner
    }

    /// What `uri` names, through this module.
    pub(crate) fn device(&self, modules: &Arc<Modules>, uri: &str, pin: Pin) -> Device {
        let separator = if uri.contains('?') { '&' } else { '?' };
        let uri = format!("{uri}{separator}module-path={}", self.library().display());
        Device::new(modules.clone(), uri.parse().unwrap(), None, Some(pin))
    }

    pub(crate) fn signer_of(&self, modules: &Arc<Modules>, uri: &str, pin: Pin) -> Pkcs11Signer {
        Pkcs11Signer::new(self.device(modules, uri, pin), Algorithm::RS256).unwrap()
    }
}

/// Signs, once.
pub(crate) async fn sign(signer: &Pkcs11Signer) -> Result<Signed, Error> {
    signer.sign(&Call::new(&SystemClock), Box::new(|| b"header.payload".to_vec())).await
}

/// Whether a signature is one of the key `spki`; found out by another library than the one that made it.
pub(crate) fn verifies(spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki).unwrap();
    key.verify_sig(message, signature).is_ok()
}
