//! The extensions of a certificate (RFC 5280 section 4.2) that say something to us.

use x509_parser::{
    certificate::X509Certificate,
    error::X509Error,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{
        OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS, OID_PKIX_AUTHORITY_INFO_ACCESS,
        OID_X509_EXT_CERTIFICATE_POLICIES, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME,
        Oid,
    },
};

use super::{Purpose, QcStatements};

/// RFC 3739 section 3.2.6.
const QC_STATEMENTS: &str = "1.3.6.1.5.5.7.1.3";

/// What the extensions say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) purpose: Purpose,
    pub(super) extended_key_usage: Vec<String>,
    pub(super) policies: Vec<String>,
    pub(super) is_ca: bool,
    /// Object identifiers of those that are marked critical.
    pub(super) critical: Vec<String>,
    /// Where the issuer's certificate is said to be.
    pub(super) issuer_urls: Vec<String>,
    pub(super) qc_statements: Option<QcStatements>,
    /// Whether it names hosts of the internet (subjectAltName).
    pub(super) names_hosts: bool,
}

impl Extensions {
    /// Reads those of `certificate`. What is damaged inside one that only describes counts as not there; what decides
    /// (key usage, basic constraints) must be readable.
    pub(super) fn read(certificate: &X509Certificate<'_>) -> Result<Self, X509Error> {
        let usage = certificate.key_usage()?;
        let basic = certificate.basic_constraints()?;
        let names_hosts = match parsed(certificate, &OID_X509_EXT_SUBJECT_ALT_NAME)? {
            Some(ParsedExtension::SubjectAlternativeName(names)) => {
                names.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(_)))
            }
            _ => false,
        };
        let extensions = certificate.extensions();
        let critical = extensions.iter().filter(|it| it.critical).map(|it| it.oid.to_id_string());
        let statements = extensions.iter().find(|it| it.oid.to_id_string() == QC_STATEMENTS);
        Ok(Self {
            purpose: Purpose::of(usage.map(|found| found.value)),
            extended_key_usage: extended_key_usage(certificate)?,
            policies: policies(certificate)?,
            is_ca: basic.is_some_and(|found| found.value.ca),
            critical: critical.collect(),
            issuer_urls: issuer_urls(certificate)?,
            qc_statements: statements.and_then(|it| QcStatements::read(it.value)),
            names_hosts,
        })
    }
}

fn parsed<'a, 'b>(
    certificate: &'b X509Certificate<'a>,
    id: &Oid<'_>,
) -> Result<Option<&'b ParsedExtension<'a>>, X509Error> {
    Ok(certificate.get_extension_unique(id)?.map(|found| found.parsed_extension()))
}

fn extended_key_usage(certificate: &X509Certificate<'_>) -> Result<Vec<String>, X509Error> {
    let Some(ParsedExtension::ExtendedKeyUsage(usage)) =
        parsed(certificate, &OID_X509_EXT_EXTENDED_KEY_USAGE)?
    else {
        return Ok(Vec::new());
    };
    let known = [
        (usage.any, "2.5.29.37.0"),
        (usage.server_auth, "1.3.6.1.5.5.7.3.1"),
        (usage.client_auth, "1.3.6.1.5.5.7.3.2"),
        (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    Ok(known
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, oid)| oid.to_owned())
        .chain(usage.other.iter().map(|oid| oid.to_id_string()))
        .collect())
}

fn policies(certificate: &X509Certificate<'_>) -> Result<Vec<String>, X509Error> {
    Ok(match parsed(certificate, &OID_X509_EXT_CERTIFICATE_POLICIES)? {
        Some(ParsedExtension::CertificatePolicies(policies)) => {
            policies.iter().map(|policy| policy.policy_id.to_id_string()).collect()
        }
        _ => Vec::new(),
    })
}

/// RFC 5280 section 4.2.2.1.
fn issuer_urls(certificate: &X509Certificate<'_>) -> Result<Vec<String>, X509Error> {
    let Some(ParsedExtension::AuthorityInfoAccess(access)) =
        parsed(certificate, &OID_PKIX_AUTHORITY_INFO_ACCESS)?
    else {
        return Ok(Vec::new());
    };
    let urls = access.iter().filter(|it| it.access_method == OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS);
    Ok(urls
        .filter_map(|it| match &it.access_location {
            GeneralName::URI(url) => Some((*url).to_owned()),
            _ => None,
        })
        .collect())
}
