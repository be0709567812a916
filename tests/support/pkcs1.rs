//! The numbers of an RSA private key.

#![allow(dead_code, reason = "each test binary uses its own part")]

use der::{Sequence, asn1::UintRef};

/// PKCS#1 `RSAPrivateKey` (RFC 8017 appendix A.1.2): public numbers first.
#[derive(Sequence)]
pub(crate) struct Numbers<'a> {
    version: u8,
    pub(crate) modulus: UintRef<'a>,
    pub(crate) public_exponent: UintRef<'a>,
    pub(crate) private_exponent: UintRef<'a>,
    pub(crate) prime_1: UintRef<'a>,
    pub(crate) prime_2: UintRef<'a>,
    pub(crate) exponent_1: UintRef<'a>,
    pub(crate) exponent_2: UintRef<'a>,
    pub(crate) coefficient: UintRef<'a>,
}

impl Numbers<'_> {
    /// The private ones, by their names in a JWK (RFC 7518 section 6.3.2).
    pub(crate) fn private(&self) -> [(&'static str, &[u8]); 6] {
        [
            ("d", self.private_exponent.as_bytes()),
            ("p", self.prime_1.as_bytes()),
            ("q", self.prime_2.as_bytes()),
            ("dp", self.exponent_1.as_bytes()),
            ("dq", self.exponent_2.as_bytes()),
            ("qi", self.coefficient.as_bytes()),
        ]
    }
}
