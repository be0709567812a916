//! Which key belongs to which certificate. The public key decides; `CKA_ID` is asked only where there is none to see,
//! since labels and ids are written by whoever set the device up, and some devices give one id to a certificate and
//! its look-alike.

use std::collections::HashMap;

use super::{CertificateDescription, KeyDescription};
use crate::{certificate::Certificate, jose::RsaPublicKey};

/// Puts the halves of key pairs together, and certificates to their keys; what stays alone is returned beside them.
pub(super) fn pair(
    halves: Vec<KeyDescription>,
    certificates: Vec<CertificateDescription>,
) -> (Vec<KeyDescription>, Vec<CertificateDescription>) {
    let (mut keys, publics): (Vec<_>, Vec<_>) = halves.into_iter().partition(|half| half.private);
    join_publics(&mut keys, publics);
    let lone = join_certificates(&mut keys, certificates);
    (keys, lone)
}

fn join_publics(keys: &mut Vec<KeyDescription>, publics: Vec<KeyDescription>) {
    let privates = Owners::of(keys);
    let mut alone = Vec::new();
    for public in publics {
        match public.spki.as_deref().and_then(|spki| privates.of_key(spki, &public.id)) {
            Some(its) => mark(keys, its, |key| key.public = true),
            None => alone.push(public),
        }
    }
    // Several public keys of one id say nothing about which of them is meant.
    let mut by_id: HashMap<(String, String), Vec<usize>> = HashMap::new();
    for (index, public) in alone.iter().enumerate().filter(|(_, public)| !public.id.is_empty()) {
        by_id.entry((public.key_type.clone(), public.id.clone())).or_default().push(index);
    }
    let mut taken = vec![false; alone.len()];
    for key in keys.iter_mut() {
        let Some(&[index]) = by_id.get(&(key.key_type.clone(), key.id.clone())).map(Vec::as_slice) else {
            continue;
        };
        let (Some(public), Some(taken)) = (alone.get(index), taken.get_mut(index)) else { continue };
        if key.spki.is_none() || public.spki.is_none() {
            key.public = true;
            key.bits = key.bits.or(public.bits);
            key.spki = key.spki.take().or_else(|| public.spki.clone());
            *taken = true;
        }
    }
    keys.extend(alone.into_iter().zip(taken).filter(|(_, taken)| !taken).map(|(public, _)| public));
}

/// Gives each certificate to its key and returns those that have none.
fn join_certificates(
    keys: &mut [KeyDescription],
    certificates: Vec<CertificateDescription>,
) -> Vec<CertificateDescription> {
    let owners = Owners::of(keys);
    let mut alone = Vec::new();
    for certificate in certificates {
        let spki = certified(&certificate);
        match spki.as_deref().and_then(|spki| owners.of_key(spki, &certificate.id)) {
            Some(its) => mark(keys, its, |key| key.certificates.push(certificate.clone())),
            None => alone.push((certificate, spki)),
        }
    }
    let mut by_id: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, (certificate, _)) in alone.iter().enumerate().filter(|(_, (it, _))| !it.id.is_empty()) {
        by_id.entry(certificate.id.clone()).or_default().push(index);
    }
    let mut taken = vec![false; alone.len()];
    for key in keys.iter_mut() {
        let beside = by_id.get(&key.id).map(Vec::as_slice).unwrap_or_default();
        let candidates: Vec<_> =
            beside.iter().filter_map(|index| Some((*index, alone.get(*index)?))).collect();
        for index in of_hidden_key(key, &candidates) {
            if let (Some((certificate, _)), Some(taken)) = (alone.get(index), taken.get_mut(index)) {
                key.certificates.push(certificate.clone());
                *taken = true;
            }
        }
    }
    alone
        .into_iter()
        .zip(taken)
        .filter(|(_, taken)| !taken)
        .map(|((certificate, _), _)| certificate)
        .collect()
}

type Alone = (CertificateDescription, Option<Vec<u8>>);

/// Which of the certificates with the id of `key` are its own, where one of the two shows no public key. A key that
/// shows none takes it from them, if they agree on it.
fn of_hidden_key(key: &mut KeyDescription, beside: &[(usize, &Alone)]) -> Vec<usize> {
    if key.spki.is_some() {
        // These certify other keys, or nobody can say which.
        return beside.iter().filter(|(_, (_, spki))| spki.is_none()).map(|(index, _)| *index).collect();
    }
    let is_rsa = |spki: &[u8]| RsaPublicKey::from_spki(spki).is_ok();
    let fitting: Vec<_> = beside
        .iter()
        .filter(|(_, (_, spki))| spki.as_deref().is_none_or(|spki| is_rsa(spki) == (key.key_type == "RSA")))
        .collect();
    let mut certified: Vec<&[u8]> = fitting.iter().filter_map(|(_, (_, spki))| spki.as_deref()).collect();
    certified.sort_unstable();
    certified.dedup();
    match certified[..] {
        [] | [_] => {}
        // Certificates of several keys under one id: any choice might be the look-alike's.
        _ => return Vec::new(),
    }
    if let [spki] = certified[..]
        && let Ok(public_key) = RsaPublicKey::from_spki(spki)
    {
        key.bits = Some(public_key.bits());
        key.spki = Some(spki.to_vec());
    }
    fitting.iter().map(|(index, _)| *index).collect()
}

/// Positions of the keys that show a public key.
struct Owners {
    by_public_key: HashMap<Vec<u8>, Vec<usize>>,
    by_both: HashMap<(Vec<u8>, String), Vec<usize>>,
}

impl Owners {
    fn of(keys: &[KeyDescription]) -> Self {
        let mut owners = Self { by_public_key: HashMap::new(), by_both: HashMap::new() };
        for (index, key) in keys.iter().enumerate() {
            if let Some(spki) = &key.spki {
                let spki = normal(spki);
                owners.by_public_key.entry(spki.clone()).or_default().push(index);
                owners.by_both.entry((spki, key.id.clone())).or_default().push(index);
            }
        }
        owners
    }

    /// Those with this public key; where a key is on the device twice, those with this id if there are any.
    fn of_key(&self, spki: &[u8], id: &str) -> Option<&[usize]> {
        let spki = normal(spki);
        let by_public_key = self.by_public_key.get(&spki)?;
        Some(self.by_both.get(&(spki, id.to_owned())).unwrap_or(by_public_key))
    }
}

/// The same bytes for the same key, however it was written.
fn normal(spki: &[u8]) -> Vec<u8> {
    let rewritten = RsaPublicKey::from_spki(spki).and_then(|key| key.to_spki());
    rewritten.unwrap_or_else(|_| spki.to_vec())
}

fn certified(certificate: &CertificateDescription) -> Option<Vec<u8>> {
    Certificate::from_der(&certificate.der).ok().map(|certificate| certificate.spki().to_vec())
}

fn mark(keys: &mut [KeyDescription], positions: &[usize], mut change: impl FnMut(&mut KeyDescription)) {
    for position in positions {
        if let Some(key) = keys.get_mut(*position) {
            change(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::certificate::sample::{Authority, Pair, parameters};

    fn spki(pair: usize) -> Vec<u8> {
        Pair::shared()[pair].public_key().to_spki().unwrap()
    }

    fn half(id: &str, pair: Option<usize>, private: bool) -> KeyDescription {
        KeyDescription {
            uri: "pkcs11:token=a".parse().unwrap(),
            label: format!("{id}{pair:?}"),
            id: id.into(),
            key_type: "RSA".into(),
            bits: pair.map(|_| 2048),
            spki: pair.map(spki),
            private,
            public: !private,
            signs: None,
            sensitive: None,
            extractable: None,
            always_authenticate: None,
            attributes: Vec::new(),
            certificates: Vec::new(),
        }
    }

    fn certificate(id: &str, label: &str, pair: usize) -> CertificateDescription {
        let issued = Authority::root("Rot").issue(&parameters(label), Pair::shared()[pair]);
        CertificateDescription {
            uri: "pkcs11:token=a".parse().unwrap(),
            label: label.into(),
            id: id.into(),
            der: issued.der().to_vec(),
        }
    }

    fn labels(certificates: &[CertificateDescription]) -> Vec<&str> {
        certificates.iter().map(|certificate| certificate.label.as_str()).collect()
    }

    #[test]
    fn a_certificate_goes_to_the_key_that_it_certifies_whatever_its_id_says() {
        let (keys, lone) = pair(
            vec![half("01", Some(0), true), half("02", Some(1), true)],
            vec![certificate("02", "of the first", 0), certificate("", "of the second", 1)],
        );
        assert_eq!(labels(&keys[0].certificates), ["of the first"]);
        assert_eq!(labels(&keys[1].certificates), ["of the second"]);
        assert!(lone.is_empty());
    }

    #[test]
    fn a_look_alike_with_the_id_of_the_key_stays_alone() {
        let (keys, lone) = pair(
            vec![half("01", Some(0), true)],
            vec![certificate("01", "look-alike", 1), certificate("01", "real", 0)],
        );
        assert_eq!(labels(&keys[0].certificates), ["real"]);
        assert_eq!(labels(&lone), ["look-alike"]);
    }

    #[test]
    fn a_key_that_shows_no_public_half_takes_it_from_the_certificate_with_its_id() {
        let (keys, lone) = pair(
            vec![half("01", None, true)],
            vec![certificate("01", "its own", 0), certificate("02", "other", 1)],
        );
        assert_eq!(labels(&keys[0].certificates), ["its own"]);
        assert_eq!((keys[0].spki.clone(), keys[0].bits), (Some(spki(0)), Some(2048)));
        assert_eq!(labels(&lone), ["other"]);
    }

    #[test]
    fn where_certificates_of_two_keys_share_the_id_of_a_hidden_one_nobody_guesses() {
        let beside = vec![certificate("01", "real", 0), certificate("01", "look-alike", 1)];
        let (keys, lone) = pair(vec![half("01", None, true)], beside.clone());
        assert!(keys[0].certificates.is_empty() && keys[0].spki.is_none());
        assert_eq!(labels(&lone), ["real", "look-alike"]);
        // One of them is another key's for certain: the choice is made.
        let (keys, lone) = pair(vec![half("01", None, true), half("02", Some(1), true)], beside);
        assert_eq!(labels(&keys[0].certificates), ["real"]);
        assert_eq!(labels(&keys[1].certificates), ["look-alike"]);
        assert!(lone.is_empty());
    }

    #[test]
    fn an_rsa_certificate_is_none_of_a_key_of_another_type() {
        let hidden = KeyDescription { key_type: "EC".into(), ..half("01", None, true) };
        let (keys, lone) = pair(vec![hidden], vec![certificate("01", "rsa", 0)]);
        assert!(keys[0].certificates.is_empty());
        assert_eq!(labels(&lone), ["rsa"]);
    }

    #[test]
    fn what_cannot_be_read_goes_by_its_id() {
        let broken =
            CertificateDescription { der: b"no certificate".to_vec(), ..certificate("01", "broken", 0) };
        let (keys, lone) = pair(vec![half("01", Some(0), true)], vec![broken.clone()]);
        assert_eq!(labels(&keys[0].certificates), ["broken"]);
        assert!(lone.is_empty());
        let (_, lone) = pair(vec![half("02", Some(0), true)], vec![broken]);
        assert_eq!(labels(&lone), ["broken"]);
    }

    #[test]
    fn halves_of_one_pair_become_one_key() {
        let (keys, _) = pair(
            vec![
                half("01", Some(0), false),
                half("01", Some(1), false),
                half("01", Some(0), true),
                half("02", None, true),
                half("02", Some(1), false),
            ],
            Vec::new(),
        );
        let [first, second, third] = &keys[..] else { panic!("{keys:?}") };
        assert!(first.private && first.public && first.spki == Some(spki(0)));
        assert!(second.private && second.public && second.spki == Some(spki(1)) && second.bits == Some(2048));
        // Its private half has another public key than the one of that id.
        assert!(!third.private && third.id == "01" && third.spki == Some(spki(1)));
    }

    #[test]
    fn where_a_key_is_there_twice_the_id_says_which_of_them_a_certificate_is_beside() {
        let (keys, lone) = pair(
            vec![half("01", Some(0), true), half("02", Some(0), true)],
            vec![certificate("02", "of the second", 0), certificate("03", "of both", 0)],
        );
        assert_eq!(labels(&keys[0].certificates), ["of both"]);
        assert_eq!(labels(&keys[1].certificates), ["of the second", "of both"]);
        assert!(lone.is_empty());
    }

    #[test]
    fn keys_without_an_id_are_not_taken_for_one() {
        let (keys, _) = pair(vec![half("", None, true), half("", Some(0), false)], Vec::new());
        assert_eq!(keys.len(), 2);
    }

    proptest! {
        #[test]
        fn no_certificate_is_lost_doubled_or_given_to_another_key(
            halves in proptest::collection::vec(("0[1-3]?", proptest::option::of(0..2_usize), any::<bool>()), 0..6),
            certificates in proptest::collection::vec(("0[1-3]?", 0..2_usize), 0..6),
        ) {
            // Signing certificates takes long: one for each key, under the ids of this case.
            static ISSUED: std::sync::OnceLock<[CertificateDescription; 2]> = std::sync::OnceLock::new();
            let issued = ISSUED.get_or_init(|| [certificate("", "0", 0), certificate("", "1", 1)]);
            let certificates: Vec<_> = certificates
                .into_iter()
                .enumerate()
                .map(|(number, (id, pair))| {
                    let label = number.to_string();
                    CertificateDescription { id, label, ..issued[pair].clone() }
                })
                .collect();
            let halves: Vec<_> =
                halves.into_iter().map(|(id, pair, private)| half(&id, pair, private)).collect();
            let privates = halves.iter().filter(|half| half.private).count();
            let (keys, lone) = pair(halves, certificates.clone());
            prop_assert_eq!(keys.iter().filter(|key| key.private).count(), privates);
            for key in &keys {
                for its in &key.certificates {
                    prop_assert_eq!(certified(its), key.spki.clone());
                }
            }
            for certificate in &certificates {
                let owners = keys.iter().filter(|key| key.certificates.contains(certificate)).count();
                prop_assert!((owners == 0) == lone.contains(certificate));
            }
        }
    }
}
