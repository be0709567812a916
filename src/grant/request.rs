use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::LazyLock,
};

use serde::Serialize;

use crate::certificate::OrganisationNumber;

/// A request that no authority would grant, with the field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
#[non_exhaustive]
pub struct InvalidRequest {
    /// The claim's name.
    pub field: &'static str,
    /// What is wrong with its value. Never holds a national identity number.
    pub problem: String,
}

impl InvalidRequest {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        format!("Correct {} in the request or in the [tokens] table.", self.field)
    }
}

/// A national identity number (fødselsnummer or D-number): personal data, masked in everything that is printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pid(String);

impl Pid {
    /// The eleven digits, for the grant and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***********")
    }
}

/// Rich authorization (RFC 9396): the one object that Maskinporten takes beside the scopes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthorizationDetails {
    /// A token of an Altinn system user (docs.altinn.studio, "use of system user").
    SystemUser {
        /// Who owns the system user: the customer, or for agents the accountant.
        organisation: OrganisationNumber,
        /// Needed when the system user was made with one.
        external_ref: Option<String>,
    },
}

/// The longest scope, resource and reference taken: far above any real one.
const LONGEST: usize = 512;
const MOST_SCOPES: usize = 64;

/// Made anew in every process, so that nobody can choose requests whose hashes collide.
static HASH_KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What is asked of Maskinporten. Everything that changes the answer is in here, so the whole of it is a cache key;
/// its hash is computed once.
#[derive(Clone)]
pub struct TokenRequest {
    scope: String,
    resource: Option<String>,
    consumer_org: Option<OrganisationNumber>,
    pid: Option<Pid>,
    authorization_details: Option<AuthorizationDetails>,
    hash: u64,
}

impl TokenRequest {
    /// Starts a request for `scopes`; they are checked in [`TokenRequestBuilder::build`].
    pub fn builder<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> TokenRequestBuilder {
        TokenRequestBuilder { scopes: scopes.into_iter().map(Into::into).collect(), ..Default::default() }
    }

    /// A request for `scopes` and nothing else.
    ///
    /// # Errors
    /// [`InvalidRequest`] when a scope is none.
    pub fn scopes<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, InvalidRequest> {
        Self::builder(scopes).build()
    }

    /// The scopes, sorted, each once, separated by spaces.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The API that the token is meant for (RFC 8707).
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// The customer that a supplier acts for.
    #[must_use]
    pub fn consumer_org(&self) -> Option<OrganisationNumber> {
        self.consumer_org
    }

    /// The person that the token is bound to.
    #[must_use]
    pub fn pid(&self) -> Option<&Pid> {
        self.pid.as_ref()
    }

    /// Rich authorization.
    #[must_use]
    pub fn authorization_details(&self) -> Option<&AuthorizationDetails> {
        self.authorization_details.as_ref()
    }
}

impl PartialEq for TokenRequest {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.scope == other.scope
            && self.resource == other.resource
            && self.consumer_org == other.consumer_org
            && self.pid == other.pid
            && self.authorization_details == other.authorization_details
    }
}

impl Eq for TokenRequest {}

impl Hash for TokenRequest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("scope", &self.scope)
            .field("resource", &self.resource)
            .field("consumer_org", &self.consumer_org)
            .field("pid", &self.pid)
            .field("authorization_details", &self.authorization_details)
            .finish_non_exhaustive()
    }
}

/// A request in the making.
#[derive(Clone, Debug, Default)]
#[must_use = "a request is made by build()"]
pub struct TokenRequestBuilder {
    scopes: Vec<String>,
    resource: Option<String>,
    consumer_org: Option<String>,
    pid: Option<Pid>,
    authorization_details: Option<serde_json::Value>,
}

impl TokenRequestBuilder {
    /// The API that the token is meant for: an absolute URI.
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.resource = Some(uri.into());
        self
    }

    /// The customer that a supplier acts for: nine digits.
    pub fn consumer_org(mut self, number: impl Into<String>) -> Self {
        self.consumer_org = Some(number.into());
        self
    }

    /// The person that the token is bound to: eleven digits.
    pub fn pid(mut self, number: impl Into<String>) -> Self {
        self.pid = Some(Pid(number.into()));
        self
    }

    /// Rich authorization, as the JSON array of one object that goes into the grant.
    pub fn authorization_details(mut self, details: serde_json::Value) -> Self {
        self.authorization_details = Some(details);
        self
    }

    /// Checks every field against Maskinporten's rules (Digdir, "JWT grant").
    ///
    /// # Errors
    /// [`InvalidRequest`] names the first field that is wrong.
    pub fn build(self) -> Result<TokenRequest, InvalidRequest> {
        let scope = check_scopes(self.scopes)?;
        let resource = self.resource.map(check_resource).transpose()?;
        let consumer_org = self.consumer_org.as_deref().map(check_consumer_org).transpose()?;
        let pid = self.pid.map(check_pid).transpose()?;
        let authorization_details =
            self.authorization_details.map(AuthorizationDetails::from_json).transpose()?;
        let hash = HASH_KEYS.hash_one((&scope, &resource, &consumer_org, &pid, &authorization_details));
        Ok(TokenRequest { scope, resource, consumer_org, pid, authorization_details, hash })
    }
}

fn check_scopes(mut scopes: Vec<String>) -> Result<String, InvalidRequest> {
    let invalid = |problem: String| InvalidRequest::new("scope", problem);
    if scopes.is_empty() {
        return Err(invalid("at least one scope is needed".into()));
    }
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.len() > MOST_SCOPES {
        return Err(invalid(format!("{} scopes are more than {MOST_SCOPES}", scopes.len())));
    }
    for scope in &scopes {
        check_scope(scope).map_err(|problem| invalid(format!("{scope:?} {problem}")))?;
    }
    Ok(scopes.join(" "))
}

/// `prefix:subscope` in the characters of RFC 6749 section 3.3.
fn check_scope(scope: &str) -> Result<(), &'static str> {
    if scope.len() > LONGEST {
        return Err("is too long");
    }
    if scope.contains([' ', ',']) {
        return Err("holds more than one scope: give each on its own");
    }
    if !scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
        return Err("has a character that no scope may have");
    }
    match scope.split_once(':') {
        Some((prefix, subscope)) if !prefix.is_empty() && !subscope.is_empty() => Ok(()),
        _ => Err("is not of the form prefix:subscope"),
    }
}

fn check_resource(resource: String) -> Result<String, InvalidRequest> {
    let invalid = |problem: &str| InvalidRequest::new("resource", format!("{resource:?} {problem}"));
    if resource.len() > LONGEST {
        return Err(InvalidRequest::new("resource", "is too long"));
    }
    let url = url::Url::parse(&resource).map_err(|_| invalid("is no absolute URI"))?;
    if url.fragment().is_some() {
        return Err(invalid("has a fragment, which RFC 8707 forbids"));
    }
    Ok(resource)
}

fn check_consumer_org(number: &str) -> Result<OrganisationNumber, InvalidRequest> {
    number.parse().map_err(|why| InvalidRequest::new("consumer_org", format!("{number:?}: {why}")))
}

fn check_pid(pid: Pid) -> Result<Pid, InvalidRequest> {
    if pid.0.len() == 11 && pid.0.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(pid)
    } else {
        Err(InvalidRequest::new("pid", "is not eleven digits"))
    }
}

const SYSTEM_USER: &str = "urn:altinn:systemuser";
const ACTOR_ID: &str = "iso6523-actorid-upis";

#[derive(Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemUserWire {
    #[serde(rename = "type")]
    kind: String,
    systemuser_org: ActorWire,
    #[serde(rename = "externalRef", skip_serializing_if = "Option::is_none")]
    external_ref: Option<String>,
}

#[derive(Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ActorWire {
    authority: String,
    #[serde(rename = "ID")]
    id: String,
}

impl AuthorizationDetails {
    fn from_json(details: serde_json::Value) -> Result<Self, InvalidRequest> {
        let invalid = |problem: String| InvalidRequest::new("authorization_details", problem);
        let serde_json::Value::Array(mut objects) = details else {
            return Err(invalid("must be an array with one object".into()));
        };
        let (Some(object), true) = (objects.pop(), objects.is_empty()) else {
            return Err(invalid("must hold exactly one object".into()));
        };
        let kind = object.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
        if kind != SYSTEM_USER {
            return Err(invalid(format!("type {kind:?} is not known; Segl knows {SYSTEM_USER}")));
        }
        let wire: SystemUserWire = serde_json::from_value(object).map_err(|why| invalid(why.to_string()))?;
        if wire.systemuser_org.authority != ACTOR_ID {
            return Err(invalid(format!("systemuser_org.authority must be {ACTOR_ID:?}")));
        }
        let Some(number) = wire.systemuser_org.id.strip_prefix("0192:") else {
            return Err(invalid("systemuser_org.ID must be 0192: and nine digits".into()));
        };
        let organisation = number.parse().map_err(|why| invalid(format!("systemuser_org.ID: {why}")))?;
        if wire.external_ref.as_ref().is_some_and(|reference| reference.len() > LONGEST) {
            return Err(invalid("externalRef is too long".into()));
        }
        Ok(Self::SystemUser { organisation, external_ref: wire.external_ref })
    }
}

impl Serialize for AuthorizationDetails {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::SystemUser { organisation, external_ref } => SystemUserWire {
                kind: SYSTEM_USER.into(),
                systemuser_org: ActorWire { authority: ACTOR_ID.into(), id: format!("0192:{organisation}") },
                external_ref: external_ref.clone(),
            }
            .serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn field(builder: TokenRequestBuilder) -> &'static str {
        builder.build().unwrap_err().field
    }

    #[test]
    fn scopes_are_sorted_and_each_stands_once() {
        let request = TokenRequest::scopes(["toll:b", "altinn:a", "toll:b"]).unwrap();
        assert_eq!(request.scope(), "altinn:a toll:b");
        assert_eq!(request, TokenRequest::scopes(["altinn:a", "toll:b"]).unwrap());
    }

    #[test]
    fn scopes_of_the_documentation_pass() {
        for scope in [
            "toll:movement/road/v2",
            "toll:eu/movement/road/v2",
            "altinn:serviceowner/instances.read",
            "idporten:dcr/onbehalfof:write",
            "skatteetaten:mva-register-read",
        ] {
            TokenRequest::scopes([scope]).unwrap();
        }
    }

    #[test]
    fn a_scope_that_is_none_is_named() {
        for scope in ["", "toll", ":x", "toll:", "a:b c:d", "a:b,c:d", "a:\"", "a:\\", "a:å", "a:\n"] {
            let error = TokenRequest::scopes([scope]).unwrap_err();
            assert_eq!(error.field, "scope", "{scope}");
            assert!(error.problem.contains(&format!("{scope:?}")), "{error}");
        }
        assert_eq!(field(TokenRequest::builder(Vec::<String>::new())), "scope");
    }

    #[test]
    fn a_customer_is_nine_digits_whose_check_digit_fits() {
        let with = |number: &str| TokenRequest::builder(["a:b"]).consumer_org(number);
        assert_eq!(with("991825827").build().unwrap().consumer_org().unwrap().to_string(), "991825827");
        for number in ["0192:991825827", "991825828", "99182582", ""] {
            assert_eq!(field(with(number)), "consumer_org", "{number}");
        }
    }

    #[test]
    fn a_resource_is_an_absolute_uri_without_fragment() {
        let with = |uri: &str| TokenRequest::builder(["a:b"]).resource(uri);
        with("https://api.example.com/v1").build().unwrap();
        for uri in ["/v1", "example", "https://x/#y", ""] {
            assert_eq!(field(with(uri)), "resource", "{uri}");
        }
    }

    #[test]
    fn a_national_identity_number_is_in_no_message_and_no_debug() {
        let wrong = TokenRequest::builder(["a:b"]).pid("0101011234");
        assert!(!format!("{wrong:?}").contains("0101011234"));
        let error = wrong.build().unwrap_err();
        assert!(error.field == "pid" && !error.to_string().contains("0101011234"));
        let right = TokenRequest::builder(["a:b"]).pid("01010112345").build().unwrap();
        assert!(!format!("{right:?}").contains("01010112345"));
    }

    #[test]
    fn a_system_user_is_written_as_altinn_reads_it() {
        let details = json!([{
            "type": "urn:altinn:systemuser",
            "systemuser_org": {"authority": "iso6523-actorid-upis", "ID": "0192:991825827"},
            "externalRef": "branch-7"
        }]);
        let request = TokenRequest::builder(["a:b"]).authorization_details(details.clone()).build().unwrap();
        assert_eq!(json!([request.authorization_details().unwrap()]), details);
    }

    #[test]
    fn a_system_user_of_another_shape_is_refused() {
        let object = |org: serde_json::Value| json!({"type": "urn:altinn:systemuser", "systemuser_org": org});
        let actor = |id: &str| json!({"authority": "iso6523-actorid-upis", "ID": id});
        let right = object(actor("0192:991825827"));
        for details in [
            right.clone(),
            json!([]),
            json!([right, right]),
            json!([object(actor("991825827"))]),
            json!([object(actor("0192:991825828"))]),
            json!([object(json!({"authority": "other", "ID": "0192:991825827"}))]),
            json!([object(json!({"authority": "iso6523-actorid-upis", "id": "0192:991825827"}))]),
            json!([{"type": "urn:altinn:unknown"}]),
            json!([{"type": "urn:altinn:systemuser", "systemuserorg": actor("0192:991825827")}]),
        ] {
            let builder = TokenRequest::builder(["a:b"]).authorization_details(details.clone());
            assert_eq!(field(builder), "authorization_details", "{details}");
        }
    }

    #[test]
    fn requests_that_differ_in_one_field_are_different_cache_keys() {
        let plain = || TokenRequest::builder(["a:b"]);
        let all = [
            plain().build(),
            TokenRequest::scopes(["a:c"]),
            plain().resource("https://x/").build(),
            plain().consumer_org("991825827").build(),
            plain().consumer_org("974761343").build(),
            plain().pid("01010112345").build(),
        ]
        .map(Result::unwrap);
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(one, other);
                assert_ne!(one.hash, other.hash);
            }
        }
    }

    proptest! {
        #[test]
        fn no_input_panics_and_what_passes_keeps_to_the_grammar(scope in ".*", org in ".*", uri in ".*") {
            if let Ok(request) = TokenRequest::builder([scope]).consumer_org(org).resource(uri).build() {
                prop_assert!(request.scope().contains(':') && !request.scope().contains(' '));
            }
        }
    }
}
