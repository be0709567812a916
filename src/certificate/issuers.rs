//! The issuers of Norwegian enterprise certificates, as data.
//!
//! Sources: the trust anchors and policies of Digdir's validator (felleslosninger/idporten-seid2-certificate-validator-lib,
//! 2026-04); the pairs of issuer and policy that sertifikatsok.no knows. Nothing is trusted because of them: they say what
//! a certificate is.

use std::fmt;

use super::{
    Certificate, Name,
    name::{COMMON_NAME, ORGANISATION},
};

/// Who issues Norwegian enterprise certificates (virksomhetssertifikat).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Issuer {
    /// Buypass AS, 983163327.
    Buypass,
    /// Commfides Norge AS, 988312495.
    Commfides,
    /// The sandbox of Segl, which nobody else knows.
    Sandbox,
}

/// Where a certificate belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// Maskinporten's test environment alone.
    Test,
    /// Production alone; for seals, both.
    Production,
    /// The sandbox of Segl.
    Sandbox,
}

/// The Norwegian profile that a certificate follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Generation {
    /// SEID 1, issued until June 2022: the organisation number in `serialNumber`, or behind the organisation's name.
    Seid1,
    /// SEID 2: the organisation number in `organizationIdentifier`.
    Seid2,
}

/// Where the issuer says that the key lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// In a file, at least at first (ST).
    Soft,
    /// In hardware that it does not leave (HT).
    Hard,
}

/// A certification authority that is known by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) issuer: Issuer,
    pub(super) environment: Environment,
    pub(super) issues: Issues,
    common_name: &'static str,
    /// SHA-256 of its certificate (DER), where Digdir's validator has it; without one it is not in that validator.
    pub(super) anchor: Option<&'static str>,
}

/// What an authority issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Issues {
    /// Certificates of organisations.
    Business(Generation),
    /// Certificates of persons, employees among them.
    Persons,
    /// Certificates of authorities.
    Authorities,
}

const fn known(
    issuer: Issuer,
    environment: Environment,
    issues: Issues,
    common_name: &'static str,
    anchor: Option<&'static str>,
) -> Authority {
    Authority { issuer, environment, issues, common_name, anchor }
}

use Environment::{Production, Sandbox, Test};
use Generation::{Seid1, Seid2};
use Issuer::{Buypass, Commfides};
use Issues::{Authorities, Business, Persons};

#[rustfmt::skip]
const AUTHORITIES: &[Authority] = &[
    known(Buypass, Test, Authorities, "Buypass Class 3 Test4 Root CA",
        Some("2a8475824d9ba398170031b9b398222f857a59bdc5cc3b49005eafdb55955da4")),
    known(Buypass, Test, Authorities, "Buypass Class 3 Test4 Root CA G2 ST",
        Some("760637a0f7da3a3876f601f96b8cf2ceb4fef80b76bd6f052e7bcb0041da350d")),
    known(Buypass, Test, Authorities, "Buypass Class 3 Test4 Root CA G2 HT", None),
    known(Commfides, Test, Authorities, "Commfides Root CA - G3 - TEST",
        Some("97ea39029d946583d44539519a1f2cae4a40f9733d17dac18457246af5654325")),
    known(Buypass, Test, Business(Seid1), "Buypass Class 3 Test4 CA 3",
        Some("b761abd7a4c478b33be382be511943c20e50950b3b2899875a692e1bef2bdc1b")),
    known(Buypass, Test, Business(Seid1), "Buypass Class 3 Test4 CA 1", None),
    known(Buypass, Test, Business(Seid2), "Buypass Class 3 Test4 CA G2 ST Business",
        Some("2f36956beb4de4907a3a0fb09437d7d532f4a12504473a00c12ceb028df54a28")),
    known(Buypass, Test, Business(Seid2), "Buypass Class 3 Test4 CA G2 HT Business", None),
    known(Buypass, Test, Persons, "Buypass Class 3 Test4 CA G2 HT Person", None),
    known(Buypass, Test, Persons, "Buypass Class 3 Test4 CA G2 ST Person", None),
    known(Commfides, Test, Business(Seid2), "Commfides Legal Person - G3 - TEST",
        Some("94bb0e8701b61794d5d0c3154204571096b23c78b33c87e7f942097030e526d9")),
    known(Commfides, Test, Business(Seid1), "Commfides CPN Enterprise-Norwegian SHA256 CA - TEST", None),
    known(Commfides, Test, Business(Seid1), "Commfides CPN Enterprise-Norwegian SHA256 CA - TEST2", None),
    known(Commfides, Test, Persons, "Commfides CPN Person-High SHA256 CA - TEST", None),
    known(Commfides, Test, Persons, "Commfides Natural Person - G3 - TEST", None),
    known(Buypass, Production, Authorities, "Buypass Class 3 Root CA",
        Some("edf7ebbca27a2a384d387b7d4010c666e2edb4843e4c29b4ae1d5b9332e6b24d")),
    known(Buypass, Production, Authorities, "Buypass Class 3 Root CA G2 ST",
        Some("f8c16c6b4fd45cb0672e16582b8805f1cafd0c48d866f4ed895b30e352a9faa6")),
    known(Buypass, Production, Authorities, "Buypass Class 3 Root CA G2 HT",
        Some("ab936dfd7f171d3a3cbd08f9bebdc3f3baaabaa79df6a908f8a7b0128627f187")),
    known(Commfides, Production, Authorities, "Commfides Root CA - G3",
        Some("5ad1a2b5dae0ce7daeb4d15e3676002da387ed852c1667b1a80543c474a41ec7")),
    known(Buypass, Production, Business(Seid1), "Buypass Class 3 CA 3",
        Some("c49c350e5a8205e063e74c554a994335b8435c996527d4ef1a2b0c7b51584b2d")),
    known(Buypass, Production, Business(Seid1), "Buypass Class 3 CA 1", None),
    known(Buypass, Production, Business(Seid2), "Buypass Class 3 CA G2 ST Business",
        Some("45e05831cddac1f2b96dc8ca54620834c87649e9ffd3b26d7dad2ad07f807232")),
    known(Buypass, Production, Business(Seid2), "Buypass Class 3 CA G2 HT Business",
        Some("0ef5cedce44265b112785b359a21141e20f553aada4c579404617b5ca6046be9")),
    known(Buypass, Production, Persons, "Buypass Class 3 CA G2 HT Person", None),
    known(Buypass, Production, Persons, "Buypass Class 3 CA G2 ST Person", None),
    known(Commfides, Production, Business(Seid2), "Commfides Legal Person - G3",
        Some("318aa99dfbe3d5cf10bf1e3a5e8bd921d55c68a70901dadc2cb6ed77ac363501")),
    known(Commfides, Production, Business(Seid1), "CPN Enterprise SHA256 CLASS 3", None),
    known(Commfides, Production, Persons, "CPN Person High SHA256 CLASS 3", None),
    known(Commfides, Production, Persons, "Commfides Natural Person - G3", None),
    known(Issuer::Sandbox, Sandbox, Authorities, "Segl Sandbox Test Root CA", None),
    known(Issuer::Sandbox, Sandbox, Business(Seid2), "Segl Sandbox Test CA", None),
];

/// Policies that Digdir's validator accepts: a dot at the end stands for whatever follows.
const IN_PRODUCTION: &[&str] = &[
    "2.16.578.1.26.1.3.2",
    "2.16.578.1.26.1.3.5",
    "2.16.578.1.29.13.200.",
    "2.16.578.1.29.13.210.",
    "2.16.578.1.29.13.220.",
    "2.16.578.1.29.13.1.1.0",
];
const IN_TEST: &[&str] = &[
    "2.16.578.1.26.1.3.2",
    "2.16.578.1.26.1.3.5",
    "2.16.578.1.26.1.0.3.2",
    "2.16.578.1.29.913.200.",
    "2.16.578.1.29.913.210.",
    "2.16.578.1.29.913.220.",
    "2.16.578.1.29.913.1.1.0",
    "2.16.578.1.29.13.1.1.0",
    "2.16.578.1.1.1.1.100",
];

/// Policies under which Buypass (arcs 1.3.1 and 1.3.6; 1.0 in test) and Commfides (arcs 12 and 912) issue to persons.
const OF_PERSONS: &[&str] = &[
    "2.16.578.1.26.1.3.1",
    "2.16.578.1.26.1.3.6",
    "2.16.578.1.26.1.0",
    "2.16.578.1.29.12.",
    "2.16.578.1.29.912.",
];

/// Policies that say where Buypass made the key.
const SOFT: &[&str] = &["2.16.578.1.26.1.3.2", "2.16.578.1.26.1.0.3.2"];
const HARD: &[&str] = &["2.16.578.1.26.1.3.5", "2.16.578.1.26.1.0.3.5"];

impl Authority {
    /// The authority that `name` belongs to.
    pub(super) fn named(name: &Name) -> Option<&'static Self> {
        let issuer = Issuer::named(name)?;
        let common_name = name.values(COMMON_NAME).next()?;
        AUTHORITIES.iter().find(|it| it.issuer == issuer && it.common_name.eq_ignore_ascii_case(common_name))
    }

    /// Whether `certificate`, which has its name, is another one than Digdir knows.
    pub(super) fn is_forged_by(&self, certificate: &Certificate) -> bool {
        self.anchor.is_some_and(|anchor| anchor != certificate.fingerprint())
    }
}

impl Issuer {
    /// The issuer that `name` belongs to, whatever its authority.
    pub(super) fn named(name: &Name) -> Option<Self> {
        let begins = |word: &str| {
            name.values(ORGANISATION).any(|organisation| {
                organisation.get(..word.len()).is_some_and(|front| front.eq_ignore_ascii_case(word))
            })
        };
        let issuers =
            [("Buypass", Self::Buypass), ("Commfides", Self::Commfides), ("Segl Sandbox", Self::Sandbox)];
        issuers.into_iter().find(|(word, _)| begins(word)).map(|(_, issuer)| issuer)
    }
}

impl Environment {
    /// Whether Digdir's validator accepts one of `policies` there.
    pub(super) fn accepts(self, policies: &[String]) -> bool {
        let accepted = match self {
            Self::Production => IN_PRODUCTION,
            Self::Test | Self::Sandbox => IN_TEST,
        };
        has_one_of(policies, accepted)
    }
}

impl Storage {
    /// Where Buypass says that the key was made; Commfides' policies do not tell.
    pub(super) fn of(policies: &[String]) -> Option<Self> {
        match (has_one_of(policies, SOFT), has_one_of(policies, HARD)) {
            (true, false) => Some(Self::Soft),
            (false, true) => Some(Self::Hard),
            _ => None,
        }
    }
}

/// Whether a Norwegian issuer says that the subject is a person.
pub(super) fn is_of_person(policies: &[String]) -> bool {
    has_one_of(policies, OF_PERSONS)
}

fn has_one_of(policies: &[String], wanted: &[&str]) -> bool {
    policies.iter().any(|policy| {
        wanted.iter().any(|wanted| match wanted.ends_with('.') {
            true => policy.starts_with(wanted),
            false => policy == wanted,
        })
    })
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buypass => "Buypass",
            Self::Commfides => "Commfides",
            Self::Sandbox => "the sandbox",
        })
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Test => "test",
            Self::Production => "production",
            Self::Sandbox => "the sandbox",
        })
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seid1 => "SEID 1",
            Self::Seid2 => "SEID 2",
        })
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Soft => "soft certificate (ST)",
            Self::Hard => "hard certificate (HT)",
        })
    }
}

/// An authority whose certificate has this fingerprint.
#[cfg(test)]
pub(super) fn known_by(anchor: &'static str) -> Authority {
    known(Buypass, Test, Authorities, "x", Some(anchor))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn owned(policies: &[&str]) -> Vec<String> {
        policies.iter().map(|policy| (*policy).to_owned()).collect()
    }

    #[test]
    fn each_anchor_is_a_fingerprint_and_stands_once() {
        let anchors: Vec<&str> = AUTHORITIES.iter().filter_map(|it| it.anchor).collect();
        assert_eq!(anchors.len(), 14);
        assert_eq!(anchors.iter().collect::<BTreeSet<_>>().len(), anchors.len());
        for anchor in anchors {
            assert!(
                anchor.len() == 64 && anchor.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            );
        }
        let names: BTreeSet<&str> = AUTHORITIES.iter().map(|it| it.common_name).collect();
        assert_eq!(names.len(), AUTHORITIES.len());
    }

    #[test]
    fn policies_are_compared_arc_by_arc_and_a_dot_at_the_end_stands_for_the_rest() {
        assert!(Test.accepts(&owned(&["0.4.0.194112.1.1", "2.16.578.1.29.913.210.1.0"])));
        assert!(!Production.accepts(&owned(&["2.16.578.1.29.913.210.1.0"])));
        assert!(Production.accepts(&owned(&["2.16.578.1.29.13.220.1.0"])));
        assert!(!Production.accepts(&owned(&["2.16.578.1.29.13.2200.1"])));
        assert!(!Production.accepts(&owned(&["2.16.578.1.26.1.3.25"])));
        // The certificates of Commfides' lowest level (LCP) are not on Digdir's list.
        assert!(!Production.accepts(&owned(&["2.16.578.1.29.13.310.1.0"])));
    }

    #[test]
    fn buypass_tells_soft_from_hard_by_its_policy() {
        assert_eq!(Storage::of(&owned(&["2.16.578.1.26.1.3.2"])), Some(Storage::Soft));
        assert_eq!(Storage::of(&owned(&["2.16.578.1.26.1.3.5"])), Some(Storage::Hard));
        assert_eq!(Storage::of(&owned(&["2.16.578.1.29.13.210.1.0"])), None);
    }
}
