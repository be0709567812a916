use std::fmt;

/// Why a profile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {problem}")]
    Unreadable {
        /// The file or folder.
        file: String,
        /// What the operating system said.
        problem: String,
    },
    /// Another user could have written the file, which says what library is loaded.
    #[error("{file}: {problem}")]
    Untrusted {
        /// The file or folder.
        file: String,
        /// Whose it is, or who may write to it.
        problem: String,
    },
    /// It is no TOML.
    #[error("{file}:{line}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What the parser expected.
        problem: String,
    },
    /// A key that is not known, or a value that makes no sense.
    #[error("{file}: {}{problem}", Prefix(key))]
    Field {
        /// The file, or the table of `segl.toml`.
        file: String,
        /// The key, with the tables it stands in; empty when the problem names it.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// No profile has this name.
    #[error("{place}: there is no profile {name:?}; known are {}", known.join(", "))]
    Unknown {
        /// Where the name stands.
        place: String,
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// An environment variable that the library's start text names is not set.
    #[error("the library needs the environment variable {name}, which is not set")]
    Variable {
        /// Its name.
        name: String,
    },
}

impl ProfileError {
    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreadable { file, .. } => {
                format!("Make {file} readable for the user that runs this program, or take it away.")
            }
            Self::Untrusted { file, .. } => {
                format!("Look at what it says, then run: chown root {file}; chmod go-w {file}")
            }
            Self::Syntax { .. } | Self::Field { .. } => {
                "Correct the file; `segl profiles show NAME` prints what a profile may say.".to_owned()
            }
            Self::Unknown { .. } => "Use one of the names that `segl profiles` lists.".to_owned(),
            Self::Variable { name } => format!("Set {name} for the user that runs this program."),
        }
    }

    pub(super) fn syntax(file: &str, text: &str, why: &toml::de::Error) -> Self {
        let before = why.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        Self::Syntax {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            problem: why.message().trim_end().to_owned(),
        }
    }

    pub(super) fn shape(file: &str, why: &toml::de::Error) -> Self {
        // The error's own text names the table; its message alone does not.
        let problem = why.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Field { file: file.to_owned(), key: String::new(), problem }
    }
}

/// A key and what separates it from the problem.
struct Prefix<'a>(&'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

/// A value that makes no sense, before it is known which file it stands in.
pub(super) struct Problem {
    pub(super) key: String,
    pub(super) problem: String,
}

impl Problem {
    pub(super) fn in_file(self, file: &str) -> ProfileError {
        ProfileError::Field { file: file.to_owned(), key: self.key, problem: self.problem }
    }
}
