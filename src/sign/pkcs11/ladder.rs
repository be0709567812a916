//! What each answer of a library means, and what is done about it: the one place that decides.
//!
//! ```text
//!   (function, CKR code) ─▶ Class ─▶ rungs:  new session ─ log in ─ initialize anew ─ new process ─ open circuit
//!                                            └──────── within the request ────────┘   the host      the breaker
//! ```
//!
//! The tables are data. A profile moves single codes from one class to another; what concerns a PIN it cannot move.

use super::{
    calls::{Failure, code_name, code_of},
    profile::{Isolation, Profile, ReinitKind},
};
use crate::sign::{Error, PinProblem, Sought};

/// What an answer says is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// The session, its operation or a handle is gone; the login may be there still.
    SessionDead,
    /// Somebody or something logged us out.
    LoggedOut,
    /// The device, its link or the library is gone or broken.
    Device,
    /// The device has more to do, or to hold, than it can.
    Busy,
    /// It passes by itself: the same once more.
    Transient,
    /// A login that was not granted, whatever was answered to it. Nothing is ever done about it but to stop.
    Pin,
    /// What was asked is wrong, and asking again gives the same answer.
    Caller,
}

/// What can be done, in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Rung {
    /// New sessions on the device, with its keys found anew. The login must have lasted.
    NewSession,
    /// The same, with a new login.
    LogIn,
    /// C_Finalize and C_Initialize.
    Reinitialize,
    /// The library's process is ended and another one started.
    NewProcess,
    /// The device is left alone for a while.
    OpenCircuit,
}

/// A rung, and how often one request may take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    rung: Rung,
    most: usize,
}

const fn once(rung: Rung) -> Step {
    Step { rung, most: 1 }
}

impl Class {
    fn steps(self) -> &'static [Step] {
        use Rung::{LogIn, NewProcess, NewSession, OpenCircuit, Reinitialize};
        match self {
            Self::SessionDead => {
                const { &[once(NewSession), once(Reinitialize), once(NewProcess), once(OpenCircuit)] }
            }
            Self::LoggedOut => {
                const { &[once(LogIn), once(Reinitialize), once(NewProcess), once(OpenCircuit)] }
            }
            Self::Device => const { &[once(Reinitialize), once(NewProcess), once(OpenCircuit)] },
            // To initialize anew gives back all that this process holds.
            Self::Busy => const { &[once(NewSession), once(Reinitialize), once(OpenCircuit)] },
            Self::Transient => {
                const { &[Step { rung: NewSession, most: 2 }, once(Reinitialize), once(OpenCircuit)] }
            }
            Self::Pin => const { &[once(OpenCircuit)] },
            Self::Caller => &[],
        }
    }
}

/// A row of the table. An empty list stands for any.
struct Row {
    functions: &'static [&'static str],
    codes: &'static [&'static str],
    class: Class,
}

/// Whatever these answer, a PIN may have been tried.
const TAKES_PIN: &[&str] = &["C_Login", "C_InitPIN", "C_InitToken", "C_SetPIN"];

/// Whatever these answer, the library does not run: it was asked nothing that could be wrong, and has seen no PIN.
const STARTS: &[&str] = &["C_Initialize"];

/// Whatever answers these, a PIN is not what it should be.
const ABOUT_PIN: &[&str] = &[
    "CKR_PIN_EXPIRED",
    "CKR_PIN_INCORRECT",
    "CKR_PIN_INVALID",
    "CKR_PIN_LEN_RANGE",
    "CKR_PIN_LOCKED",
    "CKR_PIN_TOO_WEAK",
    "CKR_USER_PIN_NOT_INITIALIZED",
];

/// These come before what a profile says.
const FIRST: &[Row] = &[
    Row { functions: TAKES_PIN, codes: &[], class: Class::Pin },
    Row { functions: STARTS, codes: ABOUT_PIN, class: Class::Device },
    Row { functions: &[], codes: ABOUT_PIN, class: Class::Pin },
];

/// The first row that fits holds. What fits none, a vendor's own codes among it, is of [`Class::Device`].
const TABLE: &[Row] = &[
    Row { functions: STARTS, codes: &[], class: Class::Device },
    Row {
        functions: &[],
        codes: &[
            "CKR_ACTION_PROHIBITED",
            "CKR_ARGUMENTS_BAD",
            "CKR_ATTRIBUTE_READ_ONLY",
            "CKR_ATTRIBUTE_SENSITIVE",
            "CKR_ATTRIBUTE_TYPE_INVALID",
            "CKR_ATTRIBUTE_VALUE_INVALID",
            "CKR_BUFFER_TOO_SMALL",
            "CKR_DATA_INVALID",
            "CKR_DATA_LEN_RANGE",
            "CKR_DOMAIN_PARAMS_INVALID",
            "CKR_FUNCTION_NOT_SUPPORTED",
            "CKR_KEY_FUNCTION_NOT_PERMITTED",
            "CKR_KEY_SIZE_RANGE",
            "CKR_KEY_TYPE_INCONSISTENT",
            "CKR_MECHANISM_INVALID",
            "CKR_MECHANISM_PARAM_INVALID",
            "CKR_TEMPLATE_INCOMPLETE",
            "CKR_TEMPLATE_INCONSISTENT",
            "CKR_TOKEN_WRITE_PROTECTED",
        ],
        class: Class::Caller,
    },
    Row {
        functions: &[],
        codes: &[
            "CKR_KEY_HANDLE_INVALID",
            "CKR_OBJECT_HANDLE_INVALID",
            "CKR_OPERATION_ACTIVE",
            "CKR_OPERATION_NOT_INITIALIZED",
            "CKR_SESSION_CLOSED",
            "CKR_SESSION_HANDLE_INVALID",
        ],
        class: Class::SessionDead,
    },
    Row { functions: &[], codes: &["CKR_USER_NOT_LOGGED_IN"], class: Class::LoggedOut },
    Row {
        functions: &[],
        codes: &["CKR_DEVICE_MEMORY", "CKR_HOST_MEMORY", "CKR_SESSION_COUNT", "CKR_TOKEN_RESOURCE_EXCEEDED"],
        class: Class::Busy,
    },
    Row { functions: &[], codes: &["CKR_CANCEL", "CKR_FUNCTION_CANCELED"], class: Class::Transient },
];

/// These may have done their work before they failed: nothing is asked again of whoever called them.
const NOT_TWICE: &[&str] = &["C_GenerateKeyPair", "C_CreateObject", "C_DestroyObject"];

/// Their failures are those of the library and not of one device.
const OF_THE_LIBRARY: &[&str] = &["C_Initialize", "C_Finalize", "C_GetInfo", "C_GetSlotList"];

/// The key may do with another mechanism what it did not do with this one.
const REFUSES_MECHANISM: &[&str] = &[
    "CKR_MECHANISM_INVALID",
    "CKR_MECHANISM_PARAM_INVALID",
    "CKR_KEY_FUNCTION_NOT_PERMITTED",
    "CKR_KEY_TYPE_INCONSISTENT",
    "CKR_FUNCTION_NOT_SUPPORTED",
    "CKR_DATA_LEN_RANGE",
    "CKR_DATA_INVALID",
];

/// Whether the key may do with another mechanism what it did not do with this one.
pub(super) fn refuses_mechanism(failure: &Failure) -> bool {
    match failure {
        Failure::Answered { code, .. } => REFUSES_MECHANISM.contains(&code_name(*code).as_str()),
        Failure::Unusable { .. } => false,
    }
}

/// Whether the library answered so because of what it was asked, as opposed to the state that it or a device is in.
pub(super) fn is_about_the_question(error: &Error) -> bool {
    match error {
        Error::Device { function, code } => !is_code(code) || standard(function, code) == Class::Caller,
        _ => true,
    }
}

/// Whether it is the library that failed, with all its devices.
pub(super) fn is_of_the_library(error: &Error) -> bool {
    match error {
        Error::Host { .. } => true,
        Error::Device { function, code } => {
            OF_THE_LIBRARY.contains(&function.as_str()) || code == "CKR_CRYPTOKI_NOT_INITIALIZED"
        }
        _ => false,
    }
}

/// Whether the device may have been plugged in or made since the library was initialized.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::NotFound { sought: Sought::Device, .. })
}

/// The class by the standard alone.
fn standard(function: &str, code: &str) -> Class {
    looked_up(FIRST, function, code).or_else(|| looked_up(TABLE, function, code)).unwrap_or(Class::Device)
}

fn looked_up(table: &[Row], function: &str, code: &str) -> Option<Class> {
    let fits = |list: &[&str], word: &str| list.is_empty() || list.contains(&word);
    table.iter().find(|row| fits(row.functions, function) && fits(row.codes, code)).map(|row| row.class)
}

/// What is wrong with a code in a profile's list.
pub(super) fn fault(text: &str) -> Option<String> {
    let Moved { function, code } = Moved::read(text);
    if function.as_ref().is_some_and(|function| !function.starts_with("C_")) {
        return Some(format!("{text:?}: the function is one like C_Sign"));
    }
    if code_of(&code).is_none() {
        return Some(format!(
            "{text:?} is neither a name like CKR_DEVICE_ERROR nor a number like 0x80000384"
        ));
    }
    looked_up(FIRST, function.as_deref().unwrap_or_default(), &code)
        .map(|_| format!("{text:?} concerns a PIN, and that is not for changing"))
}

/// Whether it is a code and no sentence.
fn is_code(code: &str) -> bool {
    code.starts_with("CKR_") || code.starts_with("0x")
}

/// The tables, with what a profile changes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ladder {
    moved: Vec<(Moved, Class)>,
    /// C_Finalize and C_Initialize do not help with this library: its process is started anew instead.
    by_process: bool,
}

/// A code, answered by one function or by any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moved {
    function: Option<String>,
    code: String,
}

impl Moved {
    fn read(text: &str) -> Self {
        let (function, code) = match text.split_once(':') {
            Some((function, code)) => (Some(function.to_owned()), code),
            None => (None, text),
        };
        // A number stands for a code that may have a name.
        let number = code.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        Self { function, code: number.map_or_else(|| code.to_owned(), code_name) }
    }

    fn fits(&self, function: &str, code: &str) -> bool {
        self.function.as_deref().is_none_or(|own| own == function) && self.code == code
    }
}

impl Ladder {
    /// For the devices of `profile`.
    pub(super) fn of(profile: &Profile) -> Self {
        let errors = &profile.errors;
        let lists = [
            (&errors.fatal, Class::Caller),
            (&errors.busy, Class::Busy),
            (&errors.transient, Class::Transient),
            (&errors.reinit, Class::Device),
        ];
        let moved = lists
            .into_iter()
            .flat_map(|(list, class)| list.iter().map(move |text| (Moved::read(text), class)));
        let by_process =
            errors.reinit_kind == ReinitKind::Process && profile.module.isolation == Isolation::Process;
        Self { moved: moved.collect(), by_process }
    }

    /// What it means that `function` answered `code` (a name of the standard, or a number like `0x80000384`).
    pub(super) fn class(&self, function: &str, code: &str) -> Class {
        looked_up(FIRST, function, code)
            .or_else(|| self.moved_class(function, code))
            .or_else(|| looked_up(TABLE, function, code))
            .unwrap_or(Class::Device)
    }

    /// Whether what `error` says passes by itself, and what was asked may be asked once more.
    pub(super) fn passes(&self, error: &Error) -> bool {
        self.class_of(error) == Some(Class::Transient) && self.has(Rung::NewSession, error)
    }

    /// Whether the profile says that the device has more to do than it can. What the standard calls so may be sessions or
    /// memory that this process holds.
    pub(super) fn is_overloaded(&self, error: &Error) -> bool {
        self.moved_to(error) == Some(Class::Busy)
    }

    /// Whether the profile says that nothing helps against `error`.
    pub(super) fn is_fatal(&self, error: &Error) -> bool {
        self.moved_to(error) == Some(Class::Caller)
    }

    /// The class that the profile gives to what the device answered, if it gives one.
    fn moved_to(&self, error: &Error) -> Option<Class> {
        match error {
            Error::Device { function, code } => self.moved_class(function, code),
            _ => None,
        }
    }

    fn moved_class(&self, function: &str, code: &str) -> Option<Class> {
        self.moved.iter().find(|(moved, _)| moved.fits(function, code)).map(|(_, class)| *class)
    }

    /// What `error` means; `None` when it says nothing of the device.
    pub(super) fn class_of(&self, error: &Error) -> Option<Class> {
        match error {
            Error::Device { function, code } if is_code(code) => Some(self.class(function, code)),
            Error::Host { .. } | Error::NotFound { sought: Sought::Device, .. } => Some(Class::Device),
            Error::Pin {
                problem:
                    PinProblem::Refused(_)
                    | PinProblem::RefusedBefore
                    | PinProblem::CutShort
                    | PinProblem::Locked
                    | PinProblem::FinalTry,
                ..
            } => Some(Class::Pin),
            Error::Away(_) | Error::Deadline | Error::Busy { .. } | Error::Closed | Error::KeyChanged => None,
            // Of the other problems with a PIN, none spent a try, and the source may be mended at any moment.
            _ => Some(Class::Caller),
        }
    }

    /// Whether `rung` may be taken when `error` was the answer.
    pub(super) fn has(&self, rung: Rung, error: &Error) -> bool {
        let has_worked =
            matches!(error, Error::Device { function, .. } if NOT_TWICE.contains(&function.as_str()));
        self.class_of(error).is_some_and(|class| {
            (rung == Rung::OpenCircuit || !has_worked) && self.steps(class).any(|step| step.rung == rung)
        })
    }

    /// What `error` says of who answered it.
    pub(super) fn verdict(&self, error: &Error) -> Verdict {
        match self.class_of(error) {
            Some(Class::Pin) => Verdict::Pin,
            Some(_) if self.has(Rung::OpenCircuit, error) => {
                Verdict::Failed { of_library: is_of_the_library(error) }
            }
            Some(Class::Caller) => match error {
                Error::Device { .. }
                | Error::NotFound { .. }
                | Error::Ambiguous { .. }
                | Error::UnusableKey { .. }
                | Error::Taken { .. } => Verdict::Alive,
                _ => Verdict::Nothing,
            },
            _ => Verdict::Nothing,
        }
    }

    /// Whether the library's process is started anew where others are initialized anew.
    pub(super) fn is_by_process(&self) -> bool {
        self.by_process
    }

    fn steps(&self, class: Class) -> impl Iterator<Item = &'static Step> {
        let by_process = self.by_process;
        class.steps().iter().filter(move |step| !(by_process && step.rung == Rung::Reinitialize))
    }
}

/// What an error says of the device, or of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there, and said no.
    Alive,
    /// It failed.
    Failed { of_library: bool },
    /// It lets nobody log in.
    Pin,
    /// Nothing.
    Nothing,
}

/// The rungs that one request has taken. It only goes up.
#[derive(Debug, Default)]
pub(super) struct Climb(Vec<Rung>);

impl Climb {
    /// The next rung for an answer of this class; `None` at the top.
    pub(super) fn next(&mut self, ladder: &Ladder, class: Class) -> Option<Rung> {
        let highest = self.0.last().copied();
        let taken = |rung| self.0.iter().filter(|taken| **taken == rung).count();
        let next = ladder.steps(class).find(|step| {
            highest.is_none_or(|highest| step.rung >= highest) && taken(step.rung) < step.most
        })?;
        self.0.push(next.rung);
        Some(next.rung)
    }
}

#[cfg(test)]
mod tests;
