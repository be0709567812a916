//! How libraries are run.

use std::sync::Arc;

use super::{HostProgram, PinRecords, Profiles};

/// How libraries are run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Manner {
    /// What is known of kinds of devices.
    pub profiles: Arc<Profiles>,
    /// The program that libraries run in which are to have a process of their own.
    pub program: HostProgram,
    /// For looking at libraries that nobody has chosen: each gets a process of its own, whatever its profile says, and
    /// that process ends when a job's deadline has passed.
    pub look_around: bool,
    /// Loads libraries even when others than root and the running user can change them
    /// ([`check_trust`](super::check_trust)). Such a library sees the PIN. For a person who has looked at it, and for
    /// tests that build their own.
    pub trust_any: bool,
    /// Where it is kept how many PIN tries have been spent. In memory by default; programs that are started again and
    /// again, by a supervisor for example, want [`PinRecords::Usual`], as the pipeline and the command line do.
    pub pin_records: PinRecords,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            profiles: Arc::new(Profiles::embedded()),
            program: HostProgram::default(),
            look_around: false,
            trust_any: false,
            pin_records: PinRecords::Memory,
        }
    }
}
