//! An initialized library: its devices, and the sessions that keep them logged in.

use std::{cell::RefCell, collections::HashSet, path::Path, rc::Rc};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as CryptokiError, RvError},
    session::{Session, SessionState, UserType},
    slot::{Slot, TokenInfo},
};
use secrecy::ExposeSecret;

use super::{
    Pin, Uri,
    code::{answered, name_of},
    uri::{printable, trimmed},
};
use crate::{
    clock::Instant,
    sign::{Error, PinProblem, Sought},
};

/// A library between C_Initialize and C_Finalize.
pub(super) struct Library {
    context: Pkcs11,
    /// Somebody else in this process had initialized it: then finalizing it is not ours to do.
    foreign: bool,
    since: Instant,
    connections: Vec<Rc<Connection>>,
}

/// What tells one device from another, for as long as this process runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DeviceId {
    label: String,
    serial: String,
    manufacturer: String,
    model: String,
}

/// A device that is open, and logged in to where it wants that.
pub(super) struct Connection {
    pub(super) slot: Slot,
    pub(super) device: DeviceId,
    /// Holds the login: closing the last session of a device logs out. Never signs, since a failed signature can
    /// leave a session unusable.
    pub(super) keeper: Session,
    work: RefCell<Option<Session>>,
}

/// Loads the library at `path`, for good: unloading leaves some libraries' threads without their code.
pub(super) fn load(path: &Path) -> Result<Pkcs11, Error> {
    let failed = |why: CryptokiError| Error::Module {
        path: path.display().to_string(),
        problem: match why {
            CryptokiError::Pkcs11(value, function) => {
                format!("it answers {} to C_{function:?}", name_of(value))
            }
            CryptokiError::MissingSymbol(name) => format!("it has no {name}, so it is no PKCS#11 library"),
            other => other.to_string(),
        },
    };
    let context = Pkcs11::new(path).map_err(failed)?;
    std::mem::forget(context.clone());
    Ok(context)
}

impl Library {
    /// C_Initialize.
    pub(super) fn initialize(context: &Pkcs11, now: Instant) -> Result<Self, Error> {
        let context = context.clone();
        let library =
            |foreign| Self { context: context.clone(), foreign, since: now, connections: Vec::new() };
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) => Ok(library(false)),
            Err(CryptokiError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(library(true)),
            Err(why) => {
                // Some libraries are initialized all the same, without slots, and would stay so.
                let _ = context.clone().finalize();
                Err(answered(&why))
            }
        }
    }

    /// Closes every session and finalizes the library.
    pub(super) fn finalize(self) {
        let Self { context, foreign, connections, .. } = self;
        drop(connections);
        if !foreign && let Err(why) = context.finalize() {
            tracing::debug!(error = %answered(&why), "the library was not finalized");
        }
    }

    pub(super) fn context(&self) -> &Pkcs11 {
        &self.context
    }

    /// When it was initialized (monotonic).
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether no device is open.
    pub(super) fn is_idle(&self) -> bool {
        self.connections.is_empty()
    }

    /// The device that `uri` names, opened and logged in to.
    pub(super) fn connect(
        &mut self,
        uri: &Uri,
        pin: Option<&Pin>,
        refused: &mut HashSet<DeviceId>,
    ) -> Result<Rc<Connection>, Error> {
        let (slot, info) = self.find(uri)?;
        let device = DeviceId::of(&info);
        if let Some(open) = self.connections.iter().find(|open| open.device == device) {
            return Ok(open.clone());
        }
        let keeper = self.context.open_ro_session(slot).map_err(|why| answered(&why))?;
        log_in(&keeper, &info, &device, pin, refused)?;
        let connection = Rc::new(Connection { slot, device, keeper, work: RefCell::new(None) });
        self.connections.push(connection.clone());
        Ok(connection)
    }

    /// The one initialized device that `uri` matches. A slot that cannot be asked hides none of the others.
    pub(super) fn find(&self, uri: &Uri) -> Result<(Slot, TokenInfo), Error> {
        if uri.names_slot_or_library() && !self.matches(uri)? {
            return Err(self.not_found(uri, Vec::new()));
        }
        let mut matching = Vec::new();
        let mut seen = Vec::new();
        let mut trouble = None;
        for slot in self.context.get_slots_with_token().map_err(|why| answered(&why))? {
            let info = match self.context.get_token_info(slot) {
                Ok(info) => info,
                Err(why) => {
                    trouble = Some(answered(&why));
                    continue;
                }
            };
            if !info.token_initialized() {
                continue;
            }
            let device = DeviceId::of(&info);
            if device.is_named_by(uri) && self.slot_is_named_by(slot, uri) {
                matching.push((slot, info));
            }
            seen.push(device.uri().to_string());
        }
        let candidates = |found: &[(Slot, TokenInfo)]| {
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
            (None, _, Some(trouble)) => Err(trouble),
            (None, _, None) => Err(self.not_found(uri, seen)),
        }
    }

    fn not_found(&self, uri: &Uri, candidates: Vec<String>) -> Error {
        Error::NotFound { sought: Sought::Device, uri: uri.to_string(), candidates }
    }

    fn matches(&self, uri: &Uri) -> Result<bool, Error> {
        let info = self.context.get_library_info().map_err(|why| answered(&why))?;
        Ok(uri.matches_library(
            info.manufacturer_id(),
            info.library_description(),
            &info.library_version().to_string(),
        ))
    }

    fn slot_is_named_by(&self, slot: Slot, uri: &Uri) -> bool {
        !uri.names_slot_or_library()
            || self
                .context
                .get_slot_info(slot)
                .is_ok_and(|info| uri.matches_slot(info.manufacturer_id(), info.slot_description()))
    }
}

impl Connection {
    /// Runs `act` with the session that signs; a session in which something failed is not used again.
    pub(super) fn with_session<T>(
        &self,
        context: &Pkcs11,
        act: impl FnOnce(&Session) -> Result<T, CryptokiError>,
    ) -> Result<T, CryptokiError> {
        let mut work = self.work.borrow_mut();
        let session = match work.take() {
            Some(session) => session,
            None => context.open_ro_session(self.slot)?,
        };
        let outcome = act(&session);
        if outcome.is_ok() {
            *work = Some(session);
        }
        outcome
    }
}

impl DeviceId {
    pub(super) fn of(info: &TokenInfo) -> Self {
        Self {
            label: trimmed(info.label()).to_owned(),
            serial: trimmed(info.serial_number()).to_owned(),
            manufacturer: trimmed(info.manufacturer_id()).to_owned(),
            model: trimmed(info.model()).to_owned(),
        }
    }

    pub(super) fn uri(&self) -> Uri {
        Uri::of_device(&self.label, &self.serial)
    }

    /// As people name it: `label (serial)`. What a device says of itself is no more trusted than what a server says.
    pub(super) fn name(&self) -> String {
        printable(&format!("{} ({})", self.label, self.serial))
    }

    fn is_named_by(&self, uri: &Uri) -> bool {
        uri.matches_device(&self.label, &self.serial, &self.manufacturer, &self.model)
    }
}

/// Logs in where the device wants it. One try, after every check that costs none; a refusal is remembered, and for
/// this device no other try is made while this process runs.
fn log_in(
    session: &Session,
    info: &TokenInfo,
    device: &DeviceId,
    pin: Option<&Pin>,
    refused: &mut HashSet<DeviceId>,
) -> Result<(), Error> {
    if !info.login_required() || is_logged_in(session) {
        return Ok(());
    }
    let problem = |problem| Error::Pin { device: device.name(), problem };
    if info.user_pin_locked() {
        return Err(problem(PinProblem::Locked));
    }
    if info.user_pin_final_try() {
        return Err(problem(PinProblem::FinalTry));
    }
    if refused.contains(device) {
        return Err(problem(PinProblem::RefusedBefore));
    }
    let pin = match pin {
        Some(source) => source.read().map_err(problem)?,
        None => None,
    };
    match &pin {
        // Without a PIN the device asks for it on its own pad (PKCS#11 2.40 section 5.6, C_Login with NULL).
        None if info.protected_authentication_path() => {}
        None => return Err(problem(PinProblem::Missing)),
        Some(pin) => {
            let (min, max) = (info.min_pin_length(), info.max_pin_length());
            let length = pin.expose_secret().len();
            // A longest PIN of 0 is what some devices say when they mean nothing by it.
            if length == 0 || length < min || (max != 0 && length > max) {
                return Err(problem(PinProblem::Length(min as u64, max as u64)));
            }
        }
    }
    match session.login(UserType::User, pin.as_ref()) {
        Ok(()) => {
            tracing::info!(device = %device.name(), "logged in");
            Ok(())
        }
        Err(CryptokiError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(why) => {
            // Whatever the device calls it, a try may have been spent: some answer a wrong PIN with any error.
            refused.insert(device.clone());
            let code = match why {
                CryptokiError::Pkcs11(value, _) => name_of(value),
                other => other.to_string(),
            };
            tracing::warn!(device = %device.name(), code, "the login was refused; it is not tried again");
            Err(problem(PinProblem::Refused(code)))
        }
    }
}

/// Whether the device is logged in to, by this process.
pub(super) fn is_logged_in(session: &Session) -> bool {
    session
        .get_session_info()
        .is_ok_and(|info| matches!(info.session_state(), SessionState::RoUser | SessionState::RwUser))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_calls_itself_by_control_characters_cannot_steer_a_terminal() {
        let device = DeviceId {
            label: "\u{1b}[2Jsign".into(),
            serial: "01\u{7}".into(),
            manufacturer: String::new(),
            model: String::new(),
        };
        assert_eq!(device.name(), "\u{fffd}[2Jsign (01\u{fffd})");
    }
}
