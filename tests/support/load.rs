//! Many callers at a time, and what must hold for every one of their requests, whatever goes wrong.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use segl::{
    call::Call,
    clock::{Clock, Instant},
    pipeline::Pipeline,
    token::{AccessToken, Delivery, Error},
};
use tokio::{
    sync::{RwLock, watch},
    task::JoinSet,
};

use crate::leap::LeapingClock;

pub(crate) const CALLERS: usize = 200;

/// They take no stored token, so that the key is nearly always in use.
const PROBES: usize = 4;

/// The tokens of the callers, and that of the probes: one from each authority.
const TOKENS: [&str; 2] = ["maskinporten", "road"];
const PROBED: &str = "instances";

/// How long each of them waits for a token, and then for the next request.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(50);

/// Longer than anything takes on a busy machine: what takes longer hangs. How long things took is among the figures.
const LONGEST: Duration = Duration::from_secs(60);

/// Callers at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

struct Shared {
    pipeline: Pipeline,
    clock: Arc<LeapingClock>,
    /// Held by each request: time leaps between requests.
    standing: RwLock<()>,
    stop: AtomicBool,
    tally: watch::Sender<Tally>,
}

/// How all requests so far were answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Answered with a new token.
    pub(crate) fresh: u64,
    /// Answered with a stored one.
    pub(crate) cached: u64,
    /// Answered with a stored one that could not be renewed.
    pub(crate) while_down: u64,
    /// Failed; no token was usable.
    pub(crate) failed: u64,
    /// Of those that took no stored token: signed for, and failed.
    pub(crate) signed: u64,
    pub(crate) unsigned: u64,
    /// How much later than its deadline the latest failure came.
    pub(crate) latest: Duration,
    /// What must not happen.
    pub(crate) broken: Vec<String>,
    /// What the last of the failed requests was told.
    pub(crate) trouble: String,
    /// Of each name the token that lives longest.
    best: BTreeMap<&'static str, AccessToken>,
}

impl Load {
    /// Sets all callers to work on tokens that the sandbox's configuration names.
    pub(crate) fn start(pipeline: Pipeline, clock: Arc<LeapingClock>) -> Self {
        let shared = Arc::new(Shared {
            pipeline,
            clock,
            standing: RwLock::default(),
            stop: AtomicBool::default(),
            tally: watch::Sender::default(),
        });
        let names = TOKENS.iter().cycle().take(CALLERS).chain([PROBED; PROBES].iter());
        let callers = names.map(|name| shared.clone().ask_again_and_again(name)).collect();
        Self { shared, callers }
    }

    /// Lets time pass at once, while no request is under way.
    pub(crate) async fn leap(&self, by: Duration) {
        let _standing = self.shared.standing.write().await;
        self.shared.clock.leap(by);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.shared.tally.borrow().clone()
    }

    /// Waits until the requests so far are as `reached` wants them.
    pub(crate) async fn until(&self, what: &str, reached: impl FnMut(&Tally) -> bool) {
        let mut tally = self.shared.tally.subscribe();
        let waited = tokio::time::timeout(LONGEST, tally.wait_for(reached)).await.map(drop);
        assert!(waited.is_ok(), "never: {what}; {:?}", self.tally());
    }

    /// Waits until every caller has asked about twice more.
    pub(crate) async fn asked_twice(&self) {
        let wanted = self.tally().answered() + 2 * CALLERS as u64;
        self.until("answers", |tally| tally.answered() >= wanted).await;
    }

    /// Waits until requests fail for want of a token: one of each caller.
    pub(crate) async fn all_failed(&self) {
        let wanted = self.tally().failed + CALLERS as u64;
        self.until("failures", |tally| tally.failed >= wanted).await;
    }

    /// Waits until the key signs again.
    pub(crate) async fn signs(&self) {
        let wanted = self.tally().signed + 1;
        self.until("a signature", |tally| tally.signed >= wanted).await;
    }

    /// Waits until callers have tokens with at least `left` of their life. Renewals pause after each failure, and are
    /// not waited for: time leaps.
    pub(crate) async fn all_renewed(&self, left: Duration) {
        let least = self.shared.clock.now() + left;
        let has = |tally: &Tally, name| tally.best.get(name).is_some_and(|token| token.expires_at() >= least);
        let begin = tokio::time::Instant::now();
        while !TOKENS.iter().all(|name| has(&self.shared.tally.borrow(), name)) {
            assert!(begin.elapsed() < LONGEST, "no new tokens; {:?}", self.tally());
            self.leap(PAUSE * 5).await;
            let wanted = self.tally().answered() + CALLERS as u64 / 2;
            self.until("answers", |tally| tally.answered() >= wanted).await;
        }
    }

    /// Ends all callers and the pipeline, and looks whether what must hold has held.
    pub(crate) async fn end(mut self) -> Tally {
        self.shared.stop.store(true, Ordering::SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
        self.shared.pipeline.shutdown(Duration::from_secs(30)).await;
        let tally = self.tally();
        assert!(tally.broken.is_empty(), "{}", tally.broken.join("\n"));
        tally
    }
}

impl Shared {
    async fn ask_again_and_again(self: Arc<Self>, name: &'static str) {
        let named = self.pipeline.token(name).unwrap();
        while !self.stop.load(Ordering::SeqCst) {
            let standing = self.standing.read().await;
            let asked = self.clock.now();
            let call = Call::until(asked + PATIENCE);
            let call = if name == PROBED { call.fresh() } else { call };
            let answer = named.token(&call).await;
            self.tally.send_modify(|tally| tally.note(name, asked, &answer, &self.clock));
            drop(standing);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Tally {
    /// Requests of callers that were answered, one way or another.
    pub(crate) fn answered(&self) -> u64 {
        self.fresh + self.cached + self.while_down + self.failed
    }

    fn note(
        &mut self,
        name: &'static str,
        asked: Instant,
        answer: &Result<AccessToken, Error>,
        clock: &LeapingClock,
    ) {
        match answer {
            Ok(token) => {
                if token.expires_at() <= asked {
                    self.broken.push(format!("{name}: an expired token was handed out"));
                }
                match token.delivery() {
                    _ if name == PROBED => self.signed += 1,
                    Delivery::Cached => self.cached += 1,
                    Delivery::WhileDown => self.while_down += 1,
                    _ => self.fresh += 1,
                }
                let best = self.best.entry(name).or_insert_with(|| token.clone());
                if token.expires_at() > best.expires_at() {
                    *best = token.clone();
                }
            }
            Err(error) => {
                let late = clock.now().since(asked + PATIENCE);
                self.latest = self.latest.max(late);
                if late > LONGEST {
                    self.broken.push(format!("{name}: {error} came {late:?} after the deadline"));
                }
                if name == PROBED {
                    self.unsigned += 1;
                    return;
                }
                self.failed += 1;
                self.trouble = error.to_string();
                let left = self.best.get(name).map(|best| best.left(clock)).unwrap_or_default();
                if !left.is_zero() {
                    self.broken
                        .push(format!("{name}: {error} came with a token that is usable for {left:?}"));
                }
            }
        }
    }
}
