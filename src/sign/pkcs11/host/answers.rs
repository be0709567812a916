//! What the process says: answers to jobs, and questions about logins.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, atomic::Ordering},
};

use super::{
    super::{job::Answer, login::Logins},
    Host,
    frame::{FromHost, LoginQuestion, decoded, encoded, encoded_pin},
    link::Link,
    process::{Channel, Child, Received},
};
use crate::sign::PinProblem;

impl Host {
    /// Takes what has come. `false`: the process has ended.
    pub(super) fn take_answers(&self, child: &Child, buffer: &mut [u8]) -> Result<bool, String> {
        loop {
            let length = match child.jobs.try_receive(buffer).map_err(|why| why.to_string())? {
                Received::Message(length) => length,
                Received::Nothing => return Ok(true),
                Received::End => return Ok(false),
            };
            match decoded(buffer.get(..length).unwrap_or_default())? {
                FromHost::Ready { version } if version == env!("CARGO_PKG_VERSION") => {
                    let jobs = child.jobs.as_fd().try_clone_to_owned().map_err(|why| why.to_string())?;
                    let base = self.generation.load(Ordering::Acquire);
                    *self.link() = Some(Link::over(Channel::over(jobs), base, self.clock.now()));
                }
                FromHost::Ready { version } => {
                    return Err(format!("is of version {version}, not {}", env!("CARGO_PKG_VERSION")));
                }
                FromHost::Piece { id, bytes, last } => self.take_piece(id, bytes, last)?,
            }
        }
    }

    fn take_piece(&self, id: u64, bytes: Vec<u8>, last: bool) -> Result<(), String> {
        let (answer, base) = {
            let mut guard = self.link();
            let link = guard.as_mut().ok_or("answered before it greeted")?;
            let now = self.clock.now();
            (link.take_piece(id, bytes, last, now, (&self.profile, &self.ladder))?, link.base)
        };
        let Some((mut answer, reply)) = answer else { return Ok(()) };
        match &mut answer {
            Ok(Answer::Signature(signature)) => {
                signature.key.generation = self.counted(base, signature.key.generation);
            }
            Ok(Answer::Key(key)) => key.generation = self.counted(base, key.generation),
            _ => {}
        }
        reply.send(answer);
        Ok(())
    }

    /// The process's generation, in the count of all processes of this library so far.
    fn counted(&self, base: u64, generation: u64) -> u64 {
        let generation = base.saturating_add(generation);
        self.generation.fetch_max(generation, Ordering::AcqRel);
        generation
    }

    /// One question about a login; `false` when no more will come. While a person types a PIN, nothing hangs.
    pub(super) fn answer_login(&self, logins: &Channel, buffer: &mut [u8]) -> Result<bool, String> {
        let said = |why: std::io::Error| why.to_string();
        let length = match logins.try_receive(buffer).map_err(said)? {
            Received::Message(length) => length,
            Received::Nothing => return Ok(true),
            // The other socket tells how the process ended, if it did.
            Received::End => return Ok(false),
        };
        let asked = self.clock.now();
        match decoded(buffer.get(..length).unwrap_or_default())? {
            LoginQuestion::Authorize { job, request } => {
                let pin = match self.logins_of(job) {
                    Some(logins) => logins.authorize(&request),
                    None => Err(PinProblem::Missing),
                };
                self.is_logging_in(pin.is_ok());
                logins.send(&encoded_pin(&pin)?).map_err(said)?;
            }
            LoginQuestion::Ended { job, request, outcome } => {
                let again = self.logins_of(job).is_some_and(|logins| logins.ended(&request, &outcome));
                self.is_logging_in(false);
                logins.send(&encoded(&again)?).map_err(said)?;
            }
        }
        self.excuse(self.clock.now().since(asked));
        Ok(true)
    }

    fn is_logging_in(&self, is: bool) {
        if let Some(link) = self.link().as_mut() {
            link.logging_in = is;
        }
    }

    fn logins_of(&self, job: u64) -> Option<Arc<dyn Logins>> {
        self.link().as_ref()?.in_flight.get(&job).map(|flight| flight.logins.clone())
    }
}
