//! Grants per second through a PKCS#11 device, against the same device asked without us.
//!
//! `cargo bench --bench sign_softhsm [-- ROUNDS]` (needs `softhsm2`; 15 rounds unless told otherwise)
//!
//! *Raw* is a loop of `C_SignInit` and one `C_Sign` with a ready buffer in n threads, over a message of a grant's
//! length. *Lanes* are n threads of ours in this process; *child* is a process of its own with n such threads. Each
//! round measures all of them once; the ratios are taken within a round and their median is shown, since the machine's
//! own speed changes from second to second.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::type_complexity,
    reason = "a benchmark"
)]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(unsafe_code, reason = "what a C program does, to compare with")]

#[path = "softhsm/raw.rs"]
mod raw;
#[path = "softhsm/mod.rs"]
mod softhsm;

use std::{
    fs,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use segl::{
    call::Call,
    clock::SystemClock,
    grant::{Grant, TokenRequest},
    jose::Algorithm,
    sign::{
        Credential, Identity, Pkcs11Signer,
        pkcs11::{Manner, Modules, Profiles},
    },
};
use tokio::runtime::Runtime;

use self::{
    raw::Raw,
    softhsm::{device, generate, median, rounds, sorted},
};

const DEFAULT_ROUNDS: usize = 15;
/// In one round, of each kind and lane: about a quarter of a second.
const SIGNATURES: u32 = 600;
/// For each lane.
const IN_FLIGHT: u32 = 4;
/// In one round of those that come one at a time.
const ONE_AT_A_TIME: u32 = 150;

fn main() -> ExitCode {
    softhsm::with_a_device(|_| measure())
}

fn measure() {
    let rounds = rounds(DEFAULT_ROUNDS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let usual = Modules::new(SystemClock::shared());
    runtime.block_on(generate(&usual));
    let all = [1, 2].map(|lanes| Kinds::new(lanes, &runtime));
    // The login is this process's, made by the lanes.
    let length = runtime.block_on(all[0].lanes.mint());
    let raw = Raw::new(2, length);
    println!(
        "SoftHSM2, RSA-2048, RS256, {length} bytes, {IN_FLIGHT} in flight per lane; medians of {rounds} rounds"
    );
    for kinds in &all {
        throughput(kinds, &raw, &runtime, rounds);
    }
    latency(&all[0], &runtime, rounds);
    // Several of ours share one library here, which only the first of them may finalize, and last.
    std::mem::forget((usual, all, raw));
}

fn throughput(kinds: &Kinds, raw: &Raw, runtime: &Runtime, rounds: usize) {
    let threads = kinds.number as usize;
    // What is measured, what it is compared with, how it is run.
    let rows: [(&str, usize, &dyn Fn()); 5] = [
        ("raw loop", 0, &|| raw.sign(threads, SIGNATURES)),
        ("lanes, not verified", 0, &|| mint_all(runtime, &kinds.lanes, kinds.number)),
        ("lanes, verified", 0, &|| mint_all(runtime, &kinds.verified, kinds.number)),
        ("child, not verified, against lanes", 1, &|| mint_all(runtime, &kinds.child, kinds.number)),
        ("child, verified, against lanes", 2, &|| mint_all(runtime, &kinds.verified_child, kinds.number)),
    ];
    for (.., run) in &rows {
        run();
    }
    let (mut seconds, mut processor) = (vec![Vec::new(); rows.len()], vec![Vec::new(); rows.len()]);
    for round in 0..rounds {
        for position in 0..rows.len() {
            // Nobody is always first.
            let row = (round + position) % rows.len();
            let (start, busy) = (Instant::now(), processor_time());
            rows[row].2();
            seconds[row].push(start.elapsed().as_secs_f64());
            processor[row].push(processor_time() - busy);
        }
    }
    println!(
        "{:38} {:>10} {:>9} {:>17} {:>11}",
        format!("n = {threads}"),
        "per second",
        "ratio",
        "rounds from … to",
        "CPU µs each"
    );
    let count = f64::from(SIGNATURES * kinds.number);
    for (row, (name, base, _)) in rows.iter().enumerate() {
        let ratios = sorted(seconds[*base].iter().zip(&seconds[row]).map(|(base, this)| 100.0 * base / this));
        println!(
            "{name:38} {:>10.0} {:>7.1} % {:>7.1} … {:>5.1} % {:>11.0}",
            median(seconds[row].iter().map(|time| count / time)),
            median(ratios.iter().copied()),
            ratios[0],
            ratios[ratios.len() - 1],
            1e6 * median(processor[row].iter().copied()) / count,
        );
    }
}

/// One request at a time, with one lane: what the way to the process and back adds.
fn latency(kinds: &Kinds, runtime: &Runtime, rounds: usize) {
    let one = |minting: &Minting| {
        let times = (0..ONE_AT_A_TIME).map(|_| {
            let start = Instant::now();
            runtime.block_on(minting.mint());
            1e6 * start.elapsed().as_secs_f64()
        });
        median(times)
    };
    let (mut lanes, mut added) = (Vec::new(), Vec::new());
    for round in 0..2 * rounds {
        let (here, there) = if round % 2 == 0 {
            (one(&kinds.lanes), one(&kinds.child))
        } else {
            let there = one(&kinds.child);
            (one(&kinds.lanes), there)
        };
        lanes.push(here);
        added.push(there - here);
    }
    let spread = sorted(added.iter().copied());
    println!(
        "one at a time: {:.0} µs in this process; the child adds {:.0} µs ({:.0} … {:.0} in half of {} rounds)",
        median(lanes),
        median(added),
        spread[spread.len() / 4],
        spread[3 * spread.len() / 4],
        spread.len(),
    );
}

/// Of all threads of this process and of those it has started, in seconds. Unlike the rate, it does not depend on what
/// else the machine does.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let mut nanoseconds = time.tv_sec as f64 * 1e9 + time.tv_nsec as f64;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            for thread in fs::read_dir(format!("/proc/{child}/task")).unwrap() {
                let times = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
                nanoseconds += times.split(' ').next().unwrap().parse::<f64>().unwrap();
            }
        }
    }
    nanoseconds / 1e9
}

/// The same lanes, in this process and in one of their own.
struct Kinds {
    number: u32,
    lanes: Arc<Minting>,
    verified: Arc<Minting>,
    child: Arc<Minting>,
    verified_child: Arc<Minting>,
}

impl Kinds {
    fn new(number: u32, runtime: &Runtime) -> Self {
        let (threads, process) = (modules(number, "thread"), modules(number, "process"));
        let minting = |modules, verify| {
            let minting = Arc::new(Minting::new(modules, verify));
            runtime.block_on(minting.mint());
            minting
        };
        Self {
            number,
            lanes: minting(&threads, false),
            verified: minting(&threads, true),
            child: minting(&process, false),
            verified_child: minting(&process, true),
        }
    }
}

fn modules(lanes: u32, isolation: &str) -> Arc<Modules> {
    let changes = format!("session.lanes = {lanes}\nmodule.isolation = \"{isolation}\"");
    let mut profiles = Profiles::embedded();
    profiles.override_with("softhsm2", toml::from_str(&changes).unwrap()).unwrap();
    let mut manner = Manner::default();
    manner.profiles = Arc::new(profiles);
    Modules::build(SystemClock::shared(), manner)
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

fn mint_all(runtime: &Runtime, minting: &Arc<Minting>, lanes: u32) {
    let left = Arc::new(AtomicU32::new(SIGNATURES * lanes));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..IN_FLIGHT * lanes)
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
