use std::{
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Source;

/// Which source a secret was read from, and how that source looked then. Nothing in it comes from the secret, not even
/// its length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    source: String,
    file: Option<Stamp>,
}

/// What tells one content of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Origin {
    pub(super) fn new(source: &Source, file: Option<Stamp>) -> Self {
        let source = match source {
            Source::File(path) => Source::File(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            other => other.clone(),
        };
        Self { source: source.to_string(), file }
    }

    /// The source, as it is written in a configuration.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the source is one of which can be seen that a person changed it: an ordinary file, reached without a
    /// symbolic link, on a disk. Everything else may be made anew at each start, or shows nothing at all.
    #[must_use]
    pub fn shows_changes(&self) -> bool {
        self.file.is_some()
    }

    /// Whether `now` is the same source as this one was, and has been changed since.
    #[must_use]
    pub fn has_changed(&self, now: &Self) -> bool {
        self.source == now.source
            && matches!((self.file, now.file), (Some(before), Some(after)) if before != after)
    }

    /// Whether `now` is the same source as this one was, and nothing shows that it gives something else.
    #[must_use]
    pub fn is_same(&self, now: &Self) -> bool {
        self.source == now.source && !self.has_changed(now)
    }

    /// The same source as it looks now, where that can be seen without reading it.
    #[must_use]
    pub fn looked_at_again(&self) -> Option<Self> {
        let Ok(Source::File(path)) = self.source.parse() else { return None };
        let file = File::open(&path).ok()?;
        let file = Stamp::of(&path, &file, &file.metadata().ok()?, credentials().as_deref());
        Some(Self { source: self.source.clone(), file })
    }
}

/// statfs(2): file systems that live in memory, where systemd and Kubernetes lay their secrets at each start.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

impl Stamp {
    /// `None` when a change would prove nothing: the file may be made anew at each start without anybody's doing.
    pub(super) fn of(path: &Path, file: &File, found: &Metadata, credentials: Option<&Path>) -> Option<Self> {
        let written = std::path::absolute(path).ok()?;
        let real = fs::canonicalize(path).ok()?;
        let on_disk = rustix::fs::fstatfs(file)
            .is_ok_and(|system| !IN_MEMORY.contains(&u64::from_ne_bytes(system.f_type.to_ne_bytes())));
        let is_credential = credentials.is_some_and(|folder| real.starts_with(folder));
        (written == real && on_disk && !is_credential).then(|| Self {
            device: found.dev(),
            inode: found.ino(),
            modified_s: found.mtime(),
            modified_ns: found.mtime_nsec(),
        })
    }
}

/// Where systemd lays this service's credentials.
pub(super) fn credentials() -> Option<PathBuf> {
    fs::canonicalize(std::env::var_os("CREDENTIALS_DIRECTORY")?).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn stamp(path: &Path, credentials: Option<&Path>) -> Option<Stamp> {
        let file = File::open(path).unwrap();
        Stamp::of(path, &file, &file.metadata().unwrap(), credentials)
    }

    /// A folder on a disk: where the tests are compiled to.
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in(fs::canonicalize(env!("CARGO_MANIFEST_DIR")).unwrap().join("target")).unwrap()
    }

    #[test]
    fn a_file_that_was_replaced_or_written_again_has_changed_and_one_that_was_read_has_not() {
        let home = folder();
        let path = home.path().join("pin");
        fs::write(&path, "1234").unwrap();
        let source = Source::File(path.clone());
        let before = Origin::new(&source, stamp(&path, None));
        assert!(before.shows_changes());
        fs::read(&path).unwrap();
        assert!(!before.has_changed(&before.looked_at_again().unwrap()));
        let written = File::options().write(true).open(&path).unwrap();
        written.set_modified(std::time::UNIX_EPOCH).unwrap();
        let rewritten = before.looked_at_again().unwrap();
        assert!(before.has_changed(&rewritten));
        fs::write(home.path().join("new"), "1234").unwrap();
        fs::rename(home.path().join("new"), &path).unwrap();
        assert!(rewritten.has_changed(&before.looked_at_again().unwrap()));
        let other = Origin::new(&Source::File("/other".into()), stamp(&path, None));
        assert!(!before.has_changed(&other), "another source is no change of this one");
    }

    #[test]
    fn what_may_be_made_anew_at_each_start_never_counts_as_changed() {
        let home = folder();
        let (data, link) = (home.path().join("..data"), home.path().join("pin"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("pin"), "1234").unwrap();
        symlink("..data/pin", &link).unwrap();
        assert_eq!(stamp(&link, None), None, "behind a symbolic link, as Kubernetes lays them");
        let real = fs::canonicalize(&link).unwrap();
        assert!(stamp(&real, None).is_some());
        assert_eq!(stamp(&real, Some(&fs::canonicalize(home.path()).unwrap())), None, "a credential");
        let in_memory = Path::new("/dev/shm");
        if in_memory.is_dir() {
            let file = tempfile::NamedTempFile::new_in(in_memory).unwrap();
            assert_eq!(stamp(file.path(), None), None, "in memory");
        }
        let before = Origin::new(&Source::Env("PIN".into()), None);
        assert!(!before.shows_changes() && !before.has_changed(&before.clone()));
    }
}
