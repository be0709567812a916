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

pub use self::store::lead_time;
use self::{
    flight::{Boarding, Departure, Flights, Landing, Terms},
    refusals::Refusals,
    store::{Entry, Store},
};
use super::{
    AccessToken, Delivery, Error, Outage, TokenSource,
    contact::LONGEST_ASKED,
    retry::{LONGEST_PAUSE, backoff},
};
use crate::{
    call::{Call, Priority},
    clock::{BoxFuture, Clock, Instant},
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
                let now = cache.0.clock.now();
                cache.0.clock.sleep_until(due.unwrap_or(now + AFTER_A_REFUSAL).max(now + LEAST_PAUSE)).await;
            }
        }));
    }

    /// How long a held token for `request` is still usable; `None` when none is.
    #[must_use]
    pub fn usable_for(&self, request: &TokenRequest) -> Option<Duration> {
        let left = self.0.store.with(request, |entry| entry.token.left(&*self.0.clock))?;
        (!left.is_zero()).then_some(left)
    }

    /// Whether any token is held that is usable.
    #[must_use]
    pub fn has_usable(&self) -> bool {
        self.0.store.any_usable(&*self.0.clock)
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

    /// Ends all flights and renewals and waits for them, `patience` at most. Later requests that no stored token answers
    /// get [`Error::Closed`].
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
        // Reading a clock is most of what a hit costs: each is read once.
        let (now, wall) = (self.0.clock.now(), self.0.clock.numeric_date());
        self.0.store.with(request, |entry| {
            let left = entry.token.left_at(now, wall);
            if left.is_zero() || left < call.required_life() {
                return None;
            }
            if entry.refresh_at > now {
                return Some(entry.token.delivered(Delivery::Cached));
            }
            self.start_renewal(request, entry);
            // Whoever asks learns why the token is not renewed: what made a renewal fail, or what is known to be away.
            Some(match entry.failure().or_else(|| self.0.source.outage().map(Arc::new)) {
                Some(outage) => entry.token.while_down(outage),
                None => entry.token.delivered(Delivery::Cached),
            })
        })?
    }

    /// One renewal per entry, however many callers pass the refresh point together.
    fn start_renewal(&self, request: &TokenRequest, entry: &Arc<Entry>) {
        if !entry.claim_renewal() || self.0.stop.is_cancelled() {
            return;
        }
        let (cache, request, entry) = (self.clone(), request.clone(), entry.clone());
        self.0.tasks.spawn(self.0.stop.clone().run_until_cancelled_owned(async move {
            cache.renew(&request, Lifespan::OfTheToken).await;
            // If it is read again all the same (the wall clock was wrong for a moment), another may try.
            entry.release_renewal();
        }));
    }

    /// Renews in the background, with backoff, until it worked, was refused, or there is no more reason to.
    async fn renew(&self, request: &TokenRequest, lifespan: Lifespan) {
        let clock = &*self.0.clock;
        let mut delays = backoff();
        let mut failed = false;
        loop {
            let asked = clock.now();
            let call = Call::new(clock).in_background();
            let Err(error) = self.join_flight(request, &call).await else { return };
            let entry = self.0.store.entry(request);
            let gone = entry.as_ref().is_none_or(|entry| entry.token.left(clock).is_zero());
            // One line when it begins; who is away, and that they are back, the log says once for all tokens.
            let first = !std::mem::replace(&mut failed, true);
            if first && error.kind() != Fault::Load {
                tracing::warn!(%error, "a token could not be renewed");
            }
            let pause = delays.next().unwrap_or(LONGEST_PAUSE).max(pause_after(&error));
            if let Some(entry) = &entry
                && error.is_trouble(clock.now().since(asked))
            {
                entry.renewal_failed(Outage::of(error, clock.wall()));
            }
            if gone && lifespan == Lifespan::OfTheToken {
                return;
            }
            clock.sleep_until(clock.now() + pause).await;
        }
    }

    async fn fetch(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        if self.0.stop.is_cancelled() {
            return Err(Error::Closed);
        }
        if call.is_over(&*self.0.clock) {
            return Err(self.out_of_time());
        }
        if call.wants_fresh() {
            let token = self.0.source.token(request, call).await?;
            self.keep(request, &token);
            return Ok(token);
        }
        self.join_flight(request, call).await
    }

    /// Waits on the flight for `request`, the one in the air or a new one.
    async fn join_flight(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        let clock = &*self.0.clock;
        loop {
            let terms = Terms::of(call, clock);
            let (waiter, departure) =
                match self.0.flights.join(request, terms, || self.landed_before(request, call)) {
                    Boarding::Landed(landing) => return landing,
                    Boarding::Waiting(waiter, departure) => (waiter, departure),
                };
            if let Some(departure) = departure {
                self.depart(request, terms, departure);
            }
            let flight = waiter.terms();
            let landed = tokio::select! {
                biased;
                landed = waiter.landed() => landed,
                late = self.late(call.deadline()) => return self.or_stored(request, call, Err(late)),
            };
            match landed {
                // The flight was for somebody who needed less.
                Ok(token)
                    if flight.required_life < call.required_life()
                        && token.left(clock) < call.required_life() => {}
                // The flight was for somebody who needed more than there is.
                Err(Error::TooShort { .. }) if flight.required_life > call.required_life() => {}
                // A renewal is the first to be turned away when the device is busy; its caller is not.
                Err(error) if error.kind() == Fault::Load && flight.priority < call.priority() => {}
                // The flight had less time than the waiter. One that gave up early did so because there is no point in
                // asking again so soon: the next one starts when the time of this one is up.
                Err(error) if error.is_late() && flight.deadline < call.deadline() => {
                    tokio::select! {
                        () = clock.sleep_until(flight.deadline) => {}
                        () = self.0.stop.cancelled() => return Err(Error::Closed),
                    }
                }
                other => return self.or_stored(request, call, other),
            }
        }
    }

    /// Nobody fails as long as a token is usable: one flight may have failed, and another, which its last waiter had just
    /// left, have brought a token all the same.
    fn or_stored(&self, request: &TokenRequest, call: &Call, landing: Landing) -> Landing {
        landing.or_else(|error| self.stored(request, call).ok_or(error))
    }

    /// What a flight has brought since the caller looked, or what a renewal need not fetch any more. Asked while no
    /// flight can land, so that between two flights nobody starts a needless third.
    fn landed_before(&self, request: &TokenRequest, call: &Call) -> Option<Landing> {
        if let Some(token) = self.stored(request, call) {
            return Some(Ok(token));
        }
        let renewal = call.priority() == Priority::Background;
        if renewal { None } else { self.0.refusals.remembered(request, &*self.0.clock).map(Err) }
    }

    /// The stored token that will do; for a renewal, one that need not be renewed yet.
    fn stored(&self, request: &TokenRequest, call: &Call) -> Option<AccessToken> {
        let clock = &*self.0.clock;
        let renewal = call.priority() == Priority::Background;
        let stored = self.0.store.with(request, |entry| {
            let left = entry.token.left(clock);
            let serves = !left.is_zero() && left >= call.required_life();
            let serves = serves && (!renewal || entry.refresh_at > clock.now());
            serves.then(|| entry.token.delivered(Delivery::Cached))
        });
        stored.flatten()
    }

    fn keep(&self, request: &TokenRequest, token: &AccessToken) {
        self.0.refusals.forget(request);
        self.0.store.insert(request, token, &*self.0.clock);
    }

    /// The deadline has passed; whose fault that is, the source knows best.
    fn out_of_time(&self) -> Error {
        Error::Deadline(self.0.source.trouble().map(Box::new))
    }

    /// Waits until the deadline has passed and asks then and there, while the source is still at it.
    async fn late(&self, deadline: Instant) -> Error {
        self.0.clock.sleep_until(deadline).await;
        self.out_of_time()
    }

    /// Starts the flight's task.
    fn depart(&self, request: &TokenRequest, terms: Terms, departure: Departure) {
        let cache = self.clone();
        let request = request.clone();
        self.0.tasks.spawn(async move {
            let call = terms.call();
            let landing: Landing = tokio::select! {
                biased;
                result = cache.0.source.token(&request, &call) => result,
                // Nobody waits any more: nobody hears the answer either.
                () = departure.abandoned() => Err(Error::Deadline(None)),
                late = cache.late(terms.deadline) => Err(late),
                () = cache.0.stop.cancelled() => Err(Error::Closed),
            };
            match &landing {
                Ok(token) => cache.keep(&request, token),
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

/// A token that is kept warm is not asked for more often than this, whatever the authority gives.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// How long a renewal waits at least after this failure.
fn pause_after(error: &Error) -> Duration {
    match error.retry() {
        // Whoever waits for this has to act; look again now and then in case they have.
        Retry::Never => AFTER_A_REFUSAL,
        Retry::NewGrant => Duration::ZERO,
        Retry::After(least) => least.min(LONGEST_ASKED),
    }
}

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

    fn outage(&self) -> Option<Outage> {
        self.0.source.outage()
    }

    fn trouble(&self) -> Option<Outage> {
        self.0.source.trouble()
    }
}

/// A lock that a panicking thread held is still a lock: all that stands behind these is replaced whole.
fn unpoisoned<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
