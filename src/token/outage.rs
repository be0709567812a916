use std::{fmt, time::SystemTime};

use serde::{Serialize, Serializer};

use super::{Authority, Error};
use crate::clock::utc;

/// Which side of a token is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Side {
    /// What signs grants: the device, its library, or the key file.
    Signer,
    /// The authority: it answers that it cannot serve, or will not.
    Authority,
    /// The network: there is no answer, or one that the authority would not give.
    Network,
}

/// Who is away, since when, and what happened last.
///
/// As JSON: `side`, `authority` (where one is concerned), `since` (RFC 3339), `problem` and `remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outage {
    /// Which side.
    pub side: Side,
    /// When it was first seen, by this machine's wall clock.
    pub since: SystemTime,
    /// What happened last.
    pub error: Error,
}

impl Outage {
    /// `error`, seen first at `since`. An error that is an outage already stays as it is.
    #[must_use]
    pub fn of(error: Error, since: SystemTime) -> Self {
        match error {
            Error::Away(outage) | Error::Deadline(Some(outage)) => *outage,
            error => Self { side: error.side().unwrap_or(Side::Network), since, error },
        }
    }

    /// The same as part of the outage that `known` is: it began when that one did, if it is of the same side.
    #[must_use]
    pub(super) fn going_on(self, known: Option<&Self>) -> Self {
        match known {
            Some(known) if known.side == self.side => Self { since: known.since, ..self },
            _ => self,
        }
    }

    /// The authority that is away, or that cannot be reached.
    #[must_use]
    pub fn authority(&self) -> Option<Authority> {
        match &self.error {
            Error::Unreachable { authority, .. }
            | Error::Unavailable { authority, .. }
            | Error::Malformed { authority, .. }
            | Error::TooShort { authority, .. } => Some(*authority),
            Error::Refused(refusal) => Some(refusal.authority),
            _ => None,
        }
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.side, self.authority()) {
            (Side::Authority, Some(authority)) => write!(f, "{authority}")?,
            (Side::Network, Some(authority)) => write!(f, "the network to {authority}")?,
            (Side::Signer, _) => f.write_str("the signer")?,
            (Side::Authority, None) => f.write_str("the authority")?,
            (Side::Network, None) => f.write_str("the network")?,
        }
        let fares = if matches!(self.error, Error::Refused(_)) { "refused" } else { "been away" };
        write!(f, " has {fares} since {}: {}", utc(self.since), self.error)
    }
}

impl Serialize for Outage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown {
            side: Side,
            #[serde(skip_serializing_if = "Option::is_none")]
            authority: Option<Authority>,
            since: String,
            problem: String,
            remedy: String,
        }
        Shown {
            side: self.side,
            authority: self.authority(),
            since: crate::clock::rfc3339(self.since),
            problem: self.error.to_string(),
            remedy: self.error.remedy(),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::sign;

    fn since() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_873_502)
    }

    #[test]
    fn the_side_and_the_time_are_said() {
        let authority = Authority::Maskinporten;
        for (error, expected) in [
            (
                Error::Unavailable { authority, status: 503, retry_after: None },
                "Maskinporten has been away since 2026-11-28 13:45:02 UTC: Maskinporten cannot serve at the moment: it \
                 answered HTTP 503",
            ),
            (
                Error::Unreachable { authority, problem: "connection refused".into() },
                "the network to Maskinporten has been away since 2026-11-28 13:45:02 UTC: Maskinporten cannot be \
                 reached: connection refused",
            ),
            (
                Error::Sign(sign::Error::Deadline),
                "the signer has been away since 2026-11-28 13:45:02 UTC: the device did not answer before the deadline",
            ),
        ] {
            assert_eq!(Outage::of(error, since()).to_string(), expected);
        }
    }

    #[test]
    fn an_outage_in_json_says_what_to_do() {
        let authority = Authority::Customs;
        let outage = Outage::of(Error::Unreachable { authority, problem: "no route".into() }, since());
        let shown = serde_json::to_value(&outage).unwrap();
        assert_eq!(shown["side"], "network");
        assert_eq!(shown["authority"], "Customs");
        assert_eq!(shown["since"], "2026-11-28T13:45:02Z");
        assert_eq!(shown["problem"], "Customs cannot be reached: no route");
        assert_eq!(shown["remedy"], outage.error.remedy());
    }

    #[test]
    fn an_outage_is_not_put_into_another() {
        let inner = Outage::of(Error::Sign(sign::Error::Deadline), since());
        let error = Error::Deadline(Some(Box::new(inner.clone())));
        assert_eq!(Outage::of(error, UNIX_EPOCH), inner);
    }
}
