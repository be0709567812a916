//! Finding the private key that a URI names, and the public half of it.

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    Thumbprint, Uri,
    calls::{Attribute, AttributeType, Object, ObjectClass, Session},
    object::{self, NAME, RSA_PUBLIC},
};
use crate::{
    jose::{RsaPublicKey, base64url},
    sign::{Error, Sought},
};

/// Error messages list no more candidates than a person reads.
const MOST_CANDIDATES: usize = 20;

/// The one private key that `wanted` names, and what names exactly it. `device` is the device's own name.
pub(super) fn private_key(session: &dyn Session, device: &Uri, wanted: &Uri) -> Result<(Object, Uri), Error> {
    let mut found = matching(session, device, wanted, template(wanted))?;
    if found.is_empty() && wanted.object().is_some() {
        // A label that the device pads does not match in its own search.
        found = matching(session, device, wanted, Vec::new())?;
    }
    if wanted.key_thumbprint().is_some() || wanted.certificate_thumbprint().is_some() {
        found = with_thumbprints(session, wanted, found)?;
    }
    let candidates = |found: &[(Object, Uri)]| {
        found.iter().take(MOST_CANDIDATES).map(|(_, uri)| uri.to_string()).collect()
    };
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            Err(Error::Ambiguous {
                sought: Sought::Key,
                uri: wanted.to_string(),
                candidates: candidates(&found),
            })
        }
        (None, _) => {
            let all = matching(session, device, &Uri::default(), Vec::new())?;
            Err(Error::NotFound {
                sought: Sought::Key,
                uri: wanted.to_string(),
                candidates: candidates(&all),
            })
        }
    }
}

fn matching(
    session: &dyn Session,
    device: &Uri,
    wanted: &Uri,
    template: Vec<Attribute>,
) -> Result<Vec<(Object, Uri)>, Error> {
    let mut found = Vec::new();
    for handle in object::matching(session, ObjectClass::PrivateKey, template)? {
        let values = object::read(session, handle, NAME)?;
        let (label, id) = (values.label(), values.id());
        if wanted.matches_object(&label, &id) {
            found.push((handle, device.with_object(&label, &id)));
        }
    }
    Ok(found)
}

/// Those of `found` whose public half has the thumbprints that `wanted` names.
fn with_thumbprints(
    session: &dyn Session,
    wanted: &Uri,
    found: Vec<(Object, Uri)>,
) -> Result<Vec<(Object, Uri)>, Error> {
    let certified = match wanted.certificate_thumbprint() {
        Some(thumbprint) => Some(certified_by(session, wanted, thumbprint)?),
        None => None,
    };
    let of_key = wanted.key_thumbprint().map(base64url);
    let mut left = Vec::new();
    for (handle, uri) in found {
        let Some(public_key) = public_key_of(session, handle)? else { continue };
        let is_certified = certified.as_ref().is_none_or(|certified| *certified == public_key);
        if is_certified && of_key.as_ref().is_none_or(|of_key| *of_key == public_key.thumbprint()) {
            left.push((handle, uri));
        }
    }
    Ok(left)
}

/// The public key in the certificate of this thumbprint.
fn certified_by(session: &dyn Session, wanted: &Uri, thumbprint: &Thumbprint) -> Result<RsaPublicKey, Error> {
    for certificate in object::all(session, ObjectClass::Certificate)? {
        let values = object::read(session, certificate, &[AttributeType::Value])?;
        let der = values.bytes(AttributeType::Value).unwrap_or_default();
        if digest(&SHA256, der).as_ref() == thumbprint
            && let Some(public_key) = certified_key(der)
        {
            return Ok(public_key);
        }
    }
    Err(Error::NotFound { sought: Sought::Certificate, uri: wanted.to_string(), candidates: Vec::new() })
}

fn template(wanted: &Uri) -> Vec<Attribute> {
    let label = wanted.object().map(|label| Attribute::bytes(AttributeType::Label, label));
    let id = wanted.id().map(|id| Attribute::bytes(AttributeType::Id, id));
    label.into_iter().chain(id).collect()
}

/// The public half of a private key: from the public object beside it, else from the private object itself, else
/// from a certificate beside it.
pub(super) fn public_key_of(session: &dyn Session, private: Object) -> Result<Option<RsaPublicKey>, Error> {
    let own = object::read(session, private, RSA_PUBLIC)?.rsa_public_key();
    let id = object::read(session, private, NAME)?.id();
    if id.is_empty() {
        return Ok(own);
    }
    let beside =
        |class| object::matching(session, class, vec![Attribute::bytes(AttributeType::Id, id.clone())]);
    for public in beside(ObjectClass::PublicKey)? {
        if let Some(key) = object::read(session, public, RSA_PUBLIC)?.rsa_public_key() {
            // Two keys may bear one CKA_ID; where the private object shows its modulus, that decides.
            if own.as_ref().is_none_or(|own| *own == key) {
                return Ok(Some(key));
            }
        }
    }
    if own.is_some() {
        return Ok(own);
    }
    for certificate in beside(ObjectClass::Certificate)? {
        let values = object::read(session, certificate, &[AttributeType::Value])?;
        if let Some(key) = values.bytes(AttributeType::Value).and_then(certified_key) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// The RSA key that a certificate certifies.
pub(super) fn certified_key(der: &[u8]) -> Option<RsaPublicKey> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    RsaPublicKey::from_spki(certificate.public_key().raw).ok()
}
