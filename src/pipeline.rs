//! From configuration to named token sources: the only place that knows every part.
//!
//! Building a pipeline touches neither network nor device; it reads the certificate files that the configuration names.
//! [`Pipeline::start`] sets its tasks going, [`Pipeline::shutdown`] ends them.

mod client;
mod contacts;
mod error;
mod named;
mod readiness;
mod signers;

pub use self::{
    client::{Client, endpoints},
    error::Error,
    named::{FirstCall, NamedToken, Overrides},
    readiness::{AuthorityReadiness, NotReady, Readiness, SignerReadiness, State, TokenReadiness},
    signers::{device, http_options, signer, signing_device},
};

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinSet;
use url::Url;

use self::{contacts::Contacts, signers::Signers};
use crate::{
    call::Call,
    clock::Clock,
    config::{self, Config},
    http::Http,
    sign::{
        Credential, Signer,
        pkcs11::{Modules, Profiles},
    },
    token::{Altinn, Authority, Cached, Contact, Customs, DEFAULT_CAPACITY, Exchange, TokenSource},
};

/// Everything that a configuration names, wired.
#[derive(Debug)]
pub struct Pipeline {
    tokens: BTreeMap<String, NamedToken>,
    clients: BTreeMap<String, Arc<Client>>,
    caches: Vec<Cached>,
    signers: Signers,
    contacts: Contacts,
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
            clients: BTreeMap::new(),
            caches: Vec::new(),
            signers: Signers::new(config, clock.clone(), profiles)?,
            contacts: Contacts::default(),
            http: http.clone(),
            clock: clock.clone(),
        };
        for (name, client) in &config.clients {
            client::warn_of_expiry(client, &*clock);
            let signer = house.signers.named(&client.signer)?;
            let identity = signers::identity(client, config.signers.get(&client.signer), &*clock)?;
            let seals = if client.is_eseal() { house.signers.seals(&client.signer) } else { Vec::new() };
            let credential = Arc::new(Credential::new(identity, signer));
            let contact = house.contact(Authority::Maskinporten, &client.environment.issuer);
            let client = Client::new(client, credential, seals, contact, &http, &clock)?;
            house.clients.insert(name.clone(), Arc::new(client));
        }
        // Tokens of one client and one exchange share a cache, so that the same request is made once.
        let mut shared: HashMap<(&str, Option<&config::Exchange>), Cached> = HashMap::new();
        for (name, token) in &config.tokens {
            let client = house.clients.get(&token.client).cloned();
            let client = client.ok_or_else(|| Error::unknown("client", &token.client))?;
            let exchange = token.exchange.as_ref().map(|exchange| {
                let (authority, base) = counterparty(exchange);
                (exchange, house.contact(authority, base.as_str()))
            });
            let mut contacts = vec![client.contact.clone()];
            contacts.extend(exchange.iter().map(|(_, contact)| contact.clone()));
            let cache = shared.entry((&token.client, token.exchange.as_ref())).or_insert_with(|| {
                let source = source_of(exchange, &client, &http, &clock);
                Cached::new(source, clock.clone(), DEFAULT_CAPACITY)
            });
            let named = NamedToken {
                config: token.clone(),
                client,
                cache: cache.clone(),
                contacts,
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

    /// What works at the moment, as far as is known: plain data, for a probe of whoever runs the program. Touches
    /// neither network nor device.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        readiness::of(self)
    }

    /// Makes sure that every signer is there: its key is asked for and, where a client goes with it, compared with the
    /// client's certificate. Nothing is signed and nothing is sent. For programs that are not to start without their
    /// keys; without this call they start, and the first request that needs a signature says what is missing.
    ///
    /// # Errors
    /// [`NotReady`]: the first signer, by name, that is not.
    pub async fn require_signers(&self, call: &Call) -> Result<(), NotReady> {
        let mut looks: JoinSet<Result<(), NotReady>> = JoinSet::new();
        for (name, signer) in self.signers.iter() {
            let (name, signer, call) = (name.clone(), signer.clone(), call.clone());
            looks.spawn(async move {
                signer.key(&call).await.map(drop).map_err(|error| NotReady::new(&name, error))
            });
        }
        for client in self.clients.values() {
            let (client, call) = (client.clone(), call.clone());
            looks.spawn(async move {
                client.prove(&call).await.map(drop).map_err(|error| NotReady::new(&client.signer_name, error))
            });
        }
        let mut missing: Vec<NotReady> = looks.join_all().await.into_iter().filter_map(Result::err).collect();
        missing.sort_by(|one, other| one.name.cmp(&other.name));
        missing.into_iter().next().map_or(Ok(()), Err)
    }

    fn contact(&mut self, authority: Authority, address: &str) -> Arc<Contact> {
        self.contacts.with(authority, address, || Contact::new(authority, self.clock.clone()))
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

/// Who exchanges tokens, and at which base address.
fn counterparty(exchange: &config::Exchange) -> (Authority, &Url) {
    match exchange {
        config::Exchange::Customs { base } => (Authority::Customs, base),
        config::Exchange::Altinn { base, .. } => (Authority::Altinn, base),
    }
}

fn source_of(
    exchange: Option<(&config::Exchange, Arc<Contact>)>,
    client: &Client,
    http: &Arc<Http>,
    clock: &Arc<dyn Clock>,
) -> Arc<dyn TokenSource> {
    let maskinporten = client.maskinporten.clone();
    let Some((exchange, contact)) = exchange else { return maskinporten };
    let (http, clock) = (http.clone(), clock.clone());
    let source = match exchange {
        config::Exchange::Customs { base } => Exchange::new(maskinporten, Customs::new(base), http, clock),
        config::Exchange::Altinn { base, test } => {
            Exchange::new(maskinporten, Altinn::new(base, *test), http, clock)
        }
    };
    Arc::new(source.with_contact(contact))
}
