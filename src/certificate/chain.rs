use std::time::SystemTime;

use super::{Certificate, Error};
use crate::jose::RsaPublicKey;

/// More than any public key infrastructure in use has; a longer one is an attempt at something.
const LONGEST: usize = 6;

/// A chain: the leaf first, each certificate's signature verified with the next one's key.
///
/// It may end before a root. The Norwegian authorities know their issuers; for eSeals the whole chain is wanted, and
/// [`missing_issuer`](Self::missing_issuer) says what is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    leaf: Certificate,
    issuers: Vec<Certificate>,
}

impl Chain {
    /// Finds the certificate of `public_key` in `pool` and puts its issuers behind it, as far as they are there.
    ///
    /// Among several certificates of the key the leaf is one that is valid at `at` rather than not, for
    /// authentication rather than for signing, not self-signed, and the newest. An expired leaf is still a leaf:
    /// [`check_validity`](Self::check_validity) is another question. Order and strangers in the pool do not matter.
    ///
    /// # Errors
    /// [`Error::NoMatch`] when no certificate has the key, [`Error::WrongPurpose`] when those that have it are for
    /// encryption or issuing only.
    pub fn assemble(
        public_key: &RsaPublicKey,
        pool: Vec<Certificate>,
        at: SystemTime,
    ) -> Result<Self, Error> {
        let of_the_key = |certificate: &&Certificate| certificate.public_key().as_ref() == Ok(public_key);
        let leaf = most_suitable(pool.iter().filter(of_the_key), at)?.ok_or_else(|| Error::NoMatch {
            key: public_key.thumbprint(),
            subjects: pool.iter().map(|certificate| certificate.subject().to_string()).collect(),
        })?;
        Ok(Self::of(leaf.clone(), &pool, at))
    }

    /// Reads the chain from what stands in a file, as [`Certificate::all_from_file`] reads it.
    ///
    /// Without a key to look for, the leaf is the certificate that issued no other one in the file; among several (a
    /// set for authentication, signing and encryption) the one most suitable for a grant.
    ///
    /// # Errors
    /// Those of [`Certificate::all_from_file`] and [`assemble`](Self::assemble), and [`Error::Ambiguous`] when there is
    /// no key to look for and two leaves are equally suitable.
    pub fn from_file(file: &[u8], public_key: Option<&RsaPublicKey>, at: SystemTime) -> Result<Self, Error> {
        let pool = Certificate::all_from_file(file)?;
        if let Some(public_key) = public_key {
            return Self::assemble(public_key, pool, at);
        }
        let ends: Vec<&Certificate> = pool
            .iter()
            .filter(|one| !pool.iter().any(|other| other != *one && other.is_issued_by(one)))
            .collect();
        let Some(leaf) = most_suitable(ends.iter().copied(), at)? else {
            // Certificates that issued each other: no file of an issuer looks so.
            return Err(Error::Ambiguous { subjects: subjects(&pool) });
        };
        let rivals: Vec<&Certificate> = ends
            .into_iter()
            .filter(|end| {
                end.spki() != leaf.spki() && preference(end, at) >= preference(leaf, at).map(oldest)
            })
            .collect();
        if !rivals.is_empty() {
            return Err(Error::Ambiguous { subjects: subjects(std::iter::once(leaf).chain(rivals)) });
        }
        Ok(Self::of(leaf.clone(), &pool, at))
    }

    /// The chain of `leaf`, whatever its key and purpose, with its issuers from `pool`, as far as they are there.
    #[must_use]
    pub fn of(leaf: Certificate, pool: &[Certificate], at: SystemTime) -> Self {
        Self { leaf, issuers: Vec::new() }.completed_from(pool, at)
    }

    /// The same chain, going on with issuers from `pool` where it ended.
    #[must_use]
    pub fn completed_from(mut self, pool: &[Certificate], at: SystemTime) -> Self {
        while self.len() < LONGEST && !self.last().is_self_signed() {
            let next = pool
                .iter()
                .filter(|candidate| !self.contains(candidate) && self.last().is_issued_by(candidate))
                .max_by_key(|candidate| (candidate.is_valid_at(at), candidate.not_before()));
            let Some(next) = next.cloned() else { break };
            self.issuers.push(next);
        }
        self
    }

    /// The end-entity certificate.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// All certificates, leaf first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.leaf).chain(&self.issuers)
    }

    /// How many certificates there are: at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a chain without a leaf does not exist")]
    pub fn len(&self) -> usize {
        1 + self.issuers.len()
    }

    /// DER of the chain, leaf first; with `root`, a self-signed end goes along.
    #[must_use]
    pub fn to_der(&self, root: bool) -> Vec<Vec<u8>> {
        std::iter::once(&self.leaf)
            .chain(self.issuers.iter().filter(|issuer| root || !issuer.is_self_issued()))
            .map(|certificate| certificate.der().to_vec())
            .collect()
    }

    /// The name of the issuer at which the chain breaks off; `None` when it ends in a root.
    #[must_use]
    pub fn missing_issuer(&self) -> Option<String> {
        let last = self.last();
        (!last.is_self_signed()).then(|| last.issuer().to_string())
    }

    /// Where the missing issuer's certificate is said to be, as it stands.
    #[must_use]
    pub fn missing_issuer_urls(&self) -> &[String] {
        let last = self.last();
        if last.is_self_signed() { &[] } else { last.issuer_urls() }
    }

    /// Checks every certificate against `at` (wall time).
    ///
    /// # Errors
    /// [`Error::NotYetValid`] or [`Error::Expired`] for the first certificate, from the leaf on, that is not valid.
    pub fn check_validity(&self, at: SystemTime) -> Result<(), Error> {
        self.certificates().try_for_each(|certificate| certificate.check_validity(at))
    }

    fn last(&self) -> &Certificate {
        self.issuers.last().unwrap_or(&self.leaf)
    }

    fn contains(&self, candidate: &Certificate) -> bool {
        self.certificates().any(|certificate| certificate == candidate)
    }
}

/// What makes one certificate a better leaf than another, the weightiest first.
type Preference = (bool, u8, bool, SystemTime);

fn preference(certificate: &Certificate, at: SystemTime) -> Option<Preference> {
    let suitability = certificate.purpose().suitability()?;
    Some((certificate.is_valid_at(at), suitability, !certificate.is_self_issued(), certificate.not_before()))
}

/// Age tells two certificates of one key apart; it is no reason to prefer one key to another.
fn oldest((valid, suitability, issued, _): Preference) -> Preference {
    (valid, suitability, issued, SystemTime::UNIX_EPOCH)
}

fn most_suitable<'a>(
    candidates: impl Iterator<Item = &'a Certificate>,
    at: SystemTime,
) -> Result<Option<&'a Certificate>, Error> {
    let mut refused = None;
    let mut best: Option<(Preference, &Certificate)> = None;
    for candidate in candidates {
        match preference(candidate, at) {
            Some(preference) if best.is_none_or(|(so_far, _)| preference > so_far) => {
                best = Some((preference, candidate));
            }
            Some(_) => {}
            None => refused = refused.or(Some(candidate)),
        }
    }
    match (best, refused) {
        (Some((_, certificate)), _) => Ok(Some(certificate)),
        (None, Some(refused)) => {
            Err(Error::WrongPurpose { subject: refused.subject().to_string(), purpose: refused.purpose() })
        }
        (None, None) => Ok(None),
    }
}

fn subjects<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Vec<String> {
    certificates.into_iter().map(|certificate| certificate.subject().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyUsagePurpose};

    use super::*;
    use crate::certificate::{
        Purpose,
        sample::{self, Authority, Pair, days, today},
    };

    fn parameters(name: &str, usage: KeyUsagePurpose) -> CertificateParams {
        let mut params = sample::parameters(name);
        params.key_usages = vec![usage];
        params
    }

    fn authentication(name: &str) -> CertificateParams {
        parameters(name, KeyUsagePurpose::DigitalSignature)
    }

    struct House {
        root: Authority,
        issuing: Authority,
        leaf: Certificate,
    }

    fn house() -> House {
        let root = Authority::root("Fiktiv rot");
        let issuing = root.below("Fiktiv utsteder");
        let leaf = issuing.issue(&authentication("Virksomhet"), Pair::shared()[0]);
        House { root, issuing, leaf }
    }

    fn names(chain: &Chain) -> Vec<&str> {
        chain.certificates().filter_map(Certificate::common_name).collect()
    }

    fn key() -> RsaPublicKey {
        Pair::shared()[0].public_key()
    }

    #[test]
    fn a_chain_is_found_whatever_the_order_and_whoever_else_is_there() {
        let House { root, issuing, leaf } = house();
        let stranger = issuing.issue(&authentication("Fremmed"), Pair::shared()[1]);
        let pool = [root.certificate, stranger, leaf, issuing.certificate];
        for shift in 0..pool.len() {
            let mut turned = pool.to_vec();
            turned.rotate_left(shift);
            let chain = Chain::assemble(&key(), turned, today()).unwrap();
            assert_eq!(names(&chain), ["Virksomhet", "Fiktiv utsteder", "Fiktiv rot"]);
            assert_eq!(chain.missing_issuer(), None);
        }
    }

    #[test]
    fn the_root_goes_along_only_when_it_is_asked_for() {
        let House { root, issuing, leaf } = house();
        let der = [leaf.der().to_vec(), issuing.certificate.der().to_vec(), root.certificate.der().to_vec()];
        let chain =
            Chain::assemble(&key(), vec![leaf, issuing.certificate, root.certificate], today()).unwrap();
        assert_eq!(chain.to_der(true), der);
        assert_eq!(chain.to_der(false), der[..2]);
    }

    #[test]
    fn an_issuer_of_the_same_name_with_another_key_is_passed_over() {
        let House { root, issuing, leaf } = house();
        let decoy = Authority::root("Fiktiv utsteder").certificate;
        let only_decoy = Chain::assemble(&key(), vec![leaf.clone(), decoy.clone()], today()).unwrap();
        assert_eq!(names(&only_decoy), ["Virksomhet"]);
        let pool = vec![decoy, leaf, root.certificate, issuing.certificate];
        assert_eq!(Chain::assemble(&key(), pool, today()).unwrap().len(), 3);
    }

    #[test]
    fn a_chain_that_breaks_off_names_the_issuer_it_lacks_and_can_be_completed() {
        let House { root, issuing, leaf } = house();
        let chain = Chain::assemble(&key(), vec![leaf], today()).unwrap();
        assert_eq!(chain.missing_issuer().unwrap(), "CN=Fiktiv utsteder");
        let chain = chain.completed_from(&[root.certificate, issuing.certificate], today());
        assert_eq!((chain.len(), chain.missing_issuer()), (3, None));
    }

    #[test]
    fn the_leaf_is_valid_before_it_is_for_authentication_before_it_is_new() {
        let House { issuing, .. } = house();
        let issue = |name: &str, usage, from, until| {
            let mut params = parameters(name, usage);
            (params.not_before, params.not_after) = (days(from).into(), days(until).into());
            issuing.issue(&params, Pair::shared()[0])
        };
        use KeyUsagePurpose::{ContentCommitment, DigitalSignature, KeyEncipherment};
        let mut pool = vec![
            issue("encryption", KeyEncipherment, -1, 900),
            issue("expired authentication", DigitalSignature, -900, -2),
            issue("signing", ContentCommitment, -3, 900),
        ];
        let chosen = |pool: &[Certificate]| {
            let chain = Chain::assemble(&key(), pool.to_vec(), today()).unwrap();
            chain.leaf().common_name().unwrap().to_owned()
        };
        assert_eq!(chosen(&pool), "signing");
        pool.push(issue("older authentication", DigitalSignature, -500, 900));
        assert_eq!(chosen(&pool), "older authentication");
        pool.push(issue("newer authentication", DigitalSignature, -400, 900));
        assert_eq!(chosen(&pool), "newer authentication");
        pool.push(issue("future authentication", DigitalSignature, 2, 900));
        assert_eq!(chosen(&pool), "newer authentication");
    }

    #[test]
    fn a_certificate_for_encryption_only_is_refused_with_the_reason() {
        let House { issuing, .. } = house();
        let only = issuing.issue(&parameters("x", KeyUsagePurpose::KeyEncipherment), Pair::shared()[0]);
        let error = Chain::assemble(&key(), vec![only], today()).unwrap_err();
        assert!(matches!(error, Error::WrongPurpose { purpose: Purpose::Encryption, .. }), "{error}");
        assert!(error.to_string().contains("for encryption"), "{error}");
    }

    #[test]
    fn without_a_certificate_of_the_key_those_seen_are_named() {
        let House { leaf, .. } = house();
        let other = Pair::shared()[1].public_key();
        let error = Chain::assemble(&other, vec![leaf], today()).unwrap_err();
        assert_eq!(error, Error::NoMatch { key: other.thumbprint(), subjects: vec!["CN=Virksomhet".into()] });
    }

    #[test]
    fn issuers_that_issued_each_other_make_no_chain_without_end() {
        let (one, other) = (Authority::root("En"), Authority::root("To"));
        let certified = |by: &Authority, of: &Authority, name: &str| {
            let mut params = sample::parameters(name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            by.certify(&params, of.certificate.spki())
        };
        let pool = [certified(&one, &other, "To"), certified(&other, &one, "En")];
        let leaf = one.issue(&authentication("Virksomhet"), Pair::shared()[0]);
        let chain = Chain::of(leaf, &pool, today());
        assert_eq!(names(&chain), ["Virksomhet", "En", "To"]);
        assert!(chain.missing_issuer().is_some());
    }

    #[test]
    fn a_chain_longer_than_any_in_use_is_cut_off() {
        let mut authority = Authority::root("0");
        let mut pool = vec![authority.certificate.clone()];
        for depth in 1..8 {
            authority = authority.below(&depth.to_string());
            pool.push(authority.certificate.clone());
        }
        pool.push(authority.issue(&authentication("Virksomhet"), Pair::shared()[0]));
        assert_eq!(Chain::assemble(&key(), pool, today()).unwrap().len(), LONGEST);
    }

    #[test]
    fn validity_names_the_certificate_and_the_day() {
        let House { issuing, leaf, .. } = house();
        let chain = Chain::assemble(&key(), vec![leaf, issuing.certificate], today()).unwrap();
        chain.check_validity(today()).unwrap();
        let late = chain.check_validity(days(366)).unwrap_err();
        assert_eq!(late.to_string(), "the certificate of CN=Virksomhet expired on 2027-11-21 00:00 UTC");
        let early = chain.check_validity(days(-2)).unwrap_err();
        assert!(early.to_string().ends_with("not valid before 2026-11-20 00:00 UTC"), "{early}");
    }

    #[test]
    fn a_file_names_its_own_leaf_when_no_key_is_at_hand() {
        let House { root, issuing, leaf } = house();
        let signing =
            issuing.issue(&parameters("Signatur", KeyUsagePurpose::ContentCommitment), Pair::shared()[1]);
        let text =
            [&root.certificate, &signing, &issuing.certificate, &leaf].map(Certificate::to_pem).concat();
        for key in [None, Some(&key())] {
            let chain = Chain::from_file(text.as_bytes(), key, today()).unwrap();
            assert_eq!(names(&chain), ["Virksomhet", "Fiktiv utsteder", "Fiktiv rot"]);
        }
    }

    #[test]
    fn a_file_with_two_equal_leaves_is_ambiguous_without_a_key() {
        let House { issuing, leaf, .. } = house();
        let mut newer = authentication("Annen");
        newer.not_before = days(0).into();
        let text = leaf.to_pem() + &issuing.issue(&newer, Pair::shared()[1]).to_pem();
        assert!(matches!(
            Chain::from_file(text.as_bytes(), None, today()),
            Err(Error::Ambiguous { subjects }) if subjects.len() == 2
        ));
        assert!(Chain::from_file(text.as_bytes(), Some(&key()), today()).is_ok());
    }
}
