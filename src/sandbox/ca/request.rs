use x509_parser::prelude::{FromDer, X509CertificationRequest, X509Name};

use super::Error;

/// Longest certificate signing request that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// What of a PKCS#10 request goes into a certificate.
pub(super) struct Request {
    /// DER SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
    /// The common name, when it is of a bearable length.
    pub(super) name: Option<String>,
}

impl Request {
    /// Reads PEM or DER, and verifies the request's own signature (RFC 2986 section 4.2).
    pub(super) fn read(csr: &[u8]) -> Result<Self, Error> {
        if csr.len() > LONGEST {
            return Err(Error::Request("is too long"));
        }
        let der = if csr.first() == Some(&0x30) {
            csr.to_vec()
        } else {
            let pem = pem::parse(csr).map_err(|_| Error::Request("is neither PEM nor DER"))?;
            if !["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"].contains(&pem.tag()) {
                return Err(Error::Request("is PEM of something else"));
            }
            pem.into_contents()
        };
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| Error::Request("cannot be read"))?;
        if !rest.is_empty() {
            return Err(Error::Request("has bytes behind its end"));
        }
        request.verify_signature().map_err(|_| Error::Request("is not signed by the key it is for"))?;
        let info = &request.certification_request_info;
        Ok(Self { spki: info.subject_pki.raw.to_vec(), name: common_name(&info.subject) })
    }
}

/// The subject's common name, when there is one of a bearable length (RFC 5280 appendix A.1).
fn common_name(subject: &X509Name<'_>) -> Option<String> {
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let fits = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}
