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
};

use tokio::sync::oneshot;

use super::{
    ModuleDescription, Pin, Uri,
    job::{Answer, Job},
    owner::Owner,
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
    by_file: Mutex<HashMap<FileId, Arc<Module>>>,
}

/// Device and inode: one file under two names is one library.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FileId(u64, u64);

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Modules").field("libraries", &self.all()).finish_non_exhaustive()
    }
}

impl Modules {
    /// No library yet. Deadlines are read on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, by_file: Mutex::default() })
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
        let job = Job::Describe { login: login.map(|(uri, _)| uri.clone()) };
        match self.module(path)?.ask(call, job, None, login.map(|(_, pin)| pin.clone())).await? {
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
        match self.module(path)?.ask(call, job, None, Some(pin)).await? {
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
            module.queue.close();
            if let Err(late) = module.join(call).await {
                ended = Err(late);
            }
        }
        ended
    }

    /// The library at `path`, which must be there by now.
    pub(super) fn module(&self, path: &Path) -> Result<Arc<Module>, Error> {
        let missing = |why: std::io::Error| Error::Module {
            path: path.display().to_string(),
            problem: why.to_string(),
        };
        let path = fs::canonicalize(path).map_err(missing)?;
        let file = fs::metadata(&path).map_err(missing)?;
        let mut by_file = self.by_file.lock().unwrap_or_else(PoisonError::into_inner);
        let module = by_file.entry(FileId(file.dev(), file.ino())).or_insert_with(|| {
            Arc::new(Module {
                path,
                clock: self.clock.clone(),
                queue: Arc::default(),
                generation: Arc::default(),
                thread: Mutex::new(None),
            })
        });
        Ok(module.clone())
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn all(&self) -> Vec<Arc<Module>> {
        self.by_file.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// One library and the way to its owner.
pub(super) struct Module {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    queue: Arc<Queue>,
    generation: Arc<AtomicU64>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    handle: thread::JoinHandle<()>,
    ended: Option<oneshot::Receiver<()>>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("path", &self.path).field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Module {
    /// Puts a job in line and waits for its answer until the call's deadline. The owner is started by the first.
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
        let ticket = Ticket { job, make, pin, deadline: call.deadline(), reply };
        self.queue.push(ticket, call.priority())?;
        self.start()?;
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
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() {
            return Ok(());
        }
        let (end, ended) = oneshot::channel();
        let (path, clock, generation) = (self.path.clone(), self.clock.clone(), self.generation.clone());
        let queue = self.queue.clone();
        let handle = thread::Builder::new()
            .name("pkcs11-owner".into())
            .spawn(move || {
                let _end = end;
                Owner::new(path, clock, generation).run(&queue);
            })
            .map_err(|why| Error::Module {
                path: self.path.display().to_string(),
                problem: format!("no thread can be started: {why}"),
            })?;
        *thread = Some(Thread { handle, ended: Some(ended) });
        Ok(())
    }

    async fn join(&self, call: &Call) -> Result<(), Error> {
        let ended = {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.as_mut().and_then(|thread| thread.ended.take())
        };
        let Some(mut ended) = ended else { return Ok(()) };
        let late = tokio::select! {
            biased;
            _ = &mut ended => false,
            () = self.clock.sleep_until(call.deadline()) => true,
        };
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if late {
            if let Some(thread) = thread.as_mut() {
                thread.ended = Some(ended);
            }
            return Err(Error::Deadline);
        }
        // The thread is past its last call into the library, so this does not wait.
        if let Some(thread) = thread.take() {
            let _ = thread.handle.join();
        }
        Ok(())
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // Nobody can ask any more; the owner ends by itself.
        self.queue.close();
    }
}

/// The owner answered another question than the one that was asked.
pub(super) fn mismatched(answer: &Answer) -> Error {
    debug_assert!(false, "{answer:?} answers another job");
    Error::Closed
}
