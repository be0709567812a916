//! What `segl keys --output json` prints, and what everything else that is printed is made of.

mod certificate;
mod text;

pub(super) use self::{
    certificate::{CertificateEntry, Content},
    text::{content_sentence, text},
};

use std::{path::PathBuf, time::SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Usable, UsableKey,
    configured::Configured,
    issuers::Issuers,
    survey::Looked,
    unattended::Unattended,
    verdict::{self, Verdict},
};
use crate::{
    certificate::Certificate,
    cli::pin,
    jose::RsaPublicKey,
    language::printable,
    sign::pkcs11::{
        CertificateDescription, DeviceDescription, Installed, KeyDescription, LibraryDescription, NamedBy,
        PinState, Problem, Profiles, SlotDescription, Uri, holders, may_be_held,
    },
};

/// Devices, keys and certificates on this machine. Members may be added under one `schema`; none goes or changes its
/// meaning.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "segl keys --output json")]
pub(super) struct Listing {
    /// 1.
    #[schemars(extend("const" = 1))]
    schema: u8,
    /// PKCS#11 libraries that were looked at.
    pub(super) modules: Vec<Module>,
}

/// A PKCS#11 library.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Module {
    /// Its file, as it was named.
    pub(super) path: PathBuf,
    /// Who named it: the caller, profiles, files of p11-kit's registry.
    pub(super) named_by: Vec<String>,
    /// The profile that it belongs to.
    pub(super) profile: Option<String>,
    /// What it says of itself; null when nothing.
    pub(super) library: Option<Library>,
    /// Slots that hold a device, in its order.
    pub(super) devices: Vec<Device>,
    /// Why it shows nothing.
    pub(super) problem: Option<String>,
}

/// What a PKCS#11 library says of itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Library {
    /// Who made it.
    pub(super) manufacturer: String,
    /// What it is called.
    pub(super) description: String,
    /// Its own version.
    pub(super) version: String,
    /// The version of PKCS#11 that it speaks.
    pub(super) cryptoki: String,
}

/// A slot with a device in it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Device {
    /// Number of the slot (`CK_SLOT_ID`), which may be another one tomorrow.
    slot_id: u64,
    /// What the slot says of itself: the reader's name, for cards.
    pub(super) slot: String,
    /// Names the device; null, like all that follows up to `pin_length`, when it could not be asked, see `problems`.
    #[schemars(with = "Option<String>")]
    pub(super) uri: Option<Uri>,
    /// Label.
    pub(super) label: Option<String>,
    /// Serial number.
    pub(super) serial: Option<String>,
    /// Manufacturer.
    pub(super) manufacturer: Option<String>,
    /// Model.
    pub(super) model: Option<String>,
    /// Whether it has been initialized; a blank device holds nothing.
    pub(super) initialized: Option<bool>,
    /// Whether private keys need a login.
    login_required: Option<bool>,
    /// Whether the PIN is typed on the device itself.
    pin_pad: Option<bool>,
    /// What it says of its PIN: `good`, `not-set`, `count-low`, `final-try` or `locked`.
    #[schemars(with = "Option<String>")]
    pin: Option<PinState>,
    /// Shortest and longest PIN that it takes; a longest of 0 says nothing.
    pin_length: Option<(u64, u64)>,
    /// Whether the listing was made logged in. Without it, most devices hide their private keys.
    pub(super) logged_in: bool,
    /// Key pairs, and halves whose other half is not to be seen.
    pub(super) keys: Vec<KeyEntry>,
    /// Certificates of no key that is to be seen.
    pub(super) certificates: Vec<LoneCertificate>,
    /// Why the listing is not whole.
    pub(super) problems: Vec<String>,
}

/// A key pair.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KeyEntry {
    /// The line to paste into segl.toml.
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
    /// RFC 7638 thumbprint, for RSA keys whose public half can be read.
    thumbprint: Option<String>,
    /// Whether the private half is to be seen.
    pub(super) private: bool,
    /// `CKA_SENSITIVE` of the private half.
    sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE` of the private half.
    pub(super) extractable: Option<bool>,
    /// `CKA_ALWAYS_AUTHENTICATE` of the private half.
    always_authenticate: Option<bool>,
    /// Its certificates.
    pub(super) certificates: Vec<CertificateEntry>,
    /// Whether Maskinporten takes it, and what should be known.
    pub(super) maskinporten: Verdict,
    /// Whether it can sign while nobody is there.
    pub(super) unattended: Unattended,
}

/// A certificate of no key that is to be seen.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LoneCertificate {
    #[serde(flatten)]
    pub(super) certificate: CertificateEntry,
    /// Whether Maskinporten takes what it certifies, and what should be known.
    pub(super) maskinporten: Verdict,
}

impl Listing {
    /// What of all that was seen is named by `wanted`; the lines to paste look for it where `wanted` does, else where
    /// it was found.
    pub(super) fn new(
        looked: Vec<Looked>,
        profiles: &Profiles,
        wanted: &Uri,
        configured: &Configured,
        now: SystemTime,
    ) -> Self {
        let modules = looked.into_iter().map(|looked| {
            let place = place(&looked.library, profiles, wanted);
            let profile = configured.profile_for(&looked.library.path, profiles);
            let unattended = |key: &KeyDescription, device: Option<&DeviceDescription>| {
                let stored = device.map(|device| configured.stored_for(device, key)).unwrap_or_default();
                Unattended::of(key, device, &profile, stored)
            };
            Module::new(looked, profiles, &Asked { wanted, place: &place, unattended: &unattended, now })
        });
        Self { schema: 1, modules: modules.collect() }
    }

    /// All devices.
    pub(super) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.modules.iter().flat_map(|module| &module.devices)
    }

    /// Everything on them that has a line to paste: keys, then certificates.
    pub(super) fn uris(&self) -> impl Iterator<Item = &Uri> {
        self.devices().flat_map(|device| {
            let keys = device.keys.iter().map(|key| &key.uri);
            keys.chain(device.certificates.iter().map(|lone| &lone.certificate.uri))
        })
    }

    /// The lines to paste of keys that Maskinporten takes.
    pub(super) fn usable(&self) -> impl Iterator<Item = &Uri> {
        let keys = self.devices().flat_map(|device| &device.keys);
        keys.filter(|key| key.maskinporten.answer != verdict::Answer::No).map(|key| &key.uri)
    }

    /// The same in words, and which devices may have more.
    pub(super) fn usable_keys(&self) -> Usable {
        let mut usable = Usable::default();
        for (module, device) in
            self.modules.iter().flat_map(|it| it.devices.iter().map(move |device| (it, device)))
        {
            let label = device.label.as_deref().map_or_else(|| "a device".to_owned(), printable);
            let fit = device.keys.iter().filter(|key| key.maskinporten.answer != verdict::Answer::No);
            usable.keys.extend(fit.map(|key| {
                let bits = key.bits.map(|bits| format!("-{bits}")).unwrap_or_default();
                let with = if key.certificates.is_empty() { "" } else { ", with a certificate" };
                UsableKey {
                    uri: key.uri.to_string(),
                    what: format!("{}{bits} {} on {label}{with}", key.kind, printable(&key.label)),
                    profile: module.profile.clone(),
                }
            }));
            if device.may_hide_keys() {
                usable.hiding.push(label);
            }
        }
        usable
    }
}

/// The way to `library` for a line that is pasted: only what is needed, as little as the packaging can change.
fn place(library: &Installed, profiles: &Profiles, wanted: &Uri) -> Uri {
    let leads_here = |profile: Option<&str>| {
        let found = profiles.library_for(&Uri::default(), profile).ok();
        found.and_then(|path| path.canonicalize().ok()).as_ref() == Some(&library.path)
    };
    if wanted.module_path().is_some() || wanted.module_name().is_some() || leads_here(None) {
        return wanted.clone();
    }
    match library.profile().filter(|name| leads_here(Some(name))) {
        Some(name) => wanted.clone().with_module_name(name.to_owned()),
        None => wanted.clone().with_module_path(library.name.clone()),
    }
}

/// What was asked for, and how what is found is judged.
struct Asked<'a> {
    wanted: &'a Uri,
    /// The way to the library, for lines that are pasted.
    place: &'a Uri,
    unattended: &'a dyn Fn(&KeyDescription, Option<&DeviceDescription>) -> Unattended,
    now: SystemTime,
}

impl Module {
    fn new(Looked { library, shown }: Looked, profiles: &Profiles, asked: &Asked<'_>) -> Self {
        let mut manufacturer =
            shown.iter().flat_map(|shown| &shown.library).map(|it| it.manufacturer.as_str());
        let profile =
            profiles.matching(&library.path, manufacturer.next_back(), None).map(|known| known.name);
        let named_by = library.named_by.iter().map(NamedBy::to_string).collect();
        let (description, slots, problem) = match shown {
            Ok(shown) => (shown.library, shown.slots, None),
            Err(error) if may_be_held(&error) => {
                (None, Vec::new(), Some(error.to_string() + &held_by(&library)))
            }
            Err(error) => (None, Vec::new(), Some(error.to_string())),
        };
        let named = |slot: &SlotDescription| {
            slot.device.as_ref().is_none_or(|device| device.is_named_by(asked.wanted))
        };
        let devices = slots.into_iter().filter(named).map(|slot| {
            let held = slot.problems.iter().any(|problem| may_be_held(&problem.error));
            let mut device = Device::new(slot, asked);
            if let Some(last) = device.problems.last_mut().filter(|_| held) {
                last.push_str(&held_by(&library));
            }
            device
        });
        Self {
            devices: devices.collect(),
            path: library.name,
            named_by,
            profile,
            library: description.map(Library::new),
            problem,
        }
    }
}

/// Who else may have the device, as the end of a sentence.
fn held_by(library: &Installed) -> String {
    let holders: Vec<String> = holders(&library.path).iter().map(ToString::to_string).collect();
    if holders.is_empty() { String::new() } else { format!("; {}", holders.join(", ")) }
}

impl Library {
    pub(super) fn new(description: LibraryDescription) -> Self {
        let LibraryDescription { manufacturer, description, version, cryptoki, .. } = description;
        Self { manufacturer, description, version, cryptoki }
    }
}

impl Device {
    fn new(slot: SlotDescription, asked: &Asked<'_>) -> Self {
        let Asked { wanted, place, now, .. } = *asked;
        let read = |certificate: &CertificateDescription| Certificate::from_der(&certificate.der).ok();
        let of_keys = slot.keys.iter().flat_map(|key| &key.certificates);
        let issuers = Issuers::among(slot.certificates.iter().chain(of_keys).filter_map(read));
        let pool = |own: &[CertificateDescription]| issuers.pool(own.iter().filter_map(read).collect());
        let open = slot.logged_in;
        let certificates = slot
            .certificates
            .iter()
            .filter(|certificate| certificate.is_named_by(wanted))
            .map(|certificate| LoneCertificate {
                maskinporten: {
                    let pool = pool(std::slice::from_ref(certificate));
                    Verdict::on_lone(certificate, open, &slot.keys, &pool, now)
                },
                certificate: CertificateEntry::new(certificate, place),
            })
            .collect();
        let device = slot.device.as_ref();
        let keys = slot.keys.iter().filter(|key| key.is_named_by(wanted));
        let keys = keys.map(|key| {
            let maskinporten = Verdict::on(key, open, &pool(&key.certificates), now);
            KeyEntry::new(key, maskinporten, (asked.unattended)(key, device), place)
        });
        Self {
            keys: keys.collect(),
            certificates,
            uri: device.map(|device| device.uri.clone().with_query_of(place)),
            label: device.map(|device| device.label.clone()),
            serial: device.map(|device| device.serial.clone()),
            manufacturer: device.map(|device| device.manufacturer.clone()),
            model: device.map(|device| device.model.clone()),
            initialized: device.map(|device| device.initialized),
            login_required: device.map(|device| device.login_required),
            pin_pad: device.map(|device| device.pin_pad),
            pin: device.map(|device| device.pin),
            pin_length: device.map(|device| device.pin_length),
            slot_id: slot.id,
            slot: slot.description,
            logged_in: open,
            problems: slot.problems.iter().map(Problem::to_string).collect(),
        }
    }

    /// Whether private keys may be there that are not shown.
    pub(super) fn may_hide_keys(&self) -> bool {
        !self.logged_in && self.initialized == Some(true) && self.login_required == Some(true)
    }

    /// Whether there is nothing to tell of it.
    pub(super) fn is_blank(&self) -> bool {
        self.problems.is_empty() && self.initialized == Some(false)
    }

    /// What the device says about its PIN, when that is worth a word.
    pub(super) fn pin_warning(&self) -> Option<&'static str> {
        pin::trouble(self.pin?)
    }
}

impl KeyEntry {
    fn new(key: &KeyDescription, maskinporten: Verdict, unattended: Unattended, place: &Uri) -> Self {
        let public_key = key.spki.as_deref().and_then(|spki| RsaPublicKey::from_spki(spki).ok());
        Self {
            uri: key.uri.clone().with_query_of(place),
            label: key.label.clone(),
            id: key.id.clone(),
            kind: key.key_type.clone(),
            bits: key.bits,
            thumbprint: public_key.map(|key| key.thumbprint()),
            private: key.private,
            sensitive: key.sensitive,
            extractable: key.extractable,
            always_authenticate: key.always_authenticate,
            certificates: key.certificates.iter().map(|it| CertificateEntry::new(it, place)).collect(),
            maskinporten,
            unattended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json;

    #[test]
    fn the_json_schema_in_the_documentation_is_that_of_the_types() {
        json::assert_documented::<Listing>("keys.schema.json");
    }
}
