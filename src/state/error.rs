use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Why a file cannot be kept or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{} cannot be {action}: {kind}", path.display())]
    Io {
        /// What was tried, as in "cannot be read".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        kind: ErrorKind,
    },
    /// A symbolic link where a file or directory must be.
    #[error("{} is a symbolic link, which is not followed here", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Others can write to the directory.
    #[error("others can write to {} (mode {mode:04o})", path.display())]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, who is neither root nor the user that runs this program", path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's user number.
        owner: u32,
    },
    /// A directory, a device, a pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Longer than anything that is kept there.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is taken, in bytes.
        limit: usize,
    },
    /// A file is there that must not be replaced.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A name that could lead out of the directory.
    #[error("{name:?} is no name for a file in the state directory")]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// Nothing says where the state directory is.
    #[error(
        "there is no place for the state directory: STATE_DIRECTORY, XDG_STATE_HOME and HOME are not set"
    )]
    NoHome,
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), kind: error.kind() }
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Io { path, kind: ErrorKind::StorageFull | ErrorKind::QuotaExceeded, .. } => {
                format!("Make room on the disk that holds {}.", path.display())
            }
            Self::Io { path, kind: ErrorKind::NotFound, .. } => {
                format!("Make the directory {} first.", path.display())
            }
            Self::Io { path, .. } => {
                format!("Give the user that runs this program the right to use {}.", path.display())
            }
            Self::Symlink { path } => {
                format!("Remove the link {} or name the directory itself.", path.display())
            }
            Self::TooOpen { path, .. } => format!("Run: chmod go-w {}", path.display()),
            Self::Owner { path, .. } => {
                format!("Run this program as the owner of {}, or name another directory.", path.display())
            }
            Self::NotAFile { path } | Self::TooLong { path, .. } => {
                format!("Look at {} and move it away if nothing needs it.", path.display())
            }
            Self::Exists { path } => format!("Choose another name, or move {} away.", path.display()),
            Self::Name { .. } => "Use small letters, digits, dots, hyphens and underscores.".to_owned(),
            Self::NoHome => "Set STATE_DIRECTORY to an absolute path.".to_owned(),
        }
    }
}
