use std::{cmp::Reverse, time::SystemTime};

use super::{Certificate, Chain, Judgement, Purpose};

/// Certificates that came together, as a set for authentication, signing and encryption with their issuers, each judged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateSet {
    /// Those of organisations, persons and servers with the chain that goes with each, in their order. Where there are
    /// only issuers, the lowest of them.
    pub members: Vec<Member>,
    /// The place among [`members`](Self::members) of the one for Maskinporten; without one, of the one that comes nearest.
    /// `None` when there is no certificate at all.
    pub best: Option<usize>,
}

/// A certificate of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// It, with its issuers as far as they are there.
    pub chain: Chain,
    /// What is to be said of it.
    pub judgement: Judgement,
}

impl CertificateSet {
    /// Judges `certificates` at `at` (wall time), with issuers from among them and from `issuers`.
    #[must_use]
    pub fn judge(certificates: &[Certificate], issuers: &[Certificate], at: SystemTime) -> Self {
        let pool: Vec<Certificate> = certificates.iter().chain(issuers).cloned().collect();
        let is_issuer = |it: &Certificate| it.is_ca() || it.purpose() == Purpose::Issuing;
        let mut own: Vec<&Certificate> = certificates.iter().filter(|it| !is_issuer(it)).collect();
        if own.is_empty() {
            let is_end =
                |one: &&Certificate| !certificates.iter().any(|it| it != *one && it.is_issued_by(one));
            own = certificates.iter().filter(is_end).collect();
        }
        if own.is_empty() {
            // Issuers that issued each other.
            own = certificates.iter().take(1).collect();
        }
        let members: Vec<Member> = own
            .into_iter()
            .map(|leaf| {
                let chain = Chain::of(leaf.clone(), &pool, at);
                Member { judgement: chain.judge(at), chain }
            })
            .collect();
        let best = members
            .iter()
            .enumerate()
            .max_by_key(|(place, member)| (member.worth(), Reverse(*place)))
            .map(|(place, _)| place);
        Self { members, best }
    }

    /// The one for Maskinporten; without one, the one that comes nearest. `None` when there is no certificate at all.
    #[must_use]
    pub fn best(&self) -> Option<&Member> {
        self.members.get(self.best?)
    }

    /// The one for Maskinporten; `None` when it takes none of them.
    #[must_use]
    pub fn chosen(&self) -> Option<&Member> {
        self.best().filter(|best| best.judgement.way().is_some())
    }
}

impl Member {
    /// What makes one certificate better for Maskinporten than another, the weightiest first.
    fn worth(&self) -> impl Ord + use<> {
        let leaf = self.chain.leaf();
        let fitness = self.judgement.fitness();
        (
            // Nothing in the way: it works, and goes before whatever does not.
            Reverse(fitness.obstacles.len()),
            leaf.purpose().suitability(),
            Reverse(fitness.cautions.len()),
            leaf.not_before(),
        )
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{DnType, KeyUsagePurpose};

    use super::*;
    use crate::certificate::sample::{Authority, Pair, days, parameters, today};

    fn issued(authority: &Authority, usage: KeyUsagePurpose, from: i64) -> Certificate {
        let mut params = parameters("Testvirksomhet");
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), "VATSE-556012345601");
        params.key_usages = vec![usage];
        params.not_before = days(from).into();
        authority.issue(&params, Pair::shared()[0])
    }

    #[test]
    fn of_a_set_the_certificate_for_authentication_is_the_one_wherever_it_stands() {
        use KeyUsagePurpose::{ContentCommitment, DigitalSignature, KeyEncipherment};
        let root = Authority::root("Rot");
        let set =
            [KeyEncipherment, DigitalSignature, ContentCommitment].map(|usage| issued(&root, usage, -2));
        for shift in 0..3 {
            let mut file = set.to_vec();
            file.rotate_left(shift);
            file.insert(shift, root.certificate.clone());
            let judged = CertificateSet::judge(&file, &[], today());
            assert_eq!(judged.members.len(), 3);
            assert_eq!(judged.chosen().unwrap().chain.leaf().purpose(), Purpose::Authentication);
        }
        let encryption = CertificateSet::judge(&set[..1], std::slice::from_ref(&root.certificate), today());
        assert_eq!((encryption.chosen(), encryption.best().unwrap().chain.len()), (None, 2));
    }

    #[test]
    fn of_two_that_work_the_newer_is_the_one() {
        let root = Authority::root("Rot");
        let pair = [-3, -2].map(|from| issued(&root, KeyUsagePurpose::DigitalSignature, from));
        let judged = CertificateSet::judge(&pair, std::slice::from_ref(&root.certificate), today());
        assert_eq!(judged.chosen().unwrap().chain.leaf(), &pair[1]);
    }

    #[test]
    fn one_that_works_goes_before_a_newer_one_with_something_in_its_way() {
        let root = Authority::root("Rot");
        let works = issued(&root, KeyUsagePurpose::ContentCommitment, -9);
        let does_not = issued(&root, KeyUsagePurpose::KeyEncipherment, -2);
        let judged = CertificateSet::judge(&[does_not, works.clone()], &[root.certificate], today());
        assert_eq!((judged.best, judged.chosen().map(|it| it.chain.leaf())), (Some(1), Some(&works)));
    }

    #[test]
    fn among_issuers_the_lowest_is_looked_at() {
        let root = Authority::root("Rot");
        let issuing = root.below("Utsteder").certificate;
        let judged = CertificateSet::judge(&[root.certificate, issuing.clone()], &[], today());
        assert_eq!((judged.members.len(), judged.chosen()), (1, None));
        assert_eq!(judged.best().unwrap().chain.leaf(), &issuing);
        assert_eq!(CertificateSet::judge(&[], &[], today()).best(), None);
    }
}
