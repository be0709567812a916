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
                tell(logins, &encoded_pin(&pin)?)?;
            }
            LoginQuestion::Ended { job, request, outcome } => {
                let again = self.logins_of(job).is_some_and(|logins| logins.ended(&request, &outcome));
                self.is_logging_in(false);
                tell(logins, &encoded(&again)?)?;
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

/// Answers a question about a login. Who asks waits for the answer, so there is room for it; a process that goes on
/// asking and reads nothing is not waited for: nobody else would end it.
fn tell(logins: &Channel, answer: &[u8]) -> Result<(), String> {
    match logins.try_send(answer) {
        Ok(true) => Ok(()),
        Ok(false) => Err("asks for logins and does not take the answers".into()),
        Err(why) => Err(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{login::LoginRequest, profile::Profile},
            HostProgram,
        },
        *,
    };
    use crate::clock::SystemClock;

    #[test]
    fn a_process_that_asks_for_logins_without_end_and_reads_nothing_keeps_nobody_waiting() {
        let profile = Arc::new(Profile::unknown());
        let host = Host::new(
            HostProgram::default(),
            "/m.so".into(),
            profile,
            SystemClock::shared(),
            Arc::default(),
            Arc::default(),
            false,
        );
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::over(theirs);
        let request = LoginRequest::sample("ci", "1");
        let question = encoded(&LoginQuestion::Authorize { job: 0, request }).unwrap();
        let mut buffer = vec![0; 4096];
        let mut answer = || {
            theirs.send(&question).unwrap();
            host.answer_login(&ours, &mut buffer)
        };
        let refused = std::iter::repeat_with(&mut answer).find_map(Result::err);
        assert_eq!(refused.unwrap(), "asks for logins and does not take the answers");
    }
}
