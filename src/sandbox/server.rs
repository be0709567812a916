//! The way in to each authority: a listener whose connections end with the sandbox, and what is done to every
//! request.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    serve::Listener,
};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

use super::{
    Authority,
    counters::Endpoint,
    journal::{Entry, Note},
    timeline::Out,
    world::{World, locked},
};

/// Largest request body, in bytes. A grant with a chain of certificates is about a tenth of it.
pub(super) const LARGEST_BODY: usize = 64 * 1024;

/// Longest time from a request's head to its answer, delays that were asked for left out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Most connections at a time to one authority.
const MOST_CONNECTIONS: usize = 2048;

/// Serves `router` until the sandbox stops.
pub(super) fn serve(
    authority: Authority,
    listener: TcpListener,
    router: Router<Arc<World>>,
    world: &Arc<World>,
    tracker: &TaskTracker,
) {
    let router = router.layer(middleware::from_fn_with_state((world.clone(), authority), attend));
    serve_as_it_is(listener, router, world, tracker);
}

/// The same for a router that is no authority's.
pub(super) fn serve_as_it_is(
    listener: TcpListener,
    router: Router<Arc<World>>,
    world: &Arc<World>,
    tracker: &TaskTracker,
) {
    let router = router.layer(DefaultBodyLimit::max(LARGEST_BODY)).with_state(world.clone());
    let stop = world.stop.clone();
    let listener = Doors {
        listener,
        connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        stop: stop.clone(),
        tracker: tracker.clone(),
    };
    tracker.spawn(async move {
        // It ends with `stop` and has no other result.
        let _ = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    });
}

/// Counts a request, lets it wait where it must, answers it, and marks the answer as the sandbox's.
async fn attend(
    State((world, authority)): State<(Arc<World>, Authority)>,
    request: Request,
    next: Next,
) -> Response {
    let endpoint = endpoint(authority, request.uri().path());
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    world.counting.arrived(endpoint);
    let mut response = tokio::select! {
        biased;
        () = world.stop.cancelled() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        response = answer(&world, authority, endpoint, request, next) => response,
    };
    world.counting.answered(endpoint, response.status().as_u16() < 400);
    let note = response.extensions_mut().remove::<Note>();
    let entry = Entry::of(authority, method, path, response.status().as_u16(), world.now());
    for words in locked(&world.journal).write(entry, note) {
        tracing::warn!(%authority, "bad manners: {words}");
    }
    tracing::debug!(%authority, ?endpoint, status = response.status().as_u16(), "sandbox answered");
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("segl-sandbox"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(date) = http_date(world.now()) {
        headers.insert(header::DATE, date);
    }
    response
}

async fn answer(
    world: &World,
    authority: Authority,
    endpoint: Endpoint,
    request: Request,
    next: Next,
) -> Response {
    let mut gate = world.gates.of(authority).subscribe();
    // The sender lives in `world`: the wait ends when nobody holds the authority.
    let _ = gate.wait_for(|gate| gate.holders == 0).await;
    let knobs = world.knobs();
    if !knobs.delay.is_zero() {
        world.clock.sleep_until(world.clock.now() + knobs.delay).await;
    }
    let out = |out| world.timeline.is_out(out, world.clock.now());
    let metadata_outage =
        endpoint == Endpoint::Metadata && (world.gates.metadata.borrow().outage || out(Out::Metadata));
    let outage = gate.borrow().outage || out(authority.into()) || world.gates.is_burst(authority, &knobs);
    if outage || metadata_outage {
        let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
        if let Some(seconds) = world.knobs().retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        return response;
    }
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

fn endpoint(authority: Authority, path: &str) -> Endpoint {
    use super::{altinn, customs, maskinporten};
    match (authority, path) {
        (Authority::Maskinporten, maskinporten::METADATA) => Endpoint::Metadata,
        (Authority::Maskinporten, maskinporten::JWK) => Endpoint::Jwk,
        (Authority::Maskinporten, maskinporten::TOKEN) => Endpoint::Token,
        (Authority::Customs, customs::EXCHANGE) => Endpoint::CustomsExchange,
        (Authority::Customs, customs::TEST_AUTH) => Endpoint::CustomsTestAuth,
        (Authority::Altinn, altinn::KEYS) => Endpoint::AltinnKeys,
        (Authority::Altinn, path) if path.starts_with(altinn::EXCHANGE) => Endpoint::AltinnExchange,
        _ => Endpoint::Other,
    }
}

/// RFC 9110 section 5.6.7, of the authorities' own clock: clients compare theirs with it.
fn http_date(seconds: u64) -> Option<HeaderValue> {
    const IMF_FIXDATE: &[BorrowedFormatItem<'_>] = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    HeaderValue::try_from(at.format(IMF_FIXDATE).ok()?).ok()
}

/// A listener whose connections are counted, limited, and cut when the sandbox stops. Without the cut, one
/// idle connection of a client's pool would keep the sandbox from ending.
struct Doors {
    listener: TcpListener,
    connections: Arc<Semaphore>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Listener for Doors {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = self.connections.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Answers are small and written at once; waiting to fill a packet only adds delay.
        let _ = stream.set_nodelay(true);
        let stop = Box::pin(self.stop.clone().cancelled_owned());
        (Connection { stream, stop, _permit: permit, _tracked: self.tracker.token() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: Option<OwnedSemaphorePermit>,
    _tracked: tokio_util::task::task_tracker::TaskTrackerToken,
}

impl Connection {
    fn cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.stop.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cut(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.cut(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_written_as_in_rfc_9110() {
        assert_eq!(http_date(784_111_777).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
