use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use super::{Error, organisation};
use crate::jose::{Algorithm, RsaPublicKey, from_base64url};

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
}

/// A client as registered in Samarbeidsportalen.
#[derive(Clone, Debug, Deserialize)]
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

/// A public key of a client's JWKS.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Jwk")]
pub(super) struct RegisteredKey {
    pub(super) kid: String,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) key: RsaPublicKey,
    pub(super) expires: Option<u64>,
}

/// A scope and who may have it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Scope {
    pub(super) granted_to: Vec<String>,
    pub(super) accessible_for_all: bool,
    pub(super) delegation_source: Option<String>,
    pub(super) max_age: Option<u64>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
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
}

/// The members that Samarbeidsportalen knows; a private one is unknown, and refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: String,
    n: String,
    e: String,
    exp: Option<u64>,
}

/// Longest file of clients, in bytes.
const LONGEST_FILE: usize = 1024 * 1024;

/// A client has at most so many keys (Samarbeidsportalen).
const MOST_KEYS: usize = 5;

/// The scopes of Customs' APIs for Norwegian organisations (toll.github.io, June 2026).
const CUSTOMS_SCOPES: [&str; 7] = [
    "toll:movement/road/v2",
    "toll:movement/air",
    "toll:movement/rail",
    "toll:movement/maritime",
    "toll:movement/entry",
    "toll:goodsdeclaration/document.write",
    "toll:declaration.feed",
];

impl Clients {
    /// Demonstration client that authenticates with an enterprise certificate; belongs to
    /// [`Self::ORGANISATION`].
    pub const CERTIFICATE_CLIENT: &'static str = "5e610000-0000-4000-8000-000000000001";
    /// Demonstration client whose keys are registered (`kid`); belongs to [`Self::ORGANISATION`], and has no
    /// key yet.
    pub const KEY_CLIENT: &'static str = "5e610000-0000-4000-8000-000000000002";
    /// Demonstration client of the wrong integration type: every grant is refused with MP-201.
    pub const OTHER_TYPE_CLIENT: &'static str = "5e610000-0000-4000-8000-000000000003";
    /// Synthetic organisation that owns the demonstration's clients.
    pub const ORGANISATION: &'static str = "312700018";
    /// Synthetic customer that has delegated the Customs scopes to [`Self::ORGANISATION`] and has a system
    /// user there.
    pub const CUSTOMER: &'static str = "313005003";
    /// Synthetic organisation that has access but has delegated nothing (MP-251).
    pub const STRANGER: &'static str = "315550009";
    /// Scope on the demonstration's clients that nobody has been granted (MP-250).
    pub const NOT_GRANTED: &'static str = "sandbox:not-granted";
    /// Scope granted to [`Self::ORGANISATION`] that is on none of its clients (MP-200).
    pub const NOT_REGISTERED: &'static str = "sandbox:not-registered";

    /// Clients from TOML, as shown at the type.
    ///
    /// # Errors
    /// [`Error::Clients`] with the place and the problem.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST_FILE {
            return Err(Error::Clients("the file is larger than 1 MiB".into()));
        }
        let file: File = toml::from_str(text).map_err(|error| Error::Clients(error.to_string()))?;
        if file.schema != 1 {
            return Err(Error::Clients(format!("schema = {} is unknown; this is schema 1", file.schema)));
        }
        let clients = Self {
            clients: file.clients,
            scopes: file.scopes,
            delegations: file.delegations,
            system_users: file.system_users,
            service_owners: file.service_owners,
        };
        clients.check()?;
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

    fn check(&self) -> Result<(), Error> {
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
                if client.jwks.iter().skip(at + 1).any(|other| other.kid == key.kid) {
                    return Err(Error::Clients(format!("{id} has two keys named {}", key.kid)));
                }
            }
        }
        Ok(())
    }
}

impl Default for Clients {
    fn default() -> Self {
        let registered: Vec<String> = CUSTOMS_SCOPES
            .iter()
            .chain(&["altinn:serviceowner/instances.read", Self::NOT_GRANTED])
            .map(|scope| (*scope).to_owned())
            .collect();
        let client = |integration_type: &str| Client {
            organisation: Self::ORGANISATION.into(),
            integration_type: integration_type.into(),
            scopes: registered.clone(),
            access_token_lifetime: None,
            jwks: Vec::new(),
        };
        let organisations =
            || [Self::ORGANISATION, Self::CUSTOMER, Self::STRANGER].map(str::to_owned).to_vec();
        let mut scopes: BTreeMap<String, Scope> = CUSTOMS_SCOPES
            .iter()
            .map(|scope| {
                let delegation_source = Some("https://sandbox.invalid/".to_owned());
                let granted = Scope { granted_to: organisations(), delegation_source, ..Scope::default() };
                ((*scope).to_owned(), granted)
            })
            .collect();
        for scope in ["altinn:serviceowner/instances.read", Self::NOT_REGISTERED] {
            scopes.insert(scope.into(), Scope { granted_to: organisations(), ..Scope::default() });
        }
        scopes.insert(Self::NOT_GRANTED.into(), Scope::default());
        let system_user = |client_id: &str, id: &str, external_ref: Option<&str>| SystemUser {
            owner: Self::CUSTOMER.into(),
            client_id: client_id.into(),
            system_id: format!("{}_segl_sandbox", Self::ORGANISATION),
            id: id.into(),
            external_ref: external_ref.map(str::to_owned),
        };
        Self {
            clients: BTreeMap::from([
                (Self::CERTIFICATE_CLIENT.into(), client("maskinporten")),
                (Self::KEY_CLIENT.into(), client("maskinporten")),
                (Self::OTHER_TYPE_CLIENT.into(), client("idporten")),
            ]),
            scopes,
            delegations: vec![Delegation {
                from: Self::CUSTOMER.into(),
                to: Self::ORGANISATION.into(),
                scopes: CUSTOMS_SCOPES.map(str::to_owned).to_vec(),
            }],
            system_users: vec![
                system_user(Self::CERTIFICATE_CLIENT, "5e610000-0000-4000-8000-000000000011", None),
                system_user(Self::KEY_CLIENT, "5e610000-0000-4000-8000-000000000012", None),
                system_user(Self::KEY_CLIENT, "5e610000-0000-4000-8000-000000000013", Some("branch-7")),
            ],
            service_owners: BTreeMap::from([(Self::ORGANISATION.into(), "ttd".into())]),
        }
    }
}

impl RegisteredKey {
    pub(super) fn new(
        kid: &str,
        key: RsaPublicKey,
        algorithm: Option<Algorithm>,
        expires: Option<u64>,
    ) -> Result<Self, KeyRefusal> {
        let spelt = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if !(1..=255).contains(&kid.len()) || !kid.chars().all(spelt) {
            return Err(KeyRefusal("its kid holds something else than letters, digits, '.', '_' and '-'"));
        }
        if !(2048..=8192).contains(&key.bits()) {
            return Err(KeyRefusal("it is not an RSA key of 2048 to 8192 bits"));
        }
        Ok(Self { kid: kid.to_owned(), algorithm, key, expires })
    }
}

/// Why a JWK cannot be registered.
#[derive(Debug)]
pub(super) struct KeyRefusal(pub(super) &'static str);

impl fmt::Display for KeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl TryFrom<Jwk> for RegisteredKey {
    type Error = KeyRefusal;

    fn try_from(jwk: Jwk) -> Result<Self, KeyRefusal> {
        if jwk.kty != "RSA" {
            return Err(KeyRefusal("its kty is not RSA"));
        }
        if jwk.usage.is_some_and(|usage| usage != "sig") {
            return Err(KeyRefusal("its use is not sig"));
        }
        let algorithm = match jwk.alg.as_deref().map(str::parse::<Algorithm>) {
            None => None,
            Some(Ok(algorithm)) if algorithm.accepted_by_maskinporten() => Some(algorithm),
            Some(_) => return Err(KeyRefusal("its alg is none of RS256, RS384, RS512")),
        };
        let (Some(n), Some(e)) = (from_base64url(&jwk.n), from_base64url(&jwk.e)) else {
            return Err(KeyRefusal("its n or e is not base64url"));
        };
        Self::new(&jwk.kid, RsaPublicKey::new(&n, &e), algorithm, jwk.exp)
    }
}

fn maskinporten() -> String {
    "maskinporten".into()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        Clients::default().check().unwrap();
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
