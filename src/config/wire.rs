//! The file as it is written, before anything in it has been checked against anything else. Doc comments here are the
//! descriptions in the JSON Schema.

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::{secret::Sources, sign::pkcs11::profile::Profile};

/// The whole of `segl.toml`. Only its JSON Schema is made from this type; the tables are read one by one.
#[derive(JsonSchema)]
#[schemars(title = "segl.toml", deny_unknown_fields)]
#[allow(dead_code, reason = "stands for the shape of the file")]
pub(super) struct File {
    /// Version of this format.
    #[schemars(extend("const" = 1))]
    schema: u32,
    /// Keys that sign, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9_-]*$" }))]
    signers: BTreeMap<String, Signer>,
    /// Clients registered in Samarbeidsportalen, and businesses with an eSeal, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9_-]*$" }))]
    clients: BTreeMap<String, Client>,
    /// Environments beside `test` and `prod`, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9_-]*$" }))]
    environments: BTreeMap<String, Environment>,
    /// Tokens that can be asked for, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9_-]*$" }))]
    tokens: BTreeMap<String, Token>,
    /// Changes in what is known of a kind of device, by the profile's name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9-]*$" }))]
    profiles: BTreeMap<String, ProfileChanges>,
    /// How the authorities are reached.
    #[serde(default)]
    http: Option<Http>,
}

/// Everything that was written, by table.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) signers: BTreeMap<String, Signer>,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) environments: BTreeMap<String, Environment>,
    pub(super) tokens: BTreeMap<String, Token>,
    pub(super) profiles: BTreeMap<String, toml::Table>,
    pub(super) http: Http,
}

/// A key that signs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Signer {
    /// Where the key is: `pkcs11:` and attributes (RFC 7512), or `file:` and a path. Of several devices, all written as
    /// `pkcs11:`, one signs and the others stand in for it.
    pub(super) key: OneOrSeveral,
    /// Name of the device profile, when it is not to be found by itself.
    pub(super) profile: Option<String>,
    /// PIN of the device, or password of the key file.
    pub(super) pin: Option<Sources>,
    /// PIN that the device asks for at each signature, where that is another one than `pin`.
    pub(super) sign_pin: Option<Sources>,
    /// Take `slot-id` in the key: for devices whose slots keep their numbers.
    #[schemars(extend("default" = false))]
    pub(super) allow_unstable_slot: Option<bool>,
    /// PEM file with certificates that complete the chain.
    pub(super) chain: Option<PathBuf>,
    /// Signature algorithm.
    #[schemars(extend("enum" = ["RS256", "RS384", "RS512"], "default" = "RS256"))]
    pub(super) algorithm: Option<String>,
    /// A private JWK from the environment; cannot be written in a file.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) inline: Option<SecretString>,
}

/// A value, or a list of values.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected text that begins with pkcs11: or file:")]
pub(super) enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

/// A client registered in Samarbeidsportalen, or a foreign business with an eSeal.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    /// `eseal` for a business that is not registered in Samarbeidsportalen: its European seal says who it is.
    pub(super) kind: Option<Kind>,
    /// `prod`, `test`, or a name from `[environments]`. All addresses follow from it.
    pub(super) environment: String,
    /// Client identifier from Samarbeidsportalen. Needed, except with an eSeal, which has none.
    pub(super) client_id: Option<String>,
    /// Name of the business, with an eSeal and needed there: stands in the grant, and Maskinporten does not look at it.
    pub(super) name: Option<String>,
    /// A name from `[signers]`.
    pub(super) signer: String,
    /// Name of the registered public key. Either this or `certificate`.
    pub(super) kid: Option<String>,
    /// `token` for the certificate beside the key, or a PEM file. Either this or `kid`; with an eSeal, `token` when it
    /// is not given.
    pub(super) certificate: Option<String>,
    /// Date on which the registered key expires.
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    pub(super) kid_expires: Option<toml::value::Datetime>,
    /// How long a grant is valid, in seconds.
    #[schemars(extend("minimum" = 1, "maximum" = 119, "default" = 60))]
    pub(super) grant_lifetime: Option<i64>,
}

/// Kinds of clients beside the usual one.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A foreign business with a European seal.
    Eseal,
}

/// Addresses of one set of authorities.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Environment {
    /// The environment whose addresses hold where none is given.
    #[schemars(extend("enum" = ["test", "prod"]))]
    pub(super) from: Option<String>,
    /// Maskinporten's issuer, with the slash at its end.
    pub(super) issuer: Option<String>,
    /// Customs, without a path.
    pub(super) customs: Option<String>,
    /// Altinn's platform, without a path.
    pub(super) altinn: Option<String>,
    /// From the environment variables of a sidecar; cannot be written in a file.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) metadata: Option<Url>,
    /// As `metadata`.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) token_endpoint: Option<Url>,
}

/// A token that can be asked for by name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    /// A name from `[clients]`.
    pub(super) client: String,
    /// Scopes, each on its own.
    #[schemars(length(min = 1))]
    pub(super) scopes: Vec<String>,
    /// The API that the token is meant for (RFC 8707).
    pub(super) resource: Option<String>,
    /// Organisation number of the customer that a supplier acts for, or `required` when each call must name one.
    #[schemars(regex(pattern = "^(required|[0-9]{9})$"))]
    pub(super) consumer_org: Option<String>,
    /// Rich authorization (RFC 9396): one table, passed on to Maskinporten.
    pub(super) authorization_details: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    /// Whom the Maskinporten token is exchanged with.
    #[schemars(regex(pattern = "^(customs|altinn(:[a-z0-9]+)?)$"))]
    pub(super) exchange: Option<String>,
    /// Ask Altinn for a token of the test organisation `ttd` (`?test=true`).
    pub(super) altinn_test: Option<bool>,
    /// Path of the harmless call that `segl probe` makes at Customs.
    pub(super) probe: Option<String>,
    /// Renew the token ahead of time although nobody asks for it.
    pub(super) keep_warm: Option<bool>,
}

/// How the authorities are reached.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    /// Address of the proxy; `HTTPS_PROXY` holds where none is given. Never used for loopback.
    pub(super) proxy: Option<String>,
    /// Hosts that are reached without the proxy; `NO_PROXY` holds where none is given.
    pub(super) no_proxy: Option<Vec<String>>,
    /// PEM file with certificate authorities that are trusted beside the system's.
    pub(super) extra_ca: Option<PathBuf>,
    /// How long connecting may take, in seconds.
    #[schemars(extend("minimum" = 1, "maximum" = 300, "default" = 5))]
    pub(super) connect_timeout_seconds: Option<i64>,
    /// How long one request may take, in seconds.
    #[schemars(extend("minimum" = 1, "maximum" = 300, "default" = 10))]
    pub(super) timeout_seconds: Option<i64>,
}

/// What is changed in a device profile: the keys of a profile file, none of which is needed, and `based_on`.
pub(super) struct ProfileChanges;

impl JsonSchema for ProfileChanges {
    fn schema_name() -> Cow<'static, str> {
        "ProfileChanges".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Profile::json_schema(generator);
        schema.insert("description".into(), "Changes in what is known of a kind of device.".into());
        schema.remove("required");
        if let Some(properties) = schema.get_mut("properties").and_then(|found| found.as_object_mut()) {
            for key in ["schema", "name"] {
                properties.remove(key);
            }
            for property in properties.values_mut().filter_map(|found| found.as_object_mut()) {
                // What is not written stays as it was.
                property.remove("default");
            }
            let based_on = serde_json::json!({
                "description": "Makes a new profile out of the one of this name.",
                "type": "string",
            });
            properties.insert("based_on".into(), based_on);
        }
        schema
    }
}
