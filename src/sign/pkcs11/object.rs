//! Objects on a device: found by template, read in groups of attributes, forgiving what is missing.

use super::{
    calls::{
        Attribute, AttributeType, KeyType, Object, ObjectClass, Session, flag_in, number_in, numbers_in,
    },
    code::answered,
    ec::Curve,
    ladder::is_about_the_question,
    uri::trimmed,
};
use crate::{jose::RsaPublicKey, sign::Error};

/// More objects of one class than this are not looked through.
const MOST_OBJECTS: usize = 4096;

/// All objects of a class. The class always stands in the template: some libraries hold a hundred other objects.
pub(super) fn all(session: &dyn Session, class: ObjectClass) -> Result<Vec<Object>, Error> {
    matching(session, class, Vec::new())
}

/// Objects of a class with these attributes.
pub(super) fn matching(
    session: &dyn Session,
    class: ObjectClass,
    attributes: Vec<Attribute>,
) -> Result<Vec<Object>, Error> {
    let mut template = vec![Attribute::class(class)];
    template.extend(attributes);
    session.find(&template, MOST_OBJECTS).map_err(|why| answered(&why))
}

/// Values of some attributes of one object.
pub(super) struct Values {
    wanted: &'static [AttributeType],
    values: Vec<Option<Vec<u8>>>,
}

/// Label and id: what names an object.
pub(super) const NAME: &[AttributeType] = &[AttributeType::Label, AttributeType::Id];

/// What makes up an RSA public key; private objects often have it, too.
pub(super) const RSA_PUBLIC: &[AttributeType] = &[AttributeType::Modulus, AttributeType::PublicExponent];

/// What makes up an elliptic curve public key. Private keys have the first of them, and some both.
pub(super) const EC_PUBLIC: &[AttributeType] = &[AttributeType::EcParams, AttributeType::EcPoint];

/// Reads `wanted` of an object. What the device does not have or does not give is missing from the values; errors of
/// the session or the device are errors.
pub(super) fn read(
    session: &dyn Session,
    object: Object,
    wanted: &'static [AttributeType],
) -> Result<Values, Error> {
    let values = match session.attributes(object, wanted) {
        Ok(values) => values,
        Err(why) => {
            let error = answered(&why);
            if !is_about_the_question(&error) {
                return Err(error);
            }
            Vec::new()
        }
    };
    Ok(Values { wanted, values })
}

impl Values {
    /// The bytes of one attribute.
    pub(super) fn bytes(&self, wanted: AttributeType) -> Option<&[u8]> {
        let at = self.wanted.iter().position(|kind| *kind == wanted)?;
        self.values.get(at)?.as_deref()
    }

    /// A yes-or-no attribute.
    pub(super) fn flag(&self, wanted: AttributeType) -> Option<bool> {
        self.bytes(wanted).and_then(flag_in)
    }

    /// `CKA_LABEL` without its padding; empty when there is none.
    pub(super) fn label(&self) -> String {
        let label = self.bytes(AttributeType::Label).unwrap_or_default();
        trimmed(&String::from_utf8_lossy(label)).to_owned()
    }

    /// `CKA_ID`; empty when there is none.
    pub(super) fn id(&self) -> Vec<u8> {
        self.bytes(AttributeType::Id).unwrap_or_default().to_vec()
    }

    /// `CKA_KEY_TYPE`.
    pub(super) fn key_type(&self) -> Option<KeyType> {
        self.bytes(AttributeType::KeyType).and_then(number_in).map(KeyType)
    }

    /// `CKA_ALLOWED_MECHANISMS`; `None` when nothing is said, which allows all.
    pub(super) fn allowed_mechanisms(&self) -> Option<Vec<u64>> {
        // An empty list is what some devices give for none at all.
        self.bytes(AttributeType::AllowedMechanisms).and_then(numbers_in).filter(|list| !list.is_empty())
    }

    /// The curve in `CKA_EC_PARAMS`, where it is one that is known by name.
    pub(super) fn curve(&self) -> Option<Curve> {
        self.bytes(AttributeType::EcParams).and_then(Curve::of)
    }

    /// DER SubjectPublicKeyInfo of the public key in `CKA_EC_PARAMS` and `CKA_EC_POINT`.
    pub(super) fn ec_public_key(&self) -> Option<Vec<u8>> {
        self.curve()?.spki(self.bytes(AttributeType::EcPoint)?)
    }

    /// The RSA public key in `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`.
    pub(super) fn rsa_public_key(&self) -> Option<RsaPublicKey> {
        let part = |wanted| self.bytes(wanted).filter(|bytes| !bytes.is_empty());
        let (modulus, exponent) = (part(AttributeType::Modulus)?, part(AttributeType::PublicExponent)?);
        Some(RsaPublicKey::new(modulus, exponent))
    }
}

/// A key type as people name it: `RSA`, `EC`.
pub(super) fn key_type_name(key_type: Option<KeyType>) -> String {
    key_type.map_or_else(|| "unknown".into(), KeyType::name)
}
