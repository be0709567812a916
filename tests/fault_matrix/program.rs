//! The matrix with the real program: `segl grant` meets each fault that would end a program, and some that would not.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use libtest_mimic::{Arguments, Failed, Trial};
use segl::sign::pkcs11::check_trust;

use crate::{
    faulty_module::verifies,
    figures::{Figures, Seen, Way},
    need::Need,
    rows::{End, Fault, HANG, PHASES, Phase, Row, WHILE},
    stand::{Bench, PIN, Stand},
};

/// Beside those that would end the program.
const FURTHER: [&str; 3] = ["CKR_DEVICE_ERROR", "0x80000384", "wrong-signature"];

/// How long a request may take, in seconds; and one that never ends.
const PATIENCE: &str = "30";
const IN_VAIN: &str = "2";

pub(crate) fn need(arguments: &Arguments) -> Need {
    let lack = place().is_none().then(|| "every folder of this user can be written to by others".into());
    Need::of("segl grant in the fault matrix", lack, arguments)
}

pub(crate) fn trial(
    need: &Need,
    stand: &Arc<Stand>,
    figures: &Arc<Figures>,
    row: &'static Row,
) -> Option<Trial> {
    let is_fatal = !row.runs_in_threads() && matches!(row.fault, Fault::Act(_)) && row.lasts == WHILE;
    if !is_fatal && !FURTHER.contains(&row.name) {
        return None;
    }
    let (stand, figures) = (stand.clone(), figures.clone());
    Some(need.trial(format!("program::{}", row.name), move || {
        let bench = stand.bench_in(&place().ok_or("a folder of mine is safe no more")?);
        figures.add(Way::Program, row.name, run(&bench, row)?);
        Ok(())
    }))
}

/// A folder that nobody else can write to, as the program wants it for libraries.
fn place() -> Option<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let places = [Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))), home];
    places.into_iter().flatten().find(|place| check_trust(place).is_ok())
}

fn run(bench: &Bench, row: &Row) -> Result<Seen, Failed> {
    let mut seen = Seen::default();
    configure(bench);
    for (phase, end) in PHASES.into_iter().zip(row.ends) {
        // It does one thing and ends: it is never idle.
        if phase == Phase::Idle || matches!(end, End::No(_)) {
            continue;
        }
        let function = phase.calls(&row.fault)[0];
        let action = match row.fault {
            Fault::Answer(code) => format!("answer {code}"),
            Fault::Act(act) => act.to_owned(),
            Fault::Hold | Fault::Be(_) => continue,
        };
        let (met, logins, wrong) = (bench.calls(function), bench.calls("C_Login"), bench.wrong_pins());
        bench.script([bench.next(function, &action)]);
        let told = |why: String| Failed::from(format!("{}: {why}", phase.name()));
        let signed =
            ask(bench, if row.fault == HANG { IN_VAIN } else { PATIENCE }, &mut seen).map_err(told)?;
        if bench.calls(function) == met {
            return Err(told(format!("{function} was not called")));
        }
        seen.cells += 1;
        seen.once += 1;
        seen.mended += u64::from(signed);
        bench.behave();
        if phase == Phase::Login {
            for _ in 0..2 {
                if ask(bench, PATIENCE, &mut seen).map_err(told)? {
                    return Err(told("signed, though no person has come".into()));
                }
            }
            if bench.calls("C_Login") - logins != 1 {
                return Err(told(format!("{} logins", bench.calls("C_Login") - logins)));
            }
            seen.persons += 1;
            bench.unblock();
        }
        if !ask(bench, PATIENCE, &mut seen).map_err(told)? {
            return Err(told("no signature any more".into()));
        }
        seen.recoveries += 1;
        let wrong = bench.wrong_pins() - wrong;
        seen.wrong_pins = seen.wrong_pins.max(wrong);
        if wrong > 0 {
            return Err(told(format!("{wrong} wrong PINs")));
        }
    }
    Ok(seen)
}

fn configure(bench: &Bench) {
    let folder = bench.folder();
    let pin = folder.join("pin");
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!(
        r#"
schema = 1

[signers.hsm]
key = "pkcs11:token=ci;object=grant?module-path={}"
pin = "file:pin"

[clients.forwarder]
environment = "test"
client_id = "0b1c2d3e-0000-4000-8000-000000000001"
signer = "hsm"
kid = "key-1"

[tokens.road]
client = "forwarder"
scopes = ["toll:movement/road"]
"#,
        bench.library().display()
    );
    fs::write(folder.join("segl.toml"), config).unwrap();
}

/// Asks once; whether a signature came. However it ends, the program says so itself.
fn ask(bench: &Bench, timeout: &str, seen: &mut Seen) -> Result<bool, String> {
    let folder = bench.folder();
    // A program that hangs is to fail, not to hang the run.
    let Output { status, stdout, stderr } = Command::new("timeout")
        .args(["--signal=KILL", "120", env!("CARGO_BIN_EXE_segl"), "grant", "road", "--timeout", timeout])
        .current_dir(folder)
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
        .env("STATE_DIRECTORY", folder.join("state"))
        .output()
        .unwrap();
    seen.requests += 1;
    let said = String::from_utf8_lossy(&stderr);
    match status.code() {
        Some(0) => {
            check(bench, &String::from_utf8_lossy(&stdout))?;
            seen.signatures += 1;
            Ok(true)
        }
        Some(2 | 3) if !said.trim().is_empty() && !said.contains("panicked") => Ok(false),
        _ => Err(format!("{status}: {said}")),
    }
}

/// The signature of a grant is one of the key's.
fn check(bench: &Bench, jwt: &str) -> Result<(), String> {
    let (message, signature) = jwt.trim().rsplit_once('.').ok_or("no grant came out")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|why| why.to_string())?;
    if verifies(&bench.spki, message.as_bytes(), &signature) {
        Ok(())
    } else {
        Err("a wrong signature came out".into())
    }
}
