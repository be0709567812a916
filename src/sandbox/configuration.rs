use std::fmt::Write;

use super::{Clients, Sandbox};

/// The user's side of the `segl.toml` that the sandbox writes: where the key is and how the client
/// authenticates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Key: a `pkcs11:` or `file:` URI.
    pub key: String,
    /// Where the PIN or passphrase comes from, such as `file:/run/pin`; `None` for a key without one.
    pub pin: Option<String>,
    /// How the client authenticates.
    pub authentication: Authentication,
}

/// How the client of the written configuration authenticates.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// As [`Clients::KEY_CLIENT`], with a registered key of this name.
    Kid(String),
    /// As [`Clients::CERTIFICATE_CLIENT`], with a certificate: `token` for the device's own, or a PEM file.
    Certificate(String),
    /// As a foreign business, with an eSeal whose chain stands beside the key (`token`) or in a PEM file.
    Eseal(String),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            key: "pkcs11:token=segl-sandbox;object=segl-sandbox".into(),
            pin: Some("env:SEGL_SANDBOX_PIN".into()),
            authentication: Authentication::Certificate("token".into()),
        }
    }
}

impl Sandbox {
    /// A `segl.toml` for this sandbox, with [`Setup::default`].
    #[must_use]
    pub fn config_toml(&self) -> String {
        self.config_toml_for(&Setup::default())
    }

    /// A `segl.toml` for this sandbox and the demonstration's client of this kind of authentication, ready to use:
    /// tokens `maskinporten` (not exchanged), `road` (Customs) and `instances` (Altinn); for an eSeal, which has no
    /// client, `verksemd` (not exchanged) and `road`.
    #[must_use]
    pub fn config_toml_for(&self, setup: &Setup) -> String {
        let client_id = match &setup.authentication {
            Authentication::Kid(_) => Clients::KEY_CLIENT,
            Authentication::Certificate(_) | Authentication::Eseal(_) => Clients::CERTIFICATE_CLIENT,
        };
        self.config_toml_of(client_id, setup)
    }

    /// As [`config_toml_for`](Self::config_toml_for), for any client that this sandbox knows. It has those of the
    /// three tokens that the client's scopes allow. With an eSeal, `client_id` says nothing.
    #[must_use]
    pub fn config_toml_of(&self, client_id: &str, setup: &Setup) -> String {
        let mut lines = first_lines();
        lines.extend(["\n[signers.sandbox]".to_owned(), line("key", &setup.key)]);
        lines.extend(setup.pin.as_ref().map(|pin| line("pin", pin)));
        lines.push("\n[clients.sandbox]".to_owned());
        let (who, how) = match &setup.authentication {
            Authentication::Kid(kid) => (line("client_id", client_id), line("kid", kid)),
            Authentication::Certificate(from) => (line("client_id", client_id), line("certificate", from)),
            Authentication::Eseal(from) => {
                lines.push(line("kind", "eseal"));
                (line("name", "Segl Sandbox"), line("certificate", from))
            }
        };
        lines.extend([line("environment", "sandbox"), who, line("signer", "sandbox"), how]);
        lines.extend(self.environment());
        let tokens = match &setup.authentication {
            Authentication::Eseal(_) => self.tokens_of_seals(),
            _ => self.tokens(client_id),
        };
        for (name, scope, exchange) in tokens {
            lines.push(format!("\n[tokens.{name}]"));
            lines.push(line("client", "sandbox"));
            lines.push(format!("scopes = [{}]", string(&scope)));
            lines.extend(exchange.map(|exchange| line("exchange", exchange)));
        }
        text(lines)
    }

    /// The part of a `segl.toml` that says where this sandbox is: for those who have keys and clients of their own.
    #[must_use]
    pub fn environment_toml(&self) -> String {
        let mut lines = first_lines();
        lines.extend(self.environment());
        text(lines)
    }

    fn environment(&self) -> [String; 4] {
        [
            "\n[environments.sandbox]".to_owned(),
            line("issuer", self.issuer()),
            line("customs", self.customs()),
            line("altinn", self.altinn()),
        ]
    }

    /// Name, scope and exchange of the tokens that a client can have: of each kind one.
    fn tokens(&self, client_id: &str) -> Vec<(&'static str, String, Option<&'static str>)> {
        let clients = self.world.registry.registered();
        let Some(client) = clients.clients.get(client_id) else { return Vec::new() };
        let first = |prefix: &str| client.scopes.iter().find(|scope| scope.starts_with(prefix)).cloned();
        [
            ("maskinporten", first(""), None),
            ("road", first("toll:"), Some("customs")),
            ("instances", first("altinn:"), Some("altinn")),
        ]
        .into_iter()
        .filter_map(|(name, scope, exchange)| Some((name, scope?, exchange)))
        .collect()
    }

    /// The same for eSeals: the scopes that are open to all of them.
    fn tokens_of_seals(&self) -> Vec<(&'static str, String, Option<&'static str>)> {
        let clients = self.world.registry.registered();
        let open = || clients.scopes.iter().filter(|(_, scope)| scope.eseal).map(|(name, _)| name);
        let of_customs = |scope: &&String| scope.starts_with("toll:eu/");
        [
            ("verksemd", open().find(|scope| !of_customs(scope)), None),
            ("road", open().filter(of_customs).max_by_key(|scope| scope.contains("/road")), Some("customs")),
        ]
        .into_iter()
        .filter_map(|(name, scope, exchange)| Some((name, scope?.clone(), exchange)))
        .collect()
    }
}

fn first_lines() -> Vec<String> {
    vec![
        "# For the Segl sandbox: its authorities are fake, and its tokens open nothing.".to_owned(),
        "schema = 1".to_owned(),
    ]
}

fn text(lines: Vec<String>) -> String {
    lines.into_iter().fold(String::new(), |mut text, line| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
        text
    })
}

fn line(key: &str, value: &str) -> String {
    format!("{key} = {}", string(value))
}

/// `value` as a TOML string, whatever is in it.
fn string(value: &str) -> String {
    toml::Value::from(value).to_string()
}
