//! `--softhsm DIR`: a SoftHSM2 device with a key that is born in it, and a certificate of the test CA beside it.
//!
//! SoftHSM2 finds its devices by `SOFTHSM2_CONF`, which a process cannot safely set for itself. So the device is made
//! by a child: this program again, with that variable set.

use std::{
    env,
    ffi::OsString,
    fs::DirBuilder,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{self, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::Args;

use super::{
    super::{Context, failure::Failure},
    key,
};
use crate::{
    call::Call,
    certificate::{Certificate, Chain},
    clock::Clock,
    jose::RsaPublicKey,
    sandbox::{Authentication, Clients, Profile, Setup, TestCa},
    secret::{Source, Sources},
    sign::{
        PinProblem,
        pkcs11::{Device, Modules, NewCertificate, NewKeyPair, Pin, Uri, library_for},
    },
    state::StateDir,
};

const PROFILE: &str = "softhsm2";

/// Label of the device and of its key.
const LABEL: &str = "segl-sandbox";

/// Label of the key that has an eSeal.
const SEAL_LABEL: &str = "segl-sandbox-eseal";

const CONFIGURATION: &str = "softhsm2.conf";
const TOKENS: &str = "tokens";
const PIN: &str = "pin";

/// First line of a configuration that is ours to write.
const MARK: &str = "# Written by segl sandbox";

/// Longest configuration that is looked at, in bytes.
const LONGEST_CONFIGURATION: usize = 4096;

/// SoftHSM2 reads lines of 1024 bytes.
const LONGEST_PATH: usize = 900;

/// Searching for an RSA-3072 key takes seconds on a slow machine, and rarely many.
const PATIENCE: Duration = Duration::from_secs(120);

/// A certificate that ends within this time is replaced.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A device that is there and complete.
#[derive(Debug)]
pub(super) struct SoftHsm {
    /// The part of a configuration that signs with it.
    pub(super) setup: Setup,
    /// Value of `SOFTHSM2_CONF`.
    pub(super) configuration: String,
}

/// Whom the certificate on the device is for.
#[derive(Clone, Debug)]
pub(super) enum Holder {
    /// The organisation of this number: a virksomhetssertifikat.
    Norwegian(String),
    /// A foreign business: an eSeal.
    Foreign,
}

impl SoftHsm {
    /// The line for the shell that makes SoftHSM2 find the device.
    pub(super) fn export(&self) -> String {
        let path = shlex::try_quote(&self.configuration).unwrap_or_default();
        format!("export SOFTHSM2_CONF={path}")
    }

    /// Makes in `directory` what is missing there. The certificate is one of the CA in `state`, for this holder. Blocks
    /// for as long as the child takes.
    pub(super) fn provide(directory: &Path, state: &Path, holder: &Holder) -> Result<Self, Failure> {
        library()?;
        let directory = PathBuf::from(key::absolute(directory.to_owned())?);
        let folder = StateDir::open(&directory)?;
        let _only_one = folder.lock("softhsm")?;
        let configuration = write_configuration(&folder)?;
        let pin = directory.join(PIN);
        if !pin.exists() {
            let random = uuid::Uuid::new_v4().simple().to_string();
            folder.write(PIN, random.as_bytes())?;
        }
        let key = prepare_in_child(&configuration, &pin, state, holder)?;
        let from = "token".to_owned();
        let setup = Setup {
            key,
            pin: Some(format!("file:{}", key::absolute(pin)?)),
            authentication: match holder {
                Holder::Norwegian(_) => Authentication::Certificate(from),
                Holder::Foreign => Authentication::Eseal(from),
            },
        };
        Ok(Self { setup, configuration })
    }
}

/// Arguments of the child.
#[derive(Debug, Args)]
pub(super) struct Prepare {
    #[arg(long, value_name = "FILE")]
    pin_file: PathBuf,
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    #[arg(long, value_name = "NUMBER", default_value = Clients::ORGANISATION)]
    organisation_number: String,
    #[arg(long)]
    eseal: bool,
}

/// The child: prints the URI of the key.
pub(super) async fn prepare(
    prepare: &Prepare,
    context: &Context,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let modules = Modules::new(context.clock.clone());
    let call = Call::within(context.clock(), PATIENCE);
    let key = key_on_device(prepare, &modules, context.clock(), &call).await;
    // The device is written when each answer is there; a library that does not end is no reason to fail.
    let _ = modules.shutdown(&call).await;
    Ok(writeln!(out, "{}", key?)?)
}

/// The key on the device, with a valid certificate beside it; what is missing is made.
async fn key_on_device(
    prepare: &Prepare,
    modules: &Arc<Modules>,
    clock: &dyn Clock,
    call: &Call,
) -> Result<Uri, Failure> {
    let ca = TestCa::open_or_create(&prepare.state)?;
    let library = library()?;
    let source = Sources::new(vec![Source::File(prepare.pin_file.clone())]);
    let pin = Pin::new(move || source.read("PIN").map_err(|why| PinProblem::Source(why.to_string())));
    let uri = modules.provide_test_device(&library, LABEL, pin.clone(), call).await?;
    let device = Device::new(modules.clone(), uri.clone(), Some(PROFILE.into()), Some(pin.clone()));

    let shown = modules.describe(&library, Some((&uri, &pin)), call).await?;
    let slot =
        shown.slots.into_iter().find(|slot| slot.device.as_ref().is_some_and(|found| found.uri == uri));
    let label = if prepare.eseal { SEAL_LABEL } else { LABEL };
    let there = slot.into_iter().flat_map(|slot| slot.keys).find(|key| key.private && key.label == label);
    let (key, spki) = match there.and_then(|key| Some((key.uri, key.spki?))) {
        Some(there) => there,
        None => {
            let made = device.generate_key_pair(NewKeyPair::new(label), call).await?;
            (made.uri, made.spki)
        }
    };

    let on_device = device.certificates(call).await?;
    let chain = chain_of(&spki, &on_device, clock);
    let number = &prepare.organisation_number;
    let new = match (&chain, prepare.eseal) {
        (Some(chain), true) if is_good_seal(chain, &ca, clock) => Vec::new(),
        (_, true) => {
            let seal = ca.issue_for(&spki, number, Profile::Seal)?;
            vec![seal.leaf, seal.issuing, seal.root]
        }
        (Some(chain), false) if is_good(chain, &ca, number, clock) => Vec::new(),
        (Some(old), false) => ca.issue_after(old.leaf().not_before(), &spki, number)?.chain(),
        (None, false) => ca.issue_for(&spki, number, Profile::Seid2)?.chain(),
    };
    for der in new {
        device.store_certificate(NewCertificate { der, label: None }, call).await?;
    }
    Ok(key)
}

fn chain_of(spki: &[u8], on_device: &[Vec<u8>], clock: &dyn Clock) -> Option<Chain> {
    let pool = on_device.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    Chain::assemble(&RsaPublicKey::from_spki(spki).ok()?, pool, clock.wall()).ok()
}

/// Whether the sandbox will take the chain for some time.
fn is_good(chain: &Chain, ca: &TestCa, number: &str, clock: &dyn Clock) -> bool {
    let leaf = chain.leaf();
    leaf.organisation_number().is_ok_and(|found| found.to_string() == number)
        && leaf.is_valid_at(clock.wall() + DAY)
        && chain.certificates().any(|certificate| certificate.der() == ca.issuing())
}

fn is_good_seal(chain: &Chain, ca: &TestCa, clock: &dyn Clock) -> bool {
    chain.leaf().is_valid_at(clock.wall() + DAY)
        && chain.missing_issuer().is_none()
        && chain.certificates().any(|certificate| certificate.der() == ca.seal_issuing())
}

fn prepare_in_child(
    configuration: &str,
    pin: &Path,
    state: &Path,
    holder: &Holder,
) -> Result<String, Failure> {
    let remedy = "Look at the lines above; an empty directory is a fresh start.";
    let failed = |what: String| Failure::needs_person(what, remedy);
    let program = env::current_exe()
        .map_err(|why| failed(format!("this program cannot find itself to start a child: {why}")))?;
    let mut arguments: Vec<OsString> = vec![
        "sandbox".into(),
        "prepare-device".into(),
        "--pin-file".into(),
        pin.into(),
        "--state".into(),
        state.into(),
    ];
    match holder {
        Holder::Norwegian(number) => arguments.extend(["--organisation-number".into(), number.into()]),
        Holder::Foreign => arguments.push("--eseal".into()),
    }
    let child = process::Command::new(program)
        .args(arguments)
        .env("SOFTHSM2_CONF", configuration)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|why| failed(format!("the child that makes the device was not started: {why}")))?;
    let uri: Option<Uri> = String::from_utf8(child.stdout).ok().and_then(|text| text.trim().parse().ok());
    match uri {
        Some(uri) if child.status.success() => Ok(uri.to_string()),
        _ => Err(failed("the SoftHSM2 device was not made".into())),
    }
}

/// Writes `softhsm2.conf` and makes the directory that it names. Somebody's own configuration is left alone.
fn write_configuration(folder: &StateDir) -> Result<String, Failure> {
    let path = key::absolute(folder.path().join(CONFIGURATION))?;
    let tokens = key::absolute(folder.path().join(TOKENS))?;
    // A hash sign begins a comment, wherever it stands.
    if tokens.len() > LONGEST_PATH || tokens.contains(|c: char| c == '#' || c.is_control()) {
        return Err(Failure::needs_person(
            format!("SoftHSM2 cannot keep its devices in {tokens:?}"),
            "Name a shorter directory, of plain letters.",
        ));
    }
    let there = folder.read(CONFIGURATION, LONGEST_CONFIGURATION)?;
    if there.is_some_and(|there| !there.starts_with(MARK.as_bytes())) {
        return Err(Failure::needs_person(
            format!("{path} was not written by the sandbox"),
            "Give --softhsm a directory of its own.",
        ));
    }
    let text = format!(
        "{MARK}; its devices are for tests.\ndirectories.tokendir = {tokens}\nobjectstore.backend = file\n\
         log.level = ERROR\nslots.removable = false\n"
    );
    folder.write(CONFIGURATION, text.as_bytes())?;
    DirBuilder::new().recursive(true).mode(0o700).create(&tokens).map_err(|why| {
        Failure::needs_person(format!("{tokens}: {why}"), "Check that you may write there.")
    })?;
    Ok(path)
}

fn library() -> Result<PathBuf, Failure> {
    library_for(&Uri::default(), Some(PROFILE)).map_err(|why| {
        Failure::needs_person(
            format!("SoftHSM2 is not installed: {why}"),
            "Run: apt install softhsm2 (Debian, Ubuntu).",
        )
    })
}
