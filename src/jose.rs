//! Signing side of JOSE: what Maskinporten wants to see in front of, inside and behind the dots.
//!
//! No verification of other people's signatures lives here: the client never needs it, and the sandbox must not
//! share its pupil's notes.

mod algorithm;
mod header;
mod jwk;

pub use self::{
    algorithm::Algorithm,
    header::{Header, KeyReference},
    jwk::{KeyError, PublicJwk, RsaPublicKey},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// `bytes` as base64url without padding (RFC 7515 section 2).
#[must_use]
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes behind unpadded base64url; `None` for anything else.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// JWS signing input (RFC 7515 section 5.1): the encoded header, a dot, the encoded payload.
#[must_use]
pub fn signing_input(encoded_header: &str, payload: &[u8]) -> String {
    let mut input = String::with_capacity(encoded_header.len() + 1 + payload.len().div_ceil(3) * 4);
    input.push_str(encoded_header);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut input);
    input
}

/// JWS compact serialization (RFC 7515 section 7.1) of a signing input and its signature.
#[must_use]
pub fn compact(signing_input: &str, signature: &[u8]) -> String {
    let mut jws = String::with_capacity(signing_input.len() + 1 + signature.len().div_ceil(3) * 4);
    jws.push_str(signing_input);
    jws.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
    jws
}

/// The payload of a compact JWS as JSON, **unverified**: for showing to people and for reading `exp` of a token
/// that is passed on as it is. `None` when `jws` is no compact JWS with a JSON object inside.
#[must_use]
pub fn unverified_payload(jws: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    unverified_part(jws, 1)
}

/// The protected header of a compact JWS as JSON, **unverified**. `None` as for [`unverified_payload`].
#[must_use]
pub fn unverified_header(jws: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    unverified_part(jws, 0)
}

fn unverified_part(jws: &str, part: usize) -> Option<serde_json::Map<String, serde_json::Value>> {
    let parts: Vec<&str> = jws.split('.').collect();
    if parts.len() != 3 {
        return None;
    }
    serde_json::from_slice(&from_base64url(parts.get(part)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_input_is_that_of_rfc_7515_appendix_a_2() {
        let payload = b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
        assert_eq!(
            signing_input(&base64url(br#"{"alg":"RS256"}"#), payload),
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
             cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        );
    }

    #[test]
    fn a_payload_is_read_back_and_anything_else_is_none() {
        let jws = compact(&signing_input(&base64url(b"{}"), br#"{"exp":7}"#), b"sig");
        assert_eq!(unverified_payload(&jws).unwrap()["exp"], 7);
        for odd in ["", "a.b", "a.b.c.d", "e30.bm8.x", "..", "e30.e30"] {
            assert_eq!(unverified_payload(odd), None, "{odd}");
        }
    }
}
