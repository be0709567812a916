use serde_json::{Map, Value};

use super::{
    Refusal,
    jws::Jws,
    knobs::{Knobs, ResourceType},
    organisation,
};
use crate::jose::Algorithm;

/// A grant whose form is right: what stands in it is of the documented names and types, and nothing else
/// does.
pub(super) struct Assertion<'a> {
    pub(super) jws: Jws<'a>,
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) x5c: Option<Value>,
    pub(super) claims: Claims,
}

/// The documented claims (docs.digdir.no, `maskinporten_protocol_jwtgrant`).
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: Value,
    pub(super) scopes: Vec<String>,
    pub(super) iat: u64,
    pub(super) exp: u64,
    pub(super) jti: Option<String>,
    pub(super) resource: Option<Value>,
    pub(super) pid: Option<String>,
    pub(super) consumer_org: Option<String>,
    pub(super) iss_onbehalfof: bool,
    pub(super) authorization_details: Option<Value>,
}

const DOCUMENTED: [&str; 11] = [
    "aud",
    "iss",
    "scope",
    "iat",
    "exp",
    "jti",
    "resource",
    "pid",
    "consumer_org",
    "iss_onbehalfof",
    "authorization_details",
];

/// Undocumented, but sent by production clients and tolerated.
const TOLERATED: [&str; 2] = ["sub", "nbf"];

impl<'a> Assertion<'a> {
    /// Reads `text`: JWS, algorithm, field names, field types, in this order.
    pub(super) fn read(text: &'a str, knobs: &Knobs) -> Result<Self, Refusal> {
        let jws = Jws::read(text).ok_or_else(|| malformed("assertion is no compact JWS"))?;
        let algorithm = match jws.header.get("alg").map(Value::as_str) {
            None => return Err(malformed("the header lacks alg")),
            Some(name) => name
                .and_then(|name| name.parse().ok())
                .filter(|algorithm: &Algorithm| algorithm.accepted_by_maskinporten())
                .ok_or(Refusal::Algorithm)?,
        };
        for (name, value) in &jws.header {
            // Not documented either, but real grants carry it.
            let tolerated_typ = name == "typ" && value == "JWT";
            if !["alg", "kid", "x5c"].contains(&name.as_str()) && !tolerated_typ {
                return Err(Refusal::UnknownField(printable(name)));
            }
        }
        let tolerated = |name: &str| !knobs.strict_claims && TOLERATED.contains(&name);
        for name in jws.payload.keys() {
            let is_known = DOCUMENTED.contains(&name.as_str()) || tolerated(name);
            if !is_known && !knobs.tolerate_unknown_claims {
                return Err(Refusal::UnknownField(printable(name)));
            }
        }
        let kid = optional_string(&jws.header, "kid")?;
        let x5c = jws.header.get("x5c").cloned();
        let claims = Claims::read(&jws.payload, knobs)?;
        Ok(Self { jws, algorithm, kid, x5c, claims })
    }
}

impl Claims {
    fn read(payload: &Map<String, Value>, knobs: &Knobs) -> Result<Self, Refusal> {
        optional_string(payload, "sub")?;
        if payload.get("nbf").is_some_and(|nbf| !nbf.is_u64()) {
            return Err(malformed("nbf"));
        }
        let claims = Self {
            iss: string(payload, "iss")?,
            aud: payload.get("aud").cloned().ok_or_else(|| malformed("aud is missing"))?,
            scopes: scopes(&string(payload, "scope")?)?,
            iat: seconds(payload, "iat")?,
            exp: seconds(payload, "exp")?,
            jti: optional_string(payload, "jti")?,
            resource: resource(payload.get("resource"), knobs.resource_type)?,
            pid: optional_string(payload, "pid")?,
            consumer_org: optional_string(payload, "consumer_org")?,
            iss_onbehalfof: optional_string(payload, "iss_onbehalfof")?.is_some(),
            authorization_details: payload.get("authorization_details").cloned(),
        };
        if claims.pid.as_ref().is_some_and(|pid| !organisation::is_person(pid)) {
            return Err(malformed("pid"));
        }
        if claims.consumer_org.as_ref().is_some_and(|number| !organisation::is_number(number)) {
            return Err(malformed("consumer_org"));
        }
        Ok(claims)
    }
}

/// RFC 6749 section 3.3: names with one space between them.
fn scopes(text: &str) -> Result<Vec<String>, Refusal> {
    let in_name = |c: char| matches!(c, '!' | '#'..='[' | ']'..='~');
    let names: Vec<String> = text.split(' ').map(str::to_owned).collect();
    if names.iter().all(|name| !name.is_empty() && name.chars().all(in_name)) {
        Ok(names)
    } else {
        Err(malformed("scope"))
    }
}

/// RFC 8707 section 2: absolute URIs without a fragment.
fn resource(value: Option<&Value>, allowed: ResourceType) -> Result<Option<Value>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let is_uri = |value: &Value| {
        let uri = value.as_str().and_then(|text| url::Url::parse(text).ok());
        uri.is_some_and(|uri| uri.fragment().is_none())
    };
    let fits = match value {
        Value::String(_) => allowed != ResourceType::Array && is_uri(value),
        Value::Array(uris) => allowed != ResourceType::String && !uris.is_empty() && uris.iter().all(is_uri),
        _ => false,
    };
    if fits { Ok(Some(value.clone())) } else { Err(malformed("resource")) }
}

fn string(object: &Map<String, Value>, name: &'static str) -> Result<String, Refusal> {
    optional_string(object, name)?.ok_or_else(|| malformed(&format!("{name} is missing")))
}

fn optional_string(object: &Map<String, Value>, name: &'static str) -> Result<Option<String>, Refusal> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && !text.contains(['\n', '\r']) => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(malformed(name)),
    }
}

fn seconds(object: &Map<String, Value>, name: &'static str) -> Result<u64, Refusal> {
    match object.get(name) {
        None => Err(malformed(&format!("{name} is missing"))),
        Some(value) => value.as_u64().ok_or_else(|| malformed(name)),
    }
}

fn malformed(detail: &str) -> Refusal {
    Refusal::Malformed(detail.into())
}

/// A name chosen by the client, fit to stand in an answer.
pub(super) fn printable(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::jose::{base64url, compact, signing_input};

    fn read(header: Value, change: impl FnOnce(&mut Map<String, Value>), knobs: &Knobs) -> Option<Refusal> {
        let mut claims = json!({"iss": "c", "aud": "a", "scope": "a:b c:d", "iat": 1, "exp": 2});
        change(claims.as_object_mut().unwrap());
        let input = signing_input(&base64url(header.to_string()), claims.to_string().as_bytes());
        Assertion::read(&compact(&input, b"signature"), knobs).err()
    }

    fn claim(name: &str, value: Value) -> Option<Refusal> {
        let set = |claims: &mut Map<String, Value>| drop(claims.insert(name.into(), value));
        read(json!({"alg": "RS256"}), set, &Knobs::default())
    }

    #[test]
    fn the_documented_claims_pass_in_their_documented_types() {
        for (name, value) in [
            ("jti", json!("x")),
            ("resource", json!("https://api.example.no")),
            ("resource", json!(["https://api.example.no", "urn:x"])),
            ("pid", json!("01811210028")),
            ("consumer_org", json!("313005003")),
            ("authorization_details", json!([])),
            ("sub", json!("c")),
            ("nbf", json!(1)),
        ] {
            assert_eq!(claim(name, value), None, "{name}");
        }
    }

    #[test]
    fn documented_claims_of_another_type_or_form_are_malformed() {
        for (name, value) in [
            ("iss", json!("")),
            ("iss", json!(7)),
            ("iat", json!(1.5)),
            ("iat", json!("1")),
            ("exp", json!(-1)),
            ("jti", json!(null)),
            ("jti", json!("a\nb")),
            ("scope", json!(["a:b"])),
            ("scope", json!("a:b  c:d")),
            ("resource", json!([])),
            ("resource", json!("not absolute")),
            ("resource", json!("https://api.example.no#fragment")),
            ("pid", json!("01811210029")),
            ("consumer_org", json!("0192:313005003")),
        ] {
            let refusal = claim(name, value.clone());
            assert!(matches!(refusal, Some(Refusal::Malformed(_))), "{name}: {value}: {refusal:?}");
        }
    }

    #[test]
    fn names_outside_the_documented_set_are_named_in_the_refusal() {
        for name in ["consumer_orgno", "client_id", "delegation_source"] {
            assert_eq!(claim(name, json!("x")), Some(Refusal::UnknownField(name.into())));
        }
        let header = json!({"alg": "RS256", "jku": "https://x"});
        assert_eq!(read(header, |_| {}, &Knobs::default()), Some(Refusal::UnknownField("jku".into())));
        assert_eq!(read(json!({"alg": "RS256", "typ": "JWT"}), |_| {}, &Knobs::default()), None);
    }

    #[test]
    fn strict_claims_refuse_what_is_only_tolerated() {
        let knobs = Knobs { strict_claims: true, ..Knobs::default() };
        let refusal =
            read(json!({"alg": "RS256"}), |claims| drop(claims.insert("nbf".into(), json!(1))), &knobs);
        assert_eq!(refusal, Some(Refusal::UnknownField("nbf".into())));
    }

    #[test]
    fn every_algorithm_but_the_three_is_refused() {
        for alg in ["PS256", "ES256", "EdDSA", "HS256", "none", "rs256"] {
            assert_eq!(
                read(json!({"alg": alg}), |_| {}, &Knobs::default()),
                Some(Refusal::Algorithm),
                "{alg}"
            );
        }
        assert!(matches!(read(json!({}), |_| {}, &Knobs::default()), Some(Refusal::Malformed(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[ -~]{0,80}") {
            let _ = Assertion::read(&text, &Knobs::default());
        }
    }
}
