//! The certificate chain of an `x5c` header: its shape (MP-123), and whether it is an enterprise certificate
//! of the test CA (MP-120).

use std::iter;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use x509_parser::{
    extensions::ParsedExtension,
    prelude::{FromDer, X509Certificate},
    time::ASN1Time,
};

use super::{Refusal, TestCa, ca::TEST_POLICY, organisation, production};
use crate::jose::RsaPublicKey;

/// Longer chains do not exist among the real issuers.
const LONGEST_CHAIN: usize = 8;

/// What a good chain proves.
#[derive(Debug)]
pub(super) struct Certified {
    /// The key that must have signed the grant.
    pub(super) key: RsaPublicKey,
    /// The organisation the certificate belongs to, when its subject names one.
    pub(super) organisation: Option<String>,
    /// Whether the certificate is the signing one of its set: whether that is accepted is a guess.
    pub(super) is_for_signing: bool,
}

/// Reads and verifies `x5c` at `now` (seconds since 1970).
pub(super) fn verify(x5c: &Value, ca: &TestCa, now: u64) -> Result<Certified, Refusal> {
    let chain = read(x5c)?;
    let (leaf, _) = in_order(&chain)?;
    anchor(&leaf, chain.get(1..).unwrap_or_default(), ca)?;
    valid_at(&leaf, now)?;
    let is_for_signing = enterprise(&leaf)?;
    Ok(Certified {
        key: rsa_key(&leaf)?,
        organisation: organisation::number_of(leaf.subject()),
        is_for_signing,
    })
}

/// The leaf of `chain` and what is above it: nothing real, each followed by one that bears its issuer's name, and the
/// leaf issued by another.
pub(super) fn in_order(
    chain: &[Vec<u8>],
) -> Result<(X509Certificate<'_>, Vec<X509Certificate<'_>>), Refusal> {
    refuse_real(chain)?;
    let mut certificates = chain.iter().map(|der| parse(der));
    let leaf = certificates.next().ok_or(Refusal::X5c("it is empty"))??;
    let above = certificates.collect::<Result<Vec<_>, _>>()?;
    for (lower, upper) in iter::once(&leaf).chain(&above).zip(&above) {
        if lower.issuer() != upper.subject() {
            return Err(Refusal::X5c("the certificates are not in order, leaf first"));
        }
    }
    if leaf.issuer() == leaf.subject() {
        return Err(invalid("it is self-signed"));
    }
    Ok((leaf, above))
}

/// What is real has no business here.
fn refuse_real(chain: &[Vec<u8>]) -> Result<(), Refusal> {
    match chain.iter().find_map(|der| production::real_issuer(der)) {
        None => Ok(()),
        Some(issuer) => Err(invalid(&format!(
            "a real certificate of {issuer} was sent to a sandbox, which knows only its own test CA"
        ))),
    }
}

/// The key that Maskinporten would verify grants with.
pub(super) fn rsa_key(leaf: &X509Certificate<'_>) -> Result<RsaPublicKey, Refusal> {
    RsaPublicKey::from_spki(leaf.public_key().raw)
        .ok()
        .filter(|key| key.bits() >= 2048)
        .ok_or_else(|| invalid("its key is not an RSA key of 2048 bits or more"))
}

/// RFC 7515 section 4.1.6: an array of strings, each standard base64 (not base64url) of DER.
pub(super) fn read(x5c: &Value) -> Result<Vec<Vec<u8>>, Refusal> {
    let array = x5c.as_array().ok_or(Refusal::X5c("it is not an array"))?;
    if array.is_empty() {
        return Err(Refusal::X5c("it is empty"));
    }
    if array.len() > LONGEST_CHAIN {
        return Err(Refusal::X5c("it holds too many certificates"));
    }
    array
        .iter()
        .map(|entry| {
            let text = entry.as_str().ok_or(Refusal::X5c("it holds something else than strings"))?;
            STANDARD.decode(text).map_err(|_| Refusal::X5c("it holds something else than standard base64"))
        })
        .collect()
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Refusal::X5c("it holds something else than certificates")),
    }
}

/// The leaf must be the issuing CA's, and whatever was sent along must be the CA's own certificates. The
/// issuing CA is known here, as Digdir's validator knows its intermediates: a leaf alone is enough.
fn anchor(leaf: &X509Certificate<'_>, above: &[Vec<u8>], ca: &TestCa) -> Result<(), Refusal> {
    let untrusted = || invalid("it was not issued by this sandbox's test CA");
    let (_, issuing) = X509Certificate::from_der(ca.issuing()).map_err(|_| untrusted())?;
    if leaf.issuer() != issuing.subject() || leaf.verify_signature(Some(issuing.public_key())).is_err() {
        return Err(untrusted());
    }
    let expected = [ca.issuing(), ca.root()];
    let known = above.iter().zip(expected).all(|(sent, own)| sent == own);
    if known && above.len() <= expected.len() { Ok(()) } else { Err(untrusted()) }
}

pub(super) fn valid_at(leaf: &X509Certificate<'_>, now: u64) -> Result<(), Refusal> {
    let at = i64::try_from(now).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let at = at.ok_or_else(|| invalid("its validity cannot be compared with the clock"))?;
    let validity = leaf.validity();
    if at < validity.not_before {
        return Err(invalid(&format!("it is not valid before {}", validity.not_before)));
    }
    if at > validity.not_after {
        return Err(invalid(&format!("it expired on {}", validity.not_after)));
    }
    Ok(())
}

/// The rules of Digdir's validator, and the choice of the right certificate of the set. True for the signing
/// one.
fn enterprise(leaf: &X509Certificate<'_>) -> Result<bool, Refusal> {
    let understood = ["2.5.29.15", "2.5.29.19"];
    for extension in leaf.extensions() {
        if extension.critical && !understood.contains(&extension.oid.to_id_string().as_str()) {
            return Err(invalid("it has a critical extension that is not key usage or basic constraints"));
        }
    }
    let has_policy = leaf.extensions().iter().any(|extension| match extension.parsed_extension() {
        ParsedExtension::CertificatePolicies(policies) => {
            policies.iter().any(|policy| policy.policy_id.to_id_string() == TEST_POLICY)
        }
        _ => false,
    });
    if !has_policy {
        return Err(invalid("it is not an enterprise certificate (policy)"));
    }
    usable_for_signatures(leaf)
}

/// An end entity's certificate with a critical key usage for signatures. True when it is for those of documents, and not
/// for authentication.
pub(super) fn usable_for_signatures(leaf: &X509Certificate<'_>) -> Result<bool, Refusal> {
    if leaf.is_ca() {
        return Err(invalid("it is a CA's certificate"));
    }
    match leaf.key_usage() {
        Ok(Some(usage)) if usage.critical && usage.value.digital_signature() => Ok(false),
        Ok(Some(usage)) if usage.critical && usage.value.non_repudiation() => Ok(true),
        Ok(Some(usage)) if usage.critical => Err(invalid("it is for encryption, not for authentication")),
        _ => Err(invalid("it has no critical key usage")),
    }
}

pub(super) fn invalid(detail: &str) -> Refusal {
    Refusal::Certificate(detail.into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rcgen::{CertificateParams, KeyPair, PublicKeyData, RsaKeySize};

    use super::*;
    use crate::{
        clock::ManualClock,
        sandbox::{Profile, ca::rsa_key},
    };

    const ORGNO: &str = "312700018";
    const NOW: u64 = 1_800_000_000;

    fn ca() -> TestCa {
        TestCa::ephemeral().unwrap().with_clock(ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW)))
    }

    fn x5c(chain: &[Vec<u8>]) -> Value {
        chain.iter().map(|der| STANDARD.encode(der)).collect()
    }

    fn reason(x5c: &Value, ca: &TestCa) -> String {
        match verify(x5c, ca, NOW).unwrap_err() {
            Refusal::Certificate(detail) => format!("MP-120 {detail}"),
            Refusal::X5c(detail) => format!("MP-123 {detail}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn leaf_alone_and_whole_chain_prove_key_and_organisation() {
        let (ca, key) = (ca(), rsa_key(RsaKeySize::_2048).unwrap());
        let spki = key.subject_public_key_info();
        for profile in [Profile::Seid2, Profile::Seid1] {
            let issued = ca.issue_for(&spki, ORGNO, profile).unwrap();
            let whole = [issued.leaf.clone(), issued.issuing.clone(), issued.root.clone()];
            for chain in [&whole[..1], &whole[..2], &whole[..]] {
                let certified = verify(&x5c(chain), &ca, NOW).unwrap();
                assert_eq!(certified.key, RsaPublicKey::from_spki(&spki).unwrap());
                assert_eq!(certified.organisation.as_deref(), Some(ORGNO));
                assert!(!certified.is_for_signing);
            }
        }
        let signing = ca.issue_for(&spki, ORGNO, Profile::Signing).unwrap();
        assert!(verify(&x5c(&signing.chain()), &ca, NOW).unwrap().is_for_signing);
        let foreign = ca.issue_for(&spki, ORGNO, Profile::Foreign).unwrap();
        assert_eq!(verify(&x5c(&foreign.chain()), &ca, NOW).unwrap().organisation, None);
    }

    #[test]
    fn certificates_that_are_not_for_authentication_now_are_refused() {
        let (ca, key) = (ca(), rsa_key(RsaKeySize::_2048).unwrap());
        let spki = key.subject_public_key_info();
        for (profile, expected) in [
            (Profile::Expired, "MP-120 it expired on "),
            (Profile::NotYetValid, "MP-120 it is not valid before "),
            (Profile::Encryption, "MP-120 it is for encryption"),
        ] {
            let issued = ca.issue_for(&spki, ORGNO, profile).unwrap();
            let reason = reason(&x5c(&issued.chain()), &ca);
            assert!(reason.starts_with(expected), "{reason}");
        }
    }

    #[test]
    fn chains_that_do_not_end_at_the_test_ca_are_refused() {
        let (ca, other, key) = (ca(), TestCa::ephemeral().unwrap(), rsa_key(RsaKeySize::_2048).unwrap());
        let foreign = other.issue_for(&key.subject_public_key_info(), ORGNO, Profile::Seid2).unwrap();
        assert!(reason(&x5c(&foreign.chain()), &ca).starts_with("MP-120 it was not issued by"));
        let own = ca.issue_for(&key.subject_public_key_info(), ORGNO, Profile::Seid2).unwrap();
        let mixed = [own.leaf.clone(), foreign.issuing];
        assert!(reason(&x5c(&mixed), &ca).starts_with("MP-120 it was not issued by"));
        let reversed = [own.issuing.clone(), own.leaf.clone()];
        assert!(reason(&x5c(&reversed), &ca).starts_with("MP-123 the certificates are not in order"));
        assert!(reason(&x5c(&[own.issuing]), &ca).starts_with("MP-120 it was not issued by"));
        let self_signed = CertificateParams::default().self_signed(&key).unwrap();
        assert!(reason(&x5c(&[self_signed.der().to_vec()]), &ca).starts_with("MP-120 it is self-signed"));
    }

    #[test]
    fn a_real_certificate_is_named_as_such() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Buypass Class 3 CA G2 ST Business");
        let real = params.self_signed(&key).unwrap();
        assert!(
            reason(&x5c(&[real.der().to_vec()]), &ca()).starts_with("MP-120 a real certificate of Buypass")
        );
    }

    #[test]
    fn what_is_no_array_of_base64_certificates_is_refused() {
        let (ca, key) = (ca(), rsa_key(RsaKeySize::_2048).unwrap());
        let issued = ca.issue_for(&key.subject_public_key_info(), ORGNO, Profile::Seid2).unwrap();
        let good = STANDARD.encode(&issued.leaf);
        let urlsafe =
            base64::engine::general_purpose::URL_SAFE.encode([&issued.leaf[..], &[0xff; 9]].concat());
        for odd in [
            serde_json::json!(good),
            serde_json::json!([]),
            serde_json::json!([[good]]),
            serde_json::json!([urlsafe]),
            serde_json::json!([issued.leaf_pem()]),
            serde_json::json!([format!("{good}\n")]),
            serde_json::json!(["AAAA"]),
            serde_json::json!(vec![good.clone(); 9]),
        ] {
            assert!(reason(&odd, &ca).starts_with("MP-123"), "{odd}");
        }
    }
}
