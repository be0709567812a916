use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    super::{
        calls::{AttributeType, DeviceInfo, Library, Slot, mechanism_name},
        code::answered,
        job::{LibraryDescription, SessionLimit},
        key::SigningKey,
        login::DeviceId,
    },
    mechanisms::signing,
};
use crate::{jose::RsaPublicKey, sign::Error};

/// `CKF_SIGN` of a mechanism.
const SIGNS: u64 = 0x0000_0800;

/// What a maker asks for first, and what a profile says of its kind of device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Particulars {
    /// The library's file, symbolic links resolved.
    pub path: PathBuf,
    /// What the library says of itself; `None` when it says nothing.
    pub library: Option<LibraryDescription>,
    /// What the slot says of itself: the reader's name, for cards. May bear a serial number.
    pub slot: String,
    /// The device's label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// Its manufacturer.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its hardware version.
    pub hardware: String,
    /// Its firmware version.
    pub firmware: String,
    /// Whether private keys need a login (`CKF_LOGIN_REQUIRED`).
    pub login_required: bool,
    /// Whether the PIN is typed on the device itself (`CKF_PROTECTED_AUTHENTICATION_PATH`).
    pub pin_pad: bool,
    /// Shortest and longest PIN that it says it takes, in bytes.
    pub pin_length: (u64, u64),
    /// How many sessions it says it has.
    pub max_sessions: SessionLimit,
    /// How many of them may write.
    pub max_rw_sessions: SessionLimit,
    /// The mechanisms on its list that are known to sign.
    pub mechanisms: Vec<ListedMechanism>,
    /// How many mechanisms it lists in all, or why it lists none.
    pub listed: Result<usize, Error>,
    /// The key.
    pub key: Result<TriedKey, Error>,
}

/// A mechanism on a device's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedMechanism {
    /// Its name (`CKM_…`).
    pub name: String,
    /// What the device says of it.
    pub info: Result<MechanismUse, Error>,
}

/// What a device says of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MechanismUse {
    /// Shortest and longest key; in bits for RSA, in bits or bytes for others.
    pub key_size: (u64, u64),
    /// Whether it signs (`CKF_SIGN`).
    pub signs: bool,
}

/// The key that is tried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TriedKey {
    /// Length of its modulus in bits.
    pub bits: usize,
    /// `CKA_ALWAYS_AUTHENTICATE`; `None` when the device does not say.
    pub always_authenticate: Option<bool>,
    /// Names of `CKA_ALLOWED_MECHANISMS`; `None` when nothing is said, which allows all.
    pub allowed: Option<Vec<String>>,
}

impl Particulars {
    /// Whether the device lists the mechanism of this name; `None` when it lists none at all.
    #[must_use]
    pub fn lists(&self, mechanism: &str) -> Option<bool> {
        self.listed.is_ok().then(|| self.mechanisms.iter().any(|listed| listed.name == mechanism))
    }

    pub(super) fn new(
        path: PathBuf,
        library: &dyn Library,
        slot: Slot,
        key: Result<TriedKey, Error>,
    ) -> Result<Self, Error> {
        let info = library.device_info(slot).map_err(|why| answered(&why))?;
        let device = DeviceId::of(&info);
        let (mechanisms, listed) = mechanisms(library, slot);
        let DeviceInfo { max_sessions, max_rw_sessions, pin_length, .. } = info;
        Ok(Self {
            path,
            library: library.info().ok().map(|info| LibraryDescription {
                manufacturer: info.manufacturer,
                description: info.description,
                version: info.version.to_string(),
                cryptoki: info.cryptoki.to_string(),
            }),
            slot: library.slot_info(slot).map(|info| info.description).unwrap_or_default(),
            label: device.label,
            serial: device.serial,
            manufacturer: device.manufacturer,
            model: device.model,
            hardware: info.hardware.to_string(),
            firmware: info.firmware.to_string(),
            login_required: info.requires_login(),
            pin_pad: info.has_pin_pad(),
            pin_length,
            max_sessions,
            max_rw_sessions,
            mechanisms,
            listed,
            key,
        })
    }
}

impl TriedKey {
    pub(super) fn of(key: &SigningKey) -> Result<Self, Error> {
        let uses = key.uses()?;
        let bits = RsaPublicKey::from_spki(&key.found(0).spki).map_or(0, |public| public.bits());
        let allowed = uses.allowed_mechanisms();
        Ok(Self {
            bits,
            always_authenticate: uses.flag(AttributeType::AlwaysAuthenticate),
            allowed: allowed.map(|allowed| allowed.into_iter().map(mechanism_name).collect()),
        })
    }
}

fn mechanisms(library: &dyn Library, slot: Slot) -> (Vec<ListedMechanism>, Result<usize, Error>) {
    let all = match library.mechanisms(slot) {
        Ok(all) => all,
        Err(why) => return (Vec::new(), Err(answered(&why))),
    };
    let about = |number| ListedMechanism {
        name: mechanism_name(number),
        info: match library.mechanism_info(slot, number) {
            Ok(info) => Ok(MechanismUse { key_size: info.key_size, signs: info.flags & SIGNS != 0 }),
            Err(why) => Err(answered(&why)),
        },
    };
    (signing(&all).map(about).collect(), Ok(all.len()))
}
