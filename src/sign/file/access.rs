//! Opening a file that holds a private key: only when it is nobody else's business.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::sign::Error;

/// The largest key file is a PKCS#12 with a few certificates: some 20 KiB.
const LARGEST: u64 = 1024 * 1024;

/// Reads the file when owner, mode, kind and size are right. A symbolic link is followed (secret stores of containers
/// are made of them); what is examined is the file that was opened.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let refused = |(problem, remedy): (String, String)| Error::File {
        path: path.display().to_string(),
        problem,
        remedy,
    };
    let cannot = |why: io::Error| refused(unreadable(&why));
    let file = open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let facts = Facts::of(&metadata);
    if let Some(reason) = facts.objection(rustix::process::geteuid().as_raw(), &quoted(path)) {
        return Err(refused(reason));
    }
    // One buffer of the full size, since growing would leave pieces of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(LARGEST).unwrap_or_default() + 1));
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    match bytes.len() as u64 {
        0 => Err(refused(("the file is empty".into(), "Put the key there.".into()))),
        length if length > LARGEST => Err(refused(too_large())),
        _ => Ok(bytes),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A named pipe would keep us waiting, a terminal would become ours.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path)
}

struct Facts {
    regular: bool,
    mode: u32,
    owner: u32,
    length: u64,
}

impl Facts {
    fn of(metadata: &Metadata) -> Self {
        Self {
            regular: metadata.is_file(),
            mode: metadata.mode(),
            owner: metadata.uid(),
            length: metadata.len(),
        }
    }

    /// What happened and what to do, when the file is not as a key file must be.
    fn objection(&self, user: u32, path: &str) -> Option<(String, String)> {
        if !self.regular {
            return Some(("this is not a regular file".into(), "Name the file that holds the key.".into()));
        }
        if self.mode & 0o077 != 0 {
            return Some((
                format!("others than its owner have rights to the file (mode {:04o})", self.mode & 0o7777),
                format!("Run: chmod 600 {path}"),
            ));
        }
        if self.owner != 0 && self.owner != user {
            return Some((
                format!(
                    "the file belongs to user {}, who is neither root nor the one who runs Segl",
                    self.owner
                ),
                format!("Run: chown {user} {path}"),
            ));
        }
        (self.length > LARGEST).then(too_large)
    }
}

fn too_large() -> (String, String) {
    ("the file is larger than 1 MiB".into(), "Name the file that holds the key.".into())
}

fn unreadable(why: &io::Error) -> (String, String) {
    let remedy = match why.kind() {
        io::ErrorKind::NotFound => "Put the key there, or correct the path.",
        io::ErrorKind::PermissionDenied => {
            "Make the user who runs Segl the file's owner, and its only reader."
        }
        _ => "See that the file can be read by the user who runs Segl.",
    };
    (format!("the file cannot be read ({why})"), remedy.into())
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | ':' | ',');
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        text
    } else {
        format!("-- '{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{Permissions, set_permissions, write},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn file(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write(&path, "x").unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused_with_the_command_that_helps() {
        for mode in [0o640, 0o604, 0o440, 0o620, 0o601] {
            let (_folder, path) = file(mode);
            let error = read(&path).unwrap_err();
            assert!(error.to_string().contains(&format!("(mode {mode:04o})")), "{error}");
            assert_eq!(error.remedy(), format!("Run: chmod 600 {}", path.display()));
        }
    }

    #[test]
    fn a_key_file_of_its_owner_alone_is_read() {
        for mode in [0o600, 0o400] {
            let (_folder, path) = file(mode);
            assert_eq!(*read(&path).unwrap(), *b"x");
        }
    }

    #[test]
    fn a_link_is_followed_and_what_it_leads_to_is_examined() {
        let (folder, path) = file(0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        read(&link).unwrap();
        set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(read(&link).is_err());
    }

    #[test]
    fn folders_pipes_and_missing_files_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("not a regular file"));
        assert!(read(&folder.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(read(&pipe).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn a_file_of_another_user_is_refused_and_one_of_root_is_not() {
        let facts = |owner| Facts { regular: true, mode: 0o100_600, owner, length: 1 };
        assert!(facts(0).objection(1000, "k").is_none());
        assert!(facts(1000).objection(1000, "k").is_none());
        let (problem, remedy) = facts(1001).objection(1000, "k").unwrap();
        assert!(problem.contains("user 1001"), "{problem}");
        assert_eq!(remedy, "Run: chown 1000 k");
    }

    #[test]
    fn empty_and_huge_files_are_refused() {
        let (_folder, path) = file(0o600);
        write(&path, "").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("empty"));
        write(&path, vec![b'x'; usize::try_from(LARGEST).unwrap() + 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("larger than 1 MiB"));
    }

    #[test]
    fn a_path_is_quoted_so_that_the_command_can_be_pasted() {
        assert_eq!(quoted(Path::new("/etc/segl/key.pem")), "/etc/segl/key.pem");
        assert_eq!(quoted(Path::new("/etc/o'mine; rm")), r"-- '/etc/o'\''mine; rm'");
    }
}
