use serde::Serialize;

use super::{
    Config,
    client::{Identity, Kind},
    environment::Environment,
    error::Origin,
    token::{ConsumerOrg, Exchange},
};

/// One effective value and where it comes from. Of a secret, only its place is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// Path of the key, as `clients.forwarder.kid`.
    pub name: String,
    /// The value as text.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// All effective values, table by table.
pub(super) fn show(config: &Config) -> Vec<Setting> {
    let mut shown = Shown { config, settings: Vec::new() };
    for (name, signer) in &config.signers {
        let table = format!("signers.{name}");
        shown.add(&table, "key", Some(&signer.key));
        shown.add(&table, "profile", signer.profile.as_ref());
        shown.add(&table, "pin", signer.pin.as_ref());
        shown.add(&table, "sign_pin", signer.sign_pin.as_ref());
        let unstable = Some(signer.allow_unstable_slot).filter(|allowed| *allowed);
        shown.add(&table, "allow_unstable_slot", unstable);
        shown.add(&table, "chain", signer.chain.as_ref().map(|path| path.display()));
        shown.add(&table, "algorithm", Some(signer.algorithm));
    }
    for environment in config.environments.values() {
        let table = format!("environments.{}", environment.name);
        shown.environment(&table, environment);
        shown.add(&table, "metadata", environment.metadata.as_ref());
        shown.add(&table, "token_endpoint", environment.token_endpoint.as_ref());
    }
    for (name, client) in &config.clients {
        let table = format!("clients.{name}");
        shown.add(&table, "environment", Some(&client.environment.name));
        if !client.environment.is_custom() {
            shown.environment(&table, &client.environment);
        }
        match &client.kind {
            Kind::Registered { client_id } => shown.add(&table, "client_id", Some(client_id)),
            Kind::Eseal { name } => {
                shown.add(&table, "kind", Some("eseal"));
                shown.add(&table, "name", Some(name));
            }
        }
        shown.add(&table, "signer", Some(&client.signer));
        match &client.identity {
            Identity::KeyId(kid) => shown.add(&table, "kid", Some(kid)),
            Identity::CertificateBesideKey => shown.add(&table, "certificate", Some("token")),
            Identity::CertificateFile(path) => shown.add(&table, "certificate", Some(path.display())),
        }
        let expires = client.kid_expires.map(|at| time::OffsetDateTime::from(at).date());
        shown.add(&table, "kid_expires", expires);
        shown.add(&table, "grant_lifetime", Some(client.grant_lifetime.as_secs()));
    }
    for (name, token) in &config.tokens {
        let table = format!("tokens.{name}");
        shown.add(&table, "client", Some(&token.client));
        shown.add(&table, "scopes", Some(token.scopes.join(" ")));
        shown.add(&table, "resource", token.resource.as_ref());
        let consumer_org = token.consumer_org.map(|consumer_org| match consumer_org {
            ConsumerOrg::Fixed(number) => number.to_string(),
            ConsumerOrg::Required => "required".to_owned(),
        });
        shown.add(&table, "consumer_org", consumer_org);
        shown.add(&table, "authorization_details", token.authorization_details.as_ref());
        match &token.exchange {
            Some(Exchange::Customs { base }) => {
                shown.add(&table, "exchange", Some(format!("customs at {base}")))
            }
            Some(Exchange::Altinn { base, test }) => {
                shown.add(&table, "exchange", Some(format!("altinn at {base}")));
                shown.add(&table, "altinn_test", Some(test));
            }
            None => {}
        }
        shown.add(&table, "probe", token.probe.as_ref());
        shown.add(&table, "keep_warm", Some(token.keep_warm));
    }
    for (name, changes) in &config.profiles {
        shown.changes(&format!("profiles.{name}"), changes);
    }
    let http = &config.http;
    shown.add("http", "proxy", http.proxy.as_ref());
    shown.add("http", "no_proxy", http.no_proxy.as_ref().map(|hosts| hosts.join(" ")));
    shown.add("http", "extra_ca", http.extra_ca.as_ref().map(|path| path.display()));
    shown.add("http", "connect_timeout_seconds", Some(http.connect_timeout.as_secs()));
    shown.add("http", "timeout_seconds", Some(http.timeout.as_secs()));
    shown.settings
}

struct Shown<'a> {
    config: &'a Config,
    settings: Vec<Setting>,
}

impl Shown<'_> {
    fn add(&mut self, table: &str, key: &str, value: Option<impl std::fmt::Display>) {
        let Some(value) = value else { return };
        let name = format!("{table}.{key}");
        let origin = self.config.report.exact_origin(&name);
        self.settings.push(Setting { name, value: value.to_string(), origin });
    }

    fn changes(&mut self, table: &str, changes: &toml::Table) {
        for (key, value) in changes {
            match value {
                toml::Value::Table(inner) => self.changes(&format!("{table}.{key}"), inner),
                value => self.add(table, key, Some(value)),
            }
        }
    }

    fn environment(&mut self, table: &str, environment: &Environment) {
        self.add(table, "issuer", Some(&environment.issuer));
        self.add(table, "customs", environment.customs.as_ref());
        self.add(table, "altinn", environment.altinn.as_ref());
    }
}
