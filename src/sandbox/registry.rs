use std::sync::{Arc, Mutex};

use super::{Clients, Error, knobs::Knobs, world::locked};

/// Clients and scopes, as they are registered and as Maskinporten knows of them: it takes a while until a change has
/// reached it.
#[derive(Debug)]
pub(super) struct Registry(Mutex<Versions>);

#[derive(Debug)]
struct Versions {
    known: Arc<Clients>,
    /// Changes on their way, and when they arrive (seconds since 1970); the oldest first.
    coming: Vec<(u64, Arc<Clients>)>,
}

impl Registry {
    pub(super) fn new(clients: Clients) -> Self {
        Self(Mutex::new(Versions { known: Arc::new(clients), coming: Vec::new() }))
    }

    /// What has reached Maskinporten by `now`.
    pub(super) fn known_at(&self, now: u64) -> Arc<Clients> {
        let mut versions = locked(&self.0);
        let arrived = versions.coming.iter().take_while(|(at, _)| *at <= now).count();
        let newest = versions.coming.drain(..arrived).next_back();
        if let Some((_, newest)) = newest {
            versions.known = newest;
        }
        versions.known.clone()
    }

    /// What is registered, whether or not Maskinporten knows of it yet.
    pub(super) fn registered(&self) -> Arc<Clients> {
        let versions = locked(&self.0);
        versions.coming.last().map_or(&versions.known, |(_, newest)| newest).clone()
    }

    /// Changes what is registered; Maskinporten knows of it after the delay of the knobs.
    pub(super) fn change<T>(
        &self,
        now: u64,
        knobs: &Knobs,
        change: impl FnOnce(&mut Clients) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut versions = locked(&self.0);
        let newest = versions.coming.last().map_or(&versions.known, |(_, newest)| newest);
        let mut clients = Clients::clone(newest);
        let done = change(&mut clients)?;
        clients.check(knobs)?;
        if knobs.propagation_delay == 0 {
            *versions = Versions { known: Arc::new(clients), coming: Vec::new() };
        } else {
            let last = versions.coming.last().map_or(0, |(at, _)| *at);
            let at = now.saturating_add(knobs.propagation_delay).max(last);
            versions.coming.push((at, Arc::new(clients)));
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_registered_at_once_and_known_after_the_delay() {
        let registry = Registry::new(Clients::default());
        let slow = Knobs { propagation_delay: 120, ..Knobs::default() };
        let empty = |clients: &mut Clients| -> Result<(), Error> {
            clients.clients.clear();
            Ok(())
        };
        registry.change(1000, &slow, empty).unwrap();
        assert!(registry.registered().clients.is_empty());
        assert!(!registry.known_at(1119).clients.is_empty());
        assert!(registry.known_at(1120).clients.is_empty());
    }

    #[test]
    fn a_change_that_makes_no_sense_is_not_registered() {
        let registry = Registry::new(Clients::default());
        let spoil = |clients: &mut Clients| -> Result<(), Error> {
            clients.clients.values_mut().for_each(|client| client.organisation = "1".into());
            Ok(())
        };
        assert!(registry.change(0, &Knobs::default(), spoil).is_err());
        assert_eq!(registry.registered().organisation_of(Clients::KEY_CLIENT), Some(Clients::ORGANISATION));
    }
}
