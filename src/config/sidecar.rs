//! No file at all: one client and one token from environment variables, as platforms hand them to a sidecar (the
//! `MASKINPORTEN_*` names are those of the Nais platform).

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt};

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::{
    document::Report,
    environment::{self, Environment},
    error::{Fault, Origin},
    wire,
};
use crate::secret::{Source, Sources};

/// Name of the one signer, client and token.
const NAME: &str = "maskinporten";
/// Name of the environment when it is neither `test` nor `prod`.
const ENVIRONMENT: &str = "custom";

const ENABLED: &str = "MASKINPORTEN_ENABLED";
const CLIENT_ID: &str = "MASKINPORTEN_CLIENT_ID";
const CLIENT_JWK: &str = "MASKINPORTEN_CLIENT_JWK";
const CLIENT_KID: &str = "MASKINPORTEN_CLIENT_KID";
const SCOPES: &str = "MASKINPORTEN_SCOPES";
const WELL_KNOWN: &str = "MASKINPORTEN_WELL_KNOWN_URL";
const ISSUER: &str = "MASKINPORTEN_ISSUER";
const TOKEN_ENDPOINT: &str = "MASKINPORTEN_TOKEN_ENDPOINT";
const KEY: &str = "SEGL_KEY";
const PIN_FILE: &str = "SEGL_PIN_FILE";

const KNOWN: [&str; 10] =
    [ENABLED, CLIENT_ID, CLIENT_JWK, CLIENT_KID, SCOPES, WELL_KNOWN, ISSUER, TOKEN_ENDPOINT, KEY, PIN_FILE];

/// The path that metadata has below an issuer without a path (RFC 8414 section 3).
const WELL_KNOWN_PATH: &str = ".well-known/oauth-authorization-server";

/// The tables that the variables stand for; `None` when they name no client, or switch it off.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Option<(wire::Tables, Report, Vec<String>)> {
    let mut report = Report::default();
    let set = Variables::collect(variables, &mut report);
    if !set.0.contains_key(CLIENT_ID) || matches!(set.text(ENABLED), Some("false" | "0")) {
        return None;
    }
    let mut tables = wire::Tables::default();
    let mut warnings = Vec::new();
    let signer = signer(&set, &mut report, &mut warnings);
    let kid = set.text(CLIENT_KID).map(str::to_owned).or_else(|| kid_of_jwk(&set));
    if kid.is_none() && signer.is_some() {
        refuse(CLIENT_KID, Fault::VariableMissing, &mut report);
    }
    let environment = environment(&set, &mut tables, &mut report);
    tables.signers.extend(signer.map(|signer| (NAME.to_owned(), signer)));

    name(&format!("clients.{NAME}.client_id"), CLIENT_ID, &mut report);
    let client = wire::Client {
        environment: environment.unwrap_or_else(|| "test".to_owned()),
        kind: None,
        client_id: Some(set.text(CLIENT_ID).unwrap_or_default().to_owned()),
        name: None,
        signer: NAME.to_owned(),
        kid,
        certificate: None,
        kid_expires: None,
        grant_lifetime: None,
    };
    tables.clients.insert(NAME.to_owned(), client);

    if set.text(SCOPES).is_none() {
        refuse(SCOPES, Fault::VariableMissing, &mut report);
    }
    name(&format!("tokens.{NAME}.scopes"), SCOPES, &mut report);
    let scopes = set.text(SCOPES).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let token = wire::Token {
        client: NAME.to_owned(),
        scopes,
        resource: None,
        consumer_org: None,
        authorization_details: None,
        exchange: None,
        altinn_test: None,
        probe: None,
        keep_warm: None,
    };
    tables.tokens.insert(NAME.to_owned(), token);
    if !report.problems().is_empty() {
        // What is missing is named by its variable; tables with holes would say it again in their own words.
        tables = wire::Tables::default();
    }
    Some((tables, report, warnings))
}

/// The known variables that are set and not empty. Wiped when dropped, as one may be a private key.
struct Variables(BTreeMap<&'static str, Zeroizing<String>>);

impl Variables {
    fn collect(variables: impl IntoIterator<Item = (OsString, OsString)>, report: &mut Report) -> Self {
        let mut set = BTreeMap::new();
        for (name, value) in variables {
            let Some(name) = KNOWN.into_iter().find(|known| name == *known) else { continue };
            match String::from_utf8(value.into_vec()) {
                Ok(text) if text.is_empty() => {}
                Ok(text) => {
                    set.insert(name, Zeroizing::new(text));
                }
                Err(error) => {
                    drop(Zeroizing::new(error.into_bytes()));
                    refuse(name, Fault::VariableNotText, report);
                }
            }
        }
        Self(set)
    }

    fn text(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(|text| text.as_str())
    }
}

fn signer(set: &Variables, report: &mut Report, warnings: &mut Vec<String>) -> Option<wire::Signer> {
    let place = format!("signers.{NAME}.key");
    let (key, inline) = match (set.text(KEY), set.text(CLIENT_JWK)) {
        (Some(_), Some(_)) => {
            refuse(KEY, Fault::VariableConflict { other: CLIENT_JWK }, report);
            return None;
        }
        (Some(uri), None) => {
            name(&place, KEY, report);
            (uri.to_owned(), None)
        }
        (None, Some(jwk)) => {
            name(&place, CLIENT_JWK, report);
            if serde_json::from_str::<KeyId>(jwk).is_err() {
                refuse(CLIENT_JWK, Fault::Jwk, report);
                return None;
            }
            warnings.push(format!(
                "{CLIENT_JWK} holds a private key that every process of this user can read; prefer {KEY} and \
                 {CLIENT_KID}."
            ));
            (String::new(), Some(SecretString::from(Box::<str>::from(jwk))))
        }
        (None, None) => {
            refuse(KEY, Fault::VariableMissing, report);
            return None;
        }
    };
    name(&format!("signers.{NAME}.pin"), PIN_FILE, report);
    Some(wire::Signer {
        key: wire::OneOrSeveral::One(key),
        profile: None,
        pin: set.text(PIN_FILE).map(|path| Sources::new(vec![Source::File(path.into())])),
        sign_pin: None,
        allow_unstable_slot: None,
        chain: None,
        algorithm: None,
        inline,
    })
}

/// The one member of a private JWK that is read here; the others are not kept.
#[derive(Deserialize)]
struct KeyId {
    kid: Option<String>,
}

fn kid_of_jwk(set: &Variables) -> Option<String> {
    serde_json::from_str::<KeyId>(set.text(CLIENT_JWK)?).ok()?.kid
}

/// Name of the environment that the addresses stand for; a third one goes into `tables`.
fn environment(set: &Variables, tables: &mut wire::Tables, report: &mut Report) -> Option<String> {
    let place = |key: &str| format!("environments.{ENVIRONMENT}.{key}");
    let derived = set.text(WELL_KNOWN).and_then(|url| url.strip_suffix(WELL_KNOWN_PATH));
    let (issuer, variable) = match (set.text(ISSUER), derived) {
        (Some(issuer), _) => (issuer.to_owned(), ISSUER),
        (None, Some(issuer)) => (issuer.to_owned(), WELL_KNOWN),
        (None, None) => {
            refuse(ISSUER, Fault::VariableMissing, report);
            return None;
        }
    };
    name(&place("issuer"), variable, report);
    name(&format!("clients.{NAME}.environment"), variable, report);
    let same_origin = |name, report: &mut Report| {
        let text = set.text(name)?;
        let found = environment::address(text).map_err(|fault| refuse(name, fault, report)).ok()?;
        if Url::parse(&issuer).is_ok_and(|issuer| issuer.origin() == found.origin()) {
            return Some(found);
        }
        let fault = Fault::OtherOrigin { address: found.to_string(), issuer: issuer.clone() };
        refuse(name, fault, report);
        None
    };
    let metadata = same_origin(WELL_KNOWN, report);
    let token_endpoint = same_origin(TOKEN_ENDPOINT, report);
    for built_in in [Environment::test(), Environment::prod()] {
        if built_in.issuer == issuer {
            return Some(built_in.name);
        }
    }
    let environment =
        wire::Environment { issuer: Some(issuer), metadata, token_endpoint, ..wire::Environment::default() };
    tables.environments.insert(ENVIRONMENT.to_owned(), environment);
    Some(ENVIRONMENT.to_owned())
}

fn name(place: &str, variable: &'static str, report: &mut Report) {
    report.written(place, Origin::Variable(variable));
}

fn refuse(variable: &'static str, fault: Fault, report: &mut Report) {
    report.written(variable, Origin::Variable(variable));
    report.refuse(variable, fault);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Error, Identity, Key};

    const JWK: &str = r#"{"kty":"RSA","kid":"jwk-kid","n":"AQ","e":"AQAB","d":"c2VjcmV0LXBhcnQ"}"#;
    const WELL_KNOWN_TEST: &str = "https://test.maskinporten.no/.well-known/oauth-authorization-server";

    const SOUND: [(&str, &str); 5] = [
        (CLIENT_ID, "c"),
        (SCOPES, "toll:movement/road/v2 altinn:instances.read"),
        (ISSUER, "https://test.maskinporten.no/"),
        (KEY, "pkcs11:token=A"),
        (CLIENT_KID, "k"),
    ];

    /// The sound variables with `changes`; an empty value unsets.
    fn config(changes: &[(&str, &str)]) -> Result<Config, Error> {
        let mut set: BTreeMap<&str, &str> = SOUND.into();
        set.extend(changes.iter().copied());
        Config::from_env(set.into_iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn variables_make_one_client_and_one_token() {
        let config = config(&[(PIN_FILE, "/run/pin"), ("HOME", "/root")]).unwrap();
        assert_eq!(config.warnings, [""; 0]);
        let client = &config.clients["maskinporten"];
        assert_eq!(client.environment, Environment::test());
        assert_eq!(client.identity, Identity::KeyId("k".into()));
        let signer = &config.signers[&client.signer];
        assert_eq!(signer.key.to_string(), "pkcs11:token=A");
        assert_eq!(signer.pin.as_ref().unwrap().to_string(), "file:/run/pin");
        let token = &config.tokens["maskinporten"];
        assert_eq!(token.scopes, ["toll:movement/road/v2", "altinn:instances.read"]);
        let origin =
            config.show().into_iter().find(|setting| setting.name == "clients.maskinporten.client_id");
        assert_eq!(origin.unwrap().origin, Origin::Variable(CLIENT_ID));
    }

    #[test]
    fn a_private_jwk_is_taken_with_a_warning_and_never_shown() {
        let config = config(&[(KEY, ""), (CLIENT_KID, ""), (CLIENT_JWK, JWK)]).unwrap();
        assert!(matches!(config.signers["maskinporten"].key, Key::Jwk(_)));
        assert_eq!(config.clients["maskinporten"].identity, Identity::KeyId("jwk-kid".into()));
        assert_eq!(config.warnings.len(), 1);
        let shown = format!("{config:?} {:?}", config.show());
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    }

    #[test]
    fn the_environment_follows_from_the_issuer_or_the_metadata() {
        let of =
            |changes: &[(&str, &str)]| config(changes).unwrap().clients["maskinporten"].environment.clone();
        assert_eq!(of(&[(ISSUER, ""), (WELL_KNOWN, WELL_KNOWN_TEST)]), Environment::test());
        assert_eq!(of(&[(ISSUER, "https://maskinporten.no/")]), Environment::prod());
        let local = of(&[(ISSUER, "http://127.0.0.1:1/"), (TOKEN_ENDPOINT, "http://127.0.0.1:1/token")]);
        assert_eq!((local.name.as_str(), local.issuer.as_str()), ("custom", "http://127.0.0.1:1/"));
        assert_eq!(local.token_endpoint.unwrap().as_str(), "http://127.0.0.1:1/token");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_variable() {
        for (changes, expected) in [
            (vec![(SCOPES, "")], "MASKINPORTEN_SCOPES: is needed beside MASKINPORTEN_CLIENT_ID"),
            (vec![(SCOPES, "road")], "MASKINPORTEN_SCOPES: scope: \"road\""),
            (vec![(ISSUER, "")], "MASKINPORTEN_ISSUER: is needed"),
            (
                vec![(ISSUER, "https://test.maskinporten.no")],
                "MASKINPORTEN_ISSUER: an issuer ends in a slash",
            ),
            (vec![(ISSUER, ""), (WELL_KNOWN, "https://x/y")], "MASKINPORTEN_ISSUER: is needed"),
            (vec![(KEY, "")], "SEGL_KEY: is needed"),
            (vec![(KEY, "1234")], "SEGL_KEY: the key must be written as pkcs11:"),
            (vec![(CLIENT_KID, "")], "MASKINPORTEN_CLIENT_KID: is needed"),
            (vec![(CLIENT_JWK, JWK)], "SEGL_KEY: is set beside MASKINPORTEN_CLIENT_JWK"),
            (
                vec![(KEY, ""), (CLIENT_JWK, "c2VjcmV0")],
                "MASKINPORTEN_CLIENT_JWK: the private key is no JSON object",
            ),
            (vec![(TOKEN_ENDPOINT, "https://evil.example/token")], "does not begin with the issuer"),
        ] {
            let said = config(&changes).unwrap_err().to_string();
            assert!(said.contains(expected) && !said.contains("c2VjcmV0"), "{changes:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn a_client_that_is_absent_or_switched_off_is_no_configuration() {
        for changes in [[(CLIENT_ID, "")], [(ENABLED, "false")]] {
            assert!(matches!(config(&changes), Err(Error::Absent { .. })));
        }
        assert!(config(&[(ENABLED, "true")]).is_ok());
    }

    #[test]
    fn a_value_that_is_no_text_is_refused_without_being_shown() {
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let set = SOUND.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let error = Config::from_env(set.chain([(OsString::from(PIN_FILE), odd)])).unwrap_err();
        assert_eq!(error.to_string(), "SEGL_PIN_FILE: is no text (UTF-8)");
    }
}
