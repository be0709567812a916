use std::{fmt, time::SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    certificate::{Certificate, Chain, Error, Finding, Way},
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
    let judgement = chain.judge(now);
    let fitness = judgement.fitness();
    // What the device does not hold of a seal's chain may stand in the signer's chain file.
    let elsewhere = |obstacle: &Finding| matches!(obstacle, Finding::Incomplete { .. });
    if let Some(obstacle) = fitness.obstacles.iter().find(|it| !elsewhere(it)) {
        return (Answer::WithKid, Some(of_certificate(obstacle)));
    }
    let way = judgement.nearest_way();
    let as_what = (way == Way::Eseal).then(|| "as an eSeal only".to_owned());
    let incomplete = fitness.obstacles.iter().map(of_certificate);
    let alone = chain.missing_issuer().filter(|_| way == Way::Business && chain.len() == 1);
    let alone = alone.map(|issuer| format!("its issuer is not on the device: {issuer}"));
    let cautions = fitness.cautions.iter().map(of_certificate);
    let why: Vec<String> = as_what.into_iter().chain(incomplete).chain(cautions).chain(alone).collect();
    (Answer::Yes, Some(why.join("; ")).filter(|why| !why.is_empty()))
}

/// What was found of a certificate, said of its key.
fn of_certificate(finding: &Finding) -> String {
    let said = finding.to_string();
    match (said.strip_prefix("it "), said.strip_prefix("its ")) {
        (Some(rest), _) => format!("its certificate {rest}"),
        (_, Some(rest)) => format!("its certificate's {rest}"),
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        certificate::sample::{Authority, Pair, business_parameters, days, today},
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
        let issuing = Authority::sandbox();
        let mut params = business_parameters("NTRNO-991825827");
        params.not_after = days(400).into();
        let leaf = issuing.issue(&params, Pair::shared()[0]);
        let both = [leaf.clone(), issuing.certificate.clone()];
        let name = issuing.certificate.subject();
        let alone = format!("yes; its issuer is not on the device: {name}");
        let late = format!("with kid: the certificate of {name} expired on 2027-11-21 00:00 UTC");
        for (at, certificates, expected) in [
            (0, &both[..], "yes"),
            (0, &both[..1], alone.as_str()),
            (0, &both[1..], "with kid: it has no certificate"),
            (300, &both[..], "yes; its certificate expires in 65 days"),
            (-9, &both[..], "with kid: its certificate is not valid before 2026-11-20"),
            (401, &both[..], "with kid: its certificate expired on 2027-12-26"),
            (390, &both[..], late.as_str()),
        ] {
            assert_eq!(said(&key(), true, certificates, days(at)), expected);
        }
    }

    #[test]
    fn a_certificate_of_nobody_known_and_one_from_abroad_are_told_apart() {
        let said_of = |identifier: &str| {
            let root = Authority::root("Rot");
            let leaf = root.issue(&business_parameters(identifier), Pair::shared()[0]);
            said(&key(), true, &[leaf, root.certificate], today())
        };
        let unknown = said_of("NTRNO-991825827");
        assert!(
            unknown.starts_with("with kid: its certificate is not a business certificate ("),
            "{unknown}"
        );
        let seal = said_of("VATSE-556012345601");
        assert_eq!(seal, "yes; as an eSeal only; nothing in it says that it is an eSeal");
    }

    #[test]
    fn a_number_with_a_wrong_digit_is_named() {
        let leaf = Authority::sandbox().issue(&business_parameters("NTRNO-991825828"), Pair::shared()[0]);
        let said = said(&key(), true, &[leaf], today());
        assert!(said.starts_with("with kid: ") && said.contains("991825828"), "{said}");
    }

    #[test]
    fn a_certificate_alone_says_what_is_known_of_its_key() {
        let root = Authority::sandbox();
        let leaf = root.issue(&business_parameters("NTRNO-991825827"), Pair::shared()[1]);
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
}
