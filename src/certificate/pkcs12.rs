//! PKCS#12 files (RFC 7292), as issuers deliver a certificate with its key.

use p12_keystore::{Pkcs12Archive, error::Error};
use pkcs8::pkcs5;

/// Why a file does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The password is another one.
    WrongPassword,
    /// It is encrypted in a way that is not supported.
    Encryption,
    /// It is damaged.
    Damaged,
}

/// Whether `file` begins as a PFX does (RFC 7292 section 4): a sequence whose first element is the number 3. Its
/// length may be written in BER's way, without end.
pub(crate) fn is_pkcs12(file: &[u8]) -> bool {
    matches!(
        file,
        [0x30, 0..=0x80, 2, 1, 3, ..]
            | [0x30, 0x81, _, 2, 1, 3, ..]
            | [0x30, 0x82, _, _, 2, 1, 3, ..]
            | [0x30, 0x83, _, _, _, 2, 1, 3, ..]
            | [0x30, 0x84, _, _, _, _, 2, 1, 3, ..]
    )
}

/// What is in it. The reader frees its copies of a decrypted key without wiping them, and there is no way to reach them;
/// the program `segl` wipes whatever is freed.
pub(crate) fn opened(der: &[u8], password: &str) -> Result<Pkcs12Archive, Refused> {
    Pkcs12Archive::from_pkcs12(der, password).map_err(|why| match why {
        Error::MacError(_) | Error::UnpadError => Refused::WrongPassword,
        Error::Pkcs5Error(text) if text == pkcs5::Error::DecryptFailed.to_string() => Refused::WrongPassword,
        Error::Pkcs5Error(_) | Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            Refused::Encryption
        }
        _ => Refused::Damaged,
    })
}
