use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::sign::pkcs11::{
    DeviceDescription, KeyDescription, Profile,
    profile::{AlwaysAuth, ContextLogin, ContextPin, LoginMode, ProtectedPath},
};

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

/// Which PINs of a key come from somewhere that asks nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// That of the login.
    pub(super) pin: bool,
    /// That of each signature, where it is another.
    pub(super) sign_pin: bool,
}

impl Unattended {
    /// Judges `key` on `device`, which is driven as `profile` says.
    pub(super) fn of(
        key: &KeyDescription,
        device: Option<&DeviceDescription>,
        profile: &Profile,
        stored: Stored,
    ) -> Self {
        let needs_login = match profile.login.mode {
            LoginMode::Auto => device.is_some_and(|device| device.login_required),
            LoginMode::Always => true,
            LoginMode::None => false,
        };
        let has_pad = match profile.login.protected_path {
            ProtectedPath::Auto => device.is_some_and(|device| device.pin_pad),
            ProtectedPath::Always => true,
            ProtectedPath::Never => false,
        };
        let asks_each_time = match profile.sign.always_auth {
            AlwaysAuth::Attribute => key.always_authenticate == Some(true),
            AlwaysAuth::Yes => true,
            AlwaysAuth::No => false,
        };
        let is_same = profile.sign.context_pin == ContextPin::Same;
        let (answer, why) = if needs_login && has_pad {
            (Answer::No, Some("its PIN is typed on the device (PIN pad)"))
        } else if asks_each_time && profile.sign.context_login == ContextLogin::Forbidden {
            (Answer::No, Some("PIN for each signature, and its library takes none for that"))
        } else if asks_each_time && !(stored.sign_pin || is_same && stored.pin) {
            let why = match is_same {
                true => "PIN for each signature, and no source for it: set pin on its signer",
                false => "PIN for each signature, and no source for it: set sign_pin on its signer",
            };
            (Answer::No, Some(why))
        } else if !key.private {
            (Answer::Unknown, None)
        } else if asks_each_time {
            (Answer::Yes, Some("with its PIN for each signature from where the configuration says"))
        } else if needs_login {
            (Answer::Yes, Some("with a PIN from a file, credential or command"))
        } else {
            (Answer::Yes, None)
        };
        Self { answer, why: why.map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::keys::sample;

    const NOTHING: Stored = Stored { pin: false, sign_pin: false };
    const PIN: Stored = Stored { pin: true, sign_pin: false };
    const BOTH: Stored = Stored { pin: true, sign_pin: true };

    fn said(key: &KeyDescription, device: &DeviceDescription, profile: &Profile, stored: Stored) -> String {
        Unattended::of(key, Some(device), profile, stored).to_string()
    }

    fn asking() -> KeyDescription {
        KeyDescription { always_authenticate: Some(true), ..sample::key() }
    }

    #[test]
    fn whoever_must_type_a_pin_is_said() {
        let (key, device, usual) = (sample::key(), sample::device(), Profile::unknown());
        let said =
            |key: &KeyDescription, device: &DeviceDescription, stored| said(key, device, &usual, stored);
        assert_eq!(said(&key, &device, NOTHING), "yes: with a PIN from a file, credential or command");
        let pad = DeviceDescription { pin_pad: true, ..device.clone() };
        assert_eq!(said(&key, &pad, BOTH), "no: its PIN is typed on the device (PIN pad)");
        let hidden = KeyDescription { private: false, always_authenticate: None, ..key.clone() };
        assert_eq!(said(&hidden, &device, BOTH), "unknown until login");
        let open = DeviceDescription { login_required: false, pin_pad: true, ..device };
        assert_eq!(said(&key, &open, NOTHING), "yes");
    }

    #[test]
    fn a_pin_for_each_signature_needs_the_source_of_that_pin() {
        let (key, device, same) = (asking(), sample::device(), Profile::unknown());
        let said = |profile: &Profile, stored| said(&key, &device, profile, stored);
        let yes = "yes: with its PIN for each signature from where the configuration says";
        let no = "no: PIN for each signature, and no source for it: set pin on its signer";
        assert_eq!(said(&same, NOTHING), no);
        assert_eq!(said(&same, PIN), yes);
        let mut separate = Profile::unknown();
        separate.sign.context_pin = ContextPin::Separate;
        assert_eq!(said(&separate, PIN), no.replace("set pin", "set sign_pin"));
        assert_eq!(said(&separate, BOTH), yes);
        let mut forbidden = Profile::unknown();
        forbidden.sign.context_login = ContextLogin::Forbidden;
        assert_eq!(said(&forbidden, BOTH), "no: PIN for each signature, and its library takes none for that");
    }

    #[test]
    fn what_the_profile_knows_goes_before_what_key_and_device_say() {
        let device = sample::device();
        let mut knows = Profile::unknown();
        knows.sign.always_auth = AlwaysAuth::No;
        assert!(said(&asking(), &device, &knows, NOTHING).starts_with("yes: with a PIN from a file"));
        knows.sign.always_auth = AlwaysAuth::Yes;
        assert!(said(&sample::key(), &device, &knows, NOTHING).starts_with("no: PIN for each signature"));
        let mut knows = Profile::unknown();
        knows.login.protected_path = ProtectedPath::Never;
        let pad = DeviceDescription { pin_pad: true, ..device.clone() };
        assert!(said(&sample::key(), &pad, &knows, NOTHING).starts_with("yes"));
        knows.login.mode = LoginMode::None;
        assert_eq!(said(&sample::key(), &device, &knows, NOTHING), "yes");
    }
}
