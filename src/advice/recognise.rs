//! From what people paste to the advice on it.

use super::{Advice, all, answer::plain_text, is_number, named};

/// Advice, and what it was recognised by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recognised {
    /// The code or the phrase, as the table has it; a number as it was written. Nothing else of the text.
    pub by: String,
    /// The advice.
    pub advice: &'static Advice,
}

/// The longest text that is looked at, in bytes: the rest of a longer one is passed over.
const LONGEST: usize = 256 * 1024;

/// A shorter piece of a message could be a piece of any.
const SHORTEST_PIECE: usize = 8;

/// The advice on `text`: a code, a piece of a message, or a whole answer. Codes first, in the order in which they
/// stand; each piece of advice once.
#[must_use]
pub fn recognise(text: &str) -> Vec<Recognised> {
    let text = text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default();
    let whole = text.trim();
    let mut found = Vec::new();
    for advice in all() {
        if let Some(code) = advice.codes.iter().find(|code| code.eq_ignore_ascii_case(whole)) {
            note(&mut found, code, advice);
        }
    }
    if is_number(whole) {
        found.extend(named(whole).map(|advice| Recognised { by: whole.to_owned(), advice }));
    }
    if !found.is_empty() {
        return found;
    }
    // Both: a status is no text of JSON, and a phrase may be spread over the tags of HTML.
    let text = &format!("{}\n{text}", plain_text(text));
    for word in words(text) {
        let advice = if speaks_for_itself(word) { named(word) } else { None };
        if let Some(advice) = advice {
            note(&mut found, word, advice);
        }
    }
    let lower_case = one_line(text);
    for advice in all() {
        if let Some(phrase) = advice.texts.iter().find(|phrase| lower_case.contains(phrase.as_str())) {
            note(&mut found, phrase, advice);
        }
    }
    if found.is_empty() {
        by_status(&lower_case, &mut found);
    }
    let piece = one_line(whole);
    if found.is_empty() && piece.len() >= SHORTEST_PIECE {
        for advice in all() {
            if let Some(phrase) = advice.texts.iter().find(|phrase| phrase.contains(&piece)) {
                note(&mut found, phrase, advice);
            }
        }
    }
    found
}

/// The known code that is nearest to `code`, for those who mistyped it.
#[must_use]
pub fn nearest(code: &str) -> Option<&'static str> {
    if code.len() > 64 {
        return None;
    }
    let code = code.trim().to_ascii_uppercase();
    // One letter of a short code is more of it than one of a long one.
    let most = (code.len() / 5).clamp(1, 3);
    all()
        .iter()
        .flat_map(|advice| &advice.codes)
        .map(|known| (strsim::osa_distance(&code, &known.to_ascii_uppercase()), known))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.as_str())
}

fn note(found: &mut Vec<Recognised>, by: &str, advice: &'static Advice) {
    if !found.iter().any(|known| known.advice == advice) {
        found.push(Recognised { by: by.to_owned(), advice });
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// What codes are made of.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let in_code = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.split(move |c: char| !in_code(c)).map(|word| word.trim_matches('-')).filter(|word| word.len() <= 64)
}

/// Whether a word is a code wherever it stands. Names of ours and statuses are words and numbers of any text. Libraries'
/// numbers stand in messages with eight digits, or sixteen.
fn speaks_for_itself(word: &str) -> bool {
    let is_number = || word.starts_with("0x") && matches!(word.len(), 10 | 18);
    word.starts_with("MP-") || word.contains('_') || is_number()
}

/// By the status in `HTTP/1.1 401` or `"status": 401`.
fn by_status(lower_case: &str, found: &mut Vec<Recognised>) {
    for introduction in
        ["http/1.1 ", "http/1.0 ", "http/2 ", "http/3 ", "status\":", "status: ", "status code "]
    {
        for (at, _) in lower_case.match_indices(introduction) {
            let after = lower_case.get(at + introduction.len()..).unwrap_or_default().trim_start();
            let status = after.get(..3).unwrap_or_default();
            if !status.bytes().all(|digit| digit.is_ascii_digit()) {
                continue;
            }
            for advice in all().iter().filter(|advice| advice.has_code(status)) {
                note(found, status, advice);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        recognise(text).into_iter().map(|recognised| recognised.advice.code()).collect()
    }

    #[test]
    fn a_code_is_found_alone_and_in_whatever_stands_around_it() {
        for text in [
            "MP-250",
            " mp-250\n",
            r#"{"error":"invalid_scope","error_description":"Consumer has not been granted access. MP-250 (trace_id: 0f)"}"#,
            "<html><body>MP-250: Consumer</body></html>",
            "<td>Consumer <b>has not been</b> granted access&nbsp;to the scope X</td>",
            r#"{"error_description":"Consumer has not been\u0020granted access to the scope"}"#,
        ] {
            assert_eq!(codes(text), ["MP-250"], "{text}");
        }
        assert_eq!(codes("0xa4"), ["CKR_VENDOR_DEFINED"], "whoever has the names gives it one");
        assert_eq!(
            codes("the device answered CKR_DEVICE_ERROR to C_Sign, then 0x80000384 to C_Login"),
            ["CKR_DEVICE_ERROR", "CKR_VENDOR_DEFINED"]
        );
    }

    #[test]
    fn a_message_without_a_code_is_known_by_its_words_or_a_piece_of_them() {
        assert_eq!(codes("Not authorized to request scope"), ["customs-scope"]);
        assert_eq!(codes("NOT  authorized\nto request scope toll:x"), ["customs-scope"]);
        assert_eq!(codes("authorized to request"), ["customs-scope"]);
        assert_eq!(codes("Issue time is after now"), ["clock-ahead"]);
        assert_eq!(codes("scope"), [""; 0], "too short to be a piece of one message");
    }

    #[test]
    fn a_status_is_asked_for_alone_or_read_from_where_it_stands() {
        for text in ["401", "HTTP/1.1 401 Unauthorized", r#"{"title":"Unauthorized","status": 401}"#] {
            assert_eq!(codes(text), ["customs-token", "altinn-token"], "{text}");
        }
        assert_eq!(codes("room 401 of the hotel"), [""; 0]);
    }

    #[test]
    fn names_of_ours_are_no_codes_within_a_text() {
        assert_eq!(codes("closed"), ["closed"]);
        assert_eq!(codes("the altinn library is closed"), [""; 0]);
    }

    #[test]
    fn a_mistyped_code_leads_to_the_nearest() {
        assert_eq!(nearest("MP-25O"), Some("MP-250"));
        assert_eq!(nearest("mp250"), Some("MP-250"));
        assert_eq!(nearest("CKR_PIN_LOKED"), Some("CKR_PIN_LOCKED"));
        assert_eq!(nearest("CKR_DEVICE_EROR"), Some("CKR_DEVICE_ERROR"));
        assert_eq!(nearest("MP-999"), None);
        assert_eq!(nearest("something else entirely"), None);
    }

    #[test]
    fn nothing_of_a_token_is_repeated() {
        let text = "MP-124 eyJhbGciOiJSUzI1NiJ9_eyJwaWQi 01811210028 0x01811210028";
        let by: Vec<String> = recognise(text).into_iter().map(|recognised| recognised.by).collect();
        assert_eq!(by, ["MP-124"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,400}") {
            let _ = (recognise(&text), nearest(&text));
        }
    }
}
