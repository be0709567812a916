//! Key files of every format, for tests.

use der::{Decode, Encode, asn1::UintRef};
use pkcs8::{PrivateKeyInfoRef, pkcs5::pbes2};

use super::rsa::PrivateKey;
use crate::{
    certificate::{self, sample::Pair},
    jose::base64url,
};

pub(super) fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    certificate::pem::encode(label, der).into_bytes()
}

pub(super) fn pkcs1(pair: &Pair) -> Vec<u8> {
    PrivateKeyInfoRef::try_from(pair.pkcs8()).unwrap().private_key.as_bytes().to_vec()
}

/// The form of a key of so many bits, with nothing behind it.
pub(super) fn hollow_pkcs1(bits: usize) -> Vec<u8> {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] >>= bits.next_multiple_of(8) - bits;
    let one = || UintRef::new(&[1]).unwrap();
    let key = PrivateKey {
        version: 0,
        modulus: UintRef::new(&modulus).unwrap(),
        public_exponent: UintRef::new(&[1, 0, 1]).unwrap(),
        private_exponent: one(),
        prime_1: one(),
        prime_2: one(),
        exponent_1: one(),
        exponent_2: one(),
        coefficient: one(),
    };
    key.to_der().unwrap()
}

pub(super) fn jwk(pair: &Pair) -> serde_json::Value {
    let der = pkcs1(pair);
    let key = PrivateKey::from_der(&der).unwrap();
    let number = |number: UintRef<'_>| base64url(number.as_bytes());
    serde_json::json!({
        "kty": "RSA",
        "n": number(key.modulus),
        "e": number(key.public_exponent),
        "d": number(key.private_exponent),
        "p": number(key.prime_1),
        "q": number(key.prime_2),
        "dp": number(key.exponent_1),
        "dq": number(key.exponent_2),
        "qi": number(key.coefficient),
    })
}

pub(super) fn encrypted(pair: &Pair, password: &str) -> Vec<u8> {
    encrypted_with(pair, password, 2048)
}

/// The count is written over the one that was used, so that a high one costs nothing.
pub(super) fn encrypted_with(pair: &Pair, password: &str, iterations: u32) -> Vec<u8> {
    let mut parameters =
        pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(2048, &[7; 16], [9; 16]).unwrap();
    let ciphertext = parameters.encrypt(password, pair.pkcs8()).unwrap();
    if let pbes2::Kdf::Pbkdf2(pbkdf2) = &mut parameters.kdf {
        pbkdf2.iteration_count = iterations;
    }
    let info = pkcs8::EncryptedPrivateKeyInfoRef {
        encryption_algorithm: parameters.into(),
        encrypted_data: der::asn1::OctetStringRef::new(&ciphertext).unwrap(),
    };
    info.to_der().unwrap()
}
