//! What a key file holds, or why it holds nothing for us.

use super::rsa::{Rsa, Unusable};
use crate::certificate::{self, Certificate};

/// What a key file holds.
pub(super) struct KeyFile {
    pub(super) rsa: Rsa,
    /// Those that stand beside the key. Damaged ones do not hinder a client that is known by its `kid`.
    pub(super) certificates: Result<Vec<Certificate>, certificate::Error>,
    /// `kid` of a JWK.
    pub(super) key_id: Option<String>,
}

/// Why a file holds no key for us.
#[derive(Debug)]
pub(super) enum Refusal {
    File { problem: String, remedy: String },
    Key { reason: String },
    Keys { candidates: Vec<String> },
    NoPassword,
    PasswordSource { reason: String },
    WrongPassword,
}

impl Refusal {
    pub(super) fn file(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::File { problem: problem.into(), remedy: remedy.into() }
    }
}

impl From<Unusable> for Refusal {
    fn from(Unusable(reason): Unusable) -> Self {
        Self::Key { reason }
    }
}
