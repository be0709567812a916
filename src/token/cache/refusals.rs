use std::{collections::HashMap, sync::Mutex, time::Duration};

use super::unpoisoned;
use crate::{
    clock::{Clock, Instant},
    grant::TokenRequest,
    sign::Retry,
    token::Error,
};

/// A person must act before the answer changes; half a minute spares the authority and does not bother the person.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The answer may change by itself: a key or scope is on its way through the portal, or no reason was given.
const REMEMBERED_BRIEFLY: Duration = Duration::from_secs(5);

/// More refusals than this are not remembered: each costs one request to the authority, as it would anyway.
const MOST: usize = 4_096;

/// Refusals that come from configuration, remembered for seconds. Never an answer to a request that a token is held for.
#[derive(Default)]
pub(super) struct Refusals {
    remembered: Mutex<HashMap<TokenRequest, (Error, Instant)>>,
}

impl Refusals {
    pub(super) fn remembered(&self, request: &TokenRequest, clock: &dyn Clock) -> Option<Error> {
        let remembered = unpoisoned(self.remembered.lock());
        let (error, until) = remembered.get(request)?;
        (*until > clock.now()).then(|| error.clone())
    }

    pub(super) fn remember(&self, request: &TokenRequest, error: &Error, clock: &dyn Clock) {
        let Some(time) = remembered_for(error) else { return };
        let mut remembered = unpoisoned(self.remembered.lock());
        let now = clock.now();
        remembered.retain(|_, (_, until)| *until > now);
        if remembered.len() < MOST {
            remembered.insert(request.clone(), (error.clone(), now + time));
        }
    }

    pub(super) fn forget(&self, request: &TokenRequest) {
        unpoisoned(self.remembered.lock()).remove(request);
    }
}

fn remembered_for(error: &Error) -> Option<Duration> {
    let Error::Refused(refusal) = error.cause() else { return None };
    match error.retry() {
        _ if refusal.may_be_propagation() => Some(REMEMBERED_BRIEFLY),
        Retry::Never => refusal.is_clear().then_some(REMEMBERED),
        // It has been tried again already, and is not to be for each caller of a loop.
        Retry::NewGrant => Some(REMEMBERED_BRIEFLY),
        // A page is somebody else's, and the contact waits for the authority.
        Retry::After(_) => (error.is_late() && !refusal.is_a_page()).then_some(REMEMBERED_BRIEFLY),
    }
}
