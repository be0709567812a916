//! RSA in software, by aws-lc-rs. Every signature is verified before it is handed out.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeyPairComponents},
    signature::{
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaParameters,
        RsaPublicKeyComponents,
    },
};
use der::{Decode, Sequence, asn1::UintRef};

use crate::{
    jose::{Algorithm, RsaPublicKey},
    sign::verify,
};

/// PKCS#1 `RSAPrivateKey` (RFC 8017 appendix A.1.2) of two primes; borrowed, so that nothing is copied.
#[derive(Sequence)]
pub(super) struct PrivateKey<'a> {
    pub(super) version: u8,
    pub(super) modulus: UintRef<'a>,
    pub(super) public_exponent: UintRef<'a>,
    pub(super) private_exponent: UintRef<'a>,
    pub(super) prime_1: UintRef<'a>,
    pub(super) prime_2: UintRef<'a>,
    pub(super) exponent_1: UintRef<'a>,
    pub(super) exponent_2: UintRef<'a>,
    pub(super) coefficient: UintRef<'a>,
}

/// How a JWS algorithm is made and checked.
#[derive(Clone, Copy)]
pub(super) struct Mechanism {
    encoding: &'static dyn RsaEncoding,
    verification: &'static RsaParameters,
}

/// `None` for algorithms that Maskinporten does not take.
pub(super) fn mechanism(algorithm: Algorithm) -> Option<Mechanism> {
    let encoding: &dyn RsaEncoding = match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_SHA512,
        _ => return None,
    };
    Some(Mechanism { encoding, verification: verify::parameters(algorithm)? })
}

/// Why numbers make no key for us.
#[derive(Debug)]
pub(super) struct Unusable(pub(super) String);

/// A key pair that has passed every check; aws-lc wipes its memory when it goes.
pub(super) struct Rsa {
    pair: KeyPair,
    public_key: RsaPublicKey,
}

impl Rsa {
    /// From PKCS#1 DER.
    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, Unusable> {
        let key = PrivateKey::from_der(der)
            .map_err(|_| Unusable("it is no RSA private key of two primes that can be read".into()))?;
        check_size(key.modulus.as_bytes())?;
        Self::from_pair(KeyPair::from_der(der))
    }

    /// From the numbers of a JWK.
    pub(super) fn from_components<P: AsRef<[u8]>>(
        key: &KeyPairComponents<&[u8], P>,
    ) -> Result<Self, Unusable> {
        check_size(key.public_key.n)?;
        Self::from_pair(KeyPair::from_components(key))
    }

    fn from_pair<E>(pair: Result<KeyPair, E>) -> Result<Self, Unusable> {
        let inconsistent = || Unusable("its numbers do not fit together".into());
        let pair = pair.map_err(|_| inconsistent())?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| inconsistent())?;
        let public_key = RsaPublicKey::from_spki(spki.as_ref()).map_err(|_| inconsistent())?;
        Ok(Self { pair, public_key })
    }

    pub(super) fn public_key(&self) -> &RsaPublicKey {
        &self.public_key
    }

    /// PKCS#1 v1.5 signature of `message`; `None` when there is none that verifies.
    pub(super) fn sign(&self, mechanism: Mechanism, message: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(mechanism.encoding, &SystemRandom::new(), message, &mut signature).ok()?;
        let public = RsaPublicKeyComponents { n: self.public_key.modulus(), e: self.public_key.exponent() };
        public.verify(mechanism.verification, message, &signature).ok()?;
        Some(signature)
    }
}

fn check_size(modulus: &[u8]) -> Result<(), Unusable> {
    let bits = RsaPublicKey::new(modulus, &[]).bits();
    let reason = match bits {
        0..2048 => format!("it has {bits} bits; Maskinporten wants 2048 or more"),
        2048..=8192 => return Ok(()),
        _ => format!("it has {bits} bits; 8192 is the most that is supported"),
    };
    Err(Unusable(reason))
}
