use std::fmt;

use x509_parser::extensions::KeyUsage;

/// What a certificate of a Norwegian set is for, read from its key usage (RFC 5280 section 4.2.1.3).
///
/// A virksomhetssertifikat is delivered as two or three certificates with one key each; the one for authentication
/// is meant for Maskinporten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// `digitalSignature`.
    Authentication,
    /// `nonRepudiation` (contentCommitment) without `digitalSignature`.
    Signing,
    /// `keyEncipherment`, `dataEncipherment` or `keyAgreement` only.
    Encryption,
    /// Signatures on certificates or revocation lists only.
    Issuing,
    /// There is no key usage extension.
    Unrestricted,
}

impl Purpose {
    pub(super) fn of(usage: Option<&KeyUsage>) -> Self {
        match usage {
            None => Self::Unrestricted,
            Some(usage) if usage.digital_signature() => Self::Authentication,
            Some(usage) if usage.non_repudiation() => Self::Signing,
            Some(usage) if usage.key_encipherment() || usage.data_encipherment() || usage.key_agreement() => {
                Self::Encryption
            }
            Some(_) => Self::Issuing,
        }
    }

    /// How well it suits a grant, more is better; `None` for what cannot prove who signed.
    pub(super) fn suitability(self) -> Option<u8> {
        match self {
            Self::Authentication => Some(3),
            Self::Unrestricted => Some(2),
            Self::Signing => Some(1),
            Self::Encryption | Self::Issuing => None,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authentication => "for authentication",
            Self::Signing => "for signing",
            Self::Encryption => "for encryption",
            Self::Issuing => "for issuing certificates",
            Self::Unrestricted => "for any purpose",
        })
    }
}
