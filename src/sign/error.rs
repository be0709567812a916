use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::Outage;
use crate::{advice, jose::Algorithm};

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Fault {
    /// Configuration, key, certificate or PIN: a person must act.
    Configuration,
    /// The device, its library or its link.
    Device,
    /// The authority refused.
    Authority,
    /// The authority answers that it cannot serve at the moment.
    Unavailable,
    /// The network between us and the authority.
    Network,
    /// This side has more to do than it can: ask again.
    Load,
}

/// When asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Not before something has been changed.
    Never,
    /// At once, with a newly minted grant.
    NewGrant,
    /// After this time, with a newly minted grant.
    After(Duration),
}

/// What a selection was looking for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Sought {
    /// A PKCS#11 token: a card, a partition, a USB key.
    Device,
    /// A private key.
    Key,
    /// A certificate.
    Certificate,
}

impl fmt::Display for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Key => "private key",
            Self::Certificate => "certificate",
        })
    }
}

/// Why no login was tried, or what it ended in. None of these is ever followed by another C_Login on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PinProblem {
    /// The device needs a PIN and no source is configured, or none of those named exists.
    Missing,
    /// The source is there and cannot be read; the reason is given.
    Source(String),
    /// The device refused the PIN (the CKR code is given).
    Refused(String),
    /// This PIN was refused earlier and its source has not changed.
    RefusedBefore,
    /// The last login with this PIN ended without a word on it (the library crashed or hung, the device failed, Segl was
    /// killed), and its source has not changed. Whether the PIN is right is not known, so it counts as refused.
    CutShort,
    /// The device says that the PIN is locked.
    Locked,
    /// The device says that one try is left; a program does not spend it.
    FinalTry,
    /// The PIN is shorter or longer than the device takes (limits given).
    Length(u64, u64),
    /// The PIN has not the form that this kind of device takes; said without repeating it.
    Format(String),
    /// It cannot be read or written how many tries have been spent, so none is.
    Unrecorded {
        /// Why.
        problem: String,
        /// What to do.
        remedy: String,
    },
}

/// Why there is no signature. Plain data: it can be cloned, sent between processes and stored.
///
/// `Display` says what happened, [`remedy`](Self::remedy) what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key or certificate file cannot be used.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The key description (URI) makes no sense.
    #[error("the key {uri:?} cannot be used: {problem}")]
    Uri {
        /// As configured.
        uri: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The PKCS#11 library cannot be loaded or initialized.
    #[error("the PKCS#11 library {path} cannot be loaded: {problem}")]
    Module {
        /// Path of the library, or the place looked at.
        path: String,
        /// What the loader says.
        problem: String,
    },
    /// Others than root and the running user could put another library in its place.
    #[error("the PKCS#11 library {library} is not loaded: {path} {reason}, so others can change it")]
    Untrusted {
        /// Path of the library.
        library: String,
        /// The library, or the folder above it, that others can change.
        path: String,
        /// What about it: mode or owner.
        reason: String,
    },
    /// Nothing matches the URI.
    #[error("no {sought} matches {uri}{}", listed("seen", candidates))]
    NotFound {
        /// What was looked for.
        sought: Sought,
        /// As configured.
        uri: String,
        /// What is there instead.
        candidates: Vec<String>,
    },
    /// More than one thing matches the URI.
    #[error("more than one {sought} matches {uri}{}", listed("candidates", candidates))]
    Ambiguous {
        /// What was looked for.
        sought: Sought,
        /// As configured.
        uri: String,
        /// All that match.
        candidates: Vec<String>,
    },
    /// The key is there and cannot make signatures that Maskinporten takes.
    #[error("the key {key} cannot be used: {reason}")]
    UnusableKey {
        /// The key, as a person would name it.
        key: String,
        /// Why.
        reason: String,
    },
    /// A key pair was to be made under a name that a key on the device has already.
    #[error("a key of this {attribute} is on the device already: {key}")]
    Taken {
        /// The key that has it.
        key: String,
        /// What they would have in common: label or id.
        attribute: String,
    },
    /// The algorithm is none that Maskinporten takes.
    #[error("Maskinporten accepts only RS256, RS384, RS512; this signer is set to {0}")]
    Algorithm(Algorithm),
    /// The PIN: see [`PinProblem`].
    #[error("{}", pin_sentence(device, problem))]
    Pin {
        /// The device, as a person would name it.
        device: String,
        /// What about the PIN.
        problem: PinProblem,
    },
    /// The process that runs the PKCS#11 library ended or hung; it is started anew when it is next needed.
    #[error("the process that runs {module} {problem}")]
    Host {
        /// Path of the library.
        module: String,
        /// What became of the process.
        problem: String,
    },
    /// The device answered with an error.
    #[error("the device answered {code} to {function}")]
    Device {
        /// PKCS#11 function, `C_Sign` for example.
        function: String,
        /// `CKR_…` name, or the number for vendor codes.
        code: String,
    },
    /// The device failed again and again and is left alone for a while; this job was not given to it.
    #[error("{0}")]
    Away(Outage),
    /// The device's signature does not verify with the device's public key; it was thrown away.
    #[error("the device returned a signature that does not verify with its own public key; it was not sent")]
    WrongSignature,
    /// `kid` or certificate belongs to another key.
    #[error("the certificate ({certificate}) belongs to another key than the signer's ({key})")]
    Mismatch {
        /// Thumbprint of the certificate's public key.
        certificate: String,
        /// Thumbprint of the signer's public key.
        key: String,
    },
    /// The certificate cannot be used for a grant.
    #[error("the certificate cannot be used: {0}")]
    Certificate(String),
    /// The chain of a seal breaks off, and a seal goes with its whole chain.
    #[error("an eSeal goes with its whole chain, and the certificate of its issuer {issuer} is not at hand")]
    IncompleteChain {
        /// Name of the issuer whose certificate is missing.
        issuer: String,
    },
    /// A seal that is to sign by itself needs a person.
    #[error("{device} cannot sign unattended: {reason}")]
    Attended {
        /// The device.
        device: String,
        /// What a person would have to do.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The devices of one signer hold different keys, and that cannot be.
    #[error("the devices of this signer hold different keys, and {reason}")]
    SeveralKeys {
        /// Why that cannot be here.
        reason: String,
    },
    /// The key changed between proof and signature: the device came back with another one.
    #[error("the key changed while a grant was being signed")]
    KeyChanged,
    /// The queue in front of the device is full.
    #[error("{waiting} signatures are waiting for the device already; ask again in {:.1} s", after.as_secs_f32())]
    Busy {
        /// Jobs in the queue.
        waiting: usize,
        /// When there should be room: as long as the first in line has been waiting.
        after: Duration,
    },
    /// The caller's deadline passed before the device's turn came or ended.
    #[error("the device did not answer before the deadline")]
    Deadline,
    /// The signer has been shut down.
    #[error("the signer has been shut down")]
    Closed,
}

/// A device that is being asked at this moment is not to be asked for sooner than this.
const SOONEST: Duration = Duration::from_millis(100);

/// A device that has not answered a caller with less time than this has not shown anything.
const SILENCE: Duration = Duration::from_secs(2);

impl Error {
    /// Whose move it is.
    #[must_use]
    pub fn kind(&self) -> Fault {
        match self {
            Self::Away(outage) => outage.error.kind(),
            Self::Device { .. }
            | Self::Host { .. }
            | Self::WrongSignature
            | Self::Deadline
            | Self::KeyChanged => Fault::Device,
            // A device that is not plugged in looks the same as one that was named wrongly: it may come.
            Self::NotFound { sought: Sought::Device, .. } => Fault::Device,
            Self::Busy { .. } | Self::Closed => Fault::Load,
            _ => Fault::Configuration,
        }
    }

    /// Whether it tells one who has waited so long that the signer is in trouble. It does not when the caller was in a
    /// hurry, when more was asked than can be done, or when the key was changed meanwhile: the next grant is made for the
    /// new one.
    pub(crate) fn is_trouble(&self, waited: Duration) -> bool {
        match self {
            Self::Deadline => waited >= SILENCE,
            Self::KeyChanged => false,
            _ => self.kind() != Fault::Load,
        }
    }

    /// When asking again can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::KeyChanged => Retry::NewGrant,
            Self::Away(outage) => Retry::After(outage.again.max(SOONEST)),
            Self::Busy { after, .. } => Retry::After(*after),
            Self::Host { .. } => Retry::After(Duration::from_secs(1)),
            Self::Device { .. } | Self::Deadline | Self::NotFound { sought: Sought::Device, .. } => {
                Retry::After(Duration::from_secs(5))
            }
            _ => Retry::Never,
        }
    }

    /// What `segl explain` is asked for: a code of PKCS#11, or the name of the [advice](crate::advice).
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Self::File { .. } => "key-file",
            Self::Uri { .. } => "key-uri",
            Self::Module { .. } => "library",
            Self::Untrusted { .. } => "library-untrusted",
            Self::NotFound { sought: Sought::Device, .. } => "device-not-found",
            Self::NotFound { .. } => "key-not-found",
            Self::Ambiguous { .. } => "ambiguous",
            Self::UnusableKey { .. } => "key-unusable",
            Self::Taken { .. } => "key-taken",
            Self::Algorithm(_) => "algorithm",
            Self::Pin { problem, .. } => problem.topic(),
            Self::Host { .. } => "library-process",
            Self::Device { code, .. } if advice::named(code).is_some() => code,
            Self::Device { .. } => "device-answer",
            Self::WrongSignature => "wrong-signature",
            Self::Mismatch { .. } => "key-mismatch",
            Self::Certificate(_) => "certificate",
            Self::IncompleteChain { .. } => "chain-incomplete",
            Self::Attended { .. } => "attended",
            Self::SeveralKeys { .. } => "several-keys",
            Self::KeyChanged => "key-changed",
            Self::Busy { .. } => "device-busy",
            Self::Deadline => "device-deadline",
            Self::Closed => "closed",
            Self::Away(outage) => outage.error.topic(),
        }
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::File { remedy, .. }
            | Self::Attended { remedy, .. }
            | Self::Pin { problem: PinProblem::Unrecorded { remedy, .. }, .. } => remedy.clone(),
            Self::Taken { attribute, .. } => {
                format!("Choose another {attribute}, or use the key that is there.")
            }
            Self::Away(outage) => outage.error.remedy(),
            _ => advice::remedy(self.topic()).to_owned(),
        }
    }
}

impl PinProblem {
    fn topic(&self) -> &str {
        match self {
            Self::Missing => "pin-missing",
            Self::Source(_) => "pin-source",
            Self::Refused(code) if code.starts_with("CKR_PIN_") => code,
            Self::Refused(_) => "pin-refused",
            Self::RefusedBefore => "pin-refused-before",
            Self::CutShort => "pin-cut-short",
            Self::Locked => "CKR_PIN_LOCKED",
            Self::FinalTry => "pin-final-try",
            Self::Length(..) | Self::Format(_) => "pin-form",
            Self::Unrecorded { .. } => "pin-unrecorded",
        }
    }
}

fn listed(word: &str, candidates: &[String]) -> String {
    if candidates.is_empty() { String::new() } else { format!("; {word}: {}", candidates.join(", ")) }
}

fn pin_sentence(device: &str, problem: &PinProblem) -> String {
    match problem {
        PinProblem::Missing => format!("{device} needs a PIN and none of the configured sources has one"),
        PinProblem::Source(reason) => format!("the PIN for {device} cannot be read: {reason}"),
        PinProblem::Refused(code) => format!("{device} refused the PIN ({code}); it was tried once"),
        PinProblem::RefusedBefore => {
            format!("the PIN for {device} was refused before; it was not tried again")
        }
        PinProblem::CutShort => format!(
            "the last login to {device} ended without a word on the PIN (the library crashed, or the device failed): it \
             counts as refused, though it may be right, and was not tried again"
        ),
        PinProblem::Locked => format!("the PIN of {device} is locked"),
        PinProblem::FinalTry => format!("{device} has one PIN try left; it was not spent"),
        PinProblem::Length(min, 0) => {
            format!("the PIN for {device} was not tried: the device takes {min} characters or more")
        }
        PinProblem::Length(min, max) => {
            format!("the PIN for {device} was not tried: the device takes {min} to {max} characters")
        }
        PinProblem::Format(why) => format!("the PIN for {device} was not tried: {why}"),
        PinProblem::Unrecorded { problem, .. } => {
            format!("the PIN for {device} was not tried: what was tried before is not known: {problem}")
        }
    }
}
