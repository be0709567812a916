//! What is known of each kind of device, as data: one TOML file each in `hsm-profiles/`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Uri;
use crate::sign::Error;

/// A kind of device: where its library lies and how it wants to be driven. Code asks for these capabilities, never
/// for a vendor's name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Profile {
    schema: u32,
    /// Name, as in `profile = "…"` and in a URI's `module-name`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Where the PKCS#11 library may lie; the first that exists is taken.
    pub library: Vec<PathBuf>,
    /// How many sessions the device may be asked to sign in at the same time. One signs today.
    pub lanes: u8,
    /// How far the rest can be relied on.
    pub confidence: Confidence,
    /// Where the facts come from.
    pub sources: Vec<String>,
}

/// How far a profile can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Confidence {
    /// Run by this project.
    Tested,
    /// From the vendor's documentation.
    Docs,
    /// From other projects' issue threads.
    IssuesOnly,
    /// A guess.
    Guess,
}

/// File name (without `.toml`) and text of each profile.
const EMBEDDED: &[(&str, &str)] = &[("softhsm2", include_str!("../../../hsm-profiles/softhsm2.toml"))];

impl Profile {
    /// Every profile this build knows.
    pub fn all() -> impl Iterator<Item = Self> {
        // A profile that does not parse cannot leave the house: a test reads them all.
        EMBEDDED.iter().filter_map(|(_, text)| Self::parse(text).ok())
    }

    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|profile| profile.name == name)
    }

    /// The library of this kind of device, where it is installed.
    #[must_use]
    pub fn installed_library(&self) -> Option<&Path> {
        self.library.iter().map(PathBuf::as_path).find(|path| path.exists())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|why| why.to_string())?;
        if profile.schema != 1 {
            return Err(format!("schema {} is unknown", profile.schema));
        }
        if profile.lanes == 0 {
            return Err("lanes must be at least 1".into());
        }
        Ok(profile)
    }
}

/// The PKCS#11 library for `uri`: its `module-path`, else that of the named profile (`profile`, else the URI's
/// `module-name`), else the only one of a known kind that is installed on this machine.
///
/// # Errors
/// [`Error::Module`] when the profile is unknown, its library is not installed, or there is no single choice.
pub fn library_for(uri: &Uri, profile: Option<&str>) -> Result<PathBuf, Error> {
    if let Some(path) = uri.module_path() {
        return Ok(path.to_owned());
    }
    if let Some(name) = profile.or(uri.module_name()) {
        let missing = |problem: String| Error::Module { path: format!("of profile {name}"), problem };
        let profile = Profile::named(name).ok_or_else(|| missing(format!("known are {}", names())))?;
        let found = profile.installed_library().map(Path::to_owned);
        return found.ok_or_else(|| missing(format!("none of {} exists", listed(&profile.library))));
    }
    let mut installed: Vec<PathBuf> =
        Profile::all().filter_map(|profile| profile.installed_library().map(Path::to_owned)).collect();
    match (installed.pop(), installed.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Error::Module {
            path: "of the device".into(),
            problem: format!("no library of a known kind ({}) is installed", names()),
        }),
        (Some(last), false) => {
            installed.push(last);
            Err(Error::Module {
                path: "of the device".into(),
                problem: format!("several are installed: {}", listed(&installed)),
            })
        }
    }
}

fn names() -> String {
    Profile::all().map(|profile| profile.name).collect::<Vec<_>>().join(", ")
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded_and_reads_as_what_its_name_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm-profiles");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let embedded: Vec<String> = EMBEDDED.iter().map(|(name, _)| format!("{name}.toml")).collect();
        assert_eq!(files, embedded);
        for (name, text) in EMBEDDED {
            let profile = Profile::parse(text).unwrap();
            assert_eq!(&profile.name, name);
            assert!(profile.library.iter().all(|path| path.is_absolute()));
            assert!(!profile.sources.is_empty());
        }
    }

    #[test]
    fn an_unknown_key_in_a_profile_is_refused() {
        let (_, text) = EMBEDDED[0];
        assert!(Profile::parse(&format!("{text}\nlaens = 2")).unwrap_err().contains("laens"));
        assert!(Profile::parse(&text.replace("schema     = 1", "schema = 2")).is_err());
        assert!(Profile::parse(&text.replace("lanes      = 1", "lanes = 0")).is_err());
    }

    #[test]
    fn the_path_in_the_uri_goes_before_any_profile() {
        let uri: Uri = "pkcs11:token=a?module-path=/opt/lib.so".parse().unwrap();
        assert_eq!(library_for(&uri, Some("softhsm2")).unwrap(), Path::new("/opt/lib.so"));
    }

    #[test]
    fn an_unknown_profile_is_named_with_those_that_are_known() {
        let uri: Uri = "pkcs11:token=a?module-name=luna".parse().unwrap();
        let error = library_for(&uri, None).unwrap_err().to_string();
        assert!(error.contains("luna") && error.contains("softhsm2"), "{error}");
    }
}
