use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
};

/// Grants that were used, each remembered until it could not be used anyway.
///
/// The key is two independent 64-bit hashes of what makes a grant unique, so that a memory of many grants
/// stays small; the seeds are random at each start. Bounded: at the limit, the grant that expires first is
/// forgotten.
#[derive(Debug)]
pub(super) struct Replay {
    seeds: (RandomState, RandomState),
    until: HashMap<(u64, u64), u64>,
    by_expiry: BTreeSet<(u64, (u64, u64))>,
    limit: usize,
}

/// Enough for two thousand grants a second, each living two minutes.
const LIMIT: usize = 262_144;

impl Default for Replay {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

impl Replay {
    fn with_limit(limit: usize) -> Self {
        Self {
            seeds: (RandomState::new(), RandomState::new()),
            until: HashMap::new(),
            by_expiry: BTreeSet::new(),
            limit,
        }
    }

    /// Remembers `grant` until `until` (seconds since 1970); false when it is remembered already.
    pub(super) fn first_use(&mut self, grant: &[&str], now: u64, until: u64) -> bool {
        while let Some(&(expiry, key)) = self.by_expiry.first() {
            if expiry > now && self.until.len() < self.limit {
                break;
            }
            self.by_expiry.remove(&(expiry, key));
            self.until.remove(&key);
        }
        let key = (self.seeds.0.hash_one(grant), self.seeds.1.hash_one(grant));
        if self.until.contains_key(&key) {
            return false;
        }
        self.until.insert(key, until);
        self.by_expiry.insert((until, key));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_remembered_until_its_end_and_not_longer() {
        let mut replay = Replay::default();
        assert!(replay.first_use(&["iss", "jti"], 0, 100));
        assert!(!replay.first_use(&["iss", "jti"], 99, 200));
        assert!(replay.first_use(&["iss", "jti"], 100, 200));
    }

    #[test]
    fn grants_of_two_clients_with_the_same_jti_are_two_grants() {
        let mut replay = Replay::default();
        assert!(replay.first_use(&["one", "jti"], 0, 100));
        assert!(replay.first_use(&["two", "jti"], 0, 100));
        assert!(replay.first_use(&["on", "ejti"], 0, 100));
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_what_ends_first() {
        let mut replay = Replay::with_limit(2);
        assert!(replay.first_use(&["a"], 0, 50));
        assert!(replay.first_use(&["b"], 0, 40));
        assert!(replay.first_use(&["c"], 0, 60));
        assert_eq!(replay.until.len(), 2);
        assert_eq!(replay.by_expiry.len(), 2);
        assert!(!replay.first_use(&["c"], 0, 60), "the newest is still known");
    }
}
