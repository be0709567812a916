use std::{fmt, sync::Arc};

use super::{Client, counterparty};
use crate::{
    call::Call,
    config::{self, ConsumerOrg},
    grant::{InvalidRequest, TokenRequest},
    http::Http,
    token::{self, AccessToken, Authority, Cached, Contact, TEST_AUTH, TestAuth, TokenSource},
};

/// A `[tokens.NAME]` with its source.
#[derive(Debug)]
pub struct NamedToken {
    pub(super) config: config::Token,
    pub(super) client: Arc<Client>,
    pub(super) cache: Cached,
    /// With the authorities that it takes.
    pub(super) contacts: Vec<Arc<Contact>>,
    pub(super) http: Arc<Http>,
}

/// What a caller may choose of a request. `Debug` masks the person.
#[derive(Clone, Default)]
pub struct Overrides {
    /// The customer to act for.
    pub consumer_org: Option<String>,
    /// The person that the token is bound to.
    pub pid: Option<String>,
    /// Scopes instead of the configured ones; none: the configured ones.
    pub scopes: Vec<String>,
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overrides")
            .field("consumer_org", &self.consumer_org)
            .field("pid", &self.pid.as_ref().map(|_| "***********"))
            .field("scopes", &self.scopes)
            .finish()
    }
}

/// What can be called first with a token.
#[derive(Debug)]
#[non_exhaustive]
pub enum FirstCall {
    /// Customs' test call.
    TestAuth(TestAuth),
    /// There is none, for this reason.
    None(&'static str),
}

impl NamedToken {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where it comes from: the cache in front of everything else.
    #[must_use]
    pub fn source(&self) -> &Cached {
        &self.cache
    }

    /// Who exchanges it; `None` for Maskinporten's own.
    #[must_use]
    pub fn exchanged_at(&self) -> Option<Authority> {
        self.config.exchange.as_ref().map(|exchange| counterparty(exchange).0)
    }

    /// The configured request with the caller's choices in it.
    ///
    /// # Errors
    /// [`InvalidRequest`] names the field that is wrong or missing, or that the configuration has set already.
    pub fn request(&self, overrides: Overrides) -> Result<TokenRequest, InvalidRequest> {
        let exchange = self.config.exchange.as_ref();
        if let Some(fault) = config::misfit(&overrides.scopes, self.client.is_eseal, exchange) {
            return Err(InvalidRequest::new("scope", fault.to_string()));
        }
        let mut request = if overrides.scopes.is_empty() {
            self.config.request()
        } else {
            self.config.request_for(overrides.scopes)
        };
        match (&self.config.consumer_org, overrides.consumer_org) {
            (Some(ConsumerOrg::Required), None) => {
                return Err(InvalidRequest::new(
                    "consumer_org",
                    "this token is for one customer at a time: name it",
                ));
            }
            (Some(ConsumerOrg::Fixed(fixed)), Some(asked)) if fixed.to_string() != asked => {
                let problem = format!("the configuration has set it to {fixed}");
                return Err(InvalidRequest::new("consumer_org", problem));
            }
            (_, Some(asked)) => request = request.consumer_org(asked),
            (_, None) => {}
        }
        if let Some(pid) = overrides.pid {
            request = request.pid(pid);
        }
        request.build()
    }

    /// A token with the configured request, kept and renewed as the cache does.
    ///
    /// # Errors
    /// Those of [`TokenSource::token`].
    pub async fn token(&self, call: &Call) -> Result<AccessToken, token::Error> {
        let request = self.request(Overrides::default())?;
        self.cache.token(&request, call).await
    }

    /// What can be called first with a token for `scope`.
    #[must_use]
    pub fn first_call(&self, scope: &str) -> FirstCall {
        match &self.config.exchange {
            Some(config::Exchange::Customs { base }) => {
                let path = self.config.probe.as_deref().unwrap_or(TEST_AUTH);
                TestAuth::for_scope(base, path, scope).map_or(
                    FirstCall::None(
                        "Customs offers no test call for these scopes; the exchange is the proof",
                    ),
                    FirstCall::TestAuth,
                )
            }
            Some(config::Exchange::Altinn { .. }) => {
                FirstCall::None("Altinn offers no test call; the exchange is the proof")
            }
            None => FirstCall::None("the API is not known; the token is the proof"),
        }
    }

    /// Makes `test` with `token`; the HTTP status is returned when it is a success.
    ///
    /// # Errors
    /// Those of [`TestAuth::call`].
    pub async fn test_auth(
        &self,
        test: &TestAuth,
        token: &AccessToken,
        call: &Call,
    ) -> Result<u16, token::Error> {
        test.call(&self.http, token, call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_masked_in_debug() {
        let overrides = Overrides { pid: Some("01811210028".into()), ..Overrides::default() };
        let shown = format!("{overrides:?}");
        assert!(shown.contains("***********") && !shown.contains("0181"), "{shown}");
    }
}
