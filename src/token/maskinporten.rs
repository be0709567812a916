//! Maskinporten itself: a signed grant in, an access token out.

mod metadata;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;
use zeroize::Zeroize;

use self::metadata::Metadata;
use super::{AccessToken, Authority, Error, Provenance, Refusal, TokenSource};
use crate::{
    call::Call,
    clock::{BoxFuture, Clock},
    grant::{Assertion, Grant, TokenRequest},
    http::{Http, Request, Response},
    sign::{Credential, Proven, Retry},
};

/// `grant_type` of RFC 7523 section 2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The longest token that is taken: far above any real one, and a bound on what a header must hold.
const LONGEST_TOKEN: usize = 64 << 10;

/// Tokens straight from Maskinporten; each call signs and sends at least once. Put a [`Cached`](super::Cached) in front.
pub struct Maskinporten {
    http: Arc<Http>,
    clock: Arc<dyn Clock>,
    credential: Arc<Credential>,
    grant: Grant,
    metadata: Metadata,
    trouble: Trouble,
}

impl fmt::Debug for Maskinporten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maskinporten").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

/// Where Maskinporten is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Its issuer identifier, byte for byte.
    pub issuer: Url,
    /// Its metadata, where that is not at the place that RFC 8414 derives from the issuer.
    pub metadata: Option<Url>,
    /// Its token endpoint while the metadata cannot be had; `token` below the issuer when absent.
    pub token: Option<Url>,
}

impl Endpoints {
    /// All that follows from the issuer.
    #[must_use]
    pub fn of(issuer: Url) -> Self {
        Self { issuer, metadata: None, token: None }
    }
}

impl Maskinporten {
    /// The authority at `endpoints`, asked as `grant` says, signed with `credential`. Touches neither network nor device.
    #[must_use]
    pub fn new(
        http: Arc<Http>,
        clock: Arc<dyn Clock>,
        endpoints: Endpoints,
        grant: Grant,
        credential: Arc<Credential>,
    ) -> Self {
        let metadata = Metadata::new(http.clone(), clock.clone(), endpoints);
        Self { http, clock, credential, grant, metadata, trouble: Trouble::default() }
    }

    /// Asks until there is a token, a clear refusal, or no time left. Each try mints a grant of its own.
    async fn ask(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        let mut delays = backoff();
        let mut minted_again = false;
        loop {
            let error = match self.trouble.watch(self.ask_once(request, call).await) {
                Ok(token) => return Ok(token),
                Err(error) => error,
            };
            let wait = match error.retry() {
                Retry::Never => return Err(error),
                Retry::NewGrant if minted_again => return Err(error),
                Retry::NewGrant => {
                    minted_again = true;
                    Duration::ZERO
                }
                Retry::After(_) if !worth_waiting_for(&error) => return Err(error),
                Retry::After(least) => {
                    delays.next().unwrap_or(least).max(retry_after(&error).unwrap_or_default())
                }
            };
            if call.left(&*self.clock) <= wait {
                return Err(Error::Deadline(Some(Box::new(error))));
            }
            tracing::debug!(authority = %Authority::Maskinporten, %error, ?wait, "trying again with a new grant");
            self.clock.sleep_until(self.clock.now() + wait).await;
        }
    }

    async fn ask_once(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        let endpoint = self.metadata.token_endpoint(call).await?;
        let proven = self.credential.prove(call).await?;
        let assertion = self.grant.assert(&proven, request, call).await?;
        self.send(&endpoint, assertion, &proven, call).await
    }

    async fn send(
        &self,
        endpoint: &Url,
        assertion: Assertion,
        proven: &Proven,
        call: &Call,
    ) -> Result<AccessToken, Error> {
        let provenance = Provenance {
            jti: assertion.jti().to_owned(),
            key: proven.thumbprint().to_owned(),
            device: proven.device().map(ToOwned::to_owned),
        };
        let (asked_at, asked_wall) = (self.clock.now(), self.clock.numeric_date());
        let jws = assertion.into_jws();
        let form = [("grant_type", JWT_BEARER), ("assertion", jws.expose_secret())];
        let request =
            Request { url: endpoint, accept: Some("application/json"), bearer: None, form: Some(&form) };
        let response = self
            .http
            .send(request, call)
            .await
            .map_err(|why| unreachable(Authority::Maskinporten, why.to_string()))?;
        let issued = read_token_response(Authority::Maskinporten, &response)?;
        Ok(AccessToken::issued(issued.text, issued.scope, asked_at, asked_wall, issued.life, provenance))
    }
}

impl TokenSource for Maskinporten {
    fn token<'a>(
        &'a self,
        request: &'a TokenRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<AccessToken, Error>> {
        Box::pin(async move {
            let token = self.ask(request, call).await?;
            if token.left(&*self.clock) < call.required_life() {
                return Err(Error::TooShort {
                    authority: Authority::Maskinporten,
                    life: token.life(),
                    needed: call.required_life(),
                });
            }
            Ok(token)
        })
    }

    fn trouble(&self) -> Option<Error> {
        self.trouble.last()
    }
}

/// The last failure that was no answer, until something goes right.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Error>>);

impl Trouble {
    /// Notes how a try ended and passes it on. A refusal is an answer: the authority is there.
    pub(super) fn watch<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let trouble = match &result {
            Ok(_) => None,
            Err(Error::Refused(refusal)) if refusal.is_clear() => None,
            Err(error) => Some(error.clone()),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        result
    }

    pub(super) fn last(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Pauses between tries: doubling from a quarter of a second to half a minute, with jitter, for ever.
pub(super) fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .without_max_times()
        .build()
}

/// Whether a caller would rather wait than be told now. A missing device or a key on its way through the portal is
/// a matter of minutes, which the caller should hear of at once.
pub(super) fn worth_waiting_for(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Malformed { .. } => true,
        Error::Refused(refusal) => !refusal.is_clear() && !refusal.may_be_propagation(),
        Error::Sign(error) => {
            matches!(error.retry(), Retry::NewGrant) || error.kind() == crate::sign::Fault::Load
        }
        _ => false,
    }
}

fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Unreachable { retry_after, .. } => *retry_after,
        _ => None,
    }
}

pub(super) fn unreachable(authority: Authority, problem: String) -> Error {
    Error::Unreachable { authority, problem, retry_after: None }
}

/// A token as an authority issued it.
pub(super) struct IssuedToken {
    pub(super) text: SecretString,
    pub(super) scope: String,
    pub(super) life: Duration,
}

/// Reads an RFC 6749 section 5.1 answer, or what stands in its place.
pub(super) fn read_token_response(authority: Authority, response: &Response) -> Result<IssuedToken, Error> {
    /// Members that are not named here are left alone: authorities add some.
    #[derive(Deserialize)]
    struct Body {
        access_token: String,
        expires_in: u64,
        #[serde(default)]
        token_type: Option<String>,
        #[serde(default)]
        scope: Option<String>,
    }
    check_status(authority, response)?;
    let malformed = |problem: &str| Error::Malformed { authority, problem: problem.into() };
    let mut body: Body =
        serde_json::from_slice(&response.body).map_err(|_| malformed("it is no JSON with a token inside"))?;
    let text = token_text(authority, &body.access_token);
    body.access_token.zeroize();
    if !body.token_type.as_deref().unwrap_or("Bearer").eq_ignore_ascii_case("bearer") {
        return Err(malformed("the token is no bearer token"));
    }
    if body.expires_in == 0 {
        return Err(malformed("the token has expired already"));
    }
    Ok(IssuedToken {
        text: text?,
        scope: body.scope.unwrap_or_default(),
        life: Duration::from_secs(body.expires_in),
    })
}

/// A status that is no success, as an error: "cannot serve" apart from "will not serve".
pub(super) fn check_status(authority: Authority, response: &Response) -> Result<(), Error> {
    if response.is_success() {
        Ok(())
    } else if response.is_unavailable() {
        let problem = format!("it answered HTTP {}", response.status);
        Err(Error::Unreachable { authority, problem, retry_after: response.retry_after })
    } else {
        Err(Error::Refused(Box::new(Refusal::read(authority, response.status, &response.body))))
    }
}

/// The token's text, when it can stand in a header.
pub(super) fn token_text(authority: Authority, text: &str) -> Result<SecretString, Error> {
    if text.is_empty() || text.len() > LONGEST_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "the token is empty, too long, or has characters that no token has".into();
        return Err(Error::Malformed { authority, problem });
    }
    Ok(SecretString::from(text))
}
