use std::{fmt, future::Future};

use serde::Serialize;
use tokio::sync::watch;

/// One of the fake authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Authority {
    /// Issues access tokens.
    Maskinporten,
    /// Exchanges them for Customs tokens.
    Customs,
    /// Exchanges them for Altinn tokens.
    Altinn,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maskinporten => "Maskinporten",
            Self::Customs => "Customs",
            Self::Altinn => "Altinn",
        })
    }
}

/// What happened at one endpoint.
///
/// A request whose client went away before the answer is a hit that was neither served nor refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Hits {
    /// Requests that arrived.
    pub hits: u64,
    /// Requests answered with success (status below 400).
    pub served: u64,
    /// Requests answered with anything else, outages included.
    pub refused: u64,
}

/// What happened at each endpoint since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Maskinporten's metadata document.
    pub metadata: Hits,
    /// Maskinporten's public keys.
    pub jwk: Hits,
    /// Maskinporten's token endpoint: as many hits as grants were sent.
    pub token: Hits,
    /// Customs' token exchange.
    pub customs_exchange: Hits,
    /// Customs' test call.
    pub customs_test_auth: Hits,
    /// Altinn's token exchange.
    pub altinn_exchange: Hits,
    /// Altinn's public keys.
    pub altinn_keys: Hits,
    /// Any other path.
    pub other: Hits,
}

/// An endpoint of the sandbox, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Metadata,
    Jwk,
    Token,
    CustomsExchange,
    CustomsTestAuth,
    AltinnExchange,
    AltinnKeys,
    Other,
}

/// The counters while they run: they can be read, and waited on.
#[derive(Debug, Default)]
pub(super) struct Counting(watch::Sender<Counters>);

impl Counting {
    pub(super) fn arrived(&self, endpoint: Endpoint) {
        self.0.send_modify(|counters| counters.at(endpoint).hits += 1);
    }

    pub(super) fn answered(&self, endpoint: Endpoint, success: bool) {
        self.0.send_modify(|counters| {
            let hits = counters.at(endpoint);
            if success {
                hits.served += 1;
            } else {
                hits.refused += 1;
            }
        });
    }

    pub(super) fn snapshot(&self) -> Counters {
        *self.0.borrow()
    }

    pub(super) fn until<F>(&self, mut reached: F) -> impl Future<Output = Counters> + Send + use<F>
    where
        F: FnMut(&Counters) -> bool + Send,
    {
        let mut counters = self.0.subscribe();
        async move {
            let last = match counters.wait_for(|counters| reached(counters)).await {
                Ok(found) => Some(*found),
                Err(_) => None,
            };
            // The sender is gone: nothing will be counted any more.
            last.unwrap_or_else(|| *counters.borrow())
        }
    }
}

impl Counters {
    fn at(&mut self, endpoint: Endpoint) -> &mut Hits {
        match endpoint {
            Endpoint::Metadata => &mut self.metadata,
            Endpoint::Jwk => &mut self.jwk,
            Endpoint::Token => &mut self.token,
            Endpoint::CustomsExchange => &mut self.customs_exchange,
            Endpoint::CustomsTestAuth => &mut self.customs_test_auth,
            Endpoint::AltinnExchange => &mut self.altinn_exchange,
            Endpoint::AltinnKeys => &mut self.altinn_keys,
            Endpoint::Other => &mut self.other,
        }
    }
}
