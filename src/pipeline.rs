//! From configuration to named token sources: the only place that knows every part.
//!
//! Building a pipeline touches neither network nor device; it reads the certificate files that the configuration names.
//! [`Pipeline::start`] sets its tasks going, [`Pipeline::shutdown`] ends them.

mod client;
mod error;
mod signers;

pub use self::{
    client::{Client, endpoints},
    error::Error,
    signers::{device, http_options, signer, signing_device},
};

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use self::signers::Signers;
use crate::{
    call::Call,
    clock::Clock,
    config::{self, Config, ConsumerOrg},
    grant::{InvalidRequest, TokenRequest},
    http::Http,
    sign::{
        Credential, Signer,
        pkcs11::{Modules, Profiles},
    },
    token::{
        self, AccessToken, Altinn, Authority, Cached, Customs, DEFAULT_CAPACITY, Exchange, TEST_AUTH,
        TestAuth, TokenSource,
    },
};

/// Everything that a configuration names, wired.
#[derive(Debug)]
pub struct Pipeline {
    tokens: BTreeMap<String, NamedToken>,
    caches: Vec<Cached>,
    signers: Signers,
    http: Arc<Http>,
    clock: Arc<dyn Clock>,
}

impl Pipeline {
    /// Wires what `config` names. Devices are known by the profiles of this build, of `/etc/segl/hsm-profiles` and of
    /// the configuration.
    ///
    /// # Errors
    /// [`Error`] when a file that the configuration names cannot be used, a profile is wrong, or a key URI makes no
    /// sense.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let profiles = Arc::new(config.profiles(None)?);
        Self::with_profiles(config, clock, profiles)
    }

    /// The same, with the profiles by which devices are known.
    ///
    /// # Errors
    /// [`Error`] when a file that the configuration names cannot be used, or a key URI makes no sense.
    pub fn with_profiles(
        config: &Config,
        clock: Arc<dyn Clock>,
        profiles: Arc<Profiles>,
    ) -> Result<Self, Error> {
        let http = Arc::new(Http::new(signers::http_options(&config.http)?, clock.clone()));
        let mut house = Pipeline {
            tokens: BTreeMap::new(),
            caches: Vec::new(),
            signers: Signers::new(config, clock.clone(), profiles)?,
            http: http.clone(),
            clock: clock.clone(),
        };
        let mut clients = BTreeMap::new();
        for (name, client) in &config.clients {
            client::warn_of_expiry(client, &*clock);
            let signer = house.signers.named(&client.signer)?;
            let identity = signers::identity(client, config.signers.get(&client.signer), &*clock)?;
            let seals = if client.is_eseal() { house.signers.seals(&client.signer) } else { Vec::new() };
            let credential = Arc::new(Credential::new(identity, signer));
            clients.insert(name.as_str(), Arc::new(Client::new(client, credential, seals, &http, &clock)?));
        }
        // Tokens of one client and one exchange share a cache, so that the same request is made once.
        let mut shared: HashMap<(&str, Option<&config::Exchange>), Cached> = HashMap::new();
        for (name, token) in &config.tokens {
            let client =
                clients.get(token.client.as_str()).ok_or_else(|| Error::unknown("client", &token.client))?;
            let cache = shared.entry((&token.client, token.exchange.as_ref())).or_insert_with(|| {
                let source = source_of(token, client, &http, &clock);
                Cached::new(source, clock.clone(), DEFAULT_CAPACITY)
            });
            let named = NamedToken {
                config: token.clone(),
                client: client.clone(),
                cache: cache.clone(),
                http: http.clone(),
            };
            house.tokens.insert(name.clone(), named);
        }
        house.caches = shared.into_values().collect();
        Ok(house)
    }

    /// The token called `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] names those that there are.
    pub fn token(&self, name: &str) -> Result<&NamedToken, Error> {
        self.tokens.get(name).ok_or_else(|| Error::Unknown {
            what: "token",
            name: name.to_owned(),
            known: self.tokens.keys().cloned().collect(),
        })
    }

    /// All tokens, by name.
    pub fn tokens(&self) -> impl Iterator<Item = &NamedToken> {
        self.tokens.values()
    }

    /// The signer called `name` in the configuration.
    ///
    /// # Errors
    /// [`Error::Unknown`] names those that there are.
    pub fn signer(&self, name: &str) -> Result<Arc<dyn Signer>, Error> {
        self.signers.named(name)
    }

    /// The PKCS#11 libraries that its signers share: who looks at a device beside them goes through these, too.
    #[must_use]
    pub fn modules(&self) -> &Arc<Modules> {
        self.signers.modules()
    }

    /// The way out that all of it takes.
    #[must_use]
    pub fn http(&self) -> &Arc<Http> {
        &self.http
    }

    /// Starts keeping warm what the configuration wants warm. Must be called within a Tokio runtime.
    pub fn start(&self) {
        for token in self.tokens.values().filter(|token| token.config.keep_warm) {
            match token.request(Overrides::default()) {
                Ok(request) => token.cache.keep_warm(request),
                Err(error) => tracing::warn!(token = token.name(), %error, "cannot be kept warm"),
            }
        }
    }

    /// Ends all tasks, then the devices' threads, within `patience`.
    pub async fn shutdown(&self, patience: Duration) {
        let call = Call::within(&*self.clock, patience);
        for cache in &self.caches {
            cache.shutdown(call.left(&*self.clock)).await;
        }
        self.signers.shutdown(&call).await;
    }
}

fn source_of(
    token: &config::Token,
    client: &Client,
    http: &Arc<Http>,
    clock: &Arc<dyn Clock>,
) -> Arc<dyn TokenSource> {
    let maskinporten = client.maskinporten.clone();
    match &token.exchange {
        Some(config::Exchange::Customs { base }) => {
            Arc::new(Exchange::new(maskinporten, Customs::new(base), http.clone(), clock.clone()))
        }
        Some(config::Exchange::Altinn { base, test }) => {
            Arc::new(Exchange::new(maskinporten, Altinn::new(base, *test), http.clone(), clock.clone()))
        }
        None => maskinporten,
    }
}

/// A `[tokens.NAME]` with its source.
#[derive(Debug)]
pub struct NamedToken {
    config: config::Token,
    client: Arc<Client>,
    cache: Cached,
    http: Arc<Http>,
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
        self.config.exchange.as_ref().map(|exchange| match exchange {
            config::Exchange::Customs { .. } => Authority::Customs,
            config::Exchange::Altinn { .. } => Authority::Altinn,
        })
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
