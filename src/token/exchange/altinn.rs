//! Altinn 3: GET with the Maskinporten token as bearer; the answer is the new token and nothing else
//! (<https://docs.altinn.studio/api/authentication/>).

use serde_json::{Map, Value};
use url::Url;
use zeroize::Zeroizing;

use super::{Counterparty, ExchangedToken, IssuedToken};
use crate::{
    call::Call,
    clock::BoxFuture,
    http::{self, Http, Request, Response},
    jose,
    token::{
        AccessToken, Authority, Error,
        response::{believable, check_status, token_text},
    },
};

const PATH: &str = "/authentication/api/v1/exchange/maskinporten";

/// Altinn as a counterparty.
#[derive(Clone, Debug)]
pub struct Altinn {
    endpoint: Url,
}

impl Altinn {
    /// Altinn at `base`, such as `https://platform.altinn.no`. With `test`, Digdir's own service-owner tokens are
    /// issued for the test organisation `ttd`; for everybody else it changes nothing.
    #[must_use]
    pub fn new(base: &Url, test: bool) -> Self {
        let mut endpoint = base.clone();
        endpoint.set_path(PATH);
        endpoint.set_query(test.then_some("test=true"));
        Self { endpoint }
    }
}

impl Counterparty for Altinn {
    fn authority(&self) -> Authority {
        Authority::Altinn
    }

    fn send<'a>(
        &'a self,
        http: &'a Http,
        subject: &'a AccessToken,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Response, http::Error>> {
        Box::pin(async move {
            let request = Request {
                url: &self.endpoint,
                accept: Some("text/plain"),
                bearer: Some(subject.secret()),
                form: None,
            };
            http.send(request, call).await
        })
    }

    /// The body is the token, bare or as a JSON string. There is no `expires_in`: the life is read from the token.
    fn read(&self, response: &Response, subject: &AccessToken, now: u64) -> Result<ExchangedToken, Error> {
        check_status(Authority::Altinn, response)?;
        let malformed =
            |problem: &str| Error::Malformed { authority: Authority::Altinn, problem: problem.into() };
        let body = std::str::from_utf8(&response.body).map_err(|_| malformed("it is no text"))?.trim();
        let bare = if body.starts_with('"') {
            Zeroizing::new(serde_json::from_str(body).map_err(|_| malformed("its quotes do not match"))?)
        } else {
            Zeroizing::new(body.to_owned())
        };
        let claims = jose::unverified_payload(&bare).ok_or_else(|| malformed("it is no JWT"))?;
        let life =
            life(&claims, now).ok_or_else(|| malformed("the token has no exp, or has expired already"))?;
        let life = believable(Authority::Altinn, life)?;
        let text = token_text(Authority::Altinn, &bare)?;
        Ok(ExchangedToken(IssuedToken { text, scope: subject.scope().to_owned(), life }))
    }
}

/// What the token lives for, in seconds: by our clock, and never more than the token says of itself, so that a clock
/// that runs behind does not make it live longer.
fn life(claims: &Map<String, Value>, now: u64) -> Option<u64> {
    let exp = claims.get("exp")?.as_u64()?;
    let by_our_clock = exp.checked_sub(now)?;
    let issued = claims.get("iat").or_else(|| claims.get("nbf")).and_then(Value::as_u64);
    let by_its_own = issued.map_or(by_our_clock, |issued| exp.saturating_sub(issued));
    Some(by_our_clock.min(by_its_own))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{Clock, SystemClock},
        jose::{base64url, compact, signing_input},
        token::Provenance,
    };

    fn subject() -> AccessToken {
        let (text, life) = ("subject".to_owned().into(), Duration::from_secs(120));
        AccessToken::issued(text, "altinn:x".into(), SystemClock.now(), 0, life, Provenance::default())
    }

    fn read(body: &str, now: u64) -> Result<IssuedToken, Error> {
        let response =
            Response { status: 200, retry_after: None, clock: None, body: Zeroizing::new(body.into()) };
        let altinn = Altinn::new(&Url::parse("https://platform.altinn.no").unwrap(), false);
        altinn.read(&response, &subject(), now).map(|ExchangedToken(issued)| issued)
    }

    fn jwt(claims: &str) -> String {
        compact(&signing_input(&base64url(b"{}"), claims.as_bytes()), b"x")
    }

    #[test]
    fn a_bare_and_a_quoted_body_give_the_same_token() {
        let token = jwt(r#"{"exp":2800,"nbf":1000}"#);
        for body in [token.clone(), format!("\"{token}\""), format!(" {token}\r\n")] {
            assert_eq!(read(&body, 1000).unwrap().life, Duration::from_secs(1800), "{body}");
        }
    }

    #[test]
    fn a_clock_that_runs_behind_does_not_make_the_token_live_longer() {
        let token = jwt(r#"{"exp":2800,"nbf":1000}"#);
        assert_eq!(read(&token, 500).unwrap().life, Duration::from_secs(1800));
        assert_eq!(read(&token, 1300).unwrap().life, Duration::from_secs(1500));
    }

    #[test]
    fn a_body_that_is_no_living_jwt_is_malformed() {
        for body in ["", "\"", "<html>", "a.b.c", &jwt("{}"), &jwt(r#"{"exp":999}"#), &jwt(r#"{"exp":-1}"#)] {
            assert!(matches!(read(body, 1000), Err(Error::Malformed { .. })), "{body}");
        }
    }

    #[test]
    fn the_test_switch_is_a_query_and_nothing_else() {
        let base = Url::parse("https://platform.tt02.altinn.no").unwrap();
        assert_eq!(
            Altinn::new(&base, true).endpoint.as_str(),
            "https://platform.tt02.altinn.no/authentication/api/v1/exchange/maskinporten?test=true"
        );
    }
}
