//! The libraries of this process: each with one queue and its own threads or process, however many signers use it.

mod module;
mod noted;
mod watch;

pub(super) use self::module::Module;

use std::{
    collections::HashMap,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use self::module::Backend;
use super::{
    Manner, ModuleDescription, Pin, Profile, Profiles, Uri,
    guard::Guard,
    host::Host,
    installed::check_trust,
    job::{Answer, Job},
    owner::Owner,
    profile::Isolation,
    queue::Queue,
};
use crate::{call::Call, clock::Clock, sign::Error};

/// Every PKCS#11 library that this process uses, by the file it lies in.
///
/// Loading one file twice shares all of its state, and finalizing it through one handle breaks it for the other.
/// So a program makes one of these and hands it to all that sign. Nothing is loaded before it is needed.
pub struct Modules {
    clock: Arc<dyn Clock>,
    manner: Manner,
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

    /// Ends all libraries: each finishes the jobs at hand, closes its sessions and is finalized.
    /// What still waits is answered with [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Deadline`] when a library does not return in time; its threads are left behind.
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

    /// The library at `path`, which must be there by now and in nobody else's hands. The first to ask for it says how it
    /// is driven.
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
        let (clock, guard) = (self.clock.clone(), Arc::new(guard));
        let module = Arc::new(Module::new(path, profile, clock, queue, generation, guard, backend));
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

fn unusable(path: &Path, problem: String) -> Error {
    Error::Module { path: path.display().to_string(), problem }
}

/// The owner answered another question than the one that was asked.
pub(super) fn mismatched(answer: &Answer) -> Error {
    debug_assert!(false, "{answer:?} answers another job");
    Error::Closed
}
