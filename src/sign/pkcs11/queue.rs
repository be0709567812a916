//! The queue in front of a library: bounded, callers before background work, never waited on by the asker.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    job::{Answer, Job},
    login::Logins,
};
use crate::{
    call::Priority,
    clock::Instant,
    sign::{Error, MakeMessage},
};

/// Jobs that may wait. At the slowest device of use (a card, 0.5 s a signature) the last one still makes the
/// default patience of a caller.
pub(super) const DEPTH: usize = 64;

/// Of these, background work may take up half: a caller always finds room beside it.
const BACKGROUND_DEPTH: usize = DEPTH / 2;

/// Who finds no room is told to come again after this time at the earliest, and at the latest.
const SOONEST: Duration = Duration::from_millis(100);
const LATEST: Duration = Duration::from_secs(10);

/// A job on its way, with what is no plain data: the maker of the message, who authorises logins, the way back.
pub(super) struct Ticket {
    pub(super) job: Job,
    pub(super) make: Option<MakeMessage>,
    /// When the message was made, if it was already.
    pub(super) made: Option<Instant>,
    pub(super) logins: Arc<dyn Logins>,
    /// When it was put in line.
    pub(super) asked: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: Box<dyn Reply>,
    /// It was given to a process before that ended.
    pub(super) again: bool,
}

/// The way back to who asked.
pub(super) trait Reply: Send {
    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool;
    /// Answers.
    fn send(self: Box<Self>, answer: Result<Answer, Error>);
}

impl Reply for oneshot::Sender<Result<Answer, Error>> {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }

    fn send(self: Box<Self>, answer: Result<Answer, Error>) {
        // Who has gone away since wants no answer.
        let _ = oneshot::Sender::send(*self, answer);
    }
}

/// The queue. Any number of threads may take from it.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Default)]
struct Waiting {
    callers: VecDeque<Ticket>,
    background: VecDeque<Ticket>,
    closed: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Queue {
    /// Puts a ticket in line, or says at once that there is no room.
    pub(super) fn push(&self, ticket: Ticket, priority: Priority) -> Result<(), Error> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Error::Closed);
        }
        let background = priority == Priority::Background;
        if waiting.is_full_for(background) {
            // Callers that gave up still stand in line.
            waiting.callers.retain(|ticket| !ticket.reply.is_gone());
            waiting.background.retain(|ticket| !ticket.reply.is_gone());
            if waiting.is_full_for(background) {
                let first = waiting.callers.front().or(waiting.background.front());
                let wait = first.map_or(Duration::ZERO, |first| ticket.asked.since(first.asked));
                let after = wait.clamp(SOONEST, LATEST);
                return Err(Error::Busy { waiting: waiting.len(), after });
            }
        }
        if background {
            waiting.background.push_back(ticket)
        } else {
            waiting.callers.push_back(ticket)
        }
        drop(waiting);
        self.ready.notify_one();
        Ok(())
    }

    /// The next ticket; blocks until there is one. `None` once the queue is closed.
    pub(super) fn take(&self) -> Option<Ticket> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(ticket) = waiting.next() {
                return Some(ticket);
            }
            waiting = self.ready.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next ticket, if there is one.
    pub(super) fn try_take(&self) -> Option<Ticket> {
        self.lock().next()
    }

    /// Takes all whose job is `concerned` out of the line.
    pub(super) fn take_out(&self, concerned: impl Fn(&Job) -> bool) -> Vec<Ticket> {
        let mut waiting = self.lock();
        let Waiting { callers, background, .. } = &mut *waiting;
        [callers, background]
            .into_iter()
            .flat_map(|line| {
                let (out, left) = line.drain(..).partition(|ticket| concerned(&ticket.job));
                *line = left;
                let out: VecDeque<Ticket> = out;
                out
            })
            .collect()
    }

    /// Waits until there is a ticket; `false` once the queue is closed.
    pub(super) fn wait(&self) -> bool {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return false;
            }
            if waiting.len() > 0 {
                return true;
            }
            waiting = self.ready.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts a ticket that was taken back in front of all others; answers it when the queue has been closed since.
    pub(super) fn put_back(&self, ticket: Ticket) {
        let mut waiting = self.lock();
        if waiting.closed {
            drop(waiting);
            ticket.reply.send(Err(Error::Closed));
            return;
        }
        waiting.callers.push_front(ticket);
        drop(waiting);
        self.ready.notify_one();
    }

    /// Closes the queue when what is returned is dropped.
    pub(super) fn close_on_drop(&self) -> impl Drop + '_ {
        CloseOnDrop(self)
    }

    /// Whether it has been closed.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Answers everything that waits with [`Error::Closed`], and everything that still comes.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let left: Vec<Ticket> = std::iter::from_fn(|| waiting.next()).collect();
        drop(waiting);
        self.ready.notify_all();
        for ticket in left {
            ticket.reply.send(Err(Error::Closed));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct CloseOnDrop<'a>(&'a Queue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.callers.len() + self.background.len()
    }

    fn is_full_for(&self, background: bool) -> bool {
        self.len() >= DEPTH || (background && self.background.len() >= BACKGROUND_DEPTH)
    }

    fn next(&mut self) -> Option<Ticket> {
        self.callers.pop_front().or_else(|| self.background.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{
        clock::{Clock, ManualClock},
        sign::{
            PinProblem, Retry,
            pkcs11::login::{LoginOutcome, LoginRequest},
        },
    };

    /// Nobody logs in.
    #[derive(Default)]
    struct NoLogins(Mutex<()>);

    impl Logins for NoLogins {
        fn turn(&self) -> MutexGuard<'_, ()> {
            self.0.lock().unwrap()
        }

        fn authorize(&self, _: &LoginRequest) -> Result<Option<secrecy::SecretString>, PinProblem> {
            Err(PinProblem::Missing)
        }

        fn ended(&self, _: &LoginRequest, _: &LoginOutcome) -> bool {
            false
        }
    }

    type Waiting = oneshot::Receiver<Result<Answer, Error>>;

    fn ticket(name: &str) -> (Ticket, Waiting) {
        let (reply, answer) = oneshot::channel();
        let job = Job::Certificates(format!("pkcs11:token={name}").parse().unwrap());
        let asked = ManualClock::at(UNIX_EPOCH).now();
        (
            Ticket {
                job,
                make: None,
                made: None,
                logins: Arc::new(NoLogins::default()),
                asked,
                deadline: asked,
                reply: Box::new(reply),
                again: false,
            },
            answer,
        )
    }

    fn push(queue: &Queue, name: &str, priority: Priority) -> Result<Waiting, Error> {
        let (ticket, reply) = ticket(name);
        queue.push(ticket, priority).map(|()| reply)
    }

    fn taken(queue: &Queue) -> String {
        match queue.take().unwrap().job {
            Job::Certificates(uri) => uri.token().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn callers_go_before_background_work_and_otherwise_the_first_is_first() {
        let queue = Queue::default();
        for (name, priority) in [
            ("b1", Priority::Background),
            ("c1", Priority::Caller),
            ("b2", Priority::Background),
            ("c2", Priority::Caller),
        ] {
            push(&queue, name, priority).unwrap();
        }
        assert_eq!([taken(&queue), taken(&queue), taken(&queue), taken(&queue)], ["c1", "c2", "b1", "b2"]);
    }

    #[test]
    fn background_work_leaves_half_of_the_room_to_callers() {
        let queue = Queue::default();
        let mut replies = Vec::new();
        for _ in 0..BACKGROUND_DEPTH {
            replies.push(push(&queue, "b", Priority::Background).unwrap());
        }
        let refused = push(&queue, "b", Priority::Background).unwrap_err();
        assert_eq!(refused, Error::Busy { waiting: BACKGROUND_DEPTH, after: SOONEST });
        for _ in BACKGROUND_DEPTH..DEPTH {
            replies.push(push(&queue, "c", Priority::Caller).unwrap());
        }
        let (mut late, _reply) = ticket("c");
        late.asked = late.asked + Duration::from_secs(3);
        let refused = queue.push(late, Priority::Caller).unwrap_err();
        assert_eq!(refused, Error::Busy { waiting: DEPTH, after: Duration::from_secs(3) });
        assert_eq!(refused.retry(), Retry::After(Duration::from_secs(3)), "as long as the first has waited")
    }

    #[test]
    fn what_is_taken_out_leaves_the_others_in_their_order() {
        let queue = Queue::default();
        let _replies: Vec<_> =
            ["a", "b", "a", "c"].map(|name| push(&queue, name, Priority::Caller).unwrap()).into();
        let _other = push(&queue, "a", Priority::Background).unwrap();
        let is_a = |job: &Job| matches!(job, Job::Certificates(uri) if uri.token() == Some("a"));
        assert_eq!(queue.take_out(is_a).len(), 3);
        assert_eq!([taken(&queue), taken(&queue)], ["b", "c"]);
        assert!(queue.try_take().is_none());
    }

    #[test]
    fn callers_that_went_away_take_no_room() {
        let queue = Queue::default();
        for _ in 0..DEPTH {
            drop(push(&queue, "gone", Priority::Caller).unwrap());
        }
        let _reply = push(&queue, "here", Priority::Caller).unwrap();
        assert_eq!(taken(&queue), "here");
    }

    #[test]
    fn a_closed_queue_answers_those_in_line_and_those_who_come() {
        let queue = Queue::default();
        let mut waiting = push(&queue, "a", Priority::Caller).unwrap();
        queue.close();
        assert_eq!(waiting.try_recv().unwrap().unwrap_err(), Error::Closed);
        assert_eq!(push(&queue, "b", Priority::Caller).unwrap_err(), Error::Closed);
        assert!(queue.take().is_none());
    }
}
