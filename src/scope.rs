//! The scopes that are known: which API each opens, who may have it, which exchange its API wants. Pure data, with the
//! official page of each.
//!
//! The list is not complete and cannot be: every owner of an API makes scopes. A scope that is not here is as good as
//! any other; one that is nearly a known one is probably misspelt.

mod search;

use std::{fmt, sync::LazyLock};

use serde::{Deserialize, Serialize};

pub use self::search::search;
use crate::language::{Language, Text};

/// One scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Scope {
    /// As it is asked for.
    pub name: String,
    /// Who owns the API and grants the scope.
    pub owner: Owner,
    /// What it belongs to.
    pub group: Group,
    /// Who may have it.
    pub holder: Holder,
    /// Whose token the API takes.
    pub exchange: Exchange,
    /// Whether it is in use.
    pub state: State,
    /// The scope that took its place.
    pub successor: Option<String>,
    /// The APIs that it opens, by their owner's names.
    pub apis: Vec<String>,
    /// What it is used for.
    #[serde(rename = "use")]
    pub purpose: Text,
    /// The official page that names it.
    pub source: String,
    /// The date that the page carries; where it carries none, the day on which it was read. `2026-06-20` for example.
    #[serde(deserialize_with = "date")]
    pub dated: String,
}

/// Who owns an API and grants its scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Owner {
    /// Norwegian Customs (Tolletaten).
    Customs,
    /// Altinn.
    Altinn,
    /// The Norwegian Tax Administration (Skatteetaten).
    Tax,
    /// The Norwegian Digitalisation Agency (Digdir).
    Digdir,
}

/// What a scope belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Group {
    /// Norwegian Customs.
    Customs,
    /// Altinn, for those who own services there.
    ServiceOwner,
    /// Altinn's register of systems and requests for system users.
    SystemRegister,
    /// With a system user, for a customer.
    SystemUser,
    /// Skatteetaten.
    Tax,
    /// Samarbeidsportalen's own API.
    Portal,
}

impl Group {
    /// Its heading.
    #[must_use]
    pub fn title(self, language: Language) -> &'static str {
        let (en, nb) = match self {
            Self::Customs => ("Norwegian Customs", "Tolletaten"),
            Self::ServiceOwner => ("Altinn, service owners", "Altinn, tjenesteeiere"),
            Self::SystemRegister => ("Altinn, system register", "Altinn, systemregister"),
            Self::SystemUser => ("With a system user", "Med systembruker"),
            Self::Tax => ("Tax Administration (Skatteetaten)", "Skatteetaten"),
            Self::Portal => ("Samarbeidsportalen", "Samarbeidsportalen"),
        };
        match language {
            Language::English => en,
            Language::Bokmal => nb,
        }
    }
}

/// Who may have a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Holder {
    /// A client registered in Samarbeidsportalen.
    Client,
    /// A foreign business with an eSeal.
    Eseal,
}

impl Holder {
    /// Who may have the scope `name`, which need not be a known one: Customs keeps two families apart by their prefix.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match named(name) {
            Some(scope) => scope.holder,
            None if name.starts_with(EUROPEAN) => Self::Eseal,
            None => Self::Client,
        }
    }
}

/// Whose token an API takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Exchange {
    /// Customs' token.
    Customs,
    /// Altinn's token.
    Altinn,
    /// Maskinporten's token itself.
    None,
    /// Maskinporten's or Altinn's.
    Either,
}

/// Whether a scope is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// It is.
    Open,
    /// Its API is announced and does not work yet.
    NotReady,
    /// It has been replaced.
    Legacy,
}

/// All known scopes, in the order in which they are listed.
#[must_use]
pub fn known() -> &'static [Scope] {
    static KNOWN: LazyLock<Vec<Scope>> = LazyLock::new(|| {
        // A catalogue that cannot be read does not leave the house: a test reads it.
        toml::from_str::<File>(CATALOGUE).map(|file| file.scope).unwrap_or_default()
    });
    &KNOWN
}

/// The known scope of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scope> {
    known().iter().find(|scope| scope.name == name)
}

/// The known scope that `name`, which is none itself, was probably meant to be.
#[must_use]
pub fn meant(name: &str) -> Option<&'static Scope> {
    if name.len() > LONGEST || named(name).is_some() {
        return None;
    }
    let name = name.to_ascii_lowercase();
    known()
        .iter()
        .map(|scope| (strsim::osa_distance(&name, &scope.name), scope))
        .filter(|(distance, _)| *distance <= MISTAKES)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, scope)| scope)
}

/// The scope that opens the same to the other kind of holder: Customs has nearly each of its scopes twice, `toll:…` and
/// `toll:eu/…`. `None` when there is none.
#[must_use]
pub fn twin(name: &str) -> Option<String> {
    let twin = match name.strip_prefix(EUROPEAN) {
        Some(rest) => format!("toll:{rest}"),
        None => format!("{EUROPEAN}{}", name.strip_prefix("toll:")?),
    };
    // Of a scope that is not in the list it cannot be said that it has none.
    (named(name).is_none() || named(&twin).is_some()).then_some(twin)
}

/// What whoever configures the scope `name` should know beforehand.
#[must_use]
pub fn caution(name: &str) -> Option<Caution> {
    match named(name) {
        Some(scope) => match scope.state {
            State::Open => None,
            State::NotReady => Some(Caution::NotReady(scope)),
            State::Legacy => Some(Caution::Legacy(scope)),
        },
        None => meant(name).map(Caution::Misspelt),
    }
}

/// What is odd about a scope; none of it keeps anybody from asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caution {
    /// It is nearly this one.
    Misspelt(&'static Scope),
    /// Its API does not work yet.
    NotReady(&'static Scope),
    /// It has been replaced.
    Legacy(&'static Scope),
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misspelt(scope) => write!(f, "this scope is not known; did you mean {}?", scope.name),
            Self::NotReady(scope) => {
                write!(f, "the API of {} is not ready (as of {})", scope.name, scope.dated)
            }
            Self::Legacy(scope) => match &scope.successor {
                Some(successor) => write!(f, "{} has been replaced by {successor}", scope.name),
                None => write!(f, "{} is no longer in use", scope.name),
            },
        }
    }
}

const CATALOGUE: &str = include_str!("scope/catalogue.toml");

/// What Customs' scopes for foreign businesses begin with (toll.github.io, June 2026).
pub(crate) const EUROPEAN: &str = "toll:eu/";

/// The longest name that is looked at: far above any real one.
const LONGEST: usize = 512;

/// How many letters may be wrong, missing, too many or swapped for a name to be a misspelt one.
const MISTAKES: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scope: Vec<Scope>,
}

fn date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    toml::value::Datetime::deserialize(deserializer).map(|date| date.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::grant::TokenRequest;

    #[test]
    fn the_catalogue_can_be_read_and_has_each_scope_once() {
        let read: File = toml::from_str(CATALOGUE).unwrap();
        assert_eq!(read.scope, known());
        let names: BTreeSet<&str> = known().iter().map(|scope| scope.name.as_str()).collect();
        assert_eq!(names.len(), known().len());
        assert!(known().is_sorted_by_key(|scope| scope.group), "scopes of a group stand together");
    }

    #[test]
    fn every_scope_is_told_in_both_languages_with_a_dated_official_page() {
        let official = ["toll.github.io", "docs.altinn.studio", "docs.digdir.no", "skatteetaten.github.io"];
        for scope in known() {
            let texts: BTreeSet<&str> = scope.purpose.all().collect();
            assert!(texts.len() == 2 && texts.iter().all(|text| text.ends_with('.')), "{}", scope.name);
            let host = scope.source.strip_prefix("https://").and_then(|rest| rest.split('/').next());
            assert!(official.contains(&host.unwrap()), "{}", scope.source);
            assert!(scope.dated.len() == 10 && scope.dated.starts_with("202"), "{}", scope.dated);
            assert!(TokenRequest::scopes([&scope.name]).is_ok(), "{}", scope.name);
        }
    }

    #[test]
    fn customs_families_are_told_apart_and_mirror_each_other() {
        let customs = || known().iter().filter(|scope| scope.owner == Owner::Customs);
        for scope in customs() {
            let european = scope.name.starts_with("toll:eu/");
            assert_eq!(scope.holder, if european { Holder::Eseal } else { Holder::Client }, "{}", scope.name);
            assert_eq!(scope.exchange, Exchange::Customs);
            let mirrored = match scope.name.strip_prefix("toll:eu/") {
                Some(rest) => format!("toll:{rest}"),
                None => scope.name.replacen("toll:", "toll:eu/", 1),
            };
            let has_twin = named(&mirrored).is_some_and(|twin| twin.state == scope.state);
            assert_eq!(has_twin, scope.name != "toll:declaration.feed", "{}", scope.name);
            assert_eq!(twin(&scope.name), has_twin.then_some(mirrored));
        }
        assert_eq!(twin("toll:eu/movement/space").as_deref(), Some("toll:movement/space"));
        assert_eq!(twin("digdir:verksemd.eu"), None);
        assert_eq!(customs().count(), 15);
        assert_eq!(Holder::of("toll:eu/movement/space"), Holder::Eseal);
        assert_eq!(Holder::of("digdir:verksemd.eu"), Holder::Eseal);
        assert_eq!(Holder::of("skatteetaten:unheard.of"), Holder::Client);
    }

    #[test]
    fn a_replaced_scope_names_one_that_is_open() {
        for scope in known() {
            assert_eq!(scope.successor.is_some(), scope.state == State::Legacy, "{}", scope.name);
            if let Some(successor) = &scope.successor {
                assert_eq!(named(successor).unwrap().state, State::Open);
            }
        }
    }

    #[test]
    fn a_misspelt_scope_is_pointed_out_and_an_unknown_one_is_not() {
        for (written, meant_name) in [
            ("toll:movement/raod/v2", "toll:movement/road/v2"),
            ("toll/movement/road/v2", "toll:movement/road/v2"),
            ("toll:eu/movemnet/air", "toll:eu/movement/air"),
            ("Toll:movement/Road/v2", "toll:movement/road/v2"),
            ("altinn:serviceowner/instance.read", "altinn:serviceowner/instances.read"),
            ("skatteetaten:inntekter", "skatteetaten:inntekt"),
        ] {
            assert_eq!(meant(written).unwrap().name, meant_name, "{written}");
        }
        for unknown in ["skatteetaten:mva-register-read", "nav:helseytelser/sykepenger", "x", ""] {
            assert_eq!(caution(unknown), None, "{unknown}");
        }
        assert_eq!(caution("toll:movement/road/v2"), None);
    }

    #[test]
    fn a_scope_that_leads_nowhere_is_warned_about() {
        let said = |name: &str| caution(name).unwrap().to_string();
        assert_eq!(
            said("toll:movement/road"),
            "toll:movement/road has been replaced by toll:movement/road/v2"
        );
        assert_eq!(
            said("toll:declaration.feed"),
            "the API of toll:declaration.feed is not ready (as of 2026-06-20)"
        );
        assert_eq!(
            said("toll:movement/rod/v2"),
            "this scope is not known; did you mean toll:movement/road/v2?"
        );
    }

    proptest! {
        #[test]
        fn no_name_makes_the_catalogue_panic(name in "\\PC{0,600}") {
            let _ = (caution(&name), Holder::of(&name), twin(&name), search(&name));
        }
    }
}
