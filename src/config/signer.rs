use std::{
    fmt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::{document::Report, error::Fault, is_text, wire};
use crate::{
    jose::Algorithm,
    secret::{self, Sources},
    sign::pkcs11::Uri,
};

/// A key that signs, as it is configured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Signer {
    /// Its name in `[signers]`.
    pub name: String,
    /// Where the key is.
    pub key: Key,
    /// Device profile, when one is asked for by name.
    pub profile: Option<String>,
    /// PIN of the device, or password of the key file.
    pub pin: Option<Sources>,
    /// PEM file with certificates that complete the chain.
    pub chain: Option<PathBuf>,
    /// Signature algorithm: one that Maskinporten accepts.
    pub algorithm: Algorithm,
}

/// Where a private key is.
#[derive(Clone)]
#[non_exhaustive]
pub enum Key {
    /// In a device, found by this URI (RFC 7512).
    Pkcs11(Box<Uri>),
    /// In a file.
    File(PathBuf),
    /// A private JWK that stood in an environment variable (RFC 7517).
    Jwk(SecretString),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pkcs11(uri) => write!(f, "{uri}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Jwk(_) => f.write_str("private JWK from the environment"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks one `[signers.NAME]`; what is wrong goes into the report.
pub(super) fn check(name: &str, wire: wire::Signer, base: &Path, report: &mut Report) -> Option<Signer> {
    let place = format!("signers.{name}");
    let key = match wire.inline {
        Some(jwk) => Ok(Key::Jwk(jwk)),
        None => key(wire.key, base),
    };
    let key = key.map_err(|fault| report.refuse(&format!("{place}.key"), fault)).ok();
    let algorithm = algorithm(wire.algorithm.as_deref())
        .map_err(|fault| report.refuse(&format!("{place}.algorithm"), fault))
        .ok();
    if wire.profile.as_deref().is_some_and(|profile| !is_text(profile)) {
        report.refuse(&format!("{place}.profile"), Fault::Text);
    }
    Some(Signer {
        name: name.to_owned(),
        key: key?,
        profile: wire.profile,
        pin: wire.pin.map(|sources| sources.relative_to(base)),
        chain: wire.chain.map(|path| base.join(path)),
        algorithm: algorithm?,
    })
}

fn key(written: wire::OneOrSeveral, base: &Path) -> Result<Key, Fault> {
    let text = match written {
        wire::OneOrSeveral::One(text) => text,
        wire::OneOrSeveral::Several(list) => {
            let count = list.len();
            match list.into_iter().next() {
                Some(text) if count == 1 => text,
                Some(_) => return Err(Fault::SeveralKeys),
                None => return Err(Fault::KeyScheme),
            }
        }
    };
    // What is not recognised is not repeated: people paste private keys into the wrong field.
    match text.split_once(':') {
        Some(("file", path)) => Ok(Key::File(base.join(secret::file_path(path)?))),
        Some(("pkcs11", attributes)) if attributes.contains("pin-value") => Err(Fault::PinInUri),
        Some(("pkcs11", attributes)) if is_text(attributes) => Ok(Key::Pkcs11(Box::new(text.parse()?))),
        _ => Err(Fault::KeyScheme),
    }
}

fn algorithm(name: Option<&str>) -> Result<Algorithm, Fault> {
    let Some(name) = name else { return Ok(Algorithm::RS256) };
    name.parse()
        .ok()
        .filter(|algorithm: &Algorithm| algorithm.accepted_by_maskinporten())
        .ok_or_else(|| Fault::Algorithm { name: name.chars().take(16).collect() })
}
