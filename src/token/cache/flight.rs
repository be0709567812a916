use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::unpoisoned;
use crate::{
    call::Priority,
    clock::Instant,
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

struct Flight {
    landing: watch::Receiver<Option<Landing>>,
    priority: Priority,
    deadline: Instant,
    waiters: usize,
    abandoned: CancellationToken,
    /// Tells a flight from an abandoned one for the same request that has not ended yet.
    number: u64,
}

/// The flight's own end: held by its task.
pub(super) struct Departure {
    landing: watch::Sender<Option<Landing>>,
    abandoned: CancellationToken,
    deadline: Instant,
    number: u64,
}

impl Departure {
    /// When the flight is out of time.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns when nobody waits any more.
    pub(super) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }
}

/// One who waits. Dropping it is going away.
pub(super) struct Waiter {
    landing: watch::Receiver<Option<Landing>>,
    priority: Priority,
    deadline: Instant,
    flights: Arc<Mutex<HashMap<TokenRequest, Flight>>>,
    request: TokenRequest,
    number: u64,
}

impl Flights {
    /// Joins the flight for `request`; the first to come gets the departure and must start it. `deadline` is for that
    /// case: when the new flight is out of time.
    pub(super) fn join(
        &self,
        request: &TokenRequest,
        priority: Priority,
        deadline: Instant,
    ) -> (Waiter, Option<Departure>) {
        let mut flights = unpoisoned(self.in_the_air.lock());
        if let Some(flight) = flights.get_mut(request) {
            flight.waiters += 1;
            return (self.waiter(request, flight), None);
        }
        let (sender, receiver) = watch::channel(None);
        let abandoned = CancellationToken::new();
        let number = next_number();
        let flight = Flight {
            landing: receiver,
            priority,
            deadline,
            waiters: 1,
            abandoned: abandoned.clone(),
            number,
        };
        let waiter = self.waiter(request, &flight);
        flights.insert(request.clone(), flight);
        (waiter, Some(Departure { landing: sender, abandoned, deadline, number }))
    }

    fn waiter(&self, request: &TokenRequest, flight: &Flight) -> Waiter {
        Waiter {
            landing: flight.landing.clone(),
            priority: flight.priority,
            deadline: flight.deadline,
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
    /// Who the flight was started for.
    pub(super) fn flight_priority(&self) -> Priority {
        self.priority
    }

    /// When the flight is out of time, also if it gives up before.
    pub(super) fn flight_deadline(&self) -> Instant {
        self.deadline
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
