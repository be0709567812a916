//! The fake Maskinporten: metadata (RFC 8414), public keys, and the token endpoint for JWT grants (RFC 7523).

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Map, Value, json};

use super::{
    Refusal,
    details::SYSTEM_USER,
    examine::{Approved, Examiner, party},
    journal::Note,
    knobs::Knobs,
    message::{GUESS, is_form, json_response},
    world::World,
};
use crate::jose::base64url;

pub(super) const METADATA: &str = "/.well-known/oauth-authorization-server";
pub(super) const JWK: &str = "/jwk";
pub(super) const TOKEN: &str = "/token";

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub(super) fn router() -> Router<Arc<World>> {
    Router::new().route(METADATA, get(metadata)).route(JWK, get(jwk)).route(TOKEN, post(token))
}

async fn metadata(State(world): State<Arc<World>>) -> Response {
    let issuer = &world.issuer;
    json_response(
        StatusCode::OK,
        &json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}token"),
            "jwks_uri": format!("{issuer}jwk"),
            "grant_types_supported": [JWT_BEARER],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS256", "RS384", "RS512"],
            "authorization_details_types_supported": [SYSTEM_USER],
        }),
    )
}

async fn jwk(State(world): State<Arc<World>>) -> Response {
    json_response(StatusCode::OK, &world.maskinporten_key.jwks())
}

async fn token(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    let (knobs, now) = (world.knobs(), world.now());
    let assertion = assertion(&headers, &body);
    let mut note = assertion.as_deref().map(Note::of_grant).unwrap_or_default();
    match assertion.and_then(|assertion| approve(&world, &knobs, now, &assertion)) {
        Ok(approved) => {
            note.client = Some(approved.client_id.clone());
            note.life = Some(approved.lifetime);
            let answer = issue(&world, &knobs, &approved, now);
            note.on(answer.unwrap_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response()))
        }
        Err(refusal) => {
            let trace = uuid::Uuid::new_v4().simple().to_string();
            tracing::debug!(code = refusal.code(), trace, "sandbox refused a grant");
            let mut response = json_response(StatusCode::BAD_REQUEST, &refusal.body(&knobs, &trace));
            response.headers_mut().insert(GUESS, HeaderValue::from_static(refusal.guess()));
            note.code = Some(refusal.code());
            note.on(response)
        }
    }
}

fn approve(world: &World, knobs: &Knobs, now: u64, assertion: &str) -> Result<Approved, Refusal> {
    let clients = world.clients();
    let examiner = Examiner {
        issuer: &world.issuer,
        ca: &world.ca,
        seal_issuers: &world.seal_issuers,
        knobs,
        clients: &clients,
        now,
    };
    examiner.examine(assertion, &world.replay)
}

/// The answer with a token; `None` when the cryptographic library refuses to sign.
fn issue(world: &World, knobs: &Knobs, approved: &Approved, now: u64) -> Option<Response> {
    let header = json!({ "kid": world.maskinporten_key.kid(), "alg": "RS256" });
    let token = world.maskinporten_key.sign(&header, &claims(approved, knobs, &world.issuer, now))?;
    let answer = json!({
        "access_token": token,
        "token_type": "Bearer",
        // One below the life, as in Digdir's samples.
        "expires_in": approved.lifetime.saturating_sub(1),
        "scope": approved.scopes.join(" "),
    });
    let mut response = json_response(StatusCode::OK, &answer);
    if !approved.guesses.is_empty() {
        response.headers_mut().insert(GUESS, HeaderValue::try_from(approved.guesses.join(", ")).ok()?);
    }
    Some(response)
}

/// The grant out of a form that holds exactly the two documented fields.
fn assertion(headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    if !is_form(headers) {
        return Err(Refusal::Form("The content type is not application/x-www-form-urlencoded"));
    }
    let (mut grant_type, mut assertion) = (None, None);
    for (name, value) in url::form_urlencoded::parse(body) {
        let field = match name.as_ref() {
            "grant_type" => &mut grant_type,
            "assertion" => &mut assertion,
            _ => return Err(Refusal::Form("The form holds a field besides grant_type and assertion")),
        };
        if field.replace(value.into_owned()).is_some() {
            return Err(Refusal::Form("The form holds a field twice"));
        }
    }
    match grant_type.as_deref() {
        None => return Err(Refusal::Form("grant_type is missing")),
        Some(JWT_BEARER) => {}
        Some(_) => return Err(Refusal::GrantType),
    }
    assertion.ok_or(Refusal::Form("assertion is missing"))
}

fn claims(approved: &Approved, knobs: &Knobs, issuer: &str, now: u64) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| drop(claims.insert(name.into(), value));
    set("iss", issuer.into());
    set("scope", approved.scopes.join(" ").into());
    set("client_amr", approved.client_amr.into());
    set("token_type", "Bearer".into());
    set("iat", now.into());
    set("exp", now.saturating_add(approved.lifetime).into());
    set("client_id", approved.client_id.as_str().into());
    set("jti", random_jti().into());
    set("consumer", approved.consumer.clone());
    if let Some((supplier, source)) = &approved.delegated {
        set("supplier", party(supplier));
        set("delegation_source", source.as_str().into());
    }
    match &approved.resource {
        Some(resource) => set("aud", resource.clone()),
        None if knobs.aud_unspecified => set("aud", "unspecified".into()),
        None => {}
    }
    if let Some(pid) = &approved.pid {
        set("pid", pid.as_str().into());
    }
    if let Some(details) = &approved.authorization_details {
        set("authorization_details", details.clone());
    }
    claims
}

/// 43 characters of base64url, as in real tokens.
fn random_jti() -> String {
    let two = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
    base64url(two)
}
