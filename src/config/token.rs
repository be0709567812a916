use std::collections::BTreeMap;

use url::Url;

use super::{
    client::{Client, unknown},
    document::Report,
    environment::{self, Environment, Realm},
    error::Fault,
    family, wire,
};
use crate::{
    certificate::OrganisationNumber,
    grant::{InvalidRequest, TokenRequest, TokenRequestBuilder},
    scope,
};

/// A token that can be asked for by name, as it is configured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Token {
    /// Its name in `[tokens]`.
    pub name: String,
    /// Name of its client: a key of [`Config::clients`](super::Config::clients).
    pub client: String,
    /// Scopes, as they are written.
    pub scopes: Vec<String>,
    /// The API that the token is meant for (RFC 8707).
    pub resource: Option<String>,
    /// The customer that a supplier acts for.
    pub consumer_org: Option<ConsumerOrg>,
    /// Rich authorization (RFC 9396), as JSON.
    pub authorization_details: Option<serde_json::Value>,
    /// Whom the Maskinporten token is exchanged with.
    pub exchange: Option<Exchange>,
    /// Path of the harmless call at Customs, when it is not the usual one.
    pub probe: Option<String>,
    /// Whether the token is renewed although nobody asks for it.
    pub keep_warm: bool,
}

/// The customer that a supplier acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumerOrg {
    /// Always this one.
    Fixed(OrganisationNumber),
    /// Each call names one.
    Required,
}

/// An exchange with the address it is made at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exchange {
    /// Norwegian Customs.
    Customs {
        /// Base address.
        base: Url,
    },
    /// Altinn.
    Altinn {
        /// Base address of the platform.
        base: Url,
        /// Whether to ask for a token of the test organisation `ttd` (`?test=true`).
        test: bool,
    },
}

impl Token {
    /// A request for this token, to which a caller may add what it is allowed to choose.
    pub fn request(&self) -> TokenRequestBuilder {
        self.request_for(self.scopes.clone())
    }

    /// As [`request`](Self::request), for other scopes.
    pub fn request_for(&self, scopes: Vec<String>) -> TokenRequestBuilder {
        let mut request = TokenRequest::builder(scopes);
        if let Some(resource) = &self.resource {
            request = request.resource(resource);
        }
        if let Some(ConsumerOrg::Fixed(number)) = self.consumer_org {
            request = request.consumer_org(number.to_string());
        }
        if let Some(details) = &self.authorization_details {
            request = request.authorization_details(details.clone());
        }
        request
    }
}

/// Checks one `[tokens.NAME]`; what is wrong goes into the report, what is odd into the warnings. `client_names` are
/// those that are written, whether or not the rest of their table is right.
pub(super) fn check(
    name: &str,
    wire: wire::Token,
    clients: &BTreeMap<String, Client>,
    client_names: &[String],
    report: &mut Report,
    warnings: &mut Vec<String>,
) -> Option<Token> {
    let place = format!("tokens.{name}");
    let before = report.problems().len();
    let mut refuse = |key: &str, fault: Fault| report.refuse(&format!("{place}.{key}"), fault);
    if !client_names.contains(&wire.client) {
        refuse("client", unknown("client", &wire.client, client_names));
    }
    let consumer_org = match wire.consumer_org.as_deref().map(consumer_org).transpose() {
        Ok(consumer_org) => consumer_org,
        Err(invalid) => {
            refuse("consumer_org", invalid.into());
            None
        }
    };
    let is_eseal = clients.get(&wire.client).is_some_and(Client::is_eseal);
    if is_eseal {
        for (key, is_given) in [
            ("consumer_org", consumer_org.is_some()),
            ("authorization_details", wire.authorization_details.is_some()),
        ] {
            if is_given {
                refuse(key, Fault::NotWithSeal);
            }
        }
    }
    for caution in wire.scopes.iter().filter_map(|written| scope::caution(written)) {
        warnings.push(format!("{place}.scopes: {caution}"));
    }
    let exchange = match (&wire.exchange, clients.get(&wire.client)) {
        (Some(exchange), Some(client)) => {
            self::exchange(exchange, wire.altinn_test.unwrap_or_default(), client)
                .map_err(|fault| refuse("exchange", fault))
                .ok()
        }
        _ => None,
    };
    if clients.contains_key(&wire.client)
        && let Some(fault) = family::misfit(&wire.scopes, is_eseal, exchange.as_ref())
    {
        refuse("scopes", fault);
    }
    let written = wire.exchange.as_deref().unwrap_or_default();
    if wire.altinn_test.is_some() && written.split(':').next() != Some("altinn") {
        refuse("altinn_test", Fault::AltinnTest);
    }
    if let Some(probe) = &wire.probe {
        if written != "customs" {
            refuse("probe", Fault::ProbeWithoutCustoms);
        } else if !is_path(probe) {
            refuse("probe", Fault::ProbePath);
        }
    }
    let keep_warm = wire.keep_warm.unwrap_or_default();
    if keep_warm && consumer_org == Some(ConsumerOrg::Required) {
        refuse("keep_warm", Fault::KeepWarm);
    }
    let details = wire.authorization_details;
    let token = Token {
        name: name.to_owned(),
        client: wire.client,
        scopes: wire.scopes,
        resource: wire.resource,
        consumer_org,
        authorization_details: details
            .map(|objects| objects.into_iter().map(serde_json::Value::Object).collect()),
        exchange,
        probe: wire.probe,
        keep_warm,
    };
    if let Err(invalid) = token.request().build() {
        let key = if invalid.field == "scope" { "scopes" } else { invalid.field };
        refuse(key, invalid.into());
    }
    (report.problems().len() == before && clients.contains_key(&token.client)).then_some(token)
}

fn consumer_org(text: &str) -> Result<ConsumerOrg, InvalidRequest> {
    if text == "required" {
        return Ok(ConsumerOrg::Required);
    }
    text.parse().map(ConsumerOrg::Fixed).map_err(|why| InvalidRequest {
        field: "consumer_org",
        problem: format!("{why} (or \"required\", when each call names one)"),
    })
}

fn exchange(written: &str, test: bool, client: &Client) -> Result<Exchange, Fault> {
    let environment = &client.environment;
    let missing = |authority| Fault::NoAddress { environment: environment.name.clone(), authority };
    let (base, name) = match written.split_once(':') {
        None if written == "customs" => {
            let base = environment.customs.clone().ok_or_else(|| missing("customs"))?;
            return Ok(Exchange::Customs { base });
        }
        None if written == "altinn" && client.is_eseal() => return Err(Fault::SealAtAltinn),
        None if written == "altinn" => (environment.altinn.clone(), None),
        Some(("altinn", _)) if client.is_eseal() => return Err(Fault::SealAtAltinn),
        Some(("altinn", name)) if environment::altinn(name).is_some() => (None, Some(name)),
        _ => {
            let exchange = written.chars().take(64).collect();
            return Err(Fault::Exchange { exchange, known: environment::ALTINN_NAMES });
        }
    };
    let base = match name {
        None => base,
        Some(_) if environment.is_custom() => {
            return Err(Fault::NamedAltinn { environment: environment.name.clone() });
        }
        Some(name) => named_altinn(written, name, client, environment)?,
    };
    Ok(Exchange::Altinn { base: base.ok_or_else(|| missing("altinn"))?, test })
}

/// Altinn by name: only with the realm whose tokens it takes.
fn named_altinn(
    written: &str,
    name: &str,
    client: &Client,
    environment: &Environment,
) -> Result<Option<Url>, Fault> {
    let (realm, base) = environment::altinn(name).unwrap_or((Realm::Other, None));
    if realm == environment.realm {
        return Ok(base);
    }
    Err(Fault::ExchangeElsewhere {
        exchange: written.to_owned(),
        client: client.name.clone(),
        needs: realm.name(),
        has: environment.name.clone(),
    })
}

fn is_path(path: &str) -> bool {
    path.len() <= 512
        && path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\'))
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}
