//! Certificates as Norway uses them: leaf, chain, organisation number, purpose, validity.

mod organisation;

pub use self::organisation::{NotAnOrganisationNumber, OrganisationNumber};

use crate::jose::{KeyError, RsaPublicKey};

/// One certificate (skeleton: parsed fields come with the room's own work).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    spki: Vec<u8>,
}

impl Certificate {
    /// DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certified public key.
    ///
    /// # Errors
    /// [`KeyError`] when it is no RSA key.
    pub fn public_key(&self) -> Result<RsaPublicKey, KeyError> {
        RsaPublicKey::from_spki(&self.spki)
    }

    /// Whether issuer and subject are the same.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        false
    }
}

/// A chain: the leaf first, each certificate's signature verified with the next one's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    leaf: Certificate,
    issuers: Vec<Certificate>,
}

impl Chain {
    /// The end-entity certificate.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// DER of the chain, leaf first; with `root`, a self-signed end goes along.
    #[must_use]
    pub fn to_der(&self, root: bool) -> Vec<Vec<u8>> {
        std::iter::once(&self.leaf)
            .chain(self.issuers.iter().filter(|issuer| root || !issuer.is_self_issued()))
            .map(|certificate| certificate.der.clone())
            .collect()
    }
}
