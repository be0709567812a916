use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroize;

use super::{Authority, Error, Outage, Refusal};
use crate::{
    call::Call,
    clock::Clock,
    http::{self, Response},
};

/// The longest token that is taken: far above any real one, and a bound on what a header must hold.
const LONGEST_TOKEN: usize = 64 << 10;

/// The longest life that is believed, in seconds: a year. A date in the place of a life would keep a dead token for ever.
const LONGEST_LIFE: u64 = 366 * 24 * 60 * 60;

/// A token as an authority issued it.
pub(super) struct IssuedToken {
    pub(super) text: SecretString,
    pub(super) scope: String,
    pub(super) life: Duration,
}

/// Reads an RFC 6749 section 5.1 answer, or what stands in its place.
pub(super) fn read_token_response(authority: Authority, response: &Response) -> Result<IssuedToken, Error> {
    /// Members that are not named here are left alone: authorities add some.
    #[derive(Deserialize)]
    struct Body {
        access_token: String,
        expires_in: u64,
        #[serde(default)]
        token_type: Option<String>,
        #[serde(default)]
        scope: Option<String>,
    }
    check_status(authority, response)?;
    let malformed = |problem: &str| Error::Malformed { authority, problem: problem.into() };
    let mut body: Body =
        serde_json::from_slice(&response.body).map_err(|_| malformed("it is no JSON with a token inside"))?;
    let text = token_text(authority, &body.access_token);
    body.access_token.zeroize();
    if !body.token_type.as_deref().unwrap_or("Bearer").eq_ignore_ascii_case("bearer") {
        return Err(malformed("the token is no bearer token"));
    }
    let life = believable(authority, body.expires_in)?;
    Ok(IssuedToken { text: text?, scope: body.scope.unwrap_or_default(), life })
}

/// The life of a token, when it can be one.
pub(super) fn believable(authority: Authority, seconds: u64) -> Result<Duration, Error> {
    let problem = match seconds {
        0 => "the token has expired already".into(),
        1..=LONGEST_LIFE => return Ok(Duration::from_secs(seconds)),
        _ => format!("the token is said to live {seconds} s"),
    };
    Err(Error::Malformed { authority, problem })
}

/// A status that is no success, as an error: "cannot serve" apart from "will not serve".
pub(super) fn check_status(authority: Authority, response: &Response) -> Result<(), Error> {
    if response.is_success() {
        Ok(())
    } else if response.is_unavailable() {
        Err(Error::Unavailable { authority, status: response.status, retry_after: response.retry_after })
    } else {
        let refusal = Refusal::read(authority, response.status, &response.body);
        Err(Error::Refused(Box::new(refusal.with_clock(response.clock))))
    }
}

/// The token's text, when it can stand in a header.
pub(super) fn token_text(authority: Authority, text: &str) -> Result<SecretString, Error> {
    if text.is_empty() || text.len() > LONGEST_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "the token is empty, too long, or has characters that no token has".into();
        return Err(Error::Malformed { authority, problem });
    }
    Ok(SecretString::from(text))
}

/// There was no answer at all. That the caller had no time to wait for one, since `asked`, is not the authority's fault
/// alone.
pub(super) fn unreachable(
    authority: Authority,
    why: &http::Error,
    asked: SystemTime,
    call: &Call,
    clock: &dyn Clock,
) -> Error {
    let error = Error::Unreachable { authority, problem: why.to_string() };
    if matches!(why, http::Error::Timeout(_)) && call.is_over(clock) {
        return Error::Deadline(Some(Box::new(Outage::of(error, asked))));
    }
    error
}

/// There has been no answer so far.
pub(super) fn no_answer(authority: Authority) -> Error {
    Error::Unreachable { authority, problem: "it did not answer in time".into() }
}
