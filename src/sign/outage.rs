use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::clock;

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
