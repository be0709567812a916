//! From the start of `segl` to its first signature on a PKCS#11 device.
//!
//! `cargo bench --bench start_softhsm [-- ROUNDS]` (needs `softhsm2`; 20 rounds unless told otherwise)
//!
//! What is measured is the whole life of `segl grant`: exec, configuration, library, login, key, signature,
//! verification, logout and end. The signature is there before the end, so its own time is less.

#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "a benchmark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "its result")]

#[path = "softhsm/mod.rs"]
mod softhsm;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use segl::{call::Call, clock::SystemClock, sign::pkcs11::Modules};

use self::softhsm::{LABEL, PIN, median, rounds, sorted};

fn main() -> ExitCode {
    softhsm::with_a_device(measure)
}

fn measure(folder: &Path) {
    let rounds = rounds(20);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let modules = Modules::new(SystemClock::shared());
    runtime.block_on(softhsm::generate(&modules));
    runtime.block_on(modules.shutdown(&Call::new(&SystemClock))).unwrap();
    let kinds = ["thread", "process"].map(|isolation| (isolation, configuration(folder, isolation)));
    let mut times = [Vec::new(), Vec::new()];
    // The first round only warms up.
    for round in 0..=rounds {
        for (kind, (_, configuration)) in kinds.iter().enumerate() {
            let time = grant(configuration);
            if round > 0 {
                times[kind].push(time);
            }
        }
    }
    println!("segl grant, SoftHSM2, RSA-2048, {rounds} rounds; milliseconds");
    println!("{:28} {:>8} {:>8} {:>8}", "", "median", "least", "most");
    for ((isolation, _), times) in kinds.iter().zip(times) {
        let name = format!("isolation = \"{isolation}\"");
        let sorted = sorted(times);
        println!(
            "{name:28} {:>8.1} {:>8.1} {:>8.1}",
            median(sorted.iter().copied()),
            sorted[0],
            sorted[sorted.len() - 1]
        );
    }
}

fn configuration(folder: &Path, isolation: &str) -> PathBuf {
    let pin = folder.join("pin");
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let path = folder.join(format!("{isolation}.toml"));
    let text = format!(
        r#"
            schema = 1

            [signers.hsm]
            key = "pkcs11:token={LABEL};object={LABEL}"
            pin = "file:pin"

            [clients.forwarder]
            environment = "test"
            client_id   = "0b1c2d3e-0000-4000-8000-000000000001"
            signer      = "hsm"
            kid         = "991825827-2026-11"

            [tokens.road]
            client = "forwarder"
            scopes = ["toll:movement/road/v2"]

            [profiles.softhsm2.module]
            isolation = "{isolation}"
        "#
    );
    fs::write(&path, text).unwrap();
    path
}

/// In milliseconds.
fn grant(configuration: &Path) -> f64 {
    let start = Instant::now();
    let printed = Command::new(env!("CARGO_BIN_EXE_segl"))
        .arg("--config")
        .arg(configuration)
        .args(["grant", "road"])
        .output()
        .unwrap();
    let time = 1e3 * start.elapsed().as_secs_f64();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    // Three parts, the last of which is a signature of 256 bytes.
    let parts: Vec<_> = printed.stdout.split(|byte| *byte == b'.').map(<[u8]>::trim_ascii_end).collect();
    assert!(parts.len() == 3 && parts[2].len() == 342, "this is no grant");
    time
}
