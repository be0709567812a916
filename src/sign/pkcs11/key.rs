//! A signing key on a device: found, checked, and asked for signatures.

use std::{cell::Cell, rc::Rc};

use aws_lc_rs::signature::ParsedPublicKey;
use cryptoki::{
    context::Pkcs11,
    error::Error as CryptokiError,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};

use super::{
    Uri,
    code::{answered, refuses_mechanism},
    job::KeyQuery,
    mechanism::{Form, Hash},
    object,
    session::Connection,
};
use crate::{
    jose::{Algorithm, RsaPublicKey},
    sign::{Error, Sought, verify},
};

/// A private key that was found, with all that is needed to sign with it.
pub(super) struct SigningKey {
    pub(super) connection: Rc<Connection>,
    pub(super) spki: Vec<u8>,
    handle: ObjectHandle,
    hash: Hash,
    verifier: Option<ParsedPublicKey>,
    ladder: Vec<Form>,
    /// The form that signed last; the ladder is climbed once.
    settled: Cell<Option<Form>>,
}

/// Error messages list no more candidates than a person reads.
const MOST_CANDIDATES: usize = 20;

impl SigningKey {
    /// Finds exactly one private key that `query` names, and its public half.
    pub(super) fn find(
        context: &Pkcs11,
        connection: Rc<Connection>,
        query: &KeyQuery,
    ) -> Result<Self, Error> {
        let hash = Hash::of(query.algorithm)?;
        let session = &connection.keeper;
        let device = connection.device.uri();
        let (handle, uri) = find_private(session, &device, &query.uri)?;
        let unusable = |reason: String| Error::UnusableKey { key: uri.to_string(), reason };
        let key_type = object::key_type(session, handle)?;
        if key_type != Some(KeyType::RSA) {
            return Err(unusable(format!("its type is {}", object::key_type_name(key_type))));
        }
        if object::flag(session, handle, AttributeType::Sign)? == Some(false) {
            return Err(unusable("the device does not let it sign (CKA_SIGN is false)".into()));
        }
        if object::flag(session, handle, AttributeType::AlwaysAuthenticate)? == Some(true) {
            return Err(unusable(
                "the device asks for a PIN at each signature (CKA_ALWAYS_AUTHENTICATE)".into(),
            ));
        }
        let public_key = public_key_of(session, handle)?
            .ok_or_else(|| unusable("the device shows no public half and no certificate of it".into()))?;
        if public_key.bits() < 2048 {
            return Err(unusable(format!("it has {} bits", public_key.bits())));
        }
        let spki = public_key.to_spki().map_err(|why| unusable(why.to_string()))?;
        let verifier = if query.verify { Some(verifier(query.algorithm, &spki)?) } else { None };
        let listed = context.get_mechanism_list(connection.slot).unwrap_or_default();
        let ladder = hash.ladder(&listed);
        Ok(Self { connection, spki, handle, hash, verifier, ladder, settled: Cell::new(None) })
    }

    /// Signs `message` and verifies the signature.
    pub(super) fn sign(&self, context: &Pkcs11, message: &[u8]) -> Result<Vec<u8>, Error> {
        let settled = self.settled.get();
        let others = self.ladder.iter().copied().filter(|form| Some(*form) != settled);
        let mut refused = None;
        for form in settled.into_iter().chain(others) {
            let outcome = self
                .connection
                .with_session(context, |session| self.hash.sign(form, session, self.handle, message));
            match outcome {
                Ok(signature) => {
                    self.settled.set(Some(form));
                    return verified(self.verifier.as_ref(), message, signature);
                }
                Err(CryptokiError::Pkcs11(value, function)) if refuses_mechanism(value) => {
                    refused = Some(answered(&CryptokiError::Pkcs11(value, function)));
                }
                Err(why) => return Err(answered(&why)),
            }
        }
        // The ladder has at least one form, so something was refused.
        Err(refused.unwrap_or(Error::WrongSignature))
    }
}

/// The public key, made ready once to verify many signatures.
fn verifier(algorithm: Algorithm, spki: &[u8]) -> Result<ParsedPublicKey, Error> {
    let parameters = verify::parameters(algorithm).ok_or(Error::Algorithm(algorithm))?;
    ParsedPublicKey::new(parameters, spki).map_err(|_| Error::UnusableKey {
        key: "on the device".into(),
        reason: "its public key is none that can be verified with".into(),
    })
}

/// The signature, unless it is none of this key.
fn verified(
    verifier: Option<&ParsedPublicKey>,
    message: &[u8],
    signature: Vec<u8>,
) -> Result<Vec<u8>, Error> {
    match verifier {
        Some(verifier) if verifier.verify_sig(message, &signature).is_err() => Err(Error::WrongSignature),
        _ => Ok(signature),
    }
}

fn find_private(session: &Session, device: &Uri, wanted: &Uri) -> Result<(ObjectHandle, Uri), Error> {
    let mut found = matching(session, device, wanted, template(wanted))?;
    if found.is_empty() && wanted.object().is_some() {
        // A label that the device pads does not match in its own search.
        found = matching(session, device, wanted, Vec::new())?;
    }
    let candidates = |found: &[(ObjectHandle, Uri)]| {
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
    session: &Session,
    device: &Uri,
    wanted: &Uri,
    template: Vec<Attribute>,
) -> Result<Vec<(ObjectHandle, Uri)>, Error> {
    let mut found = Vec::new();
    for handle in object::matching(session, ObjectClass::PRIVATE_KEY, template)? {
        let (label, id) = (object::label(session, handle)?, object::id(session, handle)?);
        if wanted.matches_object(&label, &id) {
            found.push((handle, device.with_object(&label, &id)));
        }
    }
    Ok(found)
}

fn template(wanted: &Uri) -> Vec<Attribute> {
    let label = wanted.object().map(|label| Attribute::Label(label.as_bytes().to_vec()));
    let id = wanted.id().map(|id| Attribute::Id(id.to_vec()));
    label.into_iter().chain(id).collect()
}

/// The public half of a private key: from the public object beside it, else from the private object itself, else
/// from a certificate beside it.
pub(super) fn public_key_of(session: &Session, private: ObjectHandle) -> Result<Option<RsaPublicKey>, Error> {
    let own = object::rsa_public_key(session, private)?;
    let id = object::id(session, private)?;
    if id.is_empty() {
        return Ok(own);
    }
    let beside = |class| object::matching(session, class, vec![Attribute::Id(id.clone())]);
    for public in beside(ObjectClass::PUBLIC_KEY)? {
        if let Some(key) = object::rsa_public_key(session, public)? {
            // Two keys may bear one CKA_ID; where the private object shows its modulus, that decides.
            if own.as_ref().is_none_or(|own| *own == key) {
                return Ok(Some(key));
            }
        }
    }
    if own.is_some() {
        return Ok(own);
    }
    for certificate in beside(ObjectClass::CERTIFICATE)? {
        let der = object::bytes(session, certificate, AttributeType::Value)?.unwrap_or_default();
        if let Some(key) = certified_key(&der) {
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

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::{KeyPair, KeySize},
        signature::{KeyPair as _, RSA_PKCS1_SHA256},
    };

    use super::*;

    #[test]
    fn a_signature_that_is_not_of_this_key_and_message_does_not_leave() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero();
        let exponent = public.exponent().big_endian_without_leading_zero();
        let spki = RsaPublicKey::new(modulus, exponent).to_spki().unwrap();
        let sha256 = verifier(Algorithm::RS256, &spki).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"message", &mut signature).unwrap();

        assert_eq!(verified(Some(&sha256), b"message", signature.clone()), Ok(signature.clone()));
        assert_eq!(verified(Some(&sha256), b"massage", signature.clone()), Err(Error::WrongSignature));
        let cut = signature[1..].to_vec();
        assert_eq!(verified(Some(&sha256), b"message", cut), Err(Error::WrongSignature));
        assert_eq!(verified(Some(&sha256), b"message", Vec::new()), Err(Error::WrongSignature));
        let sha384 = verifier(Algorithm::RS384, &spki).unwrap();
        assert_eq!(verified(Some(&sha384), b"message", signature), Err(Error::WrongSignature));
    }
}
