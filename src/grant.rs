//! The JWT grant (RFC 7523). What is asked ([`TokenRequest`]), who asks ([`Grant`]), and the result of asking once
//! ([`Assertion`]).

mod request;

pub use self::request::{AuthorizationDetails, InvalidRequest, Pid, TokenRequest, TokenRequestBuilder};

use std::{fmt, sync::Arc, time::Duration};

use secrecy::SecretString;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    call::Call,
    clock::Clock,
    jose,
    sign::{self, Proven},
};

/// How long a grant is valid unless set otherwise.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// Maskinporten refuses `exp - iat` above 120 s; one second less leaves room for rounding.
pub const LONGEST_LIFE: Duration = Duration::from_secs(119);

/// Who asks, and whom: what stays the same from grant to grant.
#[derive(Clone, Debug)]
pub struct Grant {
    clock: Arc<dyn Clock>,
    audience: Arc<str>,
    issuer: Arc<str>,
    life: Duration,
}

impl Grant {
    /// Grants to the authority whose issuer identifier is `audience` (byte-exact, with its trailing slash), from the
    /// client `client_id`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, audience: &str, client_id: &str) -> Self {
        Self { clock, audience: audience.into(), issuer: client_id.into(), life: DEFAULT_LIFE }
    }

    /// The same with another `exp - iat`, bounded by [`LONGEST_LIFE`] and one second.
    #[must_use]
    pub fn life(mut self, life: Duration) -> Self {
        self.life = life.clamp(Duration::from_secs(1), LONGEST_LIFE);
        self
    }

    /// Makes one grant: `iat` and `exp` are set when the signer's turn has come, `jti` is a new UUIDv4 each time.
    ///
    /// # Errors
    /// [`Error::Request`] when the customer is the signer's own organisation; [`Error::Sign`] when a certificate of the
    /// chain is not valid now, and for all reasons of [`Proven::sign`].
    pub async fn assert(
        &self,
        proven: &Proven,
        request: &TokenRequest,
        call: &Call,
    ) -> Result<Assertion, Error> {
        self.check(proven, request)?;
        let jti = Uuid::new_v4().to_string();
        let make = {
            let (grant, proven, request, jti) = (self.clone(), proven.clone(), request.clone(), jti.clone());
            Box::new(move || {
                jose::signing_input(proven.encoded_header(), &grant.claims(&request, &jti)).into_bytes()
            })
        };
        let signed = proven.sign(call, make).await?;
        // The message is what `make` returned: base64url and dots.
        let jws = jose::compact(&String::from_utf8_lossy(&signed.message), &signed.signature);
        Ok(Assertion { jws: jws.into(), jti })
    }

    /// What only the certificate can tell of a request.
    fn check(&self, proven: &Proven, request: &TokenRequest) -> Result<(), Error> {
        let Some(chain) = proven.chain() else { return Ok(()) };
        chain.check_validity(self.clock.wall()).map_err(|why| sign::Error::Certificate(why.to_string()))?;
        let own = chain.leaf().organisation_number().ok();
        if own.is_some() && own == request.consumer_org() {
            let problem = "is the organisation that signs: leave it out";
            return Err(InvalidRequest::new("consumer_org", problem).into());
        }
        Ok(())
    }

    fn claims(&self, request: &TokenRequest, jti: &str) -> Vec<u8> {
        let iat = self.clock.numeric_date();
        let claims = Claims {
            aud: &self.audience,
            iss: &self.issuer,
            scope: request.scope(),
            iat,
            exp: iat + self.life.as_secs(),
            jti,
            resource: request.resource().map(|resource| [resource]),
            consumer_org: request.consumer_org().map(|number| number.to_string()),
            pid: request.pid().map(Pid::expose),
            authorization_details: request.authorization_details().map(|details| [details]),
        };
        // Strings and numbers always serialize.
        serde_json::to_vec(&claims).unwrap_or_default()
    }
}

/// Why there is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is one that no authority would grant.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// There is no signature.
    #[error(transparent)]
    Sign(#[from] sign::Error),
}

/// The closed set of claims that Maskinporten takes (Digdir, "JWT grant"); any other gives "Invalid assertion".
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    scope: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    /// An array of one: the form that the documentation calls the supported one.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<[&'a str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_org: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_details: Option<[&'a AuthorizationDetails; 1]>,
}

/// A signed grant: good for one request. It is not `Clone`, and sending consumes it, so no retry can send it twice.
pub struct Assertion {
    jws: SecretString,
    jti: String,
}

impl Assertion {
    /// The grant's unique name.
    #[must_use]
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// The compact JWS, to be sent once.
    #[must_use]
    pub fn into_jws(self) -> SecretString {
        self.jws
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion").field("jti", &self.jti).finish_non_exhaustive()
    }
}
