//! The examination of a grant, in the order in which Maskinporten is believed to go: form, client, key,
//! signature, time, replay, access.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::{
    Refusal, TestCa,
    assertion::{Assertion, Claims},
    chain,
    clients::{Client, Clients},
    details,
    knobs::Knobs,
    replay::Replay,
    seal::{self, Sealed},
    world::locked,
};
use crate::jose::RsaPublicKey;

/// `iat` may be so many seconds ahead of Maskinporten's clock.
const CLOCK_SKEW: u64 = 10;

/// `exp - iat` is at most this many seconds.
const LONGEST_GRANT: u64 = 120;

/// What the examination is held against.
pub(super) struct Examiner<'a> {
    pub(super) issuer: &'a str,
    pub(super) ca: &'a TestCa,
    /// Issuers whose eSeals are taken, DER.
    pub(super) seal_issuers: &'a [Vec<u8>],
    pub(super) knobs: &'a Knobs,
    pub(super) clients: &'a Clients,
    /// Seconds since 1970.
    pub(super) now: u64,
}

/// A grant that passed, with everything that stands in the token.
#[derive(Debug)]
pub(super) struct Approved {
    pub(super) client_id: String,
    /// `private_key_jwt`, `virksomhetssertifikat`, or the kind of eSeal.
    pub(super) client_amr: &'static str,
    pub(super) scopes: Vec<String>,
    /// Seconds.
    pub(super) lifetime: u64,
    /// Authority and identifier of whom the token is for.
    pub(super) consumer: Value,
    /// Supplier and delegation source, when the consumer is a customer.
    pub(super) delegated: Option<(String, String)>,
    pub(super) resource: Option<Value>,
    pub(super) pid: Option<String>,
    pub(super) authorization_details: Option<Value>,
    /// What of this acceptance nobody has published.
    pub(super) guesses: Vec<&'static str>,
}

/// The key a grant must be signed with, and how the client came by it.
struct Selected {
    key: RsaPublicKey,
    client_amr: &'static str,
    is_guess: bool,
}

impl Examiner<'_> {
    /// Examines `text`, the value of the form field `assertion`.
    pub(super) fn examine(&self, text: &str, replay: &Mutex<Replay>) -> Result<Approved, Refusal> {
        let assertion = Assertion::read(text, self.knobs)?;
        let claims = &assertion.claims;
        let client = self.clients.clients.get(&claims.iss);
        if let Some(x5c) = assertion.x5c.as_ref().filter(|x5c| self.is_seal(x5c, client, &claims.scopes)) {
            return self.examine_seal(&assertion, x5c, text, replay);
        }
        let client = client.ok_or(Refusal::UnknownClient)?;
        self.audience(&claims.aud)?;
        let selected = self.select_key(&assertion, client)?;
        if !assertion.jws.is_signed_by(&selected.key, assertion.algorithm) {
            return Err(Refusal::Signature);
        }
        self.time(claims)?;
        self.replay(claims, text, replay)?;
        self.access(&assertion, client, &selected)
    }

    /// Whether a grant goes the way of eSeals. `iss` says nothing there, so the certificate decides: its issuer, and for
    /// strangers what they ask for. How Maskinporten decides is not published.
    fn is_seal(&self, x5c: &Value, client: Option<&Client>, scopes: &[String]) -> bool {
        seal::is_claimed(x5c, self.seal_issuers)
            || client.is_none() && scopes.iter().all(|scope| self.is_open_to_seals(scope))
    }

    fn is_open_to_seals(&self, scope: &str) -> bool {
        self.clients.scopes.get(scope).is_some_and(|found| found.eseal)
    }

    fn examine_seal(
        &self,
        assertion: &Assertion<'_>,
        x5c: &Value,
        text: &str,
        replay: &Mutex<Replay>,
    ) -> Result<Approved, Refusal> {
        let claims = &assertion.claims;
        self.audience(&claims.aud)?;
        if assertion.kid.is_some() {
            return Err(Refusal::BothKeyReferences);
        }
        let Sealed { key, client_id, client_amr, consumer, mut guesses } =
            seal::verify(x5c, self.seal_issuers, self.knobs, self.now)?;
        if !assertion.jws.is_signed_by(&key, assertion.algorithm) {
            return Err(Refusal::Signature);
        }
        self.time(claims)?;
        self.replay(claims, text, replay)?;
        if let Some(scope) = claims.scopes.iter().find(|scope| !self.is_open_to_seals(scope)) {
            return Err(Refusal::SealScope { scope: scope.clone() });
        }
        for (name, is_there) in [
            ("iss_onbehalfof", claims.iss_onbehalfof),
            ("consumer_org", claims.consumer_org.is_some()),
            ("authorization_details", claims.authorization_details.is_some()),
        ] {
            if is_there {
                return Err(Refusal::SealClaim(name));
            }
        }
        guesses.extend(self.guesses(claims));
        Ok(Approved {
            client_id,
            client_amr,
            scopes: claims.scopes.clone(),
            lifetime: self.lifetime(&claims.scopes, None),
            consumer,
            delegated: None,
            resource: claims.resource.clone(),
            pid: claims.pid.clone(),
            authorization_details: None,
            guesses,
        })
    }

    fn audience(&self, aud: &Value) -> Result<(), Refusal> {
        let single = match aud {
            Value::Array(members) => match members.as_slice() {
                [single] => single,
                _ => return Err(Refusal::Audience),
            },
            single => single,
        };
        let without_slash = self.issuer.strip_suffix('/').filter(|_| self.knobs.tolerate_aud_no_slash);
        match single.as_str() {
            Some(aud) if aud == self.issuer || Some(aud) == without_slash => Ok(()),
            _ => Err(Refusal::Audience),
        }
    }

    fn select_key(&self, assertion: &Assertion<'_>, client: &Client) -> Result<Selected, Refusal> {
        match (&assertion.kid, &assertion.x5c) {
            (Some(_), Some(_)) => Err(Refusal::BothKeyReferences),
            (Some(kid), None) => {
                let found = client.jwks.iter().find(|key| key.kid == *kid);
                let registered = found.ok_or(Refusal::UnknownKey)?;
                if registered.expires.is_some_and(|expires| expires <= self.now) {
                    return Err(Refusal::KeyExpired);
                }
                if registered.algorithm.is_some_and(|algorithm| algorithm != assertion.algorithm) {
                    return Err(Refusal::Signature);
                }
                Ok(Selected { key: registered.key.clone(), client_amr: "private_key_jwt", is_guess: false })
            }
            (None, _) if !client.jwks.is_empty() => Err(Refusal::KeyRequired),
            (None, None) => Err(Refusal::X5c("it is missing")),
            (None, Some(x5c)) => {
                let certified = chain::verify(x5c, self.ca, self.now)?;
                if certified.organisation.as_ref() != Some(&client.organisation) {
                    return Err(Refusal::OrganisationNumber);
                }
                Ok(Selected {
                    key: certified.key,
                    client_amr: "virksomhetssertifikat",
                    is_guess: certified.is_for_signing,
                })
            }
        }
    }

    fn time(&self, claims: &Claims) -> Result<(), Refusal> {
        if claims.exp <= self.now {
            return Err(Refusal::Expired);
        }
        if claims.iat > self.now.saturating_add(CLOCK_SKEW) {
            return Err(Refusal::NotYetIssued);
        }
        if claims.exp <= claims.iat || claims.exp - claims.iat > LONGEST_GRANT {
            return Err(Refusal::Lifetime);
        }
        if self.knobs.strict_iat && claims.iat.saturating_add(CLOCK_SKEW) < self.now {
            return Err(Refusal::TooOld);
        }
        Ok(())
    }

    fn replay(&self, claims: &Claims, text: &str, replay: &Mutex<Replay>) -> Result<(), Refusal> {
        let until = claims.exp.saturating_add(CLOCK_SKEW);
        let mut replay = locked(replay);
        if !self.knobs.replay_memory {
            return Ok(());
        }
        let first = match &claims.jti {
            Some(jti) => replay.first_use(&[claims.iss.as_str(), jti], self.now, until),
            None => replay.first_use(&[text], self.now, until),
        };
        if first { Ok(()) } else { Err(Refusal::Replayed) }
    }

    fn access(
        &self,
        assertion: &Assertion<'_>,
        client: &Client,
        selected: &Selected,
    ) -> Result<Approved, Refusal> {
        let claims = &assertion.claims;
        if claims.iss_onbehalfof {
            return Err(Refusal::OnBehalfOf);
        }
        if client.integration_type != "maskinporten" {
            return Err(Refusal::IntegrationType);
        }
        if !claims.scopes.iter().all(|scope| client.scopes.contains(scope)) {
            return Err(Refusal::ScopeNotOnClient);
        }
        let (consumer, delegated) = match &claims.consumer_org {
            None => (client.organisation.clone(), None),
            Some(customer) if *customer == client.organisation => return Err(Refusal::ConsumerIsSelf),
            Some(customer) => (customer.clone(), Some(client.organisation.clone())),
        };
        for scope in &claims.scopes {
            self.granted(scope, &consumer)?;
        }
        let delegated = match delegated {
            None => None,
            Some(supplier) => {
                let source = self.delegated(&claims.scopes, &consumer, &supplier)?;
                Some((supplier, source))
            }
        };
        let authorization_details = match &claims.authorization_details {
            None => None,
            Some(requested) => Some(details::granted(requested, &claims.iss, self.clients, self.knobs)?),
        };
        let mut guesses = self.guesses(claims);
        if selected.is_guess {
            guesses.push("signing certificate accepted");
        }
        Ok(Approved {
            client_id: claims.iss.clone(),
            client_amr: selected.client_amr,
            scopes: claims.scopes.clone(),
            lifetime: self.lifetime(&claims.scopes, client.access_token_lifetime),
            consumer: party(&consumer),
            delegated,
            resource: claims.resource.clone(),
            pid: claims.pid.clone(),
            authorization_details,
            guesses,
        })
    }

    /// What of accepting these claims nobody has published.
    fn guesses(&self, claims: &Claims) -> Vec<&'static str> {
        let mut guesses = Vec::new();
        if claims.iat.saturating_add(CLOCK_SKEW) < self.now {
            guesses.push("old iat accepted");
        }
        if claims.resource.is_some() {
            guesses.push("form of aud");
        }
        guesses
    }

    fn granted(&self, scope: &str, consumer: &str) -> Result<(), Refusal> {
        let granted = self.clients.scopes.get(scope).is_some_and(|found| {
            found.accessible_for_all || found.granted_to.iter().any(|number| number == consumer)
        });
        if granted { Ok(()) } else { Err(Refusal::NotGranted { scope: scope.into() }) }
    }

    /// The delegation source, when `consumer` has delegated all of `scopes` to `supplier`.
    fn delegated(&self, scopes: &[String], consumer: &str, supplier: &str) -> Result<String, Refusal> {
        let mut source = String::new();
        for scope in scopes {
            let delegated = self.clients.delegations.iter().any(|delegation| {
                delegation.from == consumer && delegation.to == supplier && delegation.scopes.contains(scope)
            });
            let found = self.clients.scopes.get(scope).and_then(|found| found.delegation_source.as_ref());
            match found.filter(|_| delegated) {
                Some(found) => source.clone_from(found),
                None => {
                    return Err(Refusal::NotDelegated {
                        scope: scope.clone(),
                        consumer: consumer.into(),
                        supplier: supplier.into(),
                    });
                }
            }
        }
        Ok(source)
    }

    /// The scopes' lowest limit wins; without one, the client's setting; without that, the authority's own.
    fn lifetime(&self, scopes: &[String], of_client: Option<u64>) -> u64 {
        let limit = |scope: &String| self.clients.scopes.get(scope)?.max_age.filter(|age| *age > 0);
        let lowest = scopes.iter().filter_map(limit).min();
        lowest.or(of_client).unwrap_or(self.knobs.token_lifetime)
    }
}

/// A Norwegian organisation, as tokens name it.
pub(super) fn party(number: &str) -> Value {
    json!({ "authority": "iso6523-actorid-upis", "ID": format!("0192:{number}") })
}
