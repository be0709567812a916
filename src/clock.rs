//! The two times a token client lives by, handed in so that no test waits for either.
//!
//! *Wall time* is what `iat`, certificates and a JWT's `exp` speak of; people and NTP may set it. *Monotonic
//! time* is what token life, deadlines and backoff count in; nobody sets it, and it runs on while the machine is
//! suspended (`CLOCK_BOOTTIME`), so that a laptop does not wake up with a "fresh" token of yesterday.

mod offset;
mod spell;

pub use self::offset::{Moment, Offset};
pub(crate) use self::spell::Spell;

use std::{
    fmt,
    future::Future,
    ops::{Add, Sub},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, macros::format_description};
use tokio::sync::watch;

/// A future in a box: what object-safe seams return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A point of monotonic time. Only differences mean something. One of the system's clock
/// is the same for all processes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(Duration);

impl Instant {
    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

/// Where both times come from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall time: for `iat`, certificate validity and a JWT's `exp`.
    fn wall(&self) -> SystemTime;

    /// Monotonic time: for token life, deadlines and backoff.
    fn now(&self) -> Instant;

    /// Returns when [`now`](Self::now) has reached `at`.
    fn sleep_until(&self, at: Instant) -> BoxFuture<'_, ()>;

    /// Wall time as a JWT `NumericDate` (RFC 7519 section 2): whole seconds since 1970, UTC.
    fn numeric_date(&self) -> u64 {
        numeric_date(self.wall())
    }
}

/// `at` as a JWT `NumericDate`; times before 1970 are 0.
#[must_use]
pub fn numeric_date(at: SystemTime) -> u64 {
    since_1970(at).as_secs()
}

fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `at` for people: `2026-11-21 10:15:00 UTC`.
#[must_use]
pub fn utc(at: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    // Another process may have said so: a conversion that leaves the calendar would panic.
    let seconds = i64::try_from(numeric_date(at)).ok();
    let at = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.and_then(|at| at.format(format).ok()).unwrap_or_else(|| "an unknown time".into())
}

/// `at` for programs (RFC 3339), in whole seconds: `2026-11-21T10:15:00Z`.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    OffsetDateTime::from(at).format(format).unwrap_or_default()
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The system clock as the rooms of this crate want it.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

/// Tokio's timer stands still in suspend; looking again this often bounds how late a sleeper wakes.
const LONGEST_NAP: Duration = Duration::from_secs(10);

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn now(&self) -> Instant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        Instant(Duration::new(seconds, nanoseconds))
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let left = at.since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LONGEST_NAP)).await;
            }
        })
    }
}

/// A clock that moves when it is told to: for tests of your own code on top of this library.
///
/// It starts at a fixed wall time; [`advance`](Self::advance) moves both times together and wakes the sleepers
/// that are due.
#[derive(Debug)]
pub struct ManualClock {
    /// Nanoseconds since 1970: until the year 2554.
    wall: AtomicU64,
    elapsed: watch::Sender<Duration>,
}

impl ManualClock {
    /// A clock that stands at `wall`.
    #[must_use]
    pub fn at(wall: SystemTime) -> Arc<Self> {
        Arc::new(Self {
            wall: AtomicU64::new(nanoseconds(since_1970(wall))),
            elapsed: watch::Sender::new(Duration::from_secs(1_000)),
        })
    }

    /// Lets `by` pass on both times.
    pub fn advance(&self, by: Duration) {
        self.wall.fetch_add(nanoseconds(by), Ordering::SeqCst);
        self.elapsed.send_modify(|elapsed| *elapsed += by);
    }

    /// Sets the wall time alone, as an operator or NTP would.
    pub fn set_wall(&self, wall: SystemTime) {
        self.wall.store(nanoseconds(since_1970(wall)), Ordering::SeqCst);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Clock for ManualClock {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.wall.load(Ordering::SeqCst))
    }

    fn now(&self) -> Instant {
        Instant(*self.elapsed.borrow())
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture<'_, ()> {
        let mut elapsed = self.elapsed.subscribe();
        Box::pin(async move {
            // The sender lives in `self`, so the only way to leave is that the time has come.
            let _ = elapsed.wait_for(|elapsed| Instant(*elapsed) >= at).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_come_and_not_before() {
        let clock = ManualClock::at(UNIX_EPOCH);
        let at = clock.now() + Duration::from_secs(5);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(at).await }
        });
        clock.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[test]
    fn setting_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = ManualClock::at(UNIX_EPOCH);
        let before = clock.now();
        clock.set_wall(UNIX_EPOCH + Duration::from_secs(1_000_000));
        assert_eq!(clock.now(), before);
        assert_eq!(clock.numeric_date(), 1_000_000);
    }

    #[test]
    fn many_short_times_are_a_long_one_on_both_clocks() {
        let clock = ManualClock::at(UNIX_EPOCH);
        let before = clock.now();
        for _ in 0..25 {
            clock.advance(Duration::from_millis(100));
        }
        assert_eq!(clock.now().since(before), Duration::from_millis(2_500));
        assert_eq!(clock.wall(), UNIX_EPOCH + Duration::from_millis(2_500));
    }

    #[test]
    fn monotonic_time_of_the_system_never_runs_backwards() {
        let first = SystemClock.now();
        assert!(SystemClock.now() >= first);
    }
}
