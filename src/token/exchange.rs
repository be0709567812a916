//! Token exchange: a Maskinporten token in, another authority's token out.

mod altinn;
mod customs;

pub use self::{
    altinn::Altinn,
    customs::{Customs, TEST_AUTH, TestAuth},
};

use std::{fmt, sync::Arc, time::Duration};

use super::{
    AccessToken, Authority, Contact, Error, Outage, TokenSource,
    response::{IssuedToken, no_answer, unreachable},
    retry::Tries,
    trouble::Trouble,
};
use crate::{
    call::Call,
    clock::{BoxFuture, Clock, numeric_date},
    grant::TokenRequest,
    http::{Http, Response},
};

/// What the subject token must still have left: the way to the other authority takes a moment.
const SUBJECT_LIFE: Duration = Duration::from_secs(10);

/// How one authority's exchange differs from another's. Pure: it makes a request and reads an answer.
pub trait Counterparty: Send + Sync + fmt::Debug {
    /// Who it is.
    fn authority(&self) -> Authority;

    /// Sends the subject token.
    ///
    /// # Errors
    /// [`crate::http::Error`] when there is no answer.
    fn send<'a>(
        &'a self,
        http: &'a Http,
        subject: &'a AccessToken,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Response, crate::http::Error>>;

    /// Reads the answer. `now` is wall time in seconds since 1970, just before the request was sent.
    ///
    /// # Errors
    /// [`Error`] for refusals and answers without a token.
    fn read(&self, response: &Response, subject: &AccessToken, now: u64) -> Result<ExchangedToken, Error>;
}

/// A token as the counterparty issued it.
pub struct ExchangedToken(IssuedToken);

impl fmt::Debug for ExchangedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangedToken").field("life", &self.0.life).finish_non_exhaustive()
    }
}

/// Exchanges the tokens of `subject` at a [`Counterparty`].
///
/// `subject` is to be Maskinporten itself, not a cache: a token that is only a step on the way is neither renewed nor
/// kept, so that there is one signature per life of the *issued* token.
#[derive(Debug)]
pub struct Exchange {
    subject: Arc<dyn TokenSource>,
    counterparty: Box<dyn Counterparty>,
    http: Arc<Http>,
    clock: Arc<dyn Clock>,
    trouble: Trouble,
}

impl Exchange {
    /// An exchange; touches nothing.
    #[must_use]
    pub fn new(
        subject: Arc<dyn TokenSource>,
        counterparty: impl Counterparty + 'static,
        http: Arc<Http>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let contact = Arc::new(Contact::new(counterparty.authority(), clock.clone()));
        let trouble = Trouble::new(contact, clock.clone());
        Self { subject, counterparty: Box::new(counterparty), http, clock, trouble }
    }

    /// Shares what is known of the counterparty with other exchanges there.
    #[must_use]
    pub fn with_contact(mut self, contact: Arc<Contact>) -> Self {
        self.trouble = Trouble::new(contact, self.clock.clone());
        self
    }

    /// Exchanges until there is a token, a clear refusal, or no time left. A subject token that still lasts is used
    /// for the next try.
    async fn exchange(&self, request: &TokenRequest, call: &Call) -> Result<AccessToken, Error> {
        let mut tries = Tries::new(&*self.clock, call);
        let mut last: Option<AccessToken> = None;
        loop {
            // Before the subject token is asked for: no signature is made for an exchange that has to wait.
            let mut turn = self.trouble.contact().turn(call).await?;
            let subject = match last.filter(|token| token.left(&*self.clock) >= SUBJECT_LIFE) {
                Some(token) => token,
                None => self.subject.token(request, &call.clone().min_life(SUBJECT_LIFE)).await?,
            };
            if !turn.asks() {
                last = Some(subject);
                continue;
            }
            match self.trouble.watch(turn.end(self.exchange_once(&subject, call).await)) {
                Ok(issued) => return Ok(issued),
                Err(error) => {
                    tries.pause_after(error, |error| self.trouble.explained(error, || None)).await?
                }
            }
            last = Some(subject);
        }
    }

    async fn exchange_once(&self, subject: &AccessToken, call: &Call) -> Result<AccessToken, Error> {
        let clock = &*self.clock;
        let (asked_at, asked) = (clock.now(), clock.wall());
        let authority = self.counterparty.authority();
        let sending = self.counterparty.send(&self.http, subject, call);
        let response = self
            .trouble
            .unless(no_answer(authority), sending)
            .await
            .map_err(|why| unreachable(authority, &why, asked, call, clock))?;
        self.trouble.contact().compared(response.clock, false);
        let asked = numeric_date(asked);
        let ExchangedToken(issued) = self.counterparty.read(&response, subject, asked)?;
        let provenance = subject.provenance().clone();
        Ok(AccessToken::issued(issued.text, issued.scope, asked_at, asked, issued.life, provenance))
    }
}

impl TokenSource for Exchange {
    fn token<'a>(
        &'a self,
        request: &'a TokenRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<AccessToken, Error>> {
        Box::pin(async move {
            self.exchange(request, call).await?.lasting(self.counterparty.authority(), call, &*self.clock)
        })
    }

    /// The subject's comes first: without a subject token nothing is exchanged.
    fn outage(&self) -> Option<Outage> {
        self.subject.outage().or_else(|| self.trouble.outage(|| None))
    }

    fn trouble(&self) -> Option<Outage> {
        self.outage().or_else(|| self.subject.trouble()).or_else(|| self.trouble.hint())
    }
}
