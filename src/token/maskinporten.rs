//! Maskinporten itself: a signed grant in, an access token out.

mod metadata;

use std::{fmt, sync::Arc, time::SystemTime};

use secrecy::ExposeSecret;
use url::Url;

use self::metadata::Metadata;
use super::{
    AccessToken, Authority, Contact, Error, Outage, Provenance, TokenSource,
    response::{no_answer, read_token_response, unreachable},
    retry::Tries,
    trouble::Trouble,
};
use crate::{
    call::Call,
    clock::{BoxFuture, Clock, numeric_date},
    grant::{Assertion, Grant, TokenRequest},
    http::{Http, Request},
    sign::{Credential, Fault, Proven},
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
        let contact = Arc::new(Contact::new(Authority::Maskinporten, clock.clone()));
        let trouble = Trouble::new(contact, clock.clone());
        Self { http, clock, credential, grant, metadata, trouble }
    }

    /// Shares what is known of the authority with other sources that ask it.
    #[must_use]
    pub fn with_contact(mut self, contact: Arc<Contact>) -> Self {
        self.trouble = Trouble::new(contact, self.clock.clone());
        self
    }

    /// Asks until there is a token, a clear refusal, or no time left. Each try mints a grant of its own.
    async fn ask(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        let mut tries = Tries::new(&*self.clock, call);
        loop {
            match self.trouble.watch(self.ask_once(request, call).await) {
                Ok(token) => return Ok(token),
                Err(error) => tries.pause_after(error, |error| self.explained(error)).await?,
            }
        }
    }

    async fn ask_once(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        let trouble = &self.trouble;
        let silent = || no_answer(Authority::Maskinporten);
        loop {
            let mut turn = trouble.contact().turn(call).await?;
            if !turn.asks() {
                continue;
            }
            let endpoint = match trouble.unless(silent(), self.metadata.token_endpoint(call)).await {
                Ok(endpoint) => endpoint,
                Err(error) => return turn.end(Err(error)),
            };
            turn.pauses();
            let signing = async {
                let proven = self.credential.prove(call).await?;
                let assertion = self.grant.assert(&proven, request, call).await?;
                Ok::<_, Error>((proven, assertion))
            };
            let (proven, assertion) = trouble.signing(signing).await?;
            // Else the grant would be old by the time it could be sent.
            if turn.asks() {
                let sending = self.send(&endpoint, assertion, &proven, call);
                return turn.end(trouble.unless(silent(), sending).await);
            }
        }
    }

    fn signer_since(&self) -> Option<SystemTime> {
        self.credential.signer().health().trouble_since
    }

    fn explained(&self, error: Error) -> Outage {
        self.trouble.explained(error, || self.signer_since())
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
        let clock = &*self.clock;
        let (asked_at, asked) = (clock.now(), clock.wall());
        let jws = assertion.into_jws();
        let form = [("grant_type", JWT_BEARER), ("assertion", jws.expose_secret())];
        let request =
            Request { url: endpoint, accept: Some("application/json"), bearer: None, form: Some(&form) };
        let response = self
            .http
            .send(request, call)
            .await
            .map_err(|why| unreachable(Authority::Maskinporten, &why, asked, call, clock))?;
        let issued = read_token_response(Authority::Maskinporten, &response);
        let blames_clock =
            |error: &Error| matches!(error, Error::Refused(refusal) if refusal.clock_to_blame().is_some());
        let is_said = issued.as_ref().err().is_some_and(blames_clock);
        self.trouble.contact().compared(response.clock, is_said);
        let issued = issued?;
        let asked = numeric_date(asked);
        Ok(AccessToken::issued(issued.text, issued.scope, asked_at, asked, issued.life, provenance))
    }
}

impl TokenSource for Maskinporten {
    fn token<'a>(
        &'a self,
        request: &'a TokenRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<AccessToken, Error>> {
        Box::pin(async move {
            match self.ask(request, call).await {
                Ok(token) => token.lasting(Authority::Maskinporten, call, &*self.clock),
                // Who has to wait for a device may want to do something else meanwhile.
                Err(error @ Error::Sign(_)) if error.kind() == Fault::Device => {
                    Err(Error::Away(Box::new(self.explained(error))))
                }
                Err(error) => Err(error),
            }
        })
    }

    fn outage(&self) -> Option<Outage> {
        self.trouble.outage(|| self.signer_since())
    }

    fn trouble(&self) -> Option<Outage> {
        self.outage().or_else(|| self.trouble.hint())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        certificate::Chain,
        clock::ManualClock,
        http::Options,
        sign::{self, Health, Identity, Key, MakeMessage, Signed, Signer},
        token::Side,
    };

    /// Fails in this way, after that time.
    #[derive(Debug)]
    struct Device {
        clock: Arc<ManualClock>,
        error: sign::Error,
        after: Duration,
    }

    impl Device {
        fn fails<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, sign::Error>> {
            Box::pin(async {
                self.clock.advance(self.after);
                Err(self.error.clone())
            })
        }
    }

    impl Signer for Device {
        fn key<'a>(&'a self, _call: &'a Call) -> BoxFuture<'a, Result<Key, sign::Error>> {
            self.fails()
        }

        fn sign<'a>(
            &'a self,
            _call: &'a Call,
            _make: MakeMessage,
        ) -> BoxFuture<'a, Result<Signed, sign::Error>> {
            self.fails()
        }

        fn chain<'a>(&'a self, _call: &'a Call) -> BoxFuture<'a, Result<Chain, sign::Error>> {
            self.fails()
        }

        fn health(&self) -> Health {
            Health::default()
        }
    }

    /// Which side is said to be away once a token was asked for in vain, and which to one whose time is up.
    async fn sides_after(error: sign::Error, after: Duration) -> [Option<Side>; 2] {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        // Nobody listens there; grants would go to the place that follows from the issuer.
        let issuer = Url::parse("http://127.0.0.1:1/").unwrap();
        let grant = Grant::new(clock.clone(), issuer.as_str(), "client");
        let signer = Arc::new(Device { clock: clock.clone(), error, after });
        let credential = Arc::new(Credential::new(Identity::KeyId("kid".into()), signer));
        let http = Arc::new(Http::new(Options::default(), clock.clone()));
        let maskinporten = Maskinporten::new(http, clock.clone(), Endpoints::of(issuer), grant, credential);
        let call = Call::within(&*clock, after + Duration::from_millis(100));
        let request = TokenRequest::scopes(["a:b"]).unwrap();
        maskinporten.token(&request, &call).await.unwrap_err();
        [maskinporten.outage(), maskinporten.trouble()].map(|outage| Some(outage?.side))
    }

    #[tokio::test]
    async fn a_signer_is_away_when_it_failed_and_not_when_it_was_asked_for_too_much_or_too_briefly() {
        let at_once = Duration::ZERO;
        let gone = sign::Error::Device { function: "C_Sign".into(), code: "CKR_DEVICE_REMOVED".into() };
        let busy = sign::Error::Busy { waiting: 64, after: Duration::from_secs(1) };
        for (error, after, side) in [
            (gone, at_once, Some(Side::Signer)),
            (sign::Error::Deadline, Duration::from_secs(2), Some(Side::Signer)),
            (sign::Error::Deadline, Duration::from_millis(1_900), None),
            (busy, at_once, None),
            (sign::Error::KeyChanged, at_once, None),
        ] {
            let said = format!("{error:?} after {after:?}");
            assert_eq!(sides_after(error, after).await, [side, Some(Side::Signer)], "{said}");
        }
    }
}
