//! Profile files in a folder. A profile names a library that is loaded into a process which has the PIN, so nobody but
//! root and the user who runs Segl may have written it.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{Profile, ProfileError};

/// The largest file taken, in bytes.
const LARGEST: u64 = 64 * 1024;

/// Every profile in the `*.toml` files of `folder`, in the order of their names.
pub(super) fn read(folder: &Path) -> Result<Vec<(PathBuf, Profile)>, ProfileError> {
    let unreadable = |why| unreadable(folder, &why);
    trusted(folder, &fs::metadata(folder).map_err(unreadable)?)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden {
            files.push(path);
        }
    }
    files.sort();
    files.into_iter().map(|path| Ok((path.clone(), profile(&path)?))).collect()
}

fn profile(path: &Path) -> Result<Profile, ProfileError> {
    let file = path.display().to_string();
    let profile = Profile::parse(&text(path)?, &file)?;
    if path.file_stem().is_none_or(|stem| stem != profile.name.as_str()) {
        let problem = format!("is {:?}, so the file is to be called {}.toml", profile.name, profile.name);
        return Err(ProfileError::Field { file, key: "name".into(), problem });
    }
    Ok(profile)
}

fn text(path: &Path) -> Result<String, ProfileError> {
    let cannot = |why| unreadable(path, &why);
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(cannot(io::Error::other("it is no ordinary file")));
    }
    trusted(path, &metadata)?;
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > LARGEST {
        return Err(cannot(io::Error::other(format!("it is larger than {} KiB", LARGEST / 1024))));
    }
    Ok(text)
}

fn unreadable(path: &Path, why: &io::Error) -> ProfileError {
    ProfileError::Unreadable { file: path.display().to_string(), problem: why.to_string() }
}

fn trusted(path: &Path, metadata: &Metadata) -> Result<(), ProfileError> {
    let user = rustix::process::geteuid().as_raw();
    match objection(metadata.uid(), metadata.mode(), user) {
        None => Ok(()),
        Some(problem) => Err(ProfileError::Untrusted { file: path.display().to_string(), problem }),
    }
}

/// Why what belongs to `owner` and has `mode` may have been written by somebody else than root and `user`.
fn objection(owner: u32, mode: u32, user: u32) -> Option<String> {
    if owner != 0 && owner != user {
        Some(format!("belongs to user {owner}, who is neither root nor the one who runs Segl"))
    } else if mode & 0o022 != 0 {
        Some(format!("others than its owner may write to it (mode {:04o})", mode & 0o7777))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(name: &str) -> String {
        Profile { name: name.into(), ..Profile::unknown() }.to_toml()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            set_mode(&path, 0o644);
        }
        folder
    }

    #[test]
    fn profiles_are_read_by_name_and_other_files_left_alone() {
        let (b, a) = (file("b"), file("a"));
        let folder =
            folder(&[("b.toml", &b), ("a.toml", &a), ("a.toml.bak", "x"), ("README", "x"), (".b.toml", "x")]);
        let names: Vec<_> =
            read(folder.path()).unwrap().into_iter().map(|(_, profile)| profile.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_file_is_called_as_its_profile() {
        let folder = folder(&[("luna.toml", &file("lunar"))]);
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("luna.toml: name: ") && error.contains("lunar.toml"), "{error}");
    }

    #[test]
    fn a_mistake_is_named_with_the_whole_path() {
        let folder = folder(&[("a.toml", "schema = 1\nname =")]);
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}/a.toml:2: ", folder.path().display())), "{error}");
    }

    #[test]
    fn what_others_could_have_written_is_refused() {
        for mode in [0o664, 0o646, 0o666] {
            let folder = folder(&[("a.toml", &file("a"))]);
            set_mode(&folder.path().join("a.toml"), mode);
            let error = read(folder.path()).unwrap_err();
            assert!(matches!(error, ProfileError::Untrusted { .. }), "{error}");
            assert!(error.remedy().contains("a.toml"), "{}", error.remedy());
        }
        let folder = folder(&[("a.toml", &file("a"))]);
        set_mode(folder.path(), 0o777);
        assert!(matches!(read(folder.path()), Err(ProfileError::Untrusted { .. })));
        assert_eq!(objection(0, 0o644, 1000), None);
        assert_eq!(objection(1000, 0o600, 1000), None);
        assert!(objection(1001, 0o644, 1000).unwrap().contains("1001"));
        assert!(objection(1000, 0o644, 0).unwrap().contains("1000"));
    }

    #[test]
    fn what_is_no_file_or_too_large_or_not_there_is_said() {
        assert!(matches!(read(Path::new("/no/such/folder")), Err(ProfileError::Unreadable { .. })));
        let large = folder(&[("a.toml", &"#".repeat(70_000))]);
        assert!(read(large.path()).unwrap_err().to_string().contains("64 KiB"));
        let with_pipe = folder(&[]);
        fs::create_dir(with_pipe.path().join("a.toml")).unwrap();
        assert!(read(with_pipe.path()).unwrap_err().to_string().contains("ordinary"));
    }
}
