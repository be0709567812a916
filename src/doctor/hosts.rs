use serde::Serialize;
use url::Url;

use super::machine;
use crate::config::{Config, Environment, Exchange};

/// Where Segl connects to: for the ticket that opens the firewall.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Host {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What is asked there.
    pub why: String,
}

/// Every host that the tokens of `config` lead to, each once; without a configuration, or without a token in it, those
/// of Maskinporten's two environments. The proxy stands last: that of the configuration, else of this process's
/// environment (`HTTPS_PROXY`, `ALL_PROXY`).
#[must_use]
pub fn hosts(config: Option<&Config>) -> Vec<Host> {
    with_proxy_of(config, &machine::of_process)
}

fn with_proxy_of(config: Option<&Config>, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Host> {
    let mut found = Vec::new();
    let tokens =
        config.into_iter().flat_map(|config| config.tokens.values().map(move |token| (config, token)));
    for (config, token) in tokens {
        let Some(client) = config.clients.get(&token.client) else { continue };
        let environment = &client.environment;
        maskinporten(environment, &mut found);
        match &token.exchange {
            Some(Exchange::Customs { base }) => customs(base, environment, &mut found),
            Some(Exchange::Altinn { base, .. }) => altinn(base, environment, &mut found),
            None => {}
        }
    }
    if found.is_empty() {
        for environment in [Environment::prod(), Environment::test()] {
            maskinporten(&environment, &mut found);
            if let Some(base) = &environment.customs {
                customs(base, &environment, &mut found);
            }
            if let Some(base) = &environment.altinn {
                altinn(base, &environment, &mut found);
            }
        }
    }
    // What is no address leads nowhere; the checks say so.
    if let Ok(Some((proxy, _))) = machine::proxy(config, variable) {
        add(&proxy, "the proxy, through which all of the others are reached".into(), &mut found);
    }
    found
}

fn maskinporten(environment: &Environment, found: &mut Vec<Host>) {
    let why = || format!("Maskinporten ({}): metadata and tokens", environment.name);
    for url in [
        Url::parse(&environment.issuer).ok(),
        environment.metadata.clone(),
        environment.token_endpoint.clone(),
    ]
    .into_iter()
    .flatten()
    {
        add(&url, why(), found);
    }
}

fn customs(base: &Url, environment: &Environment, found: &mut Vec<Host>) {
    add(base, format!("Customs ({}): token exchange and test call", environment.name), found);
}

fn altinn(base: &Url, environment: &Environment, found: &mut Vec<Host>) {
    add(base, format!("Altinn ({}): token exchange", environment.name), found);
}

fn add(url: &Url, why: String, found: &mut Vec<Host>) {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return };
    let host = Host { host: host.to_owned(), port, why };
    if !found.contains(&host) {
        found.push(host);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn listed(config: Option<&Config>) -> Vec<String> {
        with_proxy_of(config, &|_| None)
            .iter()
            .map(|host| format!("{}:{} {}", host.host, host.port, host.why))
            .collect()
    }

    #[test]
    fn without_a_configuration_the_hosts_of_both_environments_are_named() {
        let hosts = listed(None);
        assert_eq!(hosts.len(), 6, "{hosts:?}");
        assert_eq!(hosts[0], "maskinporten.no:443 Maskinporten (prod): metadata and tokens");
        assert!(hosts.iter().any(|host| host.starts_with("platform.tt02.altinn.no:443 Altinn (test)")));
    }

    #[test]
    fn only_hosts_that_a_token_leads_to_are_named_and_each_once() {
        let text = "schema = 1\n[signers.k]\nkey = \"file:/k\"\n[clients.c]\nenvironment = \"prod\"\nclient_id = \"c\"\n\
                    signer = \"k\"\nkid = \"k\"\n[tokens]\na = { client = \"c\", scopes = [\"toll:movement/air\"], exchange = \"customs\" }\n\
                    b = { client = \"c\", scopes = [\"toll:movement/rail\"], exchange = \"customs\" }\n\
                    [http]\nproxy = \"http://proxy.example.no:3128\"\n";
        let config = Config::parse(text, Path::new("/")).unwrap();
        assert_eq!(
            listed(Some(&config)),
            [
                "maskinporten.no:443 Maskinporten (prod): metadata and tokens",
                "api.toll.no:443 Customs (prod): token exchange and test call",
                "proxy.example.no:3128 the proxy, through which all of the others are reached",
            ]
        );
    }
}
