//! What is known of each kind of device, as data: one TOML file each in `hsm-profiles/`.
//!
//! A file lists only what differs from a device that follows the standard; every other field has the default that is
//! safe for any library. Code asks a profile for a capability, never for a vendor's name.
//!
//! ```text
//!   embedded ─┐
//!   folders ──┼─▶ Profiles ── matching(file, manufacturer, model) ──▶ Profile
//!   segl.toml ┘            └─ named, library_for
//! ```

mod check;
mod device;
mod difference;
mod embedded;
mod environment;
mod error;
mod folder;
mod module;
mod pattern;
mod placeholder;
mod recovery;
mod set;

pub use self::{
    device::{
        AlwaysAuth, ContextLogin, ContextPin, LockoutScope, Login, LoginMode, Objects, ProtectedPath,
        Session, SessionKind, Sign, SignForm, UserType,
    },
    difference::Difference,
    error::ProfileError,
    module::{Finalize, Isolation, Module},
    placeholder::expand,
    recovery::{Errors, Probe, ReinitKind},
    set::{Origin, Profiles},
};

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Uri;
use crate::sign::Error;

/// The version of the format that this build reads.
const SCHEMA: u32 = 1;

/// A kind of device: where its library lies and how it wants to be driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Profile {
    /// Version of the format: 1.
    pub schema: u32,
    /// Name, as in `profile = "…"` and in a URI's `module-name`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// How far the rest can be relied on.
    pub confidence: Confidence,
    /// Where the facts come from: addresses and issue threads.
    pub sources: Vec<String>,
    /// Sentences for people: what will bite.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What the device is known by.
    #[serde(default, rename = "match")]
    pub matching: Match,
    /// The library.
    #[serde(default)]
    pub module: Module,
    /// How one logs in.
    #[serde(default)]
    pub login: Login,
    /// How many sessions, and which.
    #[serde(default)]
    pub session: Session,
    /// How it signs.
    #[serde(default)]
    pub sign: Sign,
    /// What it holds.
    #[serde(default)]
    pub objects: Objects,
    /// What its errors mean.
    #[serde(default)]
    pub errors: Errors,
}

/// How far a profile can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Confidence {
    /// Run by this project.
    Tested,
    /// From the vendor's documentation or source.
    Docs,
    /// From other projects' issue threads.
    IssuesOnly,
    /// A guess.
    Guess,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tested => "tested here",
            Self::Docs => "vendor documents",
            Self::IssuesOnly => "issue threads",
            Self::Guess => "a guess",
        })
    }
}

/// What a kind of device is known by: globs (`*`, `?`, `[…]`), in any case. An empty list says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Match {
    /// File name of the library.
    pub module_file: Vec<String>,
    /// Manufacturer of the device or of the library.
    pub manufacturer: Vec<String>,
    /// Model of the device.
    pub model: Vec<String>,
}

impl Profile {
    /// What holds for a library that nobody knows: everything the careful way.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            schema: SCHEMA,
            name: "unknown".into(),
            title: "Device that no profile knows".into(),
            confidence: Confidence::Guess,
            sources: vec!["PKCS#11 2.40, https://docs.oasis-open.org/pkcs11/pkcs11-base/v2.40/".into()],
            notes: Vec::new(),
            matching: Match::default(),
            module: Module::default(),
            login: Login::default(),
            session: Session::default(),
            sign: Sign::default(),
            objects: Objects::default(),
            errors: Errors::default(),
        }
    }

    /// Reads the text of a profile file; `file` names it in errors.
    ///
    /// # Errors
    /// [`ProfileError`] when it is no TOML, has a key that is not known, or a value that makes no sense.
    pub fn parse(text: &str, file: &str) -> Result<Self, ProfileError> {
        let table: toml::Table = text.parse().map_err(|why| ProfileError::syntax(file, text, &why))?;
        Self::from_table(table, file)
    }

    /// The text of a file that [`Profile::parse`] reads as this profile; every field is in it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    fn from_table(table: toml::Table, file: &str) -> Result<Self, ProfileError> {
        let profile: Self = table.try_into().map_err(|why| ProfileError::shape(file, &why))?;
        check::check(&profile).map_err(|problem| problem.in_file(file))?;
        Ok(profile)
    }

    /// Every profile this build knows, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        embedded::profiles().iter().cloned()
    }

    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        embedded::profiles().iter().find(|profile| profile.name == name).cloned()
    }

    /// The library of this kind of device, where it is installed.
    #[must_use]
    pub fn installed_library(&self) -> Option<PathBuf> {
        self.module.installed().into_iter().next()
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::unknown()
    }
}

/// As [`Profiles::library_for`], with the profiles that this build brings along.
///
/// # Errors
/// Those of [`Profiles::library_for`].
pub fn library_for(uri: &Uri, profile: Option<&str>) -> Result<PathBuf, Error> {
    Profiles::embedded().library_for(uri, profile)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::{environment::is_secret, *};

    const WORDS: [&str; 6] = ["libp11.so*", "SafeNet, Inc.", "å\"'\\", "#3 = x", "model [ab]", "a?"];

    prop_compose! {
        fn module()(
            paths in vec(select(vec!["/opt/a.so", "/usr/lib/*/b.so", "/o p\"t/c.so"]), 0..3),
            variables in vec("[A-Z_][A-Z0-9_]{0,8}".prop_filter("secret", |name| !is_secret(name)), 0..3),
            value in "[ -~åø]{0,12}",
            // No secret's name is made of these letters.
            reserved in "([ -#%-z]|\\$\\{[A-O]{1,4}\\}){0,6}",
            (os_locking, force_v2, skip, thread) in any::<(bool, bool, bool, bool)>(),
            init_timeout_s in 1_u64..=600,
            groups in vec("[a-z]{1,8}", 0..2),
        ) -> Module {
            Module {
                paths: paths.into_iter().map(str::to_owned).collect(),
                env_config: variables.first().cloned().unwrap_or_default(),
                env_configs: std::collections::BTreeSet::new(),
                env_required: variables.clone(),
                env_default: variables.iter().map(|name| (name.clone(), value.clone())).collect(),
                env_danger: variables.clone(),
                env: variables.into_iter().map(|name| name + "*").collect(),
                working_directory: "/var/lib/segl".into(),
                memory_limit_mb: init_timeout_s + 64,
                os_locking,
                reserved,
                force_v2,
                finalize: if skip { Finalize::Skip } else { Finalize::Try },
                init_timeout_s,
                isolation: if thread { Isolation::Thread } else { Isolation::Process },
                services: groups.clone(),
                groups,
            }
        }
    }

    prop_compose! {
        fn login()(
            mode in select(vec![LoginMode::Auto, LoginMode::Always]),
            user_type in select(vec![UserType::User, UserType::CryptoUser]),
            pin_format in select(vec!["", "^[0-9]{4}$", "\"\\\\d"]),
            pin_hint in "[ -~å]{1,12}",
            pin_length in option::of((0_u32..40, 40_u32..90)),
            protected_path in
                select(vec![ProtectedPath::Auto, ProtectedPath::Never, ProtectedPath::Always]),
            lockout_scope in select(vec![LockoutScope::Token, LockoutScope::Device, LockoutScope::None]),
            flags_reliable: bool,
        ) -> Login {
            Login {
                mode,
                user_type,
                pin_format: pin_format.into(),
                pin_hint,
                pin_length,
                protected_path,
                lockout_scope,
                flags_reliable,
            }
        }
    }

    prop_compose! {
        fn errors()(
            codes in vec(select(vec!["CKR_DEVICE_ERROR", "0x80000384", "C_Sign:CKR_FUNCTION_FAILED"]), 0..3),
            (process, random) in any::<(bool, bool)>(),
            open_after in 1_u32..=100,
            (first_retry_ms, more) in (10_u64..=5000, 0_u64..=5000),
        ) -> Errors {
            let codes: Vec<String> = codes.into_iter().map(str::to_owned).collect();
            Errors {
                reinit: codes.clone(),
                transient: codes.clone(),
                fatal: codes.clone(),
                busy: codes,
                reinit_kind: if process { ReinitKind::Process } else { ReinitKind::InPlace },
                open_after,
                first_retry_ms,
                longest_retry_ms: first_retry_ms + more,
                probe: if random { Probe::Random } else { Probe::Find },
            }
        }
    }

    prop_compose! {
        fn profile()(
            name in "[a-z0-9][a-z0-9-]{0,20}",
            texts in vec(select(WORDS.to_vec()), 1..4),
            confidence in
                select(vec![Confidence::Tested, Confidence::Docs, Confidence::IssuesOnly, Confidence::Guess]),
            module in module(),
            login in login(),
            errors in errors(),
            (rw, lanes, certificates) in (any::<bool>(), 1_u8..=32, any::<bool>()),
            ladder in select(vec![
                vec![SignForm::Raw],
                vec![SignForm::Raw, SignForm::HashAndSign],
                vec![SignForm::HashAndSign],
            ]),
            always_auth in select(vec![AlwaysAuth::Attribute, AlwaysAuth::Yes, AlwaysAuth::No]),
            context_pin in select(vec![ContextPin::Same, ContextPin::Separate]),
            call_timeout_s in 1_u64..=120,
        ) -> Profile {
            let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
            Profile {
                name,
                title: texts.join(" "),
                confidence,
                sources: texts.clone(),
                notes: texts.clone(),
                matching: Match { module_file: vec!["a*.so".into()], manufacturer: texts, model: Vec::new() },
                module,
                login,
                session: Session {
                    kind: if rw { SessionKind::Rw } else { SessionKind::Ro },
                    lanes,
                    total: if rw { 0 } else { u32::from(lanes) + 1 },
                },
                sign: Sign {
                    ladder,
                    always_auth,
                    context_login: ContextLogin::Allowed,
                    context_pin,
                    call_timeout_s,
                },
                objects: Objects { certificates },
                errors,
                ..Profile::unknown()
            }
        }
    }

    proptest! {
        #[test]
        fn a_profile_that_was_written_reads_as_itself(profile in profile()) {
            let text = profile.to_toml();
            let read = Profile::parse(&text, "x.toml");
            prop_assert_eq!(read.as_ref(), Ok(&profile), "{}", text);
            let differs = profile.session.lanes != 1;
            prop_assert_eq!(profile.differences().iter().any(|found| found.field == "session.lanes"), differs);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), at: prop::sample::Index, name in 0_usize..23) {
            let _ = Profile::parse(&text, "x.toml");
            // A good file with something in the middle of it.
            let mut file = Profile::all().nth(name).unwrap_or_default().to_toml();
            let places: Vec<usize> = file.char_indices().map(|(place, _)| place).collect();
            file.insert_str(places[at.index(places.len())], &text);
            if let Err(error) = Profile::parse(&file, "x.toml") {
                let said = error.to_string();
                prop_assert!(said.starts_with("x.toml:"), "{}", said);
            }
        }
    }
}
