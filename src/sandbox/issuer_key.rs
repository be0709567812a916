use std::fmt;

use aws_lc_rs::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{PublicKeyData, RsaKeySize};
use serde_json::{Map, Value, json};

use super::{Error, TestCa, ca, jws::Jws};
use crate::jose::{Algorithm, RsaPublicKey, base64url, compact, signing_input};

/// The key with which an authority signs its tokens: new at each start.
pub(super) struct IssuerKey {
    pair: RsaKeyPair,
    public: RsaPublicKey,
    kid: String,
    chain: Vec<Vec<u8>>,
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl IssuerKey {
    /// A new key; its certificate from `ca` says `name`.
    pub(super) fn generate(ca: &TestCa, name: &str) -> Result<Self, Error> {
        let key = ca::rsa_key(RsaKeySize::_2048)?;
        let public = RsaPublicKey::from_spki(&key.subject_public_key_info())
            .map_err(|_| Error::Crypto("read its own key"))?;
        let pair =
            RsaKeyPair::from_pkcs8(key.serialized_der()).map_err(|_| Error::Crypto("read its own key"))?;
        let chain = ca.issue_for_authority(&key, name)?;
        // 43 characters, as in real tokens.
        let kid = public.thumbprint();
        Ok(Self { pair, public, kid, chain })
    }

    /// A signed token. `None` when the cryptographic library refuses, which it does not for a key it made
    /// itself.
    pub(super) fn sign(&self, header: &Value, claims: &Map<String, Value>) -> Option<String> {
        let header = base64url(serde_json::to_vec(header).ok()?);
        let input = signing_input(&header, &serde_json::to_vec(claims).ok()?);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature).ok()?;
        Some(compact(&input, &signature))
    }

    /// The claims of a token that this key signed; `None` for any other.
    pub(super) fn claims_of(&self, token: &str) -> Option<Map<String, Value>> {
        let jws = Jws::read(token)?;
        let named = jws.header.get("alg")? == "RS256" && jws.header.get("kid")? == self.kid.as_str();
        (named && jws.is_signed_by(&self.public, Algorithm::RS256)).then_some(jws.payload)
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// SHA-1 thumbprint of the certificate (RFC 7515 section 4.1.7), as Altinn's token headers carry it.
    pub(super) fn x5t(&self) -> String {
        let leaf = self.chain.first().map_or(&[][..], Vec::as_slice);
        base64url(digest(&SHA1_FOR_LEGACY_USE_ONLY, leaf))
    }

    /// The public key set (RFC 7517) with its chain.
    pub(super) fn jwks(&self) -> Value {
        let chain: Vec<String> = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        json!({ "keys": [{
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": base64url(self.public.modulus()),
            "e": base64url(self.public.exponent()),
            "x5c": chain,
        }] })
    }
}
