//! The checks: everything about a configured token that can be wrong, looked at before the authority is asked.
//!
//! ```text
//!   machine ─▶ signer ─▶ client ─▶ token ─▶ (online) authorities, clock, one token
//! ```
//!
//! Ground first: what a later check stands on has been looked at before it. Each finding is one line: what was looked
//! at, how it is, and what to do. A PIN is tried at most as often as the guard of PINs allows, which is the one that
//! every other command goes through.

mod certificate;
mod client;
mod finding;
mod hosts;
mod machine;
mod online;
mod signer;
mod token;

pub use self::{
    finding::{Finding, Verdict},
    hosts::{Host, hosts},
};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::finding::Findings;
use crate::{
    call::Call,
    clock::Clock,
    config::{self, Config},
    language::counted,
    pipeline::{Error, Pipeline},
    sign::pkcs11::{PinRecords, Profiles},
};

/// What is examined, and with what.
#[derive(Debug)]
pub struct Examination<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What is known of kinds of devices.
    pub profiles: Arc<Profiles>,
    /// The time, for validity and deadlines.
    pub clock: Arc<dyn Clock>,
    /// The names of the environment variables of this process.
    pub variables: BTreeSet<String>,
    /// Where it is kept which PINs were refused.
    pub records: PinRecords,
    /// Whether the authorities are asked, too.
    pub online: bool,
}

impl Examination<'_> {
    /// Examines the tokens called `names`; without names, all of them, and the signers that no token needs. Each
    /// finding is handed to `found` as soon as it is there. `patience` bounds each question to a device or an authority,
    /// not the whole.
    ///
    /// # Errors
    /// [`Error::Unknown`] when there is no token of a name.
    pub async fn run(
        &self,
        names: &[String],
        patience: std::time::Duration,
        found: &mut dyn FnMut(&Finding),
    ) -> Result<(), Error> {
        let tokens = self.chosen(names)?;
        let mut findings = Findings::new(found);
        machine::check(self, &mut findings);
        let Some(pipeline) = self.pipeline(&tokens, &mut findings) else { return Ok(()) };
        let ward = Ward { examination: self, pipeline: &pipeline, patience };
        let clients: BTreeSet<&str> = tokens.iter().map(|token| token.client.as_str()).collect();
        let mut signers: BTreeSet<&str> = clients
            .iter()
            .filter_map(|client| self.config.clients.get(*client))
            .map(|client| client.signer.as_str())
            .collect();
        if names.is_empty() {
            signers.extend(self.config.signers.keys().map(String::as_str));
        }
        let mut rates = BTreeMap::new();
        for signer in signers.iter().filter_map(|name| self.config.signers.get(*name)) {
            if let Some(rate) = signer::check(&ward, signer, &mut findings).await {
                rates.insert(signer.name.as_str(), rate);
            }
        }
        for client in clients.iter().filter_map(|name| self.config.clients.get(*name)) {
            let signs = rates.contains_key(client.signer.as_str());
            client::check(&ward, client, signs, &tokens, &mut findings).await;
        }
        for token in &tokens {
            let signer = self.config.clients.get(&token.client).map(|client| client.signer.as_str());
            let signs = signer.is_some_and(|signer| rates.contains_key(signer));
            token::check(&ward, token, signs, &mut findings).await;
        }
        token::check_rates(&ward, &rates, &mut findings);
        if self.online {
            online::check(&ward, &tokens, &mut findings).await;
        }
        pipeline.shutdown(patience).await;
        Ok(())
    }

    fn chosen(&self, names: &[String]) -> Result<Vec<&config::Token>, Error> {
        if names.is_empty() {
            return Ok(self.config.tokens.values().collect());
        }
        let known = || self.config.tokens.keys().cloned().collect();
        let named = |name: &String| {
            self.config.tokens.get(name).ok_or_else(|| Error::Unknown {
                what: "token",
                name: name.clone(),
                known: known(),
            })
        };
        names.iter().map(named).collect()
    }

    /// Everything wired; what cannot be is found, and there is nothing more to look at then.
    fn pipeline(&self, tokens: &[&config::Token], findings: &mut Findings<'_>) -> Option<Pipeline> {
        let mut part = self.config.clone();
        part.tokens.retain(|name, _| tokens.iter().any(|token| token.name == *name));
        part.clients.retain(|name, _| tokens.iter().any(|token| token.client == *name));
        match Pipeline::with_profiles(&part, self.clock.clone(), self.profiles.clone()) {
            Ok(pipeline) => {
                let said = format!(
                    "{}, {}",
                    counted(part.tokens.len(), "token"),
                    counted(self.config.signers.len(), "signer")
                );
                findings.ok("configuration", "", said);
                Some(pipeline)
            }
            Err(error) => {
                findings.failure("configuration", "", error.to_string(), error.remedy());
                None
            }
        }
    }
}

/// What the checks have at hand.
pub(in crate::doctor) struct Ward<'a> {
    examination: &'a Examination<'a>,
    pipeline: &'a Pipeline,
    patience: std::time::Duration,
}

impl Ward<'_> {
    fn clock(&self) -> &Arc<dyn Clock> {
        &self.examination.clock
    }

    /// Time for one question.
    fn call(&self) -> Call {
        Call::within(&**self.clock(), self.patience)
    }
}
