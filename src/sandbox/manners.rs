use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, RandomState},
};

use serde::Serialize;

use super::{
    journal::{Entry, Note},
    replay::Replay,
};

/// Tokens whose end is remembered.
const MOST_TOKENS: usize = 4096;

/// Clients and their bad manners that are counted; what comes behind these is said of its request, and not counted.
const MOST_LAPSES: usize = 4096;

/// So many requests for one token ...
const STORM: usize = 5;

/// ... within so many seconds are a storm.
const STORM_WINDOW: u64 = 10;

/// No sensible client asks anew while more than this is left: a minute, or a quarter of a longer life.
const LEAD: u64 = 60;

/// What a client does that works today and annoys everybody tomorrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Manner {
    /// The same token is asked for although the last one is good for long.
    AskedWhileValid,
    /// A `jti` is tried twice: the same grant is sent again, or a constant stands in it.
    JtiTwice,
    /// The same token is asked for again and again.
    RefreshStorm,
}

impl Manner {
    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::AskedWhileValid => "Keep the token until a minute before it ends, and share it.",
            Self::JtiTwice => "Sign a new grant with a new jti for each request, retries too.",
            Self::RefreshStorm => {
                "Ask once at a time for each token; let the lead be shorter than its life; wait after a refusal."
            }
        }
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AskedWhileValid => "asked while valid",
            Self::JtiTwice => "jti twice",
            Self::RefreshStorm => "refresh storm",
        })
    }
}

/// Bad manners of one kind, of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lapse {
    /// Who: client identifier or organisation; empty for a request that named nobody.
    pub client: String,
    /// What.
    pub manner: Manner,
    /// How often.
    pub times: u64,
    /// The last time, in words.
    pub last: String,
}

/// What is remembered to tell good manners from bad, and the bad ones that were seen.
#[derive(Debug, Default)]
pub(super) struct Manners {
    seed: RandomState,
    jtis: Replay,
    /// When the token for a want ends.
    issued: HashMap<u64, u64>,
    recent: HashMap<u64, VecDeque<u64>>,
    lapses: BTreeMap<(String, Manner), (u64, String)>,
}

impl Manners {
    /// Counts what is bad about a request, and returns it in words.
    pub(super) fn judge(&mut self, entry: &Entry, note: &Note) -> Vec<String> {
        let found = self.find(entry, note);
        for (manner, words) in &found {
            // Whatever a request says its client is called: names are not to be had without limit.
            let lapse = (note.client.clone().unwrap_or_default(), *manner);
            if self.lapses.len() < MOST_LAPSES || self.lapses.contains_key(&lapse) {
                let (times, last) = self.lapses.entry(lapse).or_default();
                *times += 1;
                last.clone_from(words);
            }
        }
        found.into_iter().map(|(_, words)| words).collect()
    }

    /// What was bad so far, by client.
    pub(super) fn lapses(&self) -> Vec<Lapse> {
        let lapse = |((client, manner), (times, last)): (&(String, Manner), &(u64, String))| Lapse {
            client: client.clone(),
            manner: *manner,
            times: *times,
            last: last.clone(),
        };
        self.lapses.iter().map(lapse).collect()
    }

    fn find(&mut self, entry: &Entry, note: &Note) -> Vec<(Manner, String)> {
        let now = entry.at;
        let mut found = Vec::new();
        if let (Some(client), Some(jti)) = (&note.client, &note.jti)
            && !self.jtis.first_use(&[client, jti], now, now.saturating_add(3600))
        {
            found.push((
                Manner::JtiTwice,
                format!("the jti {jti} was tried before: each grant needs its own"),
            ));
        }
        if note.wanted.is_empty() {
            return found;
        }
        let what = self.seed.hash_one((entry.authority, &note.wanted));
        let scopes = note.scopes.as_deref().unwrap_or_default();
        if entry.status < 400
            && let Some(life) = note.life
        {
            let left = self.issued.get(&what).map_or(0, |end| end.saturating_sub(now));
            if left > LEAD.max(life / 4) {
                let words =
                    format!("the token for {scopes} was asked for again with {left} s of the last one left");
                found.push((Manner::AskedWhileValid, words));
            }
            if self.issued.len() >= MOST_TOKENS {
                self.issued.retain(|_, end| *end > now);
            }
            if self.issued.len() < MOST_TOKENS {
                self.issued.insert(what, now.saturating_add(life));
            }
        }
        if self.recent.len() >= MOST_TOKENS {
            self.recent.retain(|_, times| times.back().is_some_and(|at| at + STORM_WINDOW > now));
        }
        if self.recent.len() < MOST_TOKENS {
            let times = self.recent.entry(what).or_default();
            times.retain(|at| at + STORM_WINDOW > now);
            times.push_back(now);
            if times.len() >= STORM {
                times.clear();
                let words = match note.code {
                    None => format!("{STORM} requests for the token for {scopes} within {STORM_WINDOW} s"),
                    Some(code) => format!(
                        "{STORM} requests for the token for {scopes} within {STORM_WINDOW} s, refused ({code}): asking \
                         again changes nothing"
                    ),
                };
                found.push((Manner::RefreshStorm, words));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Authority;

    fn entry(at: u64, status: u16) -> Entry {
        Entry::of(Authority::Maskinporten, "POST".into(), "/token".into(), status, at)
    }

    fn note(jti: &str, scope: &str) -> Note {
        Note {
            client: Some("c".into()),
            scopes: Some(scope.into()),
            jti: Some(jti.into()),
            life: Some(120),
            wanted: vec![scope.into()],
            ..Note::default()
        }
    }

    fn counted(manners: &Manners) -> Vec<(Manner, u64)> {
        manners.lapses().into_iter().map(|lapse| (lapse.manner, lapse.times)).collect()
    }

    #[test]
    fn a_client_that_renews_a_minute_ahead_with_a_new_jti_has_good_manners() {
        let mut manners = Manners::default();
        for (index, at) in [0, 60, 120, 180].into_iter().enumerate() {
            assert!(manners.judge(&entry(at, 200), &note(&index.to_string(), "a:b")).is_empty());
        }
        manners.judge(&entry(181, 200), &note("x", "a:c"));
        assert_eq!(manners.lapses(), []);
    }

    #[test]
    fn asking_again_at_once_and_a_jti_twice_are_pointed_out() {
        let mut manners = Manners::default();
        manners.judge(&entry(0, 200), &note("1", "a:b"));
        let said = manners.judge(&entry(59, 200), &note("1", "a:b"));
        assert_eq!(
            said,
            [
                "the jti 1 was tried before: each grant needs its own",
                "the token for a:b was asked for again with 61 s of the last one left",
            ]
        );
        assert_eq!(counted(&manners), [(Manner::AskedWhileValid, 1), (Manner::JtiTwice, 1)]);
    }

    #[test]
    fn five_requests_within_ten_seconds_are_a_storm_also_when_they_are_refused() {
        let mut manners = Manners::default();
        for index in 0..9 {
            let mut refused = note(&index.to_string(), "a:b");
            refused.code = Some("MP-250");
            refused.life = None;
            manners.judge(&entry(index, 400), &refused);
        }
        let lapses = manners.lapses();
        assert_eq!((lapses.len(), lapses[0].manner, lapses[0].times), (1, Manner::RefreshStorm, 1));
        assert!(lapses[0].last.ends_with("refused (MP-250): asking again changes nothing"));
    }

    #[test]
    fn the_lapses_are_bounded_and_those_that_are_known_are_counted_on() {
        let mut manners = Manners::default();
        let mut lapses = |client: usize| {
            let mut note = note("1", "a:b");
            note.client = Some(client.to_string());
            note.wanted.clear();
            manners.judge(&entry(0, 200), &note);
            assert_eq!(manners.judge(&entry(0, 200), &note).len(), 1);
            (manners.lapses.len(), manners.lapses[&("0".into(), Manner::JtiTwice)].0)
        };
        let kept = (0..MOST_LAPSES + 5).map(&mut lapses).last();
        assert_eq!(kept, Some((MOST_LAPSES, 1)));
        assert_eq!(lapses(0), (MOST_LAPSES, 3));
    }
}
