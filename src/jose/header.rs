use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{Algorithm, base64url};

/// How the verifier finds the key: one of the two, never both, since Maskinporten does not say what both would mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// A key registered on the client, by its `kid` (RFC 7515 section 4.1.4).
    Kid(String),
    /// The certificate chain itself, DER, leaf first (RFC 7515 section 4.1.6).
    X5c(Vec<Vec<u8>>),
}

/// The protected header of a grant. There is no `typ`: it is not in Maskinporten's table of header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Signature algorithm.
    pub alg: Algorithm,
    /// Key reference.
    pub key: KeyReference,
}

#[derive(Serialize)]
struct Wire<'a> {
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x5c: Option<Vec<String>>,
}

impl Header {
    /// The header as it stands before the first dot: base64url of its JSON.
    ///
    /// Certificates are *standard* base64 of DER inside the array, as RFC 7515 section 4.1.6 wants it.
    #[must_use]
    pub fn encode(&self) -> String {
        let (kid, x5c) = match &self.key {
            KeyReference::Kid(kid) => (Some(kid.as_str()), None),
            KeyReference::X5c(chain) => (None, Some(chain.iter().map(|der| STANDARD.encode(der)).collect())),
        };
        // Strings and arrays of strings always serialize.
        base64url(serde_json::to_vec(&Wire { alg: self.alg.name(), kid, x5c }).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::from_base64url;

    fn decoded(header: &Header) -> serde_json::Value {
        serde_json::from_slice(&from_base64url(&header.encode()).unwrap()).unwrap()
    }

    #[test]
    fn a_registered_key_is_named_by_kid_and_by_nothing_else() {
        let header = Header { alg: Algorithm::RS256, key: KeyReference::Kid("k-1".into()) };
        assert_eq!(decoded(&header), serde_json::json!({"alg": "RS256", "kid": "k-1"}));
    }

    #[test]
    fn a_chain_is_an_array_of_standard_base64_leaf_first() {
        let header =
            Header { alg: Algorithm::RS512, key: KeyReference::X5c(vec![vec![0xfb, 0xff], vec![0x30]]) };
        assert_eq!(decoded(&header), serde_json::json!({"alg": "RS512", "x5c": ["+/8=", "MA=="]}));
    }
}
