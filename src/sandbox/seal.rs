//! European eSeals: the chain of an `x5c` header up to an issuer on a trusted list, and who the holder is.
//!
//! Digdir describes the way ("European eSeals") and publishes no error codes of its own for it; those here are guesses.

use std::iter;

use serde_json::{Map, Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Refusal,
    chain::{in_order, invalid, parse, read, rsa_key, usable_for_signatures, valid_at},
    knobs::{EsealSpelling, Knobs},
    organisation, qc_statements,
};
use crate::jose::RsaPublicKey;

/// What a good seal proves.
#[derive(Debug)]
pub(super) struct Sealed {
    /// The key that must have signed the grant.
    pub(super) key: RsaPublicKey,
    /// `eidas-` and the certificate's serial number.
    pub(super) client_id: String,
    pub(super) client_amr: &'static str,
    /// The `consumer` of the token.
    pub(super) consumer: Value,
    pub(super) guesses: Vec<&'static str>,
}

/// Whether the first certificate of `x5c` says to be from an issuer in `trusted`: whoever sends such a one means it as a
/// seal, whatever else is wrong with it.
pub(super) fn is_claimed(x5c: &Value, trusted: &[Vec<u8>]) -> bool {
    let Ok(chain) = read(x5c) else { return false };
    let Some(Ok(leaf)) = chain.first().map(|der| parse(der)) else { return false };
    trusted
        .iter()
        .any(|der| X509Certificate::from_der(der).is_ok_and(|(_, issuer)| issuer.subject() == leaf.issuer()))
}

/// Reads and verifies `x5c` at `now` (seconds since 1970) against the certificates of `trusted` issuers, DER. National
/// trusted lists name issuing CAs, not companies.
pub(super) fn verify(x5c: &Value, trusted: &[Vec<u8>], knobs: &Knobs, now: u64) -> Result<Sealed, Refusal> {
    let chain = read(x5c)?;
    let (leaf, above) = in_order(&chain)?;
    let Some(last) = above.last() else {
        return Err(Refusal::SealChain("the seal was sent alone, without the chain above it"));
    };
    let whole = || iter::once(&leaf).chain(&above);
    for (lower, upper) in whole().zip(&above) {
        if !upper.is_ca() || lower.verify_signature(Some(upper.public_key())).is_err() {
            return Err(invalid("a certificate of the chain was not issued by the one behind it"));
        }
    }
    let is_trusted = |der: &Vec<u8>| trusted.contains(der);
    if !chain.iter().skip(1).any(is_trusted) {
        return Err(Refusal::SealIssuer);
    }
    let has_root = last.issuer() == last.subject();
    if !has_root && !chain.last().is_some_and(is_trusted) {
        return Err(Refusal::SealChain("the chain breaks off before its root"));
    }
    for certificate in whole() {
        valid_at(certificate, now)?;
    }
    usable_for_signatures(&leaf)?;
    let identifier = text(&leaf, "2.5.4.97").ok_or(Refusal::SealIdentifier("it is missing"))?;
    if !organisation::is_identifier(&identifier) {
        return Err(Refusal::SealIdentifier("it is not of the form VATSE-556012345601"));
    }
    let mut guesses = vec!["client_id, consumer and client_amr of an eSeal"];
    if !has_root {
        guesses.push("chain without its root accepted");
    }
    if identifier.starts_with("NTRNO-") {
        guesses.push("eSeal of a Norwegian organisation accepted");
    }
    let (client_amr, authority) = spelling(is_qualified(&leaf), knobs.eseal_spelling);
    Ok(Sealed {
        key: rsa_key(&leaf)?,
        client_id: format!("eidas-{}", leaf.serial),
        client_amr,
        consumer: consumer(&leaf, authority, &identifier),
        guesses,
    })
}

/// `client_amr` and authority. Digdir's page spells both in two ways, in its prose and in its example.
fn spelling(is_qualified: bool, spelling: EsealSpelling) -> (&'static str, &'static str) {
    match (spelling, is_qualified) {
        (EsealSpelling::Prose, true) => ("QRForeSeals", "etsi_en_119_612"),
        (EsealSpelling::Prose, false) => ("CForeSeals", "etsi_en_119_612"),
        (EsealSpelling::Example, true) => ("QCForESeal", "etsi-en-319-412"),
        (EsealSpelling::Example, false) => ("CForESeal", "etsi-en-319-412"),
    }
}

fn consumer(leaf: &X509Certificate<'_>, authority: &str, identifier: &str) -> Value {
    let mut consumer =
        Map::from_iter([("authority".to_owned(), json!(authority)), ("ID".to_owned(), json!(identifier))]);
    for (name, oid) in [
        ("commonName", "2.5.4.3"),
        ("organizationName", "2.5.4.10"),
        ("organizationalUnitName", "2.5.4.11"),
        ("countryName", "2.5.4.6"),
    ] {
        consumer.extend(text(leaf, oid).map(|value| (name.to_owned(), value.into())));
    }
    consumer.into()
}

fn text(certificate: &X509Certificate<'_>, oid: &str) -> Option<String> {
    let mut attributes = certificate.subject().iter_attributes();
    attributes.find(|found| found.attr_type().to_id_string() == oid)?.as_str().ok().map(str::to_owned)
}

fn is_qualified(leaf: &X509Certificate<'_>) -> bool {
    let statements = qc_statements::EXTENSION.map(|part| part.to_string()).join(".");
    let found = leaf.extensions().iter().find(|extension| extension.oid.to_id_string() == statements);
    found.is_some_and(|extension| qc_statements::is_qualified_seal(extension.value))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use base64::{Engine, engine::general_purpose::STANDARD};
    use rcgen::{PublicKeyData, RsaKeySize};

    use super::*;
    use crate::{
        clock::ManualClock,
        sandbox::{Clients, Profile, TestCa, ca::rsa_key as new_key},
    };

    const NOW: u64 = 1_800_000_000;

    struct House {
        ca: TestCa,
        spki: Vec<u8>,
    }

    impl House {
        fn new() -> Self {
            let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW));
            Self {
                ca: TestCa::ephemeral().unwrap().with_clock(clock),
                spki: new_key(RsaKeySize::_2048).unwrap().subject_public_key_info(),
            }
        }

        fn chain(&self, profile: Profile) -> [Vec<u8>; 3] {
            let issued = self.ca.issue_for(&self.spki, Clients::ORGANISATION, profile).unwrap();
            [issued.leaf, issued.issuing, issued.root]
        }

        fn verify(&self, chain: &[Vec<u8>]) -> Result<Sealed, Refusal> {
            self.verify_with(chain, &Knobs::default())
        }

        fn verify_with(&self, chain: &[Vec<u8>], knobs: &Knobs) -> Result<Sealed, Refusal> {
            verify(&x5c(chain), &[self.ca.seal_issuing().to_vec()], knobs, NOW)
        }
    }

    fn x5c(chain: &[Vec<u8>]) -> Value {
        chain.iter().map(|der| STANDARD.encode(der)).collect()
    }

    #[test]
    fn a_whole_chain_proves_key_holder_and_kind() {
        let house = House::new();
        let sealed = house.verify(&house.chain(Profile::Seal)).unwrap();
        assert_eq!(sealed.key, RsaPublicKey::from_spki(&house.spki).unwrap());
        assert_eq!(
            sealed.consumer,
            json!({
                "authority": "etsi-en-319-412",
                "ID": Clients::FOREIGN_ORGANISATION,
                "commonName": "SEGL SANDBOX TEST",
                "organizationName": "SEGL SANDBOX TEST",
                "countryName": "SE",
            })
        );
        assert!(sealed.client_id.strip_prefix("eidas-").unwrap().bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(sealed.client_amr, "QCForESeal");
        assert_eq!(house.verify(&house.chain(Profile::SealAdvanced)).unwrap().client_amr, "CForESeal");
        let norwegian = house.verify(&house.chain(Profile::SealNorwegian)).unwrap();
        assert_eq!(norwegian.consumer["ID"], format!("NTRNO-{}", Clients::ORGANISATION));
        assert!(norwegian.guesses.contains(&"eSeal of a Norwegian organisation accepted"));
    }

    #[test]
    fn the_other_spelling_is_that_of_the_prose() {
        let house = House::new();
        let prose = Knobs { eseal_spelling: EsealSpelling::Prose, ..Knobs::default() };
        for (profile, amr) in [(Profile::Seal, "QRForeSeals"), (Profile::SealAdvanced, "CForeSeals")] {
            let sealed = house.verify_with(&house.chain(profile), &prose).unwrap();
            assert_eq!((sealed.client_amr, &sealed.consumer["authority"]), (amr, &json!("etsi_en_119_612")));
        }
    }

    #[test]
    fn chains_that_are_not_whole_in_order_and_trusted_are_refused() {
        let house = House::new();
        let [leaf, issuing, root] = house.chain(Profile::Seal);
        let alone = house.verify(std::slice::from_ref(&leaf)).unwrap_err();
        assert!(matches!(alone, Refusal::SealChain(_)), "{alone:?}");
        let without_root = house.verify(&[leaf.clone(), issuing.clone()]).unwrap();
        assert!(without_root.guesses.contains(&"chain without its root accepted"));
        let root_is_listed = verify(
            &x5c(&[leaf.clone(), issuing.clone()]),
            std::slice::from_ref(&root),
            &Knobs::default(),
            NOW,
        );
        assert_eq!(root_is_listed.unwrap_err(), Refusal::SealIssuer);
        let jumbled = house.verify(&[leaf.clone(), root.clone(), issuing.clone()]).unwrap_err();
        assert!(matches!(jumbled, Refusal::X5c(_)), "{jumbled:?}");

        let stranger = House::new();
        assert_eq!(house.verify(&stranger.chain(Profile::Seal)).unwrap_err(), Refusal::SealIssuer);
        // A trusted issuer that has nothing to do with the leaf, of the name of the one that has.
        let [other, ..] = stranger.chain(Profile::Seal);
        let borrowed = house.verify(&[other, issuing, root]).unwrap_err();
        assert!(matches!(borrowed, Refusal::Certificate(_)), "{borrowed:?}");
    }

    #[test]
    fn seals_that_name_nobody_or_have_ended_are_refused() {
        let house = House::new();
        let nameless = house.verify(&house.chain(Profile::SealNameless)).unwrap_err();
        assert_eq!(nameless, Refusal::SealIdentifier("it is missing"));
        let ended = house.verify(&house.chain(Profile::SealExpired)).unwrap_err();
        assert!(matches!(&ended, Refusal::Certificate(why) if why.starts_with("it expired")), "{ended:?}");
    }

    #[test]
    fn a_seal_is_known_by_the_issuer_that_it_names() {
        let house = House::new();
        let trusted = [house.ca.seal_issuing().to_vec()];
        assert!(is_claimed(&x5c(&house.chain(Profile::Seal)[..1]), &trusted));
        assert!(!is_claimed(&x5c(&house.chain(Profile::Seid2)), &trusted));
        assert!(!is_claimed(&json!("x"), &trusted));
    }
}
