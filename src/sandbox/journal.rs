//! What was asked and answered, and which manners the clients have. No token, grant or person stands in it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Authority, jws::Jws, manners::Manner, replay::Replay};

/// Requests that are remembered; the oldest goes first.
const MOST_REQUESTS: usize = 2000;

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

/// What a handler says of a request, beside its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Note {
    /// It could be read as a grant.
    is_grant: bool,
    pub(super) client: Option<String>,
    pub(super) scopes: Option<String>,
    pub(super) jti: Option<String>,
    /// What the grant names its key by.
    pub(super) key: Option<String>,
    /// Code or error of a refusal; where the authority gives neither, what `segl explain` knows it by.
    pub(super) code: Option<&'static str>,
    /// Life of what was issued, in seconds.
    pub(super) life: Option<u64>,
    /// All that makes one token another than the next.
    wanted: Vec<String>,
}

impl Note {
    /// As far as `text` can be read as a grant.
    pub(super) fn of_grant(text: &str) -> Self {
        let Some(jws) = Jws::read(text) else { return Self::default() };
        let kid = jws.header.get("kid").map(|kid| format!("kid {}", shown(kid)));
        let chain = jws.header.get("x5c").and_then(Value::as_array).map(Vec::len);
        Self {
            is_grant: true,
            client: jws.payload.get("iss").map(shown),
            scopes: jws.payload.get("scope").map(shown),
            jti: jws.payload.get("jti").map(shown),
            key: kid.or(chain.map(|length| format!("x5c of {length}"))),
            wanted: wanted(
                &jws.payload,
                &["iss", "scope", "resource", "consumer_org", "pid", "authorization_details"],
            ),
            ..Self::default()
        }
    }

    /// Of a request that says nothing but why it was refused.
    pub(super) fn of_refusal(code: &'static str) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    /// Of a token of Maskinporten's that is exchanged for one of this life.
    pub(super) fn of_token(claims: &Map<String, Value>, life: u64) -> Self {
        let holder = claims.get("consumer").and_then(|consumer| consumer.get("ID"));
        Self {
            client: holder.map(shown),
            scopes: claims.get("scope").map(shown),
            life: Some(life),
            wanted: wanted(
                claims,
                &["client_id", "scope", "aud", "consumer", "pid", "authorization_details"],
            ),
            ..Self::default()
        }
    }

    /// Sends the note along with the answer, as far as the log.
    pub(super) fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

fn wanted(claims: &Map<String, Value>, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| claims.get(*name).map(Value::to_string).unwrap_or_default()).collect()
}

/// A text out of a request, bearable and without anything that a terminal would act on.
fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A request and its answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// Whether something that could be read as a grant stood in it.
    #[serde(skip)]
    pub(super) is_grant: bool,
    /// Seconds since 1970, on the authorities' clock.
    pub(super) at: u64,
    pub(super) authority: Authority,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scopes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) life: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) manners: Vec<String>,
}

impl Entry {
    /// Before anything is said of what stood in the request.
    pub(super) fn of(authority: Authority, method: String, path: String, status: u16, at: u64) -> Self {
        Self {
            number: 0,
            is_grant: false,
            at,
            authority,
            method,
            path: shown(&path.into()),
            status,
            code: None,
            client: None,
            scopes: None,
            jti: None,
            key: None,
            life: None,
            manners: Vec::new(),
        }
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

/// The requests of a run.
#[derive(Debug)]
pub(super) struct Journal {
    seed: RandomState,
    next: u64,
    entries: VecDeque<Entry>,
    jtis: Replay,
    /// When the token for a want ends.
    issued: HashMap<u64, u64>,
    recent: HashMap<u64, VecDeque<u64>>,
    lapses: BTreeMap<(String, Manner), (u64, String)>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            seed: RandomState::new(),
            next: 1,
            entries: VecDeque::new(),
            jtis: Replay::default(),
            issued: HashMap::new(),
            recent: HashMap::new(),
            lapses: BTreeMap::new(),
        }
    }
}

impl Journal {
    /// Writes a request down with its answer; what was bad about it is returned, in words.
    pub(super) fn write(&mut self, mut entry: Entry, note: Option<Note>) -> Vec<String> {
        entry.number = self.next;
        self.next += 1;
        if let Some(note) = note {
            let manners = self.judge(&entry, &note);
            entry.is_grant = note.is_grant;
            entry.code = note.code;
            entry.client = note.client;
            entry.scopes = note.scopes;
            entry.jti = note.jti;
            entry.key = note.key;
            entry.life = note.life.filter(|_| entry.status < 400);
            for (manner, words) in manners {
                // Whatever a request says its client is called: names are not to be had without limit.
                let lapse = (entry.client.clone().unwrap_or_default(), manner);
                if self.lapses.len() < MOST_LAPSES || self.lapses.contains_key(&lapse) {
                    let (times, last) = self.lapses.entry(lapse).or_default();
                    *times += 1;
                    last.clone_from(&words);
                }
                entry.manners.push(words);
            }
        }
        let said = entry.manners.clone();
        if self.entries.len() >= MOST_REQUESTS {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        said
    }

    /// All that is remembered behind number `after`.
    pub(super) fn entries(&self, after: u64) -> Vec<Entry> {
        self.entries.iter().filter(|entry| entry.number > after).cloned().collect()
    }

    pub(super) fn lapses(&self) -> Vec<Lapse> {
        let lapse = |((client, manner), (times, last)): (&(String, Manner), &(u64, String))| Lapse {
            client: client.clone(),
            manner: *manner,
            times: *times,
            last: last.clone(),
        };
        self.lapses.iter().map(lapse).collect()
    }

    fn judge(&mut self, entry: &Entry, note: &Note) -> Vec<(Manner, String)> {
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
    use serde_json::json;

    use super::*;

    fn entry(at: u64, status: u16) -> Entry {
        Entry::of(Authority::Maskinporten, "POST".into(), "/token".into(), status, at)
    }

    fn note(jti: &str, scope: &str) -> Note {
        let claims = json!({ "iss": "c", "scope": scope, "jti": jti });
        Note {
            client: Some("c".into()),
            scopes: Some(scope.into()),
            jti: Some(jti.into()),
            life: Some(120),
            wanted: wanted(claims.as_object().unwrap(), &["iss", "scope"]),
            ..Note::default()
        }
    }

    fn manners(journal: &Journal) -> Vec<(Manner, u64)> {
        journal.lapses().into_iter().map(|lapse| (lapse.manner, lapse.times)).collect()
    }

    #[test]
    fn a_client_that_renews_a_minute_ahead_with_a_new_jti_has_good_manners() {
        let mut journal = Journal::default();
        for (index, at) in [0, 60, 120, 180].into_iter().enumerate() {
            assert!(journal.write(entry(at, 200), Some(note(&index.to_string(), "a:b"))).is_empty());
        }
        journal.write(entry(181, 200), Some(note("x", "a:c")));
        assert_eq!(journal.lapses(), []);
        assert_eq!(journal.entries(3).len(), 2);
    }

    #[test]
    fn asking_again_at_once_and_a_jti_twice_are_pointed_out() {
        let mut journal = Journal::default();
        journal.write(entry(0, 200), Some(note("1", "a:b")));
        let said = journal.write(entry(59, 200), Some(note("1", "a:b")));
        assert_eq!(
            said,
            [
                "the jti 1 was tried before: each grant needs its own",
                "the token for a:b was asked for again with 61 s of the last one left",
            ]
        );
        assert_eq!(manners(&journal), [(Manner::AskedWhileValid, 1), (Manner::JtiTwice, 1)]);
    }

    #[test]
    fn five_requests_within_ten_seconds_are_a_storm_also_when_they_are_refused() {
        let mut journal = Journal::default();
        for index in 0..9 {
            let mut refused = note(&index.to_string(), "a:b");
            refused.code = Some("MP-250");
            refused.life = None;
            journal.write(entry(index, 400), Some(refused));
        }
        let lapses = journal.lapses();
        assert_eq!((lapses.len(), lapses[0].manner, lapses[0].times), (1, Manner::RefreshStorm, 1));
        assert!(lapses[0].last.ends_with("refused (MP-250): asking again changes nothing"));
    }

    #[test]
    fn the_lapses_are_bounded_and_those_that_are_known_are_counted_on() {
        let mut journal = Journal::default();
        let mut lapses = |client: usize| {
            let mut note = note("1", "a:b");
            note.client = Some(client.to_string());
            note.wanted.clear();
            journal.write(entry(0, 200), Some(note.clone()));
            assert_eq!(journal.write(entry(0, 200), Some(note)).len(), 1);
            (journal.lapses.len(), journal.lapses[&("0".into(), Manner::JtiTwice)].0)
        };
        let kept = (0..MOST_LAPSES + 5).map(&mut lapses).last();
        assert_eq!(kept, Some((MOST_LAPSES, 1)));
        assert_eq!(lapses(0), (MOST_LAPSES, 3));
    }

    #[test]
    fn the_log_is_bounded_and_forgets_the_oldest() {
        let mut journal = Journal::default();
        for at in 0..MOST_REQUESTS as u64 + 5 {
            journal.write(entry(at, 503), None);
        }
        let entries = journal.entries(0);
        assert_eq!((entries.len(), entries[0].number), (MOST_REQUESTS, 6));
    }
}
