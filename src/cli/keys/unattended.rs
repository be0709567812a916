use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::sign::pkcs11::{DeviceDescription, KeyDescription};

/// Whether a program can sign with a key while nobody is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Unattended {
    /// The short answer.
    pub(super) answer: Answer,
    /// What it takes, or what stands in the way.
    pub(super) why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// It can.
    Yes,
    /// A person has to be there.
    No,
    /// The key does not say so before a login.
    Unknown,
}

impl fmt::Display for Unattended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.answer {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Unknown => "unknown until login",
        })?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}

impl Unattended {
    /// Judges `key` on `device`; `signature_pin`: whether a source of the PIN for each signature is known.
    pub(super) fn of(key: &KeyDescription, device: Option<&DeviceDescription>, signature_pin: bool) -> Self {
        let (answer, why) = match device {
            Some(device) if device.login_required && device.pin_pad => {
                (Answer::No, Some("its PIN is typed on the device (PIN pad)"))
            }
            _ if key.always_authenticate == Some(true) && !signature_pin => {
                (Answer::No, Some("it wants its PIN for each signature, and no source of that is configured"))
            }
            _ if !key.private => (Answer::Unknown, None),
            Some(device) if device.login_required => {
                (Answer::Yes, Some("with a PIN from a file, credential or command"))
            }
            _ => (Answer::Yes, None),
        };
        Self { answer, why: why.map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::keys::sample;

    fn said(key: &KeyDescription, device: &DeviceDescription, signature_pin: bool) -> String {
        Unattended::of(key, Some(device), signature_pin).to_string()
    }

    #[test]
    fn whoever_must_type_a_pin_is_said() {
        let (key, device) = (sample::key(), sample::device());
        assert_eq!(said(&key, &device, false), "yes: with a PIN from a file, credential or command");
        let pad = DeviceDescription { pin_pad: true, ..device.clone() };
        assert_eq!(said(&key, &pad, true), "no: its PIN is typed on the device (PIN pad)");
        let often = KeyDescription { always_authenticate: Some(true), ..key.clone() };
        assert!(said(&often, &device, false).starts_with("no: it wants its PIN for each signature"));
        assert!(said(&often, &device, true).starts_with("yes"));
        let hidden = KeyDescription { private: false, always_authenticate: None, ..key.clone() };
        assert_eq!(said(&hidden, &device, false), "unknown until login");
        let open = DeviceDescription { login_required: false, pin_pad: true, ..device };
        assert_eq!(said(&key, &open, false), "yes");
    }
}
