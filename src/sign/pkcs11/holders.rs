//! Which other processes have a device in their hands, as far as Linux tells: a card or a USB token often serves one
//! at a time, and its error does not say whom.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::uri::printable;
use crate::sign::Error;

/// Another process that may hold a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, at most 15 characters of it.
    pub command: String,
    /// The library that it has loaded, or the device file that it has open.
    pub holds: PathBuf,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, command, holds } = self;
        write!(f, "{command} (process {pid}) holds {}", holds.display())
    }
}

/// Device files that USB tokens and TPMs are reached through. pcscd holds those of readers for everybody.
const DEVICES: [&str; 3] = ["/dev/bus/usb/", "/dev/hidraw", "/dev/tpm"];

/// What a device answers when somebody else has it, among other reasons.
const HELD: [&str; 7] = [
    "CKR_DEVICE_ERROR",
    "CKR_DEVICE_REMOVED",
    "CKR_TOKEN_NOT_PRESENT",
    "CKR_TOKEN_NOT_RECOGNIZED",
    "CKR_SESSION_COUNT",
    "CKR_SESSION_EXCLUSIVE_EXISTS",
    "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
];

/// Whether `error` is one that another process may be the reason of.
#[must_use]
pub fn may_be_held(error: &Error) -> bool {
    match error {
        Error::Device { function, code } => function == "C_Initialize" || HELD.contains(&code.as_str()),
        Error::Away(outage) => may_be_held(&outage.error),
        Error::Deadline => true,
        _ => false,
    }
}

/// Other processes that have loaded `library` or opened a USB device or a TPM. Processes of other users show
/// themselves only to root.
#[must_use]
pub fn holders(library: &Path) -> Vec<Holder> {
    holders_besides(library, std::process::id())
}

/// The same without the process `own` and its children, which work for it.
fn holders_besides(library: &Path, own: u32) -> Vec<Holder> {
    let Ok(file) = fs::metadata(library) else { return Vec::new() };
    let library = fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<Holder> = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own && parent(*pid) != Some(own))
        .filter_map(|pid: u32| {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            let maps = fs::read(folder.join("maps")).unwrap_or_default();
            let holds = if has_mapped(&String::from_utf8_lossy(&maps), file.ino(), &library) {
                library.clone()
            } else {
                open_device(&folder)?
            };
            let command = fs::read(folder.join("comm")).unwrap_or_default();
            let command = printable(String::from_utf8_lossy(&command).trim());
            Some(Holder { pid, command, holds })
        })
        .collect();
    found.sort_by_key(|holder| holder.pid);
    found
}

/// Whether the lines of `/proc/…/maps` (proc(5)) name this file. Its device number there is not what `stat` says on
/// every file system, so the name decides beside the inode.
fn has_mapped(maps: &str, inode: u64, path: &Path) -> bool {
    maps.lines().any(|line| {
        let mut fields = line.splitn(6, ' ');
        let its_inode = fields.nth(4).and_then(|inode| inode.parse().ok());
        let its_path = fields.next().map(str::trim);
        its_inode == Some(inode) && its_path.is_some_and(|its_path| Path::new(its_path) == path)
    })
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn open_device(process: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.find(|target| {
        target.to_str().is_some_and(|target| DEVICES.iter().any(|device| target.starts_with(device)))
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_has_the_file_loaded_is_named() {
        let program = fs::canonicalize("/bin/cat").unwrap();
        // It waits for its input until that is closed.
        let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let found = holders_besides(&program, 0);
        let besides_own = holders(&program);
        drop(child.stdin.take());
        child.wait().unwrap();
        let name = program.file_name().unwrap().to_str().unwrap().to_owned();
        let expected = Holder { pid: child.id(), command: name, holds: program };
        assert!(found.contains(&expected), "{found:?}");
        // It works for this one.
        assert!(!besides_own.contains(&expected), "{besides_own:?}");
        assert!(!holders_besides(&expected.holds, 0).contains(&expected), "it has ended");
    }

    #[test]
    fn a_mapped_file_is_told_from_another_of_its_name() {
        let maps = "7f00-7f10 r--p 00000000 08:01 4711                   /usr/lib/a b.so\n\
                    7f10-7f20 rw-p 00000000 00:00 0 \n7ffd-7ffe rw-p 00000000 00:00 0    [stack]\n";
        let path = Path::new("/usr/lib/a b.so");
        assert!(has_mapped(maps, 4711, path));
        assert!(!has_mapped(maps, 4712, path));
        assert!(!has_mapped(maps, 4711, Path::new("/usr/lib/b.so")));
        assert!(!has_mapped("", 4711, path));
    }

    #[test]
    fn only_some_errors_smell_of_another_process() {
        let answered =
            |function: &str, code: &str| Error::Device { function: function.into(), code: code.into() };
        assert!(may_be_held(&answered("C_OpenSession", "CKR_SESSION_COUNT")));
        assert!(may_be_held(&answered("C_Initialize", "CKR_GENERAL_ERROR")));
        assert!(!may_be_held(&answered("C_FindObjects", "CKR_ARGUMENTS_BAD")));
    }
}
