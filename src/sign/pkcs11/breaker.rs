//! Leaves a device alone that failed again and again, and finds out when it is back.
//!
//! ```text
//!              failures                       time is up
//!   closed ───────────────▶ open ──────────────────────────▶ asked (one probe at a time)
//!     ▲                      ▲  └ callers: "away", at once        │
//!     │                      └────────── it failed ◀──────────────┤
//!     └──── a job went well ◀──── on trial ◀──── it answered ◀────┘
//! ```
//!
//! To have found a key or a certificate is not yet a job that went well: the signature behind it may fail each time.
//!
//! There is one circuit for each device, and one for the library itself. After a refused PIN a circuit opens at once, and
//! nothing is asked but who logs in ([`super::guard`]): that costs no try.

mod circuit;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use self::circuit::{Circuit, Refused, State};
use super::{
    Uri,
    guard::refused_before,
    job::Answer,
    ladder::{Ladder, Verdict},
    login::LoginRequest,
    profile::Profile,
};
use crate::{
    clock::{Clock, Instant},
    sign::{Error, Outage, PinProblem},
};

/// Whose circuit: a device's, or with `None` the library's.
pub(super) type Whose = Option<Uri>;

/// The circuits of one library.
pub(super) struct Breaker {
    library: String,
    profile: Arc<Profile>,
    ladder: Ladder,
    clock: Arc<dyn Clock>,
    circuits: Mutex<HashMap<Whose, Circuit>>,
    changes: watch::Sender<u64>,
    is_watched: Mutex<bool>,
}

/// What becomes of a job.
pub(super) enum Turn {
    /// It is done.
    Go,
    /// It is done, to find out whether a login is possible again. Nobody else's is, meanwhile.
    Try(Box<Permit>),
    /// Somebody finds out just now whether a login is possible again.
    Tried {
        /// Since when, or longer.
        since: Instant,
        error: Error,
    },
    /// The device is away.
    Away {
        /// When it is asked again; already over while it is being asked.
        due: Instant,
        /// How often it has been asked since it went away.
        probes: u64,
        error: Error,
    },
    /// A person has to act first.
    Stop(Error),
}

/// The right to ask a device that is away; when it is dropped without an outcome, another may.
pub(super) struct Permit {
    breaker: Arc<Breaker>,
    whose: Whose,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(circuit) = self.breaker.circuits().get_mut(&self.whose) {
            circuit.release();
        }
        self.breaker.changed();
    }
}

impl Breaker {
    pub(super) fn new(library: String, profile: Arc<Profile>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            library,
            ladder: Ladder::of(&profile),
            profile,
            clock,
            circuits: Mutex::default(),
            changes: watch::Sender::new(0),
            is_watched: Mutex::new(false),
        })
    }

    /// Whether a job for `whose` may be done now. `might_log_in`: whether a login like the one that was refused might be
    /// granted now.
    pub(super) fn turn(
        self: &Arc<Self>,
        whose: &Whose,
        might_log_in: impl Fn(&LoginRequest) -> bool,
    ) -> Turn {
        // That is looked up on the disk, which may take its time. Whoever asks for this device waits for it, and so does what
        // else runs on that thread; callers on other threads who ask for other devices do not.
        let refused = self.refused(whose, self.clock.now());
        let might_log_in = refused.as_ref().is_some_and(|(request, _)| might_log_in(request));
        let now = self.clock.now();
        let mut circuits = self.circuits();
        for whose in std::iter::once(&None).chain(whose.is_some().then_some(whose)) {
            let Some(circuit) = circuits.get_mut(whose) else { continue };
            let State::Open(open) = &mut circuit.state else { continue };
            if let Error::Pin { device, problem } = &open.error {
                // One that was refused meanwhile has not been looked up.
                let may_try = open.due <= now || (might_log_in && open.refused() == refused);
                if may_try && !open.is_asked {
                    (open.is_asked, open.due) = (true, open.due.min(now));
                    return Turn::Try(Box::new(Permit { breaker: self.clone(), whose: whose.clone() }));
                }
                let problem = match problem {
                    PinProblem::Refused(code) => refused_before(Some(code)),
                    other => other.clone(),
                };
                let error = Error::Pin { device: device.clone(), problem };
                return if may_try { Turn::Tried { since: open.due, error } } else { Turn::Stop(error) };
            }
            let (due, probes) = (open.due, open.probes);
            open.is_missed = true;
            let outage = circuit.outage(now);
            return outage.map_or(Turn::Go, |outage| Turn::Away { due, probes, error: Error::Away(outage) });
        }
        Turn::Go
    }

    /// The refused login that stands in the way of `whose` at `now`, if one does.
    fn refused(&self, whose: &Whose, now: Instant) -> Option<Refused> {
        let circuits = self.circuits();
        let open = [&None, whose].into_iter().find_map(|whose| circuits.get(whose)?.open_one())?;
        open.refused().filter(|(_, due)| *due > now)
    }

    /// How a job ended. `request`: the login of the user that it asked for, if it did. The error with which all others
    /// are to be answered that wait for the same, when a circuit has just opened.
    pub(super) fn note(
        &self,
        whose: &Whose,
        answer: &Result<Answer, Error>,
        request: Option<LoginRequest>,
    ) -> Option<(Whose, Error)> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let mut circuits = self.circuits();
        let all_is_well = answer.is_ok() && circuits.values().all(Circuit::is_closed);
        let (verdict, error) = match answer {
            Ok(_) => (Verdict::Alive, None),
            Err(error) => (self.ladder.verdict(error), Some(error)),
        };
        let opened = match (verdict, error) {
            (Verdict::Nothing, _) | (Verdict::Pin | Verdict::Failed { .. }, None) => return None,
            // A PIN for one signature stops its key alone.
            (Verdict::Pin, _) if request.is_none() => return None,
            (Verdict::Alive, _) => {
                if let (Ok(answer), Some(_)) = (answer, whose) {
                    let circuit = self.circuit(&mut circuits, whose);
                    if let Some(name) = device_of(answer) {
                        circuit.name = name;
                    }
                }
                for whose in [&None, whose] {
                    let Some(circuit) = circuits.get_mut(whose) else { continue };
                    match answer {
                        Ok(Answer::Key(_) | Answer::Certificates(_)) => circuit.let_in(),
                        answer => circuit.is_alive(answer.is_ok(), now),
                    }
                }
                None
            }
            (Verdict::Pin, Some(error)) => {
                let circuit = self.circuit(&mut circuits, whose);
                circuit.refused(error, request, now, wall, self.pauses());
                None
            }
            (Verdict::Failed { of_library }, Some(error)) => {
                let whose = if of_library { &None } else { whose };
                let open_after = self.profile.errors.open_after;
                let circuit = self.circuit(&mut circuits, whose);
                let has_opened = circuit.failed(error, open_after, now, wall, self.pauses());
                let outage = circuit.outage(now).filter(|_| has_opened);
                outage.map(|outage| (whose.clone(), Error::Away(outage)))
            }
        };
        drop(circuits);
        if !all_is_well {
            self.changed();
        }
        opened
    }

    /// The circuit whose turn it is to be asked, or when the next one's will be. `Ok(None)`: none is open.
    pub(super) fn due(self: &Arc<Self>) -> Result<Option<Permit>, Instant> {
        let now = self.clock.now();
        let mut circuits = self.circuits();
        let mut next: Option<Instant> = None;
        for (whose, circuit) in circuits.iter_mut().filter(|(_, circuit)| circuit.is_to_be_asked()) {
            let State::Open(open) = &mut circuit.state else { continue };
            if open.is_asked {
                continue;
            }
            if open.due <= now {
                open.is_asked = true;
                return Ok(Some(Permit { breaker: self.clone(), whose: whose.clone() }));
            }
            next = Some(next.map_or(open.due, |next| next.min(open.due)));
        }
        next.map_or(Ok(None), Err)
    }

    /// Whether somebody wanted the device since this was asked last.
    pub(super) fn was_missed(&self, whose: &Whose) -> bool {
        self.circuits().get_mut(whose).is_some_and(Circuit::was_missed)
    }

    /// What the device of a permit answered when it was asked.
    pub(super) fn probed(&self, permit: Permit, outcome: &Result<(), Error>) {
        let (now, pauses) = (self.clock.now(), self.pauses());
        let answered = match outcome {
            Ok(()) => Ok(()),
            // A login that is wanted first, or a question that makes no sense to it, is an answer all the same.
            Err(error) if matches!(self.ladder.verdict(error), Verdict::Alive) => Ok(()),
            Err(error) => Err(error),
        };
        let open_after = self.profile.errors.open_after;
        let mut circuits = self.circuits();
        // Where it is the library, there are no others to be spared; nor are those that are as silent. One device may have
        // several URIs, and has one name.
        let name = circuits.get(&permit.whose).map(|circuit| circuit.name.clone());
        let is_other = |other: &Whose| permit.whose.is_some() && other.is_some() && *other != permit.whose;
        let has_others = circuits.iter().any(|(other, circuit)| {
            is_other(other) && Some(&circuit.name) != name.as_ref() && !circuit.is_silent()
        });
        if let Some(circuit) = circuits.get_mut(&permit.whose) {
            circuit.probed(answered, open_after, now, pauses);
            circuit.heard(matches!(outcome, Err(Error::Deadline)), has_others, now);
        }
        drop(circuits);
        drop(permit);
    }

    /// What is away, of the library and of this device.
    pub(super) fn outages(&self, whose: &Whose) -> Vec<Outage> {
        let now = self.clock.now();
        let circuits = self.circuits();
        let of = |whose: &Whose| circuits.get(whose).and_then(|circuit| circuit.outage(now));
        let own = if whose.is_some() { of(whose) } else { None };
        of(&None).into_iter().chain(own).collect()
    }

    /// When the library or this device, having been away, was last found to be back.
    pub(super) fn answered(&self, whose: &Whose) -> Option<Instant> {
        let circuits = self.circuits();
        [&None, whose].into_iter().filter_map(|whose| circuits.get(whose)?.answered).max()
    }

    /// To be told of changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many wait for a change.
    #[cfg(test)]
    pub(super) fn listeners(&self) -> usize {
        self.changes.receiver_count()
    }

    /// Wakes all who wait for a change.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// The right to watch over open circuits; one has it at a time. `None`: somebody has, or there are none.
    pub(super) fn watch(self: &Arc<Self>) -> Option<Watch> {
        if !self.circuits().values().any(Circuit::is_to_be_asked) {
            return None;
        }
        let mut is_watched = self.is_watched.lock().unwrap_or_else(PoisonError::into_inner);
        (!std::mem::replace(&mut *is_watched, true)).then(|| Watch(self.clone()))
    }

    fn pauses(&self) -> (Duration, Duration) {
        self.profile.errors.pauses()
    }

    fn circuit<'a>(&self, circuits: &'a mut HashMap<Whose, Circuit>, whose: &Whose) -> &'a mut Circuit {
        let name = || whose.as_ref().map_or_else(|| self.library.clone(), ToString::to_string);
        circuits.entry(whose.clone()).or_insert_with(|| Circuit::named(name()))
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<Whose, Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Whom it is for.
    pub(super) fn whose(&self) -> &Whose {
        &self.whose
    }
}

/// Somebody watches over the open circuits until this is dropped.
pub(super) struct Watch(Arc<Breaker>);

impl Watch {
    /// Ends it, as no circuit is open. A new one, if one has opened meanwhile: whoever opened it has left it to this.
    pub(super) fn end(self) -> Option<Self> {
        let breaker = self.0.clone();
        drop(self);
        breaker.watch()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.0.is_watched.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// The device that answered, as people name it.
fn device_of(answer: &Answer) -> Option<String> {
    match answer {
        Answer::Key(key) => Some(key.device.clone()),
        Answer::Signature(signature) => Some(signature.key.device.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
