use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::clock;

/// Who does not answer at all holds up those who ask: it is left alone for so long at first, and at most.
pub(super) const AFTER_SILENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// How long one is left alone that had failed so many times `before`: the first time as long as `first`, then twice as long
/// each time, up to `longest`.
pub(super) fn pause((first, longest): (Duration, Duration), before: u32) -> Duration {
    longest.min(first.saturating_mul(2_u32.saturating_pow(before)))
}

/// A device, or the library in front of it, that failed and is left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outage {
    /// Which, as a person would name it.
    pub device: String,
    /// Since when (wall time).
    pub since: SystemTime,
    /// What it said last.
    pub error: Box<Error>,
    /// How long from now until it is asked again; nothing while it is being asked.
    pub again: Duration,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, since, error, again } = self;
        write!(f, "{device} is away since {}: {error}; ", clock::utc(*since))?;
        match again.as_millis() {
            0 => f.write_str("it is being asked again"),
            milliseconds if milliseconds < 10_000 => {
                write!(f, "it is asked again in {}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
            }
            milliseconds => write!(f, "it is asked again in {} s", milliseconds / 1000),
        }
    }
}
