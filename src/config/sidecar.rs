//! No file at all: one client and one token from environment variables, as platforms hand them to a sidecar (the
//! `MASKINPORTEN_*` names are those of the Nais platform).

use std::ffi::OsString;

use secrecy::SecretString;
use url::Url;

use super::{
    document::Report,
    environment::{self, Environment},
    error::{Fault, Origin},
    variables::{
        CLIENT_ID, CLIENT_JWK, CLIENT_KID, ISSUER, KEY, KeyId, PIN_FILE, SCOPES, TOKEN_ENDPOINT, Variables,
        WELL_KNOWN,
    },
    wire,
};
use crate::secret::Sources;

/// Name of the one signer, client and token.
const NAME: &str = "maskinporten";
/// Name of the environment when it is neither `test` nor `prod`.
const ENVIRONMENT: &str = "custom";

/// The tables that the variables stand for; `None` when they name no client, or switch it off.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Option<(wire::Tables, Report, Vec<String>)> {
    let (set, no_text) = Variables::collect(variables);
    let client_id = set.client_id().filter(|_| !set.is_off())?;
    let mut report = Report::default();
    for name in no_text {
        refuse(name, Fault::VariableNotText, &mut report);
    }
    let mut tables = wire::Tables::default();
    let mut warnings = Vec::new();
    let signer = signer(&set, &mut report, &mut warnings);
    let kid = set.kid();
    if kid.is_none() && signer.is_some() {
        refuse(CLIENT_KID, Fault::VariableMissing, &mut report);
    }
    let environment = environment(&set, &mut tables, &mut report);
    tables.signers.extend(signer.map(|signer| (NAME.to_owned(), signer)));

    name(&format!("clients.{NAME}.client_id"), CLIENT_ID, &mut report);
    let client = wire::Client {
        environment: environment.unwrap_or_else(|| "test".to_owned()),
        kind: None,
        client_id: Some(client_id.to_owned()),
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
    let token = wire::Token {
        client: NAME.to_owned(),
        scopes: set.scopes(),
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

fn signer(set: &Variables, report: &mut Report, warnings: &mut Vec<String>) -> Option<wire::Signer> {
    let place = format!("signers.{NAME}.key");
    let (key, inline) = match (set.key(), set.jwk()) {
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
            if KeyId::in_jwk(jwk).is_none() {
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
        pin: set.pin().map(|source| Sources::new(vec![source])),
        sign_pin: None,
        allow_unstable_slot: None,
        chain: None,
        algorithm: None,
        inline,
    })
}

/// Name of the environment that the addresses stand for; a third one goes into `tables`.
fn environment(set: &Variables, tables: &mut wire::Tables, report: &mut Report) -> Option<String> {
    let place = |key: &str| format!("environments.{ENVIRONMENT}.{key}");
    let Some((issuer, variable)) = set.issuer() else {
        refuse(ISSUER, Fault::VariableMissing, report);
        return None;
    };
    name(&place("issuer"), variable, report);
    name(&format!("clients.{NAME}.environment"), variable, report);
    let same_origin = |key, variable, report: &mut Report| {
        let text = set.text(variable)?;
        let found = environment::address(text).map_err(|fault| refuse(variable, fault, report)).ok()?;
        if Url::parse(issuer).is_ok_and(|issuer| issuer.origin() == found.origin()) {
            name(&place(key), variable, report);
            return Some(found);
        }
        let fault = Fault::OtherOrigin { address: found.to_string(), issuer: issuer.to_owned() };
        refuse(variable, fault, report);
        None
    };
    let metadata = same_origin("metadata", WELL_KNOWN, report);
    let token_endpoint = same_origin("token_endpoint", TOKEN_ENDPOINT, report);
    if let Some(built_in) = Environment::of_issuer(issuer) {
        return Some(built_in.name);
    }
    let issuer = Some(issuer.to_owned());
    let environment = wire::Environment { issuer, metadata, token_endpoint, ..wire::Environment::default() };
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
    use std::{collections::BTreeMap, os::unix::ffi::OsStringExt};

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
    fn the_addresses_of_a_third_environment_are_shown_with_their_variables() {
        let (metadata, token) = ("http://127.0.0.1:1/metadata", "http://127.0.0.1:1/token");
        let config =
            config(&[(ISSUER, "http://127.0.0.1:1/"), (WELL_KNOWN, metadata), (TOKEN_ENDPOINT, token)])
                .unwrap();
        let shown = config.show();
        for (key, value, variable) in
            [("metadata", metadata, WELL_KNOWN), ("token_endpoint", token, TOKEN_ENDPOINT)]
        {
            let name = format!("environments.custom.{key}");
            let found = shown.iter().find(|setting| setting.name == name).unwrap();
            assert_eq!((found.value.as_str(), found.origin), (value, Origin::Variable(variable)));
        }
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
        for changes in [[(CLIENT_ID, "")], [("MASKINPORTEN_ENABLED", "false")]] {
            assert!(matches!(config(&changes), Err(Error::Absent { .. })));
        }
        assert!(config(&[("MASKINPORTEN_ENABLED", "true")]).is_ok());
    }

    #[test]
    fn a_value_that_is_no_text_is_refused_without_being_shown() {
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let set = SOUND.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let error = Config::from_env(set.chain([(OsString::from(PIN_FILE), odd)])).unwrap_err();
        assert_eq!(error.to_string(), "SEGL_PIN_FILE: is no text (UTF-8)");
    }
}
