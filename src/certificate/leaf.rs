use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::{certificate::X509Certificate, error::X509Error, prelude::FromDer, time::ASN1Time};

use super::{
    Container, Error, KeyKind, Name, OrganisationIdentifier, OrganisationNumber, Purpose, QcStatements,
    extension::Extensions,
    name::{COMMON_NAME, ORGANISATION, ORGANISATION_IDENTIFIER},
    organisation, pem,
};
use crate::jose::{KeyError, RsaPublicKey};

/// No certificate comes near this; eSeals with long policy texts have some 3 KiB.
pub(super) const LARGEST: usize = 64 * 1024;

/// One X.509 certificate (RFC 5280), read once; nothing in it is taken on trust.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate(Arc<Fields>);

#[derive(PartialEq, Eq)]
struct Fields {
    der: Vec<u8>,
    spki: Vec<u8>,
    subject: Name,
    issuer: Name,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
    key: KeyKind,
    extensions: Extensions,
}

impl Certificate {
    /// Reads one certificate from DER.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 64 KiB, [`Error::Malformed`] for anything but exactly one certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > LARGEST {
            return Err(Error::TooLarge { limit: LARGEST });
        }
        let parsed = parse(der)?;
        let malformed = |why: X509Error| Error::Malformed { problem: why.to_string() };
        Ok(Self(Arc::new(Fields {
            der: der.to_vec(),
            spki: parsed.public_key().raw.to_vec(),
            subject: Name::read(parsed.subject()),
            issuer: Name::read(parsed.issuer()),
            serial: hex::encode(parsed.raw_serial()),
            not_before: system_time(parsed.validity().not_before)?,
            not_after: system_time(parsed.validity().not_after)?,
            key: KeyKind::of(parsed.public_key().raw),
            extensions: Extensions::read(&parsed).map_err(malformed)?,
        })))
    }

    /// The certificate at the beginning of `der`, and what comes behind it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 64 KiB, [`Error::Malformed`] when there is none.
    pub(super) fn first_in(der: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (rest, first) =
            X509Certificate::from_der(der).map_err(|why| Error::Malformed { problem: why.to_string() })?;
        Ok((Self::from_der(first.as_raw())?, rest))
    }

    /// All certificates in what stands in a file, as [`Container::read`] reads it, in the file's order, each once: PEM,
    /// DER, PKCS#7, or PKCS#12 that opens without a password.
    ///
    /// # Errors
    /// Those of [`Container::read`].
    pub fn all_from_file(file: &[u8]) -> Result<Vec<Self>, Error> {
        Container::read(file, &|| Ok(None)).map(|container| container.certificates)
    }

    /// DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// PEM (RFC 7468), with line feeds.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.0.der)
    }

    /// The certified public key.
    ///
    /// # Errors
    /// [`KeyError`] when it is no RSA key.
    pub fn public_key(&self) -> Result<RsaPublicKey, KeyError> {
        RsaPublicKey::from_spki(&self.0.spki)
    }

    /// The certified public key of whatever kind, as DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// To whom it was issued.
    #[must_use]
    pub fn subject(&self) -> &Name {
        &self.0.subject
    }

    /// Who says to have issued it.
    #[must_use]
    pub fn issuer(&self) -> &Name {
        &self.0.issuer
    }

    /// The subject's common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.0.subject.values(COMMON_NAME).next()
    }

    /// The subject's organisation name (O).
    #[must_use]
    pub fn organisation(&self) -> Option<&str> {
        self.0.subject.values(ORGANISATION).next()
    }

    /// The subject's organizationIdentifier (2.5.4.97) as it stands: `NTRNO-991825827` in SEID 2,
    /// `VATSE-556012345601` and the like in eSeals (ETSI EN 319 412-1 section 5.1.4).
    #[must_use]
    pub fn organization_identifier(&self) -> Option<&str> {
        self.0.subject.values(ORGANISATION_IDENTIFIER).next()
    }

    /// The same, read by that section's grammar; `None` when there is none or it has another form.
    #[must_use]
    pub fn identifier(&self) -> Option<OrganisationIdentifier> {
        OrganisationIdentifier::parse(self.organization_identifier()?).ok()
    }

    /// The Norwegian organisation number, looked for where Digdir's validator looks, in its order: `serialNumber`
    /// of nine digits (SEID 1), O that ends in a hyphen and nine digits, organizationIdentifier (SEID 2). Then its
    /// check digit is checked. Where the subject's country or the organizationIdentifier names another country, nine
    /// digits are that country's affair, and there is no Norwegian number.
    ///
    /// # Errors
    /// [`Error::NoOrganisationNumber`] when there is none, as in eSeals from abroad;
    /// [`Error::OrganisationNumber`] when the check digit does not fit.
    pub fn organisation_number(&self) -> Result<OrganisationNumber, Error> {
        let subject = || self.0.subject.to_string();
        let found = organisation::nine_digits(&self.0.subject)
            .ok_or_else(|| Error::NoOrganisationNumber { subject: subject() })?;
        found.parse().map_err(|reason| Error::OrganisationNumber {
            subject: subject(),
            found: found.to_owned(),
            reason,
        })
    }

    /// Whom it is for, as people name a company: `Fiktiv Sjøfart AS (312700018)`. The organisation, else the common name,
    /// else the whole subject, with the Norwegian number or else the identifier, where it has one.
    #[must_use]
    pub fn holder(&self) -> String {
        let name = self.organisation().or(self.common_name());
        let name = name.map_or_else(|| self.0.subject.to_string(), str::to_owned);
        match (self.organisation_number(), self.organization_identifier()) {
            (Ok(number), _) => format!("{name} ({number})"),
            (Err(_), Some(identifier)) => format!("{name} ({identifier})"),
            (Err(_), None) => name,
        }
    }

    /// Serial number, hexadecimal, as encoded.
    #[must_use]
    pub fn serial_number(&self) -> &str {
        &self.0.serial
    }

    /// Start of the validity (wall time).
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.0.not_before
    }

    /// End of the validity (wall time), itself included.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    /// Whether `at` lies within the validity.
    #[must_use]
    pub fn is_valid_at(&self, at: SystemTime) -> bool {
        self.check_validity(at).is_ok()
    }

    /// Checks `at` against the validity.
    ///
    /// # Errors
    /// [`Error::NotYetValid`] or [`Error::Expired`].
    pub fn check_validity(&self, at: SystemTime) -> Result<(), Error> {
        if at < self.0.not_before {
            Err(Error::NotYetValid { subject: self.0.subject.to_string(), from: self.0.not_before })
        } else if at > self.0.not_after {
            Err(Error::Expired { subject: self.0.subject.to_string(), until: self.0.not_after })
        } else {
            Ok(())
        }
    }

    /// What it is for, by key usage.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.0.extensions.purpose
    }

    /// Object identifiers of the extended key usage (RFC 5280 section 4.2.1.12); empty when it is not restricted.
    #[must_use]
    pub fn extended_key_usage(&self) -> &[String] {
        &self.0.extensions.extended_key_usage
    }

    /// Object identifiers of the certificate policies (RFC 5280 section 4.2.1.4).
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.0.extensions.policies
    }

    /// What kind of key it certifies.
    #[must_use]
    pub fn key(&self) -> &KeyKind {
        &self.0.key
    }

    /// The qcStatements (RFC 3739 section 3.2.6), when there are any that can be read.
    #[must_use]
    pub fn qc_statements(&self) -> Option<&QcStatements> {
        self.0.extensions.qc_statements.as_ref()
    }

    /// Object identifiers of the extensions that are marked critical.
    #[must_use]
    pub fn critical_extensions(&self) -> &[String] {
        &self.0.extensions.critical
    }

    /// Where it says that its issuer's certificate can be had (RFC 5280 section 4.2.2.1), as it stands.
    #[must_use]
    pub fn issuer_urls(&self) -> &[String] {
        &self.0.extensions.issuer_urls
    }

    /// Whether it names hosts of the internet, as certificates of servers do.
    #[must_use]
    pub fn names_hosts(&self) -> bool {
        self.0.extensions.names_hosts
    }

    /// Whether it calls itself a certificate authority (basic constraints).
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.extensions.is_ca
    }

    /// Whether issuer and subject are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.0.issuer.matches(&self.0.subject)
    }

    /// Whether its own key verifies its signature.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.is_issued_by(self)
    }

    /// Whether `issuer` has the issuer's name and its key verifies the signature.
    #[must_use]
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        self.0.issuer.matches(&issuer.0.subject)
            && parse(&self.0.der).is_ok_and(|child| {
                parse(&issuer.0.der)
                    .is_ok_and(|parent| child.verify_signature(Some(parent.public_key())).is_ok())
            })
    }

    /// SHA-256 over the DER, hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(digest(&SHA256, &self.0.der))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.0.subject.to_string())
            .field("issuer", &self.0.issuer.to_string())
            .field("serial_number", &self.0.serial)
            .finish_non_exhaustive()
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|why| Error::Malformed { problem: why.to_string() })?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(Error::Malformed { problem: format!("{} bytes follow its end", rest.len()) })
    }
}

fn system_time(time: ASN1Time) -> Result<SystemTime, Error> {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.ok_or_else(|| Error::Malformed { problem: "its validity is out of range".into() })
}

#[cfg(test)]
mod tests;
