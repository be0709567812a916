//! The one way out: HTTPS with deadlines and limits, no redirects, and plain HTTP to this machine only. One thing is
//! fetched over plain HTTP from elsewhere, and nothing is sent there: what stands at an address that somebody else wrote,
//! which is looked at before it is followed ([`Http::fetch`]).

mod client;
mod date;
mod foreign;

pub use self::foreign::Reach;

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::{
    call::Call,
    clock::{Clock, Instant, Moment, Offset},
};

/// The largest body read from a server. Tokens are a few kilobytes.
pub const LARGEST_BODY: usize = 1 << 20;

/// How requests leave this machine. `Debug` shows no password that may stand in the proxy's address.
#[derive(Clone)]
pub struct Options {
    /// Proxy for everything but this machine. `None`: `HTTPS_PROXY` and `NO_PROXY` of the environment are honoured.
    pub proxy: Option<Url>,
    /// Hosts that [`proxy`](Self::proxy) is not for, in the syntax of `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// Further certificate authorities for TLS, PEM: for a proxy that looks inside.
    pub extra_ca: Vec<u8>,
    /// Longest time for a connection.
    pub connect_timeout: Duration,
    /// Longest time for a whole exchange, whatever the caller's deadline.
    pub timeout: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("proxy", &self.proxy.as_ref().map(host_and_port))
            .field("no_proxy", &self.no_proxy)
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            proxy: None,
            no_proxy: None,
            extra_ca: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client cannot be made: the extra CA or the proxy is wrong.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
    /// Plain HTTP to another machine.
    #[error("{0} is plain HTTP to another machine")]
    NotEncrypted(String),
    /// No connection (DNS, TCP or TLS); the innermost reason is given.
    #[error("no connection to {host}: {reason}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Nothing came back in time.
    #[error("{0} did not answer in time")]
    Timeout(String),
    /// The connection broke, or what came is not HTTP.
    #[error("the exchange with {host} broke off: {reason}")]
    Broken {
        /// Host and port.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The body is larger than [`LARGEST_BODY`].
    #[error("{0} sent more than 1 MiB")]
    TooLarge(String),
    /// An address that somebody else wrote is none that is fetched.
    #[error("{0} is not fetched: only http and https are, without a password in the address")]
    Address(String),
    /// An address that somebody else wrote leads inside.
    #[error("{host} leads to {address}, which is not on the public internet")]
    NotPublic {
        /// Host and port.
        host: String,
        /// What it leads to.
        address: IpAddr,
    },
}

impl Error {
    /// Whether another try may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout(_) | Self::Broken { .. })
    }
}

/// A request. The bearer token and the form are secrets; `Debug` shows neither.
pub struct Request<'a> {
    /// Where to.
    pub url: &'a Url,
    /// `Accept`, when the server's answer depends on it.
    pub accept: Option<&'static str>,
    /// Token for `Authorization: Bearer`.
    pub bearer: Option<&'a str>,
    /// Fields of a form; with it the request is a POST, without it a GET.
    pub form: Option<&'a [(&'a str, &'a str)]>,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// An answer, whatever its status.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After` of a server that cannot serve at the moment.
    pub retry_after: Option<Duration>,
    /// How far this machine's clock is from the server's, by its `Date`.
    pub clock: Option<Offset>,
    /// The body: it may hold a token.
    pub body: Zeroizing<Vec<u8>>,
}

impl Response {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the server says that it cannot serve at the moment (408, 429, 5xx), which is no refusal.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The outbound client. Made once and shared; connections are pooled. Constructing it opens nothing.
#[derive(Debug)]
pub struct Http {
    options: Options,
    clock: Arc<dyn Clock>,
    /// To other machines: made when first needed, since reading the system's certificates takes a while.
    outside: OnceLock<Result<reqwest::Client, Error>>,
    /// To this machine: never through a proxy.
    loopback: OnceLock<Result<reqwest::Client, Error>>,
}

impl Http {
    /// A client with `options`; deadlines are measured by `clock`.
    #[must_use]
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        Self { options, clock, outside: OnceLock::new(), loopback: OnceLock::new() }
    }

    /// Sends one request and reads the whole answer, within the call's deadline.
    ///
    /// # Errors
    /// [`Error`] when there is no complete answer. A refusal is an answer.
    pub async fn send(&self, request: Request<'_>, call: &Call) -> Result<Response, Error> {
        let host = host_and_port(request.url);
        let client = self.client_for(request.url)?;
        tokio::select! {
            response = self.exchange(client, &request, &host) => response,
            () = self.clock.sleep_until(self.deadline(call)) => Err(Error::Timeout(host.clone())),
        }
    }

    /// When an exchange ends at the latest: by our clock and not by the client's timers, which stand still in suspend.
    fn deadline(&self, call: &Call) -> Instant {
        call.deadline().min(self.clock.now() + self.options.timeout)
    }

    async fn exchange(
        &self,
        client: &reqwest::Client,
        request: &Request<'_>,
        host: &str,
    ) -> Result<Response, Error> {
        let failed = |why: reqwest::Error| named(&why, host);
        let sent = Moment::of(&*self.clock);
        let mut answer = prepared(client, request)?.send().await.map_err(failed)?;
        let received = Moment::of(&*self.clock);
        let mut body = Zeroizing::new(Vec::with_capacity(8 << 10));
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > LARGEST_BODY {
                return Err(Error::TooLarge(host.into()));
            }
            body.extend_from_slice(&piece);
        }
        let date = date::of(answer.headers());
        let mut response = Response {
            status: answer.status().as_u16(),
            retry_after: None,
            clock: date.and_then(|date| Offset::measured(sent, received, date)),
            body,
        };
        if response.is_unavailable() {
            response.retry_after = date::retry_after(answer.headers(), date.unwrap_or(received.wall));
        }
        Ok(response)
    }

    fn client_for(&self, url: &Url) -> Result<&reqwest::Client, Error> {
        let local = is_loopback(url);
        if url.scheme() != "https" && !(local && url.scheme() == "http") {
            return Err(Error::NotEncrypted(host_and_port(url)));
        }
        let client = if local {
            self.loopback.get_or_init(|| client::build(&self.options, true))
        } else {
            self.outside.get_or_init(|| client::build(&self.options, false))
        };
        client.as_ref().map_err(Clone::clone)
    }
}

/// Whether `url` names this machine: only there does a [`Request`] go over plain HTTP.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn prepared(client: &reqwest::Client, request: &Request<'_>) -> Result<reqwest::RequestBuilder, Error> {
    let mut builder = match request.form {
        None => client.get(request.url.clone()),
        Some(fields) => {
            let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            client
                .post(request.url.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form)
        }
    };
    if let Some(accept) = request.accept {
        builder = builder.header(ACCEPT, accept);
    }
    if let Some(token) = request.bearer {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::Setup("the token has characters that no header may hold".into()))?;
        value.set_sensitive(true);
        builder = builder.header(AUTHORIZATION, value);
    }
    Ok(builder)
}

fn named(why: &reqwest::Error, host: &str) -> Error {
    let host = host.to_owned();
    if why.is_connect() {
        // A refused connection and a bad certificate both end here; the innermost reason tells them apart.
        Error::Connect { host, reason: innermost(why) }
    } else if why.is_timeout() {
        Error::Timeout(host)
    } else {
        Error::Broken { host, reason: innermost(why) }
    }
}

/// The last error of the chain: the outer ones repeat the URL and say "error sending request".
fn innermost(why: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = why;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or("(no host)");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, response::Redirect, routing::get};

    use super::*;
    use crate::clock::SystemClock;

    fn http() -> Http {
        Http::new(Options::default(), SystemClock::shared())
    }

    async fn send(url: &str) -> Result<Response, Error> {
        let url = Url::parse(url).unwrap();
        let call = Call::within(&SystemClock, Duration::from_secs(5));
        http().send(Request { url: &url, accept: None, bearer: None, form: None }, &call).await
    }

    /// A server on this machine that is dropped with the test's runtime.
    async fn serve(router: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/")
    }

    #[test]
    fn the_password_of_a_proxy_is_silent_in_debug() {
        let proxy = Some("http://user:s3cret-word@proxy.example:3128".parse().unwrap());
        let shown =
            format!("{:?}", Http::new(Options { proxy, ..Options::default() }, SystemClock::shared()));
        assert!(shown.contains("proxy.example:3128") && !shown.contains("s3cret"), "{shown}");
    }

    #[tokio::test]
    async fn plain_http_to_another_machine_is_refused_before_anything_is_sent() {
        for url in ["http://example.com/", "http://10.0.0.1/token", "ftp://127.0.0.1/"] {
            assert!(matches!(send(url).await, Err(Error::NotEncrypted(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn redirects_are_answers_and_are_not_followed() {
        let url = serve(Router::new().route("/", get(|| async { Redirect::temporary("/there") }))).await;
        assert_eq!(send(&url).await.unwrap().status, 307);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_not_read_to_its_end() {
        let url = serve(Router::new().route("/", get(|| async { vec![b'x'; LARGEST_BODY + 1] }))).await;
        assert!(matches!(send(&url).await, Err(Error::TooLarge(_))));
    }

    #[tokio::test]
    async fn a_server_that_never_answers_costs_no_more_than_the_deadline() {
        let url = serve(Router::new().route("/", get(std::future::pending::<String>))).await;
        let url = Url::parse(&url).unwrap();
        let call = Call::within(&SystemClock, Duration::from_millis(50));
        let answer = http().send(Request { url: &url, accept: None, bearer: None, form: None }, &call).await;
        assert!(matches!(answer, Err(Error::Timeout(_))));
    }

    #[tokio::test]
    async fn a_refused_connection_is_named_with_its_host() {
        let error = send("http://127.0.0.1:9/").await.unwrap_err();
        assert!(error.to_string().starts_with("no connection to 127.0.0.1:9: "), "{error}");
    }

    #[test]
    fn debug_of_request_and_response_shows_no_token() {
        let url = Url::parse("https://example.com/").unwrap();
        let request = Request {
            url: &url,
            accept: None,
            bearer: Some("s3cret"),
            form: Some(&[("assertion", "s3cret")]),
        };
        let response = Response {
            status: 200,
            retry_after: None,
            clock: None,
            body: Zeroizing::new(b"s3cret".to_vec()),
        };
        assert!(!format!("{request:?}{response:?}").contains("s3cret"));
        assert!(!format!("{response:?}").contains("115, 51"));
    }
}
