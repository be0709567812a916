//! What a library shows: devices, key pairs, certificates. Trouble with one hides none of the others.

use std::path::PathBuf;

use super::{
    Uri,
    authenticate::is_logged_in,
    calls::{AttributeType, DeviceInfo, KeyType, Object, ObjectClass, Session, Slot},
    code::answered,
    detail,
    job::{
        CertificateDescription, DeviceDescription, KeyDescription, LibraryDescription, ModuleDescription,
        PinState, Problem, SlotDescription,
    },
    login::DeviceId,
    object::{self, EC_PUBLIC, Values},
    pairing,
    session::Initialized,
};
use crate::{jose::RsaPublicKey, sign::Error};

/// More problems than this are not told of one device.
const MOST_PROBLEMS: usize = 20;

/// More certificates than this are not read from one device.
const MOST_CERTIFICATES: usize = 4096;

/// What is read of a private key.
const PRIVATE: &[AttributeType] = &[
    AttributeType::Label,
    AttributeType::Id,
    AttributeType::KeyType,
    AttributeType::Modulus,
    AttributeType::PublicExponent,
    AttributeType::Sign,
    AttributeType::Sensitive,
    AttributeType::Extractable,
    AttributeType::AlwaysAuthenticate,
];

/// What is read of a public key.
const PUBLIC: &[AttributeType] = &[
    AttributeType::Label,
    AttributeType::Id,
    AttributeType::KeyType,
    AttributeType::Modulus,
    AttributeType::PublicExponent,
];

/// What is read of a certificate.
const CERTIFICATE: &[AttributeType] = &[AttributeType::Label, AttributeType::Id, AttributeType::Value];

/// Everything in the library. Devices that are open already are listed as those who opened them see them.
/// `whole`: with mechanisms and all attributes.
pub(super) fn describe(
    path: PathBuf,
    initialized: &Initialized,
    whole: bool,
) -> Result<ModuleDescription, Error> {
    let library = initialized.library();
    let described = library.info().ok().map(|info| LibraryDescription {
        manufacturer: info.manufacturer,
        description: info.description,
        version: info.version.to_string(),
        cryptoki: info.cryptoki.to_string(),
    });
    let slots = library.slots().map_err(|why| answered(&why))?;
    let slots = slots.into_iter().map(|slot| describe_slot(initialized, slot, whole)).collect();
    Ok(ModuleDescription { path, library: described, slots })
}

/// DER of all certificates of a device.
pub(super) fn certificates(session: &dyn Session) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    for certificate in object::all(session, ObjectClass::Certificate)?.into_iter().take(MOST_CERTIFICATES) {
        let values = object::read(session, certificate, &[AttributeType::Value])?;
        found.extend(values.bytes(AttributeType::Value).map(<[u8]>::to_vec));
    }
    Ok(found)
}

fn describe_slot(initialized: &Initialized, slot: Slot, whole: bool) -> SlotDescription {
    let mut description = SlotDescription {
        id: slot.0,
        description: initialized.library().slot_info(slot).map(|info| info.description).unwrap_or_default(),
        device: None,
        logged_in: false,
        keys: Vec::new(),
        certificates: Vec::new(),
        problems: Vec::new(),
        mechanisms: match whole {
            true => detail::mechanisms(initialized.library().as_ref(), slot),
            false => Vec::new(),
        },
    };
    if let Err(error) = fill(&mut description, initialized, slot, whole) {
        description.problems.push(Problem { object: None, error });
    }
    description
}

fn fill(
    description: &mut SlotDescription,
    initialized: &Initialized,
    slot: Slot,
    whole: bool,
) -> Result<(), Error> {
    let library = initialized.library();
    let info = library.device_info(slot).map_err(|why| answered(&why))?;
    let id = DeviceId::of(&info);
    let device = id.uri();
    let (is_initialized, login_required) = (info.is_initialized(), info.requires_login());
    description.device = Some(describe_device(info, id));
    if !is_initialized {
        return Ok(());
    }
    if let Some(open) = initialized.connection_in(slot) {
        description.logged_in = true;
        return list(description, open.keeper().as_ref(), &device, whole);
    }
    let session = library.open(slot, super::calls::Access::ReadOnly).map_err(|why| answered(&why))?;
    description.logged_in = !login_required || is_logged_in(session.as_ref());
    list(description, session.as_ref(), &device, whole)
}

fn describe_device(info: DeviceInfo, id: DeviceId) -> DeviceDescription {
    DeviceDescription {
        uri: id.uri(),
        initialized: info.is_initialized(),
        login_required: info.requires_login(),
        pin_pad: info.has_pin_pad(),
        pin: if info.is_locked() {
            PinState::Locked
        } else if info.is_at_final_try() {
            PinState::FinalTry
        } else if info.pin_count_is_low() {
            PinState::CountLow
        } else if info.is_initialized() && info.requires_login() && !info.has_user_pin() {
            PinState::NotSet
        } else if info.wants_new_pin() {
            PinState::ToBeChanged
        } else {
            PinState::Good
        },
        pin_length: info.pin_length,
        hardware_version: info.hardware.to_string(),
        firmware_version: info.firmware.to_string(),
        flags: detail::flags(&info),
        sessions: detail::sessions(&info),
        label: id.label,
        serial: id.serial,
        manufacturer: id.manufacturer,
        model: id.model,
    }
}

/// Lists the objects of a device; what cannot be read is passed over and noted.
fn list(
    description: &mut SlotDescription,
    session: &dyn Session,
    device: &Uri,
    whole: bool,
) -> Result<(), Error> {
    let SlotDescription { keys, certificates, problems, .. } = description;
    let mut halves = Vec::new();
    each(session, ObjectClass::PrivateKey, "private key", problems, |key| {
        let half = describe_private(session, device, key)?;
        halves.push(with_attributes(half, session, key, whole));
        Ok(())
    })?;
    each(session, ObjectClass::PublicKey, "public key", problems, |key| {
        let half = describe_public(session, device, key)?;
        halves.push(with_attributes(half, session, key, whole));
        Ok(())
    })?;
    let mut found = Vec::new();
    each(session, ObjectClass::Certificate, "certificate", problems, |certificate| {
        found.push(describe_certificate(session, device, certificate)?);
        Ok(())
    })?;
    (*keys, *certificates) = pairing::pair(halves, found);
    Ok(())
}

/// Does `read` with each object of a class.
fn each(
    session: &dyn Session,
    class: ObjectClass,
    name: &str,
    problems: &mut Vec<Problem>,
    mut read: impl FnMut(Object) -> Result<(), Error>,
) -> Result<(), Error> {
    for (number, object) in (1..).zip(object::all(session, class)?) {
        if let Err(error) = read(object)
            && problems.len() < MOST_PROBLEMS
        {
            problems.push(Problem { object: Some(format!("{name} {number}")), error });
        }
    }
    Ok(())
}

fn with_attributes(
    description: KeyDescription,
    session: &dyn Session,
    key: Object,
    whole: bool,
) -> KeyDescription {
    let attributes = if whole { detail::attributes(session, key) } else { Vec::new() };
    KeyDescription { attributes, ..description }
}

fn describe_private(session: &dyn Session, device: &Uri, key: Object) -> Result<KeyDescription, Error> {
    let values = object::read(session, key, PRIVATE)?;
    let description = describe_key(&values, device);
    let description = with_public_key(description, session, key, &values)?;
    Ok(KeyDescription {
        private: true,
        signs: values.flag(AttributeType::Sign),
        sensitive: values.flag(AttributeType::Sensitive),
        extractable: values.flag(AttributeType::Extractable),
        always_authenticate: values.flag(AttributeType::AlwaysAuthenticate),
        ..description
    })
}

fn describe_public(session: &dyn Session, device: &Uri, key: Object) -> Result<KeyDescription, Error> {
    let values = object::read(session, key, PUBLIC)?;
    let description = with_public_key(describe_key(&values, device), session, key, &values)?;
    Ok(KeyDescription { public: true, ..description })
}

fn with_public_key(
    description: KeyDescription,
    session: &dyn Session,
    key: Object,
    values: &Values,
) -> Result<KeyDescription, Error> {
    if values.key_type() == Some(KeyType::EC) {
        // Asked for here alone: some libraries want a call for each attribute that a key does not have.
        let values = object::read(session, key, EC_PUBLIC)?;
        let bits = values.curve().map(|curve| curve.bits);
        return Ok(KeyDescription { bits, spki: values.ec_public_key(), ..description });
    }
    let public_key = values.rsa_public_key();
    Ok(KeyDescription {
        bits: public_key.as_ref().map(RsaPublicKey::bits),
        spki: public_key.and_then(|key| key.to_spki().ok()),
        ..description
    })
}

fn describe_key(values: &Values, device: &Uri) -> KeyDescription {
    let (label, id) = (values.label(), values.id());
    KeyDescription {
        uri: device.with_object(&label, &id),
        label,
        id: hex::encode(id),
        key_type: object::key_type_name(values.key_type()),
        bits: None,
        spki: None,
        private: false,
        public: false,
        signs: None,
        sensitive: None,
        extractable: None,
        always_authenticate: None,
        attributes: Vec::new(),
        certificates: Vec::new(),
    }
}

fn describe_certificate(
    session: &dyn Session,
    device: &Uri,
    certificate: Object,
) -> Result<CertificateDescription, Error> {
    let values = object::read(session, certificate, CERTIFICATE)?;
    let (label, id) = (values.label(), values.id());
    Ok(CertificateDescription {
        uri: device.with_object(&label, &id).of_certificate(),
        label,
        id: hex::encode(id),
        der: values.bytes(AttributeType::Value).unwrap_or_default().to_vec(),
    })
}
