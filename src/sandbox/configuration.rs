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

    /// A `segl.toml` for this sandbox, ready to use: tokens `maskinporten` (not exchanged), `road` (Customs)
    /// and `instances` (Altinn).
    #[must_use]
    pub fn config_toml_for(&self, setup: &Setup) -> String {
        let (client_id, authentication) = match &setup.authentication {
            Authentication::Kid(kid) => (Clients::KEY_CLIENT, ("kid", kid)),
            Authentication::Certificate(from) => (Clients::CERTIFICATE_CLIENT, ("certificate", from)),
        };
        let (issuer, customs, altinn) = (self.issuer(), self.customs(), self.altinn());
        let mut lines = vec![
            "# For the Segl sandbox: its authorities are fake, and its tokens open nothing.".to_owned(),
            "schema = 1".to_owned(),
            "\n[signers.sandbox]".to_owned(),
            line("key", &setup.key),
        ];
        lines.extend(setup.pin.as_ref().map(|pin| line("pin", pin)));
        lines.extend([
            "\n[clients.sandbox]".to_owned(),
            line("environment", "sandbox"),
            line("client_id", client_id),
            line("signer", "sandbox"),
            line(authentication.0, authentication.1),
            "\n[environments.sandbox]".to_owned(),
            line("issuer", issuer),
            line("customs", customs),
            line("altinn", altinn),
        ]);
        for (name, scope, exchange) in [
            ("maskinporten", "toll:movement/road/v2", None),
            ("road", "toll:movement/road/v2", Some("customs")),
            ("instances", "altinn:serviceowner/instances.read", Some("altinn")),
        ] {
            lines.push(format!("\n[tokens.{name}]"));
            lines.push(line("client", "sandbox"));
            lines.push(format!("scopes = [{}]", string(scope)));
            lines.extend(exchange.map(|exchange| line("exchange", exchange)));
        }
        lines.into_iter().fold(String::new(), |mut text, line| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
            text
        })
    }
}

fn line(key: &str, value: &str) -> String {
    format!("{key} = {}", string(value))
}

/// `value` as a TOML string, whatever is in it.
fn string(value: &str) -> String {
    toml::Value::from(value).to_string()
}
