//! Objects on a device: found by template, read a few attributes at a time, forgiving what is missing.

use cryptoki::{
    error::Error as CryptokiError,
    object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};

use super::{
    code::{answered, is_gone},
    uri::trimmed,
};
use crate::{jose::RsaPublicKey, sign::Error};

/// No attribute that is read here is longer: a certificate is the longest, with 2 to 4 kB.
const LONGEST_VALUE: usize = 64 * 1024;

/// More objects of one class than this are not looked through.
const MOST_OBJECTS: usize = 4096;

/// All objects of a class. The class always stands in the template: some libraries hold a hundred other objects.
pub(super) fn all(session: &Session, class: ObjectClass) -> Result<Vec<ObjectHandle>, Error> {
    matching(session, class, Vec::new())
}

/// Objects of a class with these attributes.
pub(super) fn matching(
    session: &Session,
    class: ObjectClass,
    attributes: Vec<Attribute>,
) -> Result<Vec<ObjectHandle>, Error> {
    let mut template = vec![Attribute::Class(class)];
    template.extend(attributes);
    session
        .iter_objects(&template)
        .and_then(|found| found.take(MOST_OBJECTS).collect())
        .map_err(|why| answered(&why))
}

/// `CKA_LABEL` without its padding; empty when there is none.
pub(super) fn label(session: &Session, object: ObjectHandle) -> Result<String, Error> {
    let label = bytes(session, object, AttributeType::Label)?.unwrap_or_default();
    Ok(trimmed(&String::from_utf8_lossy(&label)).to_owned())
}

/// `CKA_ID`; empty when there is none.
pub(super) fn id(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, Error> {
    Ok(bytes(session, object, AttributeType::Id)?.unwrap_or_default())
}

/// The RSA public key in `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`, which private objects often have too.
pub(super) fn rsa_public_key(session: &Session, object: ObjectHandle) -> Result<Option<RsaPublicKey>, Error> {
    let modulus = bytes(session, object, AttributeType::Modulus)?;
    let exponent = bytes(session, object, AttributeType::PublicExponent)?;
    Ok(match (modulus, exponent) {
        (Some(modulus), Some(exponent)) if !modulus.is_empty() && !exponent.is_empty() => {
            Some(RsaPublicKey::new(&modulus, &exponent))
        }
        _ => None,
    })
}

/// `CKA_KEY_TYPE`; `None` for types that the binding does not know.
pub(super) fn key_type(session: &Session, object: ObjectHandle) -> Result<Option<KeyType>, Error> {
    Ok(attribute(session, object, AttributeType::KeyType)?.and_then(|value| match value {
        Attribute::KeyType(key_type) => Some(key_type),
        _ => None,
    }))
}

/// A key type as people name it: `RSA`, `EC`.
pub(super) fn key_type_name(key_type: Option<KeyType>) -> String {
    key_type.map_or_else(|| "unknown".into(), |key_type| key_type.to_string().replace("CKK_", ""))
}

/// A yes-or-no attribute; `None` when the device does not have it.
pub(super) fn flag(
    session: &Session,
    object: ObjectHandle,
    wanted: AttributeType,
) -> Result<Option<bool>, Error> {
    Ok(attribute(session, object, wanted)?.and_then(|value| match value {
        Attribute::Sign(flag)
        | Attribute::Sensitive(flag)
        | Attribute::Extractable(flag)
        | Attribute::AlwaysAuthenticate(flag) => Some(flag),
        _ => None,
    }))
}

/// A byte string; `None` when the device does not have it or does not give it. Its length is asked for first, since
/// the device's word on it decides how much memory is taken.
pub(super) fn bytes(
    session: &Session,
    object: ObjectHandle,
    wanted: AttributeType,
) -> Result<Option<Vec<u8>>, Error> {
    let length = session.get_attribute_info(object, &[wanted]);
    match tolerated(length)?.as_deref() {
        Some([AttributeInfo::Available(length)]) if *length <= LONGEST_VALUE => {}
        _ => return Ok(None),
    }
    Ok(attribute(session, object, wanted)?.and_then(|value| match value {
        Attribute::Label(bytes)
        | Attribute::Id(bytes)
        | Attribute::Modulus(bytes)
        | Attribute::PublicExponent(bytes)
        | Attribute::Value(bytes) => Some(bytes),
        _ => None,
    }))
}

/// One attribute at a time: a value that cannot be converted fails the whole call.
fn attribute(
    session: &Session,
    object: ObjectHandle,
    wanted: AttributeType,
) -> Result<Option<Attribute>, Error> {
    let values = tolerated(session.get_attributes(object, &[wanted]))?.unwrap_or_default();
    // Missing attributes are left out of the answer, so position says nothing.
    Ok(values.into_iter().find(|value| value.attribute_type() == wanted))
}

/// Errors of the session or the device are errors; everything else means that this attribute is not to be had.
fn tolerated<T>(answer: Result<T, CryptokiError>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(why) => {
            let error = answered(&why);
            if is_gone(&error) { Err(error) } else { Ok(None) }
        }
    }
}
