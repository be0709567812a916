//! Maskinporten itself: a signed grant in, an access token out.

mod metadata;

use std::{fmt, sync::Arc};

use secrecy::ExposeSecret;
use url::Url;

use self::metadata::Metadata;
use super::{
    AccessToken, Authority, Error, Provenance, TokenSource,
    response::{no_answer, read_token_response, unreachable},
    retry::Tries,
    trouble::Trouble,
};
use crate::{
    call::Call,
    clock::{BoxFuture, Clock},
    grant::{Assertion, Grant, TokenRequest},
    http::{Http, Request},
    sign::{self, Credential, Proven},
};

/// `grant_type` of RFC 7523 section 2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Tokens straight from Maskinporten; each call signs and sends at least once. Put a [`Cached`](super::Cached) in front.
pub struct Maskinporten {
    http: Arc<Http>,
    clock: Arc<dyn Clock>,
    credential: Arc<Credential>,
    grant: Grant,
    metadata: Metadata,
    trouble: Trouble,
}

impl fmt::Debug for Maskinporten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maskinporten").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

/// Where Maskinporten is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Its issuer identifier, byte for byte.
    pub issuer: Url,
    /// Its metadata, where that is not at the place that RFC 8414 derives from the issuer.
    pub metadata: Option<Url>,
    /// Its token endpoint while the metadata cannot be had; `token` below the issuer when absent.
    pub token: Option<Url>,
}

impl Endpoints {
    /// All that follows from the issuer.
    #[must_use]
    pub fn of(issuer: Url) -> Self {
        Self { issuer, metadata: None, token: None }
    }

    /// Where its metadata is (RFC 8414 section 3).
    #[must_use]
    pub fn metadata_url(&self) -> Url {
        self.metadata.clone().unwrap_or_else(|| metadata::well_known(&self.issuer))
    }
}

impl Maskinporten {
    /// The authority at `endpoints`, asked as `grant` says, signed with `credential`. Touches neither network nor device.
    #[must_use]
    pub fn new(
        http: Arc<Http>,
        clock: Arc<dyn Clock>,
        endpoints: Endpoints,
        grant: Grant,
        credential: Arc<Credential>,
    ) -> Self {
        let metadata = Metadata::new(http.clone(), clock.clone(), endpoints);
        Self { http, clock, credential, grant, metadata, trouble: Trouble::default() }
    }

    /// Asks until there is a token, a clear refusal, or no time left. Each try mints a grant of its own.
    async fn ask(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        let mut tries = Tries::new(&*self.clock, call);
        loop {
            match self.trouble.watch(self.ask_once(request, call).await) {
                Ok(token) => return Ok(token),
                Err(error) => tries.pause_after(error).await?,
            }
        }
    }

    async fn ask_once(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        let (trouble, clock) = (&self.trouble, &*self.clock);
        let silent = || no_answer(Authority::Maskinporten);
        let endpoint = trouble.unless(silent(), clock, self.metadata.token_endpoint(call)).await?;
        let signing = async {
            let proven = self.credential.prove(call).await?;
            let assertion = self.grant.assert(&proven, request, call).await?;
            Ok::<_, Error>((proven, assertion))
        };
        let late = Error::Sign(sign::Error::Deadline);
        let (proven, assertion) = trouble.unless(late, clock, signing).await?;
        trouble.unless(silent(), clock, self.send(&endpoint, assertion, &proven, call)).await
    }

    async fn send(
        &self,
        endpoint: &Url,
        assertion: Assertion,
        proven: &Proven,
        call: &Call,
    ) -> Result<AccessToken, Error> {
        let provenance = Provenance {
            jti: assertion.jti().to_owned(),
            key: proven.thumbprint().to_owned(),
            device: proven.device().map(ToOwned::to_owned),
        };
        let (asked_at, asked_wall) = (self.clock.now(), self.clock.numeric_date());
        let jws = assertion.into_jws();
        let form = [("grant_type", JWT_BEARER), ("assertion", jws.expose_secret())];
        let request =
            Request { url: endpoint, accept: Some("application/json"), bearer: None, form: Some(&form) };
        let response = self
            .http
            .send(request, call)
            .await
            .map_err(|why| unreachable(Authority::Maskinporten, why.to_string()))?;
        let issued = read_token_response(Authority::Maskinporten, &response)?;
        Ok(AccessToken::issued(issued.text, issued.scope, asked_at, asked_wall, issued.life, provenance))
    }
}

impl TokenSource for Maskinporten {
    fn token<'a>(
        &'a self,
        request: &'a TokenRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<AccessToken, Error>> {
        Box::pin(async move {
            self.ask(request, call).await?.lasting(Authority::Maskinporten, call, &*self.clock)
        })
    }

    fn trouble(&self) -> Option<Error> {
        self.trouble.last(&*self.clock)
    }
}
