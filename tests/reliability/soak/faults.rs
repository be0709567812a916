//! What can go wrong, and how it begins and ends.

use std::{fmt, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use segl::sandbox::Authority;

use crate::{faultp11::FaultP11, stand::Stand};

/// What can go wrong with a device.
#[derive(Clone, Copy)]
pub(super) enum Device {
    /// So says the script, for every call.
    Each(&'static str),
    /// The next call of a function.
    Next(&'static str, &'static str),
    /// So says the script, and the library's process is killed: the next one meets it.
    Anew(&'static str),
    /// The library's process gets a signal, and SIGCONT when it is over.
    Signal(Signal),
}

pub(super) const DEVICE: &[Device] = &[
    Device::Each("C_Sign * answer CKR_DEVICE_ERROR"),
    Device::Each("C_Sign * answer CKR_DEVICE_REMOVED"),
    Device::Each("C_Sign * answer CKR_GENERAL_ERROR"),
    Device::Each("C_Sign * answer CKR_FUNCTION_FAILED"),
    Device::Each("C_Sign * answer CKR_SESSION_HANDLE_INVALID"),
    Device::Each("C_Sign * answer CKR_USER_NOT_LOGGED_IN"),
    Device::Each("C_Sign * answer 0x80000384"),
    Device::Each("C_SignInit * answer CKR_KEY_HANDLE_INVALID"),
    Device::Each("C_SignInit * answer CKR_OPERATION_ACTIVE"),
    Device::Each("C_Sign * wrong-signature"),
    Device::Each("C_Sign * blank-signature"),
    Device::Each("C_Sign * truncated-signature 17"),
    Device::Each("C_Sign * delay 150"),
    Device::Each("C_Sign * hold"),
    Device::Each("removed"),
    Device::Next("C_Sign", "hang"),
    Device::Next("C_Sign", "crash"),
    Device::Next("C_Sign", "abort"),
    Device::Next("C_Sign", "exit 3"),
    Device::Next("C_Sign", "logout"),
    Device::Next("C_SignInit", "kill"),
    Device::Anew("C_Initialize * answer CKR_GENERAL_ERROR"),
    Device::Anew("C_Initialize * delay 400"),
    Device::Anew("C_OpenSession * answer CKR_SESSION_COUNT"),
    Device::Anew("C_FindObjects * answer CKR_DEVICE_ERROR"),
    Device::Anew("no-slots"),
    Device::Anew("slots-move"),
    Device::Signal(Signal::KILL),
    Device::Signal(Signal::STOP),
];

/// What can go wrong with authorities.
#[derive(Clone, Copy, Debug)]
pub(super) enum Away {
    Outage(Authority),
    /// They ask to be left alone for so many seconds.
    Busy(u64),
    /// Metadata alone.
    Metadata,
    /// Answers take so many milliseconds.
    Slow(u64),
    /// Their clock is ahead: grants are refused.
    Ahead,
}

pub(super) const AWAY: &[Away] = &[
    Away::Outage(Authority::Maskinporten),
    Away::Outage(Authority::Customs),
    Away::Outage(Authority::Altinn),
    Away::Busy(7),
    Away::Metadata,
    Away::Slow(100),
    Away::Slow(900),
    Away::Ahead,
];

impl Device {
    pub(super) fn begin(self, fault: &FaultP11) {
        match self {
            Self::Each(line) => fault.script([line]),
            Self::Next(function, action) => fault.script([fault.next(function, action)]),
            Self::Anew(line) => {
                fault.script([line]);
                signal(fault, Signal::KILL);
            }
            Self::Signal(signal) => self::signal(fault, signal),
        }
    }

    pub(super) fn end(self, fault: &FaultP11) {
        fault.script::<&str>([]);
        if matches!(self, Self::Signal(_)) {
            signal(fault, Signal::CONT);
        }
    }
}

impl Away {
    pub(super) fn begin(self, stand: &Stand) {
        match self {
            Self::Outage(authority) => stand.sandbox.set_outage(authority, true),
            Self::Busy(seconds) => {
                stand.sandbox.turn(|knobs| knobs.retry_after = Some(seconds));
                stand.sandbox.set_outage(Authority::Maskinporten, true);
            }
            Self::Metadata => stand.sandbox.set_metadata_outage(true),
            Self::Slow(time) => stand.sandbox.turn(|knobs| knobs.delay = Duration::from_millis(time)),
            Self::Ahead => stand.sandbox.turn(|knobs| knobs.clock_offset = 3600),
        }
    }

    pub(super) fn end(self, stand: &Stand) {
        stand.sandbox.turn(|knobs| {
            knobs.retry_after = None;
            knobs.delay = Duration::ZERO;
            knobs.clock_offset = 0;
        });
        stand.sandbox.set_metadata_outage(false);
        for authority in [Authority::Maskinporten, Authority::Customs, Authority::Altinn] {
            stand.sandbox.set_outage(authority, false);
        }
    }
}

fn signal(fault: &FaultP11, signal: Signal) {
    let process = i32::try_from(fault.calls("process")).unwrap();
    // It may have ended by now.
    let _ = kill_process(Pid::from_raw(process).unwrap(), signal);
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each(line) => f.write_str(line),
            Self::Next(function, action) => write!(f, "{function} next {action}"),
            Self::Anew(line) => write!(f, "library's process killed, then {line}"),
            Self::Signal(Signal::STOP) => f.write_str("library's process stopped"),
            Self::Signal(_) => f.write_str("library's process killed"),
        }
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outage(authority) => write!(f, "{authority} answers 503"),
            Self::Busy(seconds) => write!(f, "Maskinporten answers 503, Retry-After: {seconds}"),
            Self::Metadata => f.write_str("Maskinporten's metadata answers 503"),
            Self::Slow(time) => write!(f, "authorities answer {time} ms later"),
            Self::Ahead => f.write_str("authorities' clock is an hour ahead"),
        }
    }
}
