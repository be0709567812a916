//! A library in a process of its own: what crashes, hangs or calls `exit()` there costs one job and no more.
//!
//! ```text
//!   asker ─▶ queue ─▶ Host ══ jobs, answers ══▶ lanes ─▶ library      (two sockets; the other process)
//!                      └─────  logins  ◀══════════┘
//! ```
//!
//! The process is the same program, started again by exec. It does the same jobs with the same code as the threads of
//! this process would. It holds no PIN: each login is authorised here, and the PIN goes over for that login.

mod answers;
mod child;
mod frame;
mod growth;
mod link;
mod noise;
mod process;

#[doc(hidden)]
pub use self::frame::host_says;
pub use self::{child::module_host, process::HostProgram};

use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use self::{
    frame::{Hello, LONGEST_FRAME, ToHost, encoded},
    growth::{Growth, Size},
    link::{Handed, InFlight, Link},
    noise::Noise,
    process::{Child, is_for_want_of_room, wait_for},
};
use super::{ladder::Ladder, profile::Profile, queue::Queue};
use crate::{
    clock::{Clock, Instant},
    sign::Error,
};

/// How often the parent looks whether the process hangs.
const LOOK: Duration = Duration::from_secs(1);

/// How long a process may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(5);

/// The same, while others wait for the next one.
const SHORT_FAREWELL: Duration = Duration::from_secs(2);

/// The same, when there is little to hope for. Sockets are closed a little before their process can be waited for.
const MOMENT: Duration = Duration::from_millis(200);

/// A library's process, seen from its parent. One thread looks after it ([`supervise`](Self::supervise)); jobs are
/// handed over by whoever asks.
pub(super) struct Host {
    program: HostProgram,
    path: PathBuf,
    profile: Arc<Profile>,
    ladder: Ladder,
    clock: Arc<dyn Clock>,
    generation: Arc<AtomicU64>,
    queue: Arc<Queue>,
    /// A job whose asker has given up ends the process: nobody else is waiting for it.
    impatient: bool,
    link: Mutex<Option<Link>>,
    /// Over all its processes: one that crashes again and again says the same again and again.
    noise: Mutex<Noise>,
}

/// How a process came to its end.
enum End {
    /// By itself: it crashed, or the library ended it.
    Died,
    /// It was asked to.
    Asked,
    /// All that it says is that the device is gone: for some libraries only a new process finds it again.
    AtALoss,
    /// It has grown to so many MiB, and may take up so many.
    Overgrown(u64, u64),
    /// It did not answer for too long, or said what cannot be understood.
    Failed(String),
}

impl Host {
    pub(super) fn new(
        program: HostProgram,
        path: PathBuf,
        profile: Arc<Profile>,
        clock: Arc<dyn Clock>,
        generation: Arc<AtomicU64>,
        queue: Arc<Queue>,
        impatient: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            program,
            path,
            ladder: Ladder::of(&profile),
            profile,
            clock,
            generation,
            queue,
            impatient,
            link: Mutex::default(),
            noise: Mutex::default(),
        })
    }

    /// Starts the process when there is work, hands its answers on, starts it anew when it ended; until the queue is
    /// closed. The process ends with the thread that started it, so this thread must live as long as it is wanted.
    pub(super) fn supervise(&self) {
        // However this thread ends, nobody is left waiting for it.
        let _close = self.queue.close_on_drop();
        let mut again = false;
        while self.queue.wait() {
            match self.start() {
                Ok(mut child) => {
                    let end = self.serve(&mut child);
                    again = !self.bury(child, end, again);
                }
                Err(error) => self.answer_all(&error),
            }
        }
    }

    /// Hands jobs over for as long as the process has room.
    pub(super) fn pump(&self) {
        let mut link = self.link();
        let Some(link) = link.as_mut() else { return };
        if link.is_leaving || !link.parked.is_empty() {
            // The next one is to do the rest.
            return;
        }
        while link.in_flight.len() < self.window() {
            let Some(ticket) = self.queue.try_take() else { return };
            let now = self.clock.now();
            if ticket.reply.is_gone() || now >= ticket.deadline {
                ticket.reply.send(Err(Error::Deadline));
            } else {
                match link.hand_over(ticket, now) {
                    Handed::Over => {}
                    // It will have room again, or has just ended: the thread that looks after it sees to either.
                    Handed::Back(ticket) => return self.queue.put_back(*ticket),
                    Handed::Unfit(reply, problem) => {
                        reply.send(Err(self.error(format!("cannot be given a job: {problem}"))));
                    }
                }
            }
        }
    }

    /// Asks the process to end when its jobs are done.
    pub(super) fn close(&self) {
        if let Some(link) = self.link().as_ref() {
            link.jobs.finish();
        }
    }

    /// Jobs that the process may have at a time: one in the making and one that waits, for each lane.
    fn window(&self) -> usize {
        2 * usize::from(self.profile.session.lanes.max(1))
    }

    fn start(&self) -> Result<Child, Error> {
        let unstarted = |problem: String| Error::Module { path: self.path.display().to_string(), problem };
        let program = self.program.path().map_err(unstarted)?;
        let module = &self.profile.module;
        let child = Child::start(
            &self.path,
            &program,
            Path::new(&module.working_directory),
            module.environment(std::env::vars_os()),
        )
        .map_err(|why| {
            let folder = &module.working_directory;
            if is_for_want_of_room(&why) {
                return self.error(format!("cannot be started: {why}"));
            }
            unstarted(format!("its process cannot be started in the folder {folder}: {why}"))
        })?;
        let hello = ToHost::Hello(Box::new(Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path: self.path.clone(),
            profile: (*self.profile).clone(),
        }));
        let hello = encoded(&hello).map_err(unstarted)?;
        match child.jobs.send(&hello) {
            Ok(()) => Ok(child),
            Err(why) => {
                let _ = child.kill();
                Err(self.error(format!("ended at once: {why}")))
            }
        }
    }

    /// Until the process ends, or is to be ended.
    fn serve(&self, child: &mut Child) -> End {
        let mut buffer = vec![0; LONGEST_FRAME];
        let started = self.clock.now();
        let mut closing: Option<Instant> = None;
        let mut asks = true;
        let mut growth = Growth::new(self.profile.module.memory_limit_mb, started);
        loop {
            let round = self.clock.now();
            let noise = child.noise.as_ref().map_or(child.jobs.as_fd(), |noise| noise.as_fd());
            // What is closed is not listened to: it would be heard without end.
            let logins = if asks { child.logins.as_fd() } else { child.jobs.as_fd() };
            let ends = [child.jobs.as_fd(), logins, noise];
            let [jobs, logins, noise] = match wait_for(ends, LOOK) {
                Ok(ready) => ready,
                Err(why) => return End::Failed(format!("cannot be listened to: {why}")),
            };
            if noise {
                self.listen(child);
            }
            if jobs {
                match self.take_answers(child, &mut buffer) {
                    Ok(true) => self.pump(),
                    // It may have been asked to end since the last look at the queue.
                    Ok(false) if closing.is_some() || self.queue.is_closed() => return End::Asked,
                    Ok(false) => return End::Died,
                    Err(why) => return End::Failed(why),
                }
            }
            if logins && asks {
                match self.answer_login(&child.logins, &mut buffer) {
                    Ok(more) => asks = more,
                    Err(why) => return End::Failed(why),
                }
            }
            let now = self.clock.now();
            // The machine slept, or this process was stopped: so was the library.
            self.excuse(now.since(round).saturating_sub(LOOK * 5));
            self.sum_up(now);
            if self.queue.is_closed() {
                let since = *closing.get_or_insert_with(|| {
                    child.jobs.finish();
                    now
                });
                if now.since(since) > FAREWELL {
                    return End::Asked;
                }
            }
            if let Some(why) = self.hangs(now, started) {
                return End::Failed(why);
            }
            if let Some(end) = self.renewal(child, &mut growth, now) {
                return end;
            }
        }
    }

    /// Whether a new process is to take its place now. Decided under the lock under which jobs are handed over: one that
    /// came in between would be lost.
    fn renewal(&self, child: &Child, growth: &mut Growth, now: Instant) -> Option<End> {
        let mut link = self.link();
        let link = link.as_mut()?;
        let at_a_loss = link.is_at_a_loss(now, &self.profile);
        let size = growth.look(|| child.memory(), link.answered, now);
        link.is_leaving |= at_a_loss || size != Size::Usual;
        match size {
            _ if at_a_loss => Some(End::AtALoss),
            Size::Beyond(memory) if link.in_flight.is_empty() => Some(End::Overgrown(memory, growth.most())),
            // It can be ended without harm: no login is under way, which would count as refused, and nothing that cannot
            // be done once more.
            Size::FarBeyond(memory)
                if !link.logging_in && link.in_flight.values().all(InFlight::is_repeatable) =>
            {
                Some(End::Overgrown(memory, growth.most()))
            }
            _ => None,
        }
    }

    /// Time that counts against no job.
    fn excuse(&self, time: Duration) {
        let now = self.clock.now();
        if let Some(link) = self.link().as_mut() {
            link.excuse(time, now);
        }
    }

    /// Whether it takes longer than anything that still works.
    fn hangs(&self, now: Instant, started: Instant) -> Option<String> {
        match self.link().as_ref() {
            Some(link) => link.late(now, &self.profile, self.impatient),
            None if now.since(started) <= self.profile.module.init_timeout() => None,
            None => Some("did not start in time and was ended".to_owned()),
        }
    }

    /// What the library says on its standard error is kept from the terminal.
    fn listen(&self, child: &mut Child) {
        let now = self.clock.now();
        child.hear(|bytes| self.noise().take(bytes, now, &mut |line| self.say(line)));
    }

    fn sum_up(&self, now: Instant) {
        self.noise().sum_up(now, &mut |line| self.say(line));
    }

    fn say(&self, line: &str) {
        let line = super::uri::printable(line);
        tracing::debug!(library = %self.path.display(), line, "the library says");
    }

    fn noise(&self) -> MutexGuard<'_, Noise> {
        self.noise.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is left of a process and settles its jobs. Whether it had answered anything. `again`: the one before it
    /// had not.
    fn bury(&self, mut child: Child, end: End, again: bool) -> bool {
        let link = self.link().take();
        self.listen(&mut child);
        self.noise().end(self.clock.now(), &mut |line| self.say(line));
        let may_repeat = matches!(end, End::Died | End::Overgrown(..));
        let closed = matches!(end, End::Asked);
        let is_idle = link.as_ref().is_some_and(|link| link.in_flight.is_empty());
        let farewell = match end {
            End::Overgrown(..) if is_idle => Some(SHORT_FAREWELL),
            // How it died is known a moment after its sockets are closed; killed now, it would have been us.
            End::AtALoss | End::Died => Some(MOMENT),
            _ => None,
        };
        if let Some(time) = farewell {
            // Sessions that are not closed stay behind in some devices.
            child.jobs.finish();
            child.wait(time);
        }
        let problem = match (&end, child.kill()) {
            (End::Failed(why), _) => why.clone(),
            (End::AtALoss, _) => "was ended: a new one may find the device".into(),
            (End::Overgrown(memory, most), _) => {
                format!(
                    "took up {memory} MiB of memory, more than {most}, and was ended: a new one is started"
                )
            }
            (_, Ok(Some(status))) => format!("ended unexpectedly ({status})"),
            (_, Ok(None)) => "was killed and has not ended: it waits inside the operating system".into(),
            (_, Err(why)) => format!("ended unexpectedly ({why})"),
        };
        let error = self.error(problem);
        match end {
            End::Asked => {}
            End::AtALoss => {
                tracing::debug!(library = %self.path.display(), "a new process is to find the device again");
            }
            _ if again => {
                tracing::debug!(library = %self.path.display(), %error, "the library's process is gone, too");
            }
            _ => tracing::warn!(library = %self.path.display(), %error, "the library's process is gone"),
        }
        let Some(link) = link else {
            if !closed {
                self.answer_all(&error);
            }
            return false;
        };
        // A key that is found by the next process is another one.
        self.generation.fetch_add(1, Ordering::AcqRel);
        for flight in link.in_flight.into_values() {
            self.settle(flight, closed, may_repeat, &error);
        }
        for flight in link.parked {
            self.settle(flight, closed, true, &error);
        }
        link.answered
    }

    /// A job that changes nothing is done once more by the next process where `may_repeat`: that this one crashed or
    /// outgrew its limit may have been another job's fault.
    fn settle(&self, mut flight: InFlight, closed: bool, may_repeat: bool, error: &Error) {
        flight.logins.lost();
        if closed {
            flight.reply.send(Err(Error::Closed));
        } else if flight.again || !flight.is_repeatable() || !may_repeat {
            flight.reply.send(Err(error.clone()));
        } else if flight.is_stale(self.clock.now()) {
            flight.reply.send(Err(Error::KeyChanged));
        } else {
            flight.again = true;
            self.queue.put_back(flight.into_ticket());
        }
    }

    fn answer_all(&self, error: &Error) {
        while let Some(ticket) = self.queue.try_take() {
            ticket.reply.send(Err(error.clone()));
        }
    }

    fn error(&self, problem: String) -> Error {
        Error::Host { module: self.path.display().to_string(), problem }
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
