//! What refusals and failures mean: cause, who must act, what to do, where it stands and whom to write to, in English
//! and in Norwegian. Pure data in `advice/*.toml`, one table per piece of advice:
//!
//! | key | |
//! |---|---|
//! | `codes` | what it is asked for by: codes of the authority or of PKCS#11, HTTP statuses, or a name of ours; the first is its own |
//! | `texts` | phrases, in small letters, by which a message without a code is known |
//! | `from` | who says so: `maskinporten`, `customs`, `altinn`, `device`, `network`, `segl` |
//! | `who` | who must act, first the likeliest: `you`, `vendor`, `owner`, `digdir`, `customer` |
//! | `again` | whether asking again helps: `never` (the default), `new-grant`, `soon`, `later` |
//! | `title`, `cause`, `remedy` | texts, each `en` and `nb` |
//! | `page`, `write_to` | the official page, and an address, where there is one |
//! | `checks` | questions to go through, each with a name |
//!
//! Every error of Segl names its advice (`topic()`), and takes its remedy from here. So this room uses none of the
//! others that have errors.

mod answer;
mod recognise;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use self::recognise::{Recognised, nearest, recognise};
use crate::language::{Language, Text};

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Advice {
    /// What it is asked for by; the first is its own.
    pub codes: Vec<String>,
    /// Phrases, in small letters, by which a message without a code is known.
    #[serde(default)]
    pub texts: Vec<String>,
    /// Who says so.
    pub from: Origin,
    /// Who must act, first the likeliest.
    pub who: Vec<Party>,
    /// Whether asking again helps.
    #[serde(default)]
    pub again: Again,
    /// What happened, in one sentence.
    pub title: Text,
    /// Why it happens.
    pub cause: Text,
    /// What to do.
    pub remedy: Text,
    /// The official page.
    pub page: Option<String>,
    /// The e-mail address of those who can help.
    pub write_to: Option<String>,
    /// Questions to go through.
    #[serde(default)]
    pub checks: Vec<Check>,
}

impl Advice {
    /// Its own code or name.
    #[must_use]
    pub fn code(&self) -> &str {
        self.codes.first().map_or("", String::as_str)
    }

    fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|known| known.eq_ignore_ascii_case(code))
    }

    fn is_known_by(&self, lower_case: &str) -> bool {
        self.texts.iter().any(|text| lower_case.contains(text.as_str()))
    }
}

/// A question to go through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Check {
    /// Its name, for programs.
    pub name: String,
    /// The question.
    pub text: Text,
}

/// Who says that something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// Maskinporten.
    Maskinporten,
    /// Norwegian Customs.
    Customs,
    /// Altinn.
    Altinn,
    /// A PKCS#11 device or its library.
    Device,
    /// The network, or whoever answered in an authority's place.
    Network,
    /// Segl itself.
    Segl,
}

impl Origin {
    /// The advice for a refusal in words that are not known, by those who refuse.
    fn otherwise(self) -> Option<&'static str> {
        match self {
            Self::Maskinporten => Some("maskinporten"),
            Self::Customs => Some("customs"),
            Self::Altinn => Some("altinn"),
            Self::Device | Self::Network | Self::Segl => None,
        }
    }
}

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Party {
    /// Whoever runs Segl.
    You,
    /// The vendor of the device.
    Vendor,
    /// The owner of the API, who grants its scopes.
    Owner,
    /// Digdir.
    Digdir,
    /// The customer whom a supplier acts for.
    Customer,
}

impl Party {
    /// How it is called.
    #[must_use]
    pub fn name(self, language: Language) -> &'static str {
        let (en, nb) = match self {
            Self::You => ("you", "du"),
            Self::Vendor => ("your HSM vendor", "HSM-leverandøren"),
            Self::Owner => ("the API owner", "eieren av API-et"),
            Self::Digdir => ("Digdir", "Digdir"),
            Self::Customer => ("the customer", "kunden"),
        };
        match language {
            Language::English => en,
            Language::Bokmal => nb,
        }
    }
}

/// Whether asking again helps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Again {
    /// Not before something has been changed.
    #[default]
    Never,
    /// At once, with a newly minted grant.
    NewGrant,
    /// In a moment.
    Soon,
    /// In some minutes: what was changed is on its way.
    Later,
}

impl Again {
    /// The same in words.
    #[must_use]
    pub fn sentence(self, language: Language) -> &'static str {
        let (en, nb) = match self {
            Self::Never => ("not before something has been changed", "ikke før noe er endret"),
            Self::NewGrant => ("at once, with a new grant", "straks, med et nytt grant"),
            Self::Soon => ("in a moment", "om et øyeblikk"),
            Self::Later => ("in some minutes", "om noen minutter"),
        };
        match language {
            Language::English => en,
            Language::Bokmal => nb,
        }
    }
}

/// All advice, in the order in which it is listed.
#[must_use]
pub fn all() -> &'static [Advice] {
    static ALL: LazyLock<Vec<Advice>> = LazyLock::new(|| {
        // A table that cannot be read does not leave the house: a test reads them all.
        FILES
            .iter()
            .filter_map(|text| toml::from_str::<File>(text).ok())
            .flat_map(|file| file.advice)
            .collect()
    });
    &ALL
}

/// The advice on `code`: a code, a status, a name of ours, or a number of PKCS#11 that has no name (`0x80000384`).
/// Capital and small letters are the same. The first where there are several.
#[must_use]
pub fn named(code: &str) -> Option<&'static Advice> {
    let code = if is_number(code) { "CKR_VENDOR_DEFINED" } else { code };
    all().iter().find(|advice| advice.has_code(code))
}

/// The English remedy of `topic`, which an error of Segl names.
pub(crate) fn remedy(topic: &str) -> &'static str {
    named(topic).map_or("", |advice| advice.remedy.in_language(Language::English))
}

/// The advice on a refusal by the authority `from`: by its code, else by its words, else by its status. There is always
/// one.
pub(crate) fn on_refusal(
    from: Origin,
    codes: &[&str],
    description: &str,
    status: u16,
) -> Option<&'static Advice> {
    let lower_case = description.to_ascii_lowercase();
    let own = || all().iter().filter(|advice| advice.from == from);
    codes
        .iter()
        .find_map(|code| own().find(|advice| advice.has_code(code)))
        .or_else(|| own().find(|advice| advice.is_known_by(&lower_case)))
        .or_else(|| own().find(|advice| advice.has_code(&status.to_string())))
        .or_else(|| from.otherwise().and_then(named))
}

/// Whether `code` is a number as PKCS#11 libraries answer it.
fn is_number(code: &str) -> bool {
    let digits = code.strip_prefix("0x").or_else(|| code.strip_prefix("0X"));
    digits.is_some_and(|digits| {
        (1..=16).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

const FILES: [&str; 4] = [
    include_str!("advice/maskinporten.toml"),
    include_str!("advice/exchange.toml"),
    include_str!("advice/pkcs11.toml"),
    include_str!("advice/segl.toml"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    advice: Vec<Advice>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Digdir's troubleshooting page: its codes, and what it says without one.
    const MASKINPORTEN: [(&str, &str); 22] = [
        ("MP-011", "Invalid assertion. Invalid parameter value"),
        ("unknown-claim", "Invalid assertion. Unknown field consumer_orgno"),
        ("MP-012", "Grant is used before"),
        ("MP-100", "Invalid assertion. Client authentication failed. Client not found"),
        ("unknown-kid", "Unknown key identifier (kid) for client"),
        ("key-required", "The client requires pre-registered jwk and no key identifier (kid) provided"),
        ("MP-110", "Invalid JWT claim aud"),
        ("MP-120", "The JWT is signed with an invalid certificate"),
        ("MP-121", "Expired key"),
        ("MP-122", "Invalid organization number for client. Does not match certificate orgno"),
        ("MP-123", "Invalid JWT header x5c"),
        ("MP-124", "Invalid JWT signature"),
        ("MP-130", "JWT is expired"),
        ("clock-ahead", "Issue time is after now"),
        ("clock-behind", "Issue time is too long ago"),
        (
            "consumer-is-self",
            "The combination consumer_org in claim and delegation scope on client is invalid",
        ),
        ("MP-200", "Token request contains invalid scopes for client"),
        ("MP-201", "scopes not allowed for maskinporten"),
        ("MP-250", "Consumer has not been granted access to the scope X"),
        ("MP-251", "Consumer A has not delegated access to the scope X to supplier B"),
        ("maskinporten", "Something new"),
        ("maskinporten", ""),
    ];

    #[test]
    fn every_table_can_be_read_and_no_code_is_told_twice_by_the_same_one() {
        let mut told = BTreeSet::new();
        let mut count = 0;
        for text in FILES {
            let file: File = toml::from_str(text).unwrap();
            for advice in file.advice {
                count += 1;
                for code in &advice.codes {
                    assert!(told.insert((advice.from, code.to_ascii_uppercase())), "{code}");
                }
            }
        }
        assert_eq!(count, all().len());
    }

    #[test]
    fn all_of_it_is_told_in_both_languages_in_whole_sentences() {
        for advice in all() {
            let code = advice.code();
            assert!(!code.is_empty() && !advice.who.is_empty());
            for text in [&advice.title, &advice.cause, &advice.remedy] {
                let told: BTreeSet<&str> = text.all().collect();
                assert_eq!(told.len(), 2, "{code}");
                for sentence in told {
                    assert!(sentence.ends_with(['.', ')']) && !sentence.contains("  "), "{code}: {sentence}");
                }
            }
            for text in &advice.texts {
                assert!(text.len() >= 8 && *text == text.to_ascii_lowercase(), "{code}: {text}");
            }
            for check in &advice.checks {
                assert_eq!(check.text.all().collect::<BTreeSet<_>>().len(), 2, "{code}");
            }
            assert!(advice.page.iter().all(|page| page.starts_with("https://")), "{code}");
        }
    }

    #[test]
    fn an_authoritys_advice_has_an_official_page() {
        let hosts = ["docs.digdir.no", "toll.github.io", "docs.altinn.studio", "docs.oasis-open.org"];
        let told = |advice: &&Advice| !matches!(advice.from, Origin::Segl | Origin::Network);
        for advice in all().iter().filter(told) {
            let host = advice.page.as_deref().and_then(|page| page.split('/').nth(2)).unwrap_or_default();
            assert!(hosts.contains(&host), "{}: {host}", advice.code());
        }
    }

    #[test]
    fn every_code_and_text_of_maskinporten_has_advice() {
        for (code, text) in MASKINPORTEN {
            let by_text = on_refusal(Origin::Maskinporten, &[], text, 400).unwrap();
            assert_eq!(by_text.code(), code, "{text}");
            assert_eq!(on_refusal(Origin::Maskinporten, &[code], "", 400).unwrap().code(), code);
        }
        for code in ["MP-301", "MP-302", "MP-303", "invalid_altinn_customer_configuration"] {
            assert!(on_refusal(Origin::Maskinporten, &[code], "", 400).unwrap().has_code(code), "{code}");
        }
        assert_eq!(on_refusal(Origin::Maskinporten, &["MP-999"], "", 400).unwrap().code(), "maskinporten");
    }

    #[test]
    fn every_refusal_of_customs_and_altinn_has_advice() {
        let customs = |text: &str, status| on_refusal(Origin::Customs, &[], text, status).unwrap();
        let scope = customs("Not authorized to request scope toll:movement/road/v2", 403);
        assert_eq!((scope.code(), scope.checks.len()), ("customs-scope", 4));
        assert_eq!(customs("The subject token is not valid", 400).code(), "customs-subject-token");
        assert_eq!(
            customs("grant_type is not token-exchange; unsupported grant_type", 400).code(),
            "customs-grant-type"
        );
        assert_eq!(customs("", 401).code(), "customs-token");
        assert_eq!(customs("<html>no</html>", 403).code(), "customs");
        let altinn = |text: &str, status| on_refusal(Origin::Altinn, &[], text, status).unwrap().code();
        assert_eq!(altinn("", 401), "altinn-token");
        assert_eq!(altinn("Unknown token provider. Trusted providers: maskinporten", 400), "altinn-provider");
        assert_eq!(altinn("Virksomhetsbruker is no longer available", 410), "altinn-enterprise-user");
        assert_eq!(altinn("", 410), "altinn-enterprise-user");
        assert_eq!(altinn("", 405), "altinn-method");
        assert_eq!(altinn("", 403), "altinn");
    }

    #[test]
    fn a_number_without_a_name_is_a_vendors_own_and_letters_may_be_small() {
        for number in ["0x80000384", "0X04", "0x0000000080000384"] {
            assert_eq!(named(number).unwrap().code(), "CKR_VENDOR_DEFINED");
        }
        for not in ["0x", "0x80000000000000384", "0xzz", "80000384"] {
            assert_eq!(named(not), None, "{not}");
        }
        assert_eq!(named("mp-250").unwrap().code(), "MP-250");
    }

    #[test]
    fn there_is_advice_on_a_refusal_of_which_nothing_is_known() {
        for from in [Origin::Maskinporten, Origin::Customs, Origin::Altinn] {
            assert!(on_refusal(from, &[], "", 0).is_some(), "{from:?}");
        }
    }
}
