use std::fmt;

use serde::Serialize;

/// What a client does that works today and annoys everybody tomorrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Manner {
    /// The same token is asked for although the last one is good for long.
    AskedWhileValid,
    /// A `jti` is tried twice: the same grant is sent again, or a constant stands in it.
    JtiTwice,
    /// The same token is asked for again and again.
    RefreshStorm,
}

impl Manner {
    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::AskedWhileValid => "Keep the token until a minute before it ends, and share it.",
            Self::JtiTwice => "Sign a new grant with a new jti for each request, retries too.",
            Self::RefreshStorm => {
                "Ask once at a time for each token; let the lead be shorter than its life; wait after a refusal."
            }
        }
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AskedWhileValid => "asked while valid",
            Self::JtiTwice => "jti twice",
            Self::RefreshStorm => "refresh storm",
        })
    }
}
