use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the library's errors mean, and how soon the device is asked again after them.
///
/// The lists hold codes by their names or numbers (`CKR_DEVICE_ERROR`, `0x80000384`), answered by any function or by one
/// (`C_Sign:CKR_DEVICE_ERROR`). What concerns a PIN cannot be in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Errors {
    /// The device or its link is gone: the library is started anew.
    pub reinit: Vec<String>,
    /// It passes by itself: the same is asked once more; a signature twice, on new sessions.
    pub transient: Vec<String>,
    /// Nothing helps: the error is the answer.
    pub fatal: Vec<String>,
    /// The device has more to do than it can: the caller comes again later. Only a signature that is refused so is tried
    /// again, on new sessions, then with the library started anew.
    pub busy: Vec<String>,
    /// How the library is started anew.
    pub reinit_kind: ReinitKind,
    /// So many failures of the device within a minute, and it is left alone (1 to 100).
    pub open_after: u32,
    /// A device that was left alone is asked again after so many milliseconds (10 to 600000), after twice as many when
    /// it fails again ...
    pub first_retry_ms: u64,
    /// ... up to so many (10 to 600000).
    pub longest_retry_ms: u64,
    /// What it is asked then.
    pub probe: Probe,
}

/// How a library is started anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReinitKind {
    /// By C_Finalize and C_Initialize; by a new process when that did not help.
    #[default]
    InPlace,
    /// By a new process: C_Finalize and C_Initialize do not help. Within Segl's own process, in place all the same.
    Process,
}

/// What a device that was away is asked before callers are let through to it again. It must reach the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Probe {
    /// A session is opened, and a key looked for in it.
    #[default]
    Find,
    /// A session is opened, and a random number asked for: for libraries that search in what they remember.
    Random,
}

impl Errors {
    /// The first pause, and the longest.
    #[must_use]
    pub fn pauses(&self) -> (Duration, Duration) {
        (Duration::from_millis(self.first_retry_ms), Duration::from_millis(self.longest_retry_ms))
    }
}

impl Default for Errors {
    fn default() -> Self {
        Self {
            reinit: Vec::new(),
            transient: Vec::new(),
            fatal: Vec::new(),
            busy: Vec::new(),
            reinit_kind: ReinitKind::InPlace,
            open_after: 3,
            first_retry_ms: 250,
            longest_retry_ms: 1000,
            probe: Probe::Find,
        }
    }
}
