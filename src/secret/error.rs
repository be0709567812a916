use std::{io::ErrorKind, path::PathBuf, time::Duration};

use super::{LONGEST, SCHEMES};

/// Why a text is no place of a secret. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// No known scheme: perhaps the secret itself.
    #[error(
        "a secret is not written here, only where it is found: one of {SCHEMES} (the value is not repeated)"
    )]
    Scheme,
    /// Not a file name.
    #[error("the name of a credential is a file name without a slash")]
    CredentialName,
    /// Not a variable's name.
    #[error("the name of an environment variable has letters, digits and underscores only")]
    VariableName,
    /// An empty path, or one that no file can have.
    #[error("file: needs a path")]
    Path,
    /// `file://host/path`.
    #[error("file: takes a path on this machine, not a host")]
    FileHost,
    /// A quote that is not closed.
    #[error("exec: has a quote that is not closed")]
    Quotes,
    /// No program.
    #[error("exec: needs a program")]
    Program,
    /// `[]`.
    #[error("the list of places to look for the secret is empty")]
    EmptyList,
}

impl Malformed {
    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(self) -> String {
        match self {
            Self::Scheme => {
                "Put the secret into a file with mode 0600 and write \"file:PATH\"; if it stood in the configuration, \
                 regard it as known and change it."
            }
            Self::CredentialName => "Give the name from LoadCredential= of the systemd unit.",
            Self::VariableName => "Write env:NAME.",
            Self::Path | Self::FileHost => "Write file:/path/to/the/file.",
            Self::Quotes | Self::Program => {
                "Write \"exec:/path/to/program argument\", or { exec = [\"/path/to/program\", \"argument\"] }."
            }
            Self::EmptyList => "Name at least one place, or leave the key out.",
        }
        .to_owned()
    }
}

/// Why a secret that should be there could not be read. Never holds any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{source_name} cannot be read: {kind}")]
    Io {
        /// The source as it is written.
        source_name: String,
        /// What the operating system said.
        kind: ErrorKind,
    },
    /// A directory, a device, a pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Group or others have rights on the file.
    #[error("{} can be used by others than its owner (mode {mode:04o})", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else.
    #[error("{} belongs to user {owner}, who is neither root nor the user that runs this program", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner's user number.
        owner: u32,
    },
    /// Others than its owner can change a helper program.
    #[error("{} can be changed by others than its owner (mode {mode:04o})", path.display())]
    Changeable {
        /// The program, or the folder it is in.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The person at the terminal has been asked as often as one is.
    #[error("{what} has been asked for {} times", super::MOST_TRIES)]
    AskedOften {
        /// What was asked for.
        what: String,
    },
    /// More bytes than any secret has.
    #[error("{source_name} gives more than {LONGEST} bytes")]
    TooLong {
        /// The source as it is written.
        source_name: String,
    },
    /// Nothing, or only a line end.
    #[error("{source_name} is empty")]
    Empty {
        /// The source as it is written.
        source_name: String,
    },
    /// Not UTF-8.
    #[error("{source_name} is no text (UTF-8)")]
    NotText {
        /// The source as it is written.
        source_name: String,
    },
    /// The helper ended badly.
    #[error("{source_name} failed ({status})")]
    Helper {
        /// The source as it is written.
        source_name: String,
        /// Exit status or signal.
        status: String,
    },
    /// The helper was ended after its time was over.
    #[error("{source_name} did not answer within {} s", after.as_secs_f32())]
    Deadline {
        /// The source as it is written.
        source_name: String,
        /// How long it was waited for.
        after: Duration,
    },
}

impl Error {
    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Io { source_name, .. } => {
                format!("Make {source_name} readable for the user that runs this program.")
            }
            Self::NotAFile { path } => format!("Put a regular file at {}.", path.display()),
            Self::TooOpen { path, .. } => format!("Run: chmod 600 {}", quoted(path)),
            Self::Owner { path, .. } => {
                format!("Run: chown \"$(id -u)\" {} (as root, with the right user)", quoted(path))
            }
            Self::Changeable { path, .. } => format!("Run: chmod go-w {}", quoted(path)),
            Self::AskedOften { .. } => "Make sure of it, then start again.".to_owned(),
            Self::TooLong { source_name } => {
                format!("Check that {source_name} gives the secret and nothing else.")
            }
            Self::Empty { source_name } => format!("Put the secret where {source_name} takes it from."),
            Self::NotText { source_name } => format!("Check what {source_name} gives: a secret is text."),
            Self::Helper { source_name, .. } => {
                format!("Run the helper of {source_name} by hand and see what it says.")
            }
            Self::Deadline { source_name, .. } => {
                format!("Run the helper of {source_name} by hand; it must answer without asking anybody.")
            }
        }
    }
}

/// `path` as a word that can be pasted into a shell.
fn quoted(path: &std::path::Path) -> String {
    let path = path.display().to_string();
    shlex::try_quote(&path).map_or_else(|_| path.clone(), std::borrow::Cow::into_owned)
}
