//! The key that the printed configuration signs with.

use std::{env, fs, path::PathBuf};

use clap::Args;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use zeroize::Zeroizing;

use super::super::failure::Failure;
use crate::{
    sandbox::{Authentication, Clients, Profile, Setup, TestCa},
    secret::{self, Source},
    state::StateDir,
};

/// Name of the made key's file, and the `kid` under which it is registered.
const FILE: &str = "client-key.pem";
const KID: &str = "sandbox";

/// Names of the files of a made eSeal: key and chain.
const SEAL_FILE: &str = "eseal-key.pem";
const SEAL_CHAIN: &str = "eseal-chain.pem";

/// Longer than any private key in a file, in bytes.
const LONGEST: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct KeyArguments {
    /// Key for the printed configuration: pkcs11: URI or file:PATH [default: one made for this run]
    #[arg(long, value_name = "URI")]
    key: Option<String>,
    /// Where its PIN or password is found, as in segl.toml
    #[arg(long, value_name = "SOURCE", requires = "key")]
    pin: Option<String>,
    /// Register the key's public half under this name
    #[arg(long, value_name = "KID", requires = "key", conflicts_with = "certificate")]
    kid: Option<String>,
    /// Authenticate with a certificate: "token" for the one beside the key, or a PEM file
    #[arg(long, value_name = "token|FILE", requires = "key")]
    certificate: Option<String>,
    /// Act as a foreign business with an eSeal, which has no client
    #[arg(long, conflicts_with_all = ["kid", "client_id"])]
    pub(super) eseal: bool,
}

impl KeyArguments {
    /// The user's own key; `None` when none was named. Relative paths become absolute, since the configuration may be
    /// read elsewhere.
    pub(super) fn setup(&self) -> Result<Option<Setup>, Failure> {
        let Some(key) = &self.key else { return Ok(None) };
        let key = match key.strip_prefix("file:") {
            Some(path) => {
                let path = secret::file_path(path)
                    .map_err(|why| Failure::needs_person(format!("--key: {why}"), why.remedy()))?;
                format!("file:{}", absolute(path)?)
            }
            None => key.clone(),
        };
        let pin = self.pin.as_deref().map(pin).transpose()?;
        let authentication = match (&self.kid, &self.certificate) {
            (Some(kid), _) => Authentication::Kid(kid.clone()),
            (None, Some(from)) => {
                let from = if from == "token" { from.clone() } else { absolute(from.into())? };
                if self.eseal { Authentication::Eseal(from) } else { Authentication::Certificate(from) }
            }
            (None, None) if self.eseal => Authentication::Eseal("token".into()),
            (None, None) => {
                return Err(Failure::needs_person(
                    "--key was given without saying how its client authenticates",
                    "Give --kid NAME to have it registered, or --certificate token or FILE.",
                ));
            }
        };
        Ok(Some(Setup { key, pin, authentication }))
    }
}

/// A key in a file, made for the demonstration's client. It goes when this is dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct MadeKey {
    path: String,
    authentication: Authentication,
    temporary: Option<PathBuf>,
}

impl MadeKey {
    /// The key kept in `state`, or one for this run. Takes a moment: RSA keys are searched for.
    pub(super) fn make(state: Option<PathBuf>) -> Result<Self, Failure> {
        Ok(Self::in_file(FILE, state)?.0)
    }

    /// The same, with an eSeal of the test CA for it.
    pub(super) fn make_seal(state: Option<PathBuf>, ca: &TestCa) -> Result<Self, Failure> {
        let (mut made, folder) = Self::in_file(SEAL_FILE, state)?;
        let pem = folder.read(SEAL_FILE, LONGEST)?.map(Zeroizing::new).unwrap_or_default();
        let unusable = |why: rcgen::Error| {
            let path = folder.path().join(SEAL_FILE);
            Failure::needs_person(format!("{}: {why}", path.display()), "Remove the file; a new key is made.")
        };
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&pem)).map_err(unusable)?;
        let seal = ca.issue_for(&key.subject_public_key_info(), Clients::ORGANISATION, Profile::Seal)?;
        folder.write(SEAL_CHAIN, seal.whole_chain_pem().as_bytes())?;
        made.authentication = Authentication::Eseal(absolute(folder.path().join(SEAL_CHAIN))?);
        Ok(made)
    }

    fn in_file(name: &str, state: Option<PathBuf>) -> Result<(Self, StateDir), Failure> {
        let temporary = match state {
            Some(_) => None,
            None => Some(env::temp_dir().join(format!("segl-sandbox-{}", uuid::Uuid::new_v4().simple()))),
        };
        let folder = state.or(temporary.clone()).unwrap_or_default();
        let made = Self {
            path: absolute(folder.join(name))?,
            authentication: Authentication::Kid(KID.into()),
            temporary,
        };
        let folder = StateDir::open(folder)?;
        // Two sandboxes of one state directory register the same key.
        let _only_one = folder.lock(name)?;
        if !folder.path().join(name).exists() {
            let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(|why| {
                Failure::needs_person(format!("no key could be made: {why}"), "Name one with --key.")
            })?;
            let pem = Zeroizing::new(key.serialize_pem());
            folder.write(name, pem.as_bytes())?;
        }
        Ok((made, folder))
    }

    pub(super) fn setup(&self) -> Setup {
        Setup { key: format!("file:{}", self.path), pin: None, authentication: self.authentication.clone() }
    }
}

impl Drop for MadeKey {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary {
            // When that fails, nobody is left who could do something about it.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn pin(text: &str) -> Result<String, Failure> {
    let malformed = |why: secret::Malformed| Failure::needs_person(format!("--pin: {why}"), why.remedy());
    Ok(match text.parse::<Source>().map_err(malformed)? {
        Source::File(path) => format!("file:{}", absolute(path)?),
        _ => text.to_owned(),
    })
}

/// `path` from the root on, as text for a configuration.
pub(super) fn absolute(path: PathBuf) -> Result<String, Failure> {
    let unusable = || {
        Failure::needs_person(
            format!("{} cannot stand in a configuration", path.display()),
            "Name a path of plain text (UTF-8).",
        )
    };
    let absolute = std::path::absolute(&path).map_err(|_| unusable())?;
    absolute.into_os_string().into_string().map_err(|_| unusable())
}
