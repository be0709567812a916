use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters,
};

use super::Error;
use crate::jose::Algorithm;

/// How a signature is verified before it leaves, whoever made it: PKCS#1 v1.5 by a key of 2048 to 8192 bits (RFC 7518
/// section 3.3). `None` for algorithms that Maskinporten does not take.
pub(super) fn parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

/// A public key (DER SubjectPublicKeyInfo) made ready once to verify many signatures.
pub(super) fn verifier(algorithm: Algorithm, spki: &[u8]) -> Result<ParsedPublicKey, Error> {
    let parameters = parameters(algorithm).ok_or(Error::Algorithm(algorithm))?;
    ParsedPublicKey::new(parameters, spki).map_err(|_| Error::UnusableKey {
        key: "on the device".into(),
        reason: "its public key is none that can be verified with".into(),
    })
}
