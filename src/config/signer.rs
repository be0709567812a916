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
    /// PIN that the device asks for at each signature, where it is another one than `pin`.
    pub sign_pin: Option<Sources>,
    /// Whether the key may be named by a slot number.
    pub allow_unstable_slot: bool,
    /// PEM file with certificates that complete the chain.
    pub chain: Option<PathBuf>,
    /// Signature algorithm: one that Maskinporten accepts.
    pub algorithm: Algorithm,
}

impl Signer {
    /// A signer that is called `name`, for `key`, with nothing else said.
    #[must_use]
    pub fn new(name: impl Into<String>, key: Key) -> Self {
        Self {
            name: name.into(),
            key,
            profile: None,
            pin: None,
            sign_pin: None,
            allow_unstable_slot: false,
            chain: None,
            algorithm: Algorithm::RS256,
        }
    }
}

/// Where a private key is.
#[derive(Clone)]
#[non_exhaustive]
pub enum Key {
    /// In a device, or in one of several.
    Pkcs11(Uris),
    /// In a file.
    File(PathBuf),
    /// A private JWK that stood in an environment variable (RFC 7517).
    Jwk(SecretString),
}

/// The URIs (RFC 7512) of one key or of several that stand in for each other: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uris {
    first: Box<Uri>,
    others: Vec<Uri>,
}

impl Uris {
    /// The first of them.
    #[must_use]
    pub fn first(&self) -> &Uri {
        &self.first
    }

    /// Each, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Uri> {
        std::iter::once(&*self.first).chain(&self.others)
    }

    /// The one, when there is only one.
    #[must_use]
    pub fn only(&self) -> Option<&Uri> {
        Some(&*self.first).filter(|_| self.others.is_empty())
    }
}

impl From<Uri> for Uris {
    fn from(uri: Uri) -> Self {
        Self { first: Box::new(uri), others: Vec::new() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pkcs11(uris) => {
                write!(f, "{}", uris.first)?;
                uris.others.iter().try_for_each(|uri| write!(f, ", {uri}"))
            }
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
    let mut refuse = |key: &str, fault: Fault| report.refuse(&format!("{place}.{key}"), fault);
    let allow_unstable_slot = wire.allow_unstable_slot.unwrap_or_default();
    let key = match wire.inline {
        Some(jwk) => Ok(Key::Jwk(jwk)),
        None => key(wire.key, base, allow_unstable_slot),
    };
    let key = key.map_err(|fault| refuse("key", fault)).ok();
    if matches!(key, Some(Key::File(_) | Key::Jwk(_))) {
        if wire.sign_pin.is_some() {
            refuse("sign_pin", Fault::DeviceOnly);
        }
        if allow_unstable_slot {
            refuse("allow_unstable_slot", Fault::DeviceOnly);
        }
    }
    let algorithm = algorithm(wire.algorithm.as_deref()).map_err(|fault| refuse("algorithm", fault)).ok();
    if wire.profile.as_deref().is_some_and(|profile| !is_text(profile)) {
        refuse("profile", Fault::Text);
    }
    Some(Signer {
        name: name.to_owned(),
        key: key?,
        profile: wire.profile,
        pin: wire.pin.map(|sources| sources.relative_to(base)),
        sign_pin: wire.sign_pin.map(|sources| sources.relative_to(base)),
        allow_unstable_slot,
        chain: wire.chain.map(|path| base.join(path)),
        algorithm: algorithm?,
    })
}

fn key(written: wire::OneOrSeveral, base: &Path, allow_unstable_slot: bool) -> Result<Key, Fault> {
    let texts = match written {
        wire::OneOrSeveral::One(text) => vec![text],
        wire::OneOrSeveral::Several(list) => list,
    };
    let mut uris: Vec<Uri> = Vec::new();
    let several = texts.len() > 1;
    for text in texts {
        match one_key(&text, base)? {
            One::File(_) if several => return Err(Fault::SeveralFiles),
            One::File(path) => return Ok(Key::File(path)),
            One::Device(uri) if uris.contains(&uri) => return Err(Fault::SameKeyTwice),
            One::Device(uri) => uris.push(*uri),
        }
    }
    let slot = uris.iter().find_map(Uri::slot_id).filter(|_| !allow_unstable_slot);
    if let Some(slot) = slot {
        return Err(Fault::UnstableSlot { slot });
    }
    let mut uris = uris.into_iter();
    let first = uris.next().ok_or(Fault::NoKey)?;
    Ok(Key::Pkcs11(Uris { first: Box::new(first), others: uris.collect() }))
}

enum One {
    Device(Box<Uri>),
    File(PathBuf),
}

fn one_key(text: &str, base: &Path) -> Result<One, Fault> {
    // What is not recognised is not repeated: people paste private keys into the wrong field.
    match text.split_once(':') {
        Some(("file", path)) => Ok(One::File(base.join(secret::file_path(path)?))),
        Some(("pkcs11", attributes)) if attributes.contains("pin-value") => Err(Fault::PinInUri),
        Some(("pkcs11", attributes)) if is_text(attributes) => Ok(One::Device(Box::new(text.parse()?))),
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
