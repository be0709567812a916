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
mod error;
mod folder;
mod module;
mod pattern;
mod placeholder;
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
