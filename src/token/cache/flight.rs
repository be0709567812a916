use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::unpoisoned;
use crate::{
    call::{Call, DEFAULT_PATIENCE, Priority},
    clock::{Clock, Instant},
    grant::TokenRequest,
    token::{AccessToken, Error},
};

/// How a flight ended; every waiter gets its own copy.
pub(super) type Landing = Result<AccessToken, Error>;

/// The flights in the air, at most one per request.
#[derive(Default)]
pub(super) struct Flights {
    in_the_air: Arc<Mutex<HashMap<TokenRequest, Flight>>>,
}

/// What a flight is started for. Others may join it who want something else.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) priority: Priority,
    pub(super) required_life: Duration,
    pub(super) deadline: Instant,
}

impl Terms {
    /// Those of a flight for `call`: it has time enough for others who join it.
    pub(super) fn of(call: &Call, clock: &dyn Clock) -> Self {
        Self {
            priority: call.priority(),
            required_life: call.required_life(),
            deadline: call.deadline().max(clock.now() + DEFAULT_PATIENCE),
        }
    }

    /// How the flight asks.
    pub(super) fn call(self) -> Call {
        let call = Call::until(self.deadline).min_life(self.required_life);
        if self.priority == Priority::Background { call.in_background() } else { call }
    }
}

struct Flight {
    landing: watch::Receiver<Option<Landing>>,
    terms: Terms,
    waiters: usize,
    abandoned: CancellationToken,
    /// Tells a flight from an abandoned one for the same request that has not ended yet.
    number: u64,
}

/// The flight's own end: held by its task.
pub(super) struct Departure {
    landing: watch::Sender<Option<Landing>>,
    abandoned: CancellationToken,
    number: u64,
}

impl Departure {
    /// Returns when nobody waits any more.
    pub(super) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }
}

/// How one gets an answer.
pub(super) enum Boarding {
    /// It is there already.
    Landed(Landing),
    /// From a flight. Who gets the departure must start it.
    Waiting(Waiter, Option<Departure>),
}

/// One who waits. Dropping it is going away.
pub(super) struct Waiter {
    landing: watch::Receiver<Option<Landing>>,
    terms: Terms,
    flights: Arc<Mutex<HashMap<TokenRequest, Flight>>>,
    request: TokenRequest,
    number: u64,
}

impl Flights {
    /// Joins the flight for `request`; the first to come gets the departure. `landed_before` is asked first: until it has
    /// answered, no flight lands.
    pub(super) fn join(
        &self,
        request: &TokenRequest,
        terms: Terms,
        landed_before: impl FnOnce() -> Option<Landing>,
    ) -> Boarding {
        let mut flights = unpoisoned(self.in_the_air.lock());
        if let Some(landing) = landed_before() {
            return Boarding::Landed(landing);
        }
        if let Some(flight) = flights.get_mut(request) {
            flight.waiters += 1;
            return Boarding::Waiting(self.waiter(request, flight), None);
        }
        let (sender, receiver) = watch::channel(None);
        let abandoned = CancellationToken::new();
        let number = next_number();
        let flight = Flight { landing: receiver, terms, waiters: 1, abandoned: abandoned.clone(), number };
        let waiter = self.waiter(request, &flight);
        flights.insert(request.clone(), flight);
        Boarding::Waiting(waiter, Some(Departure { landing: sender, abandoned, number }))
    }

    fn waiter(&self, request: &TokenRequest, flight: &Flight) -> Waiter {
        Waiter {
            landing: flight.landing.clone(),
            terms: flight.terms,
            flights: self.in_the_air.clone(),
            request: request.clone(),
            number: flight.number,
        }
    }

    /// Ends the flight: who comes now starts a new one, who waits gets `landing`.
    pub(super) fn land(&self, request: &TokenRequest, departure: Departure, landing: Landing) {
        let mut flights = unpoisoned(self.in_the_air.lock());
        if flights.get(request).is_some_and(|flight| flight.number == departure.number) {
            flights.remove(request);
        }
        drop(flights);
        let _ = departure.landing.send(Some(landing));
    }
}

impl Waiter {
    /// What the flight was started for.
    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    /// The end of the flight.
    pub(super) async fn landed(&self) -> Landing {
        let mut landing = self.landing.clone();
        match landing.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Err(Error::Closed)),
            // The task was dropped with its runtime.
            Err(_) => Err(Error::Closed),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut flights = unpoisoned(self.flights.lock());
        let Some(flight) = flights.get_mut(&self.request) else { return };
        if flight.number != self.number {
            return;
        }
        flight.waiters -= 1;
        if flight.waiters == 0 {
            flight.abandoned.cancel();
            flights.remove(&self.request);
        }
    }
}

fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
