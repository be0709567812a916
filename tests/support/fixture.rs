//! Real PKCS#11 modules, each with devices of one's own: everything lies in the test's folder and listens on loopback
//! only, and ends with the test's process.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

#[path = "alone.rs"]
mod alone;
#[path = "fixture/daemon.rs"]
mod daemon;
#[path = "fixture/kryoptic.rs"]
mod kryoptic;
#[path = "fixture/nss.rs"]
mod nss;
#[path = "fixture/p11_kit.rs"]
mod p11_kit;
#[path = "fixture/softhsm2.rs"]
mod softhsm2;
#[path = "softhsm_folder.rs"]
mod softhsm_folder;
#[path = "fixture/tpm2.rs"]
mod tpm2;

pub(crate) use self::{kryoptic::KRYOPTIC, nss::NSS, p11_kit::P11_KIT, softhsm2::SOFTHSM2, tpm2::TPM2};

use std::{
    env,
    ffi::OsString,
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
    clock::SystemClock,
    jose::Algorithm,
    sign::{
        Pkcs11Signer,
        pkcs11::{
            Device, HostProgram, KeyPair, Manner, Modules, NewKeyPair, Pin, PinRecords, PinState, Profiles,
            Uri,
        },
    },
};

/// PIN of every device made here.
pub(crate) const PIN: &str = "4711-0815";

const SO_PIN: &str = "so-4711-0815";

const WATCHER: &str = "watcher.so";

/// A kind of PKCS#11 module, and how to have one.
pub(crate) struct Module {
    /// As people call it, without blanks: it is part of tests' names.
    pub(crate) name: &'static str,
    /// Where its library lies on this machine; `None` when it does not.
    pub(crate) library: fn() -> Option<PathBuf>,
    /// Programs that are needed besides.
    pub(crate) programs: &'static [&'static str],
    /// What has them all.
    pub(crate) install: &'static str,
    /// Fills the folder, and says what the process that loads the library finds in its environment.
    pub(crate) environment: fn(&Path) -> Vec<(&'static str, OsString)>,
    /// Starts what the library talks to.
    pub(crate) start: fn(&Path) -> Box<dyn Backend>,
    /// The profile that says how to drive it.
    pub(crate) profile: &'static str,
    /// How it differs from others.
    pub(crate) nature: Nature,
}

/// In what modules differ that all keep to the standard, measured on each.
#[derive(Clone, Copy)]
pub(crate) struct Nature {
    /// Its library says that it is made by this company.
    pub(crate) manufacturer: &'static str,
    /// How many devices can be made.
    pub(crate) devices: usize,
    /// No two devices have one serial number.
    pub(crate) has_serials: bool,
    /// Blank devices are shown beside those in use.
    pub(crate) shows_blanks: bool,
    /// What a device says of its PIN after one wrong try.
    pub(crate) after_a_wrong_pin: PinState,
    /// Shortest and longest PIN that it says it takes.
    pub(crate) pin_length: (u64, u64),
    /// Whether private keys are seen before login.
    pub(crate) shows_private_keys: bool,
    /// Whether all of a process shares one state of the library. Else each that loads it has a state of its own.
    pub(crate) has_one_state: bool,
    /// Keys can be made that the device itself holds to one mechanism (CKA_ALLOWED_MECHANISMS).
    pub(crate) restricts_keys: bool,
    /// Keys can be made that want a PIN for each signature (CKA_ALWAYS_AUTHENTICATE).
    pub(crate) asks_for_each_signature: bool,
    /// It talks to somebody who may fall silent; see [`Backend::freeze`].
    pub(crate) can_fall_silent: bool,
    /// It is connected to somebody who may end the connection; see [`Backend::cut`].
    pub(crate) can_be_cut: bool,
    /// Whether keys that are in use go on signing while the backend is away.
    pub(crate) signs_while_away: bool,
}

/// What a library talks to. Dropped, it ends.
pub(crate) trait Backend {
    /// Makes the next device, by another process, and says what it is called when that is not `label`.
    fn create(&mut self, label: &str) -> Option<&'static str>;
    /// Takes all devices away, as if the cable had been pulled.
    fn stop(&mut self);
    /// Brings them back.
    fn resume(&mut self);
    /// Lets it answer nothing any more, while every connection to it stays open.
    fn freeze(&mut self) {
        panic!("this library talks to nobody who could be silent");
    }
    /// Lets it answer again, and what it was asked meanwhile, too.
    fn thaw(&mut self) {
        panic!("this library talks to nobody who could be silent");
    }
    /// Breaks every connection to it, and takes new ones at once.
    fn cut(&mut self) {
        panic!("this library is connected to nobody");
    }
}

/// A way of driving a module: it changes its profile.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// A table `[module]` of the profile's.
    module: &'static str,
    in_threads: bool,
}

/// Both implementations of the calls, and both places for a library to run in.
pub(crate) const WAYS: [Way; 2] = [
    Way { name: "in-threads", module: "isolation = 'thread'\nforce_v2 = false", in_threads: true },
    Way { name: "raw-in-process", module: "isolation = 'process'\nforce_v2 = true", in_threads: false },
];

/// Runs `body` in a process that has a module to itself; `name` is the full name of the calling test.
pub(crate) fn run(
    module: &'static Module,
    way: &'static Way,
    name: &str,
    body: impl AsyncFnOnce(&mut Fixture),
) {
    let library = (module.library)().unwrap();
    let environment = |folder: &Path| {
        let mut environment = (module.environment)(folder);
        environment.push(("PKCS11SPY", library.clone().into()));
        environment.push(("PKCS11SPY_OUTPUT", folder.join("spy.log").into()));
        environment.push(("STATE_DIRECTORY", folder.join("state").into()));
        compile_watcher(folder);
        environment
    };
    alone::alone(name, environment, async |folder| {
        let mut profiles = Profiles::embedded();
        let mut changes: toml::Table = format!("[module]\n{}", way.module).parse().unwrap();
        // The library that writes down every call is told by its environment what to do.
        let mut seen = profiles.named(module.profile).unwrap().module.env.clone();
        seen.extend(["PKCS11SPY", "PKCS11SPY_OUTPUT"].map(str::to_owned));
        changes["module"].as_table_mut().unwrap().insert("env".into(), seen.into());
        profiles.override_with(module.profile, changes).unwrap();
        let backend = (module.start)(&folder);
        let mut fixture = Fixture {
            nature: module.nature,
            library: library.clone(),
            folder,
            backend,
            profile: module.profile,
            profiles: Arc::new(profiles),
            in_threads: way.in_threads,
            own_label: None,
            handed_out: Mutex::default(),
        };
        body(&mut fixture).await;
        // A process that ends while another thread finalizes a library crashes in most of them.
        for modules in fixture.handed_out.get_mut().unwrap().drain(..) {
            modules.shutdown(&call()).await.unwrap();
        }
    });
}

impl Module {
    /// What is missing for it on this machine, and how it is had.
    pub(crate) fn lack(&self) -> Option<String> {
        if (self.library)().is_none() {
            return Some(format!("its library is missing: {}", self.install));
        }
        let is_there = |program: &&&str| {
            let folders = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&folders).any(|folder| folder.join(program).exists())
        };
        let tools = ["pkcs11-tool", "setpriv", "cc"];
        if let Some(program) = self.programs.iter().find(|program| !is_there(program)) {
            return Some(format!("{program} is missing: {}", self.install));
        }
        if let Some(program) = tools.iter().find(|program| !is_there(program)) {
            return Some(format!("{program} is missing: apt-get install opensc util-linux gcc"));
        }
        let spy = spy();
        spy.is_none().then(|| "pkcs11-spy is missing: apt-get install opensc-pkcs11".into())
    }
}

/// A running module in this process.
pub(crate) struct Fixture {
    pub(crate) nature: Nature,
    library: PathBuf,
    folder: PathBuf,
    backend: Box<dyn Backend>,
    profile: &'static str,
    profiles: Arc<Profiles>,
    in_threads: bool,
    own_label: Option<(&'static str, &'static str)>,
    handed_out: Mutex<Vec<Arc<Modules>>>,
}

impl Fixture {
    /// Makes a device, by another process. Here it is called `label`, whatever it calls itself.
    pub(crate) fn create(&mut self, label: &'static str) {
        self.own_label = self.backend.create(label).map(|own| (label, own));
    }

    /// What a device made as `label` calls itself.
    pub(crate) fn own_label(&self, label: &'static str) -> &'static str {
        self.own_label.filter(|(given, _)| *given == label).map_or(label, |(_, own)| own)
    }

    pub(crate) fn stop(&mut self) {
        self.backend.stop();
    }

    pub(crate) fn resume(&mut self) {
        self.backend.resume();
    }

    pub(crate) fn freeze(&mut self) {
        self.backend.freeze();
    }

    pub(crate) fn thaw(&mut self) {
        self.backend.thaw();
    }

    pub(crate) fn cut(&mut self) {
        self.backend.cut();
    }

    /// Whether others in this process share the library's state with Segl.
    pub(crate) fn is_shared(&self) -> bool {
        self.nature.has_one_state && self.in_threads
    }

    pub(crate) fn library(&self) -> &Path {
        &self.library
    }

    pub(crate) fn modules(&self) -> Arc<Modules> {
        let mut manner = Manner::default();
        manner.profiles = self.profiles.clone();
        manner.pin_records = PinRecords::Memory;
        manner.program = HostProgram::at(env!("CARGO_BIN_EXE_segl"));
        // Libraries that are built for these tests lie below folders that everybody may write to.
        manner.trust_any = true;
        let modules = Modules::build(SystemClock::shared(), manner);
        self.handed_out.lock().unwrap().push(modules.clone());
        modules
    }

    /// `uri` in this module.
    pub(crate) fn uri(&self, uri: &str) -> Uri {
        self.through(uri, &self.library)
    }

    /// `uri` in this module, through a library that writes down every call.
    pub(crate) fn watched(&self, uri: &str) -> Uri {
        self.through(uri, &self.folder.join(WATCHER))
    }

    fn through(&self, uri: &str, library: &Path) -> Uri {
        let uri = match self.own_label {
            Some((given, own)) => {
                uri.replace(&format!("token={given}"), &format!("token={}", own.replace(' ', "%20")))
            }
            None => uri.to_owned(),
        };
        let separator = if uri.contains('?') { '&' } else { '?' };
        format!("{uri}{separator}module-path={}", library.display()).parse().unwrap()
    }

    /// How often `function` was called through the library of [`watched`](Self::watched).
    pub(crate) fn calls(&self, function: &str) -> usize {
        let log = fs::read_to_string(self.folder.join("spy.log")).unwrap();
        log.lines().filter(|line| line.split_once(": ").is_some_and(|(_, name)| name == function)).count()
    }

    pub(crate) fn device(&self, modules: &Arc<Modules>, uri: Uri, pin: Option<Pin>) -> Device {
        Device::new(modules.clone(), uri, Some(self.profile.into()), pin)
    }

    pub(crate) fn signer(&self, modules: &Arc<Modules>, uri: &str) -> Pkcs11Signer {
        self.signer_of(modules, uri, Algorithm::RS256)
    }

    pub(crate) fn signer_of(&self, modules: &Arc<Modules>, uri: &str, algorithm: Algorithm) -> Pkcs11Signer {
        Pkcs11Signer::new(self.device(modules, self.uri(uri), Some(good_pin())), algorithm).unwrap()
    }

    /// Generates an RSA-2048 key pair on the only device of that label.
    pub(crate) async fn generate(&self, modules: &Arc<Modules>, token: &str, label: &str) -> KeyPair {
        let device = self.device(modules, self.uri(&format!("pkcs11:token={token}")), Some(good_pin()));
        let mut pair = NewKeyPair::new(label);
        pair.bits = 2048;
        device.generate_key_pair(pair, &call()).await.unwrap()
    }
}

/// Makes the library that writes down every call.
fn compile_watcher(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fixture/watcher.c");
    let made = Command::new("cc")
        .args(["-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(folder.join(WATCHER))
        .arg(format!("-DSPY=\"{}\"", spy().unwrap().display()))
        .arg(source)
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn spy() -> Option<PathBuf> {
    in_library_folder("pkcs11-spy.so")
}

/// A file below /usr/lib, in the folder that is named after the machine's architecture.
fn in_library_folder(file: &str) -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    folders.filter_map(|folder| Some(folder.ok()?.path().join(file))).find(|path| path.exists())
}

/// Runs OpenSC's pkcs11-tool on `library` in this process's environment.
fn pkcs11_tool(library: &Path, arguments: &[&str]) {
    let run = Command::new("pkcs11-tool").arg("--module").arg(library).args(arguments).output().unwrap();
    assert!(run.status.success(), "{run:?}");
}

pub(crate) fn call() -> Call {
    Call::new(&SystemClock)
}

/// A call that gives up after `milliseconds`.
pub(crate) fn hasty(milliseconds: u64) -> Call {
    Call::within(&SystemClock, Duration::from_millis(milliseconds))
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
