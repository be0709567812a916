//! The fake Customs (Toll): the token exchange and the road API's test call (toll.github.io, June 2026).
//!
//! Its grant type and token types are short words, not the URNs of RFC 8693, and its tokens are opaque.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Map, Value, json};

use super::{
    journal::Note,
    knobs::CustomsError,
    message::{GUESS, bearer, is_form, json_response},
    world::{Issued, World, locked},
};
use crate::jose::base64url;

pub(super) const EXCHANGE: &str = "/api/access/external/oauth/token";
pub(super) const TEST_AUTH: &str = "/api/movement/road/v2/test-auth";

/// Most tokens remembered; at the limit, the one that ends first is forgotten.
const MOST_TOKENS: usize = 16_384;

/// Why an exchange is refused. Only the text about scopes is documented.
enum Refusal {
    Request(&'static str),
    GrantType,
    SubjectToken,
    Scope(String),
}

pub(super) fn router() -> Router<Arc<World>> {
    Router::new().route(EXCHANGE, post(exchange)).route(TEST_AUTH, get(test_auth))
}

async fn exchange(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    let (knobs, now) = (world.knobs(), world.now());
    let (scopes, note) = match subject_token(&headers, &body).and_then(|token| scopes(&world, &token, now)) {
        Ok((scopes, claims)) => (scopes, Note::of_token(&claims, knobs.customs_lifetime)),
        Err(refusal) => {
            return Note::of_refusal(refusal.error()).on(refusal.answer(knobs.customs_error));
        }
    };
    let token = format!("segl-sandbox-customs.{}", base64url(random()));
    let expires = now.saturating_add(knobs.customs_lifetime);
    remember(&mut locked(&world.customs_tokens), token.clone(), Issued { expires, scopes }, now);
    let answer = json!({
        "issued_token_type": "access_token",
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": knobs.customs_lifetime,
    });
    let mut response = json_response(StatusCode::OK, &answer);
    response.headers_mut().insert(GUESS, HeaderValue::from_static("token format, expires_in"));
    note.on(response)
}

/// 200 for a token with a road scope; nothing but that is documented.
async fn test_auth(State(world): State<Arc<World>>, headers: HeaderMap) -> Response {
    let token = bearer(&headers);
    let found = token.and_then(|token| locked(&world.customs_tokens).get(token).cloned());
    let mut response = match found {
        Some(issued) if issued.expires > world.now() => {
            let road = |scope: &String| {
                let family = scope.strip_prefix("toll:eu/").or_else(|| scope.strip_prefix("toll:"));
                family.is_some_and(|path| path == "movement/road" || path.starts_with("movement/road/"))
            };
            let status = if issued.scopes.iter().any(road) { StatusCode::OK } else { StatusCode::FORBIDDEN };
            status.into_response()
        }
        _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response(),
    };
    response.headers_mut().insert(GUESS, HeaderValue::from_static("body, status of refusals"));
    response
}

fn subject_token(headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    if !is_form(headers) {
        return Err(Refusal::Request("The content type is not application/x-www-form-urlencoded"));
    }
    if headers.contains_key(header::AUTHORIZATION) {
        return Err(Refusal::Request("The exchange takes no Authorization header"));
    }
    let mut fields = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        if !["grant_type", "subject_token_type", "subject_token"].contains(&name.as_ref()) {
            return Err(Refusal::Request("The form holds a field that is not documented"));
        }
        if fields.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(Refusal::Request("The form holds a field twice"));
        }
    }
    if fields.get("grant_type").map(String::as_str) != Some("token-exchange") {
        return Err(Refusal::GrantType);
    }
    if fields.get("subject_token_type").map(String::as_str) != Some("access_token") {
        return Err(Refusal::Request("subject_token_type is not access_token"));
    }
    fields.remove("subject_token").ok_or(Refusal::Request("subject_token is missing"))
}

/// The scopes of a valid token of this sandbox's Maskinporten, if they are Customs' own and of the family
/// that fits, and Customs knows whom the token is for.
fn scopes(world: &World, token: &str, now: u64) -> Result<(Vec<String>, Map<String, Value>), Refusal> {
    let claims = world.maskinporten_key.claims_of(token).ok_or(Refusal::SubjectToken)?;
    let text = |name: &str| claims.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let alive = claims.get("exp").and_then(|exp| exp.as_u64()).is_some_and(|exp| exp > now);
    if text("iss") != world.issuer || !alive {
        return Err(Refusal::SubjectToken);
    }
    let is_norwegian = claims.get("consumer").and_then(|consumer| consumer.get("authority"))
        == Some(&"iso6523-actorid-upis".into());
    let holder = claims.get("consumer").and_then(|consumer| consumer.get("ID")).and_then(|id| id.as_str());
    let holder = holder.map(|id| id.strip_prefix("0192:").unwrap_or(id));
    let clients = world.clients();
    let is_known = clients.customs.as_ref().is_none_or(|customs| {
        holder.is_some_and(|holder| customs.registered.iter().any(|known| known == holder))
    });
    let scopes: Vec<String> = text("scope").split(' ').map(str::to_owned).collect();
    for scope in &scopes {
        // Norwegian organisations have `toll:…`, eSeals `toll:eu/…`, and neither has the other's.
        let fits = scope.starts_with("toll:") && is_norwegian != scope.starts_with("toll:eu/");
        if !fits || !is_known {
            return Err(Refusal::Scope(scope.clone()));
        }
    }
    Ok((scopes, claims))
}

fn remember(tokens: &mut HashMap<String, Issued>, token: String, issued: Issued, now: u64) {
    if tokens.len() >= MOST_TOKENS {
        tokens.retain(|_, issued| issued.expires > now);
    }
    if tokens.len() >= MOST_TOKENS {
        let first = tokens.iter().min_by_key(|(_, issued)| issued.expires).map(|(token, _)| token.clone());
        first.and_then(|token| tokens.remove(&token));
    }
    tokens.insert(token, issued);
}

impl Refusal {
    fn error(&self) -> &'static str {
        match self {
            Self::Request(_) => "invalid_request",
            Self::GrantType => "unsupported_grant_type",
            Self::SubjectToken => "invalid_grant",
            Self::Scope(_) => "invalid_scope",
        }
    }

    fn answer(&self, shape: CustomsError) -> Response {
        let error = self.error();
        let (status, text) = match self {
            Self::Request(text) => (StatusCode::BAD_REQUEST, (*text).to_owned()),
            Self::GrantType => (StatusCode::BAD_REQUEST, "grant_type is not token-exchange".into()),
            Self::SubjectToken => (StatusCode::BAD_REQUEST, "The subject token is not valid".into()),
            Self::Scope(scope) => (StatusCode::FORBIDDEN, format!("Not authorized to request scope {scope}")),
        };
        let mut response = match shape {
            CustomsError::Json => {
                json_response(status, &json!({ "error": error, "error_description": text }))
            }
            CustomsError::Text => (status, text).into_response(),
        };
        response.headers_mut().insert(GUESS, HeaderValue::from_static("status, shape, error"));
        response
    }
}

fn random() -> Vec<u8> {
    [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat()
}
