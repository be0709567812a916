//! What works at the moment, signer and authority told apart: for a probe of whoever runs the program.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{NamedToken, Overrides, Pipeline, signers::Signers};
use crate::{
    clock::{Offset, rfc3339},
    grant::TokenRequest,
    sign::{self, Fault, Signer},
    token::{Authority, Contact, ContactState, Outage},
};

/// A snapshot; taking it touches neither device nor network. What nobody has asked yet counts as working: see
/// [`Pipeline::require_signers`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Readiness {
    /// All in all.
    ///
    /// - `ready`: no signer and no authority is known to be away.
    /// - `down`: no token of the configuration can be had: for each, its signer or one of its authorities is away, and
    ///   the cache holds none that is usable.
    /// - `degraded`: all between. Something is away, and something is served.
    pub state: State,
    /// The signers, by name.
    pub signers: Vec<SignerReadiness>,
    /// The authorities that the tokens need.
    pub authorities: Vec<AuthorityReadiness>,
    /// The tokens, by name.
    pub tokens: Vec<TokenReadiness>,
}

/// How well something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// As it should, as far as is known.
    Ready,
    /// With something away: of a signer a device beside the one that signs, of a token what would renew it.
    Degraded,
    /// Not at all.
    Down,
}

/// How one signer fares.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SignerReadiness {
    /// Its name in the configuration.
    pub name: String,
    /// `ready`, `down`, or `degraded` when one of its devices is away and another signs, or would.
    pub state: State,
    /// Signatures since the start.
    pub signatures: u64,
    /// When it last made a signature, or showed its key; `None` when nobody has asked it yet, or never with success.
    #[serde(serialize_with = "moment")]
    pub last_success: Option<SystemTime>,
    /// Since when it is down.
    #[serde(serialize_with = "moment")]
    pub since: Option<SystemTime>,
    /// What went wrong last.
    #[serde(serialize_with = "sentence")]
    pub problem: Option<sign::Error>,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// How one authority fares, as this machine sees it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AuthorityReadiness {
    /// Who it is.
    pub authority: Authority,
    /// Its issuer, or its base address.
    pub address: String,
    /// `ready` or `down`.
    pub state: State,
    /// When it last gave a token or a refusal with a reason; `None` when nobody has asked it yet, or never with success.
    #[serde(serialize_with = "moment")]
    pub last_success: Option<SystemTime>,
    /// Since when it is away, and why.
    pub outage: Option<Outage>,
    /// How far this machine's clock is ahead of its clock, by its last answer.
    pub clock: Option<Offset>,
    /// Whether that is more than [`CLOCK_LIMIT`](crate::token::CLOCK_LIMIT). It changes no state: only refusals do harm.
    pub clock_is_off: bool,
}

/// How one token of the configuration fares.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TokenReadiness {
    /// Its name in the configuration.
    pub name: String,
    /// `ready` when all that it takes is there; `degraded` when something is away and the cache serves on; `down`.
    pub state: State,
    /// How many more seconds the cached token is usable. `None` when there is none, or when each caller asks for one of
    /// its own (a customer, a person).
    pub usable_seconds: Option<u64>,
}

/// A signer that has to be there, and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signer {name} is not ready: {error}")]
#[non_exhaustive]
pub struct NotReady {
    /// Its name in the configuration.
    pub name: String,
    /// What is wrong with it.
    pub error: sign::Error,
}

impl NotReady {
    pub(super) fn new(name: &str, error: sign::Error) -> Self {
        Self { name: name.to_owned(), error }
    }

    /// Whose move it is.
    #[must_use]
    pub fn kind(&self) -> Fault {
        self.error.kind()
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.error.remedy()
    }
}

pub(super) fn of(pipeline: &Pipeline) -> Readiness {
    let signers: Vec<_> = signers(&pipeline.signers);
    let authorities: Vec<_> = pipeline.contacts.iter().map(authority).collect();
    let tokens: Vec<_> = pipeline.tokens.values().map(token).collect();
    let nothing_is_away = signers.iter().all(|signer| signer.state == State::Ready)
        && authorities.iter().all(|authority| authority.state == State::Ready);
    let state = if nothing_is_away {
        State::Ready
    } else if !tokens.is_empty() && tokens.iter().all(|token| token.state == State::Down) {
        State::Down
    } else {
        State::Degraded
    };
    Readiness { state, signers, authorities, tokens }
}

fn signers(signers: &Signers) -> Vec<SignerReadiness> {
    let readiness = |(name, signer): (&String, &Arc<dyn Signer>)| {
        let health = signer.health();
        let state = match (&health.trouble, health.trouble_since) {
            (None, _) => State::Ready,
            (Some(_), Some(_)) => State::Down,
            (Some(_), None) => State::Degraded,
        };
        SignerReadiness {
            name: name.clone(),
            state,
            signatures: health.signatures,
            last_success: health.last_success,
            since: health.trouble_since,
            remedy: health.trouble.as_ref().map(sign::Error::remedy),
            problem: health.trouble,
        }
    };
    signers.iter().map(readiness).collect()
}

fn authority(((authority, address), contact): (&(Authority, String), &Arc<Contact>)) -> AuthorityReadiness {
    let ContactState { last_answer, outage, clock, clock_is_off, .. } = contact.state();
    AuthorityReadiness {
        authority: *authority,
        address: address.clone(),
        state: if outage.is_some() { State::Down } else { State::Ready },
        last_success: last_answer,
        outage,
        clock,
        clock_is_off,
    }
}

fn token(named: &NamedToken) -> TokenReadiness {
    let request: Option<TokenRequest> = named.request(Overrides::default()).ok();
    let usable = request.as_ref().and_then(|request| named.cache.usable_for(request));
    let is_signed = named.client.signer().health().trouble_since.is_none();
    let all_there = is_signed && named.contacts.iter().all(|contact| contact.state().outage.is_none());
    // Where each caller has a token of its own, one of them stands for all.
    let serves_on = if request.is_some() { usable.is_some() } else { named.cache.has_usable() };
    let state = match (all_there, serves_on) {
        (true, _) => State::Ready,
        (false, true) => State::Degraded,
        (false, false) => State::Down,
    };
    TokenReadiness {
        name: named.name().to_owned(),
        state,
        usable_seconds: usable.as_ref().map(Duration::as_secs),
    }
}

fn moment<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}

fn sentence<S: Serializer>(error: &Option<sign::Error>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().map(ToString::to_string).serialize(serializer)
}
