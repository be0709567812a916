//! How far this machine's wall clock is from that of a server, as far as an HTTP `Date` can tell.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::{Clock, Instant};

/// Both times at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time.
    pub now: Instant,
    /// Wall time.
    pub wall: SystemTime,
}

impl Moment {
    /// This moment, by `clock`.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self { now: clock.now(), wall: clock.wall() }
    }
}

/// How far this machine's wall clock is ahead of a server's, and how sure that is. People look at it and nothing else
/// does: no `iat` is ever shifted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Offset {
    /// Milliseconds by which this machine is ahead; negative when it is behind.
    pub ahead_ms: i64,
    /// It may be that many milliseconds more or less: half of the way to the server and back, and half a second, since
    /// `Date` has whole seconds.
    pub uncertainty_ms: u64,
}

/// A `Date` has whole seconds: the server's clock was somewhere between it and the next.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// When the two clocks of this machine disagree by more than this about how long an exchange took, the wall clock was
/// set meanwhile.
const WAS_SET: Duration = Duration::from_secs(1);

impl Offset {
    /// Compares `date`, which a server wrote into its answer (RFC 9110 section 6.6.1), with this machine's time halfway
    /// between `sent` and `received`. `None` when this machine's wall clock was set between the two.
    #[must_use]
    pub fn measured(sent: Moment, received: Moment, date: SystemTime) -> Option<Self> {
        let way = received.now.since(sent.now);
        if apart(sent.wall + way, received.wall).1 > WAS_SET {
            return None;
        }
        let (is_ahead, distance) = apart(sent.wall + way / 2, date + HALF_A_SECOND);
        let distance = i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
        let uncertainty = way / 2 + HALF_A_SECOND;
        Some(Self {
            ahead_ms: if is_ahead { distance } else { -distance },
            uncertainty_ms: u64::try_from(uncertainty.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// `12 s ahead of Maskinporten's`, `3 s behind Maskinporten's`: `whose` is the other clock.
    #[must_use]
    pub fn compared_with(self, whose: &str) -> String {
        format!("{self} {}{whose}'s", if self.seconds() < 0 { "" } else { "of " })
    }

    /// Whole seconds, to the nearest.
    fn seconds(self) -> i64 {
        self.ahead_ms.saturating_add(500).div_euclid(1_000)
    }

    /// Whether the clocks are further apart than `limit`, with all that is uncertain taken off.
    #[must_use]
    pub fn surely_exceeds(self, limit: Duration) -> bool {
        u128::from(self.ahead_ms.unsigned_abs().saturating_sub(self.uncertainty_ms)) > limit.as_millis()
    }
}

/// `12 s ahead`, `3 s behind`.
impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        write!(f, "{} s {}", seconds.unsigned_abs(), if seconds < 0 { "behind" } else { "ahead" })
    }
}

/// Whether `one` is later than `other`, and how far they are apart.
fn apart(one: SystemTime, other: SystemTime) -> (bool, Duration) {
    match one.duration_since(other) {
        Ok(later) => (true, later),
        Err(earlier) => (false, earlier.duration()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// Two moments of one machine, `way` milliseconds apart.
    fn exchange(wall: u64, way: u64) -> (Moment, Moment) {
        let now = ManualClock::at(UNIX_EPOCH).now();
        let way = Duration::from_millis(way);
        (Moment { now, wall: at(wall) }, Moment { now: now + way, wall: at(wall) + way })
    }

    proptest! {
        /// Whatever the way costs, and wherever on it the server looked at its clock.
        #[test]
        fn the_true_offset_is_within_the_uncertainty(
            wall in 1_000_000_000_000_u64..2_000_000_000_000,
            truth in -100_000_i64..100_000,
            way in 0_u64..30_000,
            percent_of_it in 0_u64..=100,
        ) {
            let (sent, received) = exchange(wall, way);
            let server_reads = (wall + way * percent_of_it / 100).saturating_add_signed(-truth);
            let offset = Offset::measured(sent, received, at(server_reads / 1_000 * 1_000)).unwrap();
            prop_assert!(offset.ahead_ms.abs_diff(truth) <= offset.uncertainty_ms + 1, "{offset:?}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_during_the_exchange_measures_nothing() {
        let (sent, mut received) = exchange(1_000_000, 100);
        received.wall += Duration::from_secs(3);
        assert_eq!(Offset::measured(sent, received, at(1_000_000)), None);
        received.wall -= Duration::from_secs(6);
        assert_eq!(Offset::measured(sent, received, at(1_000_000)), None);
    }

    #[test]
    fn it_is_said_as_people_say_it() {
        let (sent, received) = exchange(60_500, 0);
        let said = |date| Offset::measured(sent, received, at(date)).unwrap().to_string();
        assert_eq!([said(48_000), said(60_000), said(90_000)], ["12 s ahead", "0 s ahead", "30 s behind"]);
        let compared =
            |date| Offset::measured(sent, received, at(date)).unwrap().compared_with("Maskinporten");
        assert_eq!(
            [compared(48_000), compared(90_000)],
            ["12 s ahead of Maskinporten's", "30 s behind Maskinporten's"]
        );
    }

    #[test]
    fn a_slow_answer_proves_less() {
        let exceeds_5_s = |way| {
            let (sent, received) = exchange(100_000, way);
            Offset::measured(sent, received, at(107_000)).unwrap().surely_exceeds(Duration::from_secs(5))
        };
        assert!(exceeds_5_s(200));
        assert!(!exceeds_5_s(20_000));
    }
}
