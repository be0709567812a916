use std::{fmt, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::{
    call::Call,
    clock::{Clock, Instant},
    http::{Http, Request},
    token::{Authority, Endpoints, Error, refusal::cleaned},
};

/// How long an answer is trusted: Digdir's advice for signing keys, and endpoints change less often.
const TRUSTED: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the built-in endpoint serves before the metadata is asked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The most that a look at the metadata may cost a caller.
const PATIENCE: Duration = Duration::from_secs(3);

/// Authorization server metadata (RFC 8414), with the issuer pinned: what is found there may move the token endpoint
/// on the issuer's own origin and nowhere else.
pub(super) struct Metadata {
    http: Arc<Http>,
    clock: Arc<dyn Clock>,
    endpoints: Endpoints,
    /// Held across the request, so that callers who come at once ask once. Not on the way to a cached token.
    known: Mutex<Option<Known>>,
}

struct Known {
    token_endpoint: Url,
    until: Instant,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: String,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").field("issuer", &self.endpoints.issuer.as_str()).finish_non_exhaustive()
    }
}

impl Metadata {
    pub(super) fn new(http: Arc<Http>, clock: Arc<dyn Clock>, endpoints: Endpoints) -> Self {
        Self { http, clock, endpoints, known: Mutex::new(None) }
    }

    /// Where grants go. When the metadata cannot be had, the built-in place serves: `token` below the issuer.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the metadata is another issuer's or sends grants elsewhere: that is an attack or a
    /// wrong address, and no place to fall back from. [`Error::Deadline`] when the caller has no more time for it.
    pub(super) async fn token_endpoint(&self, call: &Call) -> Result<Url, Error> {
        let mut known = tokio::select! {
            known = self.known.lock() => known,
            () = self.clock.sleep_until(call.deadline()) => return Err(Error::Deadline(None)),
        };
        if let Some(known) = known.as_ref().filter(|known| known.until > self.clock.now()) {
            return Ok(known.token_endpoint.clone());
        }
        let (token_endpoint, life) = match (self.fetch(call).await?, known.as_ref()) {
            (Some(endpoint), _) => (endpoint, TRUSTED),
            // What was found there once is a better guess than what was built in.
            (None, Some(known)) => (known.token_endpoint.clone(), LOOK_AGAIN),
            (None, None) => (self.built_in()?, LOOK_AGAIN),
        };
        *known = Some(Known { token_endpoint: token_endpoint.clone(), until: self.clock.now() + life });
        Ok(token_endpoint)
    }

    /// The endpoint that the document names; `None` when there is no document to be had.
    async fn fetch(&self, call: &Call) -> Result<Option<Url>, Error> {
        let issuer = &self.endpoints.issuer;
        let url = self.endpoints.metadata_url();
        let brief = Call::until(call.deadline().min(self.clock.now() + PATIENCE));
        let request = Request { url: &url, accept: Some("application/json"), bearer: None, form: None };
        let response = match self.http.send(request, &brief).await {
            Ok(response) if response.is_success() => response,
            Ok(response) => {
                tracing::debug!(status = response.status, "no metadata; the built-in endpoint serves");
                return Ok(None);
            }
            // The caller's lack of time says nothing of the metadata, and must not decide for the callers after it.
            Err(_) if call.is_over(&*self.clock) => return Err(Error::Deadline(None)),
            Err(why) => {
                tracing::debug!(%why, "no metadata; the built-in endpoint serves");
                return Ok(None);
            }
        };
        let malformed = |problem: String| Error::Malformed { authority: Authority::Maskinporten, problem };
        let document: Document = serde_json::from_slice(&response.body)
            .map_err(|_| malformed("its metadata is no JSON with issuer and token_endpoint".into()))?;
        if document.issuer != issuer.as_str() {
            return Err(malformed(format!(
                "its metadata is that of {:?}, not of {}",
                cleaned(&document.issuer),
                issuer
            )));
        }
        let endpoint = Url::parse(&document.token_endpoint)
            .map_err(|_| malformed("its token_endpoint is no URL".into()))?;
        if endpoint.origin() != issuer.origin() {
            return Err(malformed(format!(
                "its token_endpoint ({}) is on another host",
                cleaned(endpoint.as_str())
            )));
        }
        Ok(Some(endpoint))
    }

    fn built_in(&self) -> Result<Url, Error> {
        if let Some(endpoint) = &self.endpoints.token {
            return Ok(endpoint.clone());
        }
        let issuer = &self.endpoints.issuer;
        issuer.join("token").map_err(|why| Error::Malformed {
            authority: Authority::Maskinporten,
            problem: format!("{issuer} is no base for endpoints: {why}"),
        })
    }
}

/// RFC 8414 section 3: the well-known part stands between host and path.
pub(super) fn well_known(issuer: &Url) -> Url {
    let mut url = issuer.clone();
    let path = issuer.path().trim_end_matches('/');
    url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    url
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::UNIX_EPOCH,
    };

    use axum::{Router, http::StatusCode, routing::get};

    use super::*;
    use crate::{clock::ManualClock, http::Options};

    /// An authority on this machine whose token endpoint is not the built-in one.
    struct Stand {
        clock: Arc<ManualClock>,
        up: Arc<AtomicBool>,
        metadata: Metadata,
        issuer: Url,
    }

    impl Stand {
        async fn new() -> Self {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let issuer: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
            let up = Arc::new(AtomicBool::new(true));
            let document = serde_json::json!({"issuer": issuer, "token_endpoint": format!("{issuer}moved")});
            let answer = {
                let up = up.clone();
                move || async move {
                    let status = if up.load(Ordering::SeqCst) {
                        StatusCode::OK
                    } else {
                        StatusCode::SERVICE_UNAVAILABLE
                    };
                    (status, document.to_string())
                }
            };
            let router = Router::new().route("/.well-known/oauth-authorization-server", get(answer));
            tokio::spawn(async move { axum::serve(listener, router).await });
            let clock = ManualClock::at(UNIX_EPOCH);
            let http = Arc::new(Http::new(Options::default(), clock.clone()));
            let metadata = Metadata::new(http, clock.clone(), Endpoints::of(issuer.clone()));
            Self { clock, up, metadata, issuer }
        }

        async fn endpoint(&self, patience: Duration) -> Result<String, Error> {
            let call = Call::within(&*self.clock, patience);
            let endpoint = self.metadata.token_endpoint(&call).await?;
            Ok(endpoint.path().to_owned())
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_was_discovered_serves_on_when_the_metadata_goes_away() {
        let stand = Stand::new().await;
        assert_eq!(stand.endpoint(PATIENCE).await.unwrap(), "/moved");
        stand.up.store(false, Ordering::SeqCst);
        stand.clock.advance(TRUSTED + Duration::from_secs(1));
        assert_eq!(stand.endpoint(PATIENCE).await.unwrap(), "/moved");
    }

    #[tokio::test]
    async fn the_built_in_endpoint_serves_until_the_metadata_is_there() {
        let stand = Stand::new().await;
        stand.up.store(false, Ordering::SeqCst);
        assert_eq!(stand.endpoint(PATIENCE).await.unwrap(), stand.issuer.join("token").unwrap().path());
        stand.up.store(true, Ordering::SeqCst);
        stand.clock.advance(LOOK_AGAIN);
        assert_eq!(stand.endpoint(PATIENCE).await.unwrap(), "/moved");
    }

    #[tokio::test]
    async fn a_caller_without_time_does_not_decide_for_those_after_it() {
        let stand = Stand::new().await;
        assert_eq!(stand.endpoint(Duration::ZERO).await, Err(Error::Deadline(None)));
        assert_eq!(stand.endpoint(PATIENCE).await.unwrap(), "/moved");
    }
}
