//! How large a library's process has grown: many libraries lose memory, and never give it back.

use crate::clock::Instant;

use super::LOOK;

/// What is known of the size of one process, in MiB.
pub(super) struct Growth {
    limit: u64,
    /// When it had answered for the first time: the library is loaded by then, and has lost nothing yet.
    usual: Option<u64>,
    looked: Instant,
    size: Size,
}

/// How large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Usual,
    /// Larger than its limit. Nothing is urgent: it ends when its jobs are done.
    Beyond(u64),
    /// So large that its jobs are not waited for.
    FarBeyond(u64),
}

impl Growth {
    pub(super) fn new(limit: u64, now: Instant) -> Self {
        Self { limit, usual: None, looked: now, size: Size::Usual }
    }

    /// How large it is, by `memory`, which is asked once in a while.
    pub(super) fn look(
        &mut self,
        memory: impl Fn() -> Option<u64>,
        has_answered: bool,
        now: Instant,
    ) -> Size {
        if has_answered && self.usual.is_none() {
            self.usual = memory();
            if self.usual.is_some_and(|usual| usual > self.limit) {
                let (usual, limit) = (self.usual, self.limit);
                tracing::warn!(
                    usual,
                    limit,
                    "the library's process is larger than its limit (module.memory_limit_mb) from the start"
                );
            }
        }
        if now.since(self.looked) >= LOOK
            && let Some(memory) = memory()
        {
            self.looked = now;
            let most = self.most();
            if memory > most.saturating_mul(2) {
                self.size = Size::FarBeyond(memory);
            } else if memory > most {
                self.size = Size::Beyond(memory);
            }
        }
        self.size
    }

    /// The most that it may take up. One that is larger than its limit from the start has not lost anything: the next
    /// would be as large, and cost a login.
    pub(super) fn most(&self) -> u64 {
        self.usual.filter(|usual| *usual > self.limit).map_or(self.limit, |usual| usual.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::UNIX_EPOCH};

    use super::*;
    use crate::clock::{Clock as _, ManualClock};

    /// The sizes of a process that has answered at its first look, one for each second.
    fn sizes(limit: u64, memory: &[u64]) -> Vec<Size> {
        let clock = ManualClock::at(UNIX_EPOCH);
        let mut growth = Growth::new(limit, clock.now());
        let now = Cell::new(0);
        let mut look = |memory: &u64| {
            now.set(*memory);
            let size = growth.look(|| Some(now.get()), true, clock.now());
            clock.advance(LOOK);
            size
        };
        memory.iter().map(&mut look).collect()
    }

    #[test]
    fn a_process_that_grows_beyond_its_limit_is_replaced_and_waited_for_unless_it_grows_on() {
        use Size::{Beyond, FarBeyond, Usual};
        assert_eq!(sizes(100, &[40, 60, 100, 101, 90]), [Usual, Usual, Usual, Beyond(101), Beyond(101)]);
        assert_eq!(sizes(100, &[40, 150, 201]), [Usual, Beyond(150), FarBeyond(201)]);
    }

    #[test]
    fn a_process_that_is_larger_than_its_limit_from_the_start_is_not_replaced_by_one_that_is_as_large() {
        use Size::{Beyond, Usual};
        assert_eq!(sizes(100, &[150, 150, 300, 301]), [Usual, Usual, Usual, Beyond(301)]);
    }
}
