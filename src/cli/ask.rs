use std::{fmt, io::Read, time::Duration};

use clap::Args;

use super::failure::Failure;
use crate::{
    call::Call,
    clock::Clock,
    grant::TokenRequest,
    pipeline::{NamedToken, Overrides, Pipeline},
};

/// What `token`, `grant` and `probe` ask for alike. `Debug` says nothing of the person.
#[derive(Args)]
pub(super) struct Ask {
    /// Name of a [tokens.NAME] table
    name: String,
    /// Customer to act for: nine digits
    #[arg(long, value_name = "NUMBER")]
    consumer_org: Option<String>,
    /// Person the token is bound to: eleven digits, or - to read them from standard input
    #[arg(long, value_name = "NUMBER")]
    pid: Option<String>,
    /// Scope instead of the configured ones; may be given more than once
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// Seconds until giving up
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Ask {
    /// The token asked for, and the request for it.
    pub(super) fn resolve<'a>(
        &self,
        pipeline: &'a Pipeline,
    ) -> Result<(&'a NamedToken, TokenRequest), Failure> {
        let named = pipeline.token(&self.name)?;
        let overrides = Overrides {
            consumer_org: self.consumer_org.clone(),
            pid: self.pid()?,
            scopes: self.scope.clone(),
        };
        Ok((named, named.request(overrides)?))
    }

    /// How to ask.
    pub(super) fn call(&self, clock: &dyn Clock) -> Call {
        Call::within(clock, Duration::from_secs(self.timeout))
    }

    fn pid(&self) -> Result<Option<String>, Failure> {
        if self.pid.as_deref() != Some("-") {
            return Ok(self.pid.clone());
        }
        let mut text = String::new();
        std::io::stdin().take(64).read_to_string(&mut text).map_err(|why| {
            Failure::needs_person(format!("no number on standard input: {why}"), "Pipe the eleven digits in.")
        })?;
        Ok(Some(text.trim().to_owned()))
    }
}
