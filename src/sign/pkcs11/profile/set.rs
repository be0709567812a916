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
mod tests {
    use super::*;

    fn matched(file: &str, manufacturer: Option<&str>, model: Option<&str>) -> Option<String> {
        Profiles::embedded().matching(Path::new(file), manufacturer, model).map(|profile| profile.name)
    }

    #[test]
    fn a_library_is_known_by_its_file_before_there_is_a_device() {
        for (file, name) in [
            ("/usr/lib/softhsm/libsofthsm2.so", "softhsm2"),
            ("/opt/elsewhere/libsofthsm2.so.1", "softhsm2"),
            ("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so", "opensc"),
            ("/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so", "tpm2-pkcs11"),
            ("/usr/lib/libeToken.so.10.8", "safenet-etoken"),
            ("libCryptoki2_64.so", "luna"),
            ("libsc-hsm-pkcs11.so", "smartcard-hsm"),
            ("libIDPrimePKCS11.so", "safenet-etoken-cc"),
        ] {
            assert_eq!(matched(file, None, None).as_deref(), Some(name), "{file}");
        }
        assert_eq!(matched("/opt/vendor/libp11.so", None, None), None);
    }

    #[test]
    fn the_device_decides_between_profiles_of_one_library() {
        let opensc = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";
        let card = matched(opensc, Some("www.CardContact.de"), Some("PKCS#15 emulated"));
        assert_eq!(card.as_deref(), Some("smartcard-hsm"));
        assert_eq!(matched(opensc, Some("piv_II"), Some("PKCS#15 emulated")).as_deref(), Some("opensc"));
        let etoken = "/usr/lib/libeToken.so";
        assert_eq!(matched(etoken, Some("SafeNet, Inc."), Some("eToken")).as_deref(), Some("safenet-etoken"));
        assert_eq!(
            matched(etoken, Some("Gemalto  "), Some("ID Prime MD\0")).as_deref(),
            Some("safenet-etoken-cc")
        );
    }

    #[test]
    fn what_stands_behind_a_proxy_is_driven_as_the_proxy_wants_it() {
        let proxied = matched("/usr/lib/p11-kit-client.so", Some("SoftHSM project"), Some("SoftHSM v2"));
        assert_eq!(proxied.as_deref(), Some("p11-kit-remote"));
    }

    #[test]
    fn a_device_behind_a_library_that_nobody_knows_brings_nothing_of_its_usual_library() {
        let profiles = Profiles::embedded();
        let profile = profiles.matching(Path::new("/opt/spy.so"), Some("SoftHSM project"), None).unwrap();
        assert_eq!(profile.name, "softhsm2");
        assert_eq!(profile.module, Module::default());
        assert_eq!(profile.login, profiles.named("softhsm2").unwrap().login);
        // Both of this manufacturer's profiles ask for a model.
        assert_eq!(matched("/opt/spy.so", Some("Yubico (www.yubico.com)"), None), None);
        let key = matched("/opt/spy.so", Some("Yubico (www.yubico.com)"), Some("YubiKey YK5"));
        assert_eq!(key.as_deref(), Some("yubikey-piv"));
    }

    #[test]
    fn a_device_that_calls_itself_otherwise_is_still_known_by_its_library() {
        assert_eq!(matched("libkmsp11.so", Some("Alphabet"), None).as_deref(), Some("google-kms"));
    }

    #[test]
    fn the_path_in_the_uri_goes_before_any_profile() {
        let uri: Uri = "pkcs11:token=a?module-path=/opt/lib.so".parse().unwrap();
        let found = Profiles::embedded().library_for(&uri, Some("softhsm2")).unwrap();
        assert_eq!(found, Path::new("/opt/lib.so"));
    }

    #[test]
    fn an_unknown_profile_is_named_with_those_that_are_known() {
        let uri: Uri = "pkcs11:token=a?module-name=lunar".parse().unwrap();
        let error = Profiles::embedded().library_for(&uri, None).unwrap_err().to_string();
        assert!(error.contains("lunar") && error.contains("softhsm2"), "{error}");
    }

    #[test]
    fn of_several_libraries_those_are_meant_whose_configuration_is_named() {
        let module = |config: &str, required: &[&str]| Module {
            env_config: config.into(),
            env_required: required.iter().map(ToString::to_string).collect(),
            ..Module::default()
        };
        let [plain, led, needing] = [module("", &[]), module("A_CONF", &[]), module("", &["B_DIR"])];
        let chosen = |set: &[&str]| {
            let installed = [(&plain, "plain"), (&led, "led"), (&needing, "needing"), (&plain, "plain")];
            let installed = installed.into_iter().map(|(module, path)| (module, PathBuf::from(path)));
            let found = meant(installed, |name| set.contains(&name).then(|| "x".into()));
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[]), ["plain", "led"]);
        assert_eq!(chosen(&["B_DIR"]), ["plain", "led", "needing"]);
        assert_eq!(chosen(&["A_CONF"]), ["led"]);
        assert_eq!(chosen(&["A_CONF", "B_DIR"]), ["led"]);
    }

    fn changed(changes: &[(&str, &str)]) -> Result<Profiles, ProfileError> {
        let mut profiles = Profiles::embedded();
        let parsed = changes.iter().map(|(name, text)| ((*name).to_owned(), text.parse().unwrap())).collect();
        profiles.override_all(&parsed).map(|()| profiles)
    }

    #[test]
    fn a_table_changes_the_fields_that_it_names_and_no_other() {
        let changes = "[session]\nlanes = 8\n[module.env_default]\nA = \"1\"";
        let profiles = changed(&[("luna", changes)]).unwrap();
        let before = Profiles::embedded().named("luna").unwrap().clone();
        let mut expected = before.clone();
        expected.session.lanes = 8;
        expected.module.env_default.insert("A".into(), "1".into());
        assert_eq!(profiles.named("luna"), Some(&expected));
        assert_eq!(profiles.origin("luna"), Some(&Origin::Configuration));
        assert_eq!(profiles.origin("nss"), Some(&Origin::Embedded));
        // It still knows its library.
        let matched = profiles.matching(Path::new("libCryptoki2_64.so"), None, None);
        assert_eq!(matched, Some(expected));
    }

    #[test]
    fn a_profile_based_on_another_is_used_where_it_is_named_or_where_it_says() {
        let profiles = changed(&[
            ("b", "based_on = \"a\"\n[sign]\ncall_timeout_s = 9"),
            ("a", "based_on = \"luna\"\ntitle = \"Our Luna\"\n[session]\nlanes = 2"),
            ("c", "based_on = \"nss\"\n[match]\nmodule_file = [\"libCryptoki2_64.so\"]"),
        ])
        .unwrap();
        let b = profiles.named("b").unwrap();
        assert_eq!((b.title.as_str(), b.session.lanes, b.sign.call_timeout_s), ("Our Luna", 2, 9));
        assert_eq!(b.module.paths, profiles.named("luna").unwrap().module.paths);
        assert_eq!(b.matching, Match::default());
        let matched = profiles.matching(Path::new("libCryptoki2_64.so"), None, None).unwrap();
        assert_eq!(matched.name, "c", "of equals the one that was added last");
    }

    #[test]
    fn a_change_that_makes_no_sense_is_named_by_table_and_key() {
        for (name, text, expected) in [
            (
                "lunar",
                "[session]\nlanes = 2",
                "[profiles.lunar]: there is no profile \"lunar\"; known are aws-",
            ),
            (
                "mine",
                "based_on = \"lunar\"",
                "[profiles.mine]: there is no profile \"lunar\"; known are aws-",
            ),
            ("mine", "based_on = \"mine\"", "[profiles.mine]: there is no profile \"mine\"; known are aws-"),
            ("luna", "based_on = 1", "[profiles.luna]: based_on: is the name of a profile"),
            ("luna", "schema = 2", "[profiles.luna]: schema: is not for changing"),
            ("luna", "name = \"x\"", "[profiles.luna]: name: is not for changing"),
            ("Luna", "based_on = \"luna\"", "[profiles.Luna]: a profile's name is made of a-z"),
            ("luna", "[session]\nlanes = 99", "[profiles.luna]: session.lanes: is 1 to 32, not 99"),
            ("luna", "[session]\nlaens = 9", "[profiles.luna]: unknown field `laens`, expected one of"),
            ("luna", "session = 3", "[profiles.luna]: invalid type: integer `3`"),
        ] {
            let error = changed(&[(name, text)]).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(!error.remedy().is_empty());
        }
    }

    #[test]
    fn changes_of_a_profile_that_is_elsewhere_are_checked_as_far_as_they_can_be() {
        let profiles = Profiles::embedded();
        let check = |name: &str, text: &str| profiles.check_changes(name, text.parse().unwrap());
        // The hint that a format needs may stand in the profile that is changed.
        assert_eq!(check("ours", "[login]\npin_format = \"^x\""), Ok(()));
        assert_eq!(check("mine", "based_on = \"ours\"\n[session]\nlanes = 2"), Ok(()));
        assert!(check("luna", "[session]\nlanes = 99").is_err());
        assert!(check("ours", "[session]\nlanes = \"x\"").is_err());
    }

    #[test]
    fn tables_based_on_each_other_end_in_an_error() {
        let circle = [("a", "based_on = \"b\""), ("b", "based_on = \"a\"")];
        assert!(matches!(changed(&circle), Err(ProfileError::Unknown { .. })));
    }

    #[test]
    fn a_file_takes_the_place_of_a_profile_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mine = Profile { name: "luna".into(), title: "Mine".into(), ..Profile::unknown() };
        let path = folder.path().join("luna.toml");
        crate::state::write_file(&path, mine.to_toml().as_bytes(), crate::state::Mode::Private, false)
            .unwrap();
        let mut profiles = Profiles::embedded();
        profiles.load_dir(folder.path()).unwrap();
        assert_eq!(profiles.named("luna"), Some(&mine));
        assert_eq!(profiles.origin("luna"), Some(&Origin::File(path)));
        assert_eq!(profiles.iter().count(), Profiles::embedded().iter().count());
    }
}
