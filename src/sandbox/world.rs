//! What the fake authorities have in common while they run.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Authority, TestCa, clients::Clients, counters::Counting, issuer_key::IssuerKey, journal::Journal,
    knobs::Knobs, registry::Registry, replay::Replay, timeline::Timeline,
};
use crate::clock::Clock;

/// State shared by the three authorities. Nothing of it outlives the sandbox but the test CA.
#[derive(Debug)]
pub(super) struct World {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ca: TestCa,
    /// Issuers whose eSeals are taken, DER.
    pub(super) seal_issuers: Vec<Vec<u8>>,
    /// Maskinporten's issuer, with its final slash.
    pub(super) issuer: String,
    /// Base address of Customs, without a final slash.
    pub(super) customs: String,
    /// Base address of Altinn, without a final slash.
    pub(super) altinn: String,
    pub(super) maskinporten_key: IssuerKey,
    pub(super) altinn_key: IssuerKey,
    pub(super) registry: Registry,
    pub(super) knobs: RwLock<Knobs>,
    pub(super) timeline: Timeline,
    pub(super) journal: Mutex<Journal>,
    pub(super) replay: Mutex<Replay>,
    pub(super) customs_tokens: Mutex<HashMap<String, Issued>>,
    pub(super) counting: Counting,
    pub(super) gates: Gates,
    pub(super) stop: CancellationToken,
}

/// What a Customs token stands for.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) expires: u64,
    pub(super) scopes: Vec<String>,
}

impl World {
    /// The authorities' own time: seconds since 1970, with the offset that the knobs ask for.
    pub(super) fn now(&self) -> u64 {
        self.clock.numeric_date().saturating_add_signed(self.knobs().clock_offset)
    }

    /// How the authorities answer now: as they are set, and as a fault changes that for a time.
    pub(super) fn knobs(&self) -> Knobs {
        let set = self.knobs.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.timeline.turned(set, self.clock.now())
    }

    /// What Maskinporten knows by now of what was registered.
    pub(super) fn clients(&self) -> Arc<Clients> {
        self.registry.known_at(self.now())
    }
}

/// The guarded value, also after a panic elsewhere: no state of the sandbox can be half written.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an authority answers, waits or is out of order.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    pub(super) holders: usize,
    pub(super) outage: bool,
}

/// The gates of the three authorities, and of Maskinporten's metadata alone.
#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Requests so far, for bursts.
    passed: [AtomicU64; 3],
    maskinporten: watch::Sender<Gate>,
    pub(super) metadata: watch::Sender<Gate>,
    customs: watch::Sender<Gate>,
    altinn: watch::Sender<Gate>,
}

impl Gates {
    /// Counts a request to `authority`; true when it falls into a burst.
    pub(super) fn is_burst(&self, authority: Authority, knobs: &Knobs) -> bool {
        let [maskinporten, customs, altinn] = &self.passed;
        let passed = match authority {
            Authority::Maskinporten => maskinporten,
            Authority::Customs => customs,
            Authority::Altinn => altinn,
        };
        let number = passed.fetch_add(1, Ordering::Relaxed);
        let round = knobs.burst_every.saturating_add(knobs.burst_length);
        knobs.burst_every > 0 && number % round.max(1) >= knobs.burst_every
    }

    pub(super) fn of(&self, authority: Authority) -> &watch::Sender<Gate> {
        match authority {
            Authority::Maskinporten => &self.maskinporten,
            Authority::Customs => &self.customs,
            Authority::Altinn => &self.altinn,
        }
    }
}
