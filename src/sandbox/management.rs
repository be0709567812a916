//! The management interface: what the sandbox knows and has seen, and how it is turned while it runs. On loopback only,
//! on a port of its own, as JSON.

use std::sync::{Arc, PoisonError};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    Clients, Error, Fault,
    clients::{Client, RegisteredKey},
    message::json_response,
    world::{World, locked},
};

pub(super) fn router(world: &Arc<World>) -> Router<Arc<World>> {
    Router::new()
        .route("/", get(overview))
        .route("/requests", get(requests))
        .route("/grants", get(grants))
        .route("/manners", get(manners))
        .route("/knobs", get(knobs).patch(turn))
        .route("/faults", get(faults).post(add_fault).delete(remove_faults))
        .route("/faults/{number}", delete(remove_fault))
        .route("/clients", get(clients))
        .route("/clients/{id}", put(put_client).delete(remove_client))
        .route("/clients/{id}/jwks", post(add_key))
        .layer(middleware::from_fn_with_state(world.clone(), guard))
}

/// Keeps web pages out: a browser says where a request comes from, or reaches loopback under another name.
async fn guard(State(world): State<Arc<World>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_page = request.headers().contains_key(header::ORIGIN);
    if is_page || !["127.0.0.1", "localhost", "[::1]"].contains(&name) {
        return refused(StatusCode::FORBIDDEN, "the management interface is not for web pages");
    }
    tokio::select! {
        biased;
        () = world.stop.cancelled() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        mut response = next.run(request) => {
            response.headers_mut().insert(header::SERVER, header::HeaderValue::from_static("segl-sandbox"));
            response
        }
    }
}

async fn overview(State(world): State<Arc<World>>) -> Response {
    answer(&json!({
        "maskinporten": world.issuer,
        "customs": world.customs,
        "altinn": world.altinn,
        "now": world.now(),
        "counters": world.counting.snapshot(),
        "paths": ["/requests", "/grants", "/manners", "/knobs", "/faults", "/clients"],
    }))
}

async fn requests(State(world): State<Arc<World>>, RawQuery(query): RawQuery) -> Response {
    answer(&json!(locked(&world.journal).entries(after(query.as_deref()))))
}

async fn grants(State(world): State<Arc<World>>, RawQuery(query): RawQuery) -> Response {
    let mut entries = locked(&world.journal).entries(after(query.as_deref()));
    entries.retain(|entry| entry.is_grant);
    answer(&json!(entries))
}

async fn manners(State(world): State<Arc<World>>) -> Response {
    let lapses: Vec<Value> = locked(&world.journal)
        .lapses()
        .into_iter()
        .map(|lapse| {
            json!({
                "client": lapse.client,
                "manner": lapse.manner,
                "times": lapse.times,
                "last": lapse.last,
                "advice": lapse.manner.advice(),
            })
        })
        .collect();
    answer(&json!(lapses))
}

async fn knobs(State(world): State<Arc<World>>) -> Response {
    answer(&json!(world.knobs()))
}

async fn turn(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    let changes: Map<String, Value> = match read(&headers, &body) {
        Ok(changes) => changes,
        Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
    };
    let mut knobs = world.knobs.write().unwrap_or_else(PoisonError::into_inner);
    match knobs.with(&changes) {
        Ok(turned) => {
            *knobs = turned;
            drop(knobs);
            answer(&json!(world.knobs()))
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, &why),
    }
}

async fn faults(State(world): State<Arc<World>>) -> Response {
    let all: Vec<Value> = world
        .timeline
        .all(world.clock.now())
        .into_iter()
        .map(|(number, fault, is_on)| json!({ "number": number, "on": is_on, "fault": fault }))
        .collect();
    answer(&json!(all))
}

async fn add_fault(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    match read::<Fault>(&headers, &body) {
        Ok(fault) => {
            let added = world.timeline.add_now(fault, world.clock.now());
            done(added.map(|number| json!({ "number": number })))
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, &why),
    }
}

async fn remove_faults(State(world): State<Arc<World>>) -> Response {
    answer(&json!({ "removed": world.timeline.remove(None) }))
}

async fn remove_fault(State(world): State<Arc<World>>, Path(number): Path<u64>) -> Response {
    match world.timeline.remove(Some(number)) {
        0 => refused(StatusCode::NOT_FOUND, "there is no fault of this number"),
        removed => answer(&json!({ "removed": removed })),
    }
}

async fn clients(State(world): State<Arc<World>>) -> Response {
    let registered = world.registry.registered();
    answer(&json!({ "clients": registered.clients, "scopes": registered.scopes }))
}

async fn put_client(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match read::<Client>(&headers, &body) {
        Ok(client) => change(&world, |clients| {
            clients.clients.insert(id, client);
            Ok(())
        }),
        Err(why) => refused(StatusCode::BAD_REQUEST, &why),
    }
}

async fn remove_client(State(world): State<Arc<World>>, Path(id): Path<String>) -> Response {
    change(&world, |clients| {
        clients.clients.remove(&id).map(drop).ok_or(Error::Key("there is no such client"))
    })
}

async fn add_key(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match read::<RegisteredKey>(&headers, &body) {
        Ok(key) => change(&world, |clients| clients.register(&id, key)),
        Err(why) => refused(StatusCode::BAD_REQUEST, &why),
    }
}

/// Changes what is registered, and says after how many seconds Maskinporten knows of it.
fn change(world: &World, change: impl FnOnce(&mut Clients) -> Result<(), Error>) -> Response {
    let knobs = world.knobs();
    let changed = world.registry.change(world.now(), &knobs, change);
    done(changed.map(|()| json!({ "known_after": knobs.propagation_delay })))
}

/// The body as JSON. A web page cannot send that type without asking first.
fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, String> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if media_type.and_then(|value| value.split(';').next()).map(str::trim) != Some("application/json") {
        return Err("the content type is not application/json".into());
    }
    serde_json::from_slice(body).map_err(|why| why.to_string())
}

/// `after=NUMBER` of a query; 0 when it is not there.
fn after(query: Option<&str>) -> u64 {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut found = pairs.filter(|(name, _)| name == "after").map(|(_, value)| value);
    found.next().and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn done(result: Result<Value, Error>) -> Response {
    match result {
        Ok(value) => answer(&value),
        Err(error) => refused(StatusCode::BAD_REQUEST, &format!("{error}. {}", error.remedy())),
    }
}

fn answer(value: &Value) -> Response {
    json_response(StatusCode::OK, value)
}

fn refused(status: StatusCode, why: &str) -> Response {
    json_response(status, &json!({ "error": why }))
}
