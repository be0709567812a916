//! A SoftHSM2 device of one's own, for tests.
//!
//! SoftHSM2 reads `SOFTHSM2_CONF` from the environment of the process that loads it, and what it has read is shared
//! by the whole process. So each test runs in a process of its own: the test binary calls itself.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use segl::{
    call::Call,
    clock::{Clock, SystemClock},
    jose::Algorithm,
    sign::{
        Pkcs11Signer,
        pkcs11::{Device, HostProgram, KeyPair, Manner, Modules, NewKeyPair, Pin, Uri},
    },
};

pub(crate) const PIN: &str = "4711-0815";

/// Longer than any test takes on a busy machine: a test that hangs is to fail, not to hang the run.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const SO_PIN: &str = "so-4711-0815";
const FOLDER: &str = "SEGL_TEST_SOFTHSM_FOLDER";
pub(crate) const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Runs `body` in a process that has SoftHSM2 to itself; `name` is the name of the calling test.
pub(crate) fn alone(name: &str, body: impl AsyncFnOnce(SoftHsm)) {
    if let Some(folder) = env::var_os(FOLDER) {
        let folder = PathBuf::from(folder);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let body = body(SoftHsm { folder: folder.clone() });
            tokio::time::timeout(PATIENCE, body).await.expect("the device hangs");
        });
        fs::write(folder.join("done"), name).unwrap();
        return;
    }
    assert!(Path::new(LIBRARY).exists(), "SoftHSM2 is missing: apt-get install softhsm2 opensc");
    assert!(spy().is_some(), "pkcs11-spy is missing: apt-get install opensc-pkcs11");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tokens")).unwrap();
    let configuration = folder.path().join("softhsm2.conf");
    let tokens = folder.path().join("tokens");
    fs::write(
        &configuration,
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        ),
    )
    .unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .env("SOFTHSM2_CONF", configuration)
        .env("PKCS11SPY", LIBRARY)
        .env("PKCS11SPY_OUTPUT", folder.path().join("spy.log"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
    // A name that fits no test would make the child succeed without having done anything.
    assert!(folder.path().join("done").exists(), "{name} is the name of no test here\n{said}");
}

/// The library that writes down every call; its folder is named after the machine's architecture.
pub(crate) fn spy() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    folders.filter_map(|folder| Some(folder.ok()?.path().join("pkcs11-spy.so"))).find(|path| path.exists())
}

/// The SoftHSM2 of this process.
pub(crate) struct SoftHsm {
    folder: PathBuf,
}

impl SoftHsm {
    /// Makes a device, by another process.
    pub(crate) fn create(&self, label: &str) {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    /// Takes all devices away, as if the cable had been pulled.
    pub(crate) fn unplug(&self) {
        fs::rename(self.folder.join("tokens"), self.folder.join("away")).unwrap();
    }

    /// Brings them back.
    pub(crate) fn plug(&self) {
        fs::rename(self.folder.join("away"), self.folder.join("tokens")).unwrap();
    }

    /// Where SoftHSM2 looks for devices.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.folder.join("tokens")
    }

    pub(crate) fn library(&self) -> &'static Path {
        Path::new(LIBRARY)
    }

    /// How often `function` was called through the library of [`watched`](Self::watched).
    pub(crate) fn calls(&self, function: &str) -> usize {
        let log = fs::read_to_string(self.folder.join("spy.log")).unwrap();
        log.lines().filter(|line| line.split_once(": ").is_some_and(|(_, name)| name == function)).count()
    }

    /// `uri` through a library that writes down every call.
    pub(crate) fn watched(&self, uri: &str) -> Uri {
        let separator = if uri.contains('?') { '&' } else { '?' };
        format!("{uri}{separator}module-path={}", spy().unwrap().display()).parse().unwrap()
    }

    pub(crate) fn modules(&self) -> Arc<Modules> {
        modules()
    }

    pub(crate) fn device(&self, modules: &Arc<Modules>, uri: &str) -> Device {
        Device::new(modules.clone(), uri.parse().unwrap(), Some("softhsm2".into()), Some(good_pin()))
    }

    pub(crate) fn signer(&self, modules: &Arc<Modules>, uri: &str) -> Pkcs11Signer {
        Pkcs11Signer::new(self.device(modules, uri), Algorithm::RS256).unwrap()
    }

    /// Generates an RSA-2048 key pair on the only device of that label.
    pub(crate) async fn generate(&self, modules: &Arc<Modules>, token: &str, label: &str) -> KeyPair {
        let device = self.device(modules, &format!("pkcs11:token={token}"));
        let mut pair = NewKeyPair::new(label);
        pair.bits = 2048;
        device.generate_key_pair(pair, &call()).await.unwrap()
    }
}

/// No library yet; those that want a process of their own get `segl`.
pub(crate) fn modules() -> Arc<Modules> {
    let mut manner = Manner::default();
    manner.program = HostProgram::at(env!("CARGO_BIN_EXE_segl"));
    Modules::build(SystemClock::shared(), manner)
}

pub(crate) fn call() -> Call {
    Call::new(&SystemClock)
}

pub(crate) fn good_pin() -> Pin {
    Pin::new(|| Ok(Some(PIN.to_owned().into())))
}

/// A PIN, and how often it was read.
pub(crate) fn counted_pin(pin: &'static str) -> (Pin, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = reads.clone();
    let pin = Pin::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(Some(pin.to_owned().into()))
    });
    (pin, reads)
}

/// A call that gives up after `milliseconds`.
pub(crate) fn hasty(milliseconds: u64) -> Call {
    let clock: &dyn Clock = &SystemClock;
    Call::within(clock, Duration::from_millis(milliseconds))
}
