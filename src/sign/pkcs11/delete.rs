//! What is deleted from a device. There is no way back, so everything is found before anything is touched.

use super::{
    KeyDescription,
    calls::{AttributeType, Object, ObjectClass, Session},
    code::answered,
    job::Doomed,
    object,
    session::Connection,
};
use crate::sign::{Error, Sought};

/// What tells one half of a key pair from others.
const HALF: &[AttributeType] = &[
    AttributeType::Label,
    AttributeType::Id,
    AttributeType::KeyType,
    AttributeType::Modulus,
    AttributeType::PublicExponent,
];

/// Deletes what is `doomed`: certificates first, since they can be imported again, the private key after them.
pub(super) fn delete(connection: &Connection, doomed: &Doomed) -> Result<u64, Error> {
    connection.writing(|session| {
        let mut handles = Vec::new();
        for der in &doomed.certificates {
            let found = find_certificate(session, der, &handles)?;
            handles.push(found);
        }
        if let Some(key) = &doomed.key {
            for (class, is_there) in
                [(ObjectClass::PrivateKey, key.private), (ObjectClass::PublicKey, key.public)]
            {
                if is_there {
                    handles.push(find_half(session, class, key)?);
                }
            }
        }
        let mut gone = 0;
        for handle in handles {
            session.destroy(handle).map_err(|why| answered(&why))?;
            gone += 1;
        }
        Ok(gone)
    })
}

/// A certificate of these bytes that is not among those `found` already.
fn find_certificate(session: &dyn Session, der: &[u8], found: &[Object]) -> Result<Object, Error> {
    for certificate in object::all(session, ObjectClass::Certificate)? {
        let values = object::read(session, certificate, &[AttributeType::Value])?;
        let is_it = values.bytes(AttributeType::Value) == Some(der);
        if is_it && !found.contains(&certificate) {
            return Ok(certificate);
        }
    }
    Err(Error::NotFound {
        sought: Sought::Certificate,
        uri: "what was to be deleted".into(),
        candidates: Vec::new(),
    })
}

/// The one half that has type, label, id and, where it shows one, public key of `key`.
fn find_half(session: &dyn Session, class: ObjectClass, key: &KeyDescription) -> Result<Object, Error> {
    let mut found = Vec::new();
    for half in object::all(session, class)? {
        let values = object::read(session, half, HALF)?;
        let is_called = values.label() == key.label || class == ObjectClass::PublicKey;
        let has_id = hex::encode(values.id()) == key.id;
        let has_type = object::key_type_name(values.key_type()) == key.key_type;
        let shown = values.rsa_public_key().and_then(|key| key.to_spki().ok());
        let has_public_key = match (&shown, &key.spki) {
            (Some(shown), Some(known)) => shown == known,
            _ => true,
        };
        // A public key bears the label that whoever made it gave it: where it is shown, it speaks for itself.
        let is_public_key = class == ObjectClass::PublicKey && shown.is_some() && shown == key.spki;
        if is_public_key || (is_called && has_id && has_type && has_public_key) {
            found.push(half);
        }
    }
    match found[..] {
        [only] => Ok(only),
        [] => Err(Error::NotFound { sought: Sought::Key, uri: key.uri.to_string(), candidates: Vec::new() }),
        [..] => {
            Err(Error::Ambiguous { sought: Sought::Key, uri: key.uri.to_string(), candidates: Vec::new() })
        }
    }
}
