//! What `segl certificate show --output json` prints, and what the text for people is made of.

use schemars::JsonSchema;
use serde::Serialize;

use crate::certificate::{
    self, CertificateSet, Finding, Fitness, Generation, Issuer, Kind, Level, Member, Scheme, Semantics,
    Storage, Stranger, Way, Who, date,
};

/// Certificates and what is to be said of them. Members may be added under one `schema`; none goes or changes its meaning.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "segl certificate show --output json")]
pub(super) struct Facts {
    /// 1.
    #[schemars(extend("const" = 1))]
    schema: u8,
    /// What should be known of the place where they were found.
    pub(super) notices: Vec<String>,
    /// Place in `certificates` of the one for Maskinporten; null when it takes none of them.
    pub(super) chosen: Option<usize>,
    /// Place in `certificates` of the same or, where there is none, of the one that comes nearest.
    pub(super) best: Option<usize>,
    /// Those of organisations, persons and servers; issuers only where there is nothing else.
    pub(super) certificates: Vec<Entry>,
}

/// A certificate.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Entry {
    /// What it is, in words.
    pub(super) what: String,
    /// What it is, in a word: `virksomhetssertifikat`, `eseal`, `psd2-seal`, `issuer` or `other`.
    pub(super) kind: &'static str,
    /// What another one is: `person`, `employee`, `server`, `code`, `mail`, `time-stamps`, `revocation`, `self-signed`,
    /// `unknown-issuer`, `identifier` or `nobody`.
    other: Option<&'static str>,
    /// Profile of a Norwegian one: `SEID 1` or `SEID 2`.
    generation: Option<&'static str>,
    /// Who issues a Norwegian one: `Buypass`, `Commfides`, `sandbox`.
    provider: Option<&'static str>,
    /// Where it belongs: `test`, `production` (for an eSeal: both) or `sandbox`.
    environment: Option<&'static str>,
    /// Where the issuer says that its key is: `soft` or `hard`.
    storage: Option<&'static str>,
    /// What makes it an eSeal.
    pub(super) seal: Option<SealEntry>,
    /// In words: works at Maskinporten for whom, as what, until when; or why not.
    pub(super) verdict: String,
    /// How Maskinporten takes it: `business` or `eseal`; null when it does not.
    pub(super) works_as: Option<&'static str>,
    /// What the text for people tells of.
    #[serde(skip)]
    nearest_way: Way,
    /// As the certificate of a Norwegian organisation.
    pub(super) business: FitnessEntry,
    /// As an eSeal.
    pub(super) eseal: FitnessEntry,
    /// The organisation's name or, where there is none, the common name.
    pub(super) holder: Option<String>,
    /// Norwegian organisation number.
    pub(super) organisation_number: Option<String>,
    /// organizationIdentifier, as it stands.
    pub(super) organization_identifier: Option<String>,
    /// What it is for, in words.
    pub(super) purpose: String,
    /// Its key, in words.
    pub(super) key: String,
    /// First day of its validity (UTC).
    pub(super) not_before: String,
    /// Last day of its validity (UTC).
    pub(super) not_after: String,
    /// Last day on which it and all issuers behind it are valid (UTC).
    pub(super) until: String,
    /// Whole days until then; negative when it is past.
    pub(super) days_left: i64,
    /// The whole subject, as text.
    pub(super) subject: String,
    /// The whole issuer, as text.
    pub(super) issuer: String,
    /// Subjects of the issuers behind it, each of which signed the one before.
    pub(super) chain: Vec<String>,
    /// The issuer at which the chain breaks off; null when it ends in a root.
    pub(super) missing_issuer: Option<String>,
    /// Where that issuer's certificate is said to be.
    issuer_urls: Vec<String>,
    /// Policies, as object identifiers.
    pub(super) policies: Vec<String>,
    /// Extended key usage, as object identifiers.
    extended_key_usage: Vec<String>,
    /// Serial number, hexadecimal.
    pub(super) serial_number: String,
    /// SHA-256 over the DER, hexadecimal.
    pub(super) fingerprint: String,
}

/// What makes a certificate an eSeal.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SealEntry {
    /// What it is, in words.
    pub(super) what: String,
    /// `qualified`, `advanced` or `unmarked`.
    level: &'static str,
    /// Whether its key is said to be in a qualified device (QSCD).
    qscd: bool,
    /// `natural-person` or `legal-person`.
    semantics: Option<&'static str>,
    /// Countries outside the European Union by whose law it is qualified.
    legislation: Vec<String>,
    /// `VAT`, `NTR`, `PSD`, `LEI`, three other letters, or two letters and a colon.
    scheme: String,
    /// Two letters.
    country: String,
    /// What stands behind the hyphen.
    number: String,
    /// Roles of a payment service provider.
    psd2_roles: Option<Vec<String>>,
}

/// Whether Maskinporten takes it in one way.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FitnessEntry {
    /// Whether nothing stands in the way that can be known here.
    pub(super) works: bool,
    /// What stands in the way.
    pub(super) obstacles: Vec<FindingEntry>,
    /// What should be known.
    pub(super) cautions: Vec<FindingEntry>,
}

/// Something that stands in the way, or should be known.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FindingEntry {
    /// What it is.
    pub(super) what: String,
    /// What to do.
    pub(super) remedy: &'static str,
    /// Who has to: `you`, `issuer`, `api-owner` or `nobody`.
    pub(super) who: &'static str,
}

impl Facts {
    pub(super) fn new(set: &CertificateSet, notices: Vec<String>) -> Self {
        Self {
            schema: 1,
            notices,
            chosen: set.best.filter(|_| set.chosen().is_some()),
            best: set.best,
            certificates: set.members.iter().map(Entry::new).collect(),
        }
    }
}

impl Entry {
    fn new(member: &Member) -> Self {
        let (judgement, leaf) = (&member.judgement, member.chain.leaf());
        let (kind, other, norwegian) = match &judgement.kind {
            Kind::Virksomhetssertifikat { generation, issuer, storage, .. } => {
                ("virksomhetssertifikat", None, Some((*generation, *issuer, *storage)))
            }
            Kind::Eseal(_) => ("eseal", None, None),
            Kind::Psd2Seal(_) => ("psd2-seal", None, None),
            Kind::Authority(_) => ("issuer", None, None),
            Kind::Other(stranger) => ("other", Some(stranger_word(*stranger)), None),
        };
        Self {
            what: judgement.kind.to_string(),
            kind,
            other,
            generation: norwegian.map(|(generation, ..)| match generation {
                Generation::Seid1 => "SEID 1",
                Generation::Seid2 => "SEID 2",
            }),
            provider: norwegian.map(|(_, issuer, _)| match issuer {
                Issuer::Buypass => "Buypass",
                Issuer::Commfides => "Commfides",
                Issuer::Sandbox => "sandbox",
            }),
            environment: judgement.environment.map(|environment| match environment {
                certificate::Environment::Test => "test",
                certificate::Environment::Production => "production",
                certificate::Environment::Sandbox => "sandbox",
            }),
            storage: norwegian.and_then(|(.., storage)| storage).map(|storage| match storage {
                Storage::Soft => "soft",
                Storage::Hard => "hard",
            }),
            seal: judgement.seal.as_ref().map(SealEntry::new),
            verdict: judgement.to_string(),
            works_as: judgement.way().map(|way| match way {
                Way::Business => "business",
                Way::Eseal => "eseal",
            }),
            nearest_way: judgement.nearest_way(),
            business: FitnessEntry::new(&judgement.business),
            eseal: FitnessEntry::new(&judgement.eseal),
            holder: judgement.holder.clone(),
            organisation_number: judgement.organisation_number.map(|number| number.to_string()),
            organization_identifier: leaf.organization_identifier().map(str::to_owned),
            purpose: leaf.purpose().to_string(),
            key: leaf.key().to_string(),
            not_before: date(&leaf.not_before()),
            not_after: date(&leaf.not_after()),
            until: date(&judgement.until),
            days_left: judgement.days_left,
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
            chain: member.chain.certificates().skip(1).map(|it| it.subject().to_string()).collect(),
            missing_issuer: judgement.missing_issuer.clone(),
            issuer_urls: member.chain.missing_issuer_urls().to_vec(),
            policies: leaf.policies().to_vec(),
            extended_key_usage: leaf.extended_key_usage().to_vec(),
            serial_number: leaf.serial_number().to_owned(),
            fingerprint: leaf.fingerprint(),
        }
    }

    /// In the way that is open or, when none is, in the one that was meant.
    pub(super) fn fitness(&self) -> &FitnessEntry {
        match self.nearest_way {
            Way::Eseal => &self.eseal,
            Way::Business => &self.business,
        }
    }
}

impl SealEntry {
    fn new(seal: &certificate::Seal) -> Self {
        let scheme: &Scheme = seal.identifier.scheme();
        Self {
            what: seal.to_string(),
            level: match seal.level {
                Level::Qualified => "qualified",
                Level::Advanced => "advanced",
                Level::Unmarked => "unmarked",
            },
            qscd: seal.qscd,
            semantics: seal.semantics.map(|semantics| match semantics {
                Semantics::NaturalPerson => "natural-person",
                Semantics::LegalPerson => "legal-person",
            }),
            legislation: seal.legislation.clone(),
            scheme: scheme.to_string(),
            country: seal.identifier.country(),
            number: seal.identifier.number().to_owned(),
            psd2_roles: seal.psd2.as_ref().map(|psd2| psd2.roles.clone()),
        }
    }
}

impl FitnessEntry {
    fn new(fitness: &Fitness) -> Self {
        let entries = |findings: &[Finding]| findings.iter().map(FindingEntry::new).collect();
        Self {
            works: fitness.works(),
            obstacles: entries(&fitness.obstacles),
            cautions: entries(&fitness.cautions),
        }
    }
}

impl FindingEntry {
    fn new(finding: &Finding) -> Self {
        Self {
            what: finding.to_string(),
            remedy: finding.remedy(),
            who: match finding.who() {
                Who::You => "you",
                Who::Issuer => "issuer",
                Who::ApiOwner => "api-owner",
                Who::Nobody => "nobody",
            },
        }
    }
}

fn stranger_word(stranger: Stranger) -> &'static str {
    match stranger {
        Stranger::Person => "person",
        Stranger::Employee => "employee",
        Stranger::Server => "server",
        Stranger::Code => "code",
        Stranger::Mail => "mail",
        Stranger::TimeStamps => "time-stamps",
        Stranger::Revocation => "revocation",
        Stranger::SelfSigned => "self-signed",
        Stranger::UnknownIssuer => "unknown-issuer",
        Stranger::Identifier => "identifier",
        Stranger::Nobody => "nobody",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json;

    #[test]
    fn the_json_schema_in_the_documentation_is_that_of_the_types() {
        json::assert_documented::<Facts>("certificate-show.schema.json");
    }
}
