use url::{Host, Url};

use super::{document::Report, error::Fault, wire};

/// Which of the two worlds an environment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Realm {
    /// Test authorities, test organisations, test certificates.
    Test,
    /// The real ones.
    Prod,
    /// Neither: a sandbox on this machine, a stub in a test.
    Other,
}

impl Realm {
    /// `test`, `prod`, or `other`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Prod => "prod",
            Self::Other => "other",
        }
    }
}

/// Addresses of one set of authorities. They come together, so that test and prod cannot be mixed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// `test`, `prod`, or the name from `[environments]`.
    pub name: String,
    /// Which world it belongs to.
    pub realm: Realm,
    /// Maskinporten's issuer, byte for byte as it goes into `aud`.
    pub issuer: String,
    /// Address of the metadata (RFC 8414) where it does not follow from the issuer.
    pub metadata: Option<Url>,
    /// Token endpoint to use while the metadata cannot be read; known for `test` and `prod`.
    pub token_endpoint: Option<Url>,
    /// Customs' base address.
    pub customs: Option<Url>,
    /// Altinn's base address; for `test` that of tt02.
    pub altinn: Option<Url>,
}

impl Environment {
    /// Maskinporten's test environment and its companions.
    #[must_use]
    pub fn test() -> Self {
        Self::built_in(
            Realm::Test,
            "https://test.maskinporten.no/",
            "https://api-test.toll.no",
            "https://platform.tt02.altinn.no",
        )
    }

    /// Production.
    #[must_use]
    pub fn prod() -> Self {
        Self::built_in(
            Realm::Prod,
            "https://maskinporten.no/",
            "https://api.toll.no",
            "https://platform.altinn.no",
        )
    }

    fn built_in(realm: Realm, issuer: &str, customs: &str, altinn: &str) -> Self {
        Self {
            name: realm.name().to_owned(),
            realm,
            issuer: issuer.to_owned(),
            metadata: None,
            token_endpoint: Url::parse(issuer).and_then(|issuer| issuer.join("token")).ok(),
            customs: Url::parse(customs).ok(),
            altinn: Url::parse(altinn).ok(),
        }
    }

    /// The built-in environment of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "test" => Some(Self::test()),
            "prod" => Some(Self::prod()),
            _ => None,
        }
    }

    /// The built-in environment of this issuer, byte for byte.
    #[must_use]
    pub fn of_issuer(issuer: &str) -> Option<Self> {
        [Self::test(), Self::prod()].into_iter().find(|built_in| built_in.issuer == issuer)
    }

    /// Whether it comes from `[environments]`.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.name != self.realm.name()
    }
}

/// Altinn's environments by name, with the realm whose tokens each takes (docs.altinn.studio, "exchange token").
pub(super) fn altinn(name: &str) -> Option<(Realm, Option<Url>)> {
    let address = match name {
        "prod" => return Some((Realm::Prod, Environment::prod().altinn)),
        "tt02" => return Some((Realm::Test, Environment::test().altinn)),
        "at21" | "at22" | "at23" | "at24" | "yt01" => format!("https://platform.{name}.altinn.cloud"),
        _ => return None,
    };
    Some((Realm::Test, Url::parse(&address).ok()))
}

/// The names that [`altinn`] knows.
pub(super) const ALTINN_NAMES: &str = "prod, tt02, at21, at22, at23, at24, yt01";

/// Checks one `[environments.NAME]`; what is wrong goes into the report.
pub(super) fn check(name: &str, wire: wire::Environment, report: &mut Report) -> Option<Environment> {
    let place = format!("environments.{name}");
    if matches!(name, "test" | "prod" | "ver1" | "ver2") {
        report.refuse(&place, Fault::ReservedName { name: name.to_owned() });
        return None;
    }
    let base = match wire.from.as_deref() {
        None => None,
        Some(from) => match Environment::named(from) {
            Some(base) => Some(base),
            None => {
                report.refuse(&format!("{place}.from"), Fault::From { name: from.to_owned() });
                return None;
            }
        },
    };
    let mut address = |key: &str, text: Option<String>| {
        let text = text?;
        let checked = if key == "issuer" { issuer(&text) } else { self::address(&text) };
        checked.map_err(|fault| report.refuse(&format!("{place}.{key}"), fault)).ok()
    };
    let own_issuer = wire.issuer.is_some();
    let issuer_url = address("issuer", wire.issuer);
    let customs = address("customs", wire.customs);
    let altinn = address("altinn", wire.altinn);
    if own_issuer && issuer_url.is_none() {
        return None;
    }

    // The realm of the base, or else of the first known host; all other known hosts must agree.
    let mut realm = base.as_ref().map_or(Realm::Other, |base| base.realm);
    for (key, url) in [("issuer", &issuer_url), ("customs", &customs), ("altinn", &altinn)] {
        let Some(host) = url.as_ref().and_then(Url::host_str) else { continue };
        match realm_of(host) {
            Realm::Other => {}
            found if realm == Realm::Other => realm = found,
            found if found == realm => {}
            found => {
                let (found, rest) = (found.name(), realm.name());
                let host = host.to_owned();
                report.refuse(&format!("{place}.{key}"), Fault::MixedEnvironment { host, found, rest });
            }
        }
    }

    let token_endpoint = match (&issuer_url, &base) {
        (None, Some(base)) => base.token_endpoint.clone(),
        _ => wire.token_endpoint,
    };
    let issuer = match (issuer_url, &base) {
        (Some(url), _) => url.to_string(),
        (None, Some(base)) => base.issuer.clone(),
        (None, None) => {
            report.refuse(&place, Fault::NoIssuer);
            return None;
        }
    };
    let (base_customs, base_altinn) = base.map(|base| (base.customs, base.altinn)).unwrap_or_default();
    Some(Environment {
        name: name.to_owned(),
        realm,
        issuer,
        metadata: wire.metadata,
        token_endpoint,
        customs: customs.or(base_customs),
        altinn: altinn.or(base_altinn),
    })
}

/// An authority's address: https, or http to this machine.
pub(super) fn address(text: &str) -> Result<Url, Fault> {
    let url = Url::parse(text).map_err(|_| Fault::NotAnAddress)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Fault::AddressPassword);
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => {}
        ("http", Some(host)) if is_loopback(&host) => {}
        ("http", Some(_)) => return Err(Fault::PlainHttp),
        _ => return Err(Fault::NotAnAddress),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Fault::AddressQuery);
    }
    if url.host_str() == Some("ver2.maskinporten.no") {
        return Err(Fault::ClosedHost);
    }
    Ok(url)
}

/// An issuer: an address with its slash, spelt as it will be compared.
fn issuer(text: &str) -> Result<Url, Fault> {
    let url = address(text)?;
    if !text.ends_with('/') {
        return Err(Fault::IssuerSlash { issuer: text.to_owned() });
    }
    if url.as_str() != text {
        return Err(Fault::IssuerSpelling { expected: url.to_string() });
    }
    Ok(url)
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// The world that a known host belongs to.
fn realm_of(host: &str) -> Realm {
    let below =
        |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    match host {
        "maskinporten.no" | "api.toll.no" | "platform.altinn.no" => Realm::Prod,
        "api-test.toll.no" => Realm::Test,
        _ if below("test.maskinporten.no") || below("tt02.altinn.no") || below("altinn.cloud") => Realm::Test,
        _ => Realm::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, toml: &str) -> Result<Environment, String> {
        let mut report = Report::default();
        let environment = check(name, toml::from_str(toml).unwrap(), &mut report);
        match report.problems().first() {
            Some(problem) => Err(problem.to_string()),
            None => Ok(environment.unwrap()),
        }
    }

    #[test]
    fn the_built_in_addresses_are_those_of_the_authorities() {
        let address = |url: &Option<Url>| url.as_ref().unwrap().as_str().to_owned();
        let (test, prod) = (Environment::test(), Environment::prod());
        assert_eq!(address(&test.token_endpoint), "https://test.maskinporten.no/token");
        assert_eq!(address(&prod.token_endpoint), "https://maskinporten.no/token");
        assert_eq!(address(&test.customs), "https://api-test.toll.no/");
        assert_eq!(address(&prod.customs), "https://api.toll.no/");
        assert_eq!(address(&test.altinn), "https://platform.tt02.altinn.no/");
        assert_eq!(address(&prod.altinn), "https://platform.altinn.no/");
        for environment in [test, prod] {
            assert_eq!(
                realm_of(Url::parse(&environment.issuer).unwrap().host_str().unwrap()),
                environment.realm
            );
            assert_eq!(realm_of(environment.customs.unwrap().host_str().unwrap()), environment.realm);
            assert_eq!(realm_of(environment.altinn.unwrap().host_str().unwrap()), environment.realm);
        }
        for name in ALTINN_NAMES.split(", ") {
            let (realm, url) = altinn(name).unwrap();
            assert_eq!(realm_of(url.unwrap().host_str().unwrap()), realm, "{name}");
        }
    }

    #[test]
    fn an_environment_takes_what_it_does_not_give_from_its_base() {
        let local = checked("local", "from = \"test\"\ncustoms = \"http://localhost:8401\"").unwrap();
        assert_eq!(local.issuer, "https://test.maskinporten.no/");
        assert_eq!(local.token_endpoint, Environment::test().token_endpoint);
        assert_eq!(local.customs.unwrap().as_str(), "http://localhost:8401/");
        assert_eq!(local.altinn, Environment::test().altinn);
        assert_eq!(local.realm, Realm::Test);
        let moved = checked("moved", "from = \"test\"\nissuer = \"http://127.0.0.1:1/\"").unwrap();
        assert_eq!(moved.token_endpoint, None, "the endpoint of another issuer is not used");
        assert_eq!(checked("own", "issuer = \"http://[::1]:8400/\"").unwrap().realm, Realm::Other);
    }

    #[test]
    fn test_and_prod_cannot_meet_in_one_environment() {
        for toml in [
            "from = \"test\"\ncustoms = \"https://api.toll.no\"",
            "from = \"prod\"\naltinn = \"https://platform.tt02.altinn.no\"",
            "issuer = \"https://maskinporten.no/\"\ncustoms = \"https://api-test.toll.no\"",
            "issuer = \"http://127.0.0.1:1/\"\ncustoms = \"https://api.toll.no\"\naltinn = \"https://platform.at22.altinn.cloud\"",
        ] {
            let said = checked("mixed", toml).unwrap_err();
            assert!(said.ends_with("test and prod must not meet"), "{said}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_right_are_refused_each_with_its_reason() {
        for (toml, expected) in [
            (
                "issuer = \"http://127.0.0.1:8400\"",
                "an issuer ends in a slash, as http://127.0.0.1:8400/ would",
            ),
            ("issuer = \"HTTP://127.0.0.1:80/\"", "an issuer is written as http://127.0.0.1/"),
            ("issuer = \"http://maskinporten.example/\"", "plain http is for this machine only"),
            ("issuer = \"http://127.0.0.1.example.no/\"", "plain http is for this machine only"),
            ("issuer = \"ftp://127.0.0.1/\"", "this is not an address"),
            ("issuer = \"maskinporten.no\"", "this is not an address"),
            ("issuer = \"https://ver2.maskinporten.no/\"", "was replaced by test.maskinporten.no"),
            ("from = \"test\"\ncustoms = \"https://a:b@host\"", "must not hold a user name or password"),
            ("from = \"test\"\ncustoms = \"https://host/?x\"", "without ? and #"),
            ("from = \"ver2\"", "from is \"test\" or \"prod\", not \"ver2\""),
            ("customs = \"https://host\"", "an environment needs an issuer"),
        ] {
            let said = checked("odd", toml).unwrap_err();
            assert!(said.contains(expected), "{toml}: {said}");
        }
        assert!(checked("test", "from = \"test\"").unwrap_err().contains("is taken"));
    }
}
