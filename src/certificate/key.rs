use std::fmt;

use pkcs8::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::jose::RsaPublicKey;

/// What kind of key a certificate certifies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// RSA, with the length of its modulus in bits.
    Rsa(usize),
    /// RSA that may be used for PSS signatures only (RFC 4055 section 1.2).
    RsaPss,
    /// On an elliptic curve, by the curve's name or object identifier.
    EllipticCurve(String),
    /// Ed25519 or Ed448 (RFC 8410).
    Edwards,
    /// Another algorithm, by its object identifier.
    Other(String),
    /// What should be a key cannot be read.
    Unreadable,
}

/// The shortest modulus that Maskinporten takes, in bits.
const SHORTEST: usize = 2048;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const ED448: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.113");

impl KeyKind {
    /// The kind of a DER SubjectPublicKeyInfo.
    pub(super) fn of(spki: &[u8]) -> Self {
        let Ok(info) = SubjectPublicKeyInfoRef::try_from(spki) else { return Self::Unreadable };
        match info.algorithm.oid {
            RSA => RsaPublicKey::from_spki(spki).map_or(Self::Unreadable, |key| Self::Rsa(key.bits())),
            RSA_PSS => Self::RsaPss,
            ELLIPTIC_CURVE => {
                let curve = info.algorithm.parameters_oid();
                Self::EllipticCurve(curve.map_or_else(|_| "a curve without a name".into(), curve_name))
            }
            ED25519 | ED448 => Self::Edwards,
            other => Self::Other(other.to_string()),
        }
    }

    /// Whether Maskinporten takes its signatures: it knows RS256, RS384 and RS512 only (Digdir, jwtgrant).
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Rsa(bits) if *bits >= SHORTEST)
    }
}

fn curve_name(curve: ObjectIdentifier) -> String {
    match curve.to_string().as_str() {
        "1.2.840.10045.3.1.7" => "P-256".into(),
        "1.3.132.0.34" => "P-384".into(),
        "1.3.132.0.35" => "P-521".into(),
        other => other.to_owned(),
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA, {bits} bits"),
            Self::RsaPss => f.write_str("RSA for PSS signatures only"),
            Self::EllipticCurve(curve) => write!(f, "elliptic curve {curve}"),
            Self::Edwards => f.write_str("Edwards curve"),
            Self::Other(algorithm) => write!(f, "algorithm {algorithm}"),
            Self::Unreadable => f.write_str("a key that cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData};

    use super::*;
    use crate::certificate::sample::Pair;

    #[test]
    fn rsa_of_2048_bits_is_taken_and_nothing_else_is() {
        let rsa = KeyKind::of(&Pair::shared()[0].public_key().to_spki().unwrap());
        assert_eq!((rsa.is_taken(), rsa.to_string().as_str()), (true, "RSA, 2048 bits"));
        assert!(!KeyKind::Rsa(2047).is_taken() && KeyKind::Rsa(4096).is_taken());
        for (algorithm, shown) in
            [(&PKCS_ECDSA_P384_SHA384, "elliptic curve P-384"), (&PKCS_ED25519, "Edwards curve")]
        {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            let kind = KeyKind::of(&pair.subject_public_key_info());
            assert_eq!((kind.is_taken(), kind.to_string().as_str()), (false, shown));
        }
    }

    #[test]
    fn bytes_that_are_no_key_are_unreadable() {
        for bytes in [&[][..], &[0x30, 0], &[0x30, 3, 2, 1, 1]] {
            assert_eq!(KeyKind::of(bytes), KeyKind::Unreadable);
        }
    }
}
