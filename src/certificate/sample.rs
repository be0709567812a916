//! Certificates and keys for tests, made when they are needed; none of them is anybody's.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::KeyPair as _,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SubjectPublicKeyInfo,
};

use super::{Certificate, qualified::sample as qc};
use crate::jose::RsaPublicKey;

/// The day the sample certificates are looked at: 2026-11-21.
pub(crate) fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_219_200)
}

/// So many days from [`today`].
pub(crate) fn days(from_today: i64) -> SystemTime {
    let distance = Duration::from_secs(from_today.unsigned_abs() * 86_400);
    if from_today < 0 { today() - distance } else { today() + distance }
}

/// Parameters with only a common name, valid from yesterday on for a year.
pub(crate) fn parameters(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = days(-1).into();
    params.not_after = days(365).into();
    params
}

/// Parameters of an organisation with this organizationIdentifier, for authentication, as the sandbox issues them.
pub(crate) fn business_parameters(identifier: &str) -> CertificateParams {
    let mut params = parameters("Virksomhet");
    params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), identifier);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let policy = qc::sequence(&[qc::sequence(&[qc::oid("2.16.578.1.1.1.1.100")])]);
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 32], policy));
    params
}

/// A certificate with a new elliptic curve key, signed by itself.
pub(crate) fn self_signed(params: CertificateParams) -> Certificate {
    let key = KeyPair::generate().unwrap();
    Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap()
}

/// A certificate authority with an elliptic curve key.
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A root.
    pub(crate) fn root(common_name: &str) -> Self {
        Self::root_with(Self::parameters(common_name))
    }

    /// A root of an organisation, as issuers name theirs.
    pub(crate) fn root_of(organisation: &str, common_name: &str) -> Self {
        let mut params = Self::parameters(common_name);
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        Self::root_with(params)
    }

    /// One with the name of the sandbox's.
    pub(crate) fn sandbox() -> Self {
        Self::root_of("Segl Sandbox (not a real issuer)", "Segl Sandbox Test CA")
    }

    fn root_with(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// An authority below this one.
    pub(crate) fn below(&self, common_name: &str) -> Self {
        self.below_as(Self::parameters(common_name))
    }

    /// The same with a further extension.
    pub(crate) fn below_with(&self, common_name: &str, extension: CustomExtension) -> Self {
        let mut params = Self::parameters(common_name);
        params.custom_extensions.push(extension);
        self.below_as(params)
    }

    fn below_as(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = Certificate::from_der(params.signed_by(&key, &self.issuer).unwrap().der()).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a key.
    pub(crate) fn issue(&self, params: &CertificateParams, key: &Pair) -> Certificate {
        Certificate::from_der(params.signed_by(&key.rcgen(), &self.issuer).unwrap().der()).unwrap()
    }

    /// A certificate for a public key (DER SubjectPublicKeyInfo) of any kind.
    pub(crate) fn certify(&self, params: &CertificateParams, spki: &[u8]) -> Certificate {
        let key = SubjectPublicKeyInfo::from_der(spki).unwrap();
        Certificate::from_der(params.signed_by(&key, &self.issuer).unwrap().der()).unwrap()
    }

    fn parameters(common_name: &str) -> CertificateParams {
        let mut params = parameters(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }
}

/// An RSA key pair in software.
pub(crate) struct Pair(Vec<u8>);

impl Pair {
    /// A new one of 2048 bits.
    pub(crate) fn generate() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self(AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec())
    }

    /// The same two for all tests of one process: making one takes a while.
    pub(crate) fn shared() -> [&'static Self; 2] {
        static PAIRS: OnceLock<[Pair; 2]> = OnceLock::new();
        PAIRS.get_or_init(|| [Self::generate(), Self::generate()]).each_ref()
    }

    /// PKCS#8, DER.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.0
    }

    /// The public half.
    pub(crate) fn public_key(&self) -> RsaPublicKey {
        let public = RsaKeyPair::from_pkcs8(&self.0).unwrap().public_key().clone();
        let spki: aws_lc_rs::encoding::PublicKeyX509Der<'_> = public.as_der().unwrap();
        RsaPublicKey::from_spki(spki.as_ref()).unwrap()
    }

    /// PKCS#1 v1.5 with SHA-256.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let pair = RsaKeyPair::from_pkcs8(&self.0).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        pair.sign(&aws_lc_rs::signature::RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
        signature
    }

    fn rcgen(&self) -> KeyPair {
        KeyPair::try_from(self.pkcs8()).unwrap()
    }
}

/// A PKCS#12 file with these keys, each with its chain.
pub(crate) fn pkcs12(entries: &[(&Pair, &[Certificate])], password: &str) -> Vec<u8> {
    let mut store = p12_keystore::KeyStore::new();
    for (position, (pair, chain)) in entries.iter().enumerate() {
        let certificates: Vec<_> =
            chain.iter().map(|one| p12_keystore::Certificate::from_der(one.der()).unwrap()).collect();
        let key = p12_keystore::PrivateKey::from_der(pair.pkcs8()).unwrap();
        let alias = format!("key {position}");
        let entry = p12_keystore::PrivateKeyChain::new(alias.as_str(), key, certificates);
        store.add_entry(&alias, p12_keystore::KeyStoreEntry::PrivateKeyChain(entry));
    }
    store.writer(password).encryption_iterations(2048).mac_iterations(2048).write().unwrap()
}

/// One certificate with extensions, the same for all tests of one process: something to damage.
pub(crate) fn real() -> &'static [u8] {
    static DER: OnceLock<Vec<u8>> = OnceLock::new();
    DER.get_or_init(|| {
        let mut params = parameters("Testvirksomhet");
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), "NTRNO-991825827");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        Authority::root("Rot").issue(&params, Pair::shared()[0]).der().to_vec()
    })
}
