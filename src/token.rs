//! Tokens. One trait for all that gives one: Maskinporten, an exchange, a cache in front of either.

mod cache;
mod contact;
mod error;
mod exchange;
mod maskinporten;
mod outage;
mod refusal;
mod response;
mod retry;
mod trouble;

#[cfg(feature = "cli")]
pub(crate) use self::refusal::cleaned;
pub use self::{
    cache::{Cached, DEFAULT_CAPACITY, lead_time},
    contact::{CLOCK_LIMIT, Contact, ContactState},
    error::{Authority, Error},
    exchange::{Altinn, Counterparty, Customs, Exchange, ExchangedToken, TEST_AUTH, TestAuth},
    maskinporten::{Endpoints, Maskinporten},
    outage::{Outage, Side},
    refusal::Refusal,
};

use std::{fmt, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::{
    call::Call,
    clock::{BoxFuture, Clock, Instant},
    grant::TokenRequest,
};

/// Gives access tokens: Maskinporten, an exchange, or a cache. Object-safe; shared behind an `Arc`.
pub trait TokenSource: Send + Sync + fmt::Debug {
    /// A token for `request` that is usable for at least [`Call::required_life`].
    ///
    /// # Errors
    /// [`Error`] when there is none within the call's deadline. It says whose move it is.
    fn token<'a>(
        &'a self,
        request: &'a TokenRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<AccessToken, Error>>;

    /// Who is away: a try has failed, and none has gone right since. A snapshot; touches nothing.
    fn outage(&self) -> Option<Outage>;

    /// The same, and who has not answered for a while, although nothing has failed yet: what there is to say to a caller
    /// whose time is up. A snapshot; touches nothing.
    fn trouble(&self) -> Option<Outage> {
        self.outage()
    }
}

/// How a token came to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Delivery {
    /// Issued for this request.
    Fresh,
    /// From the cache.
    Cached,
    /// From the cache past its renewal point, since renewal fails at the moment: usable until it expires.
    /// [`AccessToken::outage`] says why.
    WhileDown,
}

/// Where a token comes from: what an audit line wants to know, and nothing secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// `jti` of the grant it was issued for.
    pub jti: String,
    /// RFC 7638 thumbprint of the key that signed the grant.
    pub key: String,
    /// Device that signed, as `label (serial)`.
    pub device: Option<String>,
}

/// An access token. Cheap to clone; its text is secret and silent in `Debug`.
#[derive(Clone)]
pub struct AccessToken {
    inner: Arc<Issued>,
    delivery: Delivery,
    outage: Option<Arc<Outage>>,
}

struct Issued {
    text: SecretString,
    scope: String,
    expires_at: Instant,
    expires_wall: u64,
    life: Duration,
    provenance: Provenance,
}

impl AccessToken {
    /// A token as issued. `asked_at` and `asked_wall` (seconds since 1970) are the two times just *before* the request was
    /// sent, so that its way over the network makes it expire early rather than late.
    #[must_use]
    pub fn issued(
        text: SecretString,
        scope: String,
        asked_at: Instant,
        asked_wall: u64,
        life: Duration,
        provenance: Provenance,
    ) -> Self {
        let inner = Issued {
            text,
            scope,
            expires_at: asked_at + life,
            expires_wall: asked_wall.saturating_add(life.as_secs()),
            life,
            provenance,
        };
        Self { inner: Arc::new(inner), delivery: Delivery::Fresh, outage: None }
    }

    /// The same token, marked with how it reached the caller.
    #[must_use]
    pub fn delivered(&self, delivery: Delivery) -> Self {
        Self { inner: self.inner.clone(), delivery, outage: None }
    }

    /// The same token, delivered [`Delivery::WhileDown`] because of `outage`.
    #[must_use]
    pub fn while_down(&self, outage: Arc<Outage>) -> Self {
        Self { inner: self.inner.clone(), delivery: Delivery::WhileDown, outage: Some(outage) }
    }

    /// The token itself, for an `Authorization: Bearer` header.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.inner.text.expose_secret()
    }

    /// The scopes it was issued for, separated by spaces.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.inner.scope
    }

    /// When it expires (monotonic).
    #[must_use]
    pub fn expires_at(&self) -> Instant {
        self.inner.expires_at
    }

    /// When it expires, in seconds since 1970 by this machine's clock.
    #[must_use]
    pub fn expires_wall(&self) -> u64 {
        self.inner.expires_wall
    }

    /// How long it was issued for.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.inner.life
    }

    /// How it reached the caller.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Who is away, and since when, for a token that is delivered [`Delivery::WhileDown`].
    #[must_use]
    pub fn outage(&self) -> Option<&Outage> {
        self.outage.as_deref()
    }

    /// Where it comes from.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.inner.provenance
    }

    /// What is left of its life: the lesser of what the two clocks say. A wall clock that was set forward makes a
    /// token expire early; one that was set back does not make it live longer.
    #[must_use]
    pub fn left(&self, clock: &dyn Clock) -> Duration {
        self.left_at(clock.now(), clock.numeric_date())
    }

    /// [`left`](Self::left) by clocks that were read already: monotonic time, and seconds since 1970.
    fn left_at(&self, now: Instant, wall: u64) -> Duration {
        let wall = Duration::from_secs(self.inner.expires_wall.saturating_sub(wall));
        self.inner.expires_at.since(now).min(wall)
    }

    /// The token, when it lasts as long as the caller needs it.
    fn lasting(self, authority: Authority, call: &Call, clock: &dyn Clock) -> Result<Self, Error> {
        let needed = call.required_life();
        if self.left(clock) < needed {
            return Err(Error::TooShort { authority, life: self.life(), needed });
        }
        Ok(self)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("scope", &self.inner.scope)
            .field("expires_wall", &self.inner.expires_wall)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}
