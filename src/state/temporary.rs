use std::{
    ffi::CStr,
    fs::{File, TryLockError},
    io::{self, Write},
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
    path::Path,
};

use rustix::{
    fs::{AtFlags, OFlags, RenameFlags},
    io::Errno,
};

use super::{Error, Mode, PRIVATE};

/// A file beside its target, complete and on the disk; removed unless it is renamed.
///
/// While it is written it is locked: one that is not belongs to a program that was killed meanwhile.
pub(super) struct Temporary<'a> {
    directory: BorrowedFd<'a>,
    target: &'a Path,
    name: String,
    renamed: bool,
    _locked: File,
}

impl<'a> Temporary<'a> {
    pub(super) fn write(
        directory: BorrowedFd<'a>,
        target: &'a Path,
        bytes: &[u8],
        mode: Mode,
    ) -> Result<Self, Error> {
        sweep(directory);
        let io_error = |error: io::Error| Error::io("written", target, &error);
        let permissions = match mode {
            Mode::Private => PRIVATE,
            Mode::Public => PRIVATE | rustix::fs::Mode::RGRP | rustix::fs::Mode::ROTH,
        };
        let (file, name) = create(directory, permissions).map_err(|error| io_error(error.into()))?;
        let mut temporary = Self { directory, target, name, renamed: false, _locked: file };
        let file = &mut temporary._locked;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error)?;
        Ok(temporary)
    }

    pub(super) fn rename(
        mut self,
        name: impl rustix::path::Arg + Copy,
        overwrite: bool,
    ) -> Result<(), Error> {
        let renamed = if overwrite {
            rustix::fs::renameat(self.directory, &self.name, self.directory, name)
        } else {
            let kept = RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(self.directory, &self.name, self.directory, name, kept)
        };
        match renamed {
            Ok(()) => self.renamed = true,
            // File systems without NOREPLACE know hard links, which do not replace either.
            Err(Errno::INVAL | Errno::NOSYS) if !overwrite => {
                rustix::fs::linkat(self.directory, &self.name, self.directory, name, AtFlags::empty())
                    .map_err(|error| self.failed(error))?;
            }
            Err(error) => return Err(self.failed(error)),
        }
        rustix::fs::fsync(self.directory).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: Errno) -> Error {
        match error {
            Errno::EXIST => Error::Exists { path: self.target.to_owned() },
            _ => Error::io("written", self.target, &error.into()),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = rustix::fs::unlinkat(self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// A new file under a random name (process numbers repeat, in a container always), locked.
fn create(directory: BorrowedFd<'_>, permissions: rustix::fs::Mode) -> Result<(File, String), Errno> {
    loop {
        let name = format!(".segl-{}.tmp", uuid::Uuid::new_v4().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(directory, &name, flags, permissions)?);
        // Who sweeps may have been quicker than the lock. Where there are no locks, nobody sweeps.
        let swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if !swept && rustix::fs::fstat(&file)?.st_nlink > 0 {
            return Ok((file, name));
        }
    }
}

/// Removes what this user's programs were writing when they were killed: it may be half a secret.
fn sweep(directory: BorrowedFd<'_>) {
    let Ok(entries) = rustix::fs::Dir::read_from(directory) else { return };
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let me = rustix::process::geteuid().as_raw();
    for entry in entries.filter_map(Result::ok).filter(|entry| is_temporary(entry.file_name())) {
        let name = entry.file_name();
        let Ok(file) = rustix::fs::openat(directory, name, flags, rustix::fs::Mode::empty()) else {
            continue;
        };
        let file = File::from(file);
        let is_ours = file.metadata().is_ok_and(|found| found.is_file() && found.uid() == me);
        if is_ours && file.try_lock().is_ok() {
            // Locked until it is gone, so that nobody who makes one takes it for theirs.
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
}

fn is_temporary(name: &CStr) -> bool {
    name.to_bytes().strip_prefix(b".segl-").is_some_and(|rest| rest.ends_with(b".tmp"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd};

    use super::*;
    use crate::state::write_file;

    #[test]
    fn what_a_killed_program_was_writing_goes_and_what_a_living_one_writes_stays() {
        let home = tempfile::tempdir().unwrap();
        let directory = File::open(home.path()).unwrap();
        for left in [".segl-1.tmp", ".segl-2.tmp", ".segl-mine", "segl-1.tmp"] {
            fs::write(home.path().join(left), "half a PI").unwrap();
        }
        std::os::unix::fs::symlink("elsewhere", home.path().join(".segl-3.tmp")).unwrap();
        let target = home.path().join("slow");
        let slow = Temporary::write(directory.as_fd(), &target, b"slow", Mode::Private).unwrap();
        write_file(&home.path().join("out"), b"x", Mode::Public, false).unwrap();
        slow.rename("slow", false).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".segl-3.tmp", ".segl-mine", "out", "segl-1.tmp", "slow"]);
        assert_eq!(fs::read(target).unwrap(), b"slow");
    }

    #[test]
    fn many_writers_sweep_nothing_of_each_others() {
        let home = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let home = home.path();
                scope.spawn(move || {
                    for round in 0..50 {
                        let path = home.join(format!("{writer}-{round}"));
                        write_file(&path, b"whole", Mode::Private, false).unwrap();
                        assert_eq!(fs::read(path).unwrap(), b"whole");
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 8 * 50);
    }
}
