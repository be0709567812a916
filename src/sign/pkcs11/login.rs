//! Who may log in: every C_Login is authorised here first, and its outcome is told here afterwards.
//!
//! A PIN that is tried too often locks a card whose other secrets may be lost. So all that can be known without a try
//! is looked at before one, a refused PIN is remembered ([`super::guard`]), and only a changed source or a person who
//! types a PIN anew gets another try. The keeper of this memory stands outside of the library's own process: it survives
//! a library that crashes.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    calls::DeviceInfo,
    guard::{Guard, PinFlags, TriedBy, Try},
    profile::{ContextPin, Profile, ProtectedPath},
    uri::{Uri, printable, trimmed},
};
use crate::{secret::Origin, sign::PinProblem};

/// Which of a device's logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Login {
    /// The user's, once for as long as the device is open (`CKU_USER`).
    User,
    /// For one signature, with a key that wants it (`CKU_CONTEXT_SPECIFIC`).
    Signature,
}

/// What is known when a PIN is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinRequest {
    /// The device, as `label (serial)`.
    pub device: String,
    /// Which login it is for.
    pub login: Login,
    /// How many PINs were refused since the last one that was right.
    pub refused: u8,
    /// The device says that this is its last try.
    pub last_try: bool,
}

/// What a source of PINs gives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PinAnswer {
    /// Nothing: right for devices with a pad of their own.
    None,
    /// A PIN out of a file, a credential, a program: given again, it would be the same one. With where it came from, if
    /// that is known: only of an ordinary file can be seen that it has been changed.
    Stored(SecretString, Option<Origin>),
    /// A PIN that a person has just typed.
    Typed(SecretString),
}

type Read = Arc<dyn Fn(&PinRequest) -> Result<PinAnswer, PinProblem> + Send + Sync>;

/// Where a device's PINs come from. Read only when a login is needed, and never kept.
#[derive(Clone)]
pub struct Pin {
    read: Read,
    signature: Option<Read>,
    /// Whether a person types it: then a device's last try is theirs to spend.
    typed: bool,
}

impl Pin {
    /// A PIN that `read` gives out of a store. `None` means that there is no PIN to give: right for devices with a pad
    /// of their own, and [`PinProblem::Missing`] for all others.
    pub fn new(read: impl Fn() -> Result<Option<SecretString>, PinProblem> + Send + Sync + 'static) -> Self {
        let read =
            move |_: &PinRequest| Ok(read()?.map_or(PinAnswer::None, |pin| PinAnswer::Stored(pin, None)));
        Self { read: Arc::new(read), signature: None, typed: false }
    }

    /// A PIN that a person may type: `ask` is called again after one that was refused, three times at most.
    /// `typed` says beforehand whether a person will be asked.
    pub fn asking(
        typed: bool,
        ask: impl Fn(&PinRequest) -> Result<PinAnswer, PinProblem> + Send + Sync + 'static,
    ) -> Self {
        Self { read: Arc::new(ask), signature: None, typed }
    }

    /// The same, with another PIN for each signature.
    #[must_use]
    pub fn with_signature_pin(mut self, signature: &Self) -> Self {
        self.signature = Some(signature.read.clone());
        self.typed |= signature.typed;
        self
    }

    /// Whether there is another PIN for each signature.
    #[must_use]
    pub fn has_signature_pin(&self) -> bool {
        self.signature.is_some()
    }

    /// Whether a person is asked for it.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        self.typed
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

/// What tells one device from another. Serial numbers alone do not: some makers write nought on every device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct DeviceId {
    pub(super) label: String,
    pub(super) serial: String,
    pub(super) manufacturer: String,
    pub(super) model: String,
}

impl DeviceId {
    pub(super) fn of(info: &DeviceInfo) -> Self {
        let plain = |text: &str| trimmed(text).to_owned();
        Self {
            label: plain(&info.label),
            serial: plain(&info.serial),
            manufacturer: plain(&info.manufacturer),
            model: plain(&info.model),
        }
    }

    pub(super) fn uri(&self) -> Uri {
        Uri::of_device(&self.label, &self.serial)
    }

    /// As people name it: `label (serial)`. What a device says of itself is no more trusted than what a server says.
    pub(super) fn name(&self) -> String {
        printable(&format!("{} ({})", self.label, self.serial))
    }

    pub(super) fn is_named_by(&self, uri: &Uri) -> bool {
        uri.matches_device(&self.label, &self.serial, &self.manufacturer, &self.model)
    }
}

/// A C_Login that is about to be made, with what the device says of its PIN at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoginRequest {
    pub(super) device: DeviceId,
    pub(super) login: Login,
    pub(super) count_low: bool,
    pub(super) locked: bool,
    pub(super) final_try: bool,
    pub(super) pin_pad: bool,
    /// In bytes; a longest PIN of 0 says nothing.
    pub(super) pin_length: (u64, u64),
}

impl LoginRequest {
    pub(super) fn new(info: &DeviceInfo, login: Login) -> Self {
        Self {
            device: DeviceId::of(info),
            login,
            count_low: info.pin_count_is_low(),
            locked: info.is_locked(),
            final_try: info.is_at_final_try(),
            pin_pad: info.has_pin_pad(),
            pin_length: info.pin_length,
        }
    }

    pub(super) fn flags(&self) -> PinFlags {
        PinFlags { count_low: self.count_low, final_try: self.final_try, locked: self.locked }
    }
}

/// How a C_Login ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LoginOutcome {
    Done,
    /// The device wanted no login: whatever PIN it was given, it did not look at it.
    NotWanted,
    /// With any error at all (the CKR code is given): some devices answer a wrong PIN with whatever comes to mind.
    Refused(String),
}

/// Authorises logins and is told how they ended.
pub(super) trait Logins: Send + Sync {
    /// Held from before a login is authorised until it is told how it ended: what the next one may do depends on it.
    fn turn(&self) -> MutexGuard<'_, ()>;
    /// The PIN for one C_Login; `None` stands for NULL: the device has a pad.
    fn authorize(&self, request: &LoginRequest) -> Result<Option<SecretString>, PinProblem>;
    /// To be called after every C_Login, however it ended. `true`: a person may be asked again.
    fn ended(&self, request: &LoginRequest, outcome: &LoginOutcome) -> bool;
    /// How a C_Login ended will never be known, if one was under way.
    fn lost(&self) {}
}

/// A person who mistypes is asked this often.
const MOST_TYPED: u8 = 3;

/// The guard, as one job meets it: with the PIN of its signer and the rules of its kind of device.
pub(super) struct Guarded {
    guard: Arc<Guard>,
    pin: Option<Pin>,
    profile: Arc<Profile>,
    made: Mutex<Option<Try>>,
    /// The last login of the user that was asked for.
    asked: Mutex<Option<LoginRequest>>,
}

impl Logins for Guarded {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.guard.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authorize(&self, request: &LoginRequest) -> Result<Option<SecretString>, PinProblem> {
        self.lost();
        if request.login == Login::User {
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.clone());
        }
        let kind = request.login;
        let request = &self.counted(request);
        if request.locked {
            return Err(PinProblem::Locked);
        }
        let typed = self.pin.as_ref().is_some_and(Pin::is_typed);
        if request.final_try && !typed {
            return Err(PinProblem::FinalTry);
        }
        let refused = self.guard.refused(request);
        if refused >= MOST_TYPED {
            return Err(PinProblem::RefusedBefore);
        }
        if self.profile.login.protected_path == ProtectedPath::Always {
            return Ok(None);
        }
        // Before a program is run for it, or a person asked.
        if let Some(known) = self.guard.known(request, &self.profile)? {
            let may_allow = known.may_allow(request.flags(), self.profile.login.flags_reliable);
            if !typed && !may_allow && !self.is_pad(request) {
                return Err(known.problem());
            }
            if known.spent > refused {
                let (device, spent) = (request.device.name(), known.spent);
                tracing::warn!(device, spent, "tries of this PIN have been spent since the last good login");
            }
        }
        let asked =
            PinRequest { device: request.device.name(), login: kind, refused, last_try: request.final_try };
        let (pin, by) = match self.read(&asked)? {
            PinAnswer::None if !self.is_pad(request) => return Err(PinProblem::Missing),
            PinAnswer::None if refused > 0 => return Err(PinProblem::RefusedBefore),
            PinAnswer::None => (None, TriedBy::Pad),
            PinAnswer::Stored(_, _) if request.final_try => return Err(PinProblem::FinalTry),
            // A person might have been asked, and was not: a stored PIN came first.
            PinAnswer::Stored(pin, origin) => (Some(pin), TriedBy::Source(origin)),
            PinAnswer::Typed(pin) => (Some(pin), TriedBy::Person),
        };
        if let Some(pin) = &pin {
            self.check(pin, request)?;
        }
        *self.made() = Some(self.guard.begin(request, &self.profile, by)?);
        Ok(pin)
    }

    fn ended(&self, request: &LoginRequest, outcome: &LoginOutcome) -> bool {
        let made = self.made().take();
        let request = &self.counted(request);
        match outcome {
            LoginOutcome::Done => {
                self.guard.succeeded(request, made);
                false
            }
            LoginOutcome::NotWanted => {
                self.guard.not_made(request, made);
                false
            }
            LoginOutcome::Refused(code) => {
                self.guard.failed(request, made, code);
                let device = request.device.name();
                tracing::warn!(device, code, "the login was refused; this PIN is not tried again");
                let typed = self.pin.as_ref().is_some_and(Pin::is_typed);
                typed && code == "CKR_PIN_INCORRECT" && self.guard.refused(request) < MOST_TYPED
            }
        }
    }

    fn lost(&self) {
        *self.made() = None;
    }
}

impl Guarded {
    pub(super) fn new(guard: Arc<Guard>, pin: Option<Pin>, profile: Arc<Profile>) -> Self {
        Self { guard, pin, profile, made: Mutex::default(), asked: Mutex::default() }
    }

    /// The last login of the user that was asked for.
    pub(super) fn asked(&self) -> Option<LoginRequest> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a login that was not granted might be now, as far as that can be told without device and PIN: a person
    /// is there to type it, has changed its source or cleared the record, or the device's own flags say that no try was
    /// spent.
    pub(super) fn might_log_in(&self, request: &LoginRequest) -> bool {
        if self.pin.as_ref().is_some_and(Pin::is_typed) || self.is_pad(request) {
            return true;
        }
        match self.guard.known(request, &self.profile) {
            Ok(Some(known)) => known.is_open(request.flags(), self.profile.login.flags_reliable),
            Ok(None) => !request.locked && !request.final_try,
            Err(_) => false,
        }
    }

    fn made(&self) -> MutexGuard<'_, Option<Try>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The login that this one counts as. A signature that takes the PIN of the login takes its tries, too: a PIN that
    /// was changed elsewhere would otherwise be refused once for a signature, and once more at the next login.
    fn counted(&self, request: &LoginRequest) -> LoginRequest {
        let has_own = self.pin.as_ref().is_some_and(Pin::has_signature_pin);
        let is_own = has_own || self.profile.sign.context_pin == ContextPin::Separate;
        let login = if is_own { request.login } else { Login::User };
        LoginRequest { login, ..request.clone() }
    }

    /// Whether the PIN, when none is given, is typed on the device itself.
    fn is_pad(&self, request: &LoginRequest) -> bool {
        match self.profile.login.protected_path {
            ProtectedPath::Auto => request.pin_pad,
            ProtectedPath::Always => true,
            ProtectedPath::Never => false,
        }
    }

    fn read(&self, asked: &PinRequest) -> Result<PinAnswer, PinProblem> {
        let Some(pin) = &self.pin else { return Ok(PinAnswer::None) };
        match (asked.login, &pin.signature) {
            (Login::User, _) => (pin.read)(asked),
            (Login::Signature, Some(read)) => read(asked),
            (Login::Signature, None) if self.profile.sign.context_pin == ContextPin::Same => {
                (pin.read)(asked)
            }
            (Login::Signature, None) => Ok(PinAnswer::None),
        }
    }

    /// What can be known to be wrong with a PIN before it costs a try.
    fn check(&self, pin: &SecretString, request: &LoginRequest) -> Result<(), PinProblem> {
        let pin = pin.expose_secret();
        let (min, max) = request.pin_length;
        let length = pin.len() as u64;
        // A longest PIN of 0 is what some devices say when they mean nothing by it.
        if length == 0 || length < min || (max != 0 && length > max) {
            return Err(PinProblem::Length(min, max));
        }
        self.profile.login.misfit(pin).map_or(Ok(()), |why| Err(PinProblem::Format(why)))
    }
}

#[cfg(test)]
impl Pin {
    /// Out of a file that has been written so often.
    pub(super) fn in_file(times: u64) -> Self {
        Self::asking(false, move |_| {
            let file = format!(r#"{{"device":1,"inode":{times},"modified_s":0,"modified_ns":0}}"#);
            let origin = serde_json::from_str(&format!(r#"{{"source":"file:/pin","file":{file}}}"#));
            let origin: Origin = origin.map_err(|why| PinProblem::Source(why.to_string()))?;
            Ok(PinAnswer::Stored(SecretString::from("1234"), Some(origin)))
        })
    }
}

#[cfg(test)]
impl LoginRequest {
    /// The user's login at a device of this label and serial number, which says nothing bad of its PIN.
    pub(super) fn sample(label: &str, serial: &str) -> Self {
        let (manufacturer, model) = (String::new(), String::new());
        Self {
            device: DeviceId { label: label.to_owned(), serial: serial.to_owned(), manufacturer, model },
            login: Login::User,
            count_low: false,
            locked: false,
            final_try: false,
            pin_pad: false,
            pin_length: (4, 8),
        }
    }
}

#[cfg(test)]
mod tests;
