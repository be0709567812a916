use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{runtime, sync::oneshot};

use super::{
    super::{
        Pin,
        breaker::{Breaker, Permit, Turn, Whose},
        guard::Guard,
        host::Host,
        job::{Answer, Job},
        lane::Lane,
        login::Guarded,
        owner::Owner,
        profile::Profile,
        queue::{Queue, Ticket},
    },
    noted::Noted,
    unusable,
    watch::keep_watch,
};
use crate::{
    call::{Call, Priority},
    clock::{Clock, Instant},
    sign::{Error, MakeMessage, Outage},
};

/// How long the threads of a library that nobody has shut down may take when it is dropped.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Who waits for what a device answers that is away gives up so long after it was to be asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// One library and the way to it.
pub(in super::super) struct Module {
    path: PathBuf,
    pub(in super::super) profile: Arc<Profile>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) queue: Arc<Queue>,
    generation: Arc<AtomicU64>,
    guard: Arc<Guard>,
    pub(super) breaker: Arc<Breaker>,
    backend: Backend,
    threads: Mutex<Option<Threads>>,
}

/// Where the library runs.
pub(super) enum Backend {
    /// In threads of this process.
    Threads(Arc<Owner>),
    /// In a process of its own, which one thread of this process looks after.
    Process(Arc<Host>),
}

/// The threads of a library; `ended` fires when the last of them is past its last call.
struct Threads {
    handles: Vec<thread::JoinHandle<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

/// A message that is made when a job's turn has come, once, however often the job is put in line.
type Message = Arc<Mutex<Option<MakeMessage>>>;

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("path", &self.path).field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Module {
    pub(super) fn new(
        path: PathBuf,
        profile: Arc<Profile>,
        clock: Arc<dyn Clock>,
        queue: Arc<Queue>,
        generation: Arc<AtomicU64>,
        guard: Arc<Guard>,
        backend: Backend,
    ) -> Self {
        let breaker = Breaker::new(path.display().to_string(), profile.clone(), clock.clone());
        Self { path, profile, clock, queue, generation, guard, breaker, backend, threads: Mutex::default() }
    }

    /// Has a job done by the call's deadline. While the device is away, a caller with time left waits to hear how it
    /// answers when it is asked next, and no longer.
    pub(in super::super) async fn ask(
        self: &Arc<Self>,
        call: &Call,
        job: Job,
        make: Option<MakeMessage>,
        pin: Option<Pin>,
    ) -> Result<Answer, Error> {
        if call.is_over(&*self.clock) {
            return Err(Error::Deadline);
        }
        let whose = job.device();
        let message: Option<Message> = make.map(|make| Arc::new(Mutex::new(Some(make))));
        let mut heard = None;
        loop {
            let logins = Arc::new(Guarded::new(self.guard.clone(), pin.clone(), self.profile.clone()));
            let _permit = self.admit(call, &whose, &logins, &mut heard).await?;
            let answer = match self.put(call, job.clone(), message.as_ref(), logins, &whose) {
                Ok(to_come) => to_come.get().await,
                Err(error) => Err(error),
            };
            let is_unmade = message.as_ref().is_none_or(|message| lock(message).is_some());
            match answer {
                // It was taken out of the line when the device went away.
                Err(Error::Away(_)) if is_unmade && !call.is_over(&*self.clock) => {}
                Err(error) => {
                    self.watch();
                    return Err(error);
                }
                answer => return answer,
            }
        }
    }

    /// Returns when a job may be done. `heard`: of how many probes this caller has heard that they failed, if it waits
    /// for one.
    async fn admit(
        self: &Arc<Self>,
        call: &Call,
        whose: &Whose,
        logins: &Guarded,
        heard: &mut Option<u64>,
    ) -> Result<Option<Box<Permit>>, Error> {
        let begun = self.clock.now();
        loop {
            let mut changes = self.breaker.changes();
            if self.queue.is_closed() {
                return Err(Error::Closed);
            }
            let (due, has_heard, error) =
                match self.breaker.turn(whose, |request| logins.might_log_in(request)) {
                    Turn::Go => return Ok(None),
                    Turn::Try(permit) => return Ok(Some(permit)),
                    Turn::Stop(error) => return Err(error),
                    Turn::Tried { since, error } => (since, false, error),
                    // Nobody can be had to ask it: this caller does.
                    Turn::Away { .. } if !self.watch() => return Ok(None),
                    Turn::Away { due, probes, error } => (due, *heard.get_or_insert(probes) != probes, error),
                };
            let until = call.deadline().min(due.max(begun) + PATIENCE);
            let waits = call.priority() == Priority::Caller && !call.wants_at_once() && due < call.deadline();
            if !waits || has_heard || self.clock.now() >= until {
                return Err(error);
            }
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                () = self.clock.sleep_until(until) => {}
            }
        }
    }

    /// Puts a job in line; its answer will come. The threads are started by the first.
    fn put(
        &self,
        call: &Call,
        job: Job,
        message: Option<&Message>,
        logins: Arc<Guarded>,
        whose: &Whose,
    ) -> Result<ToCome, Error> {
        let (reply, answer) = oneshot::channel();
        let is_probe = matches!(job, Job::Probe { .. });
        let noted = Noted {
            reply,
            breaker: (!is_probe).then(|| self.breaker.clone()),
            queue: self.queue.clone(),
            whose: whose.clone(),
            logins: logins.clone(),
        };
        let make = message.map(|message| {
            let message = message.clone();
            Box::new(move || lock(&message).take().map(|make| make()).unwrap_or_default()) as MakeMessage
        });
        let ticket = Ticket {
            job,
            make,
            made: None,
            logins,
            asked: self.clock.now(),
            deadline: call.deadline(),
            reply: Box::new(noted),
            again: false,
        };
        self.queue.push(ticket, call.priority())?;
        self.start()?;
        if let Backend::Process(host) = &self.backend {
            host.pump();
        }
        Ok(ToCome { answer, clock: self.clock.clone(), deadline: call.deadline() })
    }

    /// Sees to it that somebody asks the devices that are away, if any are. `false`: nobody can. A thread of its own does:
    /// a task would last as long as its runtime is driven, and that is for the caller to say.
    fn watch(self: &Arc<Self>) -> bool {
        let Some(watch) = self.breaker.watch() else { return true };
        let module = Arc::downgrade(self);
        let keeps_watch = move || {
            if let Ok(runtime) = runtime::Builder::new_current_thread().enable_time().build() {
                runtime.block_on(keep_watch(module, watch));
            }
        };
        self.spawn("pkcs11-watch", keeps_watch).is_ok()
    }

    /// Asks a device that is away whether it is back, or the library.
    pub(super) fn probe(&self, whose: &Whose) -> Result<ToCome, Error> {
        let longest = self.profile.module.init_timeout() + self.profile.sign.call_timeout() * 2;
        let call = Call::within(&*self.clock, longest);
        // All devices are concerned when it is the library.
        let is_missed = whose.is_none() || self.breaker.was_missed(whose);
        let job = Job::Probe { device: whose.clone(), is_missed };
        // It needs no login, and gets none.
        let logins = Arc::new(Guarded::new(self.guard.clone(), None, self.profile.clone()));
        self.put(&call, job, None, logins, whose)
    }

    /// Rises each time the library is initialized.
    pub(in super::super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What is away: the library, and this device.
    pub(in super::super) fn outages(&self, whose: &Whose) -> Vec<Outage> {
        self.breaker.outages(whose)
    }

    /// When what was away of them was last found to be back.
    pub(in super::super) fn answered(&self, whose: &Whose) -> Option<Instant> {
        self.breaker.answered(whose)
    }

    fn start(&self) -> Result<(), Error> {
        let mut threads = lock(&self.threads);
        if threads.is_some() {
            return Ok(());
        }
        let (end, ended) = oneshot::channel();
        let handles = match &self.backend {
            Backend::Threads(owner) => {
                let last = Arc::new(Last { owner: Some(owner.clone()), _end: end });
                let lane = |_| {
                    let (owner, queue, clock) = (owner.clone(), self.queue.clone(), self.clock.clone());
                    let (lane, last) = (Lane { owner, queue, clock }, last.clone());
                    self.spawn("pkcs11-lane", move || {
                        let _last = last;
                        lane.run();
                    })
                };
                (0..self.profile.session.lanes.max(1)).map(lane).collect::<Result<_, _>>()?
            }
            Backend::Process(host) => {
                let (host, last) = (host.clone(), Last { owner: None, _end: end });
                vec![self.spawn("pkcs11-host", move || {
                    let _last = last;
                    host.supervise();
                })?]
            }
        };
        *threads = Some(Threads { handles, ended: Some(ended) });
        Ok(())
    }

    fn spawn(
        &self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<thread::JoinHandle<()>, Error> {
        let started = thread::Builder::new().name(name.into()).spawn(run);
        started.map_err(|why| unusable(&self.path, format!("no thread can be started: {why}")))
    }

    pub(super) async fn join(&self, call: &Call) -> Result<(), Error> {
        let ended = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.as_mut().and_then(|threads| threads.ended.take())
        };
        let Some(mut ended) = ended else { return Ok(()) };
        let late = tokio::select! {
            biased;
            _ = &mut ended => false,
            () = self.clock.sleep_until(call.deadline()) => true,
        };
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if late {
            if let Some(threads) = threads.as_mut() {
                threads.ended = Some(ended);
            }
            return Err(Error::Deadline);
        }
        // They are past their last call into the library, so this does not wait.
        for handle in threads.take().into_iter().flat_map(|threads| threads.handles) {
            let _ = handle.join();
        }
        Ok(())
    }

    /// Answers what waits, and lets the threads end.
    pub(super) fn close(&self) {
        self.queue.close();
        self.breaker.changed();
        if let Backend::Process(host) = &self.backend {
            host.close();
        }
    }
}

/// Held by each thread of a library; the last of them to go finalizes it, and says so.
struct Last {
    owner: Option<Arc<Owner>>,
    _end: oneshot::Sender<()>,
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(owner) = &self.owner {
            owner.stop();
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // Nobody can ask any more; the threads end by themselves. A program whose `main` ends right now would run the
        // exit handlers of the library while C_Finalize is at work, and many crash of that: so a moment is waited.
        self.close();
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let handles = threads.map(|threads| threads.handles).unwrap_or_default();
        let end = std::time::Instant::now() + LAST_MOMENT;
        while handles.iter().any(|handle| !handle.is_finished()) && std::time::Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An answer that has not come yet. It keeps no library from being dropped.
pub(super) struct ToCome {
    answer: oneshot::Receiver<Result<Answer, Error>>,
    clock: Arc<dyn Clock>,
    deadline: Instant,
}

impl ToCome {
    /// Waits for it until its deadline.
    pub(super) async fn get(self) -> Result<Answer, Error> {
        tokio::select! {
            biased;
            answer = self.answer => answer.unwrap_or(Err(Error::Closed)),
            () = self.clock.sleep_until(self.deadline) => Err(Error::Deadline),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
