//! The system's clock, ahead of it by as much as a test wants: devices and networks take the time they take, and the
//! life of a token passes in no time.

use std::time::{Duration, SystemTime};

use segl::clock::{BoxFuture, Clock, Instant, SystemClock};
use tokio::sync::watch;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LeapingClock {
    ahead: watch::Sender<Duration>,
}

impl LeapingClock {
    /// Lets `by` pass at once, as it does for a machine that was suspended.
    pub(crate) fn leap(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead += by);
    }
}

impl Clock for LeapingClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now() + *self.ahead.borrow()
    }

    fn now(&self) -> Instant {
        SystemClock.now() + *self.ahead.borrow()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture<'_, ()> {
        let mut ahead = self.ahead.subscribe();
        Box::pin(async move {
            loop {
                let left = at.since(self.now());
                if left.is_zero() {
                    return;
                }
                // The sender lives in `self`: a leap is the only news.
                let _ = tokio::time::timeout(left, ahead.changed()).await;
            }
        })
    }
}
