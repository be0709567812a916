use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use time::{OffsetDateTime, macros::format_description};

use crate::{
    certificate::{Certificate, Chain, Error},
    jose::RsaPublicKey,
    sign::pkcs11::KeyDescription,
};

/// Whether a key can sign grants that Maskinporten takes, and as whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// The short answer.
    pub(super) answer: Answer,
    /// What stands in the way, or what should be known.
    pub(super) why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// With its certificate; with a registered `kid`, too.
    Yes,
    /// Only when its public half is registered on a client.
    WithKid,
    /// Not at all.
    No,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answer, separator) = match self.answer {
            Answer::Yes => ("yes", "; "),
            Answer::WithKid => ("with kid", ": "),
            Answer::No => ("no", ": "),
        };
        f.write_str(answer)?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, "{separator}{why}"))
    }
}

impl Verdict {
    /// Judges `key`. `open`: whether the device showed its private keys; `certificates`: all on the device.
    pub(super) fn on(
        key: &KeyDescription,
        open: bool,
        certificates: &[Certificate],
        now: SystemTime,
    ) -> Self {
        if let Some(why) = obstacle(key, open) {
            return Self { answer: Answer::No, why: Some(why) };
        }
        let Some(public_key) = key.spki.as_deref().and_then(|spki| RsaPublicKey::from_spki(spki).ok()) else {
            let why = "the device shows no public half and no certificate of it".into();
            return Self { answer: Answer::No, why: Some(why) };
        };
        let (answer, why) = with_certificates(&public_key, certificates, now);
        let hidden = (!key.private).then(|| "its private half is hidden until login".to_owned());
        let why = match (why, hidden) {
            (Some(why), Some(hidden)) => Some(format!("{why}; {hidden}")),
            (why, hidden) => why.or(hidden),
        };
        Self { answer, why }
    }
}

/// What keeps the key itself from signing grants.
fn obstacle(key: &KeyDescription, open: bool) -> Option<String> {
    match key.bits {
        _ if key.key_type != "RSA" => {
            return Some(format!("it is an {} key; Maskinporten takes RSA", key.key_type));
        }
        Some(bits) if bits < 2048 => return Some(format!("{bits} bits are too short; it takes 2048 bits")),
        _ => {}
    }
    if !key.private && open {
        return Some("its private half is not on the device".into());
    }
    if key.signs == Some(false) {
        return Some("the device does not let it sign (CKA_SIGN is false)".into());
    }
    (key.always_authenticate == Some(true)).then(|| "the device wants its PIN for each signature".into())
}

fn with_certificates(
    public_key: &RsaPublicKey,
    certificates: &[Certificate],
    now: SystemTime,
) -> (Answer, Option<String>) {
    let chain = match Chain::assemble(public_key, certificates.to_vec(), now) {
        Ok(chain) => chain,
        Err(Error::NoMatch { .. }) => return (Answer::WithKid, Some("it has no certificate".into())),
        Err(Error::WrongPurpose { purpose, .. }) => {
            return (Answer::WithKid, Some(format!("its certificate is {purpose}")));
        }
        Err(other) => return (Answer::WithKid, Some(other.to_string())),
    };
    let leaf = chain.leaf();
    match leaf.check_validity(now) {
        Ok(()) => {}
        Err(Error::Expired { until, .. }) => {
            return (Answer::WithKid, Some(format!("its certificate expired on {}", day(until))));
        }
        Err(Error::NotYetValid { from, .. }) => {
            return (Answer::WithKid, Some(format!("its certificate is not valid before {}", day(from))));
        }
        Err(other) => return (Answer::WithKid, Some(other.to_string())),
    }
    match leaf.organisation_number() {
        Ok(_) => {}
        Err(Error::NoOrganisationNumber { .. }) => {
            let why = "as an eSeal only: the certificate names no Norwegian organisation number";
            return (Answer::Yes, Some(why.into()));
        }
        Err(other) => return (Answer::WithKid, Some(other.to_string())),
    }
    if let Err(issuer) = chain.check_validity(now) {
        return (Answer::WithKid, Some(issuer.to_string()));
    }
    let alone = chain.len() == 1;
    let missing = chain.missing_issuer().filter(|_| alone);
    (Answer::Yes, missing.map(|issuer| format!("its issuer is not on the device: {issuer}")))
}

/// `at` as a day (UTC).
pub(super) fn day(at: SystemTime) -> String {
    formatted(at).unwrap_or_default()
}

fn formatted(at: SystemTime) -> Option<String> {
    // A conversion that leaves the calendar would panic.
    let seconds = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok()?,
        Err(before) => -i64::try_from(Duration::as_secs(&before.duration())).ok()?,
    };
    let day = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    day.format(format_description!("[year]-[month]-[day]")).ok()
}
