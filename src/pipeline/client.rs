use std::{fmt, sync::Arc};

use url::Url;

use super::Error;
use crate::{
    call::Call,
    clock::Clock,
    config::{self, Registration},
    grant::{Assertion, Grant, TokenRequest},
    http::Http,
    sign::{self, Credential, EsealSigner, Proven, Signer},
    token::{self, Contact, Endpoints, Maskinporten},
};

/// A client of Maskinporten's with its key: makes grants.
pub struct Client {
    name: String,
    /// The name of its signer in the configuration.
    pub(super) signer_name: String,
    pub(super) is_eseal: bool,
    seals: Vec<EsealSigner>,
    credential: Arc<Credential>,
    grant: Grant,
    pub(super) contact: Arc<Contact>,
    pub(super) maskinporten: Arc<Maskinporten>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(
        config: &config::Client,
        credential: Arc<Credential>,
        seals: Vec<EsealSigner>,
        contact: Arc<Contact>,
        http: &Arc<Http>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let environment = &config.environment;
        let grant =
            Grant::new(clock.clone(), &environment.issuer, config.issuer()).life(config.grant_lifetime);
        let endpoints = endpoints(environment)?;
        let maskinporten =
            Maskinporten::new(http.clone(), clock.clone(), endpoints, grant.clone(), credential.clone());
        Ok(Self {
            name: config.name.clone(),
            signer_name: config.signer.clone(),
            is_eseal: config.is_eseal(),
            seals,
            credential,
            grant,
            maskinporten: Arc::new(maskinporten.with_contact(contact.clone())),
            contact,
        })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its signer.
    #[must_use]
    pub fn signer(&self) -> &Arc<dyn Signer> {
        self.credential.signer()
    }

    /// Whether the eSeal that it signs with, in a device, can sign with nobody there; `None` without such a seal. Nothing
    /// is signed.
    ///
    /// # Errors
    /// Those of [`EsealSigner::check_unattended`].
    pub async fn check_unattended(&self, call: &Call) -> Option<Result<(), sign::Error>> {
        let mut verdict = None;
        for seal in &self.seals {
            verdict = Some(seal.check_unattended(call).await);
            if matches!(verdict, Some(Err(_))) {
                break;
            }
        }
        verdict
    }

    /// Proves that its identity and its key belong together.
    ///
    /// # Errors
    /// Those of [`Credential::prove`].
    pub async fn prove(&self, call: &Call) -> Result<Proven, sign::Error> {
        self.credential.prove(call).await
    }

    /// Makes a grant and sends nothing.
    ///
    /// # Errors
    /// Those of [`Grant::assert`].
    pub async fn assert(&self, request: &TokenRequest, call: &Call) -> Result<Assertion, token::Error> {
        let proven = self.prove(call).await?;
        Ok(self.grant.assert(&proven, request, call).await?)
    }
}

/// Where the Maskinporten of `environment` is.
///
/// # Errors
/// [`Error::Unknown`] when its issuer is no address, which the configuration does not let through.
pub fn endpoints(environment: &config::Environment) -> Result<Endpoints, Error> {
    let issuer =
        Url::parse(&environment.issuer).map_err(|_| Error::unknown("issuer", &environment.issuer))?;
    let (metadata, token) = (environment.metadata.clone(), environment.token_endpoint.clone());
    Ok(Endpoints { issuer, metadata, token })
}

pub(super) fn warn_of_expiry(client: &config::Client, clock: &dyn Clock) {
    let soon = client.registration(clock.wall()).filter(|it| !matches!(it, Registration::Lasts { .. }));
    if let Some(registration) = soon {
        let name = &client.name;
        tracing::warn!(client = name, "its registered key {registration}: upload it again, or a new one");
    }
}
