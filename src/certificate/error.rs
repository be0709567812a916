use std::time::SystemTime;

use time::{OffsetDateTime, macros::format_description};

use super::{NotAnOrganisationNumber, Purpose};

/// Why a certificate or a chain cannot be used.
///
/// `Display` says what happened, [`remedy`](Self::remedy) what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More bytes than any certificate, or file of certificates, has.
    #[error("there are more than {limit} bytes")]
    TooLarge {
        /// The most that is read, in bytes.
        limit: usize,
    },
    /// More certificates than any chain needs.
    #[error("there are more than {limit} certificates")]
    TooMany {
        /// The most that are read.
        limit: usize,
    },
    /// The bytes are no X.509 certificate (RFC 5280).
    #[error("the certificate cannot be read: {problem}")]
    Malformed {
        /// Where the reading ended.
        problem: String,
    },
    /// The text armour is damaged (RFC 7468).
    #[error("the PEM text cannot be read: {problem}")]
    Pem {
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing in the file is a certificate.
    #[error("no certificate was found{}", listed("what is there instead", found))]
    NoCertificate {
        /// PEM labels of what was found.
        found: Vec<String>,
    },
    /// A PKCS#12 file wants a password, and there is none.
    #[error("the file is protected by a password, and none was given")]
    NoPassword,
    /// The password cannot be had.
    #[error("the password cannot be had: {0}")]
    PasswordSource(String),
    /// The password does not open the file.
    #[error("the password does not open the file")]
    WrongPassword,
    /// A PKCS#12 file is encrypted in a way that is not supported.
    #[error("the file is encrypted in a way that is not supported")]
    Encryption,
    /// No certificate was issued for the key.
    #[error("no certificate belongs to the key {key}{}", listed("seen", subjects))]
    NoMatch {
        /// RFC 7638 thumbprint of the key.
        key: String,
        /// Subjects of the certificates that were looked at.
        subjects: Vec<String>,
    },
    /// More than one certificate could be the leaf, and they are for different keys.
    #[error("more than one certificate could be meant{}", listed("candidates", subjects))]
    Ambiguous {
        /// Their subjects.
        subjects: Vec<String>,
    },
    /// The only certificate of the key is for something else than signatures.
    #[error("the certificate of {subject} is {purpose}, so it cannot prove who signed")]
    WrongPurpose {
        /// Its subject.
        subject: String,
        /// What it is for.
        purpose: Purpose,
    },
    /// The validity of a certificate has not begun.
    #[error("the certificate of {subject} is not valid before {}", day(from))]
    NotYetValid {
        /// Its subject.
        subject: String,
        /// When its validity begins.
        from: SystemTime,
    },
    /// The validity of a certificate has ended.
    #[error("the certificate of {subject} expired on {}", day(until))]
    Expired {
        /// Its subject.
        subject: String,
        /// When its validity ended.
        until: SystemTime,
    },
    /// No organisation number stands where one is looked for.
    #[error("the certificate of {subject} names no Norwegian organisation number")]
    NoOrganisationNumber {
        /// Its subject.
        subject: String,
    },
    /// What stands there is no organisation number.
    #[error("the certificate of {subject} names {found} as organisation number: {reason}")]
    OrganisationNumber {
        /// Its subject.
        subject: String,
        /// The nine digits found.
        found: String,
        /// What is wrong with them.
        reason: NotAnOrganisationNumber,
    },
}

impl Error {
    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::TooMany { .. } => {
                "Keep only the certificate of the key and those of its issuers."
            }
            Self::Malformed { .. } | Self::Pem { .. } => "Get the file anew from the issuer, as PEM.",
            Self::NoCertificate { .. } => {
                "Give a file of certificates: PEM with BEGIN CERTIFICATE blocks, DER, .p7b or .p12."
            }
            Self::NoPassword => {
                "Give the password that was sent apart from the file, or take the certificates out of it as PEM."
            }
            Self::PasswordSource(_) => "See that the place of the password can be read.",
            Self::WrongPassword => "Use the password that was sent apart from the file.",
            Self::Encryption => {
                "Export it anew with: openssl pkcs12 -in OLD -nodes | openssl pkcs12 -export -out NEW"
            }
            Self::NoMatch { .. } => "Use the certificate that was issued for this key.",
            Self::Ambiguous { .. } => "Leave only one of them and its issuers in the file.",
            Self::WrongPurpose { .. } => {
                "Use the authentication certificate of the set (key usage digitalSignature)."
            }
            Self::NotYetValid { .. } => {
                "Check the clock of this machine, or wait until the certificate begins."
            }
            Self::Expired { .. } => "Order a new certificate from the issuer and register it.",
            Self::NoOrganisationNumber { .. } | Self::OrganisationNumber { .. } => {
                "Use a virksomhetssertifikat from Buypass or Commfides, issued to the organisation."
            }
        }
    }
}

/// `at` as a day (UTC); empty outside the calendar.
pub(crate) fn date(at: &SystemTime) -> String {
    // A conversion that leaves the calendar would panic.
    let seconds = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()),
        Err(before) => i64::try_from(before.duration().as_secs()).map(|seconds| -seconds),
    };
    let date = seconds.ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    date.and_then(|date| date.format(format_description!("[year]-[month]-[day]")).ok()).unwrap_or_default()
}

fn day(at: &SystemTime) -> String {
    OffsetDateTime::from(*at)
        .format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))
        .unwrap_or_default()
}

fn listed(word: &str, items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!("; {word}: {}", items.join(" | ")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::certificate::sample::today;

    #[test]
    fn days_at_the_ends_of_time_do_not_panic() {
        let far = Duration::from_secs(1 << 62);
        let ends = [SystemTime::UNIX_EPOCH.checked_add(far), SystemTime::UNIX_EPOCH.checked_sub(far)];
        for at in ends.into_iter().flatten() {
            assert_eq!(date(&at), "");
        }
        assert_eq!(date(&today()), "2026-11-21");
    }
}
