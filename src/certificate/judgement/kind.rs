use std::fmt;

use crate::certificate::{
    Certificate, Environment, Generation, Issuer, Name, OrganisationIdentifier, Psd2, Purpose, QcType,
    Semantics, Storage,
    issuers::{Authority, Issues, is_of_person},
    name::{COMMON_NAME, GIVEN_NAME, ORGANISATION, SERIAL_NUMBER, SURNAME},
};

/// What a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A Norwegian enterprise certificate.
    Virksomhetssertifikat {
        /// Its profile.
        generation: Generation,
        /// Whose it is, by the name of its issuer.
        issuer: Issuer,
        /// Where it belongs.
        environment: Environment,
        /// Where the issuer says that its key is; `None` when it does not.
        storage: Option<Storage>,
    },
    /// A seal of an organisation (ETSI EN 319 412-3).
    Eseal(Seal),
    /// The seal of a payment service provider (ETSI TS 119 495).
    Psd2Seal(Seal),
    /// The certificate of an issuer; of a Norwegian one by its name, where it has one's.
    Authority(Option<Issuer>),
    /// Something else.
    Other(Stranger),
}

/// What makes a certificate an eSeal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seal {
    /// Whose seal it is: what Maskinporten hands on.
    pub identifier: OrganisationIdentifier,
    /// What it says of its own worth.
    pub level: Level,
    /// Whether its key is said to be in a qualified device (QSCD).
    pub qscd: bool,
    /// Whose name its subject is said to be.
    pub semantics: Option<Semantics>,
    /// Countries outside the European Union by whose law it is qualified; empty: by the Union's.
    pub legislation: Vec<String>,
    /// Roles and supervisor of a payment service provider.
    pub psd2: Option<Psd2>,
}

/// What an eSeal says of its own worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// A qualified certificate for seals (QcCompliance and QcType eseal, or the policies QCP-l and QCP-l-qscd).
    Qualified,
    /// Issued by the rules for certificates that are not qualified (NCP, NCP+, LCP of ETSI EN 319 411-1).
    Advanced,
    /// Nothing says that it is a seal.
    Unmarked,
}

/// What a certificate is that identifies no organisation to Maskinporten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stranger {
    /// A person's.
    Person,
    /// An employee's: a person's that names an organisation, too.
    Employee,
    /// A server's, for TLS.
    Server,
    /// For signing programs.
    Code,
    /// For e-mail.
    Mail,
    /// For time stamps.
    TimeStamps,
    /// For answers about revocation.
    Revocation,
    /// Signed with its own key.
    SelfSigned,
    /// Of a Norwegian organisation, by somebody who issues no Norwegian enterprise certificates.
    UnknownIssuer,
    /// Its organizationIdentifier does not have the form of the standard.
    Identifier,
    /// It names no organisation in a way that could be read.
    Nobody,
}

/// Policies of ETSI EN 319 411-2 and 411-1.
const QUALIFIED_LEGAL: [&str; 2] = ["0.4.0.194112.1.1", "0.4.0.194112.1.3"];
const QUALIFIED_ON_DEVICE: &str = "0.4.0.194112.1.3";
const QUALIFIED_NATURAL: [&str; 2] = ["0.4.0.194112.1.0", "0.4.0.194112.1.2"];
const NOT_QUALIFIED: [&str; 3] = ["0.4.0.2042.1.1", "0.4.0.2042.1.2", "0.4.0.2042.1.3"];

/// Policies for web sites: ETSI EN 319 411-2 and 411-1, TS 119 495, CA/Browser Forum.
const WEB: [&str; 13] = [
    "0.4.0.194112.1.4",
    "0.4.0.194112.1.5",
    "0.4.0.194112.1.6",
    "0.4.0.2042.1.4",
    "0.4.0.2042.1.5",
    "0.4.0.2042.1.6",
    "0.4.0.2042.1.7",
    "0.4.0.2042.1.8",
    "0.4.0.19495.3.1",
    "2.23.140.1.1",
    "2.23.140.1.2.1",
    "2.23.140.1.2.2",
    "2.23.140.1.2.3",
];
const CODE: [&str; 2] = ["2.23.140.1.3", "2.23.140.1.4.1"];
/// CA/Browser Forum, S/MIME Baseline Requirements.
const MAIL: &str = "2.23.140.1.5.";

const SERVER_AUTHENTICATION: &str = "1.3.6.1.5.5.7.3.1";
const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
const REVOCATION: &str = "1.3.6.1.5.5.7.3.9";

impl Kind {
    /// What `leaf` is; `authority` is the known one that has its issuer's name.
    pub(super) fn of(leaf: &Certificate, authority: Option<&'static Authority>) -> Self {
        if leaf.is_ca() || leaf.purpose() == Purpose::Issuing {
            return Self::Authority(Issuer::named(leaf.subject()));
        }
        if let Some(stranger) = Stranger::of(leaf, authority) {
            return Self::Other(stranger);
        }
        let seal = Seal::of(leaf);
        let is_foreign = leaf.identifier().is_some_and(|identifier| !identifier.is_norwegian());
        match (authority, seal) {
            (Some(Authority { issuer, environment, issues: Issues::Business(generation), .. }), _)
                if !is_foreign =>
            {
                Self::Virksomhetssertifikat {
                    // The sandbox issues both from one authority.
                    generation: match (issuer, leaf.organization_identifier()) {
                        (Issuer::Sandbox, None) => Generation::Seid1,
                        _ => *generation,
                    },
                    issuer: *issuer,
                    environment: *environment,
                    storage: Storage::of(leaf.policies()),
                }
            }
            (_, Some(seal)) if seal.psd2.is_some() => Self::Psd2Seal(seal),
            (_, Some(seal)) if seal.level != Level::Unmarked || is_foreign => Self::Eseal(seal),
            (_, Some(_)) => Self::Other(Stranger::UnknownIssuer),
            (_, None) if leaf.organisation_number().is_ok() => Self::Other(Stranger::UnknownIssuer),
            (_, None) if leaf.organization_identifier().is_some() => Self::Other(Stranger::Identifier),
            _ => Self::Other(Stranger::Nobody),
        }
    }
}

impl Seal {
    /// The seal in `leaf`, if its subject is an organisation by the grammar of the standard.
    pub(super) fn of(leaf: &Certificate) -> Option<Self> {
        let identifier = leaf.identifier()?;
        let statements = leaf.qc_statements().cloned().unwrap_or_default();
        let has = |policies: &[&str]| leaf.policies().iter().any(|it| policies.contains(&it.as_str()));
        let level = if statements.is_qualified_seal() || has(&QUALIFIED_LEGAL) {
            Level::Qualified
        } else if has(&NOT_QUALIFIED)
            || statements.types.contains(&QcType::Seal)
            || statements.semantics == Some(Semantics::LegalPerson)
        {
            Level::Advanced
        } else {
            Level::Unmarked
        };
        Some(Self {
            level,
            qscd: statements.qscd || has(&[QUALIFIED_ON_DEVICE]),
            semantics: statements.semantics,
            legislation: statements.legislation,
            psd2: statements.psd2.or_else(|| identifier.supervisor().map(|_| Psd2::default())),
            identifier,
        })
    }
}

impl Stranger {
    /// What speaks against an organisation's certificate by itself.
    fn of(leaf: &Certificate, authority: Option<&'static Authority>) -> Option<Self> {
        let has = |policies: &[&str]| leaf.policies().iter().any(|it| policies.contains(&it.as_str()));
        let is_for = |usage: &str| leaf.extended_key_usage().iter().any(|it| it == usage);
        let types = leaf.qc_statements().map(|statements| statements.types.as_slice()).unwrap_or_default();
        let is_seal = types.contains(&QcType::Seal) || has(&QUALIFIED_LEGAL);
        let is_web = types.contains(&QcType::Web) || is_for(SERVER_AUTHENTICATION) && leaf.names_hosts();
        // Norwegian enterprise certificates may be for servers and e-mail, too: their extended key usage says little.
        if is_web || has(&WEB) {
            return Some(Self::Server);
        }
        if is_for(CODE_SIGNING) || has(&CODE) {
            return Some(Self::Code);
        }
        if is_for(TIME_STAMPING) {
            return Some(Self::TimeStamps);
        }
        if is_for(REVOCATION) {
            return Some(Self::Revocation);
        }
        if !is_seal && is_person(leaf, authority) {
            let named = leaf.organisation().is_some() || leaf.organization_identifier().is_some();
            return Some(if named { Self::Employee } else { Self::Person });
        }
        if !is_seal && leaf.policies().iter().any(|policy| policy.starts_with(MAIL)) {
            return Some(Self::Mail);
        }
        leaf.is_self_signed().then_some(Self::SelfSigned)
    }
}

fn is_person(leaf: &Certificate, authority: Option<&'static Authority>) -> bool {
    let statements = leaf.qc_statements();
    let subject = leaf.subject();
    // ETSI EN 319 412-1 section 5.1.3: passport, identity card, personal or tax number; Norway's own form before it.
    let is_personal = |number: &str| {
        ["PAS", "IDC", "PNO", "TIN", "UN:NO-", "9578-"].iter().any(|scheme| number.starts_with(scheme))
    };
    [GIVEN_NAME, SURNAME].iter().any(|it| subject.values(it).next().is_some())
        || statements.is_some_and(|it| {
            it.semantics == Some(Semantics::NaturalPerson) || it.types == [QcType::Signature]
        })
        || leaf.policies().iter().any(|it| QUALIFIED_NATURAL.contains(&it.as_str()))
        || is_of_person(leaf.policies())
        || authority.is_some_and(|it| it.issues == Issues::Persons)
        || subject.values(SERIAL_NUMBER).any(is_personal)
}

/// Whether an issuer says in its name that it issues for tests: `Test`, `TEST`, `Test4`.
pub(super) fn looks_like_test(issuer: &Name) -> bool {
    let is_test =
        |word: &str| word.trim_end_matches(|c: char| c.is_ascii_digit()).eq_ignore_ascii_case("test");
    [COMMON_NAME, ORGANISATION]
        .iter()
        .flat_map(|oid| issuer.values(oid))
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .any(is_test)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Virksomhetssertifikat { generation, issuer, environment, storage } => {
                write!(f, "virksomhetssertifikat ({generation}) from {issuer}")?;
                if *issuer != Issuer::Sandbox {
                    write!(f, ", {environment}")?;
                }
                storage.map_or(Ok(()), |storage| write!(f, ", {storage}"))
            }
            Self::Eseal(seal) => write!(f, "{seal}"),
            Self::Psd2Seal(seal) => write!(f, "{seal} of a payment service provider (PSD2)"),
            Self::Authority(None) => f.write_str("certificate of an issuer (CA)"),
            Self::Authority(Some(issuer)) => write!(f, "certificate of an issuer (CA), {issuer}"),
            Self::Other(stranger) => write!(f, "{stranger}"),
        }
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Qualified => "qualified eSeal",
            Level::Advanced => "eSeal, not qualified",
            Level::Unmarked => "perhaps an eSeal, not marked as one",
        })?;
        if self.qscd {
            f.write_str(" with its key in a qualified device (QSCD)")?;
        }
        match self.legislation.as_slice() {
            [] => Ok(()),
            countries => write!(f, " by the law of {}", countries.join(", ")),
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Person => "certificate of a person",
            Self::Employee => "certificate of an employee",
            Self::Server => "certificate of a server (TLS)",
            Self::Code => "certificate for signing programs",
            Self::Mail => "certificate for e-mail",
            Self::TimeStamps => "certificate for time stamps",
            Self::Revocation => "certificate for answers about revocation (OCSP)",
            Self::SelfSigned => "certificate that was signed with its own key",
            Self::UnknownIssuer => {
                "certificate of a Norwegian organisation that neither Buypass nor Commfides issued"
            }
            Self::Identifier => "certificate whose organizationIdentifier is not of the standard's form",
            Self::Nobody => "certificate that names no organisation by its number",
        })
    }
}
