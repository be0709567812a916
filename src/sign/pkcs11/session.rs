//! An initialized library: its devices, and the sessions that keep them logged in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki_sys::{CKR_SESSION_COUNT, CKR_USER_ALREADY_LOGGED_IN};

use super::{
    Uri,
    authenticate::{is_logged_in, log_in},
    calls::{
        Access, Attribute, DeviceInfo, Failure, InitializeArguments, Library, ObjectClass, Session,
        SessionState, Slot,
    },
    code::{answered, is},
    job::SessionLimit,
    login::{DeviceId, Logins},
    profile::{Finalize, Probe, Profile, SessionKind},
};
use crate::{
    clock::Instant,
    sign::{Error, Sought},
};

/// A library between C_Initialize and C_Finalize.
pub(super) struct Initialized {
    library: Arc<dyn Library>,
    profile: Arc<Profile>,
    /// Somebody else in this process had initialized it: then finalizing it is not ours to do.
    foreign: bool,
    since: Instant,
    connections: Vec<Arc<Connection>>,
}

/// A device that is open, and logged in to where it wants that.
pub(super) struct Connection {
    pub(super) slot: Slot,
    pub(super) device: DeviceId,
    pub(super) library: Arc<dyn Library>,
    pub(super) profile: Arc<Profile>,
    /// Holds the login: closing the last session of a device logs out. Signs only where the device allows no session
    /// beside it, since a failed signature can leave a session unusable.
    keeper: Mutex<Box<dyn Session>>,
    /// Sessions that sign, while none of them does.
    idle: Mutex<Vec<Box<dyn Session>>>,
    /// The device allows one session in all.
    single: bool,
    /// The device confirmed that we are logged in.
    logged_in: bool,
    /// Held from the authorisation of a login for one signature to its outcome: a second one meanwhile would look as if
    /// the first had been refused.
    logging_in: Mutex<()>,
}

impl Initialized {
    /// C_Initialize. `unfinished`: it was ours before, and did not let itself be finalized.
    pub(super) fn new(
        library: &Arc<dyn Library>,
        profile: &Arc<Profile>,
        unfinished: bool,
        now: Instant,
    ) -> Result<Self, Error> {
        let variable = |name: &str| std::env::var(name).ok();
        let reserved = profile.module.reserved_text(variable).map_err(|why| Error::Module {
            path: format!("of profile {}", profile.name),
            problem: why.to_string(),
        })?;
        let arguments = InitializeArguments { os_locking: profile.module.os_locking, reserved };
        let initialized = |foreign| Self {
            library: library.clone(),
            profile: profile.clone(),
            foreign,
            since: now,
            connections: Vec::new(),
        };
        match library.initialize(&arguments) {
            Ok(()) => Ok(initialized(false)),
            Err(why) if is(&why, "CKR_CRYPTOKI_ALREADY_INITIALIZED") => Ok(initialized(!unfinished)),
            Err(why) => {
                // Some libraries are initialized all the same, without slots, and would stay so.
                let _ = library.finalize();
                Err(answered(&why))
            }
        }
    }

    /// Closes every session and finalizes the library. No other call may be on its way.
    pub(super) fn finalize(self) -> Result<(), Failure> {
        let Self { library, profile, foreign, connections, .. } = self;
        drop(connections);
        if foreign || profile.module.finalize == Finalize::Skip {
            return Ok(());
        }
        library.finalize()
    }

    pub(super) fn library(&self) -> &Arc<dyn Library> {
        &self.library
    }

    /// When it was initialized (monotonic).
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether another device than `device` is open.
    pub(super) fn has_others_than(&self, device: Option<&Uri>) -> bool {
        let is_own = |open: &Connection| device.is_some_and(|uri| open.device.is_named_by(uri));
        self.connections.iter().any(|open| !is_own(open))
    }

    /// Asks a device whether it is there, in a way that reaches it and needs no login.
    pub(super) fn probe(&mut self, uri: &Uri) -> Result<(), Error> {
        let (slot, info) = self.find(uri)?;
        let probe = self.profile.errors.probe;
        if let Some(open) = self.connection_to(slot, &DeviceId::of(&info)) {
            match ask(open.keeper().as_ref(), probe) {
                // The session may be gone, and the device there: unless it allows no other, that can be found out.
                Err(_) if !open.single => {}
                outcome => return outcome.map_err(|why| answered(&why)),
            }
        }
        let session = self.library.open(slot, access(&self.profile, false)).map_err(|why| answered(&why))?;
        ask(session.as_ref(), probe).map_err(|why| answered(&why))
    }

    /// New sessions on the device of `old`, which go in the place of its own. Without `logins`, the login must be there
    /// still; with them, one that is gone is made again, unless its session is gone, too: then the device may be out.
    pub(super) fn renew(
        &mut self,
        old: &Arc<Connection>,
        logins: Option<&dyn Logins>,
    ) -> Result<Arc<Connection>, Error> {
        let said = |why: Failure| answered(&why);
        if old.single {
            return Err(said(Failure::Answered { function: "C_OpenSession", code: CKR_SESSION_COUNT }));
        }
        // A device that confirms the login and denies it has lost more than that.
        if logins.is_some() && old.keeper().state().map_err(said)? == SessionState::User {
            return Err(said(Failure::Answered { function: "C_Login", code: CKR_USER_ALREADY_LOGGED_IN }));
        }
        let info = self.library.device_info(old.slot).map_err(said)?;
        if DeviceId::of(&info) != old.device {
            return Err(not_found(&old.device.uri(), Vec::new()));
        }
        old.idle().clear();
        // Opened before the old ones are closed: with the last session of a device its login ends.
        let renewed = Arc::new(Connection::open(&self.library, &self.profile, old.slot, &info, logins)?);
        self.connections.retain(|open| !Arc::ptr_eq(open, old));
        self.connections.push(renewed.clone());
        Ok(renewed)
    }

    /// The device that `uri` names, opened and logged in to.
    pub(super) fn connect(&mut self, uri: &Uri, logins: &dyn Logins) -> Result<Arc<Connection>, Error> {
        let (slot, info) = self.find(uri)?;
        let device = DeviceId::of(&info);
        if let Some(open) = self.connection_to(slot, &device) {
            return Ok(open.clone());
        }
        let connection = Arc::new(Connection::open(&self.library, &self.profile, slot, &info, Some(logins))?);
        self.connections.push(connection.clone());
        Ok(connection)
    }

    /// This device, if it is open and still in this slot.
    fn connection_to(&self, slot: Slot, device: &DeviceId) -> Option<&Arc<Connection>> {
        self.connections.iter().find(|open| open.slot == slot && open.device == *device)
    }

    /// The open device in this slot.
    pub(super) fn connection_in(&self, slot: Slot) -> Option<&Arc<Connection>> {
        self.connections.iter().find(|open| open.slot == slot)
    }

    /// The one initialized device that `uri` matches. A slot that cannot be asked hides none of the others.
    pub(super) fn find(&self, uri: &Uri) -> Result<(Slot, DeviceInfo), Error> {
        if uri.names_slot_or_library() && !self.matches(uri)? {
            return Err(not_found(uri, Vec::new()));
        }
        let mut matching = Vec::new();
        let mut seen = Vec::new();
        let mut trouble = None;
        let mut answered_at_all = false;
        for slot in self.library.slots().map_err(|why| answered(&why))? {
            let info = match self.library.device_info(slot) {
                Ok(info) => info,
                Err(why) => {
                    trouble = Some(answered(&why));
                    continue;
                }
            };
            answered_at_all = true;
            if !info.is_initialized() {
                continue;
            }
            let device = DeviceId::of(&info);
            if device.is_named_by(uri) && self.slot_is_named_by(slot, uri) {
                matching.push((slot, info));
            }
            seen.push(device.uri().to_string());
        }
        let candidates = |found: &[(Slot, DeviceInfo)]| {
            found.iter().map(|(_, info)| DeviceId::of(info).uri().to_string()).collect()
        };
        match (matching.pop(), matching.is_empty(), trouble) {
            (Some(only), true, _) => Ok(only),
            (Some(last), false, _) => {
                matching.push(last);
                Err(Error::Ambiguous {
                    sought: Sought::Device,
                    uri: uri.to_string(),
                    candidates: candidates(&matching),
                })
            }
            // Trouble with one slot is no reason to take the sessions of the others from them.
            (None, _, Some(trouble)) if !answered_at_all => Err(trouble),
            (None, ..) => Err(not_found(uri, seen)),
        }
    }

    fn matches(&self, uri: &Uri) -> Result<bool, Error> {
        let info = self.library.info().map_err(|why| answered(&why))?;
        Ok(uri.matches_library(&info.manufacturer, &info.description, &info.version.to_string()))
    }

    fn slot_is_named_by(&self, slot: Slot, uri: &Uri) -> bool {
        !uri.names_slot_or_library()
            || self
                .library
                .slot_info(slot)
                .is_ok_and(|info| uri.matches_slot(slot.0, &info.manufacturer, &info.description))
    }
}

fn ask(session: &dyn Session, probe: Probe) -> Result<(), Failure> {
    let outcome = match probe {
        Probe::Find => session.find(&[Attribute::class(ObjectClass::PrivateKey)], 1).map(drop),
        Probe::Random => session.random().map(drop),
    };
    match outcome {
        // It wants a login first: then it is there.
        Err(why) if is(&why, "CKR_USER_NOT_LOGGED_IN") => Ok(()),
        outcome => outcome,
    }
}

fn not_found(uri: &Uri, candidates: Vec<String>) -> Error {
    Error::NotFound { sought: Sought::Device, uri: uri.to_string(), candidates }
}

impl Connection {
    fn open(
        library: &Arc<dyn Library>,
        profile: &Arc<Profile>,
        slot: Slot,
        info: &DeviceInfo,
        logins: Option<&dyn Logins>,
    ) -> Result<Self, Error> {
        let single = allows_one_session(info, profile);
        let keeper = library.open(slot, access(profile, single)).map_err(|why| answered(&why))?;
        log_in(library.as_ref(), slot, keeper.as_ref(), profile, logins)?;
        let logged_in = is_logged_in(keeper.as_ref());
        Ok(Self {
            slot,
            device: DeviceId::of(info),
            library: library.clone(),
            profile: profile.clone(),
            keeper: Mutex::new(keeper),
            idle: Mutex::default(),
            single,
            logged_in,
            logging_in: Mutex::default(),
        })
    }

    /// Whether the login is gone that the device had confirmed: then it shows no private key, and means nothing by it.
    pub(super) fn has_lost_login(&self, session: &dyn Session) -> bool {
        self.logged_in && !is_logged_in(session)
    }

    /// One login for a signature at a time.
    pub(super) fn logging_in(&self) -> MutexGuard<'_, ()> {
        self.logging_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that holds the login.
    pub(super) fn keeper(&self) -> MutexGuard<'_, Box<dyn Session>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` with a session that signs; a session in which something failed is not used again.
    pub(super) fn signing<T>(
        &self,
        act: impl FnOnce(&dyn Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.single {
            return act(self.keeper().as_ref());
        }
        let session = match self.take_idle() {
            Ok(session) => session,
            // All that the device allows are in use elsewhere.
            Err(why) if is(&why, "CKR_SESSION_COUNT") => return act(self.keeper().as_ref()),
            Err(why) => return Err(why),
        };
        let outcome = act(session.as_ref());
        if outcome.is_ok() {
            self.idle().push(session);
        }
        outcome
    }

    /// Opens sessions until `wanted` of them can sign side by side; how many can, and what the device said to the next.
    pub(super) fn reserve(&self, wanted: usize) -> (usize, Option<Failure>) {
        let mut idle = self.idle();
        while !self.single && idle.len() < wanted {
            match self.library.open(self.slot, access(&self.profile, false)) {
                Ok(session) => idle.push(session),
                Err(why) => return (idle.len().max(1), Some(why)),
            }
        }
        (idle.len().clamp(1, wanted.max(1)), None)
    }

    /// Runs `act` with a session that may write.
    pub(super) fn writing<T>(&self, act: impl FnOnce(&dyn Session) -> Result<T, Error>) -> Result<T, Error> {
        if access(&self.profile, self.single) == Access::ReadWrite {
            return act(self.keeper().as_ref());
        }
        let opened = self.library.open(self.slot, Access::ReadWrite).or_else(|why| {
            if !is(&why, "CKR_SESSION_COUNT") {
                return Err(why);
            }
            self.idle().clear();
            self.library.open(self.slot, Access::ReadWrite)
        });
        act(opened.map_err(|why| answered(&why))?.as_ref())
    }

    /// An idle session, or a new one. Opened one after another: not every library opens two at a time.
    fn take_idle(&self) -> Result<Box<dyn Session>, Failure> {
        let mut idle = self.idle();
        match idle.pop() {
            Some(session) => Ok(session),
            None => self.library.open(self.slot, access(&self.profile, false)),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<dyn Session>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn allows_one_session(info: &DeviceInfo, profile: &Profile) -> bool {
    profile.session.total == 1 || info.max_sessions == SessionLimit::Most(1)
}

/// The one session of a device that allows no other must be able to write, too.
fn access(profile: &Profile, single: bool) -> Access {
    if single || profile.session.kind == SessionKind::Rw { Access::ReadWrite } else { Access::ReadOnly }
}
