//! A certificate in the listing, and what is in it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    certificate::{Certificate, date},
    sign::pkcs11::{CertificateDescription, Uri},
};

/// A certificate.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli::keys) struct CertificateEntry {
    /// Names it on its device.
    #[schemars(with = "String")]
    pub(in crate::cli::keys) uri: Uri,
    /// `CKA_LABEL`.
    pub(in crate::cli::keys) label: String,
    /// `CKA_ID`, hexadecimal.
    pub(in crate::cli::keys) id: String,
    /// What is in it; null when it cannot be read.
    pub(in crate::cli::keys) content: Option<Content>,
}

/// What is in a certificate.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli::keys) struct Content {
    /// The whole subject, as text.
    pub(in crate::cli::keys) subject: String,
    /// The whole issuer, as text.
    pub(in crate::cli::keys) issuer: String,
    /// The organisation's name or, where there is none, the common name.
    pub(in crate::cli::keys) organisation: Option<String>,
    /// Norwegian organisation number, when there is one.
    pub(in crate::cli::keys) organisation_number: Option<String>,
    /// What it is for, as text.
    pub(in crate::cli::keys) purpose: String,
    /// First day of its validity (UTC).
    pub(in crate::cli::keys) not_before: String,
    /// Last day of its validity (UTC).
    pub(in crate::cli::keys) not_after: String,
    /// Serial number, hexadecimal.
    pub(in crate::cli::keys) serial_number: String,
    /// SHA-256 over the DER, hexadecimal.
    pub(in crate::cli::keys) fingerprint: String,
}

impl CertificateEntry {
    pub(in crate::cli::keys) fn new(certificate: &CertificateDescription, place: &Uri) -> Self {
        Self {
            uri: certificate.uri.clone().with_query_of(place),
            label: certificate.label.clone(),
            id: certificate.id.clone(),
            content: Certificate::from_der(&certificate.der).ok().map(|it| Content::new(&it)),
        }
    }
}

impl Content {
    pub(in crate::cli::keys) fn new(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            organisation: match certificate.is_ca() {
                true => certificate.common_name(),
                false => certificate.organisation().or(certificate.common_name()),
            }
            .map(str::to_owned),
            organisation_number: certificate.organisation_number().ok().map(|number| number.to_string()),
            purpose: certificate.purpose().to_string(),
            not_before: date(&certificate.not_before()),
            not_after: date(&certificate.not_after()),
            serial_number: certificate.serial_number().to_owned(),
            fingerprint: certificate.fingerprint(),
        }
    }
}
