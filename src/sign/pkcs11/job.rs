//! What is asked of a PKCS#11 library and what comes back: plain data both ways, so that the same jobs cross a thread or
//! the border of a process. No type of the PKCS#11 binding stands here.

mod shown;

pub use self::shown::{
    CertificateDescription, DeviceDescription, KeyDescription, LibraryDescription, MechanismDescription,
    ModuleDescription, PinState, Problem, SessionCounts, SessionLimit, SlotDescription,
};

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Uri,
    trial::{Trial, Tried},
};
use crate::jose::Algorithm;

/// One job for the owner of a library.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// List everything; log in to the device that the URI names, when one is given. `whole`: with mechanisms and all
    /// attributes, which costs many more calls.
    Describe { login: Option<Uri>, whole: bool },
    /// Find a signing key.
    Find(Arc<KeyQuery>),
    /// Sign the message that travels beside the job.
    Sign(Arc<KeyQuery>),
    /// Read all certificates of a device.
    Certificates(Uri),
    /// Find the device of this label, or make it out of a blank one.
    Provide { label: String },
    /// Generate an RSA key pair on a device.
    Generate { device: Uri, pair: NewKeyPair },
    /// Store a certificate on a device.
    Store { device: Uri, certificate: NewCertificate },
    /// Try out the private key that the URI names.
    Try { key: Uri, trial: Trial },
    /// Delete a key pair, certificates, or both from a device.
    Delete { device: Uri, doomed: Doomed },
    /// Ask a device whether it is there, or the library. `is_missed`: somebody wanted it since it was asked last.
    Probe { device: Option<Uri>, is_missed: bool },
}

impl Job {
    /// The device that is asked; `None`: the library.
    pub(super) fn device(&self) -> Option<Uri> {
        match self {
            Self::Describe { login, .. } => login.as_ref().map(Uri::device),
            Self::Find(query) | Self::Sign(query) => Some(query.uri.device()),
            Self::Certificates(uri) | Self::Generate { device: uri, .. } => Some(uri.device()),
            Self::Store { device: uri, .. }
            | Self::Delete { device: uri, .. }
            | Self::Try { key: uri, .. } => Some(uri.device()),
            Self::Probe { device, .. } => device.clone(),
            Self::Provide { .. } => None,
        }
    }

    /// Whether it asks for a device that nobody wants: then no other may be worse off for it.
    pub(super) fn is_for_nobody(&self) -> bool {
        matches!(self, Self::Probe { device: Some(_), is_missed: false })
    }

    /// For log lines: what, never on what.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Describe { .. } => "describe",
            Self::Find(_) => "find",
            Self::Sign(_) => "sign",
            Self::Certificates(_) => "certificates",
            Self::Provide { .. } => "provide",
            Self::Generate { .. } => "generate",
            Self::Store { .. } => "store",
            Self::Try { trial, .. } => trial.name(),
            Self::Delete { .. } => "delete",
            Self::Probe { .. } => "probe",
        }
    }
}

/// Which key, and how it is to sign.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct KeyQuery {
    pub(super) uri: Uri,
    pub(super) algorithm: Algorithm,
}

/// What comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Description(Box<ModuleDescription>),
    Key(FoundKey),
    Signature(Signature),
    Certificates(Vec<Vec<u8>>),
    Provided(Box<Uri>),
    Generated(Box<KeyPair>),
    Stored(Box<StoredCertificate>),
    Tried(Box<Tried>),
    Deleted(u64),
    There,
}

/// A signing key that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FoundKey {
    /// DER SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
    pub(super) generation: u64,
    /// `label (serial)`.
    pub(super) device: String,
}

/// A message and its signature.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Signature {
    pub(super) message: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// The key that signed.
    pub(super) key: FoundKey,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Message and signature together are an assertion: a credential for two minutes.
        f.debug_struct("Signature").field("generation", &self.key.generation).finish_non_exhaustive()
    }
}

/// An RSA key pair that is to be made inside a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKeyPair {
    /// `CKA_LABEL` of both halves.
    pub label: String,
    /// `CKA_ID` of both halves; 16 random bytes when none is given.
    pub id: Option<Vec<u8>>,
    /// Length of the modulus: 2048, 3072 or 4096 bits.
    pub bits: u16,
}

impl NewKeyPair {
    /// An RSA-3072 pair with a random `CKA_ID`.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), id: None, bits: 3072 }
    }
}

/// A key pair that was made inside a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyPair {
    /// Names exactly this key.
    pub uri: Uri,
    /// DER SubjectPublicKeyInfo of the public half.
    pub spki: Vec<u8>,
}

/// A certificate that is to stand beside its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// `CKA_LABEL`; that of the key it certifies, else the subject's name, when none is given.
    pub label: Option<String>,
}

/// A certificate that stands on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredCertificate {
    /// Names exactly this certificate.
    pub uri: Uri,
    /// The key on the device that it certifies, if there is one.
    pub key: Option<Uri>,
    /// It was there before; nothing was written.
    pub was_there: bool,
}

/// What is to be deleted from a device, as it was described.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doomed {
    /// Both halves of this key pair.
    pub key: Option<Box<KeyDescription>>,
    /// Certificates, DER.
    pub certificates: Vec<Vec<u8>>,
}
