use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use super::{Match, Module, Profile, ProfileError, check, embedded, folder, pattern};
use crate::sign::{Error, pkcs11::Uri};

/// Where an administrator puts profiles for all of a machine.
const USUAL: &str = "/etc/segl/hsm-profiles";

/// The profiles that a program goes by: those it brings along, with what was changed and added.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    by_name: BTreeMap<String, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    profile: Profile,
    origin: Origin,
    /// How many came before this one: the later goes before the earlier.
    age: usize,
}

/// Where a profile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// This build brings it along.
    Embedded,
    /// A file.
    File(PathBuf),
    /// A `[profiles.NAME]` table of the configuration.
    Configuration,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("this build"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Configuration => f.write_str("the configuration"),
        }
    }
}

impl Profiles {
    /// Those that this build brings along.
    #[must_use]
    pub fn embedded() -> Self {
        let mut profiles = Self::default();
        for profile in embedded::profiles() {
            profiles.insert(profile.clone(), Origin::Embedded);
        }
        profiles
    }

    /// Those that this build brings along, with those of `/etc/segl/hsm-profiles` in their places.
    ///
    /// # Errors
    /// Those of [`Profiles::load_dir`].
    pub fn usual() -> Result<Self, ProfileError> {
        let mut profiles = Self::embedded();
        if Path::new(USUAL).exists() {
            profiles.load_dir(Path::new(USUAL))?;
        }
        Ok(profiles)
    }

    /// Takes in every `*.toml` file of `folder`. One with a name that is there already takes its place whole.
    ///
    /// # Errors
    /// [`ProfileError`] when the folder or a file cannot be read, could have been written by somebody else than root
    /// and this user, or is wrong. Nothing is taken in then.
    pub fn load_dir(&mut self, folder: &Path) -> Result<(), ProfileError> {
        for (path, profile) in folder::read(folder)? {
            self.insert(profile, Origin::File(path));
        }
        Ok(())
    }

    /// Changes the profile `name` field by field: `changes` has the keys of a profile file, and what it does not name
    /// stays. With `based_on`, the profile is made anew out of that one; it is then used where it is named, and matches
    /// by itself only what its own `match` table says.
    ///
    /// # Errors
    /// [`ProfileError`] when there is nothing to change, a key is not known or a value makes no sense.
    pub fn override_with(&mut self, name: &str, changes: toml::Table) -> Result<(), ProfileError> {
        let profile = self.changed(name, changes)?;
        self.insert(profile, Origin::Configuration);
        Ok(())
    }

    /// Whether [`Profiles::override_with`] could take `changes`. When the profile that they change is not known, only
    /// their keys and the kinds of their values are looked at.
    ///
    /// # Errors
    /// [`ProfileError::Field`] when not.
    pub fn check_changes(&self, name: &str, changes: toml::Table) -> Result<(), ProfileError> {
        let unknown = Profile { name: name.to_owned(), ..Profile::unknown() };
        match self.changed(name, changes.clone()) {
            Err(ProfileError::Unknown { .. }) => {
                let changes = changes.into_iter().filter(|(key, _)| key != "based_on").collect();
                let place = place_of(name);
                merged(&unknown, changes, &place)?
                    .try_into::<Profile>()
                    .map(drop)
                    .map_err(|why| ProfileError::shape(&place, &why))
            }
            other => other.map(drop),
        }
    }

    fn changed(&self, name: &str, mut changes: toml::Table) -> Result<Profile, ProfileError> {
        let place = place_of(name);
        let field = |key: &str, problem: &str| ProfileError::Field {
            file: place.clone(),
            key: key.to_owned(),
            problem: problem.to_owned(),
        };
        if !check::is_name(name) {
            return Err(field("", "a profile's name is made of a-z, 0-9 and -, 64 at most"));
        }
        for key in ["schema", "name"] {
            if changes.contains_key(key) {
                return Err(field(key, "is not for changing"));
            }
        }
        let base = match changes.remove("based_on") {
            Some(toml::Value::String(base)) => Some(base),
            Some(_) => return Err(field("based_on", "is the name of a profile")),
            None => None,
        };
        let known = base.as_deref().unwrap_or(name);
        let profile = self.named(known).ok_or_else(|| ProfileError::Unknown {
            place: place.clone(),
            name: known.to_owned(),
            known: self.names().into_iter().map(str::to_owned).collect(),
        })?;
        let table = if base.is_some() {
            let derived = Profile { name: name.to_owned(), matching: Match::default(), ..profile.clone() };
            merged(&derived, changes, &place)?
        } else {
            merged(profile, changes, &place)?
        };
        Profile::from_table(table, &place)
    }

    /// As [`Profiles::override_with`] for many, those first that others are based on.
    ///
    /// # Errors
    /// Those of [`Profiles::override_with`], for the first that fails; those before it are changed.
    pub fn override_all(&mut self, changes: &BTreeMap<String, toml::Table>) -> Result<(), ProfileError> {
        let base_of = |name: &str| changes.get(name)?.get("based_on")?.as_str();
        let mut waiting: Vec<&str> = changes.keys().map(String::as_str).collect();
        while !waiting.is_empty() {
            // One that waits for itself, over however many others, is tried all the same and finds what there was.
            let waits =
                |name: &&&str| base_of(name).is_some_and(|base| base != **name && waiting.contains(&base));
            let next = waiting.iter().find(|name| !waits(name)).or(waiting.first()).copied();
            let Some(name) = next else { break };
            waiting.retain(|other| *other != name);
            self.override_with(name, changes.get(name).cloned().unwrap_or_default())?;
        }
        Ok(())
    }

    fn insert(&mut self, profile: Profile, origin: Origin) {
        let age = self.by_name.values().map(|known| known.age + 1).max().unwrap_or_default();
        self.by_name.insert(profile.name.clone(), Known { profile, origin, age });
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.by_name.values().map(|known| &known.profile)
    }

    /// The profile of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Profile> {
        self.by_name.get(name).map(|known| &known.profile)
    }

    /// Where the profile of this name comes from.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.by_name.get(name).map(|known| &known.origin)
    }

    /// The profile for a device, as far as it is known: the library's file, and the manufacturer and model that the
    /// device says (or, before there is a device, the library). `None`: no profile fits; [`Profile::unknown`] holds.
    ///
    /// The file decides, since a profile says how to drive a library: what stands behind a proxy is driven as the proxy
    /// wants it. Among the profiles of one file, one whose model fits goes before one whose manufacturer fits, that
    /// before one that does not ask, and that before one that asks for something else or for what is not known yet. Of
    /// equals the one that was added last.
    ///
    /// When no profile knows the file, one whose manufacturer and model fit holds for the device alone: what it says of
    /// the library is left out.
    #[must_use]
    pub fn matching(
        &self,
        module_file: &Path,
        manufacturer: Option<&str>,
        model: Option<&str>,
    ) -> Option<Profile> {
        let file = module_file.file_name().map(|name| name.to_string_lossy().into_owned());
        let of_file = |matching: &Match| {
            fits(&matching.module_file, file.as_deref()).then(|| rank(matching, manufacturer, model))
        };
        let of_device = |matching: &Match| {
            let rank = rank(matching, manufacturer, model);
            (rank.unmet.0 == 0 && (rank.model || rank.manufacturer)).then_some(rank)
        };
        let by_file = self.best(of_file);
        by_file.cloned().or_else(|| {
            self.best(of_device).map(|profile| Profile { module: Module::default(), ..profile.clone() })
        })
    }

    fn best(&self, rank: impl Fn(&Match) -> Option<Rank>) -> Option<&Profile> {
        let ranked = self.by_name.values().filter_map(|known| Some((rank(&known.profile.matching)?, known)));
        ranked.max_by_key(|(rank, known)| (*rank, known.age)).map(|(_, known)| &known.profile)
    }

    /// The PKCS#11 library for `uri`: its `module-path`, else that of the named profile (`profile`, else the URI's
    /// `module-name`), else the only one of a known kind that is installed on this machine.
    ///
    /// # Errors
    /// [`Error::Module`] when the profile is unknown, its library is not installed, or there is no single choice.
    pub fn library_for(&self, uri: &Uri, profile: Option<&str>) -> Result<PathBuf, Error> {
        let libraries = self.libraries_for(uri, profile)?;
        match libraries.as_slice() {
            [only] => Ok(only.clone()),
            several => Err(Error::Module {
                path: "of the device".into(),
                problem: format!("several are installed: {}", listed(several)),
            }),
        }
    }

    /// The libraries that can be meant by `uri`, at least one, in the order of their profiles' names: as
    /// [`Profiles::library_for`], but without a single choice all of a known kind that are installed here.
    ///
    /// A library that needs an environment variable which is not set is left out. When variables that lead libraries
    /// to their configuration are set, only those libraries are meant.
    ///
    /// # Errors
    /// [`Error::Module`] when the profile is unknown, or no library is installed.
    pub fn libraries_for(&self, uri: &Uri, profile: Option<&str>) -> Result<Vec<PathBuf>, Error> {
        if let Some(path) = uri.module_path() {
            return Ok(vec![path.to_owned()]);
        }
        if let Some(name) = profile.or(uri.module_name()) {
            let missing = |problem: String| Error::Module { path: format!("of profile {name}"), problem };
            let profile =
                self.named(name).ok_or_else(|| missing(format!("known are {}", self.names().join(", "))))?;
            let found = profile.installed_library();
            return found
                .map(|library| vec![library])
                .ok_or_else(|| missing(format!("none of {} exists", profile.module.paths.join(", "))));
        }
        let installed =
            self.iter().filter_map(|profile| Some((&profile.module, profile.installed_library()?)));
        let meant = meant(installed, |name| std::env::var_os(name));
        if meant.is_empty() {
            return Err(Error::Module {
                path: "of the device".into(),
                problem: format!("no library of a known kind ({}) is installed", self.names().join(", ")),
            });
        }
        Ok(meant)
    }

    /// How a library is driven that no profile knows: the careful way. It may be a way to a library that is known, a
    /// proxy or a recorder of calls, so its process sees the variables of all of them.
    pub(in super::super) fn unknown(&self) -> Profile {
        let all = || self.iter().map(|profile| &profile.module);
        let unique = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
        let mut profile = Profile::unknown();
        profile.module.env = unique(all().flat_map(Module::variables).collect());
        let configs = all().map(|it| it.env_config.clone()).filter(|name| !name.is_empty());
        profile.module.env_configs = configs.collect();
        profile.module.env_danger = unique(all().flat_map(|it| &it.env_danger).map(String::as_str).collect());
        profile
    }

    fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).collect()
    }
}

fn place_of(name: &str) -> String {
    format!("[profiles.{name}]")
}

fn merged(profile: &Profile, changes: toml::Table, place: &str) -> Result<toml::Table, ProfileError> {
    let mut table = toml::Table::try_from(profile).map_err(|why| ProfileError::Field {
        file: place.to_owned(),
        key: String::new(),
        problem: why.to_string(),
    })?;
    merge(&mut table, changes);
    Ok(table)
}

/// Puts `changes` into `table`: tables into tables, everything else in place of what was there.
fn merge(table: &mut toml::Table, changes: toml::Table) {
    for (key, change) in changes {
        match (table.get_mut(&key), change) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, change) => {
                table.insert(key, change);
            }
        }
    }
}

/// How well a profile fits a device: the better is the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    model: bool,
    manufacturer: bool,
    /// What it asks for in vain.
    unmet: Reverse<usize>,
}

fn rank(matching: &Match, manufacturer: Option<&str>, model: Option<&str>) -> Rank {
    let asked = [(&matching.model, model), (&matching.manufacturer, manufacturer)];
    let [model, manufacturer] = asked.map(|(globs, text)| fits(globs, text));
    let asks = asked.iter().filter(|(globs, _)| !globs.is_empty()).count();
    let met = usize::from(model) + usize::from(manufacturer);
    Rank { model, manufacturer, unmet: Reverse(asks.saturating_sub(met)) }
}

fn fits(globs: &[String], text: Option<&str>) -> bool {
    text.is_some_and(|text| pattern::any_fits(globs, text.trim_matches([' ', '\0'])))
}

/// Those of the installed libraries that a user of this environment can mean.
fn meant<'a>(
    installed: impl Iterator<Item = (&'a Module, PathBuf)>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<PathBuf> {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let usable: Vec<_> =
        installed.filter(|(module, _)| module.env_required.iter().all(|name| is_set(name))).collect();
    let is_led = |module: &Module| !module.env_config.is_empty() && is_set(&module.env_config);
    let any_led = usable.iter().any(|(module, _)| is_led(module));
    let mut meant: Vec<PathBuf> = Vec::new();
    for (module, path) in usable {
        if (!any_led || is_led(module)) && !meant.contains(&path) {
            meant.push(path);
        }
    }
    meant
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
