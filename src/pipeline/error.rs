use crate::{
    advice, certificate,
    sign::{self, pkcs11::profile::ProfileError},
};

/// Why a configuration cannot be wired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that leads nowhere.
    #[error("there is no {what} called {name:?}{}", listed(known))]
    Unknown {
        /// What was looked for: a token, a client, a signer.
        what: &'static str,
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A file that the configuration names cannot be read.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        problem: String,
    },
    /// A file is there and holds no usable certificates.
    #[error("{path}: {problem}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: certificate::Error,
    },
    /// What is known of a kind of device is wrong.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A signer cannot be made.
    #[error(transparent)]
    Signer(#[from] sign::Error),
}

impl Error {
    pub(super) fn unknown(what: &'static str, name: &str) -> Self {
        Self::Unknown { what, name: name.to_owned(), known: Vec::new() }
    }

    /// What `segl explain` is asked for: a code, or the name of the [advice](crate::advice).
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Self::Unknown { .. } => "unknown-name",
            Self::File { .. } => "configured-file",
            Self::Certificate { .. } => "certificate",
            Self::Profile(_) => "profile",
            Self::Signer(error) => error.topic(),
        }
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unknown { what, known, .. } if known.is_empty() => {
                format!("Add a [{what}s.NAME] table to the configuration.")
            }
            Self::Unknown { what, .. } => format!("Name one of these, or add a [{what}s.NAME] table."),
            Self::File { .. } => advice::remedy(self.topic()).into(),
            Self::Certificate { problem, .. } => problem.remedy().into(),
            Self::Profile(error) => error.remedy(),
            Self::Signer(error) => error.remedy(),
        }
    }
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; there are: {}", known.join(", ")) }
}
