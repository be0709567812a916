//! What was asked and answered. No token, grant or person stands in it.

use std::collections::VecDeque;

use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Authority,
    jws::Jws,
    manners::{Lapse, Manners},
};

/// Requests that are remembered; the oldest goes first.
const MOST_REQUESTS: usize = 2000;

/// What a handler says of a request, beside its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Note {
    /// It could be read as a grant.
    pub(super) is_grant: bool,
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
    pub(super) wanted: Vec<String>,
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

/// The requests of a run.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The number of the newest.
    newest: u64,
    entries: VecDeque<Entry>,
    manners: Manners,
}

impl Journal {
    /// Writes a request down with its answer; what was bad about it is returned, in words.
    pub(super) fn write(&mut self, mut entry: Entry, note: Option<Note>) -> Vec<String> {
        self.newest += 1;
        entry.number = self.newest;
        if let Some(note) = note {
            entry.manners = self.manners.judge(&entry, &note);
            entry.is_grant = note.is_grant;
            entry.code = note.code;
            entry.client = note.client;
            entry.scopes = note.scopes;
            entry.jti = note.jti;
            entry.key = note.key;
            entry.life = note.life.filter(|_| entry.status < 400);
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

    /// What was bad about the clients' manners so far.
    pub(super) fn lapses(&self) -> Vec<Lapse> {
        self.manners.lapses()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_forgets_the_oldest() {
        let mut journal = Journal::default();
        for at in 0..MOST_REQUESTS as u64 + 5 {
            journal.write(Entry::of(Authority::Customs, "GET".into(), "/".into(), 503, at), None);
        }
        let entries = journal.entries(0);
        assert_eq!((entries.len(), entries[0].number), (MOST_REQUESTS, 6));
        assert_eq!(journal.entries(MOST_REQUESTS as u64 + 3).len(), 2);
    }
}
