//! Dates in HTTP headers (RFC 9110 section 5.6.7). They are the server's, and may be anything.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// When the server says that it answered.
pub(super) fn of(headers: &HeaderMap) -> Option<SystemTime> {
    date(text(headers, DATE)?)
}

/// How long the server asks to be left alone: a number of seconds, or a date by its own clock, which says `now`.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER)?;
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => date(text).map(|at| at.duration_since(now).unwrap_or_default()),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

/// The one form that is written today, `Sun, 06 Nov 1994 08:49:37 GMT`, is one of RFC 2822, too.
fn date(text: &str) -> Option<SystemTime> {
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    // Before 1970 no clock is right.
    (at.unix_timestamp() >= 0).then(|| at.into())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.try_into().unwrap())])
    }

    #[test]
    fn the_date_of_rfc_9110_is_understood() {
        let date = of(&headers(DATE, "Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(date, Some(UNIX_EPOCH + Duration::from_secs(784_111_777)));
    }

    #[test]
    fn a_wait_is_a_number_or_a_date_by_the_servers_clock() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        let wait = |value| retry_after(&headers(RETRY_AFTER, value), now);
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO), "it is over");
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_a_date_or_none(text in "[ -~]{0,40}") {
            let _ = of(&headers(DATE, &text));
            let _ = retry_after(&headers(RETRY_AFTER, &text), UNIX_EPOCH);
        }
    }
}
