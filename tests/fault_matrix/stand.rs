//! For each cell a copy of one SoftHSM2 device, and a copy of the module in front of it.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::Duration,
};

use segl::{
    call::Call,
    clock::SystemClock,
    sign::{
        Error, Pkcs11Signer, Signed, Signer,
        pkcs11::{Modules, NewKeyPair, Pin, PinRecords},
    },
};
use tempfile::TempDir;

use crate::{
    faulty_module::{self, FaultyModule, verifies},
    softhsm_folder::configure,
};

pub(crate) const PIN: &str = "4711-0815";
pub(crate) const WRONG_PIN: &str = "0815-4711";
/// For each signature, where the script wants one.
pub(crate) const SIGNATURE_PIN: &str = "2468-1357";

/// How long a caller waits: every answer has to come within it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The device, made by the first who needs it. No process but those of the modules ever loads it.
#[derive(Default)]
pub(crate) struct Stand(OnceLock<Made>);

struct Made {
    folder: TempDir,
    spki: Vec<u8>,
}

impl Stand {
    /// A module for one cell, whose processes alone load its device: SoftHSM2 takes no two logins at a time.
    pub(crate) fn bench(&self) -> Bench {
        self.bench_in(&std::env::temp_dir())
    }

    /// The same, below `place`.
    pub(crate) fn bench_in(&self, place: &Path) -> Bench {
        let folder = tempfile::tempdir_in(place).unwrap();
        self.copy(folder.path());
        let bench = Bench::new(folder.path(), environment(folder.path()));
        Bench { _folder: Some(folder), ..bench }
    }

    /// The device and its key, copied to `folder`; what leads SoftHSM2 there.
    pub(crate) fn copy(&self, folder: &Path) -> PathBuf {
        let made = self.made();
        copy_all(&made.folder.path().join("tokens"), &folder.join("tokens"));
        fs::write(folder.join("spki"), &made.spki).unwrap();
        configure(folder)
    }

    fn made(&self) -> &Made {
        self.0.get_or_init(|| {
            faulty_module::build();
            let folder = tempfile::tempdir().unwrap();
            let made = Command::new("softhsm2-util")
                .args(["--init-token", "--free", "--label", "ci", "--so-pin", "so-4711", "--pin", PIN])
                .env("SOFTHSM2_CONF", configure(folder.path()))
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
            Made { spki: generate(folder.path()), folder }
        })
    }
}

/// Makes the key `grant`; its public half.
fn generate(folder: &Path) -> Vec<u8> {
    fs::write(folder.join("spki"), []).unwrap();
    let maker = Bench::new(folder, environment(folder));
    run(async {
        let modules = maker.modules("", "");
        let device = maker.device(&modules, "pkcs11:token=ci", pin(PIN));
        let mut pair = NewKeyPair::new("grant");
        pair.bits = 2048;
        let pair = device.generate_key_pair(pair, &call()).await.unwrap();
        modules.shutdown(&call()).await.unwrap();
        pair.spki
    })
}

/// The part of a module's profile that leads its process to the device in `folder`.
fn environment(folder: &Path) -> String {
    format!("[module.env_default]\nSOFTHSM2_CONF = \"{}\"\n", folder.join("softhsm2.conf").display())
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A module of one's own in front of the device.
pub(crate) struct Bench {
    module: FaultyModule,
    pub(crate) spki: Vec<u8>,
    records: PinRecords,
    /// The end of the module's profile.
    environment: String,
    _folder: Option<TempDir>,
}

impl Deref for Bench {
    type Target = FaultyModule;

    fn deref(&self) -> &FaultyModule {
        &self.module
    }
}

impl Bench {
    /// In `folder`, which has a [copy](Stand::copy) of the device.
    pub(crate) fn new(folder: &Path, environment: String) -> Self {
        let module = FaultyModule::in_folder(folder);
        let spki = fs::read(folder.join("spki")).unwrap();
        module.behave();
        let records = PinRecords::In(folder.join("state"));
        Self { module, spki, records, environment, _folder: None }
    }

    /// Libraries as a program has them, with tables and further fields of `[module]` for the profile of this one.
    pub(crate) fn modules(&self, fields: &str, tables: &str) -> Arc<Modules> {
        let profile = format!("[module]\n{fields}\n{}\n{tables}", self.environment);
        let mut manner = self.manner(&profile);
        manner.pin_records = self.records.clone();
        Modules::build(SystemClock::shared(), manner)
    }

    /// A signer for the key.
    pub(crate) fn signer(&self, modules: &Arc<Modules>, pin: Pin) -> Pkcs11Signer {
        self.signer_of(modules, "pkcs11:token=ci;object=grant", pin)
    }

    /// One request, as a caller makes it.
    pub(crate) async fn ask(&self, signer: &Pkcs11Signer) -> Result<(), Error> {
        let call = Call::within(&SystemClock, PATIENCE);
        let asked = tokio::time::Instant::now();
        let signed: Result<Signed, Error> = signer.sign(&call, Box::new(|| b"header.payload".to_vec())).await;
        assert!(asked.elapsed() < PATIENCE * 2, "an answer came long after the deadline: {signed:?}");
        signed.map(|signed| {
            assert!(verifies(&self.spki, &signed.message, &signed.signature), "a wrong signature came out")
        })
    }

    /// What a person does who has looked at the device: `segl pin unblock`.
    pub(crate) fn unblock(&self) {
        for (name, _) in self.records.all().unwrap() {
            self.records.forget(&name).unwrap();
        }
    }
}

pub(crate) fn pin(pin: &'static str) -> Pin {
    Pin::new(move || Ok(Some(pin.to_owned().into())))
}

/// The right PINs.
pub(crate) fn good_pins() -> Pin {
    pin(PIN).with_signature_pin(&pin(SIGNATURE_PIN))
}

pub(crate) fn call() -> Call {
    Call::new(&SystemClock)
}

/// Runs `body` to its end, in this thread.
pub(crate) fn run<T>(body: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body)
}
