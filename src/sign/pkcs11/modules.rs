//! The libraries of this process: one owner thread each, however many signers use it.

use std::{
    collections::HashMap,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Manner, ModuleDescription, Pin, Profile, Profiles, Uri,
    guard::Guard,
    host::Host,
    installed::check_trust,
    job::{Answer, Job},
    lane::Lane,
    login::Guarded,
    owner::Owner,
    profile::Isolation,
    queue::{Queue, Ticket},
};
use crate::{
    call::Call,
    clock::Clock,
    sign::{Error, MakeMessage},
};

/// Every PKCS#11 library that this process uses, by the file it lies in.
///
/// Loading one file twice shares all of its state, and finalizing it through one handle breaks it for the other.
/// So a program makes one of these and hands it to all that sign. Nothing is loaded before it is needed.
pub struct Modules {
    clock: Arc<dyn Clock>,
    manner: Manner,
    by_file: Mutex<HashMap<FileId, Arc<Module>>>,
}

/// How long the threads of a library that nobody has shut down may take when it is dropped.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Device and inode: one file under two names is one library.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FileId(u64, u64);

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Modules").field("libraries", &self.all()).finish_non_exhaustive()
    }
}

impl Modules {
    /// No library yet. Deadlines are read on `clock`; devices are known by the profiles of this build.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::build(clock, Manner::default())
    }

    /// The same, with the profiles by which devices are known.
    #[must_use]
    pub fn with_profiles(clock: Arc<dyn Clock>, profiles: Arc<Profiles>) -> Arc<Self> {
        Self::build(clock, Manner { profiles, ..Manner::default() })
    }

    /// The same, in a manner of one's own.
    #[must_use]
    pub fn build(clock: Arc<dyn Clock>, manner: Manner) -> Arc<Self> {
        Arc::new(Self { clock, manner, by_file: Mutex::default() })
    }

    /// The profiles by which devices are known.
    #[must_use]
    pub fn profiles(&self) -> &Arc<Profiles> {
        &self.manner.profiles
    }

    /// All that the library at `path` shows. With `login`, the device which that URI names is logged in to first;
    /// most devices show no private key otherwise.
    ///
    /// # Errors
    /// [`Error`] when the library cannot be used or the login fails; trouble with one slot or object is part of the
    /// description.
    pub async fn describe(
        &self,
        path: &Path,
        login: Option<(&Uri, &Pin)>,
        call: &Call,
    ) -> Result<ModuleDescription, Error> {
        let job = Job::Describe { login: login.map(|(uri, _)| uri.clone()), whole: false };
        match self.module(path, None)?.ask(call, job, None, login.map(|(_, pin)| pin.clone())).await? {
            Answer::Description(description) => Ok(*description),
            other => Err(mismatched(&other)),
        }
    }

    /// All that the library at `path` shows without a login, with mechanisms and all attributes, which takes many more
    /// calls.
    ///
    /// # Errors
    /// Those of [`describe`](Self::describe).
    pub async fn inspect(&self, path: &Path, call: &Call) -> Result<ModuleDescription, Error> {
        let job = Job::Describe { login: None, whole: true };
        match self.module(path, None)?.ask(call, job, None, None).await? {
            Answer::Description(description) => Ok(*description),
            other => Err(mismatched(&other)),
        }
    }

    /// The device called `label` in the library at `path`, for tests: made out of the first blank one when there is
    /// none yet, with `pin` as the PIN of its user and of its security officer.
    ///
    /// A device that is in use is never initialized: what it holds would be gone.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no blank device, [`Error::Uri`] when no device can have this label; otherwise
    /// what the device says.
    pub async fn provide_test_device(
        &self,
        path: &Path,
        label: &str,
        pin: Pin,
        call: &Call,
    ) -> Result<Uri, Error> {
        let job = Job::Provide { label: label.to_owned() };
        match self.module(path, None)?.ask(call, job, None, Some(pin)).await? {
            Answer::Provided(uri) => Ok(*uri),
            other => Err(mismatched(&other)),
        }
    }

    /// Ends the owner threads: each finishes the job at hand, closes its sessions and finalizes its library.
    /// What still waits is answered with [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Deadline`] when a library does not return in time; its thread is left behind.
    pub async fn shutdown(&self, call: &Call) -> Result<(), Error> {
        let mut ended = Ok(());
        for module in &self.all() {
            // One at a time: two paths may lead to one library (a wrapper, a proxy), and finalizing it under another
            // thread's call crashes most.
            module.close();
            if let Err(late) = module.join(call).await {
                ended = Err(late);
            }
        }
        ended
    }

    /// The library at `path`, which must be there by now and in nobody else's hands. The first to ask for it says how it is driven.
    pub(super) fn module(&self, path: &Path, profile: Option<&str>) -> Result<Arc<Module>, Error> {
        let missing = |why: std::io::Error| unusable(path, why.to_string());
        let path = fs::canonicalize(path).map_err(missing)?;
        let file = fs::metadata(&path).map_err(missing)?;
        let mut by_file = self.by_file.lock().unwrap_or_else(PoisonError::into_inner);
        let id = FileId(file.dev(), file.ino());
        if let Some(module) = by_file.get(&id) {
            return Ok(module.clone());
        }
        if !self.manner.trust_any {
            check_trust(&path)?;
        }
        let profile = Arc::new(self.profile(&path, profile)?);
        let queue = Arc::<Queue>::default();
        let generation = Arc::<AtomicU64>::default();
        let backend = if self.manner.look_around || profile.module.isolation == Isolation::Process {
            Backend::Process(Host::new(
                self.manner.program.clone(),
                path.clone(),
                profile.clone(),
                self.clock.clone(),
                generation.clone(),
                queue.clone(),
                self.manner.look_around,
            ))
        } else {
            let owner = Owner::new(path.clone(), profile.clone(), self.clock.clone(), generation.clone());
            Backend::Threads(Arc::new(owner))
        };
        let guard = Guard::new(&path, self.manner.pin_records.clone(), self.clock.clone());
        let module = Arc::new(Module {
            path,
            profile,
            clock: self.clock.clone(),
            queue,
            generation,
            guard: Arc::new(guard),
            backend,
            threads: Mutex::default(),
        });
        by_file.insert(id, module.clone());
        Ok(module)
    }

    /// The named profile, else the one that knows the library's file, else that of unknown devices.
    fn profile(&self, path: &Path, name: Option<&str>) -> Result<Profile, Error> {
        match name {
            Some(name) => {
                let known = self.manner.profiles.named(name).cloned();
                known.ok_or_else(|| unusable(path, format!("there is no profile {name}")))
            }
            None => Ok(self
                .manner
                .profiles
                .matching(path, None, None)
                .unwrap_or_else(|| self.manner.profiles.unknown())),
        }
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn all(&self) -> Vec<Arc<Module>> {
        self.by_file.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// One library and the way to it.
pub(super) struct Module {
    path: PathBuf,
    pub(super) profile: Arc<Profile>,
    clock: Arc<dyn Clock>,
    queue: Arc<Queue>,
    generation: Arc<AtomicU64>,
    guard: Arc<Guard>,
    backend: Backend,
    threads: Mutex<Option<Threads>>,
}

/// Where the library runs.
enum Backend {
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

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("path", &self.path).field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Module {
    /// Puts a job in line and waits for its answer until the call's deadline. The threads are started by the first.
    pub(super) async fn ask(
        &self,
        call: &Call,
        job: Job,
        make: Option<MakeMessage>,
        pin: Option<Pin>,
    ) -> Result<Answer, Error> {
        if call.is_over(&*self.clock) {
            return Err(Error::Deadline);
        }
        let (reply, answer) = oneshot::channel();
        let logins = Arc::new(Guarded::new(self.guard.clone(), pin, self.profile.clone()));
        let ticket = Ticket {
            job,
            make,
            made: None,
            logins,
            deadline: call.deadline(),
            reply: Box::new(reply),
            again: false,
        };
        self.queue.push(ticket, call.priority())?;
        self.start()?;
        if let Backend::Process(host) = &self.backend {
            host.pump();
        }
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or(Err(Error::Closed)),
            () = self.clock.sleep_until(call.deadline()) => Err(Error::Deadline),
        }
    }

    /// Rises each time the library is initialized.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn start(&self) -> Result<(), Error> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
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

    async fn join(&self, call: &Call) -> Result<(), Error> {
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
    fn close(&self) {
        self.queue.close();
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

fn unusable(path: &Path, problem: String) -> Error {
    Error::Module { path: path.display().to_string(), problem }
}

/// The owner answered another question than the one that was asked.
pub(super) fn mismatched(answer: &Answer) -> Error {
    debug_assert!(false, "{answer:?} answers another job");
    Error::Closed
}
