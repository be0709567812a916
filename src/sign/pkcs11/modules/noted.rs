use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::{
    breaker::{Breaker, Whose},
    job::{Answer, Job},
    login::Guarded,
    queue::{Queue, Reply},
};
use crate::sign::Error;

/// The way back to who asked, past the breaker.
pub(super) struct Noted {
    pub(super) reply: oneshot::Sender<Result<Answer, Error>>,
    /// None where it is the breaker that asked.
    pub(super) breaker: Option<Arc<Breaker>>,
    pub(super) queue: Arc<Queue>,
    pub(super) whose: Whose,
    pub(super) logins: Arc<Guarded>,
}

impl Reply for Noted {
    fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    fn send(self: Box<Self>, answer: Result<Answer, Error>) {
        let breaker = self.breaker.as_ref();
        let opened = breaker.and_then(|breaker| breaker.note(&self.whose, &answer, self.logins.asked()));
        if let Some((whose, error)) = opened {
            let is_probe = |job: &Job| matches!(job, Job::Probe { .. });
            let concerned = |job: &Job| !is_probe(job) && (whose.is_none() || job.device() == whose);
            for ticket in self.queue.take_out(concerned) {
                ticket.reply.send(Err(error.clone()));
            }
        }
        Box::new(self.reply).send(answer);
    }
}
