use std::{env::consts, fs, path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    language::printable,
    sign::{
        Error,
        pkcs11::{
            Confidence, LibraryDescription, ListedMechanism, Pace, Particulars, Profile, SessionLimit,
            TriedKey,
        },
    },
};

/// What `segl keys test --output json` prints, and what the text is made of. Labels, serial numbers and the reader's
/// name are in it only when they were asked for: the report is made to be sent to others.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// 1.
    schema: u8,
    pub(super) segl: Program,
    pub(super) library: Library,
    pub(super) device: DeviceFacts,
    pub(super) profile: ProfileFacts,
    /// Null when it cannot be used, see `problem`.
    pub(super) key: Option<KeyFacts>,
    /// Mechanisms on the device's list that are known to sign.
    pub(super) mechanisms: Vec<Mechanism>,
    /// How many it lists in all; null when it gives no list.
    pub(super) mechanisms_in_all: Option<usize>,
    /// In the order in which they were made.
    pub(super) trials: Vec<Trial>,
    /// Why nothing could be tried.
    pub(super) problem: Option<String>,
}

/// This program and where it runs.
#[derive(Debug, Serialize)]
pub(super) struct Program {
    pub(super) version: &'static str,
    pub(super) os: &'static str,
    pub(super) architecture: &'static str,
    pub(super) distribution: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Library {
    pub(super) file: PathBuf,
    pub(super) manufacturer: Option<String>,
    pub(super) description: Option<String>,
    pub(super) version: Option<String>,
    /// Version of PKCS#11.
    pub(super) cryptoki: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct DeviceFacts {
    pub(super) manufacturer: String,
    pub(super) model: String,
    pub(super) hardware: String,
    pub(super) firmware: String,
    pub(super) login_required: bool,
    pub(super) pin_pad: bool,
    pub(super) pin_length: (u64, u64),
    pub(super) max_sessions: SessionLimit,
    pub(super) max_rw_sessions: SessionLimit,
    #[serde(flatten)]
    pub(super) names: Option<Names>,
}

/// By what this one device can be told from others.
#[derive(Debug, Serialize)]
pub(super) struct Names {
    pub(super) slot: String,
    pub(super) label: String,
    pub(super) serial: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ProfileFacts {
    pub(super) name: String,
    pub(super) confidence: Confidence,
}

#[derive(Debug, Serialize)]
pub(super) struct KeyFacts {
    pub(super) bits: usize,
    pub(super) always_authenticate: Option<bool>,
    pub(super) allowed_mechanisms: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Mechanism {
    pub(super) name: String,
    /// Shortest and longest key.
    pub(super) key_size: Option<(u64, u64)>,
    /// Whether it is said to sign.
    pub(super) signs: Option<bool>,
    pub(super) problem: Option<String>,
}

/// One trial.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    pub(super) what: String,
    pub(super) mechanism: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) detail: String,
    /// It did not go as the device says that it should.
    pub(super) odd: bool,
    pub(super) pace: Option<PaceFacts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// It works.
    Ok,
    /// The device says that it does not do this with the key.
    Refused,
    /// A signature does not verify.
    Wrong,
    /// The device answered with another error.
    Failed,
    /// The library crashed or hung.
    Crashed,
    /// It was not tried.
    LeftOut,
}

#[derive(Debug, Serialize)]
pub(super) struct PaceFacts {
    threads: u8,
    signatures: u64,
    wrong: u64,
    /// Verified signatures a second.
    rate: f64,
    median_ms: f64,
    slowest_ms: f64,
}

impl Report {
    pub(super) fn new(seen: &Particulars, profile: &Profile, trials: Vec<Trial>, serials: bool) -> Self {
        Self {
            schema: 1,
            segl: Program {
                version: env!("CARGO_PKG_VERSION"),
                os: consts::OS,
                architecture: consts::ARCH,
                distribution: distribution(),
            },
            library: Library::new(seen),
            device: DeviceFacts::new(seen, serials),
            profile: ProfileFacts { name: profile.name.clone(), confidence: profile.confidence },
            key: seen.key.as_ref().ok().map(KeyFacts::from),
            mechanisms: seen.mechanisms.iter().map(Mechanism::from).collect(),
            mechanisms_in_all: seen.listed.as_ref().ok().copied(),
            trials,
            problem: seen.key.as_ref().err().map(reason),
        }
    }

    /// Whether the key signs at all.
    pub(super) fn signs(&self) -> bool {
        self.trials.iter().any(|trial| trial.mechanism.is_some() && trial.verdict == Verdict::Ok)
    }
}

impl Library {
    fn new(seen: &Particulars) -> Self {
        let said =
            |text: fn(&LibraryDescription) -> &String| seen.library.as_ref().map(|it| printable(text(it)));
        Self {
            file: seen.path.clone(),
            manufacturer: said(|it| &it.manufacturer),
            description: said(|it| &it.description),
            version: said(|it| &it.version),
            cryptoki: said(|it| &it.cryptoki),
        }
    }
}

impl DeviceFacts {
    fn new(seen: &Particulars, serials: bool) -> Self {
        let names = || Names {
            slot: printable(&seen.slot),
            label: printable(&seen.label),
            serial: printable(&seen.serial),
        };
        Self {
            manufacturer: printable(&seen.manufacturer),
            model: printable(&seen.model),
            hardware: seen.hardware.clone(),
            firmware: seen.firmware.clone(),
            login_required: seen.login_required,
            pin_pad: seen.pin_pad,
            pin_length: seen.pin_length,
            max_sessions: seen.max_sessions,
            max_rw_sessions: seen.max_rw_sessions,
            names: serials.then(names),
        }
    }
}

impl From<&TriedKey> for KeyFacts {
    fn from(key: &TriedKey) -> Self {
        Self {
            bits: key.bits,
            always_authenticate: key.always_authenticate,
            allowed_mechanisms: key.allowed.clone(),
        }
    }
}

impl From<&ListedMechanism> for Mechanism {
    fn from(listed: &ListedMechanism) -> Self {
        let info = listed.info.as_ref().ok();
        Self {
            name: listed.name.clone(),
            key_size: info.map(|info| info.key_size),
            signs: info.map(|info| info.signs),
            problem: listed.info.as_ref().err().map(reason),
        }
    }
}

impl From<&Pace> for PaceFacts {
    fn from(pace: &Pace) -> Self {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        Self {
            threads: pace.threads,
            signatures: pace.signatures,
            wrong: pace.wrong,
            rate: rate(pace),
            median_ms: milliseconds(pace.median),
            slowest_ms: milliseconds(pace.slowest),
        }
    }
}

/// Verified signatures a second.
pub(super) fn rate(pace: &Pace) -> f64 {
    let seconds = pace.took.as_secs_f64();
    if seconds > 0.0 { pace.signatures as f64 / seconds } else { 0.0 }
}

/// What went wrong, without a name of device or key.
pub(super) fn reason(error: &Error) -> String {
    let reason = match error {
        Error::Device { function, code } => format!("{code} ({function})"),
        Error::Host { problem, .. } => format!("the library's process {problem}"),
        Error::Pin { problem, .. } => {
            Error::Pin { device: "the device".into(), problem: problem.clone() }.to_string()
        }
        Error::UnusableKey { reason, .. } => reason.clone(),
        Error::NotFound { sought, .. } => format!("there is no such {sought} any more"),
        Error::Ambiguous { sought, .. } => format!("there is more than one such {sought}"),
        other => other.to_string(),
    };
    printable(&reason)
}

/// What this system calls itself.
fn distribution() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(printable(name.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{PinProblem, Sought};

    #[test]
    fn a_reason_names_neither_device_nor_key() {
        let secret = "CUSTOMS-A";
        for (error, expected) in [
            (
                Error::Device { function: "C_Sign".into(), code: "CKR_DEVICE_ERROR".into() },
                "CKR_DEVICE_ERROR (C_Sign)",
            ),
            (
                Error::Pin {
                    device: secret.into(),
                    problem: PinProblem::Refused("CKR_PIN_INCORRECT".into()),
                },
                "the device refused the PIN (CKR_PIN_INCORRECT)",
            ),
            (
                Error::UnusableKey { key: format!("pkcs11:token={secret}"), reason: "its type is EC".into() },
                "its type is EC",
            ),
            (
                Error::NotFound {
                    sought: Sought::Device,
                    uri: format!("pkcs11:token={secret}"),
                    candidates: vec![secret.into()],
                },
                "there is no such device any more",
            ),
            (
                Error::Ambiguous {
                    sought: Sought::Key,
                    uri: format!("pkcs11:token={secret}"),
                    candidates: vec![secret.into()],
                },
                "there is more than one such private key",
            ),
        ] {
            let said = reason(&error);
            assert!(said.starts_with(expected) && !said.contains(secret), "{said}");
        }
    }
}
