//! A SoftHSM2 device of one's own, for tests.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

#[path = "alone.rs"]
mod alone;
#[path = "softhsm_folder.rs"]
mod softhsm_folder;

pub(crate) use self::softhsm_folder::configure;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
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
        pkcs11::{Device, HostProgram, KeyPair, Manner, Modules, NewKeyPair, Pin, PinRecords, Uri},
    },
};

pub(crate) const PIN: &str = "4711-0815";

pub(crate) const SO_PIN: &str = "so-4711-0815";
pub(crate) const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Runs `body` in a process that has SoftHSM2 to itself; `name` is the name of the calling test.
pub(crate) fn alone(name: &str, body: impl AsyncFnOnce(SoftHsm)) {
    let environment = |folder: &Path| {
        assert!(Path::new(LIBRARY).exists(), "SoftHSM2 is missing: apt-get install softhsm2 opensc");
        let spy = spy();
        assert!(spy.is_some(), "pkcs11-spy is missing: apt-get install opensc-pkcs11");
        vec![
            ("SOFTHSM2_CONF", configure(folder).into()),
            ("PKCS11SPY", LIBRARY.into()),
            ("PKCS11SPY_OUTPUT", folder.join("spy.log").into()),
        ]
    };
    alone::alone(name, environment, async |folder| {
        let handed_out = Arc::new(Mutex::default());
        body(SoftHsm { folder, handed_out: handed_out.clone() }).await;
        // A process that ends while another thread finalizes a library crashes in it.
        let handed_out: Vec<Arc<Modules>> = std::mem::take(&mut handed_out.lock().unwrap());
        for modules in handed_out {
            modules.shutdown(&call()).await.unwrap();
        }
    });
}

/// Whether this is already the process of one test.
pub(crate) fn is_alone() -> bool {
    alone::is_alone()
}

/// The library that writes down every call; its folder is named after the machine's architecture.
pub(crate) fn spy() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    folders.filter_map(|folder| Some(folder.ok()?.path().join("pkcs11-spy.so"))).find(|path| path.exists())
}

/// The SoftHSM2 of this process.
pub(crate) struct SoftHsm {
    folder: PathBuf,
    handed_out: Arc<Mutex<Vec<Arc<Modules>>>>,
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

    /// The folder of this test.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has `modules` shut down when the test ends.
    pub(crate) fn keep(&self, modules: &Arc<Modules>) {
        self.handed_out.lock().unwrap().push(modules.clone());
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
        let modules = modules();
        self.handed_out.lock().unwrap().push(modules.clone());
        modules
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
    manner.pin_records = PinRecords::Memory;
    manner.program = HostProgram::at(env!("CARGO_BIN_EXE_segl"));
    // Some tests put a library into their own folder, below one that everybody may write to.
    manner.trust_any = true;
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
