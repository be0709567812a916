use std::{fmt, time::SystemTime};

use super::Kind;
use crate::{
    certificate::{KeyKind, NotAnOrganisationNumber, Purpose, date},
    language::counted,
};

/// Something that stands in a certificate's way, or should be known of it.
///
/// `Display` says what it is, [`remedy`](Self::remedy) what to do, [`who`](Self::who) who has to do it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// It is no Norwegian enterprise certificate.
    NotBusiness(Kind),
    /// It is no eSeal.
    NotSeal,
    /// Maskinporten takes no signatures of such a key.
    Key(KeyKind),
    /// It is for something else than signatures.
    Purpose(Purpose),
    /// It is the signing certificate of its set.
    Signing,
    /// Its validity has ended.
    Expired(SystemTime),
    /// Its validity has not begun.
    NotYetValid(SystemTime),
    /// Its validity, or that of an issuer behind it, ends soon.
    ExpiresSoon {
        /// Whole days.
        days: i64,
    },
    /// An issuer behind it is not valid; in words.
    IssuerValidity(String),
    /// A certificate in its chain has the name of a Norwegian issuer, and is not that issuer's.
    ForgedIssuer(String),
    /// It names no Norwegian organisation number.
    NoOrganisationNumber,
    /// What it names is no organisation number.
    OrganisationNumber(String, NotAnOrganisationNumber),
    /// None of its policies is on the list of Digdir's validator.
    Policies(Vec<String>),
    /// A hard certificate for test, whose issuer Digdir's validator does not have.
    HardInTest,
    /// Its issuer is no longer among those of Digdir's validator.
    RetiredIssuer(String),
    /// Its key usage is missing or not marked critical.
    KeyUsageNotCritical,
    /// Extensions are marked critical that Digdir's validator does not know.
    Critical(Vec<String>),
    /// Its chain does not go up to a root.
    Incomplete {
        /// Whose certificate is missing.
        issuer: String,
        /// Where it is said to be.
        urls: Vec<String>,
    },
    /// An eSeal for tests.
    TestSeal,
    /// Nothing in it says that it is a seal.
    Unmarked,
    /// It is qualified by the law of other countries than those of the Union.
    Legislation(Vec<String>),
    /// It is that of a payment service provider, with the identifier that its supervisor gave it.
    Psd2(String),
    /// A seal that names a Norwegian organisation.
    NorwegianSeal,
}

/// Who has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Who {
    /// Whoever reads it.
    You,
    /// The issuer of the certificate, asked by you.
    Issuer,
    /// The owner of the API.
    ApiOwner,
    /// Nobody; time, or nothing to be done.
    Nobody,
}

impl Finding {
    /// Who has to do something.
    #[must_use]
    pub fn who(&self) -> Who {
        match self {
            Self::Key(_)
            | Self::Expired(_)
            | Self::ExpiresSoon { .. }
            | Self::OrganisationNumber(..)
            | Self::NoOrganisationNumber
            | Self::Policies(_)
            | Self::HardInTest
            | Self::RetiredIssuer(_)
            | Self::KeyUsageNotCritical
            | Self::Critical(_)
            | Self::Unmarked => Who::Issuer,
            Self::Legislation(_) | Self::Psd2(_) => Who::ApiOwner,
            Self::NotYetValid(_) => Who::Nobody,
            Self::NotBusiness(_)
            | Self::NotSeal
            | Self::Purpose(_)
            | Self::Signing
            | Self::IssuerValidity(_)
            | Self::ForgedIssuer(_)
            | Self::Incomplete { .. }
            | Self::TestSeal
            | Self::NorwegianSeal => Who::You,
        }
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotBusiness(Kind::Authority(_)) => {
                "Give the certificate of your organisation: this one belongs behind it, as part of the chain."
            }
            Self::NotBusiness(Kind::Eseal(_) | Kind::Psd2Seal(_)) => {
                "Use it as an eSeal (kind = \"eseal\"), or order a virksomhetssertifikat from Buypass or Commfides."
            }
            Self::NotBusiness(_) => {
                "Use a virksomhetssertifikat from Buypass or Commfides, an eSeal of an organisation abroad, or a key of \
                 your own that is registered with its kid."
            }
            Self::NotSeal => "Order an eSeal from a provider on a European trusted list.",
            Self::Key(_) => {
                "Order a certificate with an RSA key of 3072 bits: Maskinporten takes RS256, RS384 and RS512 only."
            }
            Self::Purpose(_) | Self::Signing => {
                "Use the authentication certificate of the set (key usage digitalSignature)."
            }
            Self::Expired(_) => "Order a new certificate from the issuer.",
            Self::NotYetValid(_) => "Wait until it begins, or check the clock of this machine.",
            Self::ExpiresSoon { .. } => "Order the next one now: it takes days to weeks.",
            Self::IssuerValidity(_) => {
                "Take the issuer's certificate out of the file, and get the one that is valid: segl certificate fetch-chain."
            }
            Self::ForgedIssuer(_) => {
                "Get the issuer's certificate from the issuer itself; if it is the same, this certificate was not issued \
                 by Buypass or Commfides."
            }
            Self::NoOrganisationNumber | Self::OrganisationNumber(..) => {
                "Ask the issuer for a certificate with the number of the register of organisations."
            }
            Self::Policies(_) => {
                "Ask the issuer for a virksomhetssertifikat that Maskinporten takes; Maskinporten would answer MP-120."
            }
            Self::HardInTest => {
                "Order a soft certificate for test (ST), and import it into the device if it is to lie there."
            }
            Self::RetiredIssuer(_) => "Order a certificate of today's generation (SEID 2).",
            Self::KeyUsageNotCritical | Self::Critical(_) => {
                "Try it in test; when Maskinporten answers MP-120, ask the issuer for one after the SEID 2 profile."
            }
            Self::Incomplete { urls, .. } if urls.is_empty() => {
                "Get the certificates of the issuers from the issuer, and put them behind it in the file."
            }
            Self::Incomplete { .. } => {
                "Run segl certificate fetch-chain, which gets the certificates of the issuers."
            }
            Self::TestSeal => {
                "Use the seal of production, in Maskinporten's test environment too: there is no list of test issuers."
            }
            Self::Unmarked => {
                "Ask the issuer whether it is an eSeal of a service on a European trusted list."
            }
            Self::Legislation(_) => "Ask the owner of the API whether it takes seals of that country.",
            Self::Psd2(_) => "Ask the owner of the API whether it knows you by this identifier.",
            Self::NorwegianSeal => {
                "Better use a client of your own in Samarbeidsportalen, with a virksomhetssertifikat or a registered key."
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBusiness(kind @ (Kind::Eseal(_) | Kind::Psd2Seal(_))) => {
                write!(f, "it is no Norwegian enterprise certificate ({kind})")
            }
            Self::NotBusiness(kind) => write!(f, "it is not a business certificate ({kind})"),
            Self::NotSeal => f.write_str("it is no eSeal"),
            Self::Key(kind) => write!(f, "its key is none that Maskinporten takes ({kind})"),
            Self::Purpose(purpose) => write!(f, "it is {purpose}, so it cannot prove who signed"),
            Self::Signing => f.write_str("it is the signing certificate of its set; the one for authentication is meant"),
            Self::Expired(until) => write!(f, "it expired on {}", date(until)),
            Self::NotYetValid(from) => write!(f, "it is not valid before {}", date(from)),
            Self::ExpiresSoon { days } => write!(f, "it expires in {}", counted(*days, "day")),
            Self::IssuerValidity(what) => f.write_str(what),
            Self::ForgedIssuer(subject) => {
                write!(f, "the certificate of {subject} in its chain is another one than Maskinporten knows by that name")
            }
            Self::NoOrganisationNumber => f.write_str("it names no Norwegian organisation number"),
            Self::OrganisationNumber(number, reason) => {
                write!(f, "it names {number} as organisation number: {reason}")
            }
            Self::Policies(none) if none.is_empty() => f.write_str("it names no policy"),
            Self::Policies(policies) => {
                write!(f, "none of its policies is on Digdir's list ({})", policies.join(", "))
            }
            Self::HardInTest => f.write_str("no issuer of hard certificates is known in Maskinporten's test environment"),
            Self::RetiredIssuer(issuer) => write!(f, "its issuer is not on Digdir's list (any more): {issuer}"),
            Self::KeyUsageNotCritical => f.write_str("its key usage is missing or not marked critical"),
            Self::Critical(oids) => {
                write!(f, "extensions are marked critical that Digdir's validator does not know ({})", oids.join(", "))
            }
            Self::Incomplete { issuer, .. } => {
                write!(f, "an eSeal goes with its whole chain, and the certificate of {issuer} is missing")
            }
            Self::TestSeal => f.write_str("it is an eSeal for tests"),
            Self::Unmarked => f.write_str("nothing in it says that it is an eSeal"),
            Self::Legislation(countries) => {
                write!(f, "it is qualified by the law of {}, not by the European Union's", countries.join(", "))
            }
            Self::Psd2(identifier) => {
                write!(f, "the API is told the identifier of a payment service provider: {identifier}")
            }
            Self::NorwegianSeal => f.write_str("as an eSeal it is one of a Norwegian organisation, which the flow for eSeals is not made for"),
        }
    }
}
