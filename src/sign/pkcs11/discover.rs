//! What a library shows: devices, key pairs, certificates. Trouble with one hides none of the others.

use std::path::PathBuf;

use cryptoki::{
    context::Pkcs11,
    object::{AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
    slot::{Slot, TokenInfo},
};

use super::{
    Uri,
    code::answered,
    job::{
        CertificateDescription, DeviceDescription, KeyDescription, LibraryDescription, ModuleDescription,
        PinState, SlotDescription,
    },
    key::public_key_of,
    object,
    session::{Connection, DeviceId},
    uri::trimmed,
};
use crate::sign::Error;

/// More certificates than this are not read from one device.
const MOST_CERTIFICATES: usize = 256;

/// Everything in `context`; `logged_in` is a device that is open already.
pub(super) fn describe(
    path: PathBuf,
    context: &Pkcs11,
    logged_in: Option<&Connection>,
) -> Result<ModuleDescription, Error> {
    let library = context.get_library_info().ok().map(|info| LibraryDescription {
        manufacturer: trimmed(info.manufacturer_id()).to_owned(),
        description: trimmed(info.library_description()).to_owned(),
        version: info.library_version().to_string(),
        cryptoki: info.cryptoki_version().to_string(),
    });
    let slots = context.get_slots_with_token().map_err(|why| answered(&why))?;
    let slots = slots.into_iter().map(|slot| describe_slot(context, slot, logged_in)).collect();
    Ok(ModuleDescription { path, library, slots })
}

/// DER of all certificates of a device.
pub(super) fn certificates(session: &Session) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    for certificate in object::all(session, ObjectClass::CERTIFICATE)?.into_iter().take(MOST_CERTIFICATES) {
        found.extend(object::bytes(session, certificate, AttributeType::Value)?);
    }
    Ok(found)
}

fn describe_slot(context: &Pkcs11, slot: Slot, logged_in: Option<&Connection>) -> SlotDescription {
    let mut description = SlotDescription {
        description: context
            .get_slot_info(slot)
            .map(|info| trimmed(info.slot_description()).to_owned())
            .unwrap_or_default(),
        device: None,
        logged_in: false,
        keys: Vec::new(),
        certificates: Vec::new(),
        problem: None,
    };
    if let Err(problem) = fill(&mut description, context, slot, logged_in) {
        description.problem = Some(problem);
    }
    description
}

fn fill(
    description: &mut SlotDescription,
    context: &Pkcs11,
    slot: Slot,
    logged_in: Option<&Connection>,
) -> Result<(), Error> {
    let info = context.get_token_info(slot).map_err(|why| answered(&why))?;
    let id = DeviceId::of(&info);
    description.device = Some(describe_device(&info, &id));
    if !info.token_initialized() {
        return Ok(());
    }
    let device = id.uri();
    match logged_in.filter(|open| open.slot == slot) {
        Some(open) => {
            description.logged_in = true;
            list(description, &open.keeper, &device)
        }
        None => {
            let session = context.open_ro_session(slot).map_err(|why| answered(&why))?;
            // A signer of this process may have logged in to the device already.
            description.logged_in = !info.login_required() || super::session::is_logged_in(&session);
            list(description, &session, &device)
        }
    }
}

fn describe_device(info: &TokenInfo, id: &DeviceId) -> DeviceDescription {
    DeviceDescription {
        uri: id.uri(),
        label: trimmed(info.label()).to_owned(),
        serial: trimmed(info.serial_number()).to_owned(),
        manufacturer: trimmed(info.manufacturer_id()).to_owned(),
        model: trimmed(info.model()).to_owned(),
        initialized: info.token_initialized(),
        login_required: info.login_required(),
        pin_pad: info.protected_authentication_path(),
        pin: if info.user_pin_locked() {
            PinState::Locked
        } else if info.user_pin_final_try() {
            PinState::FinalTry
        } else if info.user_pin_count_low() {
            PinState::CountLow
        } else if info.token_initialized() && info.login_required() && !info.user_pin_initialized() {
            PinState::NotSet
        } else {
            PinState::Good
        },
        pin_length: (info.min_pin_length() as u64, info.max_pin_length() as u64),
    }
}

/// Lists the objects of a device; what cannot be read is passed over, and the first such trouble is kept.
fn list(description: &mut SlotDescription, session: &Session, device: &Uri) -> Result<(), Error> {
    let mut trouble = None;
    let mut note = |error: Error| {
        trouble.get_or_insert(error);
    };
    let mut keys: Vec<KeyDescription> = Vec::new();
    for private in object::all(session, ObjectClass::PRIVATE_KEY)? {
        describe_private(session, device, private).map_or_else(&mut note, |key| keys.push(key));
    }
    for public in object::all(session, ObjectClass::PUBLIC_KEY)? {
        match describe_public(session, device, public) {
            Err(error) => note(error),
            Ok(key) => match keys.iter_mut().find(|pair| pair.private && is_pair(pair, &key)) {
                Some(pair) => pair.public = true,
                None => keys.push(key),
            },
        }
    }
    let certificates = object::all(session, ObjectClass::CERTIFICATE)?;
    for certificate in certificates.into_iter().take(MOST_CERTIFICATES) {
        match describe_certificate(session, device, certificate) {
            Err(error) => note(error),
            Ok(certificate) => {
                let key = keys.iter_mut().find(|key| !key.id.is_empty() && key.id == certificate.id);
                key.map_or(&mut description.certificates, |key| &mut key.certificates).push(certificate);
            }
        }
    }
    description.keys = keys;
    trouble.map_or(Ok(()), Err)
}

fn is_pair(private: &KeyDescription, public: &KeyDescription) -> bool {
    match (&private.spki, &public.spki) {
        (Some(one), Some(other)) => one == other,
        _ => private.id == public.id && private.key_type == public.key_type,
    }
}

fn describe_private(session: &Session, device: &Uri, key: ObjectHandle) -> Result<KeyDescription, Error> {
    let mut description = describe_key(session, device, key)?;
    let public_key = if description.key_type == "RSA" { public_key_of(session, key)? } else { None };
    description.bits = public_key.as_ref().map(crate::jose::RsaPublicKey::bits);
    description.spki = public_key.and_then(|key| key.to_spki().ok());
    description.private = true;
    description.signs = object::flag(session, key, AttributeType::Sign)?;
    description.sensitive = object::flag(session, key, AttributeType::Sensitive)?;
    description.extractable = object::flag(session, key, AttributeType::Extractable)?;
    description.always_authenticate = object::flag(session, key, AttributeType::AlwaysAuthenticate)?;
    Ok(description)
}

fn describe_public(session: &Session, device: &Uri, key: ObjectHandle) -> Result<KeyDescription, Error> {
    let mut description = describe_key(session, device, key)?;
    let public_key = object::rsa_public_key(session, key)?;
    description.bits = public_key.as_ref().map(crate::jose::RsaPublicKey::bits);
    description.spki = public_key.and_then(|key| key.to_spki().ok());
    description.public = true;
    Ok(description)
}

fn describe_key(session: &Session, device: &Uri, key: ObjectHandle) -> Result<KeyDescription, Error> {
    let (label, id) = (object::label(session, key)?, object::id(session, key)?);
    let key_type: Option<KeyType> = object::key_type(session, key)?;
    Ok(KeyDescription {
        uri: device.with_object(&label, &id),
        label,
        id: hex::encode(id),
        key_type: object::key_type_name(key_type),
        bits: None,
        spki: None,
        private: false,
        public: false,
        signs: None,
        sensitive: None,
        extractable: None,
        always_authenticate: None,
        certificates: Vec::new(),
    })
}

fn describe_certificate(
    session: &Session,
    device: &Uri,
    certificate: ObjectHandle,
) -> Result<CertificateDescription, Error> {
    let (label, id) = (object::label(session, certificate)?, object::id(session, certificate)?);
    Ok(CertificateDescription {
        uri: device.with_object(&label, &id).of_certificate(),
        label,
        id: hex::encode(id),
        der: object::bytes(session, certificate, AttributeType::Value)?.unwrap_or_default(),
    })
}
