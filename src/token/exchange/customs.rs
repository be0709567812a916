//! Norwegian Customs (Toll): form POST with short words where RFC 8693 has URNs
//! (<https://toll.github.io/api/maskinporten/>).

use url::Url;

use super::{Counterparty, ExchangedToken};
use crate::{
    call::Call,
    clock::BoxFuture,
    http::{self, Http, Request, Response},
    token::{AccessToken, Authority, Error, maskinporten::read_token_response},
};

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
