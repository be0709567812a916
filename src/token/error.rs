use std::{fmt, time::Duration};

use serde::Serialize;

use super::{Outage, Refusal, Side};
use crate::{
    advice::{self, Again, Origin},
    grant::{self, InvalidRequest},
    language::Language,
    sign::{self, Fault, Retry},
};

/// Who gives tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub enum Authority {
    /// Digdir's OAuth 2 server.
    Maskinporten,
    /// Norwegian Customs (Toll).
    Customs,
    /// Altinn 3.
    Altinn,
}

impl From<Authority> for Origin {
    fn from(authority: Authority) -> Self {
        match authority {
            Authority::Maskinporten => Self::Maskinporten,
            Authority::Customs => Self::Customs,
            Authority::Altinn => Self::Altinn,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maskinporten => "Maskinporten",
            Self::Customs => "Customs",
            Self::Altinn => "Altinn",
        })
    }
}

/// Why there is no token. Plain data; cheap to clone, since every waiter on one flight gets its own.
///
/// `Display` says what happened, [`remedy`](Self::remedy) what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is one that no authority would grant; nothing was signed or sent.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// There is no signature.
    #[error(transparent)]
    Sign(#[from] sign::Error),
    /// The authority refused.
    #[error("{} refused ({}): {}{}", .0.authority, .0.error_or_status(), .0.reason(), .0.clock_sentence())]
    Refused(Box<Refusal>),
    /// There is no answer from the authority.
    #[error("{authority} cannot be reached: {problem}")]
    Unreachable {
        /// Who.
        authority: Authority,
        /// What the network said.
        problem: String,
    },
    /// The authority answers that it cannot serve.
    #[error("{authority} cannot serve at the moment: it answered HTTP {status}")]
    Unavailable {
        /// Who.
        authority: Authority,
        /// HTTP status: 408, 429 or 5xx.
        status: u16,
        /// How long the server asks to be left alone (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The authority's answer makes no sense.
    #[error("{authority} gave an answer that cannot be used: {problem}")]
    Malformed {
        /// Who.
        authority: Authority,
        /// What is wrong with it.
        problem: String,
    },
    /// The token that came lives shorter than the caller needs it for.
    #[error("{authority} gives tokens that live {life:?}, and {needed:?} are needed")]
    TooShort {
        /// Who.
        authority: Authority,
        /// How long its tokens live.
        life: Duration,
        /// How long the caller needs one for.
        needed: Duration,
    },
    /// There is no token because one side is away, and waiting for it is left to the caller.
    #[error("{_0}")]
    Away(Box<Outage>),
    /// The caller's deadline passed. Who was away then, or did not answer, is said inside, when it is known.
    #[error("no token before the deadline{}", .0.as_ref().map(|outage| format!(": {outage}")).unwrap_or_default())]
    Deadline(Option<Box<Outage>>),
    /// The source has been shut down.
    #[error("the token source has been shut down")]
    Closed,
}

/// The first pause before another try; the next ones double.
const SOON: Duration = Duration::from_millis(250);

impl From<grant::Error> for Error {
    fn from(error: grant::Error) -> Self {
        match error {
            grant::Error::Request(error) => Self::Request(error),
            grant::Error::Sign(error) => Self::Sign(error),
        }
    }
}

impl Error {
    /// Whose move it is.
    #[must_use]
    pub fn kind(&self) -> Fault {
        match self {
            Self::Request(_) => Fault::Configuration,
            Self::Sign(error) => error.kind(),
            Self::Refused(_) | Self::TooShort { .. } => Fault::Authority,
            Self::Unavailable { .. } => Fault::Unavailable,
            Self::Unreachable { .. } | Self::Malformed { .. } => Fault::Network,
            Self::Away(outage) | Self::Deadline(Some(outage)) => outage.error.kind(),
            Self::Deadline(None) => Fault::Network,
            Self::Closed => Fault::Load,
        }
    }

    /// When asking again can help (`protocol`: Digdir's troubleshooting page, and Customs' rule that a rejection
    /// without a clear message may be tried again). Always with a newly minted grant.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Sign(error) => error.retry(),
            Self::Refused(refusal) => match refusal.advice().map(|advice| advice.again) {
                // Until the clock is set, a new grant fares no better.
                _ if refusal.clock_to_blame().is_some() => Retry::Never,
                Some(Again::NewGrant) => Retry::NewGrant,
                Some(Again::Later) => Retry::After(Duration::from_secs(5)),
                _ if !refusal.is_clear() => Retry::After(SOON),
                _ => Retry::Never,
            },
            Self::Unavailable { retry_after, .. } => Retry::After(retry_after.unwrap_or_default().max(SOON)),
            Self::Unreachable { .. } | Self::Malformed { .. } | Self::Deadline(None) => Retry::After(SOON),
            Self::Away(outage) | Self::Deadline(Some(outage)) => outage.error.retry(),
            Self::Request(_) | Self::TooShort { .. } | Self::Closed => Retry::Never,
        }
    }

    /// Which side it is that gives no token; `None` when it is neither of them but the request, the program, or an
    /// unknown lack of time.
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        match self {
            Self::Sign(_) => Some(Side::Signer),
            Self::Refused(_) | Self::Unavailable { .. } | Self::TooShort { .. } => Some(Side::Authority),
            Self::Unreachable { .. } | Self::Malformed { .. } => Some(Side::Network),
            Self::Away(outage) | Self::Deadline(Some(outage)) => Some(outage.side),
            Self::Request(_) | Self::Deadline(None) | Self::Closed => None,
        }
    }

    /// What happened, without what is said around it: of an outage and a passed deadline what lies inside.
    #[must_use]
    pub fn cause(&self) -> &Self {
        match self {
            Self::Away(outage) | Self::Deadline(Some(outage)) => &outage.error,
            other => other,
        }
    }

    /// Whether it tells one who has waited so long that somebody is away or refuses, and not only that this side has too
    /// much to do.
    pub(super) fn is_trouble(&self, waited: Duration) -> bool {
        match self.cause() {
            Self::Sign(error) => error.is_trouble(waited),
            error => error.kind() != Fault::Load,
        }
    }

    /// Whether it was time that ran out.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Deadline(_)) || matches!(self.cause(), Self::Sign(sign::Error::Deadline))
    }

    /// What `segl explain` is asked for: a code, or the name of the [advice](crate::advice).
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Self::Request(_) => "request",
            Self::Sign(error) => error.topic(),
            Self::Refused(refusal) => refusal.advice().map_or("", |advice| {
                let code = refusal.code.as_deref().filter(|code| advice::named(code) == Some(advice));
                code.unwrap_or_else(|| advice.code())
            }),
            Self::Unreachable { .. } => "unreachable",
            Self::Unavailable { .. } => "unavailable",
            Self::Malformed { .. } => "malformed",
            Self::TooShort { .. } => "token-too-short",
            Self::Away(outage) | Self::Deadline(Some(outage)) => outage.error.topic(),
            Self::Deadline(None) => "deadline",
            Self::Closed => "closed",
        }
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Request(error) => error.remedy(),
            Self::Sign(error) => error.remedy(),
            Self::Refused(refusal) if refusal.clock_to_blame().is_some() => {
                "Set this machine's clock, and let NTP keep it.".into()
            }
            Self::Refused(refusal) => {
                refusal.advice().map_or("", |advice| advice.remedy.in_language(Language::English)).to_owned()
            }
            Self::Unreachable { authority, .. } => {
                format!(
                    "Check firewall, proxy and DNS; then see whether {authority} is up (status.digdir.no)."
                )
            }
            Self::Unavailable { authority, .. } => {
                format!("Wait, or see what {authority} says of it (status.digdir.no); Segl goes on trying.")
            }
            Self::Malformed { authority, .. } => {
                format!("See whether a proxy stands between this machine and {authority}; then try again.")
            }
            Self::Away(outage) | Self::Deadline(Some(outage)) => outage.error.remedy(),
            Self::TooShort { .. } | Self::Deadline(None) | Self::Closed => {
                advice::remedy(self.topic()).to_owned()
            }
        }
    }
}
