//! Who may log in: every C_Login is authorised here first, and its outcome is told here afterwards.
//!
//! A PIN that is tried too often locks a card whose other secrets may be lost. So all that can be known without a try
//! is looked at before one, a refused PIN is remembered for as long as this object lives, and only a person who types
//! a PIN anew gets another try. The keeper of this memory stands outside of the library's own process: it survives a
//! library that crashes.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    calls::DeviceInfo,
    profile::{ContextPin, Profile, ProtectedPath},
    uri::{Uri, printable, trimmed},
};
use crate::sign::PinProblem;

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
    /// A PIN out of a file, a credential, a program: given again, it would be the same one.
    Stored(SecretString),
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
        let read = move |_: &PinRequest| Ok(read()?.map_or(PinAnswer::None, PinAnswer::Stored));
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
            locked: info.is_locked(),
            final_try: info.is_at_final_try(),
            pin_pad: info.has_pin_pad(),
            pin_length: info.pin_length,
        }
    }
}

/// How a C_Login ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LoginOutcome {
    Done,
    /// With any error at all (the CKR code is given): some devices answer a wrong PIN with whatever comes to mind.
    Refused(String),
}

/// Authorises logins and is told how they ended.
pub(super) trait Logins: Send + Sync {
    /// The PIN for one C_Login; `None` stands for NULL: the device has a pad.
    fn authorize(&self, request: &LoginRequest) -> Result<Option<SecretString>, PinProblem>;
    /// To be called after every C_Login, however it ended. `true`: a person may be asked again.
    fn ended(&self, request: &LoginRequest, outcome: &LoginOutcome) -> bool;
}

/// A person who mistypes is asked this often.
const MOST_TYPED: u8 = 3;

/// What this process knows of PINs that were refused.
#[derive(Debug, Default)]
pub(super) struct Guard {
    refused: Mutex<HashMap<(DeviceId, Login), u8>>,
}

/// The guard, as one job meets it: with the PIN of its signer and the rules of its kind of device.
pub(super) struct Guarded {
    pub(super) guard: Arc<Guard>,
    pub(super) pin: Option<Pin>,
    pub(super) profile: Arc<Profile>,
}

impl Logins for Guarded {
    fn authorize(&self, request: &LoginRequest) -> Result<Option<SecretString>, PinProblem> {
        if request.locked {
            return Err(PinProblem::Locked);
        }
        let typed = self.pin.as_ref().is_some_and(Pin::is_typed);
        if request.final_try && !typed {
            return Err(PinProblem::FinalTry);
        }
        let refused = self.guard.refused(request);
        if refused > 0 && (!typed || refused >= MOST_TYPED) {
            return Err(PinProblem::RefusedBefore);
        }
        if self.profile.login.protected_path == ProtectedPath::Always {
            return Ok(None);
        }
        let asked = PinRequest {
            device: request.device.name(),
            login: request.login,
            refused,
            last_try: request.final_try,
        };
        match self.read(&asked)? {
            PinAnswer::None => {
                let pad = match self.profile.login.protected_path {
                    ProtectedPath::Auto => request.pin_pad,
                    ProtectedPath::Always => true,
                    ProtectedPath::Never => false,
                };
                if pad { Ok(None) } else { Err(PinProblem::Missing) }
            }
            // A person might have been asked, and was not: a stored PIN came first. It is the one that was refused.
            PinAnswer::Stored(_) if refused > 0 => Err(PinProblem::RefusedBefore),
            PinAnswer::Stored(_) if request.final_try => Err(PinProblem::FinalTry),
            PinAnswer::Stored(pin) | PinAnswer::Typed(pin) => {
                self.check(&pin, request)?;
                self.guard.spend(request);
                Ok(Some(pin))
            }
        }
    }

    fn ended(&self, request: &LoginRequest, outcome: &LoginOutcome) -> bool {
        match outcome {
            LoginOutcome::Done => {
                self.guard.clear(request);
                false
            }
            LoginOutcome::Refused(code) => {
                let device = request.device.name();
                tracing::warn!(device, code, "the login was refused; this PIN is not tried again");
                let typed = self.pin.as_ref().is_some_and(Pin::is_typed);
                typed && code == "CKR_PIN_INCORRECT" && self.guard.refused(request) < MOST_TYPED
            }
        }
    }
}

impl Guarded {
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

impl Guard {
    fn refused(&self, request: &LoginRequest) -> u8 {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(&key(request)).copied().unwrap_or(0)
    }

    /// Counts the try before it is made: an outcome that is never learnt was a wrong PIN.
    fn spend(&self, request: &LoginRequest) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(key(request)).or_default();
        *count = count.saturating_add(1);
    }

    fn clear(&self, request: &LoginRequest) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(request));
    }
}

fn key(request: &LoginRequest) -> (DeviceId, Login) {
    (request.device.clone(), request.login)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(final_try: bool) -> LoginRequest {
        let device = DeviceId {
            label: "A".into(),
            serial: "1".into(),
            manufacturer: String::new(),
            model: String::new(),
        };
        let pin_length = (4, 8);
        LoginRequest { device, login: Login::User, locked: false, final_try, pin_pad: false, pin_length }
    }

    /// With a source that may ask a person, and answers `answer`.
    fn guarded(answer: fn(SecretString) -> PinAnswer) -> Guarded {
        let pin = Pin::asking(true, move |_| Ok(answer(SecretString::from("1234"))));
        Guarded { guard: Arc::default(), pin: Some(pin), profile: Arc::new(Profile::unknown()) }
    }

    fn refused() -> LoginOutcome {
        LoginOutcome::Refused("CKR_PIN_INCORRECT".into())
    }

    #[test]
    fn a_stored_pin_is_tried_once_even_where_a_person_could_have_been_asked() {
        let logins = guarded(PinAnswer::Stored);
        assert!(logins.authorize(&request(false)).is_ok());
        logins.ended(&request(false), &refused());
        assert_eq!(logins.authorize(&request(false)).unwrap_err(), PinProblem::RefusedBefore);
    }

    #[test]
    fn the_last_try_is_a_persons_to_spend_and_not_a_stored_pins() {
        assert_eq!(guarded(PinAnswer::Stored).authorize(&request(true)).unwrap_err(), PinProblem::FinalTry);
        assert!(guarded(PinAnswer::Typed).authorize(&request(true)).is_ok());
    }

    #[test]
    fn a_person_who_mistypes_is_asked_three_times() {
        let logins = guarded(PinAnswer::Typed);
        for left in [true, true, false] {
            assert!(logins.authorize(&request(false)).is_ok());
            assert_eq!(logins.ended(&request(false), &refused()), left);
        }
        assert_eq!(logins.authorize(&request(false)).unwrap_err(), PinProblem::RefusedBefore);
        let logins = guarded(PinAnswer::Typed);
        logins.authorize(&request(false)).unwrap();
        logins.ended(&request(false), &LoginOutcome::Done);
        assert!(logins.authorize(&request(false)).is_ok(), "one that was right is forgotten");
    }
}
