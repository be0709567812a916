//! Norwegian Customs (Toll): form POST with short words where RFC 8693 has URNs
//! (<https://toll.github.io/api/maskinporten/>).

use url::Url;

use super::{Counterparty, ExchangedToken};
use crate::{
    call::Call,
    clock::BoxFuture,
    http::{self, Http, Request, Response},
    token::{
        AccessToken, Authority, Error,
        response::{check_status, read_token_response},
    },
};

/// The one harmless call that Customs documents: for the road API.
pub const TEST_AUTH: &str = "/api/movement/road/v2/test-auth";

/// Where the exchange stands below Customs' base address, in test and in production.
const PATH: &str = "/api/access/external/oauth/token";

/// Customs as a counterparty.
#[derive(Clone, Debug)]
pub struct Customs {
    endpoint: Url,
}

impl Customs {
    /// Customs at `base`, such as `https://api.toll.no`.
    #[must_use]
    pub fn new(base: &Url) -> Self {
        let mut endpoint = base.clone();
        endpoint.set_path(PATH);
        Self { endpoint }
    }
}

impl Counterparty for Customs {
    fn authority(&self) -> Authority {
        Authority::Customs
    }

    fn send<'a>(
        &'a self,
        http: &'a Http,
        subject: &'a AccessToken,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Response, http::Error>> {
        Box::pin(async move {
            let form = [
                ("grant_type", "token-exchange"),
                ("subject_token_type", "access_token"),
                ("subject_token", subject.secret()),
            ];
            let request = Request {
                url: &self.endpoint,
                accept: Some("application/json"),
                bearer: None,
                form: Some(&form),
            };
            http.send(request, call).await
        })
    }

    /// The token is opaque; its life is `expires_in` (970 s in the documentation's sample). The answer names no
    /// scope, so the subject token's stands.
    fn read(&self, response: &Response, subject: &AccessToken, _now: u64) -> Result<ExchangedToken, Error> {
        let mut issued = read_token_response(Authority::Customs, response)?;
        if issued.scope.is_empty() {
            issued.scope = subject.scope().to_owned();
        }
        Ok(ExchangedToken(issued))
    }
}

/// A call that changes nothing and shows that Customs takes the token.
#[derive(Clone, Debug)]
pub struct TestAuth {
    url: Url,
}

impl TestAuth {
    /// The call at `path` below Customs' base address; `None` for tokens without a road scope, for which Customs
    /// offers none.
    #[must_use]
    pub fn for_scope(base: &Url, path: &str, scope: &str) -> Option<Self> {
        let is_road = |scope: &str| {
            ["toll:movement/road", "toll:eu/movement/road"].iter().any(|road| scope.starts_with(road))
        };
        scope.split(' ').any(is_road).then(|| {
            let mut url = base.clone();
            url.set_path(path);
            Self { url }
        })
    }

    /// Where the call goes.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Makes the call; the HTTP status is returned when it is a success.
    ///
    /// # Errors
    /// [`Error`] when Customs does not take the token, or cannot be reached.
    pub async fn call(&self, http: &Http, token: &AccessToken, call: &Call) -> Result<u16, Error> {
        let authority = Authority::Customs;
        let unreachable = |why: http::Error| Error::Unreachable { authority, problem: why.to_string() };
        let request = Request { url: &self.url, accept: None, bearer: Some(token.secret()), form: None };
        let response = http.send(request, call).await.map_err(unreachable)?;
        check_status(authority, &response)?;
        Ok(response.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_road_tokens_have_a_test_call() {
        let base = Url::parse("https://api.toll.no").unwrap();
        let url = |scope| TestAuth::for_scope(&base, TEST_AUTH, scope).map(|call| call.url.to_string());
        let road = Some("https://api.toll.no/api/movement/road/v2/test-auth".to_owned());
        assert_eq!(url("toll:movement/road/v2"), road);
        assert_eq!(url("toll:eu/movement/road/v2"), road);
        assert_eq!(url("toll:movement/air toll:movement/rail"), None);
    }
}
