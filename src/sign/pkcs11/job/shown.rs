//! What a library shows of itself and of its devices.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::super::{ObjectKind, Uri};
use crate::{language::printable, sign::Error};

/// All that one PKCS#11 library shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModuleDescription {
    /// The library's file, symbolic links resolved.
    pub path: PathBuf,
    /// What the library says of itself; `None` when it says nothing.
    pub library: Option<LibraryDescription>,
    /// Slots that hold a token, in the library's order.
    pub slots: Vec<SlotDescription>,
}

/// What a library says of itself (`C_GetInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LibraryDescription {
    /// Who made the library.
    pub manufacturer: String,
    /// What it is called.
    pub description: String,
    /// Its own version.
    pub version: String,
    /// The version of PKCS#11 that it speaks.
    pub cryptoki: String,
}

/// One slot with a token in it. Trouble with it or an object is carried here and hides none of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlotDescription {
    /// Its number (`CK_SLOT_ID`), which may be another one tomorrow.
    pub id: u64,
    /// What the slot says of itself: the reader's name, for cards.
    pub description: String,
    /// The device; `None` when it could not be asked, see `problem`.
    pub device: Option<DeviceDescription>,
    /// Whether the listing below was made logged in. Without it, most devices hide their private keys.
    pub logged_in: bool,
    /// Key pairs, and halves of key pairs whose other half is not to be seen.
    pub keys: Vec<KeyDescription>,
    /// Certificates of no key that is to be seen: issuers, mostly.
    pub certificates: Vec<CertificateDescription>,
    /// Why the listing is not whole.
    pub problems: Vec<Problem>,
    /// What the device can do, by the names of the standard; only when everything was asked for.
    pub mechanisms: Vec<MechanismDescription>,
}

impl SlotDescription {
    /// Whether `uri` names this slot, as far as its number goes; one that names none may mean any.
    #[must_use]
    pub fn is_named_by(&self, uri: &Uri) -> bool {
        uri.slot_id().is_none_or(|wanted| wanted == self.id)
    }
}

/// Something that a device can do (`C_GetMechanismInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MechanismDescription {
    /// `CKM_…`.
    pub name: String,
    /// Shortest and longest key, in the unit of the mechanism: bits for RSA.
    pub key_size: (u64, u64),
    /// What it is for: `sign`, `verify`, …, and `hardware`.
    pub uses: Vec<String>,
}

/// How many sessions a device has and allows (`CK_TOKEN_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionCounts {
    /// Sessions that this program has open; `None` when the device does not say.
    pub open: Option<u64>,
    /// How many there may be.
    pub most: SessionLimit,
    /// The same of those that may write.
    pub open_rw: Option<u64>,
    /// How many of those there may be.
    pub most_rw: SessionLimit,
}

/// A limit that a device may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SessionLimit {
    /// The device does not say (`CK_UNAVAILABLE_INFORMATION`).
    Unknown,
    /// None that matters (`CK_EFFECTIVELY_INFINITE`).
    Unlimited,
    /// This many.
    Most(u64),
}

/// What could not be read. What stands beside it was read all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// What it is, as far as is known: `certificate 3`; the whole device without.
    pub object: Option<String>,
    /// What the device said.
    pub error: Error,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Some(object) => write!(f, "{object}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

/// A PKCS#11 token: a card, a partition, a USB key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceDescription {
    /// Names this device.
    pub uri: Uri,
    /// Label.
    pub label: String,
    /// Serial number.
    pub serial: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Whether it has been initialized; a blank device holds nothing.
    pub initialized: bool,
    /// Whether private keys need a login.
    pub login_required: bool,
    /// Whether the PIN is typed on the device itself.
    pub pin_pad: bool,
    /// What the device says about its PIN.
    pub pin: PinState,
    /// Shortest and longest PIN it takes; a longest of 0 says nothing.
    pub pin_length: (u64, u64),
    /// Version of its hardware.
    pub hardware_version: String,
    /// Version of its firmware.
    pub firmware_version: String,
    /// Its flags that are set, by the names of the standard without `CKF_`.
    pub flags: Vec<String>,
    /// Its sessions.
    pub sessions: SessionCounts,
}

impl DeviceDescription {
    /// Label and serial number, without what a terminal would act on.
    #[must_use]
    pub fn name(&self) -> String {
        printable(&format!("{} ({})", self.label, self.serial))
    }

    /// Whether `uri` names this device, as far as label, serial number, manufacturer and model go.
    #[must_use]
    pub fn is_named_by(&self, uri: &Uri) -> bool {
        uri.matches_device(&self.label, &self.serial, &self.manufacturer, &self.model)
    }
}

/// What a device says about its user PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PinState {
    /// Nothing is wrong with it.
    Good,
    /// No PIN has been set.
    NotSet,
    /// It has been set for the user by somebody else, and must be changed before it is of use.
    ToBeChanged,
    /// A wrong PIN was entered since the last good login.
    CountLow,
    /// One try is left.
    FinalTry,
    /// No try is left.
    Locked,
}

/// A key pair, or the half of it that is to be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyDescription {
    /// The line to paste.
    pub uri: Uri,
    /// `CKA_LABEL`.
    pub label: String,
    /// `CKA_ID`, hexadecimal.
    pub id: String,
    /// `RSA`, `EC`, …
    pub key_type: String,
    /// Length of the modulus in bits, for RSA keys; of a coordinate, for those on a curve that is known by name.
    pub bits: Option<usize>,
    /// DER SubjectPublicKeyInfo, where the public half can be read; of RSA keys also where it is in a certificate.
    pub spki: Option<Vec<u8>>,
    /// Whether the private half is to be seen.
    pub private: bool,
    /// Whether the public half is to be seen.
    pub public: bool,
    /// `CKA_SIGN` of the private half.
    pub signs: Option<bool>,
    /// `CKA_SENSITIVE` of the private half.
    pub sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE` of the private half.
    pub extractable: Option<bool>,
    /// `CKA_ALWAYS_AUTHENTICATE` of the private half: the device asks for a PIN at each signature.
    pub always_authenticate: Option<bool>,
    /// Further attributes of the private half (of the public one, where there is no other), by the names of the
    /// standard; only when everything was asked for.
    pub attributes: Vec<(String, String)>,
    /// Certificates of its public key; where it shows none, those with its `CKA_ID`.
    pub certificates: Vec<CertificateDescription>,
}

impl KeyDescription {
    /// Whether `uri` names this key or one of its certificates, as far as label, id and type go.
    #[must_use]
    pub fn is_named_by(&self, uri: &Uri) -> bool {
        match uri.kind() {
            None | Some(ObjectKind::Private | ObjectKind::Public)
                if is_called(uri, &self.label, &self.id) =>
            {
                true
            }
            Some(ObjectKind::Certificate) => self.certificates.iter().any(|its| its.is_named_by(uri)),
            _ => false,
        }
    }
}

fn is_called(uri: &Uri, label: &str, id: &str) -> bool {
    hex::decode(id).is_ok_and(|id| uri.matches_object(label, &id))
}

/// A certificate on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CertificateDescription {
    /// Names this certificate.
    pub uri: Uri,
    /// `CKA_LABEL`.
    pub label: String,
    /// `CKA_ID`, hexadecimal.
    pub id: String,
    /// DER, as the device has it.
    pub der: Vec<u8>,
}

impl CertificateDescription {
    /// Whether `uri` names this certificate, as far as label, id and type go.
    #[must_use]
    pub fn is_named_by(&self, uri: &Uri) -> bool {
        matches!(uri.kind(), None | Some(ObjectKind::Certificate)) && is_called(uri, &self.label, &self.id)
    }
}
