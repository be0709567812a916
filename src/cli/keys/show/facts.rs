//! What `segl keys show --output json` prints, and what the text for people is made of.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::is_named;
use crate::{
    certificate::Certificate,
    cli::keys::{
        configured::Configured,
        listing::{CertificateEntry, Library},
        unattended::Unattended,
    },
    jose::RsaPublicKey,
    sign::pkcs11::{
        CertificateDescription, DeviceDescription, Installed, KeyDescription, MechanismDescription,
        ModuleDescription, NamedBy, PinState, Problem, Profiles, SessionLimit, SlotDescription, Uri,
    },
};

/// All that is known of what was named. Members may be added under one `schema`; none goes or changes its meaning.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "segl keys show --output json")]
pub(super) struct Shown {
    /// 1.
    #[schemars(extend("const" = 1))]
    schema: u8,
    /// PKCS#11 libraries that show it; more than one where two lead to the same device.
    pub(super) modules: Vec<Module>,
}

/// A PKCS#11 library.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Module {
    /// Its file, symbolic links resolved.
    pub(super) file: PathBuf,
    /// Who named it: the caller, profiles, files of p11-kit's registry.
    pub(super) named_by: Vec<String>,
    /// What it says of itself; null when nothing.
    pub(super) library: Option<Library>,
    /// The devices that were named, or that hold what was named.
    pub(super) devices: Vec<Device>,
}

/// A device.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Device {
    /// Names it.
    #[schemars(with = "String")]
    pub(super) uri: Uri,
    /// Label.
    pub(super) label: String,
    /// Serial number.
    pub(super) serial: String,
    /// Model.
    pub(super) model: String,
    /// Manufacturer.
    pub(super) manufacturer: String,
    /// Version of its hardware.
    pub(super) hardware_version: String,
    /// Version of its firmware.
    pub(super) firmware_version: String,
    /// Number of its slot (`CK_SLOT_ID`), which may be another one tomorrow.
    pub(super) slot_id: u64,
    /// What its slot says of itself: the reader's name, for cards.
    pub(super) slot: String,
    /// Its flags that are set, by the names of the standard without `CKF_`.
    pub(super) flags: Vec<String>,
    /// What it says of its PIN: `good`, `not-set`, `to-be-changed`, `count-low`, `final-try` or `locked`.
    #[schemars(with = "String")]
    pub(super) pin: PinState,
    /// Whether the PIN is typed on the device itself.
    pub(super) pin_pad: bool,
    /// Shortest and longest PIN that it takes; a longest of 0 says nothing.
    pub(super) pin_length: (u64, u64),
    /// Whether it was looked at logged in. Without it, most devices hide their private keys.
    pub(super) logged_in: bool,
    /// Sessions.
    pub(super) sessions: Sessions,
    /// Sessions that may write.
    pub(super) rw_sessions: Sessions,
    /// Why this is not whole.
    pub(super) problems: Vec<String>,
    /// What it can do.
    pub(super) mechanisms: Vec<Mechanism>,
    /// The keys that were named; all of them, where the device was.
    pub(super) keys: Vec<Key>,
    /// The same of certificates of no key that is to be seen.
    pub(super) certificates: Vec<Certified>,
}

/// How many sessions there are, and may be.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Sessions {
    /// Those that this program has open; null when the device does not say.
    pub(super) open: Option<u64>,
    /// How many there may be.
    pub(super) most: Limit,
}

/// A limit that a device may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Limit {
    /// The device does not say.
    Unknown,
    /// None that matters.
    Unlimited,
    /// This many.
    Most(u64),
}

/// Something that a device can do.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Mechanism {
    /// `CKM_…`.
    pub(super) name: String,
    /// Shortest and longest key, in the unit of the mechanism: bits for RSA. Two times 0 says nothing.
    pub(super) key_size: (u64, u64),
    /// What it is for: `sign`, `verify`, …, and `hardware`.
    pub(super) uses: Vec<String>,
}

/// A key pair.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Key {
    /// Names it on its device.
    #[schemars(with = "String")]
    pub(super) uri: Uri,
    /// `CKA_LABEL`.
    pub(super) label: String,
    /// `CKA_ID`, hexadecimal.
    pub(super) id: String,
    /// `RSA`, `EC`, …
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Length in bits, for RSA keys and those on a curve that is known by name.
    pub(super) bits: Option<usize>,
    /// Whether the private half is to be seen.
    pub(super) private: bool,
    /// Whether the public half is to be seen.
    pub(super) public: bool,
    /// RFC 7638 thumbprint, for RSA keys whose public half can be read.
    pub(super) thumbprint: Option<String>,
    /// Whether it can sign while nobody is there.
    pub(super) unattended: Unattended,
    /// Further attributes.
    pub(super) attributes: Vec<Attribute>,
    /// Its certificates.
    pub(super) certificates: Vec<Certified>,
}

/// An attribute of a key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Attribute {
    /// `CKA_…`.
    pub(super) name: String,
    /// As text; hexadecimal where it is none.
    pub(super) value: String,
}

/// A certificate.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Certified {
    #[serde(flatten)]
    pub(super) certificate: CertificateEntry,
    /// Why `content` is null.
    pub(super) problem: Option<String>,
}

impl Shown {
    pub(super) fn new() -> Self {
        Self { schema: 1, modules: Vec::new() }
    }

    /// Adds what `wanted` names of all that a library shows.
    pub(super) fn add(
        &mut self,
        library: &Installed,
        shown: ModuleDescription,
        wanted: &Uri,
        configured: &Configured,
        profiles: &Profiles,
    ) {
        let profile = configured.profile_for(&library.path, profiles);
        let unattended = |key: &KeyDescription, device: &DeviceDescription| {
            Unattended::of(key, Some(device), &profile, configured.stored_for(device, key))
        };
        let named = shown.slots.iter().filter(|slot| is_named(slot, wanted));
        let devices =
            named.filter_map(|slot| Some(Device::new(slot, slot.device.as_ref()?, wanted, &unattended)));
        self.modules.push(Module {
            devices: devices.collect(),
            file: shown.path,
            named_by: library.named_by.iter().map(NamedBy::to_string).collect(),
            library: shown.library.map(Library::new),
        });
    }
}

impl Device {
    fn new(
        slot: &SlotDescription,
        device: &DeviceDescription,
        wanted: &Uri,
        unattended: &impl Fn(&KeyDescription, &DeviceDescription) -> Unattended,
    ) -> Self {
        let sessions = &device.sessions;
        let keys = slot.keys.iter().filter(|key| key.is_named_by(wanted));
        let certificates = slot.certificates.iter().filter(|it| it.is_named_by(wanted));
        Self {
            uri: device.uri.clone(),
            label: device.label.clone(),
            serial: device.serial.clone(),
            model: device.model.clone(),
            manufacturer: device.manufacturer.clone(),
            hardware_version: device.hardware_version.clone(),
            firmware_version: device.firmware_version.clone(),
            slot_id: slot.id,
            slot: slot.description.clone(),
            flags: device.flags.clone(),
            pin: device.pin,
            pin_pad: device.pin_pad,
            pin_length: device.pin_length,
            logged_in: slot.logged_in,
            sessions: Sessions { open: sessions.open, most: sessions.most.into() },
            rw_sessions: Sessions { open: sessions.open_rw, most: sessions.most_rw.into() },
            problems: slot.problems.iter().map(Problem::to_string).collect(),
            mechanisms: slot.mechanisms.iter().map(Mechanism::new).collect(),
            keys: keys.map(|key| Key::new(key, unattended(key, device))).collect(),
            certificates: certificates.map(Certified::new).collect(),
        }
    }
}

impl From<SessionLimit> for Limit {
    fn from(limit: SessionLimit) -> Self {
        match limit {
            SessionLimit::Unknown => Self::Unknown,
            SessionLimit::Unlimited => Self::Unlimited,
            SessionLimit::Most(most) => Self::Most(most),
        }
    }
}

impl Mechanism {
    fn new(mechanism: &MechanismDescription) -> Self {
        let MechanismDescription { name, key_size, uses, .. } = mechanism.clone();
        Self { name, key_size, uses }
    }
}

impl Key {
    fn new(key: &KeyDescription, unattended: Unattended) -> Self {
        let public_key = key.spki.as_deref().and_then(|spki| RsaPublicKey::from_spki(spki).ok());
        let attributes = key.attributes.iter().cloned();
        Self {
            uri: key.uri.clone(),
            label: key.label.clone(),
            id: key.id.clone(),
            kind: key.key_type.clone(),
            bits: key.bits,
            private: key.private,
            public: key.public,
            thumbprint: public_key.map(|key| key.thumbprint()),
            unattended,
            attributes: attributes.map(|(name, value)| Attribute { name, value }).collect(),
            certificates: key.certificates.iter().map(Certified::new).collect(),
        }
    }
}

impl Certified {
    fn new(certificate: &CertificateDescription) -> Self {
        Self {
            certificate: CertificateEntry::new(certificate, &Uri::default()),
            problem: Certificate::from_der(&certificate.der).err().map(|why| why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json;

    #[test]
    fn the_json_schema_in_the_documentation_is_that_of_the_types() {
        json::assert_documented::<Shown>("keys-show.schema.json");
    }
}
