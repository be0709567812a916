use std::{path::PathBuf, time::SystemTime};

use serde::Serialize;

use super::verdict::{Verdict, day};
use crate::{
    certificate::Certificate,
    jose::RsaPublicKey,
    sign::pkcs11::{
        CertificateDescription, DeviceDescription, KeyDescription, LibraryDescription, ModuleDescription,
        PinState, Problem, SlotDescription, Uri,
    },
};

/// What `segl keys --output json` prints. Members may be added under one `schema`; none goes or changes its meaning.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    /// 1.
    schema: u8,
    /// The PKCS#11 library's file, symbolic links resolved.
    pub(super) module: PathBuf,
    /// What the library says of itself (`manufacturer`, `description`, `version`, `cryptoki`); null when nothing.
    library: Option<LibraryDescription>,
    /// Slots that hold a device, in the library's order.
    pub(super) devices: Vec<DeviceEntry>,
}

/// A device in a slot.
#[derive(Debug, Serialize)]
pub(super) struct DeviceEntry {
    /// What the slot says of itself: the reader's name, for cards.
    pub(super) slot: String,
    /// What the device says of itself; null when it could not be asked, see `problem`.
    pub(super) device: Option<DeviceDescription>,
    /// Whether the listing was made logged in. Without it, most devices hide their private keys.
    pub(super) logged_in: bool,
    /// Key pairs, and halves whose other half is not to be seen.
    pub(super) keys: Vec<KeyEntry>,
    /// Certificates of no key that is to be seen.
    pub(super) certificates: Vec<CertificateEntry>,
    /// Why the listing is not whole.
    pub(super) problems: Vec<String>,
}

/// A key pair.
#[derive(Debug, Serialize)]
pub(super) struct KeyEntry {
    /// The line to paste into segl.toml.
    pub(super) uri: Uri,
    /// `CKA_LABEL`.
    pub(super) label: String,
    /// `CKA_ID`, hexadecimal.
    pub(super) id: String,
    /// `RSA`, `EC`, …
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Length in bits, for RSA keys.
    pub(super) bits: Option<usize>,
    /// RFC 7638 thumbprint, for RSA keys whose public half can be read.
    thumbprint: Option<String>,
    /// Whether the private half is to be seen.
    pub(super) private: bool,
    /// `CKA_SENSITIVE` of the private half.
    sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE` of the private half.
    extractable: Option<bool>,
    /// Its certificates.
    pub(super) certificates: Vec<CertificateEntry>,
    /// Whether Maskinporten takes it: `answer` is `yes`, `with-kid` or `no`; `why` says what should be known.
    pub(super) maskinporten: Verdict,
}

/// A certificate.
#[derive(Debug, Serialize)]
pub(super) struct CertificateEntry {
    /// Names it on its device.
    pub(super) uri: Uri,
    /// `CKA_LABEL`.
    pub(super) label: String,
    /// `CKA_ID`, hexadecimal.
    id: String,
    /// What is in it; null when it cannot be read.
    pub(super) content: Option<Content>,
}

/// What is in a certificate.
#[derive(Debug, Serialize)]
pub(super) struct Content {
    /// The whole subject, as text.
    subject: String,
    /// The organisation's name or, where there is none, the common name.
    pub(super) organisation: Option<String>,
    /// Norwegian organisation number, when there is one.
    pub(super) organisation_number: Option<String>,
    /// What it is for, as text.
    pub(super) purpose: String,
    /// First day of its validity (UTC).
    not_before: String,
    /// Last day of its validity (UTC).
    pub(super) not_after: String,
    /// Serial number, hexadecimal.
    serial_number: String,
    /// SHA-256 over the DER, hexadecimal.
    fingerprint: String,
}

impl Listing {
    /// What of `module` is named by `wanted`; the lines to paste look for it where `wanted` does.
    pub(super) fn new(module: ModuleDescription, wanted: &Uri, now: SystemTime) -> Self {
        let named =
            |slot: &SlotDescription| slot.device.as_ref().is_none_or(|device| device.is_named_by(wanted));
        let devices = module.slots.into_iter().filter(named);
        Self {
            schema: 1,
            module: module.path,
            library: module.library,
            devices: devices.map(|slot| DeviceEntry::new(slot, wanted, now)).collect(),
        }
    }
}

impl DeviceEntry {
    fn new(slot: SlotDescription, wanted: &Uri, now: SystemTime) -> Self {
        let mut others = slot.certificates;
        let all: Vec<Certificate> = others
            .iter()
            .chain(slot.keys.iter().flat_map(|key| &key.certificates))
            .filter_map(|certificate| Certificate::from_der(&certificate.der).ok())
            .collect();
        let keys = slot.keys.into_iter().filter(|key| key.is_named_by(wanted));
        let keys = keys.map(|key| KeyEntry::new(key, slot.logged_in, &all, wanted, now)).collect();
        let whole_device = wanted.object().is_none() && wanted.id().is_none();
        others.retain(|_| whole_device);
        Self {
            slot: slot.description,
            device: slot
                .device
                .map(|device| DeviceDescription { uri: looked_up(device.uri, wanted), ..device }),
            logged_in: slot.logged_in,
            keys,
            certificates: others.into_iter().map(|it| CertificateEntry::new(it, wanted)).collect(),
            problems: slot.problems.iter().map(Problem::to_string).collect(),
        }
    }

    /// Whether private keys may be there that are not shown.
    pub(super) fn may_hide_keys(&self) -> bool {
        !self.logged_in
            && self.device.as_ref().is_some_and(|device| device.initialized && device.login_required)
    }

    /// Whether there is anything to tell of it.
    pub(super) fn is_blank(&self) -> bool {
        self.problems.is_empty() && self.device.as_ref().is_some_and(|device| !device.initialized)
    }

    /// What the device says about its PIN, when that is worth a word.
    pub(super) fn pin_warning(&self) -> Option<&'static str> {
        match self.device.as_ref()?.pin {
            PinState::Good => None,
            PinState::NotSet => Some("no PIN has been set"),
            PinState::CountLow => Some("a wrong PIN was entered since the last login"),
            PinState::FinalTry => Some("one PIN try is left"),
            PinState::Locked => Some("the PIN is locked"),
        }
    }
}

impl KeyEntry {
    fn new(key: KeyDescription, open: bool, all: &[Certificate], wanted: &Uri, now: SystemTime) -> Self {
        let maskinporten = Verdict::on(&key, open, all, now);
        let public_key = key.spki.as_deref().and_then(|spki| RsaPublicKey::from_spki(spki).ok());
        Self {
            uri: looked_up(key.uri, wanted),
            label: key.label,
            id: key.id,
            kind: key.key_type,
            bits: key.bits,
            thumbprint: public_key.map(|key| key.thumbprint()),
            private: key.private,
            sensitive: key.sensitive,
            extractable: key.extractable,
            certificates: key.certificates.into_iter().map(|it| CertificateEntry::new(it, wanted)).collect(),
            maskinporten,
        }
    }
}

impl CertificateEntry {
    fn new(certificate: CertificateDescription, wanted: &Uri) -> Self {
        Self {
            content: Certificate::from_der(&certificate.der).ok().map(|it| Content::new(&it)),
            uri: looked_up(certificate.uri, wanted),
            label: certificate.label,
            id: certificate.id,
        }
    }
}

impl Content {
    pub(super) fn new(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject().to_string(),
            organisation: match certificate.is_ca() {
                true => certificate.common_name(),
                false => certificate.organisation().or(certificate.common_name()),
            }
            .map(str::to_owned),
            organisation_number: certificate.organisation_number().ok().map(|number| number.to_string()),
            purpose: certificate.purpose().to_string(),
            not_before: day(certificate.not_before()),
            not_after: day(certificate.not_after()),
            serial_number: certificate.serial_number().to_owned(),
            fingerprint: certificate.fingerprint(),
        }
    }
}

/// `uri` with the way to its library, which a line that is pasted needs just as this command did.
fn looked_up(uri: Uri, wanted: &Uri) -> Uri {
    uri.with_query_of(wanted)
}
