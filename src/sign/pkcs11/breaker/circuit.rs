use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use super::super::login::LoginRequest;
use crate::{
    clock::{self, Instant},
    sign::{
        Error, Outage,
        outage::{AFTER_SILENCE, pause},
    },
};

/// Failures longer ago than this do not count any more.
const RECENT: Duration = Duration::from_secs(60);

/// What is known of one device, or of the library.
pub(super) struct Circuit {
    /// As people know it.
    pub(super) name: String,
    pub(super) state: State,
    /// Recent failures, while it is closed.
    failures: VecDeque<Instant>,
    /// How often it has been asked in vain since something went well.
    in_vain: u32,
    /// When it was last found to be back.
    pub(super) answered: Option<Instant>,
}

pub(super) enum State {
    Closed,
    Open(Box<Open>),
}

pub(super) struct Open {
    /// What it said last.
    pub(super) error: Error,
    pub(super) since: SystemTime,
    /// When it is asked again.
    pub(super) due: Instant,
    /// It is being asked.
    pub(super) is_asked: bool,
    /// How often it has been.
    pub(super) probes: u64,
    /// Somebody was turned away since this was looked at last.
    pub(super) is_missed: bool,
    /// How often it has not answered at all, since it last did.
    silences: u32,
    /// The login that was refused, if that is what is the matter.
    pub(super) request: Option<LoginRequest>,
}

/// A refused login, and when one is tried again whatever became of it.
pub(super) type Refused = (LoginRequest, Instant);

impl Open {
    pub(super) fn refused(&self) -> Option<Refused> {
        Some((self.request.clone()?, self.due))
    }
}

impl Circuit {
    pub(super) fn named(name: String) -> Self {
        Self { name, state: State::Closed, failures: VecDeque::new(), in_vain: 0, answered: None }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    pub(super) fn open_one(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Closed => None,
        }
    }

    /// Whether somebody is to find out when it is back. Whether a login is possible again, those find out who need one.
    pub(super) fn is_to_be_asked(&self) -> bool {
        matches!(&self.state, State::Open(open) if !matches!(open.error, Error::Pin { .. }))
    }

    /// It answered a job; `well`: as it should.
    pub(super) fn is_alive(&mut self, well: bool, now: Instant) {
        if let State::Open(open) = &self.state {
            if !well {
                return;
            }
            tracing::info!(device = %self.name, away_since = %clock::utc(open.since), "is back");
            self.state = State::Closed;
            self.answered = Some(now);
        }
        self.failures.clear();
        if well {
            self.in_vain = 0;
        }
    }

    /// It showed what is on it. That is the end of a login that was refused, and nothing else: each request that a failed
    /// signature leads to begins so, and a device that can do no more must not count as well in between.
    pub(super) fn let_in(&mut self) {
        if let State::Open(open) = &self.state
            && matches!(open.error, Error::Pin { .. })
        {
            tracing::info!(device = %self.name, away_since = %clock::utc(open.since), "lets users log in again");
            self.state = State::Closed;
        }
    }

    /// A job failed. Whether that has opened it.
    pub(super) fn failed(
        &mut self,
        error: &Error,
        open_after: u32,
        now: Instant,
        wall: SystemTime,
        pauses: (Duration, Duration),
    ) -> bool {
        if let State::Open(open) = &mut self.state {
            if !matches!(open.error, Error::Pin { .. }) {
                open.error = error.clone();
                return false;
            }
            // Whether the PIN is right has not been found out: the next one finds out, and not at once.
            open.request = None;
            self.later(now, pauses);
            return false;
        }
        self.failures.retain(|failure| now.since(*failure) < RECENT);
        self.failures.push_back(now);
        if self.failures.len() < open_after as usize {
            return false;
        }
        self.open(error, None, now, wall, pauses);
        true
    }

    /// Its PIN was refused, or is locked.
    pub(super) fn refused(
        &mut self,
        error: &Error,
        request: Option<LoginRequest>,
        now: Instant,
        wall: SystemTime,
        pauses: (Duration, Duration),
    ) {
        match &mut self.state {
            State::Open(open) if matches!(open.error, Error::Pin { .. }) => {
                open.error = error.clone();
                open.request = request;
                open.is_asked = false;
                self.later(now, pauses);
            }
            _ => self.open(error, request, now, wall, pauses),
        }
    }

    /// It was asked whether it is back.
    pub(super) fn probed(
        &mut self,
        outcome: Result<(), &Error>,
        open_after: u32,
        now: Instant,
        pauses: (Duration, Duration),
    ) {
        let State::Open(open) = &mut self.state else { return };
        match outcome {
            Ok(()) => {
                tracing::info!(device = %self.name, away_since = %clock::utc(open.since), "answers again");
                self.state = State::Closed;
                self.answered = Some(now);
                // On trial: the next failure opens it again, and for longer, unless something goes well before.
                self.failures = (1..open_after).map(|_| now).collect();
                self.in_vain = self.in_vain.saturating_add(1);
            }
            Err(error) => {
                open.probes += 1;
                if !matches!(error, Error::Deadline | Error::Busy { .. }) {
                    open.error = error.clone();
                }
                self.later(now, pauses);
            }
        }
    }

    /// Whether it was silent when it was asked. Where it has others, its questions hold them up: each time it is silent,
    /// it is left alone for longer.
    pub(super) fn heard(&mut self, is_silent: bool, has_others: bool, now: Instant) {
        let State::Open(open) = &mut self.state else { return };
        if !is_silent {
            open.silences = 0;
            return;
        }
        if has_others {
            open.due = open.due.max(now + pause(AFTER_SILENCE, open.silences));
        }
        open.silences = open.silences.saturating_add(1);
    }

    /// Whether it did not answer at all when it was asked last.
    pub(super) fn is_silent(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.silences > 0)
    }

    /// Whether somebody was turned away since this was asked last, and more can be done about it than to ask. After a
    /// silence the process is another one already.
    pub(super) fn was_missed(&mut self) -> bool {
        let State::Open(open) = &mut self.state else { return false };
        std::mem::take(&mut open.is_missed) && open.silences == 0
    }

    /// Nobody asks it any more.
    pub(super) fn release(&mut self) {
        if let State::Open(open) = &mut self.state {
            open.is_asked = false;
        }
    }

    /// What is to be said of it, if it is away.
    pub(super) fn outage(&self, now: Instant) -> Option<Outage> {
        let State::Open(open) = &self.state else { return None };
        Some(Outage {
            device: self.name.clone(),
            since: open.since,
            error: Box::new(open.error.clone()),
            again: open.due.since(now),
        })
    }

    fn open(
        &mut self,
        error: &Error,
        request: Option<LoginRequest>,
        now: Instant,
        since: SystemTime,
        pauses: (Duration, Duration),
    ) {
        let pause = pause(pauses, self.in_vain);
        tracing::warn!(device = %self.name, %error, again_in = ?pause, "is left alone");
        let (error, due) = (error.clone(), now + pause);
        self.state = State::Open(Box::new(Open {
            error,
            since,
            due,
            is_asked: false,
            probes: 0,
            is_missed: false,
            silences: 0,
            request,
        }));
        self.failures.clear();
    }

    /// It was asked in vain, and is asked again later than the last time.
    fn later(&mut self, now: Instant, pauses: (Duration, Duration)) {
        self.in_vain = self.in_vain.saturating_add(1);
        if let State::Open(open) = &mut self.state {
            open.due = now + pause(pauses, self.in_vain);
        }
    }
}
