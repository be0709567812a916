use aws_lc_rs::digest::{SHA256, digest};
use pkcs8::{
    der::{self, Decode, Encode, Sequence, asn1::BitStringRef, asn1::UintRef},
    spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef},
};
use serde::Serialize;

use super::{Algorithm, base64url};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Why a public key is none that Maskinporten can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes are no SubjectPublicKeyInfo.
    #[error("the public key cannot be read")]
    Malformed,
    /// Not an RSA key; the object identifier of the algorithm is given.
    #[error("the key is not an RSA key (algorithm {0})")]
    NotRsa(String),
}

/// PKCS#1 `RSAPublicKey` (RFC 8017 appendix A.1.1).
#[derive(Sequence)]
struct Pkcs1<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// An RSA public key: modulus and exponent, big-endian without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RsaPublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaPublicKey {
    /// From modulus and exponent as devices give them: big-endian, leading zeros allowed.
    #[must_use]
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Self {
        let trimmed = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        Self { modulus: trimmed(modulus), exponent: trimmed(exponent) }
    }

    /// From a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    /// [`KeyError`] when the bytes are none, or the key is not RSA.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| KeyError::Malformed)?;
        if info.algorithm.oid != RSA_ENCRYPTION {
            return Err(KeyError::NotRsa(info.algorithm.oid.to_string()));
        }
        let bits = info.subject_public_key.as_bytes().ok_or(KeyError::Malformed)?;
        let key = Pkcs1::from_der(bits).map_err(|_| KeyError::Malformed)?;
        Ok(Self::new(key.modulus.as_bytes(), key.exponent.as_bytes()))
    }

    /// As a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when modulus or exponent is empty.
    pub fn to_spki(&self) -> Result<Vec<u8>, KeyError> {
        self.encode_spki().map_err(|_| KeyError::Malformed)
    }

    fn encode_spki(&self) -> der::Result<Vec<u8>> {
        let key = Pkcs1 { modulus: UintRef::new(&self.modulus)?, exponent: UintRef::new(&self.exponent)? };
        let bits = key.to_der()?;
        SubjectPublicKeyInfoRef {
            algorithm: AlgorithmIdentifierRef { oid: RSA_ENCRYPTION, parameters: Some(der::AnyRef::NULL) },
            subject_public_key: BitStringRef::from_bytes(&bits)?,
        }
        .to_der()
    }

    /// Length of the modulus in bits, which is what people call the key's size.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.modulus.first().map_or(0, |first| self.modulus.len() * 8 - first.leading_zeros() as usize)
    }

    /// Modulus, big-endian.
    #[must_use]
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Public exponent, big-endian.
    #[must_use]
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// JWK thumbprint (RFC 7638): base64url of SHA-256 over the required members.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let canonical = format!(
            r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
            base64url(&self.exponent),
            base64url(&self.modulus)
        );
        base64url(digest(&SHA256, canonical.as_bytes()))
    }
}

/// A public key as Samarbeidsportalen stores it (RFC 7517, with the members its API demands).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicJwk {
    kty: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    kid: String,
    n: String,
    e: String,
}

impl PublicJwk {
    /// `key` under the name `kid`, for signatures with `alg`.
    #[must_use]
    pub fn new(key: &RsaPublicKey, alg: Algorithm, kid: impl Into<String>) -> Self {
        Self {
            kty: "RSA",
            usage: "sig",
            alg: alg.name(),
            kid: kid.into(),
            n: base64url(&key.modulus),
            e: base64url(&key.exponent),
        }
    }

    /// The key's name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::from_base64url;

    const RFC_7638_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L\
         6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY\
         368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr\
         3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn rfc_7638_key() -> RsaPublicKey {
        RsaPublicKey::new(&from_base64url(RFC_7638_N).unwrap(), &from_base64url("AQAB").unwrap())
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638_section_3_1() {
        assert_eq!(rfc_7638_key().thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_key_survives_the_way_through_spki() {
        let key = rfc_7638_key();
        assert_eq!(RsaPublicKey::from_spki(&key.to_spki().unwrap()).unwrap(), key);
        assert_eq!(key.bits(), 2048);
    }

    #[test]
    fn leading_zeros_from_a_device_do_not_change_the_thumbprint() {
        let mut padded = vec![0, 0];
        padded.extend(rfc_7638_key().modulus());
        assert_eq!(RsaPublicKey::new(&padded, &[0, 1, 0, 1]), rfc_7638_key());
    }

    #[test]
    fn an_elliptic_curve_key_is_named_as_such() {
        let spki = hex::decode(
            "3059301306072a8648ce3d020106082a8648ce3d03010703420004\
             6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
             4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        )
        .unwrap();
        assert_eq!(RsaPublicKey::from_spki(&spki), Err(KeyError::NotRsa("1.2.840.10045.2.1".into())));
    }

    #[test]
    fn the_jwk_holds_what_the_self_service_api_demands_and_no_private_member() {
        let jwk = serde_json::to_value(PublicJwk::new(&rfc_7638_key(), Algorithm::RS256, "k")).unwrap();
        let members: Vec<_> = jwk.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
        assert_eq!(jwk["n"], RFC_7638_N);
        assert_eq!(jwk["use"], "sig");
    }
}
