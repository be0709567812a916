//! A cache in front of any token source.
//!
//! *Fresh* and *usable* are different questions. A fresh token is returned at once. A usable one past its refresh
//! point is returned at once too, while one flight renews it. Without a usable one, all callers wait on one flight.
//! A flight is a task of the cache's, not of its first caller's: it ends with its last waiter or at its own deadline.

mod flight;
mod refusals;
mod store;

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    flight::{Flights, Landing},
    refusals::Refusals,
    store::{Entry, Store},
};
use super::{AccessToken, Delivery, Error, TokenSource, retry::backoff};
use crate::{
    call::{Call, DEFAULT_PATIENCE, Priority},
    clock::{BoxFuture, Clock},
    grant::TokenRequest,
    sign::{Fault, Retry},
};

/// How many tokens a cache holds unless told otherwise: one per customer and scope of a large supplier.
pub const DEFAULT_CAPACITY: usize = 20_000;

/// Caches the tokens of one source. Cheap to clone; clones share everything.
///
/// Errors are never answers: each request that finds no usable token asks again. Only a refusal that comes from
/// configuration is remembered, for seconds, so that a loop in a program does not hammer the authority.
#[derive(Clone)]
pub struct Cached(Arc<Shared>);

struct Shared {
    source: Arc<dyn TokenSource>,
    clock: Arc<dyn Clock>,
    store: Store,
    flights: Flights,
    refusals: Refusals,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("source", &self.0.source).finish_non_exhaustive()
    }
}

impl Cached {
    /// A cache in front of `source` for at most `capacity` tokens. Starts nothing.
    #[must_use]
    pub fn new(source: Arc<dyn TokenSource>, clock: Arc<dyn Clock>, capacity: usize) -> Self {
        Self(Arc::new(Shared {
            source,
            clock,
            store: Store::new(capacity),
            flights: Flights::default(),
            refusals: Refusals::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// Keeps a token for `request` at hand from now on: renewed ahead of time, and tried again with backoff for as
    /// long as an outage lasts. Ends with [`shutdown`](Self::shutdown). Must be called within a Tokio runtime.
    pub fn keep_warm(&self, request: TokenRequest) {
        let cache = self.clone();
        self.0.tasks.spawn(self.0.stop.clone().run_until_cancelled_owned(async move {
            loop {
                cache.renew(&request, Lifespan::ForEver).await;
                let due = cache.0.store.entry(&request).map(|entry| entry.refresh_at);
                // No entry: it had to make room for others.
                let due = due.unwrap_or_else(|| cache.0.clock.now() + AFTER_A_REFUSAL);
                cache.0.clock.sleep_until(due).await;
            }
        }));
    }

    /// How many tokens are held, expired ones included until they are dropped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.store.len()
    }

    /// Whether no token is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all flights and renewals and waits for them, `patience` at most. Later requests get [`Error::Closed`].
    pub async fn shutdown(&self, patience: Duration) {
        self.0.stop.cancel();
        self.0.tasks.close();
        tokio::select! {
            () = self.0.tasks.wait() => {}
            () = self.0.clock.sleep_until(self.0.clock.now() + patience) => {}
        }
    }

    /// The whole of the path that nearly every request takes: two clocks, one look-up, no lock.
    fn look_up(&self, request: &TokenRequest, call: &Call) -> Option<AccessToken> {
        let clock = &*self.0.clock;
        self.0.store.with(request, |entry| {
            let left = entry.token.left(clock);
            if left.is_zero() || left < call.required_life() {
                return None;
            }
            if entry.refresh_at > clock.now() {
                return Some(entry.token.delivered(Delivery::Cached));
            }
            self.start_renewal(request, entry);
            Some(entry.token.delivered(entry.delivery_past_refresh()))
        })?
    }

    /// One renewal per entry, however many callers pass the refresh point together.
    fn start_renewal(&self, request: &TokenRequest, entry: &Arc<Entry>) {
        if !entry.claim_renewal() || self.0.stop.is_cancelled() {
            return;
        }
        let (cache, request) = (self.clone(), request.clone());
        self.0.tasks.spawn(self.0.stop.clone().run_until_cancelled_owned(async move {
            cache.renew(&request, Lifespan::OfTheToken).await;
        }));
    }

    /// Renews in the background, with backoff, until it worked, was refused, or there is no more reason to.
    async fn renew(&self, request: &TokenRequest, lifespan: Lifespan) {
        let clock = &*self.0.clock;
        let mut delays = backoff();
        loop {
            let call = Call::new(clock).in_background();
            let Err(error) = self.join_flight(request, &call).await else { return };
            let entry = self.0.store.entry(request);
            if let Some(entry) = &entry {
                entry.renewal_failed();
            }
            tracing::warn!(%error, "a token could not be renewed");
            let gone = entry.is_none_or(|entry| entry.token.left(clock).is_zero());
            if gone && lifespan == Lifespan::OfTheToken {
                return;
            }
            let pause = match error.retry() {
                // Whoever waits for this has to act; look again now and then in case they have.
                Retry::Never => AFTER_A_REFUSAL,
                Retry::NewGrant => Duration::ZERO,
                Retry::After(least) => least,
            };
            clock.sleep_until(clock.now() + delays.next().unwrap_or_default().max(pause)).await;
        }
    }

    async fn fetch(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        if self.0.stop.is_cancelled() {
            return Err(Error::Closed);
        }
        if call.wants_fresh() {
            let token = self.0.source.token(request, call).await?;
            self.0.refusals.forget(request);
            self.0.store.insert(request, &token, &*self.0.clock);
            return Ok(token);
        }
        if let Some(refusal) = self.0.refusals.remembered(request, &*self.0.clock) {
            return Err(refusal);
        }
        self.join_flight(request, call).await
    }

    /// Waits on the flight for `request`, the one in the air or a new one.
    async fn join_flight(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        loop {
            let clock = &*self.0.clock;
            let deadline = clock.now() + call.left(clock).max(DEFAULT_PATIENCE);
            let (waiter, departure) = self.0.flights.join(request, call.priority(), deadline);
            if let Some(departure) = departure {
                self.depart(request, call, departure);
            }
            let priority = waiter.flight_priority();
            let landed = tokio::select! {
                landed = waiter.landed() => landed,
                () = self.0.clock.sleep_until(call.deadline()) => return Err(self.out_of_time()),
            };
            match landed {
                Ok(token) if token.left(&*self.0.clock) < call.required_life() => {
                    // The flight was for somebody who needed less.
                    return self.0.source.token(request, call).await;
                }
                // A renewal is the first to be turned away when the device is busy; its caller is not.
                Err(error) if error.kind() == Fault::Load && priority < call.priority() => {}
                // The flight is out of time, the waiter is not. A flight that gave up early did so because there is no
                // point in asking again so soon: the next one waits until the time of this one is up.
                Err(Error::Deadline(_)) if waiter.flight_deadline() < call.deadline() => {
                    tokio::select! {
                        () = self.0.clock.sleep_until(waiter.flight_deadline()) => {}
                        () = self.0.stop.cancelled() => return Err(Error::Closed),
                    }
                    // Others may have come and asked in the meantime.
                    if let Some(token) = self.look_up(request, call) {
                        return Ok(token);
                    }
                }
                other => return other,
            }
        }
    }

    /// The deadline has passed; whose fault that is, the source knows best.
    fn out_of_time(&self) -> Error {
        Error::Deadline(self.0.source.trouble().map(Box::new))
    }

    /// Starts the flight's task.
    fn depart(&self, request: &TokenRequest, call: &Call, departure: flight::Departure) {
        let cache = self.clone();
        let request = request.clone();
        let mut call_of_the_flight = Call::until(departure.deadline()).min_life(call.required_life());
        if call.priority() == Priority::Background {
            call_of_the_flight = call_of_the_flight.in_background();
        }
        self.0.tasks.spawn(async move {
            let landing: Landing = tokio::select! {
                result = cache.0.source.token(&request, &call_of_the_flight) => result,
                // Nobody waits any more: nobody hears the answer either.
                () = departure.abandoned() => Err(Error::Deadline(None)),
                () = cache.0.clock.sleep_until(call_of_the_flight.deadline()) => Err(cache.out_of_time()),
                () = cache.0.stop.cancelled() => Err(Error::Closed),
            };
            match &landing {
                Ok(token) => cache.0.store.insert(&request, token, &*cache.0.clock),
                Err(error) => cache.0.refusals.remember(&request, error, &*cache.0.clock),
            }
            cache.0.flights.land(&request, departure, landing);
        });
    }
}

/// How long a renewal goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifespan {
    /// Until the token that it renews has expired: after that a caller must want one.
    OfTheToken,
    /// As long as the cache.
    ForEver,
}

/// A renewal that was refused looks again after this long.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(60);

impl TokenSource for Cached {
    fn token<'a>(
        &'a self,
        request: &'a TokenRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<AccessToken, Error>> {
        if !call.wants_fresh()
            && let Some(token) = self.look_up(request, call)
        {
            return Box::pin(std::future::ready(Ok(token)));
        }
        Box::pin(self.fetch(request, call))
    }

    fn trouble(&self) -> Option<Error> {
        self.0.source.trouble()
    }
}

/// A lock that a panicking thread held is still a lock: all that stands behind these is replaced whole.
fn unpoisoned<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
