//! The test CA: a root, an issuing CA below it, and certificates like those of a Norwegian enterprise.

mod profile;

pub use self::profile::Profile;
pub(super) use self::profile::TEST_POLICY;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize, SerialNumber, SubjectPublicKeyInfo,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509CertificationRequest, X509Name};

use super::{
    Error,
    ca_file::{self, Stored},
    organisation,
};
use crate::{
    clock::{Clock, SystemClock},
    jose::RsaPublicKey,
};

const ROOT_NAME: &str = "Segl Sandbox Test Root CA";
const ISSUING_NAME: &str = "Segl Sandbox Test CA";
const CA_ORGANISATION: &str = "Segl Sandbox (not a real issuer)";
const HOLDER_NAME: &str = "SEGL SANDBOX TEST";

/// Norwegian enterprise certificates live three years.
const LIFE: Duration = Duration::from_secs(3 * 365 * 24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest certificate signing request that is read, in bytes.
const LONGEST_REQUEST: usize = 16 * 1024;

/// A certification authority that nobody trusts but the sandbox.
///
/// Cheap to clone; the clones are one authority. Only the issuing CA's key is kept: the root's is thrown away
/// as soon as the issuing CA is there.
#[derive(Clone, Debug)]
pub struct TestCa {
    stored: Arc<Stored>,
    clock: Arc<dyn Clock>,
}

/// A certificate that was issued, and what is above it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// The certificate itself, DER.
    pub leaf: Vec<u8>,
    /// The issuing CA's certificate, DER.
    pub issuing: Vec<u8>,
    /// The root's certificate, DER.
    pub root: Vec<u8>,
}

impl Issued {
    /// Leaf and issuing CA as an `x5c` header wants them: DER, leaf first, without the root.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        vec![self.leaf.clone(), self.issuing.clone()]
    }

    /// The leaf as PEM.
    #[must_use]
    pub fn leaf_pem(&self) -> String {
        certificate_pem(&self.leaf)
    }

    /// Leaf and issuing CA as PEM, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain().iter().map(|der| certificate_pem(der)).collect()
    }

    /// The root as PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        certificate_pem(&self.root)
    }
}

impl TestCa {
    /// A test CA that is gone when it is dropped.
    ///
    /// # Errors
    /// [`Error::Crypto`] when no keys can be made.
    pub fn ephemeral() -> Result<Self, Error> {
        Ok(Self { stored: Arc::new(create()?), clock: SystemClock::shared() })
    }

    /// The test CA of `state_dir`; made there when there is none. No running sandbox is needed.
    ///
    /// The directory is made with mode 0700 and the one file in it, `segl-sandbox-ca.pem` (key, issuing CA,
    /// root), with mode 0600. Two programs that start at once end up with the same CA.
    ///
    /// # Errors
    /// [`Error::State`] and [`Error::Io`] when directory or file are not usable, or open to others;
    /// [`Error::RealIssuer`] when a certificate of a real issuer lies there.
    pub fn open_or_create(state_dir: &Path) -> Result<Self, Error> {
        let stored = match ca_file::load(state_dir)? {
            Some(stored) => stored,
            None => ca_file::store(state_dir, create()?)?,
        };
        Ok(Self { stored: Arc::new(stored), clock: SystemClock::shared() })
    }

    /// The same authority, with the validity of what it issues counted from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The issuing CA's certificate, DER.
    #[must_use]
    pub fn issuing(&self) -> &[u8] {
        &self.stored.issuing
    }

    /// The root's certificate, DER.
    #[must_use]
    pub fn root(&self) -> &[u8] {
        &self.stored.root
    }

    /// An enterprise certificate for authentication ([`Profile::Seid2`]) from a PKCS#10 request, PEM or DER.
    ///
    /// The request's own signature is verified (RFC 2986 section 4.2). Of its subject only the common name is
    /// taken over; the organisation number is that of the caller, as a real issuer takes it from the
    /// register.
    ///
    /// # Errors
    /// [`Error::Request`] when the request cannot be read, its signature is wrong, or its key is not RSA of
    /// 2048 bits or more;
    /// [`Error::OrganisationNumber`] when `orgno` is none.
    pub fn issue_from_csr(&self, csr: &[u8], orgno: &str) -> Result<Issued, Error> {
        if csr.len() > LONGEST_REQUEST {
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
        let name = common_name(&info.subject).unwrap_or_else(|| HOLDER_NAME.into());
        self.issue(info.subject_pki.raw, orgno, &name, Profile::Seid2, None)
    }

    /// A certificate of any profile for a public key (DER SubjectPublicKeyInfo): for tests that need a wrong
    /// one.
    ///
    /// # Errors
    /// As [`issue_from_csr`](Self::issue_from_csr).
    pub fn issue_for(&self, spki: &[u8], orgno: &str, profile: Profile) -> Result<Issued, Error> {
        self.issue(spki, orgno, HOLDER_NAME, profile, None)
    }

    /// A virksomhetssertifikat that begins after `previous` does: of two for one key, the newer is used, and
    /// certificates know whole seconds only.
    ///
    /// # Errors
    /// As [`issue_from_csr`](Self::issue_from_csr).
    pub fn issue_after(&self, previous: SystemTime, spki: &[u8], orgno: &str) -> Result<Issued, Error> {
        self.issue(spki, orgno, HOLDER_NAME, Profile::Seid2, Some(previous))
    }

    fn issue(
        &self,
        spki: &[u8],
        orgno: &str,
        name: &str,
        profile: Profile,
        previous: Option<SystemTime>,
    ) -> Result<Issued, Error> {
        if !organisation::is_number(orgno) {
            return Err(Error::OrganisationNumber(orgno.into()));
        }
        let key = RsaPublicKey::from_spki(spki).map_err(|_| Error::Request("is not for an RSA key"))?;
        if key.bits() < 2048 {
            return Err(Error::Request("is for an RSA key of less than 2048 bits"));
        }
        let public_key = SubjectPublicKeyInfo::from_der(spki)
            .map_err(|_| Error::Request("is for a key that cannot be read"))?;
        let mut params = profile.params(orgno, name)?;
        let now = self.clock.wall();
        let (from, to) = match profile {
            Profile::Expired => (now - LIFE, now - DAY),
            Profile::NotYetValid => (now + DAY, now + LIFE),
            _ => (now - Duration::from_secs(60), now + LIFE),
        };
        let from = previous.map_or(from, |previous| from.max(previous + Duration::from_secs(1)));
        params.not_before = OffsetDateTime::from(from);
        params.not_after = OffsetDateTime::from(to);
        Ok(Issued {
            leaf: self.sign(&params, &public_key)?,
            issuing: self.stored.issuing.clone(),
            root: self.stored.root.clone(),
        })
    }

    /// A certificate for one of the sandbox's own signing keys, with the issuing CA behind it.
    pub(super) fn issue_for_authority(&self, key: &KeyPair, name: &str) -> Result<Vec<Vec<u8>>, Error> {
        let mut params = ca_params(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(vec![self.sign(&params, key)?, self.stored.issuing.clone()])
    }

    fn sign(&self, params: &CertificateParams, key: &impl rcgen::PublicKeyData) -> Result<Vec<u8>, Error> {
        let issuer = Issuer::from_ca_cert_der(&self.stored.issuing.as_slice().into(), &self.stored.key)
            .map_err(|_| Error::Crypto("read its own test CA"))?;
        let certificate =
            params.signed_by(key, &issuer).map_err(|_| Error::Crypto("sign a test certificate"))?;
        Ok(certificate.der().to_vec())
    }
}

fn create() -> Result<Stored, Error> {
    let failed = |_| Error::Crypto("make a test CA");
    let (root_key, key) = (rsa_key(RsaKeySize::_3072)?, rsa_key(RsaKeySize::_3072)?);
    let mut root = ca_params(ROOT_NAME);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).map_err(failed)?;
    let mut issuing = ca_params(ISSUING_NAME);
    issuing.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let issuing_certificate = issuing.signed_by(&key, &Issuer::new(root, &root_key)).map_err(failed)?;
    Ok(Stored { key, issuing: issuing_certificate.der().to_vec(), root: root_certificate.der().to_vec() })
}

/// A new RSA key for signatures with SHA-256.
pub(super) fn rsa_key(size: RsaKeySize) -> Result<KeyPair, Error> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).map_err(|_| Error::Crypto("make an RSA key"))
}

/// The CA's own certificates are valid over all times that a handed-in clock may show.
fn ca_params(name: &str) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, CA_ORGANISATION);
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 12, 31);
    params.serial_number = Some(serial_number());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// 122 random bits, positive (RFC 5280 section 4.1.2.2).
fn serial_number() -> SerialNumber {
    let mut bytes = uuid::Uuid::new_v4().into_bytes();
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

/// The subject's common name, when there is one of a bearable length (RFC 5280 appendix A.1).
fn common_name(subject: &X509Name<'_>) -> Option<String> {
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let fits = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}

fn certificate_pem(der: &[u8]) -> String {
    ca_file::pem("CERTIFICATE", der)
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;
    use x509_parser::{
        extensions::ParsedExtension,
        prelude::{FromDer, X509Certificate},
    };

    use super::*;

    const ORGNO: &str = "312700018";

    fn request(key: &KeyPair, name: &str) -> rcgen::CertificateSigningRequest {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serialize_request(key).unwrap()
    }

    #[test]
    fn a_request_becomes_an_enterprise_certificate_of_seid_2() {
        let (ca, key) = (TestCa::ephemeral().unwrap(), rsa_key(RsaKeySize::_2048).unwrap());
        let request = request(&key, "FJORD FRAKT");
        let issued = ca.issue_from_csr(request.pem().unwrap().as_bytes(), ORGNO).unwrap();
        let (_, leaf) = X509Certificate::from_der(&issued.leaf).unwrap();
        assert_eq!(
            leaf.subject().to_string(),
            "C=NO, O=FJORD FRAKT, OID(2.5.4.97)=NTRNO-312700018, CN=FJORD FRAKT"
        );
        assert_eq!(leaf.issuer().to_string(), "O=Segl Sandbox (not a real issuer), CN=Segl Sandbox Test CA");
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_encipherment());
        assert!(leaf.extended_key_usage().unwrap().unwrap().value.client_auth);
        assert!(leaf.extensions().iter().any(|extension| matches!(
            extension.parsed_extension(),
            ParsedExtension::CertificatePolicies(policies)
                if policies[0].policy_id.to_id_string() == TEST_POLICY
        )));
        let identifiers = |extension: &x509_parser::extensions::X509Extension<'_>| {
            matches!(
                extension.parsed_extension(),
                ParsedExtension::AuthorityKeyIdentifier(_) | ParsedExtension::SubjectKeyIdentifier(_)
            )
        };
        assert_eq!(leaf.extensions().iter().filter(|extension| identifiers(extension)).count(), 2);
        let years = leaf.validity().time_to_expiration().unwrap().whole_days() / 365;
        assert!((2..=3).contains(&years));
        let (_, issuing) = X509Certificate::from_der(&issued.issuing).unwrap();
        let (_, root) = X509Certificate::from_der(&issued.root).unwrap();
        leaf.verify_signature(Some(issuing.public_key())).unwrap();
        issuing.verify_signature(Some(root.public_key())).unwrap();
        assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
    }

    #[test]
    fn a_request_that_was_changed_after_signing_is_refused() {
        let (ca, key) = (TestCa::ephemeral().unwrap(), rsa_key(RsaKeySize::_2048).unwrap());
        let mut der = request(&key, "FJORD FRAKT").der().to_vec();
        let at = der.windows(5).position(|window| window == b"FRAKT").unwrap();
        der[at] = b'P';
        assert!(matches!(ca.issue_from_csr(&der, ORGNO), Err(Error::Request(_))));
    }

    #[test]
    fn what_is_no_request_for_a_usable_key_is_refused() {
        let ca = TestCa::ephemeral().unwrap();
        let elliptic = KeyPair::generate().unwrap();
        let elliptic = request(&elliptic, "FJORD FRAKT").der().to_vec();
        for csr in [&b""[..], b"0", b"-----BEGIN", &[0x30; 20_000], &elliptic] {
            assert!(matches!(ca.issue_from_csr(csr, ORGNO), Err(Error::Request(_))));
        }
        let key = rsa_key(RsaKeySize::_2048).unwrap();
        let request = request(&key, "FJORD FRAKT");
        assert!(matches!(ca.issue_from_csr(request.der(), "312700019"), Err(Error::OrganisationNumber(_))));
    }

    #[test]
    fn two_certificates_for_one_key_have_two_serial_numbers() {
        let (ca, key) = (TestCa::ephemeral().unwrap(), rsa_key(RsaKeySize::_2048).unwrap());
        let spki = key.subject_public_key_info();
        let serial =
            |issued: Issued| X509Certificate::from_der(&issued.leaf).unwrap().1.raw_serial().to_vec();
        assert_ne!(
            serial(ca.issue_for(&spki, ORGNO, Profile::Seid2).unwrap()),
            serial(ca.issue_for(&spki, ORGNO, Profile::Seid1).unwrap())
        );
    }
}
