//! Lanes: the threads that call into a library, each with one job at a time.

use std::sync::Arc;

use super::{
    owner::Owner,
    queue::{Queue, Ticket},
};
use crate::clock::Clock;

/// One lane. It ends when the queue is closed; the last one to end finalizes the library.
pub(super) struct Lane {
    pub(super) owner: Arc<Owner>,
    pub(super) queue: Arc<Queue>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Lane {
    /// Does jobs until the queue is closed. Blocks.
    pub(super) fn run(self) {
        // However this thread ends, nobody is left waiting for it.
        let _close = self.queue.close_on_drop();
        while let Some(ticket) = self.queue.take() {
            let Ticket { job, make, made, logins, deadline, reply, .. } = ticket;
            if reply.is_gone() || self.clock.now() >= deadline {
                reply.send(Err(crate::sign::Error::Deadline));
                continue;
            }
            let _span = tracing::debug_span!("pkcs11", job = job.name()).entered();
            let answer = self.owner.answer(&job, make, made, logins.as_ref());
            if let Err(error) = &answer {
                tracing::debug!(job = job.name(), %error, "the job failed");
            }
            reply.send(answer);
        }
    }
}
