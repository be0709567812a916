//! The public key of an elliptic curve key, out of `CKA_EC_PARAMS` and `CKA_EC_POINT`.
//!
//! Maskinporten takes no such key, but a device may hold them beside those that it takes, and their certificates are to
//! stand with their own keys.

use der::{
    Decode, Encode,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef},
};
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

/// RFC 5480 section 2.1.1.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// The first byte of a point whose two coordinates follow (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// A curve that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Curve {
    /// As people name it: `P-256`.
    pub(super) name: &'static str,
    /// Length of a coordinate in bits, which is what people call the key's size.
    pub(super) bits: usize,
    id: ObjectIdentifier,
}

const fn curve(name: &'static str, bits: usize, id: &str) -> Curve {
    Curve { name, bits, id: ObjectIdentifier::new_unwrap(id) }
}

/// RFC 5480 section 2.1.1.1, RFC 5639 section 4.1, SEC 2 appendix A.
const CURVES: &[Curve] = &[
    curve("P-256", 256, "1.2.840.10045.3.1.7"),
    curve("P-384", 384, "1.3.132.0.34"),
    curve("P-521", 521, "1.3.132.0.35"),
    curve("P-192", 192, "1.2.840.10045.3.1.1"),
    curve("P-224", 224, "1.3.132.0.33"),
    curve("secp256k1", 256, "1.3.132.0.10"),
    curve("brainpoolP256r1", 256, "1.3.36.3.3.2.8.1.1.7"),
    curve("brainpoolP384r1", 384, "1.3.36.3.3.2.8.1.1.11"),
    curve("brainpoolP512r1", 512, "1.3.36.3.3.2.8.1.1.13"),
];

impl Curve {
    /// The curve that `CKA_EC_PARAMS` names; `None` for one that is not known by name, or is given by its numbers.
    pub(super) fn of(parameters: &[u8]) -> Option<Self> {
        let id = ObjectIdentifier::from_der(parameters).ok()?;
        CURVES.iter().find(|curve| curve.id == id).copied()
    }

    /// A DER SubjectPublicKeyInfo of the point in `CKA_EC_POINT`, in the form that certificates have it in. `None` when it
    /// is no point of this curve's size, or a compressed one: that would look like another key.
    pub(super) fn spki(self, point: &[u8]) -> Option<Vec<u8>> {
        let point = self.bare(point)?;
        let parameters = AnyRef::from(&self.id);
        let info = SubjectPublicKeyInfoRef {
            algorithm: AlgorithmIdentifierRef { oid: EC_PUBLIC_KEY, parameters: Some(parameters) },
            subject_public_key: BitStringRef::from_bytes(point).ok()?,
        };
        info.to_der().ok()
    }

    /// The point itself. The standard wants it in an OCTET STRING, and some devices give it bare. The first byte says
    /// nothing, since 4 begins both, so the length decides: the two never have the same.
    fn bare(self, point: &[u8]) -> Option<&[u8]> {
        let length = 1 + 2 * self.bits.div_ceil(8);
        let bare = match point.len() == length {
            true => point,
            false => <&OctetStringRef>::from_der(point).ok()?.as_bytes(),
        };
        (bare.len() == length && bare.first() == Some(&UNCOMPRESSED)).then_some(bare)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrapped(point: &[u8]) -> Vec<u8> {
        OctetStringRef::new(point).unwrap().to_der().unwrap()
    }

    #[test]
    fn a_point_is_taken_bare_and_wrapped_and_makes_the_key_that_certificates_have() {
        for (algorithm, name) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "P-256"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "P-384"),
            (&rcgen::PKCS_ECDSA_P521_SHA512, "P-521"),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let spki = rcgen::PublicKeyData::subject_public_key_info(&pair);
            let info = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
            let parameters = info.algorithm.parameters.unwrap().to_der().unwrap();
            let curve = Curve::of(&parameters).unwrap();
            assert_eq!(curve.name, name);
            let point = info.subject_public_key.as_bytes().unwrap();
            for given in [point.to_vec(), wrapped(point)] {
                assert_eq!(curve.spki(&given).as_ref(), Some(&spki), "{name}");
            }
        }
    }

    #[test]
    fn what_is_no_whole_point_is_no_key() {
        let curve = CURVES[0];
        let point = [&[4][..], &[7; 64]].concat();
        assert!(curve.spki(&point).is_some() && curve.spki(&wrapped(&point)).is_some());
        let compressed = [&[2][..], &[7; 32]].concat();
        let hybrid = [&[6][..], &[7; 64]].concat();
        for refused in
            [&compressed, &hybrid, &wrapped(&compressed), &wrapped(&wrapped(&point)), &point[1..].to_vec()]
        {
            assert_eq!(curve.spki(refused), None, "{refused:?}");
        }
        assert_eq!(CURVES[1].spki(&point), None, "a point of another curve");
    }

    #[test]
    fn a_bare_point_that_looks_wrapped_is_a_point_all_the_same() {
        // Its first coordinate begins as the length of an OCTET STRING of all that follows.
        let point = [&[4, 63][..], &[7; 63]].concat();
        assert_eq!(point.len(), 65);
        assert!(<&OctetStringRef>::from_der(&point).is_ok());
        let spki = CURVES[0].spki(&point).unwrap();
        assert!(spki.ends_with(&point));
    }

    #[test]
    fn curves_given_by_their_numbers_or_by_other_names_are_not_guessed_at() {
        for parameters in [&[][..], &[5, 0], &[0x30, 0], &[6, 3, 0x2b, 0x65, 0x70], &[6, 0x7f]] {
            assert_eq!(Curve::of(parameters), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_device_gives_no_bytes_make_it_panic(
            parameters: Vec<u8>,
            point in prop_oneof![
                any::<Vec<u8>>(),
                prop::collection::vec(any::<u8>(), 60..140),
                prop::collection::vec(any::<u8>(), 0..140).prop_map(|point| wrapped(&point)),
            ],
        ) {
            let _ = Curve::of(&parameters);
            for curve in CURVES {
                if let Some(spki) = curve.spki(&point) {
                    // What is made can be read, and holds what was given.
                    let info = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
                    prop_assert!(point.ends_with(info.subject_public_key.as_bytes().unwrap()));
                    let parameters = info.algorithm.parameters.unwrap().to_der().unwrap();
                    prop_assert_eq!(Curve::of(&parameters), Some(*curve));
                }
            }
        }
    }
}
