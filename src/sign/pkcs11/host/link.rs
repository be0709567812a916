use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    super::{
        Uri,
        job::{Answer, Job},
        ladder::{Ladder, Rung},
        login::Logins,
        owner::{LONGEST_WAIT_OF_A_MESSAGE, LOOK_AGAIN},
        profile::Profile,
        queue::{Reply, Ticket},
    },
    frame::{Pieces, ToHost, encoded},
    process::Channel,
};
use crate::{
    clock::{Clock, Instant, SystemClock},
    sign::{Error, MakeMessage},
};

/// The process that runs now, and the jobs that it has been given.
pub(super) struct Link {
    pub(super) jobs: Channel,
    pub(super) in_flight: HashMap<u64, InFlight>,
    /// What is added to the generations that this process counts from 1.
    pub(super) base: u64,
    /// It has answered something.
    pub(super) answered: bool,
    /// Jobs that the next process is to do, because a new one may find their device again.
    pub(super) parked: Vec<InFlight>,
    /// What the last answer said is gone.
    gone: Option<Gone>,
    /// Devices that this process has done something with.
    good: HashSet<Option<Uri>>,
    since: Instant,
    /// A login has been authorised, and how it ended has not been told.
    pub(super) logging_in: bool,
    /// Another process is to take its place: it is given no more jobs, as those would be lost with it.
    pub(super) is_leaving: bool,
    next: u64,
}

/// A device that is gone, or the library.
struct Gone {
    device: Option<Uri>,
    /// Nobody wants it.
    for_nobody: bool,
}

/// A job that the process has been given.
pub(super) struct InFlight {
    pub(super) job: Job,
    pub(super) logins: Arc<dyn Logins>,
    asked: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: Box<dyn Reply>,
    /// It was given to another process before that ended.
    pub(super) again: bool,
    /// When it was given; later by the time that a person took to type a PIN, or others took that went before.
    pub(super) sent: Instant,
    message: Option<(Vec<u8>, Instant)>,
    pieces: Pieces,
}

/// What became of a ticket.
pub(super) enum Handed {
    /// The process has it.
    Over,
    /// The socket is full, or the process has just ended.
    Back(Box<Ticket>),
    /// It can never be given to the process.
    Unfit(Box<dyn Reply>, String),
}

/// An answer, and the way to who asked.
type Settled = (Result<Answer, Error>, Box<dyn Reply>);

impl Link {
    pub(super) fn over(jobs: Channel, base: u64, now: Instant) -> Self {
        Self {
            jobs,
            in_flight: HashMap::new(),
            base,
            answered: false,
            parked: Vec::new(),
            gone: None,
            good: HashSet::new(),
            since: now,
            logging_in: false,
            is_leaving: false,
            next: 0,
        }
    }

    /// Whether a new process should take its place: a device is gone for it, and nobody else waits for it.
    pub(super) fn is_at_a_loss(&self, now: Instant, profile: &Profile) -> bool {
        let renews = !self.parked.is_empty()
            || self.gone.as_ref().is_some_and(|gone| self.may_be_renewed(gone, now, profile));
        self.in_flight.is_empty() && renews
    }

    /// A new process costs all other devices of the library their sessions, and some libraries minutes.
    fn may_be_renewed(&self, gone: &Gone, now: Instant, profile: &Profile) -> bool {
        let age = now.since(self.since);
        let others = self.good.iter().any(|other| *other != gone.device);
        match (others, gone.for_nobody) {
            (true, true) => false,
            (false, false) => age >= profile.errors.pauses().0,
            _ => age >= LOOK_AGAIN,
        }
    }

    /// Gives the process a job. What it is to sign is made now: the device's turn has come, as far as can be told from
    /// here.
    pub(super) fn hand_over(&mut self, ticket: Ticket, now: Instant) -> Handed {
        let Ticket { job, make, made, logins, asked, deadline, reply, again } = ticket;
        let message = make.map(|make| (make(), made.unwrap_or(now)));
        let id = self.next;
        self.next += 1;
        let frame = ToHost::Ask {
            id,
            expires: SystemClock.now() + deadline.since(now),
            job,
            message: message.as_ref().map(|(message, made)| {
                // In the system's clock, as the other side has no other.
                (message.clone(), SystemClock.now() - now.since(*made))
            }),
        };
        let sent = encoded(&frame).map(|bytes| self.jobs.try_send(&bytes));
        let ToHost::Ask { job, .. } = frame else { return Handed::Over };
        let flight = InFlight {
            job,
            logins,
            asked,
            deadline,
            reply,
            again,
            sent: now,
            message,
            pieces: Pieces::default(),
        };
        match sent {
            Ok(Ok(true)) => {
                self.in_flight.insert(id, flight);
                Handed::Over
            }
            Ok(_) => Handed::Back(Box::new(flight.into_ticket())),
            Err(problem) => Handed::Unfit(flight.reply, problem),
        }
    }

    /// Takes a piece of an answer; the answer, once it is whole.
    pub(super) fn take_piece(
        &mut self,
        id: u64,
        bytes: Vec<u8>,
        last: bool,
        now: Instant,
        (profile, ladder): (&Profile, &Ladder),
    ) -> Result<Option<Settled>, String> {
        let flight = self.in_flight.get_mut(&id).ok_or("answered a job that it was not given")?;
        let Some(mut answer) = flight.pieces.take(bytes, last)? else { return Ok(None) };
        self.answered = true;
        let Some(flight) = self.in_flight.remove(&id) else { return Ok(None) };
        let device = flight.job.device();
        self.gone = None;
        // A question is alone inside the library: as long as others are answered, it has not been begun.
        for waiting in self.in_flight.values_mut().filter(|waiting| waiting.job.is_for_nobody()) {
            waiting.sent = now;
        }
        match &answer {
            Ok(_) => {
                self.good.insert(device);
            }
            Err(error) if ladder.has(Rung::NewProcess, error) => {
                let gone = Gone { device, for_nobody: flight.job.is_for_nobody() };
                if ladder.is_by_process()
                    && flight.may_be_done_again(now)
                    && self.may_be_renewed(&gone, now, profile)
                {
                    self.parked.push(flight);
                    return Ok(None);
                }
                self.gone = Some(gone);
                // Before whoever hears of it asks again: that is for the next process.
                self.is_leaving |= self.is_at_a_loss(now, profile);
            }
            Err(_) => {}
        }
        if let Ok(Answer::Signature(signature)) = &mut answer {
            // It did not come back over the socket.
            signature.message = flight.message.map(|(message, _)| message).unwrap_or_default();
        }
        Ok(Some((answer, flight.reply)))
    }

    /// Time that counts against no job. One that was given in the course of it has not waited for all of it: that it hangs
    /// would be noticed so much later.
    pub(super) fn excuse(&mut self, time: Duration, now: Instant) {
        for flight in self.in_flight.values_mut() {
            flight.sent = (flight.sent + time).min(now);
        }
    }

    /// What to say of the process when one of its jobs takes longer than anything that still works. `impatient`: or
    /// longer than who asked for it waits.
    pub(super) fn late(&self, now: Instant, profile: &Profile, impatient: bool) -> Option<String> {
        // A job may wait for another, and in the middle of one the library may be initialized anew.
        let init = profile.module.init_timeout();
        let limit = init + profile.sign.call_timeout() * 2;
        let own = |flight: &InFlight| match &flight.job {
            Job::Sign(_) | Job::Find(_) | Job::Probe { .. } => Duration::ZERO,
            Job::Try { trial, .. } => trial.lasts(&profile.module),
            // A long key takes as long as whoever asked for it is willing to wait.
            Job::Generate { .. } => flight.deadline.since(flight.sent),
            _ => init,
        };
        let longest = self.in_flight.values().map(own).max().unwrap_or_default();
        let (_, late) = self.in_flight.iter().find(|(id, flight)| {
            let most =
                if self.is_held_up_by(**id, flight) { profile.sign.call_timeout() } else { limit + longest };
            now.since(flight.sent) > most || (impatient && now >= flight.deadline)
        })?;
        let waited = now.since(late.sent).as_secs();
        Some(format!("hung in {} for {waited} s and was ended", late.job.name()))
    }

    /// Whether it is this job alone that others wait for, and one for which nobody waits. It starts no library anew: the
    /// process has answered, so that is done.
    fn is_held_up_by(&self, id: u64, flight: &InFlight) -> bool {
        let is_short = |job: &Job| matches!(job, Job::Sign(_) | Job::Find(_) | Job::Probe { .. });
        self.answered
            && flight.job.is_for_nobody()
            && self.in_flight.iter().all(|(other, in_flight)| *other >= id && is_short(&in_flight.job))
    }
}

impl InFlight {
    /// Whether it changes nothing, and may be done once more.
    pub(super) fn is_repeatable(&self) -> bool {
        matches!(self.job, Job::Sign(_) | Job::Find(_) | Job::Certificates(_))
    }

    /// Whether the next process may do it: it was not done again already.
    fn may_be_done_again(&self, now: Instant) -> bool {
        self.is_repeatable() && !self.again && !self.is_stale(now)
    }

    /// Whether its message is too old to be signed by another process.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.message.as_ref().is_some_and(|(_, made)| now.since(*made) > LONGEST_WAIT_OF_A_MESSAGE)
    }

    /// As it was before it was given to the process, but that its message has been made.
    pub(super) fn into_ticket(self) -> Ticket {
        let Self { job, message, logins, asked, deadline, reply, again, .. } = self;
        let made = message.as_ref().map(|(_, made)| *made);
        let make = message.map(|(message, _)| Box::new(move || message) as MakeMessage);
        Ticket { job, make, made, logins, asked, deadline, reply, again }
    }
}

#[cfg(test)]
mod tests;
