//! The process of a library: what it gets to see, what it leaves behind, and how much it may take up.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows its figures, and clippy knows only #[test] functions as tests"
)]

#[path = "support/faultp11.rs"]
mod faultp11;
#[path = "support/faulty_module.rs"]
mod faulty_module;
#[path = "support/softhsm.rs"]
mod softhsm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use self::{faultp11::faulty, faulty_module::sign, softhsm::call};

/// A library that tells what its process is like, in a folder of its own.
struct Witness(TempDir);

impl Witness {
    fn new() -> Self {
        let witness = Self(tempfile::tempdir().unwrap());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/host/witness.c");
        let made = Command::new("cc")
            .args(["-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(witness.path("witness.so"))
            .arg(format!("-DREPORT=\"{}\"", witness.path("report").display()))
            .arg(source)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        witness
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A profile for it, with these lines in its table `[module]`.
    fn profile(&self, module: &str) {
        fs::create_dir_all(self.path("profiles")).unwrap();
        let profile = format!(
            "schema = 1\nname = \"witness\"\ntitle = \"Witness\"\nconfidence = \"guess\"\nsources = [\"this test\"]\n\
             [match]\nmodule_file = [\"witness.so\"]\n[module]\n{module}\n"
        );
        fs::write(self.path("profiles/witness.toml"), profile).unwrap();
    }

    /// Has Segl load it.
    fn load(&self, variables: &[(&str, &str)]) -> Output {
        let uri = format!("pkcs11:?module-path={}", self.path("witness.so").display());
        let output = Command::new(env!("CARGO_BIN_EXE_segl"))
            .args(["-vv", "--profiles", "profiles", "keys", "list", &uri, "--trust-module"])
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success(), "it is no PKCS#11 library: {output:?}");
        output
    }

    fn report(&self) -> Vec<String> {
        fs::read_to_string(self.path("report")).unwrap().lines().map(str::to_owned).collect()
    }

    /// Its variables, in the order of their names.
    fn variables(&self) -> Vec<String> {
        let report = self.report();
        let variables = report.iter().filter_map(|line| line.strip_prefix("variable "));
        let mut names: Vec<String> = variables.map(str::to_owned).collect();
        names.sort();
        names
    }
}

const SECRETS: [(&str, &str); 4] = [
    ("MASKINPORTEN_CLIENT_JWK", "{}"),
    ("HSM_PIN", "4711"),
    ("CREDENTIALS_DIRECTORY", "/run/credentials/segl"),
    ("DATABASE_URL", "postgres://user:password@db/"),
];

#[test]
fn a_library_sees_of_the_environment_what_it_needs_and_no_secret() {
    let witness = Witness::new();
    witness.profile("env = [\"CARD_*\"]\nenv_default = { CARD_MODE = \"single\" }");
    let needed = [("LANG", "nb_NO.UTF-8"), ("LC_TIME", "C"), ("TZ", "UTC"), ("CARD_READER", "2")];
    let further = [("LD_LIBRARY_PATH", "/opt/vendor/lib"), ("CARD_PIN", "4711"), ("SSH_AUTH_SOCK", "/x")];
    witness.load(&[&needed[..], &further, &SECRETS].concat());
    let seen = witness.variables();
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    assert_eq!(seen, ["CARD_MODE=single", "CARD_READER=2", "LANG=nb_NO.UTF-8", "LC_TIME=C", &path, "TZ=UTC"]);
}

#[test]
fn a_library_that_nobody_knows_sees_the_variables_of_those_that_are_known() {
    let witness = Witness::new();
    fs::create_dir(witness.path("profiles")).unwrap();
    let known = [("SOFTHSM2_CONF", "/s"), ("TPM2_PKCS11_STORE", "/t"), ("OPENSC_DEBUG", "9")];
    witness.load(&[&known[..], &SECRETS].concat());
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    assert_eq!(witness.variables(), [&path, "SOFTHSM2_CONF=/s", "TPM2_PKCS11_STORE=/t"]);
}

#[test]
fn a_library_works_in_the_folder_that_its_profile_names_and_in_the_root_else() {
    let witness = Witness::new();
    witness.profile("");
    witness.load(&[]);
    assert_eq!(witness.report()[0], "folder=/");
    fs::create_dir(witness.path("work")).unwrap();
    let folder = fs::canonicalize(witness.path("work")).unwrap();
    witness.profile(&format!("working_directory = {folder:?}"));
    witness.load(&[]);
    assert_eq!(witness.report()[0], format!("folder={}", folder.display()));
    witness.profile(&format!("working_directory = {:?}", witness.path("away")));
    let said = String::from_utf8(witness.load(&[]).stderr).unwrap();
    assert!(said.contains("its process cannot be started in the folder"), "{said}");
}

#[test]
fn the_process_of_a_library_leaves_no_core_cannot_be_looked_into_and_has_our_frames_for_itself() {
    let witness = Witness::new();
    witness.profile("");
    witness.load(&[]);
    let wanted = ["can be looked into=0", "core=0", "end 0=/dev/null", "end 1=/dev/null"];
    assert_eq!(witness.report()[1..5], wanted);
}

#[test]
fn of_what_a_library_says_without_end_little_is_passed_on_and_the_rest_counted() {
    let witness = Witness::new();
    witness.profile("");
    let said = String::from_utf8(witness.load(&[]).stderr).unwrap();
    let lines = said.lines().filter(|line| line.contains("line=\"witness")).count();
    // One note for each 10 s, of which a busy machine may take several.
    let notes = said.lines().filter_map(|line| {
        let (before, _) = line.split_once(" more lines within 10 s were left out")?;
        before.rsplit_once('(')?.1.parse::<usize>().ok()
    });
    let left_out: Vec<usize> = notes.collect();
    assert!(!left_out.is_empty() && lines <= 20 * (left_out.len() + 1), "{said}");
    assert_eq!(lines + left_out.iter().sum::<usize>(), 100_000, "{said}");
    println!("standard error: {lines} of 100000 lines passed on");
}

#[test]
fn a_library_that_loses_memory_is_started_anew_and_no_request_fails() {
    let name = "a_library_that_loses_memory_is_started_anew_and_no_request_fails";
    faulty(name, async |fault| {
        let modules = fault.modules_with("[module]\nmemory_limit_mb = 200\n");
        let signer = fault.signer(&modules);
        // Of 50 MiB for each signature, the process may keep what a few leave behind.
        fault.script([format!("C_Sign * leak {}", 50 << 20)]);
        let mut signatures = 0;
        while fault.calls("C_Initialize") < 3 {
            sign(&signer).await.unwrap();
            signatures += 1;
            assert!(signatures < 60, "it grew to {} MiB", signatures * 50);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        println!("200 MiB at most, 50 MiB lost a signature: {signatures} signatures, 2 new starts, 0 failed");
        assert_eq!((fault.calls("C_Login"), fault.wrong_pins()), (3, 0));
        assert_eq!(fault.ended("C_Finalize"), 2, "sessions were left behind in the device");
        modules.shutdown(&call()).await.unwrap();
    });
}

#[test]
fn a_library_that_grows_in_a_long_signature_is_let_finish_it() {
    let name = "a_library_that_grows_in_a_long_signature_is_let_finish_it";
    faulty(name, async |fault| {
        let modules = fault.modules_with("[module]\nmemory_limit_mb = 200\n");
        let signer = fault.signer(&modules);
        fault.script([format!("C_Sign * leak {}", 250 << 20), "C_Sign * delay 2500".into()]);
        for _ in 0..2 {
            sign(&signer).await.unwrap();
        }
        assert_eq!((fault.calls("C_Sign"), fault.wrong_pins()), (2, 0), "each was made once");
        modules.shutdown(&call()).await.unwrap();
    });
}

#[test]
fn a_library_that_is_larger_than_its_limit_from_the_start_is_not_started_again_and_again() {
    let name = "a_library_that_is_larger_than_its_limit_from_the_start_is_not_started_again_and_again";
    faulty(name, async |fault| {
        let modules = fault.modules_with("[module]\nmemory_limit_mb = 200\n");
        let signer = fault.signer(&modules);
        fault.script([format!("C_Initialize * leak {}", 250 << 20)]);
        for _ in 0..20 {
            sign(&signer).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert_eq!((fault.calls("C_Initialize"), fault.calls("C_Login")), (1, 1));
        modules.shutdown(&call()).await.unwrap();
    });
}
