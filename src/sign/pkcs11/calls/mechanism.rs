//! Mechanisms (`CKM_…`): those that sign, and the names of all.

use cryptoki::mechanism::MechanismType;

/// A mechanism without parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
#[allow(clippy::enum_variant_names, reason = "the standard's names")]
pub(in super::super) enum Mechanism {
    /// `CKM_RSA_PKCS`: PKCS#1 v1.5 padding around what is given.
    RsaPkcs = 0x01,
    /// `CKM_SHA256_RSA_PKCS`
    Sha256RsaPkcs = 0x40,
    /// `CKM_SHA384_RSA_PKCS`
    Sha384RsaPkcs = 0x41,
    /// `CKM_SHA512_RSA_PKCS`
    Sha512RsaPkcs = 0x42,
}

impl Mechanism {
    /// Its number.
    pub(in super::super) fn number(self) -> u64 {
        self as u64
    }
}

/// The standard's name of a mechanism; its number in hexadecimal for a vendor's own.
pub(in super::super) fn name(number: u64) -> String {
    match MechanismType::try_from(number) {
        Ok(known) => known.to_string(),
        Err(_) => format!("{number:#010x}"),
    }
}

/// `CKM_RSA_PKCS_KEY_PAIR_GEN`
pub(super) const RSA_PKCS_KEY_PAIR_GEN: u64 = 0x00;
