use std::{
    hash::{BuildHasher, Hasher},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::unpoisoned;
use crate::{
    clock::{Clock, Instant},
    grant::TokenRequest,
    token::{AccessToken, Outage},
};

/// Tokens are renewed this long before they expire, or a quarter of their life if that is less: most live two minutes.
const LONGEST_LEAD: Duration = Duration::from_secs(60);

/// How long before its end a token is renewed that lives for `life`: a quarter of that, and 60 s at most. Longer leads
/// make a storm of renewals out of tokens that live two minutes.
#[must_use]
pub fn lead_time(life: Duration) -> Duration {
    LONGEST_LEAD.min(life / 4)
}

/// How often expired tokens are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The tokens held. Reading takes no lock.
pub(super) struct Store {
    tokens: papaya::HashMap<TokenRequest, Arc<Entry>, Remembered>,
    capacity: usize,
    next_sweep: Mutex<Option<Instant>>,
}

/// A token and when to renew it.
pub(super) struct Entry {
    pub(super) token: AccessToken,
    pub(super) refresh_at: Instant,
    renewing: AtomicBool,
    failed: AtomicBool,
    failure: RwLock<Option<Arc<Outage>>>,
}

impl Entry {
    /// True for the first who asks.
    pub(super) fn claim_renewal(&self) -> bool {
        // The load first: the line is shared by all who read the token.
        !self.renewing.load(Ordering::Relaxed) && !self.renewing.swap(true, Ordering::Relaxed)
    }

    /// Lets another one claim it.
    pub(super) fn release_renewal(&self) {
        self.renewing.store(false, Ordering::Relaxed);
    }

    /// A renewal failed because of `outage`. The next token has an entry of its own.
    pub(super) fn renewal_failed(&self, outage: Outage) {
        *unpoisoned(self.failure.write()) = Some(Arc::new(outage));
        self.failed.store(true, Ordering::Release);
    }

    /// Why the last renewal failed.
    pub(super) fn failure(&self) -> Option<Arc<Outage>> {
        // The flag first: as long as nothing has failed, nobody takes the lock.
        if !self.failed.load(Ordering::Acquire) {
            return None;
        }
        unpoisoned(self.failure.read()).clone()
    }
}

impl Store {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            tokens: papaya::HashMap::with_hasher(Remembered),
            capacity: capacity.max(1),
            next_sweep: Mutex::new(None),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn with<R>(&self, request: &TokenRequest, read: impl FnOnce(&Arc<Entry>) -> R) -> Option<R> {
        self.tokens.pin().get(request).map(read)
    }

    pub(super) fn entry(&self, request: &TokenRequest) -> Option<Arc<Entry>> {
        self.with(request, Arc::clone)
    }

    pub(super) fn any_usable(&self, clock: &dyn Clock) -> bool {
        self.tokens.pin().values().any(|entry| !entry.token.left(clock).is_zero())
    }

    pub(super) fn insert(&self, request: &TokenRequest, token: &AccessToken, clock: &dyn Clock) {
        // Of what is left, not of what it had: a token that is given out again late in its life has a later refresh
        // point than before, and its renewal does not run in a circle.
        let lead = lead_time(token.expires_at().since(clock.now()));
        let entry = Entry {
            token: token.clone(),
            refresh_at: token.expires_at() - lead,
            renewing: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failure: RwLock::default(),
        };
        // One writer at a time, so that the bound is one. Readers do not notice.
        let mut next_sweep = unpoisoned(self.next_sweep.lock());
        self.make_room(request, clock, &mut next_sweep);
        self.tokens.pin().insert(request.clone(), Arc::new(entry));
    }

    /// Drops what has expired, once a minute or when `request` has no place; then, if it still has none, the sixteenth
    /// that expires first.
    fn make_room(&self, request: &TokenRequest, clock: &dyn Clock, next_sweep: &mut Option<Instant>) {
        let tokens = self.tokens.pin();
        let full = tokens.len() >= self.capacity && !tokens.contains_key(request);
        if !full && next_sweep.is_some_and(|at| clock.now() < at) {
            return;
        }
        *next_sweep = Some(clock.now() + SWEEP_EVERY);
        tokens.retain(|_, entry| !entry.token.left(clock).is_zero());
        if !full || tokens.len() < self.capacity {
            return;
        }
        let mut ends: Vec<Instant> = tokens.values().map(|entry| entry.token.expires_at()).collect();
        let mut surplus = (self.capacity / 16).max(1);
        if ends.len() < surplus {
            return;
        }
        let (_, last_to_go, _) = ends.select_nth_unstable(surplus - 1);
        let last_to_go = *last_to_go;
        tokens.retain(|_, entry| {
            let goes = surplus > 0 && entry.token.expires_at() <= last_to_go;
            surplus -= usize::from(goes);
            !goes
        });
    }
}

/// A request's hash is computed when it is made; here it is only passed on.
#[derive(Clone, Copy, Debug, Default)]
struct Remembered;

impl BuildHasher for Remembered {
    type Hasher = PassedOn;

    fn build_hasher(&self) -> PassedOn {
        PassedOn(0)
    }
}

struct PassedOn(u64);

impl Hasher for PassedOn {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
