//! `segl.toml`: from text to checked values, with every problem named by file, line and key.
//!
//! The environment stands on the client and nowhere else, and all addresses follow from it. What a name leads to is
//! checked here; nothing is opened, asked or signed. Relative paths are taken from the file's own directory.

mod client;
mod document;
mod environment;
mod error;
mod family;
mod http;
mod profile;
mod show;
mod sidecar;
mod signer;
mod token;
pub(crate) mod variables;
mod wire;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use self::document::Report;
pub(crate) use self::family::misfit;
pub use self::{
    client::{Client, Identity, Kind, Registration},
    environment::{Environment, Realm},
    error::{Error, Fault, Origin, Problem},
    http::Http,
    show::Setting,
    signer::{Key, Signer, Uris},
    token::{ConsumerOrg, Exchange, Token},
};
use crate::sign::pkcs11::profile::{ProfileError, Profiles};

/// The largest file taken, in bytes.
const LARGEST: usize = 1024 * 1024;

/// Where a file is looked for when none is named.
const USUAL: [&str; 2] = ["segl.toml", "/etc/segl/segl.toml"];

/// A checked configuration: every name in it leads somewhere, every address is one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The file; `None` when it came from environment variables.
    pub path: Option<PathBuf>,
    /// Keys that sign, by name.
    pub signers: BTreeMap<String, Signer>,
    /// Clients, by name.
    pub clients: BTreeMap<String, Client>,
    /// Environments from the file, by name; `test` and `prod` are not among them.
    pub environments: BTreeMap<String, Environment>,
    /// Tokens, by name.
    pub tokens: BTreeMap<String, Token>,
    /// What is changed in device profiles, by their names.
    pub profiles: BTreeMap<String, toml::Table>,
    /// How the authorities are reached.
    pub http: Http,
    /// What works but should be known, one sentence each.
    pub warnings: Vec<String>,
    report: Report,
}

impl Config {
    /// Finds the configuration and loads it: the file `named` on the command line, `$SEGL_CONFIG`, `./segl.toml`,
    /// `/etc/segl/segl.toml`, and without any of them the environment variables of a sidecar.
    ///
    /// # Errors
    /// [`Error`] when there is none, or when the first that is there is wrong. A file that was named must be there; one
    /// that was not must belong to this user or to root.
    pub fn find(named: Option<&Path>) -> Result<Self, Error> {
        Self::find_in(named, || std::env::vars_os().collect(), &USUAL.map(Path::new))
    }

    fn find_in(
        named: Option<&Path>,
        variables: impl FnOnce() -> Vec<(OsString, OsString)>,
        usual: &[&Path],
    ) -> Result<Self, Error> {
        if let Some(path) = named {
            return Self::load(path);
        }
        let variables = variables();
        let path = variables.iter().find(|(name, value)| name == "SEGL_CONFIG" && !value.is_empty());
        if let Some((_, path)) = path {
            return Self::load(Path::new(path));
        }
        for path in usual {
            match Self::load_as(path, Found::Stumbled) {
                Err(Error::Unreadable { kind: io::ErrorKind::NotFound, .. }) => {}
                found => return found,
            }
        }
        match Self::from_env(variables) {
            Err(Error::Absent { .. }) => {
                Err(Error::Absent { searched: usual.iter().map(|path| path.to_path_buf()).collect() })
            }
            found => found,
        }
    }

    /// Loads the file at `path`.
    ///
    /// # Errors
    /// [`Error`] when it cannot be read, is larger than 1 MiB, can be written by everybody, or is wrong.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_as(path, Found::Named)
    }

    fn load_as(path: &Path, found: Found) -> Result<Self, Error> {
        let text = read(path, found)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base)
            .map(|config| Self { path: Some(path.to_owned()), ..config })
            .map_err(|problems| Error::Invalid { path: Some(path.to_owned()), problems })
    }

    /// Checks `text`, taking relative paths from `base`.
    ///
    /// # Errors
    /// All problems that were found.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Vec<Problem>> {
        let (tables, report) = document::read(text);
        check(tables, report, base, Vec::new())
    }

    /// One client and one token, both named `maskinporten`, from the environment variables of a sidecar:
    /// `MASKINPORTEN_CLIENT_ID`, `…_SCOPES`, `…_ISSUER` or `…_WELL_KNOWN_URL`, `…_TOKEN_ENDPOINT`, and a key from
    /// `SEGL_KEY` (with `MASKINPORTEN_CLIENT_KID` and `SEGL_PIN_FILE`) or `MASKINPORTEN_CLIENT_JWK`.
    ///
    /// # Errors
    /// [`Error::Absent`] when no client is named, or `MASKINPORTEN_ENABLED` is `false`; [`Error::Invalid`] otherwise.
    pub fn from_env(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, Error> {
        let Some((tables, report, warnings)) = sidecar::read(variables) else {
            return Err(Error::Absent { searched: Vec::new() });
        };
        check(tables, report, Path::new(""), warnings)
            .map_err(|problems| Error::Invalid { path: None, problems })
    }

    /// What is known of each kind of device: the profiles of this build, those of `/etc/segl/hsm-profiles`, those of
    /// `folder`, and over them the changes of this configuration.
    ///
    /// # Errors
    /// [`ProfileError`] when a file is wrong, or a change leads nowhere.
    pub fn profiles(&self, folder: Option<&Path>) -> Result<Profiles, ProfileError> {
        let mut profiles = Profiles::usual()?;
        if let Some(folder) = folder {
            profiles.load_dir(folder)?;
        }
        profiles.override_all(&self.profiles)?;
        Ok(profiles)
    }

    /// The effective values, each with where it comes from. Secrets are shown as their place only.
    #[must_use]
    pub fn show(&self) -> Vec<Setting> {
        show::show(self)
    }
}

/// JSON Schema (draft 2020-12) of `segl.toml`, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(wire::File).to_value()
}

/// How a file came to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Somebody named it.
    Named,
    /// It lay where one was looked for. The working directory may be anybody's, and a configuration names programs to
    /// run and libraries to load: such a file must be our own.
    Stumbled,
}

/// Whether `user` runs what a file of `owner` says without having named it.
fn trusts(user: u32, owner: u32) -> bool {
    owner == 0 || owner == user
}

fn read(path: &Path, how: Found) -> Result<String, Error> {
    let unreadable = |error: io::Error| Error::Unreadable { path: path.to_owned(), kind: error.kind() };
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if found.is_dir() {
        return Err(Error::Unreadable { path: path.to_owned(), kind: io::ErrorKind::IsADirectory });
    }
    if found.is_file() && found.mode() & 0o002 != 0 {
        return Err(Error::TooOpen { path: path.to_owned(), mode: found.mode() & 0o7777 });
    }
    if how == Found::Stumbled && !trusts(rustix::process::geteuid().as_raw(), found.uid()) {
        return Err(Error::Stranger { path: path.to_owned(), owner: found.uid() });
    }
    let mut bytes = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > LARGEST {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| Error::NotText { path: path.to_owned() })
}

/// Checks the tables against each other, ground first.
fn check(
    tables: wire::Tables,
    mut report: Report,
    base: &Path,
    mut warnings: Vec<String>,
) -> Result<Config, Vec<Problem>> {
    // Names count even when the rest of their table is wrong, which has been said already.
    let signer_names = report.names_in("signers", tables.signers.keys());
    let client_names = report.names_in("clients", tables.clients.keys());
    let environment_names = report.names_in("environments", tables.environments.keys());

    let mut signers = BTreeMap::new();
    for (name, wire) in tables.signers {
        if let Some(signer) = signer::check(&name, wire, base, &mut report) {
            for (key, sources) in [("pin", &signer.pin), ("sign_pin", &signer.sign_pin)] {
                let said = sources.iter().flat_map(|sources| sources.warnings());
                warnings.extend(said.map(|warning| format!("signers.{name}.{key}: {warning}")));
            }
            signers.insert(name, signer);
        }
    }
    let mut environments = BTreeMap::new();
    for (name, wire) in tables.environments {
        if let Some(environment) = environment::check(&name, wire, &mut report) {
            environments.insert(name, environment);
        }
    }
    let around = client::Around {
        signers: &signers,
        signer_names: &signer_names,
        environments: &environments,
        environment_names: &environment_names,
        base,
    };
    let mut clients = BTreeMap::new();
    for (name, wire) in tables.clients {
        if let Some(client) = client::check(&name, wire, &around, &mut report, &mut warnings) {
            clients.insert(name, client);
        }
    }
    let mut tokens = BTreeMap::new();
    for (name, wire) in tables.tokens {
        if let Some(token) = token::check(&name, wire, &clients, &client_names, &mut report, &mut warnings) {
            tokens.insert(name, token);
        }
    }
    profile::check(&tables.profiles, &mut report);
    let profiles = tables.profiles;
    let http = http::check(tables.http, base, &mut report);
    if report.problems().is_empty() {
        Ok(Config { path: None, signers, clients, environments, tokens, profiles, http, warnings, report })
    } else {
        Err(report.into_problems())
    }
}

/// Whether `text` is something and nothing that a terminal would act on.
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= 4096 && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
