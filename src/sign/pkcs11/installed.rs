//! Which PKCS#11 libraries lie on this machine, who says so, and whether their files may be loaded.

mod registry;
mod trust;

pub use self::trust::check_trust;

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use self::registry::Registry;
use super::Profiles;
use crate::sign::Error;

/// A PKCS#11 library on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installed {
    /// Its file, symbolic links resolved: what was checked is what is loaded.
    pub path: PathBuf,
    /// The name to write down: as it was first named, which outlives an upgrade of the package.
    pub name: PathBuf,
    /// Everybody who named it.
    pub named_by: Vec<NamedBy>,
    /// [`Error::Untrusted`], when others can change the file or a folder above it.
    pub distrust: Option<Error>,
}

/// Who says that a file is a PKCS#11 library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NamedBy {
    /// The caller.
    Caller,
    /// The profile of this name.
    Profile(String),
    /// This file of p11-kit's registry (`pkcs11.conf(5)`).
    Registry(PathBuf),
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller => f.write_str("as asked"),
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::Registry(file) => write!(f, "{}", file.display()),
        }
    }
}

impl Installed {
    /// Every library that a profile or p11-kit's registry knows and that is there.
    ///
    /// p11-kit's proxy is passed over, since it shows once more what the others show, and so are modules that hold
    /// certificates for trust and no keys.
    #[must_use]
    pub fn all(profiles: &Profiles) -> Vec<Self> {
        let of_profiles = profiles.iter().flat_map(|profile| {
            let installed = profile.module.installed().into_iter();
            installed.map(|path| (NamedBy::Profile(profile.name.clone()), path))
        });
        let registered = Registry::of_system().modules();
        let registered =
            registered.into_iter().map(|module| (NamedBy::Registry(module.file), module.library));
        Self::among(of_profiles.chain(registered).filter(|(_, path)| !is_proxy(path)))
    }

    /// The library at `path`, which the caller named.
    ///
    /// # Errors
    /// [`Error::Module`] when there is no such file.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let missing = |why: std::io::Error| Error::Module {
            path: path.display().to_string(),
            problem: why.to_string(),
        };
        let name = std::path::absolute(path).map_err(missing)?;
        let path = fs::canonicalize(path).map_err(missing)?;
        Ok(Self { distrust: check_trust(&path).err(), path, name, named_by: vec![NamedBy::Caller] })
    }

    /// The profile that names it, if one does.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.named_by.iter().find_map(|who| match who {
            NamedBy::Profile(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Those of `named` that are there, each once, however many names lead to it.
    fn among(named: impl IntoIterator<Item = (NamedBy, PathBuf)>) -> Vec<Self> {
        let mut found: Vec<((u64, u64), Self)> = Vec::new();
        for (who, name) in named {
            let Ok(path) = fs::canonicalize(&name) else { continue };
            let Ok(file) = fs::metadata(&path) else { continue };
            if !file.is_file() {
                continue;
            }
            let id = (file.dev(), file.ino());
            match found.iter_mut().find(|(other, _)| *other == id) {
                Some((_, known)) if known.named_by.contains(&who) => {}
                Some((_, known)) => known.named_by.push(who),
                None => {
                    let distrust = check_trust(&path).err();
                    found.push((id, Self { path, name, named_by: vec![who], distrust }));
                }
            }
        }
        found.into_iter().map(|(_, library)| library).collect()
    }
}

/// p11-kit's proxy, which loads all registered modules and shows them as one, is the same file as p11-kit itself.
/// Nothing but the name tells: loading it to ask would load all the others.
fn is_proxy(path: &Path) -> bool {
    let named = |path: &Path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            ["p11-kit-proxy.so", "libp11-kit.so"].iter().any(|proxy| name.starts_with(proxy))
        })
    };
    named(path) || fs::canonicalize(path).is_ok_and(|path| named(&path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_under_several_names_is_one_library_and_remembers_who_named_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, twin) =
            (folder.path().join("a.so"), folder.path().join("b.so"), folder.path().join("c.so"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        fs::hard_link(&file, &twin).unwrap();
        let (one, other) = (NamedBy::Profile("one".into()), NamedBy::Registry("/x.module".into()));
        let found = Installed::among([
            (one.clone(), link.clone()),
            (other.clone(), twin),
            (one.clone(), file.clone()),
            (one.clone(), folder.path().join("absent.so")),
            (one.clone(), folder.path().to_owned()),
        ]);
        let [library] = &found[..] else { panic!("{found:?}") };
        assert_eq!(library.path, file.canonicalize().unwrap());
        assert_eq!(library.name, link);
        assert_eq!(library.named_by, [one, other]);
        assert_eq!(library.profile(), Some("one"));
    }

    #[test]
    fn the_proxy_is_known_under_any_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("libp11-kit.so.0.3.0"), folder.path().join("proxy.so"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        assert!(is_proxy(&link) && is_proxy(Path::new("/usr/lib/p11-kit-proxy.so")));
        assert!(!is_proxy(Path::new("/usr/lib/pkcs11/p11-kit-client.so")));
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = Installed::at(Path::new("/nowhere/lib.so")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/lib.so"), "{error}");
    }
}
