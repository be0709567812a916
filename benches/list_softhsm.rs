//! `segl keys` on a device with many keys and certificates, against `pkcs11-tool -O` on the same device.
//!
//! `cargo bench --bench list_softhsm [-- ROUNDS]` (needs `softhsm2` and `opensc`; 7 rounds unless told otherwise)
//!
//! The device gets as many private keys, public keys and certificates, each pair with a modulus of its own. The
//! private halves are noise: nobody signs with them. Memory is the highest that the kernel has counted for each of the
//! two processes of `segl keys`, in a run of its own that nobody times.

#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "a benchmark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "its result")]

#[path = "softhsm/mod.rs"]
mod softhsm;

use std::{
    fs,
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, CertificateType, KeyType, ObjectClass},
    session::{Session, UserType},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    SubjectPublicKeyInfo,
};
use segl::jose::RsaPublicKey;

use self::softhsm::{PIN, median, rounds, sorted};

const SIZES: [u32; 3] = [100, 1000, 2000];
/// So many pairs are made at a time.
const BATCH: u32 = 50;

fn main() -> ExitCode {
    softhsm::with_a_device(measure)
}

fn measure(folder: &Path) {
    let rounds = rounds(7);
    let pin = folder.join("pin");
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let authority = authority();
    println!("SoftHSM2, RSA-2048; medians of {rounds} rounds; memory in MiB");
    println!(
        "{:>5} {:8} {:>10} {:>14} {:>6} {:>15} {:>8} {:>7} {:>11}",
        "keys", "", "segl, ms", "pkcs11-tool, ms", "ratio", "from … to", "segl", "child", "pkcs11-tool"
    );
    let mut there = 0;
    for size in SIZES {
        provide(there..size, &authority, folder);
        there = size;
        for login in [false, true] {
            let commands = || (segl(&pin, login), pkcs11_tool(login));
            check(commands().0, size);
            check(commands().1, size);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let (mut segl, mut pkcs11_tool) = commands();
                ours.push(time(&mut segl));
                theirs.push(time(&mut pkcs11_tool));
            }
            let ratios = sorted(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs));
            let (own, child) = memory(&mut commands().0);
            let (theirs_own, _) = memory(&mut commands().1);
            println!(
                "{size:>5} {:8} {:>10.0} {:>15.0} {:>6.2} {:>6.2} … {:>5.2} {own:>8.1} {child:>7.1} {theirs_own:>11.1}",
                if login { "--login" } else { "" },
                median(ours),
                median(theirs),
                median(ratios.iter().copied()),
                ratios[0],
                ratios[ratios.len() - 1],
            );
        }
    }
}

fn segl(pin: &Path, login: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segl"));
    command.args(["keys", "--module"]).arg(softhsm::library()).args(["--timeout", "120"]);
    if login {
        command.args(["--login", "--pin"]).arg(format!("file:{}", pin.display()));
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn pkcs11_tool(login: bool) -> Command {
    let mut command = Command::new("pkcs11-tool");
    command.arg("--module").arg(softhsm::library()).args(["--list-objects", "--token-label", softhsm::LABEL]);
    if login {
        command.args(["--login", "--pin", PIN]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// All of it is listed.
fn check(mut command: Command, size: u32) {
    let printed = command.stdout(Stdio::piped()).output().unwrap();
    let named = String::from_utf8_lossy(&printed.stdout).matches("grant-").count();
    assert!(named >= size as usize, "{command:?} lists {named} of {size}");
}

/// In milliseconds.
fn time(command: &mut Command) -> f64 {
    let start = Instant::now();
    let ended = command.status().expect("pkcs11-tool is missing: apt-get install opensc");
    assert!(ended.success(), "{command:?}: {ended}");
    1e3 * start.elapsed().as_secs_f64()
}

/// The most memory that the program and the process of the library had at any time (`VmHWM`), in MiB.
fn memory(command: &mut Command) -> (f64, f64) {
    let mut program = command.spawn().unwrap();
    let (mut own, mut child) = (0.0_f64, 0.0_f64);
    while program.try_wait().unwrap().is_none() {
        let id = program.id();
        own = own.max(most_resident(&id.to_string()));
        for task in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for id in children.split_whitespace() {
                child = child.max(most_resident(id));
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    (own, child)
}

/// 0 when the process has gone.
fn most_resident(process: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().map_or(0.0, |kib| kib / 1024.0)
}

type Authority = Issuer<'static, KeyPair>;

fn authority() -> Authority {
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let mut parameters = parameters("Utsteder");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Issuer::new(parameters, pair)
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::OrganizationName, "Virksomhet AS");
    parameters.distinguished_name.push(DnType::CommonName, name);
    // organizationIdentifier
    parameters.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), "NTRNO-991825827");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    parameters
}

/// Puts pairs with these numbers on the device, each with its certificate. SoftHSM2 takes the longer to make an object
/// the more there are, so the files of those that are done lie elsewhere meanwhile.
fn provide(numbers: Range<u32>, authority: &Authority, folder: &Path) {
    let device = fs::read_dir(folder.join("tokens")).unwrap().next().unwrap().unwrap().path();
    let aside = folder.join("aside");
    fs::create_dir_all(&aside).unwrap();
    let end = numbers.end;
    for start in numbers.step_by(BATCH as usize) {
        move_objects(&device, &aside);
        provide_some(start..end.min(start + BATCH), authority);
    }
    move_objects(&aside, &device);
}

fn move_objects(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let (name, path) = file.map(|file| (file.file_name(), file.path())).unwrap();
        // The device itself stays.
        if !["token.object", "token.lock", "generation"].iter().any(|kept| name == *kept) {
            fs::rename(path, to.join(name)).unwrap();
        }
    }
}

fn provide_some(numbers: Range<u32>, authority: &Authority) {
    let context = Pkcs11::new(softhsm::library()).unwrap();
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = context.get_slots_with_initialized_token().unwrap()[0];
    let session = context.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&PIN.to_owned().into())).unwrap();
    for number in numbers {
        provide_one(number, &session, authority);
    }
    drop(session);
    context.finalize().unwrap();
}

fn provide_one(number: u32, session: &Session, authority: &Authority) {
    let (id, label) = (number.to_be_bytes().to_vec(), format!("grant-{number}"));
    let (modulus, exponent) = (noise(number, 256), vec![1, 0, 1]);
    let named =
        || [Attribute::Token(true), Attribute::Label(label.clone().into()), Attribute::Id(id.clone())];
    let key = || [Attribute::KeyType(KeyType::RSA), Attribute::Modulus(modulus.clone())];
    let half = |part: u32| noise(number.wrapping_add(part << 24), 128);
    let private = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::PublicExponent(exponent.clone()),
        Attribute::PrivateExponent(noise(number.wrapping_add(1 << 30), 256)),
        Attribute::Prime1(half(1)),
        Attribute::Prime2(half(2)),
        Attribute::Exponent1(half(3)),
        Attribute::Exponent2(half(4)),
        Attribute::Coefficient(half(5)),
    ];
    let public = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::Verify(true),
        Attribute::PublicExponent(exponent.clone()),
    ];
    let spki = RsaPublicKey::new(&modulus, &exponent).to_spki().unwrap();
    let spki = SubjectPublicKeyInfo::from_der(&spki).unwrap();
    let certificate = parameters(&label).signed_by(&spki, authority).unwrap();
    let certificate = [
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Subject(label.clone().into()),
        Attribute::Value(certificate.der().to_vec()),
    ];
    session.create_object(&[&named()[..], &key(), &private].concat()).unwrap();
    session.create_object(&[&named()[..], &key(), &public].concat()).unwrap();
    session.create_object(&[&named()[..], &certificate].concat()).unwrap();
}

/// Bytes that look like any (xorshift), an odd number with its highest bit set.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) | 0x9E37_79B9_0000_0000;
    let mut bytes: Vec<u8> = (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    bytes[0] |= 0x80;
    bytes[length - 1] |= 1;
    bytes
}
