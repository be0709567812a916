//! Who could put another library in the place of this one: it will see the PIN.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::process::geteuid;

use crate::sign::Error;

/// Makes sure that nobody but root and the running user can change the file at `path` or a folder above it.
///
/// A sticky folder (`/tmp`) is no exception: whoever comes first may put there what is looked for.
///
/// # Errors
/// [`Error::Untrusted`] with the file or folder that others can change, [`Error::Module`] when one cannot be looked at.
pub fn check_trust(path: &Path) -> Result<(), Error> {
    let unseen = |path: &Path, why: std::io::Error| Error::Module {
        path: path.display().to_string(),
        problem: why.to_string(),
    };
    let library = fs::canonicalize(path).map_err(|why| unseen(path, why))?;
    let me = geteuid().as_raw();
    for place in library.ancestors() {
        let found = fs::symlink_metadata(place).map_err(|why| unseen(place, why))?;
        if let Some(reason) = reason(found.uid(), found.mode(), me) {
            let (library, path) = (library.display().to_string(), place.display().to_string());
            return Err(Error::Untrusted { library, path, reason });
        }
    }
    Ok(())
}

/// Why somebody else than root and `me` can write to what has this owner and mode. Where there is an access control
/// list, the mode's group bits are its mask, so they say that there may be more.
fn reason(owner: u32, mode: u32, me: u32) -> Option<String> {
    if owner != 0 && owner != me {
        return Some(format!("belongs to user {owner}"));
    }
    let permissions = mode & 0o7777;
    (mode & 0o022 != 0).then(|| format!("has mode {permissions:04o}"))
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn only_root_and_the_running_user_may_be_able_to_write() {
        const FILE: u32 = 0o100_000;
        for (owner, mode, refused) in [
            (0, FILE | 0o755, None),
            (1000, FILE | 0o700, None),
            (1000, FILE | 0o644, None),
            (0, FILE | 0o775, Some("has mode 0775")),
            (1000, FILE | 0o646, Some("has mode 0646")),
            (0, 0o041_777, Some("has mode 1777")),
            (1001, FILE | 0o755, Some("belongs to user 1001")),
        ] {
            assert_eq!(reason(owner, mode, 1000).as_deref(), refused, "{owner} {mode:o}");
        }
        assert_eq!(reason(1000, FILE | 0o755, 0).as_deref(), Some("belongs to user 1000"));
    }

    #[test]
    fn the_first_place_that_others_can_change_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let library = inner.join("lib.so");
        fs::write(&library, "").unwrap();
        for (place, mode) in [(&inner, 0o777), (&library, 0o666)] {
            fs::set_permissions(place, Permissions::from_mode(mode)).unwrap();
            let Err(Error::Untrusted { path, reason, .. }) = check_trust(&library) else {
                panic!("{} is trusted", library.display());
            };
            assert_eq!(path, place.canonicalize().unwrap().display().to_string());
            assert_eq!(reason, format!("has mode {mode:04o}"));
        }
    }

    #[test]
    fn what_the_system_installed_is_trusted() {
        // The dynamic linker and its folders belong to root wherever this can run.
        assert_eq!(check_trust(Path::new("/bin/sh")), Ok(()));
    }
}
