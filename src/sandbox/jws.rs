//! Compact JWS as a verifier reads them. The sandbox's own: what signs the client's grants has no part in it.

use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use crate::jose::{Algorithm, RsaPublicKey, from_base64url};

/// A compact JWS (RFC 7515 section 7.1) with JSON objects in front of and behind the first dot.
pub(super) struct Jws<'a> {
    pub(super) header: Map<String, Value>,
    pub(super) payload: Map<String, Value>,
    signing_input: &'a str,
    signature: &'a str,
}

impl<'a> Jws<'a> {
    /// `None` for anything that is not exactly three parts of unpadded base64url with JSON objects in the
    /// first two.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (signing_input, signature) = text.rsplit_once('.')?;
        let (header, payload) = signing_input.split_once('.')?;
        if payload.contains('.') || signature.is_empty() || from_base64url(signature).is_none() {
            return None;
        }
        Some(Self { header: object(header)?, payload: object(payload)?, signing_input, signature })
    }

    /// Whether `key` made the signature with `algorithm`. Algorithms that are not RSASSA-PKCS1-v1_5 are no.
    pub(super) fn is_signed_by(&self, key: &RsaPublicKey, algorithm: Algorithm) -> bool {
        let algorithm = match algorithm {
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
            Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
            _ => return false,
        };
        let key = DecodingKey::from_rsa_raw_components(key.modulus(), key.exponent());
        jsonwebtoken::crypto::verify(self.signature, self.signing_input.as_bytes(), &key, algorithm)
            .unwrap_or(false)
    }
}

fn object(encoded: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&from_base64url(encoded)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_three_parts_with_two_objects_are_a_jws() {
        assert!(Jws::read("e30.e30.AA").is_some());
        for text in
            ["", "..", "e30.e30", "e30.e30.", "e30.e30.AA.AA", "e30.W10.AA", "e30=.e30.AA", "e30.e30.+/"]
        {
            assert!(Jws::read(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[A-Za-z0-9_.=-]{0,60}") {
            let _ = Jws::read(&text);
        }
    }
}
