use pkcs8::{
    der::{self, Encode, Sequence},
    spki::ObjectIdentifier,
};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};

use super::{Error, serial_number};

/// Digdir's internal test policy, which the validator library of Digdir accepts in test only.
pub(in crate::sandbox) const TEST_POLICY: &str = "2.16.578.1.1.1.1.100";

const ORGANIZATION_IDENTIFIER: [u64; 4] = [2, 5, 4, 97];
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
const CERTIFICATE_POLICIES: [u64; 4] = [2, 5, 29, 32];

/// What kind of certificate the test CA issues: one right one, and the wrong ones that a client must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// SEID 2 authentication: organisation number in `organizationIdentifier`, `digitalSignature`. The right
    /// one.
    Seid2,
    /// SEID 1 authentication, as issued until 2022: organisation number in `serialNumber`.
    Seid1,
    /// The signing certificate of the set: `nonRepudiation` alone.
    Signing,
    /// The encryption certificate of the set: `keyEncipherment` alone.
    Encryption,
    /// As [`Seid2`](Self::Seid2), ended yesterday.
    Expired,
    /// As [`Seid2`](Self::Seid2), begins tomorrow.
    NotYetValid,
    /// A Swedish company: `organizationIdentifier` with its VAT number; the given number is not used.
    Foreign,
}

impl Profile {
    pub(super) fn params(self, orgno: &str, name: &str) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = self.subject(orgno, name)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(serial_number());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = match self {
            Self::Signing => vec![KeyUsagePurpose::ContentCommitment],
            Self::Encryption => vec![KeyUsagePurpose::KeyEncipherment],
            _ => vec![KeyUsagePurpose::DigitalSignature],
        };
        if !matches!(self, Self::Signing | Self::Encryption) {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&CERTIFICATE_POLICIES, policies()?)];
        Ok(params)
    }

    fn subject(self, orgno: &str, name: &str) -> Result<DistinguishedName, Error> {
        let mut subject = DistinguishedName::new();
        let country = if self == Self::Foreign { "SE" } else { "NO" };
        subject.push(DnType::CountryName, printable(country)?);
        subject.push(DnType::OrganizationName, name);
        match self {
            Self::Seid1 => subject.push(DnType::from_oid(&SERIAL_NUMBER), printable(orgno)?),
            Self::Foreign => subject.push(DnType::from_oid(&ORGANIZATION_IDENTIFIER), "VATSE-556012345601"),
            _ => subject.push(DnType::from_oid(&ORGANIZATION_IDENTIFIER), format!("NTRNO-{orgno}")),
        }
        subject.push(DnType::CommonName, name);
        Ok(subject)
    }
}

fn printable(text: &str) -> Result<DnValue, Error> {
    text.try_into().map(DnValue::PrintableString).map_err(|_| Error::Crypto("write a name"))
}

/// RFC 5280 section 4.2.1.4, without qualifiers.
#[derive(Sequence)]
struct PolicyInformation {
    identifier: ObjectIdentifier,
}

fn policies() -> Result<Vec<u8>, Error> {
    let failed = |_: der::Error| Error::Crypto("write the certificate policy");
    let identifier = ObjectIdentifier::new(TEST_POLICY).map_err(|_| Error::Crypto("read its own policy"))?;
    vec![PolicyInformation { identifier }].to_der().map_err(failed)
}
