//! How a caller asks, never what it asks for.

use std::time::Duration;

use crate::clock::{Clock, Instant};

/// Who is waiting for the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Priority {
    /// Nobody: a renewal ahead of time. Yields to callers.
    Background,
    /// A caller waits.
    #[default]
    Caller,
}

/// The manner of one request: until when, how urgent, how long the answer must last, and whether a stored answer
/// will do. Never part of a cache key.
#[derive(Clone, Debug)]
pub struct Call {
    deadline: Instant,
    priority: Priority,
    min_life: Duration,
    fresh: bool,
    at_once: bool,
}

/// How long a caller waits unless it says otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

impl Call {
    /// A caller's request that gives up after `patience`.
    pub fn within(clock: &dyn Clock, patience: Duration) -> Self {
        Self::until(clock.now() + patience)
    }

    /// A caller's request that gives up at `deadline` (monotonic).
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self { deadline, priority: Priority::Caller, min_life: Duration::ZERO, fresh: false, at_once: false }
    }

    /// A caller's request with the default patience of 30 s.
    pub fn new(clock: &dyn Clock) -> Self {
        Self::within(clock, DEFAULT_PATIENCE)
    }

    /// The same request that gives up at `deadline` (monotonic) at the latest: a part of what the caller asked for.
    #[must_use]
    pub fn no_later_than(mut self, deadline: Instant) -> Self {
        self.deadline = self.deadline.min(deadline);
        self
    }

    /// The same request with nobody waiting for it.
    #[must_use]
    pub fn in_background(mut self) -> Self {
        self.priority = Priority::Background;
        self
    }

    /// The answer must be usable for at least `life` from now: an exchange asks so for its subject token.
    #[must_use]
    pub fn min_life(mut self, life: Duration) -> Self {
        self.min_life = life;
        self
    }

    /// No stored answer, good or bad, will do: a probe asks so. An authority that is known to be away is still asked by
    /// one at a time, and when it wants to be.
    #[must_use]
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// A device that is away is not waited for: there is another one to ask.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    /// Whether a device that is away is not to be waited for.
    #[must_use]
    pub fn wants_at_once(&self) -> bool {
        self.at_once
    }

    /// When the caller stops waiting (monotonic).
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is left until the deadline; zero once it has passed.
    pub fn left(&self, clock: &dyn Clock) -> Duration {
        self.deadline.since(clock.now())
    }

    /// Whether the deadline has passed.
    pub fn is_over(&self, clock: &dyn Clock) -> bool {
        self.left(clock).is_zero()
    }

    /// Who waits.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// How long the answer must be usable for.
    #[must_use]
    pub fn required_life(&self) -> Duration {
        self.min_life
    }

    /// Whether stored answers are to be passed over.
    #[must_use]
    pub fn wants_fresh(&self) -> bool {
        self.fresh
    }
}
