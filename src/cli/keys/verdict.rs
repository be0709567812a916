use std::{
    fmt,
    time::{Duration, SystemTime},
};

use schemars::JsonSchema;
use serde::Serialize;
use time::{OffsetDateTime, macros::format_description};

use crate::{
    certificate::{Certificate, Chain, Error},
    jose::RsaPublicKey,
    sign::pkcs11::{CertificateDescription, KeyDescription},
};

/// Whether a key can sign grants that Maskinporten takes, and as whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Verdict {
    /// The short answer.
    pub(super) answer: Answer,
    /// What stands in the way, or what should be known.
    pub(super) why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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

    /// Judges a certificate of no key that is to be seen; `keys` are those on its device.
    pub(super) fn on_lone(
        certificate: &CertificateDescription,
        open: bool,
        keys: &[KeyDescription],
        certificates: &[Certificate],
        now: SystemTime,
    ) -> Self {
        let no = |why: &str| Self { answer: Answer::No, why: Some(why.to_owned()) };
        let Ok(read) = Certificate::from_der(&certificate.der) else { return no("it cannot be read") };
        if read.is_ca() {
            return no("it is an issuer's");
        }
        let Ok(public_key) = read.public_key() else {
            return no("it certifies no RSA key; Maskinporten takes RSA");
        };
        let namesake = keys.iter().find(|key| !key.id.is_empty() && key.id == certificate.id);
        if namesake.is_some_and(|key| key.spki.is_some()) {
            return no("it certifies another key than the one with its id");
        }
        if open {
            return no("its key is not on the device");
        }
        let (answer, why) = with_certificates(&public_key, certificates, now);
        let hidden = "its key is hidden until login, or elsewhere";
        Self { answer, why: Some(why.map_or_else(|| hidden.into(), |why| format!("{why}; {hidden}"))) }
    }
}

/// What keeps the key itself from signing grants.
fn obstacle(key: &KeyDescription, open: bool) -> Option<String> {
    match key.bits {
        _ if key.key_type != "RSA" => {
            return Some(format!("it is an {} key; Maskinporten takes RSA", key.key_type));
        }
        Some(bits) if bits < 2048 => {
            return Some(format!("{bits} bits are too few; Maskinporten takes 2048 or more"));
        }
        _ => {}
    }
    if !key.private && open {
        return Some("its private half is not on the device".into());
    }
    (key.signs == Some(false)).then(|| "the device does not let it sign (CKA_SIGN is false)".into())
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

#[cfg(test)]
mod tests {
    use rcgen::{DnType, KeyUsagePurpose};

    use super::*;
    use crate::{
        certificate::sample::{Authority, Pair, days, parameters, today},
        cli::keys::sample::key,
    };

    fn said(key: &KeyDescription, open: bool, certificates: &[Certificate], now: SystemTime) -> String {
        Verdict::on(key, open, certificates, now).to_string()
    }

    #[test]
    fn what_keeps_a_key_from_signing_comes_before_its_certificates() {
        for (key, expected) in [
            (KeyDescription { key_type: "EC".into(), bits: None, ..key() }, "no: it is an EC key; "),
            (KeyDescription { bits: Some(1024), ..key() }, "no: 1024 bits are too few; "),
            (KeyDescription { private: false, ..key() }, "no: its private half is not on the device"),
            (KeyDescription { signs: Some(false), ..key() }, "no: the device does not let it sign"),
            (KeyDescription { spki: None, bits: None, ..key() }, "no: the device shows no public half"),
        ] {
            let said = said(&key, true, &[], today());
            assert!(said.starts_with(expected), "{said}");
        }
    }

    #[test]
    fn before_a_login_a_hidden_private_half_is_no_obstacle_but_is_said() {
        let hidden = KeyDescription { private: false, signs: None, ..key() };
        assert_eq!(
            said(&hidden, false, &[], today()),
            "with kid: it has no certificate; its private half is hidden until login"
        );
    }

    #[test]
    fn a_certificate_counts_on_the_days_of_its_validity_and_with_its_issuer() {
        let root = Authority::root("Rot");
        let issuing = root.below("Utsteder");
        let mut params = parameters("Virksomhet");
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), "NTRNO-991825827");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_after = days(400).into();
        let leaf = issuing.issue(&params, Pair::shared()[0]);
        let both = [leaf.clone(), issuing.certificate.clone()];
        for (at, certificates, expected) in [
            (0, &both[..], "yes"),
            (0, &both[..1], "yes; its issuer is not on the device: CN=Utsteder"),
            (0, &both[1..], "with kid: it has no certificate"),
            (-9, &both[..], "with kid: its certificate is not valid before 2026-11-20"),
            (401, &both[..], "with kid: its certificate expired on 2027-12-26"),
            (390, &both[..], "with kid: the certificate of CN=Utsteder expired on 2027-11-21 00:00 UTC"),
        ] {
            assert_eq!(said(&key(), true, certificates, days(at)), expected);
        }
    }

    #[test]
    fn a_number_with_a_wrong_digit_is_named() {
        let mut params = parameters("Virksomhet");
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), "NTRNO-991825828");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = Authority::root("Rot").issue(&params, Pair::shared()[0]);
        let said = said(&key(), true, &[leaf], today());
        assert!(said.starts_with("with kid: ") && said.contains("991825828"), "{said}");
    }

    #[test]
    fn a_certificate_alone_says_what_is_known_of_its_key() {
        let root = Authority::root("Rot");
        let mut params = parameters("Virksomhet");
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), "NTRNO-991825827");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = root.issue(&params, Pair::shared()[1]);
        let describe = |certificate: &Certificate| CertificateDescription {
            uri: "pkcs11:token=a".parse().unwrap(),
            label: "b".into(),
            id: "01".into(),
            der: certificate.der().to_vec(),
        };
        let all = [leaf.clone(), root.certificate.clone()];
        let said = |certificate: &CertificateDescription, open: bool, keys: &[KeyDescription]| {
            Verdict::on_lone(certificate, open, keys, &all, today()).to_string()
        };
        let lone = describe(&leaf);
        assert_eq!(said(&lone, false, &[]), "yes; its key is hidden until login, or elsewhere");
        assert_eq!(said(&lone, true, &[]), "no: its key is not on the device");
        // The key of that id is the other one of the pair.
        assert_eq!(said(&lone, true, &[key()]), "no: it certifies another key than the one with its id");
        assert_eq!(said(&lone, false, &[key()]), "no: it certifies another key than the one with its id");
        assert_eq!(said(&describe(&root.certificate), false, &[]), "no: it is an issuer's");
        let broken = CertificateDescription { der: vec![0x30], ..lone };
        assert_eq!(said(&broken, false, &[]), "no: it cannot be read");
    }

    #[test]
    fn days_at_the_ends_of_time_do_not_panic() {
        let far = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(1 << 62));
        for at in
            [far, SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(1 << 62))].into_iter().flatten()
        {
            assert_eq!(day(at), "");
        }
        assert_eq!(day(today()), "2026-11-21");
    }
}
