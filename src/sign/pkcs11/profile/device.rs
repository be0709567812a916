use std::time::Duration;

use regex_lite::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one logs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Login {
    /// When C_Login is called.
    pub mode: LoginMode,
    /// Who logs in.
    pub user_type: UserType,
    /// Regular expression that a PIN must match before the device sees it. Empty: any.
    pub pin_format: String,
    /// What a PIN of this device looks like, for people.
    pub pin_hint: String,
    /// Shortest and longest PIN, in bytes, for devices that do not say it themselves.
    pub pin_length: Option<(u32, u32)>,
    /// Whether the PIN is typed on the device's own pad.
    pub protected_path: ProtectedPath,
    /// What refused PINs lock.
    pub lockout_scope: LockoutScope,
    /// Whether the device's PIN flags (few tries left, last try, locked) tell the truth.
    pub flags_reliable: bool,
}

/// When C_Login is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LoginMode {
    /// When the device says `CKF_LOGIN_REQUIRED`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never: the device knows no PIN.
    None,
}

/// Who logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum UserType {
    /// `CKU_USER`.
    #[default]
    User,
    /// The vendor's crypto user (0x80000001), who may use keys and not change them.
    CryptoUser,
}

/// Whether the PIN is typed on the device's own pad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProtectedPath {
    /// When the device says `CKF_PROTECTED_AUTHENTICATION_PATH` and no PIN is configured.
    #[default]
    Auto,
    /// Never, whatever the device says.
    Never,
    /// Always: no PIN is ever passed.
    Always,
}

/// What refused PINs lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LockoutScope {
    /// This PKCS#11 token.
    #[default]
    Token,
    /// The hardware, with everything on it.
    Device,
    /// Nothing: there is no lockout.
    None,
}

/// How many sessions, and which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Session {
    /// Read-only or read-write.
    pub kind: SessionKind,
    /// How many signatures may run at the same time, each on a session and thread of its own (1 to 32).
    pub lanes: u8,
    /// How many sessions the library has in all. 0: not known, or no limit. 1: no session beside the one that signs.
    pub total: u32,
}

/// Read-only or read-write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SessionKind {
    /// Read-only: all that signing needs.
    #[default]
    Ro,
    /// Read-write, for devices that refuse the other kind.
    Rw,
}

/// How the device signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Sign {
    /// Forms of an RSA signature, in the order in which they are tried.
    pub ladder: Vec<SignForm>,
    /// Whether a key asks for the PIN at every signature.
    pub always_auth: AlwaysAuth,
    /// Whether a context-specific login may be tried.
    pub context_login: ContextLogin,
    /// Which PIN that login takes.
    pub context_pin: ContextPin,
    /// How long one signature may take before the library is regarded as hung, in seconds (1 to 120).
    pub call_timeout_s: u64,
}

/// A form of an RSA signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SignForm {
    /// The device hashes: `CKM_SHA256_RSA_PKCS` and its sisters.
    HashAndSign,
    /// Segl hashes: `CKM_RSA_PKCS` over a DigestInfo.
    Raw,
}

/// Whether a key asks for the PIN at every signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AlwaysAuth {
    /// As the key's `CKA_ALWAYS_AUTHENTICATE` says.
    #[default]
    Attribute,
    /// It does, whatever the attribute says.
    Yes,
    /// It does not, whatever the attribute says.
    No,
}

/// Whether a context-specific login may be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ContextLogin {
    /// It may.
    #[default]
    Allowed,
    /// The library refuses it or does the wrong thing.
    Forbidden,
}

/// Which PIN a context-specific login takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ContextPin {
    /// The one of the login.
    #[default]
    Same,
    /// A signature PIN of its own.
    Separate,
}

/// What the device holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Objects {
    /// Whether certificates can lie on the device. If not, they come from a file.
    pub certificates: bool,
}

impl Login {
    /// What is wrong with the form of `pin`, as a sentence that does not repeat it. `None`: the device may see it.
    #[must_use]
    pub fn misfit(&self, pin: &str) -> Option<String> {
        let expected = |what: String| match self.pin_hint.as_str() {
            "" => what,
            hint => format!("{what}; expected: {hint}"),
        };
        if let Some((least, most)) = self.pin_length {
            let fits = u32::try_from(pin.len()).is_ok_and(|length| (least..=most).contains(&length));
            if !fits {
                return Some(expected(format!("a PIN of this device has {least} to {most} characters")));
            }
        }
        if self.pin_format.is_empty() {
            return None;
        }
        // A profile whose expression does not compile was refused when it was read.
        let fits = Regex::new(&self.pin_format).is_ok_and(|format| format.is_match(pin));
        (!fits).then(|| expected("the PIN has not the form that this device takes".into()))
    }
}

impl Sign {
    /// How long one signature may take before the library is regarded as hung.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        Duration::from_secs(self.call_timeout_s)
    }
}

impl Default for Session {
    fn default() -> Self {
        Self { kind: SessionKind::Ro, lanes: 1, total: 0 }
    }
}

impl Default for Sign {
    fn default() -> Self {
        Self {
            ladder: vec![SignForm::HashAndSign, SignForm::Raw],
            always_auth: AlwaysAuth::Attribute,
            context_login: ContextLogin::Allowed,
            context_pin: ContextPin::Same,
            call_timeout_s: 20,
        }
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self { certificates: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_of_the_wrong_form_is_told_from_a_right_one_and_not_repeated() {
        let login = Login {
            pin_format: "^[0-9a-fA-F]{4}.{8,64}$".into(),
            pin_hint: "four hex digits and a password".into(),
            ..Login::default()
        };
        assert_eq!(login.misfit("0001password"), None);
        let said = login.misfit("hemmelig").unwrap();
        assert!(said.contains("four hex digits") && !said.contains("hemmelig"), "{said}");
    }

    #[test]
    fn a_pin_is_as_long_as_the_profile_says() {
        let login = Login { pin_length: Some((6, 8)), ..Login::default() };
        assert_eq!(login.misfit("123456"), None);
        assert_eq!(login.misfit("12345678"), None);
        for wrong in ["12345", "123456789"] {
            let said = login.misfit(wrong).unwrap();
            assert!(said.contains("6 to 8") && !said.contains(wrong), "{said}");
        }
        assert_eq!(Login::default().misfit(""), None);
    }
}
