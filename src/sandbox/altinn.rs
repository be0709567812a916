//! The fake Altinn: the exchange of Maskinporten tokens (Altinn/altinn-authentication), and the keys of what
//! it issues.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value, json};

use super::{
    clients::Clients,
    journal::Note,
    knobs::{AltinnBody, Knobs},
    message::{GUESS, bearer, json_response},
    world::World,
};

/// What a token provider's name follows.
pub(super) const EXCHANGE: &str = "/authentication/api/v1/exchange/";
pub(super) const KEYS: &str = "/authentication/api/v1/openid/.well-known/openid-configuration/jwks";

const PROVIDER: &str = "/authentication/api/v1/exchange/{provider}";
const ENTERPRISE_USER: &str = "X-Altinn-EnterpriseUser-Authentication";

/// Altinn's tokens live 30 minutes, whatever is left of the one that was exchanged.
const LIFETIME: u64 = 30 * 60;

/// How long an expired token is still taken, in seconds.
const CLOCK_SKEW: u64 = 10;

pub(super) fn router() -> Router<Arc<World>> {
    // Altinn answers GET only; HEAD is not the exchange either, though axum would route it there.
    Router::new().route(PROVIDER, get(exchange).head(no_head)).route(KEYS, get(keys))
}

async fn keys(State(world): State<Arc<World>>) -> Response {
    json_response(StatusCode::OK, &world.altinn_key.jwks())
}

async fn no_head() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")]).into_response()
}

async fn exchange(
    State(world): State<Arc<World>>,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if provider != "maskinporten" {
        let text = "Unknown token provider. Trusted providers: maskinporten";
        let answer = guessed((StatusCode::BAD_REQUEST, text).into_response(), "text, other providers");
        return Note::of_refusal("altinn-provider").on(answer);
    }
    if headers.contains_key(ENTERPRISE_USER) {
        let problem = json!({ "title": "Virksomhetsbruker is no longer available", "status": 410 });
        let problem_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let answer = (StatusCode::GONE, problem_type, problem.to_string()).into_response();
        return Note::of_refusal("altinn-enterprise-user").on(answer);
    }
    let Some((claims, orgno)) = subject(&world, &headers) else {
        let answer = guessed(StatusCode::UNAUTHORIZED.into_response(), "body");
        return Note::of_refusal("altinn-token").on(answer);
    };
    let test = query.is_some_and(|query| {
        url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "test" && value == "true")
    });
    let (knobs, now) = (world.knobs(), world.now());
    let note = Note::of_token(&claims, LIFETIME);
    let issuing = Issuing { test, clients: &world.clients(), altinn: &world.altinn, knobs: &knobs, now };
    let claims = issuing.claims(&claims, &orgno);
    let header = json!({
        "alg": "RS256",
        "kid": world.altinn_key.kid(),
        "x5t": world.altinn_key.x5t(),
        "typ": "JWT",
    });
    match world.altinn_key.sign(&header, &claims) {
        Some(token) => note.on(body(token, &headers, knobs.altinn_body)),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Claims and organisation number of a valid token of this sandbox's Maskinporten. An eSeal's token names its
/// holder by another authority, and is not taken.
fn subject(world: &World, headers: &HeaderMap) -> Option<(Map<String, Value>, String)> {
    let claims = world.maskinporten_key.claims_of(bearer(headers)?)?;
    let alive = claims.get("exp")?.as_u64()?.saturating_add(CLOCK_SKEW) > world.now();
    let consumer = claims.get("consumer")?;
    let trusted = claims.get("iss")? == world.issuer.as_str();
    let norwegian = consumer.get("authority")? == "iso6523-actorid-upis";
    let orgno = consumer.get("ID")?.as_str()?.strip_prefix("0192:")?.to_owned();
    (alive && trusted && norwegian).then_some((claims, orgno))
}

/// What goes into a token beside the claims of the one that is exchanged.
struct Issuing<'a> {
    test: bool,
    clients: &'a Clients,
    altinn: &'a str,
    knobs: &'a Knobs,
    now: u64,
}

impl Issuing<'_> {
    fn claims(&self, subject: &Map<String, Value>, orgno: &str) -> Map<String, Value> {
        let Self { test, clients, altinn, knobs, now } = *self;
        let not_copied = ["aud", "iss", "client_amr", "sid"];
        let mut claims: Map<String, Value> = subject
            .iter()
            .filter(|(name, _)| !not_copied.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if knobs.flatten_authorization_details
            && let Some(Value::Array(details)) = claims.get("authorization_details")
            && let [single] = details.as_slice()
        {
            // Observed: an array of one comes out as the one.
            claims.insert("authorization_details".into(), single.clone());
        }
        let mut set = |name: &str, value: Value| drop(claims.insert(name.into(), value));
        set("iss", format!("{altinn}/authentication/api/v1/openid/").into());
        set("iat", now.into());
        set("nbf", now.into());
        set("exp", now.saturating_add(LIFETIME).into());
        set("sid", uuid::Uuid::new_v4().to_string().into());
        set("urn:altinn:orgNumber", orgno.into());
        set("urn:altinn:authenticatemethod", "maskinporten".into());
        set("urn:altinn:authlevel", 3.into());
        let scope = subject.get("scope").and_then(Value::as_str).unwrap_or_default();
        if let (true, Some(code)) = (scope.contains("altinn:serviceowner"), clients.service_owners.get(orgno))
        {
            // Digdir alone may act as the test department.
            let code = if test && code == "digdir" { "ttd" } else { code };
            set("urn:altinn:org", code.into());
        }
        claims
    }
}

/// ASP.NET's habit: a string is JSON for those who accept JSON, and bare text for all others.
fn body(token: String, headers: &HeaderMap, shape: AltinnBody) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let quoted = match shape {
        AltinnBody::ByAccept => accept.contains("application/json"),
        AltinnBody::Quoted => true,
        AltinnBody::Bare => false,
    };
    if quoted {
        json_response(StatusCode::OK, &Value::String(token))
    } else {
        (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], token).into_response()
    }
}

fn guessed(mut response: Response, what: &'static str) -> Response {
    response.headers_mut().insert(GUESS, HeaderValue::from_static(what));
    response
}
