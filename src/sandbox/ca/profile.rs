use pkcs8::{
    der::{self, Encode, Sequence},
    spki::ObjectIdentifier,
};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};

use super::{
    super::{Clients, qc_statements},
    Error,
    request::Request,
    serial_number,
};

/// Digdir's internal test policy, which the validator library of Digdir accepts in test only.
pub(in crate::sandbox) const TEST_POLICY: &str = "2.16.578.1.1.1.1.100";

const ORGANIZATION_IDENTIFIER: [u64; 4] = [2, 5, 4, 97];
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
const CERTIFICATE_POLICIES: [u64; 4] = [2, 5, 29, 32];

/// Policies of eSeals (ETSI EN 319 411): qualified certificate of a legal person, and normalized one.
const QUALIFIED: &str = "0.4.0.194112.1.1";
const NORMALIZED: &str = "0.4.0.2042.1.1";

/// Whom a certificate is for, and how that stands in it.
pub(super) struct Holder<'a> {
    pub(super) name: &'a str,
    /// Organisation number: for Norwegian certificates.
    pub(super) number: &'a str,
    /// organizationIdentifier: for eSeals.
    pub(super) identifier: &'a str,
}

impl Default for Holder<'_> {
    fn default() -> Self {
        Self {
            name: "SEGL SANDBOX TEST",
            number: Clients::ORGANISATION,
            identifier: Clients::FOREIGN_ORGANISATION,
        }
    }
}

impl<'a> Holder<'a> {
    /// The name that is asked for.
    pub(super) fn of(request: &'a Request) -> Self {
        let usual = Self::default();
        Self { name: request.name.as_deref().unwrap_or(usual.name), ..usual }
    }
}

/// What kind of certificate the test CA issues: a right one for Norwegian enterprises, one for European businesses, and
/// the wrong ones that a client must notice.
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
    /// A qualified eSeal (ETSI EN 319 412-3) of a Swedish company; the given number is not used. The right one.
    Seal,
    /// An eSeal that is not qualified, and is taken all the same.
    SealAdvanced,
    /// As [`Seal`](Self::Seal), of a Norwegian organisation: `NTRNO-` and the given number.
    SealNorwegian,
    /// As [`Seal`](Self::Seal), without organizationIdentifier.
    SealNameless,
    /// As [`Seal`](Self::Seal), ended yesterday.
    SealExpired,
}

impl Profile {
    /// Whether the CA for eSeals issues it.
    pub(super) fn is_seal(self) -> bool {
        matches!(
            self,
            Self::Seal | Self::SealAdvanced | Self::SealNorwegian | Self::SealNameless | Self::SealExpired
        )
    }

    pub(super) fn params(self, holder: &Holder<'_>) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = self.subject(holder)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(serial_number());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = match self {
            Self::Signing => vec![KeyUsagePurpose::ContentCommitment],
            Self::Encryption => vec![KeyUsagePurpose::KeyEncipherment],
            _ if self.is_seal() => {
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment]
            }
            _ => vec![KeyUsagePurpose::DigitalSignature],
        };
        if !self.is_seal() && !matches!(self, Self::Signing | Self::Encryption) {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        let policy = match self {
            Self::SealAdvanced => NORMALIZED,
            _ if self.is_seal() => QUALIFIED,
            _ => TEST_POLICY,
        };
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&CERTIFICATE_POLICIES, policies(policy)?)];
        if self.is_seal() {
            let statements = qc_statements::of_a_seal(self != Self::SealAdvanced)
                .map_err(|_| Error::Crypto("write the statements of a seal"))?;
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(&qc_statements::EXTENSION, statements));
        }
        Ok(params)
    }

    fn subject(self, holder: &Holder<'_>) -> Result<DistinguishedName, Error> {
        let mut subject = DistinguishedName::new();
        let identifier = match self {
            Self::Seid1 | Self::SealNameless => None,
            Self::Foreign => Some(Clients::FOREIGN_ORGANISATION.to_owned()),
            Self::Seal | Self::SealAdvanced | Self::SealExpired => Some(holder.identifier.to_owned()),
            _ => Some(format!("NTRNO-{}", holder.number)),
        };
        // The two letters behind the scheme.
        let country = identifier.as_deref().and_then(|found| found.get(3..5)).unwrap_or("NO");
        subject.push(DnType::CountryName, printable(country)?);
        subject.push(DnType::OrganizationName, holder.name);
        match identifier {
            Some(identifier) => subject.push(DnType::from_oid(&ORGANIZATION_IDENTIFIER), identifier),
            None if self == Self::Seid1 => {
                subject.push(DnType::from_oid(&SERIAL_NUMBER), printable(holder.number)?);
            }
            None => {}
        }
        subject.push(DnType::CommonName, holder.name);
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

fn policies(policy: &str) -> Result<Vec<u8>, Error> {
    let failed = |_: der::Error| Error::Crypto("write the certificate policy");
    let identifier = ObjectIdentifier::new(policy).map_err(|_| Error::Crypto("read its own policy"))?;
    vec![PolicyInformation { identifier }].to_der().map_err(failed)
}
