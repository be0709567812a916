//! p11-kit's registry: small files in which packages say where their PKCS#11 library lies (`pkcs11.conf(5)`).

use std::{
    collections::BTreeMap,
    env::{self, consts::ARCH},
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

/// As p11-kit's lists of programs know us.
const PROGRAM: &str = "segl";

/// A registration has a few lines.
const LARGEST_FILE: u64 = 64 * 1024;

/// Where registrations lie.
pub(super) struct Registry {
    /// Folders of `.module` files; where two have a file of one name, the first one's settings go before.
    folders: Vec<PathBuf>,
    /// Where libraries lie that are named without a folder.
    libraries: Vec<PathBuf>,
}

/// A library that is registered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// The file that names it.
    pub(super) file: PathBuf,
    /// Its file, which may not be there.
    pub(super) library: PathBuf,
}

type Settings = BTreeMap<String, String>;

impl Registry {
    /// That of this machine, in the places where Debian and Fedora keep it. Root has no folder of its own: what is in
    /// a home directory is no reason to load a library as root.
    pub(super) fn of_system() -> Self {
        let machine = ["/etc/pkcs11/modules", "/usr/share/p11-kit/modules"].map(PathBuf::from);
        let own = if geteuid().is_root() { None } else { own_folder() };
        let mode = read(Path::new("/etc/pkcs11/pkcs11.conf")).remove("user-config").unwrap_or_default();
        let folders = match (mode.as_str(), own) {
            ("none", _) | (_, None) => machine.to_vec(),
            ("only", Some(own)) => vec![own],
            (_, Some(own)) => [own].into_iter().chain(machine).collect(),
        };
        Self { folders, libraries: library_folders() }
    }

    /// What is registered for this program and may hold keys.
    pub(super) fn modules(&self) -> Vec<Module> {
        let mut by_name: BTreeMap<String, (PathBuf, Settings)> = BTreeMap::new();
        for file in self.folders.iter().flat_map(|folder| files(folder)) {
            let Some(name) = file.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
                continue;
            };
            let settings = read(&file);
            let (_, known) = by_name.entry(name).or_insert_with(|| (file, Settings::new()));
            for (key, value) in settings {
                known.entry(key).or_insert(value);
            }
        }
        by_name.into_values().filter_map(|(file, settings)| self.module(file, &settings)).collect()
    }

    fn module(&self, file: PathBuf, settings: &Settings) -> Option<Module> {
        let named = Path::new(settings.get("module").filter(|module| !module.is_empty())?);
        // A source of trusted certificates holds no keys.
        if settings.get("trust-policy").is_some_and(|answer| answer == "yes") || !is_enabled(settings) {
            return None;
        }
        let library = match named.is_absolute() {
            true => named.to_owned(),
            false => self.libraries.iter().map(|folder| folder.join(named)).find(|path| path.exists())?,
        };
        Some(Module { file, library })
    }
}

/// Whether `enable-in` and `disable-in` let this program have it; the first of them goes before the other.
fn is_enabled(settings: &Settings) -> bool {
    let names_us = |list: &String| {
        list.split(|sign: char| sign == ',' || sign.is_whitespace()).any(|program| program == PROGRAM)
    };
    match (settings.get("enable-in"), settings.get("disable-in")) {
        (Some(enabled), _) => names_us(enabled),
        (None, Some(disabled)) => !names_us(disabled),
        (None, None) => true,
    }
}

fn own_folder() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("pkcs11/modules"))
}

/// p11-kit's own folder of libraries: `/usr/lib/<triplet>/pkcs11` on Debian, `/usr/lib64/pkcs11` on Fedora.
fn library_folders() -> Vec<PathBuf> {
    let triplets = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = triplets
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(&format!("{ARCH}-linux-")))
        })
        .map(|entry| entry.path().join("pkcs11"))
        .collect();
    folders.sort();
    folders.extend(["/usr/lib64/pkcs11", "/usr/lib/pkcs11"].map(PathBuf::from));
    folders
}

/// The registrations in a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "module"))
        .collect();
    files.sort();
    files
}

/// The settings in a file; none when it cannot be read.
fn read(path: &Path) -> Settings {
    let mut bytes = Vec::new();
    // A pipe or a device would be waited for.
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    if is_file && let Ok(file) = File::open(path) {
        let _ = file.take(LARGEST_FILE).read_to_end(&mut bytes);
    }
    parse(&String::from_utf8_lossy(&bytes))
}

/// `name: value` lines; the last of one name counts, and what is no such line is passed over.
fn parse(text: &str) -> Settings {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registry(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["own", "machine", "libraries"] {
            fs::create_dir(path(name)).unwrap();
        }
        for (name, text) in files {
            fs::write(path(name), text).unwrap();
        }
        let registry = Registry {
            folders: vec![path("own"), path("machine"), path("absent")],
            libraries: vec![path("absent"), path("libraries")],
        };
        (folder, registry)
    }

    #[test]
    fn libraries_are_found_by_path_and_by_name() {
        let (folder, registry) = registry(&[
            ("machine/a.module", "# a comment\nmodule: /opt/a.so\ncritical: no\n"),
            ("machine/b.module", "  module :  b.so  \r\n"),
            ("machine/c.module", "module: not-installed.so\n"),
            ("machine/d.conf", "module: /opt/d.so\n"),
            ("machine/e.module", "remote: unix:path=/run/p11\n"),
            ("libraries/b.so", ""),
        ]);
        let at = |name: &str| folder.path().join(name);
        assert_eq!(
            registry.modules(),
            [
                Module { file: at("machine/a.module"), library: "/opt/a.so".into() },
                Module { file: at("machine/b.module"), library: at("libraries/b.so") },
            ]
        );
    }

    #[test]
    fn what_holds_no_keys_or_is_not_for_us_is_passed_over() {
        let (_folder, registry) = registry(&[
            ("machine/trust.module", "module: /trust.so\ntrust-policy: yes\n"),
            ("machine/browser.module", "module: /browser.so\nenable-in: firefox, thunderbird\n"),
            ("machine/not-us.module", "module: /not-us.so\ndisable-in: firefox segl\n"),
            ("machine/us.module", "module: /us.so\nenable-in: firefox,segl\n"),
            ("machine/not-proxy.module", "module: /not-proxy.so\ndisable-in: p11-kit-proxy\n"),
        ]);
        let found: Vec<_> = registry.modules().into_iter().map(|module| module.library).collect();
        assert_eq!(found, ["/not-proxy.so", "/us.so"].map(PathBuf::from));
    }

    #[test]
    fn the_users_file_goes_before_the_machines_of_the_same_name() {
        let (folder, registry) = registry(&[
            ("own/a.module", "module: /mine.so\n"),
            ("own/b.module", "disable-in: segl\n"),
            ("machine/a.module", "module: /a.so\n"),
            ("machine/b.module", "module: /b.so\n"),
        ]);
        let file = folder.path().join("own/a.module");
        assert_eq!(registry.modules(), [Module { file, library: "/mine.so".into() }]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*", lines in "([a-z-]*[ :#\\t]*[^\\n]{0,9}\\n){0,9}") {
            for text in [text, lines] {
                for (name, value) in parse(&text) {
                    prop_assert!(!name.is_empty() && !name.contains(':') && !name.starts_with('#'));
                    prop_assert_eq!(value.trim(), value.as_str());
                }
            }
        }

        #[test]
        fn what_is_written_is_read_back(name in "[a-z][a-z-]{0,9}", value in "[!-~]([ -~]{0,20}[!-~])?") {
            let text = format!("# {name}: other\n\n {name} : {value} \n");
            prop_assert_eq!(parse(&text), Settings::from([(name, value)]));
        }
    }
}
