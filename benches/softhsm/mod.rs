//! A SoftHSM2 device for one run of a bench, and how its figures are put in order.

#![allow(dead_code, reason = "not every bench uses all of it")]

#[path = "../../tests/support/softhsm_folder.rs"]
mod softhsm_folder;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
};

use segl::{
    call::Call,
    clock::SystemClock,
    sign::pkcs11::{Device, Modules, NewKeyPair, Pin, library_for},
};

use self::softhsm_folder::configure;

/// Label of the device, and of the key on it.
pub const LABEL: &str = "bench";
pub const PIN: &str = "4711-0815";
const FOLDER: &str = "SEGL_BENCH_FOLDER";

/// Runs `measure` in a process that has a device of its own, with the folder that the device lies in.
///
/// SoftHSM2 reads where its devices are from the environment of the process that loads it, so this program calls
/// itself: the machine's own devices are left alone.
pub fn with_a_device(measure: impl FnOnce(&Path)) -> ExitCode {
    // The process of a library is this program, too.
    if let Some(code) = segl::module_host() {
        return code;
    }
    match env::var_os(FOLDER) {
        Some(folder) => measure(Path::new(&folder)),
        None => run_in(tempfile::tempdir().unwrap().path()),
    }
    ExitCode::SUCCESS
}

fn run_in(folder: &Path) {
    let configuration = configure(folder);
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL, "--so-pin", "so-4711-0815", "--pin", PIN])
        .env("SOFTHSM2_CONF", &configuration)
        .stdout(Stdio::null())
        .status();
    assert!(made.is_ok_and(|made| made.success()), "softhsm2-util is missing: apt-get install softhsm2");
    let measured = Command::new(env::current_exe().unwrap())
        .args(env::args_os().skip(1))
        .env(FOLDER, folder)
        .env("SOFTHSM2_CONF", configuration)
        .status()
        .unwrap();
    assert!(measured.success());
}

/// The first number on the command line, which says how many rounds there are.
pub fn rounds(usual: usize) -> usize {
    env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(usual)
}

pub fn library() -> PathBuf {
    library_for(&format!("pkcs11:token={LABEL}").parse().unwrap(), Some("softhsm2")).unwrap()
}

pub fn device(modules: &Arc<Modules>) -> Device {
    let uri = format!("pkcs11:token={LABEL}").parse().unwrap();
    let pin = Pin::new(|| Ok(Some(PIN.to_owned().into())));
    Device::new(modules.clone(), uri, Some("softhsm2".into()), Some(pin))
}

/// Makes the RSA-2048 key that signs.
pub async fn generate(modules: &Arc<Modules>) {
    let mut pair = NewKeyPair::new(LABEL);
    pair.bits = 2048;
    device(modules).generate_key_pair(pair, &Call::new(&SystemClock)).await.unwrap();
}

pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let sorted = sorted(values);
    sorted[sorted.len() / 2]
}
