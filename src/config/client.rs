use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    document::{Report, nearest},
    environment::Environment,
    error::Fault,
    is_text,
    signer::Signer,
    wire,
};
use crate::language::counted;

/// A client of Maskinporten's, as it is configured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Client {
    /// Its name in `[clients]`.
    pub name: String,
    /// The authorities it talks to, with all their addresses.
    pub environment: Environment,
    /// How Maskinporten knows it.
    pub kind: Kind,
    /// Name of its signer: a key of [`Config::signers`](super::Config::signers).
    pub signer: String,
    /// What the grant's header names the key by.
    pub identity: Identity,
    /// Midnight (UTC) at the beginning of the day on which the registered key expires.
    pub kid_expires: Option<SystemTime>,
    /// How long a grant is valid: 1 to 119 s.
    pub grant_lifetime: Duration,
}

/// How Maskinporten knows a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It is registered in Samarbeidsportalen.
    Registered {
        /// Client identifier.
        client_id: String,
    },
    /// It is registered nowhere: the certificate of its European seal says who it is (Digdir, "European eSeals").
    Eseal {
        /// Name of the business. Maskinporten wants one and does not look at it.
        name: String,
    },
}

impl Client {
    /// `iss` of its grants: the client identifier, or the name of a business with an eSeal.
    #[must_use]
    pub fn issuer(&self) -> &str {
        match &self.kind {
            Kind::Registered { client_id } => client_id,
            Kind::Eseal { name } => name,
        }
    }

    /// Its client identifier; `None` with an eSeal.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        match &self.kind {
            Kind::Registered { client_id } => Some(client_id),
            Kind::Eseal { .. } => None,
        }
    }

    /// Whether a European seal says who it is.
    #[must_use]
    pub fn is_eseal(&self) -> bool {
        matches!(self.kind, Kind::Eseal { .. })
    }

    /// How the registration of its key stands at `at` (wall time); `None` when it is not known when that expires.
    #[must_use]
    pub fn registration(&self, at: SystemTime) -> Option<Registration> {
        self.kid_expires.map(|expires| Registration::until(expires, at))
    }
}

/// How the registration of a key under a `kid` stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Registration {
    /// It has expired.
    Expired,
    /// It expires in less than thirty days, of which these are whole ones.
    ExpiresSoon {
        /// How many.
        days: i64,
    },
    /// It expires after so many whole days.
    Lasts {
        /// How many.
        days: i64,
    },
}

/// Registered keys live a year at most; Digdir's largest user warns this long ahead.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * DAY);

const DAY: u64 = 24 * 60 * 60;

impl Registration {
    fn until(expires: SystemTime, at: SystemTime) -> Self {
        let Ok(left) = expires.duration_since(at) else { return Self::Expired };
        let days = i64::try_from(left.as_secs() / DAY).unwrap_or(i64::MAX);
        if left < EXPIRES_SOON { Self::ExpiresSoon { days } } else { Self::Lasts { days } }
    }
}

/// What is to be said of the key: `has expired`, `expires in 3 days`.
impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("has expired"),
            Self::ExpiresSoon { days } | Self::Lasts { days } => {
                write!(f, "expires in {}", counted(*days, "day"))
            }
        }
    }
}

/// What the grant's header names the key by (RFC 7515 sections 4.1.4 and 4.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// `kid`: name of a key that is registered on the client.
    KeyId(String),
    /// `x5c` from the certificate that the signer finds beside its key.
    CertificateBesideKey,
    /// `x5c` from a PEM file.
    CertificateFile(PathBuf),
}

/// How long a grant is valid unless told otherwise (Digdir: at most 120 s).
const GRANT_LIFETIME: i64 = 60;

/// What clients are checked against.
pub(super) struct Around<'a> {
    pub(super) signers: &'a BTreeMap<String, Signer>,
    /// Names that are written, whether or not the rest of their table is right.
    pub(super) signer_names: &'a [String],
    pub(super) environments: &'a BTreeMap<String, Environment>,
    pub(super) environment_names: &'a [String],
    pub(super) base: &'a Path,
}

/// Checks one `[clients.NAME]`; what is wrong goes into the report.
pub(super) fn check(
    name: &str,
    wire: wire::Client,
    around: &Around<'_>,
    report: &mut Report,
    warnings: &mut Vec<String>,
) -> Option<Client> {
    let place = format!("clients.{name}");
    let mut refuse = |key: &str, fault: Fault| {
        let place = if key.is_empty() { place.clone() } else { format!("{place}.{key}") };
        report.refuse(&place, fault);
    };
    if wire.environment == "ver2" {
        warnings.push(format!("{place}: ver2 was renamed; environment = \"test\" is taken in its place."));
    }
    let environment = environment(&wire.environment, around).map_err(|fault| refuse("environment", fault));
    if !around.signer_names.contains(&wire.signer) {
        refuse("signer", unknown("signer", &wire.signer, around.signer_names));
    }
    let is_eseal = matches!(wire.kind, Some(wire::Kind::Eseal));
    let kind = kind(is_eseal, wire.client_id, wire.name).map_err(|(key, fault)| refuse(key, fault));
    let kid_expires = match wire.kid_expires {
        Some(_) if wire.kid.is_none() => {
            refuse("kid_expires", Fault::ExpiryWithoutKid);
            None
        }
        Some(date) => midnight(&date).map_err(|fault| refuse("kid_expires", fault)).ok(),
        None => None,
    };
    let seconds = wire.grant_lifetime.unwrap_or(GRANT_LIFETIME);
    let grant_lifetime = u64::try_from(seconds).ok().filter(|seconds| (1..=119).contains(seconds));
    if grant_lifetime.is_none() {
        refuse("grant_lifetime", Fault::GrantLifetime { seconds });
    }
    let identity = match (wire.kid, wire.certificate) {
        (Some(_), _) if is_eseal => Err(("kid", Fault::SealKid)),
        (None, None) if is_eseal => Ok(Identity::CertificateBesideKey),
        (Some(kid), None) if is_text(&kid) => Ok(Identity::KeyId(kid)),
        (Some(_), None) => Err(("kid", Fault::Text)),
        (None, Some(word)) if word == "token" => Ok(Identity::CertificateBesideKey),
        (None, Some(path)) if is_text(&path) => Ok(Identity::CertificateFile(around.base.join(path))),
        (None, Some(_)) => Err(("certificate", Fault::Text)),
        (Some(_), Some(_)) => Err(("certificate", Fault::BothIdentities)),
        (None, None) => Err(("", Fault::NoIdentity)),
    };
    let identity = identity.map_err(|(key, fault)| refuse(key, fault));
    Some(Client {
        name: name.to_owned(),
        environment: environment.ok()??,
        kind: kind.ok()?,
        signer: around.signers.get(&wire.signer)?.name.clone(),
        identity: identity.ok()?,
        kid_expires,
        grant_lifetime: Duration::from_secs(grant_lifetime?),
    })
}

/// How Maskinporten knows the client; or the key that is wrong, and how.
fn kind(
    is_eseal: bool,
    client_id: Option<String>,
    name: Option<String>,
) -> Result<Kind, (&'static str, Fault)> {
    match (is_eseal, client_id, name) {
        (true, Some(_), _) => Err(("client_id", Fault::SealClientId)),
        (true, None, None) => Err(("", Fault::NoName)),
        (true, None, Some(name)) if is_text(name.trim()) => Ok(Kind::Eseal { name }),
        (false, _, Some(_)) => Err(("name", Fault::NameWithoutSeal)),
        (false, None, None) => Err(("", Fault::NoClientId)),
        (false, Some(client_id), None) if is_text(&client_id) && !client_id.contains(' ') => {
            Ok(Kind::Registered { client_id })
        }
        (is_eseal, ..) => Err((if is_eseal { "name" } else { "client_id" }, Fault::Text)),
    }
}

/// The environment of this name; `None` when its own table is wrong, which has been said there.
fn environment(name: &str, around: &Around<'_>) -> Result<Option<Environment>, Fault> {
    let name = match name {
        "ver1" => return Err(Fault::Ver1),
        "ver2" => "test",
        other => other,
    };
    if let Some(environment) = Environment::named(name) {
        return Ok(Some(environment));
    }
    if around.environment_names.iter().any(|known| known == name) {
        return Ok(around.environments.get(name).cloned());
    }
    let mut known = vec!["prod".to_owned(), "test".to_owned()];
    known.extend_from_slice(around.environment_names);
    Err(unknown("environment", name, &known))
}

/// A name that leads nowhere.
pub(super) fn unknown(table: &'static str, name: &str, known: &[String]) -> Fault {
    let nearest = nearest(name, known.iter().map(String::as_str));
    let name = name.chars().take(64).collect();
    Fault::UnknownName { table, name, nearest, known: known.to_vec() }
}

fn midnight(date: &toml::value::Datetime) -> Result<SystemTime, Fault> {
    let (Some(date), None, None) = (date.date, date.time, date.offset) else { return Err(Fault::Date) };
    let month = time::Month::try_from(date.month).map_err(|_| Fault::Date)?;
    let day =
        time::Date::from_calendar_date(i32::from(date.year), month, date.day).map_err(|_| Fault::Date)?;
    Ok(day.midnight().assume_utc().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_said_to_end_soon_within_thirty_days() {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(100 * DAY);
        let before = |seconds: u64| Registration::until(expires, expires - Duration::from_secs(seconds));
        for (seconds, expected, said) in [
            (30 * DAY, Registration::Lasts { days: 30 }, "expires in 30 days"),
            (30 * DAY - 1, Registration::ExpiresSoon { days: 29 }, "expires in 29 days"),
            (DAY, Registration::ExpiresSoon { days: 1 }, "expires in 1 day"),
            (0, Registration::ExpiresSoon { days: 0 }, "expires in 0 days"),
        ] {
            assert_eq!((before(seconds), before(seconds).to_string().as_str()), (expected, said));
        }
        let past = Registration::until(expires, expires + Duration::from_secs(1));
        assert_eq!((past, past.to_string().as_str()), (Registration::Expired, "has expired"));
    }
}
