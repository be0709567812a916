//! The issuers on a device. A chain sought among a thousand certificates, for each of a thousand keys, takes minutes:
//! so each key gets to see only those that its own certificates lead to.

use std::collections::HashMap;

use crate::certificate::Certificate;

/// No chain is longer.
const LONGEST: usize = 6;

/// Certificates of issuers, each once, by subject.
#[derive(Debug, Default)]
pub(super) struct Issuers(HashMap<Vec<u8>, Vec<Certificate>>);

impl Issuers {
    /// The issuers among `certificates`.
    pub(super) fn among(certificates: impl IntoIterator<Item = Certificate>) -> Self {
        let mut issuers = Self::default();
        for certificate in certificates {
            if certificate.is_ca() {
                let same = issuers.0.entry(certificate.subject().der().to_vec()).or_default();
                if !same.contains(&certificate) {
                    same.push(certificate);
                }
            }
        }
        issuers
    }

    /// `own` and all issuers that they lead to.
    pub(super) fn pool(&self, own: Vec<Certificate>) -> Vec<Certificate> {
        let mut pool = own;
        let mut begin = 0;
        for _ in 0..LONGEST {
            let newest: Vec<Certificate> = pool.iter().skip(begin).cloned().collect();
            begin = pool.len();
            for certificate in newest.iter().flat_map(|certificate| self.issuers_of(certificate)) {
                if !pool.contains(certificate) {
                    pool.push(certificate.clone());
                }
            }
        }
        pool
    }

    fn issuers_of(&self, certificate: &Certificate) -> &[Certificate] {
        let issuer = certificate.issuer();
        let spelt_so = self.0.get(issuer.der());
        // The same name may be written in another way (RFC 5280 section 7.1).
        let found = spelt_so.or_else(|| {
            self.0.values().find(|same| same.first().is_some_and(|one| one.subject().matches(issuer)))
        });
        found.map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::sample::{Authority, Pair, parameters};

    #[test]
    fn a_certificate_sees_its_own_issuers_and_no_others() {
        let root = Authority::root("Rot");
        let issuing = root.below("Utsteder");
        let stranger = Authority::root("Fremmed");
        let leaf = issuing.issue(&parameters("Virksomhet"), Pair::shared()[0]);
        let all = [&leaf, &root.certificate, &stranger.certificate, &issuing.certificate, &root.certificate];
        let issuers = Issuers::among(all.map(Certificate::clone));
        let pool = issuers.pool(vec![leaf.clone()]);
        assert_eq!(pool, [leaf, issuing.certificate, root.certificate]);
        assert_eq!(issuers.pool(Vec::new()), []);
    }
}
