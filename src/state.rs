//! The state directory: what must outlive the process, written so that a crash leaves either the old or the new.
//!
//! Every file is opened relative to the checked directory and no symbolic link is followed, so that nobody who can
//! write elsewhere can steer what is read or written here.

mod error;
mod temporary;

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, TryLockError},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, OFlags},
    io::Errno,
};
use zeroize::Zeroizing;

pub use self::error::Error;

use self::temporary::Temporary;

/// A directory that belongs to this user and that nobody else can write to.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    directory: OwnedFd,
}

/// Holds a lock until it is dropped or the process ends.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Guard {
    file: File,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closing is not enough: a child that is just being started holds a copy until its exec.
        let _ = self.file.unlock();
    }
}

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Its owner only (0600): keys, tokens.
    Private,
    /// Everybody (0644, less the umask): certificates, public keys.
    Public,
}

impl StateDir {
    /// Opens the directory, making it (0700) when it is absent.
    ///
    /// # Errors
    /// [`Error`] when it is a symbolic link, belongs to another user, or others can write to it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let io_error = |action, error: io::Error| Error::io(action, &path, &error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| io_error("made", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).map_err(|error| {
            // For a link, open(2) says "not a directory" or "too many links", depending on the kernel.
            if path.is_symlink() {
                Error::Symlink { path: path.clone() }
            } else {
                io_error("opened", error.into())
            }
        })?;
        let found = rustix::fs::fstat(&directory).map_err(|error| io_error("examined", error.into()))?;
        check_owner(&path, found.st_uid)?;
        if found.st_mode & 0o022 != 0 {
            return Err(Error::TooOpen { path, mode: found.st_mode & 0o7777 });
        }
        Ok(Self { path, directory })
    }

    /// Where the state is kept unless told otherwise: `$STATE_DIRECTORY` (systemd.exec(5)); `/var/lib/segl` for root
    /// and for the user whom it belongs to; `$XDG_STATE_HOME/segl` (XDG Base Directory Specification),
    /// `~/.local/state/segl`.
    ///
    /// # Errors
    /// [`Error::NoHome`] when it is none of these, and none of the three variables is set to an absolute path.
    pub fn default_path() -> Result<PathBuf, Error> {
        let user = rustix::process::geteuid();
        let is_ours = || std::fs::symlink_metadata(SYSTEM).is_ok_and(|found| found.uid() == user.as_raw());
        default_path(|name| std::env::var_os(name), user.is_root() || is_ours())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file `name` (0600) in one step: after a crash there is the old content or the new, never a part.
    /// When this returns, the content is on the disk.
    ///
    /// # Errors
    /// [`Error`] when the name is not made of `a-z 0-9 . _ -`, or the operating system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        check_name(name)?;
        let target = self.path.join(name);
        let temporary = Temporary::write(self.directory.as_fd(), &target, bytes, Mode::Private)?;
        temporary.rename(name, true)
    }

    /// The content of the file `name`; `None` when it is absent.
    ///
    /// # Errors
    /// [`Error`] when it is longer than `limit` bytes, is no regular file, belongs to another user or cannot be read.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        check_name(name)?;
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match self.open_inside(name, flags) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(inside_error("opened", &path, error)),
        };
        let io_error = |error: io::Error| Error::io("read", &path, &error);
        let found = file.metadata().map_err(io_error)?;
        if !found.is_file() {
            return Err(Error::NotAFile { path });
        }
        check_owner(&path, found.uid())?;
        // The size is asked of the file itself, so that the buffer need not grow and leave copies behind.
        if found.len() > limit as u64 {
            return Err(Error::TooLong { path, limit });
        }
        let mut content =
            Zeroizing::new(Vec::with_capacity(limit.min(usize::try_from(found.len()).unwrap_or(limit)) + 1));
        file.take(limit as u64 + 1).read_to_end(&mut content).map_err(io_error)?;
        if content.len() > limit { Err(Error::TooLong { path, limit }) } else { Ok(Some(content)) }
    }

    /// Removes the file `name`, for good when this returns; one that is absent is as good as removed.
    ///
    /// # Errors
    /// [`Error`] when the operating system refuses.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        let failed = |error: Errno| Error::io("removed", &self.path.join(name), &error.into());
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) => rustix::fs::fsync(&self.directory).map_err(failed),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The names of all files there that could have been written here, sorted; locks are left out.
    ///
    /// # Errors
    /// [`Error`] when the operating system refuses.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |error: Errno| Error::io("listed", &self.path, &error.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_str().map(str::to_owned);
            names.extend(name.ok().filter(|name| check_name(name).is_ok() && !name.ends_with(".lock")));
        }
        names.sort();
        Ok(names)
    }

    /// Waits for the lock `name` and takes it. Blocks: call it where a thread may wait.
    ///
    /// # Errors
    /// [`Error`] when the lock file cannot be made or locked.
    pub fn lock(&self, name: &str) -> Result<Guard, Error> {
        let (file, path) = self.lock_file(name)?;
        file.lock().map_err(|error| Error::io("locked", &path, &error))?;
        Ok(Guard { file })
    }

    /// Takes the lock `name`, or returns `None` when another holds it.
    ///
    /// # Errors
    /// As for [`lock`](Self::lock).
    pub fn try_lock(&self, name: &str) -> Result<Option<Guard>, Error> {
        let (file, path) = self.lock_file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Guard { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io("locked", &path, &error)),
        }
    }

    /// The lock files stay: removing one would let two processes hold "the same" lock on two files.
    fn lock_file(&self, name: &str) -> Result<(File, PathBuf), Error> {
        check_name(name)?;
        let name = format!("{name}.lock");
        let path = self.path.join(&name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = self.open_inside(&name, flags).map_err(|error| inside_error("opened", &path, error))?;
        Ok((file, path))
    }

    fn open_inside(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        rustix::fs::openat(&self.directory, name, flags, PRIVATE).map(File::from)
    }
}

/// Writes a result to `path` in one step, on the disk when this returns. An existing file is replaced only with
/// `overwrite`; a symbolic link is then replaced itself, not what it points at.
///
/// # Errors
/// [`Error::Exists`] when the file is there and must not be replaced; [`Error`] when it cannot be written.
pub fn write_file(path: &Path, bytes: &[u8], mode: Mode, overwrite: bool) -> Result<(), Error> {
    let Some(name) = path.file_name() else { return Err(Error::NotAFile { path: path.to_owned() }) };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, parent, flags, rustix::fs::Mode::empty())
        .map_err(|error| Error::io("opened", parent, &error.into()))?;
    if let Ok(found) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        if !matches!(FileType::from_raw_mode(found.st_mode), FileType::RegularFile | FileType::Symlink) {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        if !overwrite {
            return Err(Error::Exists { path: path.to_owned() });
        }
    }
    Temporary::write(directory.as_fd(), path, bytes, mode)?.rename(name, overwrite)
}

const PRIVATE: rustix::fs::Mode = rustix::fs::Mode::RUSR.union(rustix::fs::Mode::WUSR);

fn inside_error(action: &'static str, path: &Path, error: Errno) -> Error {
    match error {
        Errno::LOOP => Error::Symlink { path: path.to_owned() },
        _ => Error::io(action, path, &error.into()),
    }
}

fn check_owner(path: &Path, owner: u32) -> Result<(), Error> {
    if owner == 0 || owner == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(Error::Owner { path: path.to_owned(), owner })
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    if fits { Ok(()) } else { Err(Error::Name { name: name.chars().take(128).collect() }) }
}

/// The machine's own place for the state of services (Filesystem Hierarchy Standard 3.0, section 5.8).
const SYSTEM: &str = "/var/lib/segl";

fn default_path(variable: impl Fn(&str) -> Option<OsString>, system: bool) -> Result<PathBuf, Error> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd lists several directories with colons between them; the first is the unit's own.
    let systemd = variable("STATE_DIRECTORY")
        .and_then(|list| list.to_str()?.split(':').next().map(PathBuf::from))
        .filter(|path| path.is_absolute());
    systemd
        .or_else(|| system.then(|| PathBuf::from(SYSTEM)))
        .or_else(|| absolute("XDG_STATE_HOME").map(|home| home.join("segl")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state/segl")))
        .ok_or(Error::NoHome)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path().join("segl")).unwrap();
        (home, state)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_absent_directory_is_made_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b/segl");
        StateDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_with_the_chmod_to_run() {
        let (_home, state) = state();
        for wrong in [0o770, 0o702, 0o777] {
            fs::set_permissions(state.path(), fs::Permissions::from_mode(wrong)).unwrap();
            let error = StateDir::open(state.path()).unwrap_err();
            assert_eq!(error, Error::TooOpen { path: state.path().to_owned(), mode: wrong });
            assert_eq!(error.remedy(), format!("Run: chmod go-w {}", state.path().display()));
        }
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        StateDir::open(state.path()).expect("systemd's own StateDirectory= has mode 0755");
    }

    #[test]
    fn a_symbolic_link_in_place_of_the_directory_is_refused() {
        let (home, state) = state();
        let link = home.path().join("link");
        std::os::unix::fs::symlink(state.path(), &link).unwrap();
        assert_eq!(StateDir::open(&link).unwrap_err(), Error::Symlink { path: link });
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "x").unwrap();
        assert!(matches!(StateDir::open(&path), Err(Error::Io { .. })));
    }

    #[test]
    fn what_is_written_is_read_back_for_the_owner_alone_and_no_temporary_file_is_left() {
        let (_home, state) = state();
        assert_eq!(state.read("pin-guard.json", 100).unwrap(), None);
        state.write("pin-guard.json", b"one").unwrap();
        state.write("pin-guard.json", b"two").unwrap();
        assert_eq!(state.read("pin-guard.json", 3).unwrap().unwrap().as_slice(), b"two");
        assert_eq!(mode(&state.path().join("pin-guard.json")), 0o600);
        assert_eq!(names(state.path()), ["pin-guard.json"]);
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let (_home, state) = state();
        state.write("a", b"four").unwrap();
        assert!(matches!(state.read("a", 3), Err(Error::TooLong { limit: 3, .. })));
    }

    #[test]
    fn no_symbolic_link_is_followed_inside_the_directory() {
        let (home, state) = state();
        let outside = home.path().join("outside");
        fs::write(&outside, "secret").unwrap();
        for name in ["a", "a.lock"] {
            std::os::unix::fs::symlink(&outside, state.path().join(name)).unwrap();
        }
        assert!(matches!(state.read("a", 100), Err(Error::Symlink { .. })));
        assert!(matches!(state.lock("a"), Err(Error::Symlink { .. })));
        state.write("a", b"mine").unwrap();
        assert_eq!(fs::read(&outside).unwrap(), b"secret");
        assert_eq!(state.read("a", 100).unwrap().unwrap().as_slice(), b"mine");
    }

    #[test]
    fn a_directory_in_place_of_a_file_is_an_error_and_not_read() {
        let (_home, state) = state();
        fs::create_dir(state.path().join("a")).unwrap();
        assert!(matches!(state.read("a", 100), Err(Error::NotAFile { .. })));
        assert!(state.write("a", b"x").is_err());
        assert_eq!(names(state.path()), ["a"], "the temporary file is gone");
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let (_home, state) = state();
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "Upper", "å", "a b", "a\0", &"x".repeat(129)] {
            assert!(matches!(state.write(name, b""), Err(Error::Name { .. })), "{name:?}");
            assert!(matches!(state.read(name, 1), Err(Error::Name { .. })), "{name:?}");
            assert!(matches!(state.lock(name), Err(Error::Name { .. })), "{name:?}");
        }
    }

    #[test]
    fn what_was_removed_is_gone_and_locks_are_no_files() {
        let (_home, state) = state();
        for name in ["b", "a"] {
            state.write(name, b"x").unwrap();
        }
        drop(state.lock("a").unwrap());
        fs::write(state.path().join(".hidden"), "x").unwrap();
        assert_eq!(state.names().unwrap(), ["a", "b"]);
        state.remove("a").unwrap();
        state.remove("a").expect("one that is absent is as good as removed");
        assert_eq!((state.names().unwrap(), state.read("a", 9).unwrap()), (vec!["b".into()], None));
        assert!(matches!(state.remove("../a"), Err(Error::Name { .. })));
    }

    #[test]
    fn a_lock_is_held_by_one_until_it_is_given_back() {
        let (_home, state) = state();
        let held = state.lock("device").unwrap();
        assert!(state.try_lock("device").unwrap().is_none());
        assert!(state.try_lock("other").unwrap().is_some());
        drop(held);
        assert!(state.try_lock("device").unwrap().is_some());
    }

    #[test]
    fn a_result_never_replaces_a_file_unless_told_to() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out.pem");
        write_file(&path, b"one", Mode::Public, false).unwrap();
        assert_eq!(write_file(&path, b"two", Mode::Public, false), Err(Error::Exists { path: path.clone() }));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_file(&path, b"two", Mode::Private, true).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (b"two".as_slice(), 0o600));
        assert_eq!(names(home.path()), ["out.pem"]);
    }

    #[test]
    fn a_race_for_a_new_file_is_lost_without_harm() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out.pem");
        let directory = File::open(home.path()).unwrap();
        let late = Temporary::write(directory.as_fd(), &path, b"late", Mode::Private).unwrap();
        fs::write(&path, "first").unwrap();
        assert_eq!(late.rename("out.pem", false), Err(Error::Exists { path: path.clone() }));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(home.path()), ["out.pem"]);
    }

    #[test]
    fn a_result_is_not_written_over_a_directory_or_into_an_absent_one() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(write_file(home.path(), b"", Mode::Public, true), Err(Error::NotAFile { .. })));
        let error = write_file(&home.path().join("absent/out"), b"", Mode::Public, true).unwrap_err();
        assert!(matches!(error, Error::Io { kind: io::ErrorKind::NotFound, .. }));
    }

    #[test]
    fn the_directory_is_the_services_own_then_the_users() {
        let find = |set: &[(&str, &str)], system| {
            let value =
                |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            default_path(value, system)
        };
        let with = |set: &[(&str, &str)]| find(set, false);
        let all =
            [("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("XDG_STATE_HOME", "/x"), ("HOME", "/home/a")];
        assert_eq!(with(&all).unwrap(), Path::new("/var/lib/a"));
        assert_eq!(find(&all, true).unwrap(), Path::new("/var/lib/a"));
        assert_eq!(find(&all[1..], true).unwrap(), Path::new("/var/lib/segl"));
        assert_eq!(with(&all[1..]).unwrap(), Path::new("/x/segl"));
        assert_eq!(with(&all[2..]).unwrap(), Path::new("/home/a/.local/state/segl"));
        assert_eq!(with(&[("XDG_STATE_HOME", "relative")]), Err(Error::NoHome));
    }
}
