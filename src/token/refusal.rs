//! What an authority says when it refuses, read out of its answer, and cleaned for those who see it.

use super::{Authority, CLOCK_LIMIT};
use crate::{
    advice::{self, Advice, Again},
    clock::Offset,
    language::is_steering,
};

/// A refusal, carried whole: what the authority's support wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Who refused.
    pub authority: Authority,
    /// HTTP status.
    pub status: u16,
    /// OAuth 2 `error` (RFC 6749 section 5.2), where the body has one.
    pub error: Option<String>,
    /// `error_description`, or the body's text where it is no JSON; at most 2,000 characters.
    pub description: String,
    /// `MP-…`, found anywhere in the description.
    pub code: Option<String>,
    /// Trace or correlation id, found in the description.
    pub trace_id: Option<String>,
    /// How far this machine's clock was from the authority's, by the `Date` of the refusal.
    pub clock: Option<Offset>,
}

impl Refusal {
    /// Reads a refusal out of an answer's body.
    #[must_use]
    pub fn read(authority: Authority, status: u16, body: &[u8]) -> Self {
        let json: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(body).ok();
        let member = |name: &str| {
            json.as_ref().and_then(|json| json.get(name)).and_then(|value| value.as_str()).map(cleaned)
        };
        let description = member("error_description")
            .or_else(|| member("detail"))
            .or_else(|| member("title"))
            .unwrap_or_else(|| {
                if json.is_some() { String::new() } else { cleaned(&String::from_utf8_lossy(body)) }
            });
        Self {
            authority,
            status,
            error: member("error"),
            code: mp_code(&description),
            trace_id: trace_id(&description),
            clock: None,
            description,
        }
    }

    /// The same with what its `Date` told of the clocks.
    #[must_use]
    pub(super) fn with_clock(self, clock: Option<Offset>) -> Self {
        Self { clock, ..self }
    }

    /// Whether the authority said what is wrong. A refusal that does not may be tried again. Altinn says it by the
    /// status: its 401 means the token, often without a word beside it.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.error.is_some() || self.code.is_some() || self.authority == Authority::Altinn
    }

    /// Whether a page for people stands where the authority's API would have answered a program: something in front of
    /// it did not let the request through.
    pub(super) fn is_a_page(&self) -> bool {
        !self.is_clear() && (self.authority == Authority::Maskinporten || self.description.starts_with('<'))
    }

    /// Whether the authority's own clock is what it refused for: the grant has expired for it, or is not issued yet.
    fn is_about_time(&self) -> bool {
        let codes = ["MP-130", "clock-ahead", "clock-behind"];
        self.advice().is_some_and(|advice| codes.contains(&advice.code()))
    }

    /// How far off this machine's clock is, where the refusal came of that.
    #[must_use]
    pub fn clock_to_blame(&self) -> Option<Offset> {
        self.clock.filter(|offset| self.is_about_time() && offset.surely_exceeds(CLOCK_LIMIT))
    }

    pub(super) fn clock_sentence(&self) -> String {
        let compared = |offset: Offset| offset.compared_with(&self.authority.to_string());
        let sentence = |offset| format!("; this machine's clock is {}", compared(offset));
        self.clock_to_blame().map(sentence).unwrap_or_default()
    }

    /// What it means and what to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static Advice> {
        let codes: Vec<&str> = [&self.code, &self.error].into_iter().flatten().map(String::as_str).collect();
        advice::on_refusal(self.authority.into(), &codes, &self.description, self.status)
    }

    /// Whether what was changed may just not have reached the authority yet (2 to 15 minutes): a key, a scope, a
    /// system user.
    #[must_use]
    pub fn may_be_propagation(&self) -> bool {
        self.advice().is_some_and(|advice| advice.again == Again::Later)
    }

    pub(super) fn error_or_status(&self) -> String {
        self.error.clone().unwrap_or_else(|| format!("HTTP {}", self.status))
    }

    pub(super) fn reason(&self) -> &str {
        if self.description.is_empty() { "it gave no reason" } else { &self.description }
    }
}

/// What a server said, fit for terminals and logs: bounded, on one line, nothing that a terminal would act on, and
/// without what it may have repeated of the request, a grant, a token or a person's number.
pub(crate) fn cleaned(text: &str) -> String {
    let line: String = text.chars().map(|c| if is_steering(c) { ' ' } else { c }).take(2_000).collect();
    let mut shown = String::with_capacity(line.len());
    let mut rest = line.trim();
    while !rest.is_empty() {
        let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let (word, after) = rest.split_at(rest.find(|c| !in_word(c)).unwrap_or(rest.len()));
        shown.push_str(if is_jwt(word) {
            "(hidden)"
        } else if is_pid(word) {
            "***********"
        } else {
            word
        });
        let (between, next) = after.split_at(after.find(in_word).unwrap_or(after.len()));
        shown.push_str(between);
        rest = next;
    }
    shown
}

/// `eyJ` is how a JSON object begins in base64url.
fn is_jwt(word: &str) -> bool {
    word.len() > 16 && word.starts_with("eyJ")
}

fn is_pid(word: &str) -> bool {
    word.trim_end_matches('.').len() == 11 && word.bytes().take(11).all(|byte| byte.is_ascii_digit())
}

fn mp_code(text: &str) -> Option<String> {
    text.match_indices("MP-").find_map(|(at, _)| {
        let code = text.get(at..at + 6)?;
        code.bytes().skip(3).all(|byte| byte.is_ascii_digit()).then(|| code.to_owned())
    })
}

fn trace_id(text: &str) -> Option<String> {
    ["trace_id:", "correlation id:"].iter().find_map(|label| {
        let (_, after) = text.split_once(label)?;
        let id: String =
            after.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        (!id.is_empty()).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sign::Retry, token::Error};

    #[test]
    fn the_code_is_found_wherever_it_stands() {
        for text in ["MP-124 Invalid JWT signature", "Invalid JWT signature. MP-124 (trace_id: abc)"] {
            assert_eq!(mp_code(text).as_deref(), Some("MP-124"));
        }
        assert_eq!(mp_code("MP-12 and MP-æ"), None);
    }

    #[test]
    fn a_refusal_is_carried_whole() {
        let body = br#"{"error":"invalid_grant","error_description":"Invalid JWT signature. MP-124 (trace_id: 0f0f)"}"#;
        let refusal = Refusal::read(Authority::Maskinporten, 400, body);
        assert_eq!(refusal.error.as_deref(), Some("invalid_grant"));
        assert_eq!(refusal.code.as_deref(), Some("MP-124"));
        assert_eq!(refusal.trace_id.as_deref(), Some("0f0f"));
        assert_eq!(Error::Refused(Box::new(refusal)).retry(), Retry::Never);
    }

    #[test]
    fn what_a_server_repeats_of_a_request_is_not_passed_on() {
        let body = r#"{"error":"invalid_grant","error_description":"assertion=eyJhbGciOiJSUzI1NiJ9.eyJwaWQiOi.c2ln for pid 01811210028. MP-124 (trace_id: 01811210028abc)"}"#;
        let refusal = Refusal::read(Authority::Maskinporten, 400, body.as_bytes());
        assert_eq!(
            refusal.description,
            "assertion=(hidden) for pid *********** MP-124 (trace_id: 01811210028abc)"
        );
        assert_eq!(refusal.trace_id.as_deref(), Some("01811210028abc"));
        let long = format!("{} eyJhbGciOiJSUzI1NiJ9.{}", "x".repeat(1_970), "A".repeat(100));
        let page = Refusal::read(Authority::Customs, 403, long.as_bytes());
        assert!(page.description.ends_with("(hidden)"), "{}", page.description);
    }

    #[test]
    fn text_that_runs_backwards_is_straightened() {
        assert_eq!(cleaned("ok\u{202e}ko\u{9b}31m"), "ok ko 31m");
    }

    #[test]
    fn a_refusal_that_says_nothing_may_be_tried_again() {
        let refusal = Refusal::read(Authority::Customs, 403, b"<html>\x1b[31mno</html>");
        assert_eq!(refusal.description, "<html> [31mno</html>");
        assert!(matches!(Error::Refused(Box::new(refusal)).retry(), Retry::After(_)));
    }
}
