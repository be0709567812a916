//! A service that holds a pipeline and calls an API with a token of its own.
//!
//! ```text
//!   its callers ──▶ GET /anything ──▶ this service ──▶ GET UPSTREAM/anything, with Authorization: Bearer
//!                                        └─ pipeline: the token, from the cache nearly always
//! ```
//!
//! Run it with the name of a token, the address of the API, and where to listen:
//!
//! ```text
//! cargo run --example axum_service -- road https://api.toll.no/ 127.0.0.1:3000
//! curl -i http://127.0.0.1:3000/api/movement/road/v2/test-auth
//! ```
//!
//! The configuration is found as the program `segl` finds it: `$SEGL_CONFIG`, `./segl.toml`, `/etc/segl/segl.toml`.
//! To try it without an account, start `segl sandbox`, use the `segl.toml` that it writes, and give the address of its
//! Customs as the API.

use std::{
    env,
    error::Error,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::get,
};
use segl::{
    call::Call,
    clock::{Clock, SystemClock},
    config::Config,
    pipeline::Pipeline,
    sign::Fault,
    token,
};
use tokio::{net::TcpListener, signal};
use url::Url;

/// What every request has at hand.
struct Service {
    pipeline: Pipeline,
    clock: Arc<dyn Clock>,
    token: String,
    upstream: Url,
    http: reqwest::Client,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [token, upstream, listen] = arguments.as_slice() else {
        return Err("usage: axum_service TOKEN UPSTREAM ADDRESS".into());
    };
    let clock = SystemClock::shared();
    let pipeline = Pipeline::new(&Config::find(None)?, clock.clone())?;
    // A name that leads nowhere is to be heard of now, not with the first request.
    pipeline.token(token)?;
    pipeline.start();

    let service = Arc::new(Service {
        pipeline,
        clock,
        token: token.clone(),
        upstream: upstream.parse()?,
        // No redirects: a token goes where it was meant to go.
        http: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?,
    });
    let router = Router::new().fallback(get(forward)).with_state(service.clone());
    let listener = TcpListener::bind(listen).await?;
    writeln!(io::stderr(), "listening on http://{}", listener.local_addr()?)?;
    axum::serve(listener, router).with_graceful_shutdown(stopped()).await?;
    // After the last answer: renewals end, and devices are logged out of.
    service.pipeline.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// Asks for the token with each request: that is what the cache is for.
async fn forward(State(service): State<Arc<Service>>, asked: Uri) -> Response {
    let mut url = service.upstream.clone();
    url.set_path(asked.path());
    url.set_query(asked.query());
    let call = Call::within(&*service.clock, Duration::from_secs(10));
    let named = match service.pipeline.token(&service.token) {
        Ok(named) => named,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    let token = match named.token(&call).await {
        Ok(token) => token,
        Err(error) => return refusal(&error),
    };
    match service.http.get(url).bearer_auth(token.secret()).timeout(call.left(&*service.clock)).send().await {
        Ok(answer) => (answer.status(), Body::from(answer.bytes().await.unwrap_or_default())).into_response(),
        Err(_) => (StatusCode::BAD_GATEWAY, "the API did not answer").into_response(),
    }
}

/// What happened and what to do are for the operator; whoever calls learns whether to come back.
fn refusal(error: &token::Error) -> Response {
    let _ = writeln!(io::stderr(), "no token: {error}\n  {}", error.remedy());
    let status = match error.kind() {
        Fault::Device | Fault::Network | Fault::Load => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    };
    (status, "no token for the API at the moment").into_response()
}

/// Returns at Ctrl-C or SIGTERM.
async fn stopped() {
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await.unwrap_or(()),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        () = terminated => {}
    }
}
