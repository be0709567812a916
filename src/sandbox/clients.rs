mod demonstration;
mod registered_key;

pub(super) use self::registered_key::RegisteredKey;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, Knobs, organisation};

/// The clients, scopes and grants that the sandbox knows: what Samarbeidsportalen and Altinn hold in the real
/// world.
///
/// [`Default`] is what the demonstration needs; see the constants of this type for its clients. Others come
/// from a small TOML of their own:
///
/// ```
/// let clients = segl::sandbox::Clients::from_toml(r#"
/// schema = 1
///
/// [clients."5e610000-0000-4000-8000-0000000000aa"]  # the client_id
/// organisation = "312700018"  # who owns the client
/// integration_type = "maskinporten"  # the default; anything else is refused with MP-201
/// scopes = ["toll:movement/road/v2"]  # registered on the client, else MP-200
/// access_token_lifetime = 120  # seconds; optional
/// jwks = []  # public keys (JWK, with optional `exp`); none: certificate client
///
/// [scopes."toll:movement/road/v2"]
/// granted_to = ["312700018"]  # organisations, else MP-250; or accessible_for_all = true
/// delegation_source = "https://sandbox.invalid/"  # customers may delegate it, see below
/// max_age = 120  # seconds, caps the token's life; optional
///
/// [scopes."toll:eu/movement/road/v2"]
/// eseal = true  # open to every European eSeal, and to nobody else
///
/// [[delegations]]  # else MP-251
/// from = "313005003"
/// to = "312700018"
/// scopes = ["toll:movement/road/v2"]
///
/// [[system_users]]  # else MP-303
/// owner = "313005003"
/// client_id = "5e610000-0000-4000-8000-0000000000aa"
/// system_id = "312700018_demo"
/// id = "7a7d3e0c-0000-4000-8000-000000000001"
/// external_ref = "branch-7"  # optional
///
/// [service_owners]  # Altinn's codes for service owners
/// "312700018" = "ttd"
///
/// [customs]  # optional: whom Customs knows; without this table, everybody
/// registered = ["312700018", "VATSE-556012345601"]
/// "#)?;
/// # Ok::<(), segl::sandbox::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Clients {
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) scopes: BTreeMap<String, Scope>,
    pub(super) delegations: Vec<Delegation>,
    pub(super) system_users: Vec<SystemUser>,
    pub(super) service_owners: BTreeMap<String, String>,
    pub(super) customs: Option<Customs>,
}

/// Whom Customs exchanges tokens for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Customs {
    /// Organisation numbers and organizationIdentifiers.
    pub(super) registered: Vec<String>,
}

/// A client as registered in Samarbeidsportalen.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    pub(super) organisation: String,
    #[serde(default = "maskinporten")]
    pub(super) integration_type: String,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    pub(super) access_token_lifetime: Option<u64>,
    #[serde(default)]
    pub(super) jwks: Vec<RegisteredKey>,
}

/// A scope and who may have it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Scope {
    pub(super) granted_to: Vec<String>,
    pub(super) accessible_for_all: bool,
    pub(super) delegation_source: Option<String>,
    pub(super) max_age: Option<u64>,
    pub(super) eseal: bool,
}

/// A customer lets a supplier act for it, as delegated in Altinn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delegation {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) scopes: Vec<String>,
}

/// A system user in Altinn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemUser {
    pub(super) owner: String,
    pub(super) client_id: String,
    pub(super) system_id: String,
    pub(super) id: String,
    pub(super) external_ref: Option<String>,
}

/// All of that, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tables {
    /// Of a file of its own; as part of another file, the tables need none.
    schema: Option<u32>,
    #[serde(default)]
    clients: BTreeMap<String, Client>,
    #[serde(default)]
    scopes: BTreeMap<String, Scope>,
    #[serde(default)]
    delegations: Vec<Delegation>,
    #[serde(default)]
    system_users: Vec<SystemUser>,
    #[serde(default)]
    service_owners: BTreeMap<String, String>,
    customs: Option<Customs>,
}

/// Longest file of clients, in bytes.
const LONGEST_FILE: usize = 1024 * 1024;

/// A client has at most so many keys (Samarbeidsportalen).
const MOST_KEYS: usize = 5;

impl Clients {
    /// Clients from TOML, as shown at the type.
    ///
    /// # Errors
    /// [`Error::Clients`] with the place and the problem.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST_FILE {
            return Err(Error::Clients("the file is larger than 1 MiB".into()));
        }
        let file: Tables = toml::from_str(text).map_err(|error| Error::Clients(error.to_string()))?;
        if file.schema.is_none() {
            return Err(Error::Clients("schema = 1 is missing".into()));
        }
        Self::from_tables(file)
    }

    pub(super) fn from_tables(tables: Tables) -> Result<Self, Error> {
        if let Some(other) = tables.schema.filter(|schema| *schema != 1) {
            return Err(Error::Clients(format!("schema = {other} is unknown; this is schema 1")));
        }
        let clients = Self {
            clients: tables.clients,
            scopes: tables.scopes,
            delegations: tables.delegations,
            system_users: tables.system_users,
            service_owners: tables.service_owners,
            customs: tables.customs,
        };
        clients.check(&Knobs::default())?;
        Ok(clients)
    }

    /// Each `client_id`.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.clients.keys().map(String::as_str)
    }

    /// Number of the organisation that owns the client; `None` when there is no such client.
    #[must_use]
    pub fn organisation_of(&self, client_id: &str) -> Option<&str> {
        self.clients.get(client_id).map(|client| client.organisation.as_str())
    }

    /// Adds a key to a client's JWKS; a key with the same `kid` is replaced. `expires` is in seconds since
    /// 1970.
    pub(super) fn register(&mut self, client_id: &str, key: RegisteredKey) -> Result<(), Error> {
        let client = self.clients.get_mut(client_id).ok_or(Error::Key("there is no such client"))?;
        client.jwks.retain(|registered| registered.kid != key.kid);
        if client.jwks.len() >= MOST_KEYS {
            return Err(Error::Key("the client has five keys, and that is the limit"));
        }
        client.jwks.push(key);
        Ok(())
    }

    /// What Samarbeidsportalen would not take.
    pub(super) fn check(&self, knobs: &Knobs) -> Result<(), Error> {
        let numbers = (self.clients.values().map(|client| &client.organisation))
            .chain(self.scopes.values().flat_map(|scope| &scope.granted_to))
            .chain(self.delegations.iter().flat_map(|delegation| [&delegation.from, &delegation.to]))
            .chain(self.system_users.iter().map(|user| &user.owner))
            .chain(self.service_owners.keys());
        for number in numbers {
            if !organisation::is_number(number) {
                return Err(Error::OrganisationNumber(number.clone()));
            }
        }
        for (id, client) in &self.clients {
            if client.jwks.len() > MOST_KEYS {
                return Err(Error::Clients(format!("{id} has more than five keys")));
            }
            for (at, key) in client.jwks.iter().enumerate() {
                if knobs.jwks_require_use && !key.has_use {
                    return Err(Error::Clients(format!("{id}: the key {} lacks use = \"sig\"", key.kid)));
                }
                if client.jwks.iter().skip(at + 1).any(|other| other.kid == key.kid) {
                    return Err(Error::Clients(format!("{id} has two keys named {}", key.kid)));
                }
            }
        }
        Ok(())
    }
}

fn maskinporten() -> String {
    "maskinporten".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::Algorithm;

    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L\
         6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY\
         368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr\
         3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn with_keys(keys: &str) -> Result<Clients, Error> {
        Clients::from_toml(&format!(
            "schema = 1\n[clients.one]\norganisation = \"312700018\"\njwks = [{keys}]"
        ))
    }

    fn jwk(kid: &str, more: &str) -> String {
        format!(r#"{{ kty = "RSA", use = "sig", kid = "{kid}", n = "{N}", e = "AQAB"{more} }}"#)
    }

    #[test]
    fn the_demonstration_passes_the_checks_of_a_file() {
        Clients::default().check(&Knobs::strict()).unwrap();
    }

    #[test]
    fn keys_are_read_with_algorithm_and_expiry() {
        let clients = with_keys(&jwk("a", r#", alg = "RS512", exp = 77"#)).unwrap();
        let key = &clients.clients["one"].jwks[0];
        assert_eq!((key.algorithm, key.expires, key.key.bits()), (Some(Algorithm::RS512), Some(77), 2048));
    }

    #[test]
    fn keys_that_samarbeidsportalen_would_not_take_are_refused() {
        for (keys, reason) in [
            (jwk("a", r#", d = "AQAB""#), "unknown field `d`"),
            (jwk("a b", ""), "kid"),
            (jwk("a", r#", alg = "PS256""#), "alg"),
            (jwk("a", "").replace(N, "AQAB"), "2048"),
            (jwk("a", "").replace("\"RSA\"", "\"EC\""), "kty"),
            ([jwk("a", ""), jwk("a", "")].join(","), "two keys named a"),
            (["a", "b", "c", "d", "e", "f"].map(|kid| jwk(kid, "")).join(","), "five keys"),
        ] {
            let error = with_keys(&keys).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn unknown_keys_another_schema_and_wrong_numbers_are_refused() {
        for text in [
            "",
            "schema = 2",
            "schema = 1\nclient = 1",
            "schema = 1\n[clients.x]\norganisation = \"312700019\"",
            "schema = 1\n[clients.x]\norganisation = \"312700018\"\nscope = []",
        ] {
            assert!(Clients::from_toml(text).is_err(), "{text}");
        }
    }
}
