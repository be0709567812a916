use std::fmt;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use crate::jose::{Algorithm, RsaPublicKey, base64url, from_base64url};

/// A public key of a client's JWKS.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Jwk")]
pub(in crate::sandbox) struct RegisteredKey {
    pub(in crate::sandbox) kid: String,
    pub(in crate::sandbox) algorithm: Option<Algorithm>,
    pub(in crate::sandbox) key: RsaPublicKey,
    pub(in crate::sandbox) expires: Option<u64>,
    /// Whether it says `use`.
    pub(in crate::sandbox) has_use: bool,
}

/// As a JWK (RFC 7517).
impl Serialize for RegisteredKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut jwk = to.serialize_map(None)?;
        jwk.serialize_entry("kty", "RSA")?;
        if self.has_use {
            jwk.serialize_entry("use", "sig")?;
        }
        if let Some(algorithm) = self.algorithm {
            jwk.serialize_entry("alg", &algorithm.to_string())?;
        }
        jwk.serialize_entry("kid", &self.kid)?;
        jwk.serialize_entry("n", &base64url(self.key.modulus()))?;
        jwk.serialize_entry("e", &base64url(self.key.exponent()))?;
        if let Some(expires) = self.expires {
            jwk.serialize_entry("exp", &expires)?;
        }
        jwk.end()
    }
}

/// The members that Samarbeidsportalen knows; a private one is unknown, and refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: String,
    n: String,
    e: String,
    exp: Option<u64>,
}

impl RegisteredKey {
    pub(in crate::sandbox) fn new(
        kid: &str,
        key: RsaPublicKey,
        algorithm: Option<Algorithm>,
        expires: Option<u64>,
    ) -> Result<Self, KeyRefusal> {
        let spelt = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if !(1..=255).contains(&kid.len()) || !kid.chars().all(spelt) {
            return Err(KeyRefusal("its kid holds something else than letters, digits, '.', '_' and '-'"));
        }
        if !(2048..=8192).contains(&key.bits()) {
            return Err(KeyRefusal("it is not an RSA key of 2048 to 8192 bits"));
        }
        Ok(Self { kid: kid.to_owned(), algorithm, key, expires, has_use: true })
    }
}

/// Why a JWK cannot be registered.
#[derive(Debug)]
pub(in crate::sandbox) struct KeyRefusal(pub(in crate::sandbox) &'static str);

impl fmt::Display for KeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl TryFrom<Jwk> for RegisteredKey {
    type Error = KeyRefusal;

    fn try_from(jwk: Jwk) -> Result<Self, KeyRefusal> {
        if jwk.kty != "RSA" {
            return Err(KeyRefusal("its kty is not RSA"));
        }
        let has_use = jwk.usage.is_some();
        if jwk.usage.is_some_and(|usage| usage != "sig") {
            return Err(KeyRefusal("its use is not sig"));
        }
        let algorithm = match jwk.alg.as_deref().map(str::parse::<Algorithm>) {
            None => None,
            Some(Ok(algorithm)) if algorithm.accepted_by_maskinporten() => Some(algorithm),
            Some(_) => return Err(KeyRefusal("its alg is none of RS256, RS384, RS512")),
        };
        let (Some(n), Some(e)) = (from_base64url(&jwk.n), from_base64url(&jwk.e)) else {
            return Err(KeyRefusal("its n or e is not base64url"));
        };
        let key = Self::new(&jwk.kid, RsaPublicKey::new(&n, &e), algorithm, jwk.exp)?;
        Ok(Self { has_use, ..key })
    }
}
