//! Grants per second through a PKCS#11 device, against the same device asked without us.
//!
//! `cargo bench --bench sign_softhsm [-- ROUNDS]` (needs `softhsm2`; 15 rounds unless told otherwise)
//!
//! *Raw* is a loop of `C_SignInit` and `C_Sign` (`cryptoki::Session::sign`, which asks `C_Sign` for the length of the
//! signature first) over one message of a grant's length, in this process and on the same library and key. Each round
//! measures raw and all the others once; the ratios are taken within a round and their median is shown, since the
//! machine's own speed changes from second to second.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::type_complexity,
    reason = "a benchmark"
)]
#![allow(clippy::print_stdout, reason = "its result")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use cryptoki::{
    context::Pkcs11,
    mechanism::Mechanism,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::Session,
};
use segl::{
    call::Call,
    clock::SystemClock,
    grant::{Grant, TokenRequest},
    jose::Algorithm,
    sign::{
        Credential, Identity, Pkcs11Signer,
        pkcs11::{Device, Modules, NewKeyPair, Pin, Uri, library_for},
    },
};
use tokio::runtime::Runtime;

const LABEL: &str = "bench";
const PIN: &str = "4711-0815";
const FOLDER: &str = "SEGL_BENCH_FOLDER";
const DEFAULT_ROUNDS: usize = 15;
/// In one round, of each kind: about a quarter of a second.
const SIGNATURES: u32 = 600;
const IN_FLIGHT: usize = 4;

fn main() {
    match env::var_os(FOLDER) {
        Some(_) => measure(),
        None => run_with_a_device_of_its_own(),
    }
}

/// SoftHSM2 reads where its devices are from the environment of the process that loads it, so this program calls
/// itself: the machine's own devices are left alone.
fn run_with_a_device_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = folder.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    fs::write(&configuration, text).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL, "--so-pin", "so-4711-0815", "--pin", PIN])
        .env("SOFTHSM2_CONF", &configuration)
        .stdout(Stdio::null())
        .status();
    assert!(made.is_ok_and(|made| made.success()), "softhsm2-util is missing: apt-get install softhsm2");
    let measured = Command::new(env::current_exe().unwrap())
        .args(env::args_os().skip(1))
        .env(FOLDER, folder.path())
        .env("SOFTHSM2_CONF", configuration)
        .status()
        .unwrap();
    assert!(measured.success());
}

fn measure() {
    let rounds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_ROUNDS);
    let modules = Modules::new(SystemClock::shared());
    let one_thread = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let two_threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    one_thread.block_on(generate(&modules));
    let unverified = Arc::new(Minting::new(&modules, false));
    let verified = Arc::new(Minting::new(&modules, true));
    // Logs in; the raw session then shares the login, which is the process's.
    let length = one_thread.block_on(verified.mint());
    one_thread.block_on(unverified.mint());
    let raw = Raw::new(length);

    let kinds: [(&str, &dyn Fn()); 5] = [
        ("raw: C_SignInit and C_Sign in a loop", &|| raw.sign_all()),
        ("grants, not verified, 1 runtime thread", &|| mint_all(&one_thread, &unverified)),
        ("grants, verified, 1 runtime thread", &|| mint_all(&one_thread, &verified)),
        ("grants, not verified, 2 runtime threads", &|| mint_all(&two_threads, &unverified)),
        ("grants, verified, 2 runtime threads", &|| mint_all(&two_threads, &verified)),
    ];
    for (_, run) in &kinds {
        run();
    }
    let (mut seconds, mut processor) = (vec![Vec::new(); kinds.len()], vec![Vec::new(); kinds.len()]);
    for round in 0..rounds {
        for position in 0..kinds.len() {
            // Nobody is always first.
            let kind = (round + position) % kinds.len();
            let (start, busy) = (Instant::now(), processor_time());
            kinds[kind].1();
            seconds[kind].push(start.elapsed().as_secs_f64());
            processor[kind].push(processor_time() - busy);
        }
    }
    println!("SoftHSM2, RSA-2048, RS256, {length} bytes, {IN_FLIGHT} in flight; medians of {rounds} rounds");
    println!(
        "{:42} {:>10} {:>8} {:>17} {:>11}",
        "", "per second", "of raw", "rounds from … to", "CPU µs each"
    );
    for (((name, _), times), busy) in kinds.iter().zip(&seconds).zip(&processor) {
        let ratios = sorted(seconds[0].iter().zip(times).map(|(raw, this)| 100.0 * raw / this));
        let rate = sorted(times.iter().map(|time| f64::from(SIGNATURES) / time));
        println!(
            "{name:42} {:>10.0} {:>6.1} % {:>7.1} … {:>5.1} % {:>11.0}",
            median(&rate),
            median(&ratios),
            ratios[0],
            ratios[ratios.len() - 1],
            1e6 * median(&sorted(busy.iter().copied())) / f64::from(SIGNATURES),
        );
    }
}

/// Of all threads of this process, in seconds. Unlike the rate, it does not depend on what else the machine does.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn device(modules: &Arc<Modules>) -> Device {
    let uri = format!("pkcs11:token={LABEL}").parse().unwrap();
    let pin = Pin::new(|| Ok(Some(PIN.to_owned().into())));
    Device::new(modules.clone(), uri, Some("softhsm2".into()), Some(pin))
}

async fn generate(modules: &Arc<Modules>) {
    let mut pair = NewKeyPair::new(LABEL);
    pair.bits = 2048;
    device(modules).generate_key_pair(pair, &Call::new(&SystemClock)).await.unwrap();
}

/// All that a grant needs, as the program has it.
struct Minting {
    credential: Credential,
    grant: Grant,
    request: TokenRequest,
}

impl Minting {
    fn new(modules: &Arc<Modules>, verify: bool) -> Self {
        let signer = Pkcs11Signer::new(device(modules), Algorithm::RS256).unwrap();
        let signer = if verify { signer } else { signer.without_verification() };
        Self {
            credential: Credential::new(Identity::KeyId("991825827-2026-11".into()), Arc::new(signer)),
            grant: Grant::new(
                SystemClock::shared(),
                "https://maskinporten.no/",
                "0b1c2d3e-0000-4000-8000-000000000001",
            ),
            request: TokenRequest::builder(["toll:movement/road/v2", "toll:movement/air"])
                .resource("https://api.toll.no/")
                .consumer_org("991825827")
                .build()
                .unwrap(),
        }
    }

    /// As a token source does it: proof, then grant. Gives the length of what was signed.
    async fn mint(&self) -> usize {
        use secrecy::ExposeSecret;
        let call = Call::new(&SystemClock);
        let proven = self.credential.prove(&call).await.unwrap();
        let jws = self.grant.assert(&proven, &self.request, &call).await.unwrap().into_jws();
        jws.expose_secret().rfind('.').unwrap()
    }
}

fn mint_all(runtime: &Runtime, minting: &Arc<Minting>) {
    let left = Arc::new(AtomicU32::new(SIGNATURES));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..IN_FLIGHT)
            .map(|_| {
                let (left, minting) = (left.clone(), minting.clone());
                tokio::spawn(async move {
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                        .is_ok()
                    {
                        minting.mint().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// The same library without us. It is loaded, initialized and logged in to by the time this one is made.
struct Raw {
    session: Session,
    key: ObjectHandle,
    message: Vec<u8>,
}

impl Raw {
    fn new(length: usize) -> Self {
        let uri: Uri = format!("pkcs11:token={LABEL}").parse().unwrap();
        let library: PathBuf = library_for(&uri, Some("softhsm2")).unwrap();
        let context = Pkcs11::new(Path::new(&library)).unwrap();
        let slot = context.get_slots_with_initialized_token().unwrap()[0];
        let session = context.open_ro_session(slot).unwrap();
        let key = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap()[0];
        // The library stays loaded until the process ends.
        std::mem::forget(context);
        Self { session, key, message: vec![b'x'; length] }
    }

    fn sign_all(&self) {
        for _ in 0..SIGNATURES {
            let signature = self.session.sign(&Mechanism::Sha256RsaPkcs, self.key, &self.message).unwrap();
            assert_eq!(signature.len(), 256);
        }
    }
}
