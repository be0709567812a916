//! The test CAs, each a root and an issuing CA below it: one for certificates like those of a Norwegian enterprise, one
//! for European eSeals.

mod profile;
mod request;

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

use self::{profile::Holder, request::Request};
use super::{
    Error,
    ca_file::{self, EUROPEAN, Kept, NORWEGIAN, Stored},
    organisation,
};
use crate::{
    clock::{Clock, SystemClock},
    jose::RsaPublicKey,
};

/// Names of root and issuing CA.
const NORWEGIAN_NAMES: [&str; 2] = ["Segl Sandbox Test Root CA", "Segl Sandbox Test CA"];
const EUROPEAN_NAMES: [&str; 2] = ["Segl Sandbox European Root CA", "Segl Sandbox European eSeal CA"];

const CA_ORGANISATION: &str = "Segl Sandbox (not a real issuer)";

/// Norwegian enterprise certificates live three years.
const LIFE: Duration = Duration::from_secs(3 * 365 * 24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certification authority that nobody trusts but the sandbox: one for Norwegian enterprises and one for eSeals.
///
/// Cheap to clone; the clones are one authority. Only the issuing CAs' keys are kept: a root's is thrown away
/// as soon as the issuing CA is there.
#[derive(Clone, Debug)]
pub struct TestCa {
    norwegian: Arc<Stored>,
    european: Arc<Stored>,
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

    /// Leaf, issuing CA and root as PEM, leaf first: what goes with an eSeal.
    #[must_use]
    pub fn whole_chain_pem(&self) -> String {
        self.chain_pem() + &self.root_pem()
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
        Ok(Self {
            norwegian: Arc::new(create(NORWEGIAN_NAMES, &NORWEGIAN)?),
            european: Arc::new(create(EUROPEAN_NAMES, &EUROPEAN)?),
            clock: SystemClock::shared(),
        })
    }

    /// The test CA of `state_dir`; made there when there is none. No running sandbox is needed.
    ///
    /// The directory is made with mode 0700 and the two files in it, `segl-sandbox-ca.pem` and
    /// `segl-sandbox-eseal-ca.pem` (each key, issuing CA, root), with mode 0600. Two programs that start at once end
    /// up with the same CA.
    ///
    /// # Errors
    /// [`Error::State`] and [`Error::Io`] when directory or file are not usable, or open to others;
    /// [`Error::RealIssuer`] when a certificate of a real issuer lies there.
    pub fn open_or_create(state_dir: &Path) -> Result<Self, Error> {
        let kept = |names, kept: &Kept| match ca_file::load(state_dir, kept)? {
            Some(stored) => Ok(Arc::new(stored)),
            None => ca_file::store(state_dir, kept, create(names, kept)?).map(Arc::new),
        };
        Ok(Self {
            norwegian: kept(NORWEGIAN_NAMES, &NORWEGIAN)?,
            european: kept(EUROPEAN_NAMES, &EUROPEAN)?,
            clock: SystemClock::shared(),
        })
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
        &self.norwegian.issuing
    }

    /// The root's certificate, DER.
    #[must_use]
    pub fn root(&self) -> &[u8] {
        &self.norwegian.root
    }

    /// The certificate of the CA that issues eSeals, DER.
    #[must_use]
    pub fn seal_issuing(&self) -> &[u8] {
        &self.european.issuing
    }

    /// The root above the CA that issues eSeals, DER.
    #[must_use]
    pub fn seal_root(&self) -> &[u8] {
        &self.european.root
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
        let request = Request::read(csr)?;
        let holder = Holder { number: orgno, ..Holder::of(&request) };
        self.issue(&request.spki, &holder, Profile::Seid2, None)
    }

    /// An eSeal ([`Profile::Seal`]) from a PKCS#10 request, PEM or DER, for a business of this
    /// organizationIdentifier (ETSI EN 319 412-1 section 5.1.4), such as `VATSE-556012345601`. Otherwise as
    /// [`issue_from_csr`](Self::issue_from_csr).
    ///
    /// # Errors
    /// [`Error::Request`] as there; [`Error::OrganisationIdentifier`] when `identifier` is none.
    pub fn issue_seal_from_csr(&self, csr: &[u8], identifier: &str) -> Result<Issued, Error> {
        let request = Request::read(csr)?;
        let holder = Holder { identifier, ..Holder::of(&request) };
        self.issue(&request.spki, &holder, Profile::Seal, None)
    }

    /// A certificate of any profile for a public key (DER SubjectPublicKeyInfo): for tests that need a wrong
    /// one.
    ///
    /// # Errors
    /// As [`issue_from_csr`](Self::issue_from_csr).
    pub fn issue_for(&self, spki: &[u8], orgno: &str, profile: Profile) -> Result<Issued, Error> {
        self.issue(spki, &Holder { number: orgno, ..Holder::default() }, profile, None)
    }

    /// A virksomhetssertifikat that begins after `previous` does: of two for one key, the newer is used, and
    /// certificates know whole seconds only.
    ///
    /// # Errors
    /// As [`issue_from_csr`](Self::issue_from_csr).
    pub fn issue_after(&self, previous: SystemTime, spki: &[u8], orgno: &str) -> Result<Issued, Error> {
        let holder = Holder { number: orgno, ..Holder::default() };
        self.issue(spki, &holder, Profile::Seid2, Some(previous))
    }

    fn issue(
        &self,
        spki: &[u8],
        holder: &Holder<'_>,
        profile: Profile,
        previous: Option<SystemTime>,
    ) -> Result<Issued, Error> {
        if !organisation::is_number(holder.number) {
            return Err(Error::OrganisationNumber(holder.number.into()));
        }
        if !organisation::is_identifier(holder.identifier) {
            return Err(Error::OrganisationIdentifier(holder.identifier.into()));
        }
        let key = RsaPublicKey::from_spki(spki).map_err(|_| Error::Request("is not for an RSA key"))?;
        if key.bits() < 2048 {
            return Err(Error::Request("is for an RSA key of less than 2048 bits"));
        }
        let public_key = SubjectPublicKeyInfo::from_der(spki)
            .map_err(|_| Error::Request("is for a key that cannot be read"))?;
        let mut params = profile.params(holder)?;
        let now = self.clock.wall();
        let (from, to) = match profile {
            Profile::Expired | Profile::SealExpired => (now - LIFE, now - DAY),
            Profile::NotYetValid => (now + DAY, now + LIFE),
            _ => (now - Duration::from_secs(60), now + LIFE),
        };
        let from = previous.map_or(from, |previous| from.max(previous + Duration::from_secs(1)));
        params.not_before = OffsetDateTime::from(from);
        params.not_after = OffsetDateTime::from(to);
        let above = if profile.is_seal() { &self.european } else { &self.norwegian };
        Ok(Issued {
            leaf: sign(above, &params, &public_key)?,
            issuing: above.issuing.clone(),
            root: above.root.clone(),
        })
    }

    /// A certificate for one of the sandbox's own signing keys, with the issuing CA behind it.
    pub(super) fn issue_for_authority(&self, key: &KeyPair, name: &str) -> Result<Vec<Vec<u8>>, Error> {
        let mut params = ca_params(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(vec![sign(&self.norwegian, &params, key)?, self.norwegian.issuing.clone()])
    }
}

fn sign(
    above: &Stored,
    params: &CertificateParams,
    key: &impl rcgen::PublicKeyData,
) -> Result<Vec<u8>, Error> {
    let issuer = Issuer::from_ca_cert_der(&above.issuing.as_slice().into(), &above.key)
        .map_err(|_| Error::Crypto("read its own test CA"))?;
    let certificate = params.signed_by(key, &issuer).map_err(|_| Error::Crypto("sign a test certificate"))?;
    Ok(certificate.der().to_vec())
}

fn create([root_name, issuing_name]: [&str; 2], kept: &Kept) -> Result<Stored, Error> {
    let failed = |_| Error::Crypto("make a test CA");
    let key = || {
        if kept.algorithm == &PKCS_RSA_SHA256 {
            rsa_key(RsaKeySize::_3072)
        } else {
            KeyPair::generate_for(kept.algorithm).map_err(failed)
        }
    };
    let (root_key, key) = (key()?, key()?);
    let mut root = ca_params(root_name);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).map_err(failed)?;
    let mut issuing = ca_params(issuing_name);
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
