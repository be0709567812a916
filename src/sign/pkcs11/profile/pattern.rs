//! The two kinds of patterns: globs on names, and library paths with one open folder.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use glob::{MatchOptions, Pattern};

/// Whether `name` fits one of the globs; in any case, since vendors do not agree with themselves.
pub(super) fn any_fits(globs: &[String], name: &str) -> bool {
    let options = MatchOptions { case_sensitive: false, ..MatchOptions::new() };
    globs.iter().any(|glob| Pattern::new(glob).is_ok_and(|pattern| pattern.matches_with(name, options)))
}

/// What is wrong with `glob`.
pub(super) fn fault(glob: &str) -> Option<String> {
    if glob.trim_matches(['*', '?', ' ']).is_empty() {
        return Some(format!("{glob:?} fits everything"));
    }
    Pattern::new(glob).err().map(|why| format!("{glob:?}: {}", why.msg))
}

/// What is wrong with `path` as a place of a library.
pub(super) fn path_fault(path: &str) -> Option<String> {
    let open = path.split('/').filter(|segment| segment.contains('*')).collect::<Vec<_>>();
    if !Path::new(path).is_absolute() {
        Some(format!("{path:?} is not absolute"))
    } else if path.split('/').any(|segment| segment == "..") || path.chars().any(char::is_control) {
        Some(format!("{path:?} is no plain path"))
    } else if open.len() > 1 || open.iter().any(|segment| *segment != "*") || path.ends_with('*') {
        Some(format!("{path:?}: one whole folder may be *, and nothing else"))
    } else {
        None
    }
}

/// The files that `path` stands for on this machine. Of several folders in place of `*`, the one for this program's
/// processor comes first: a library for another cannot be loaded.
pub(super) fn existing(path: &str) -> Vec<PathBuf> {
    let Some((before, after)) = path.split_once("/*/") else {
        let path = PathBuf::from(path);
        return if path.exists() { vec![path] } else { Vec::new() };
    };
    let before = if before.is_empty() { "/" } else { before };
    let Ok(folders) = fs::read_dir(before) else { return Vec::new() };
    let mut names: Vec<_> = folders.flatten().map(|folder| folder.file_name()).collect();
    names.sort_by_key(|name| (!name.as_encoded_bytes().starts_with(ARCH.as_bytes()), name.clone()));
    let paths = names.into_iter().map(|name| Path::new(before).join(name).join(after));
    paths.filter(|path| path.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_in_any_case() {
        let globs = ["libeToken*".to_owned(), "SafeNet*".to_owned()];
        for name in ["libeToken.so", "libetoken.so.10", "SAFENET, Inc."] {
            assert!(any_fits(&globs, name), "{name}");
        }
        assert!(!any_fits(&globs, "xlibeToken.so") && !any_fits(&[], "x"));
    }

    #[test]
    fn a_glob_that_fits_everything_is_at_fault() {
        for glob in ["*", "", "**", "?", " ", "[a"] {
            assert!(fault(glob).is_some(), "{glob}");
        }
        assert_eq!(fault("opensc-pkcs11.so*"), None);
    }

    #[test]
    fn a_library_lies_at_an_absolute_path_with_one_open_folder() {
        for path in ["/usr/lib/*/libykcs11.so", "/opt/a.so", "/*/a.so"] {
            assert_eq!(path_fault(path), None);
        }
        for path in ["lib/a.so", "", "/usr/*/*/a.so", "/usr/lib/*", "/usr/lib*/a.so", "/a/../b.so", "/a\nb"] {
            assert!(path_fault(path).is_some(), "{path}");
        }
    }

    #[test]
    fn the_folder_of_this_processor_comes_first_among_those_that_have_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let native = format!("{ARCH}-linux-gnu");
        for (name, has_file) in [("aaa", true), ("bbb", false), (native.as_str(), true)] {
            fs::create_dir(folder.path().join(name)).unwrap();
            if has_file {
                fs::write(folder.path().join(name).join("lib.so"), "").unwrap();
            }
        }
        let found = existing(&format!("{}/*/lib.so", folder.path().display()));
        let expected = [native.as_str(), "aaa"].map(|name| folder.path().join(name).join("lib.so"));
        assert_eq!(found, expected);
        assert_eq!(existing(&format!("{}/aaa/lib.so", folder.path().display())), [expected[1].clone()]);
        assert!(existing("/no/such/*/folder.so").is_empty() && existing("/no/such.so").is_empty());
    }
}
