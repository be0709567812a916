//! Tests in processes of their own.
//!
//! A PKCS#11 library reads the environment of the process that loads it, and what it has read is shared by the whole
//! process. So the test binary calls itself, once for each such test.

#![allow(dead_code, clippy::print_stdout, reason = "each test binary uses its own part; figures are shown")]

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Where the process of one test finds its folder.
const FOLDER: &str = "SEGL_TEST_FOLDER";

/// Longer than any test takes on a busy machine: a test that hangs is to fail, not to hang the run. In seconds; tests
/// that may be made to take longer get more by `$SEGL_TEST_PATIENCE`.
const PATIENCE: u64 = 300;

/// Runs `body` in a process and a private folder of its own; `name` is the full name of the calling test.
/// `environment` fills the folder and says what that process finds in its environment.
pub(crate) fn alone(
    name: &str,
    environment: impl FnOnce(&Path) -> Vec<(&'static str, OsString)>,
    body: impl AsyncFnOnce(PathBuf),
) {
    if let Some(folder) = env::var_os(FOLDER) {
        let folder = PathBuf::from(folder);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let given = env::var("SEGL_TEST_PATIENCE").ok().and_then(|seconds| seconds.parse().ok());
            let patience = Duration::from_secs(given.unwrap_or(PATIENCE));
            tokio::time::timeout(patience, body(folder.clone())).await.expect("the device hangs");
        });
        fs::write(folder.join("done"), name).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let environment = environment(folder.path());
    let output = command_that_dies_with_us(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
    // A name that fits no test would make the child succeed without having done anything.
    assert!(folder.path().join("done").exists(), "{name} is the name of no test here\n{said}");
    // Seen with --nocapture only.
    println!("{said}");
}

/// Whether this is already the process of one test.
pub(crate) fn is_alone() -> bool {
    env::var_os(FOLDER).is_some()
}

/// `program`, killed by the system when the thread that starts it ends, however it ends: a test that crashes or is
/// interrupted leaves nothing running.
pub(crate) fn command_that_dies_with_us(program: impl Into<OsString>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.into());
    command
}
