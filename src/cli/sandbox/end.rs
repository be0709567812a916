//! How a sandbox is asked to end, and what it says then.

use std::io::{self, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::{failure::Failure, table};
use crate::sandbox::{Counters, Hits, Lapse};

/// The two ways in which a sandbox is asked to end.
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|why| {
                Failure::needs_person(
                    format!("signals cannot be waited for: {why}"),
                    "Look at the limits of this user.",
                )
            })
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Says how often each endpoint was asked, and what was bad about the clients' manners.
pub(super) fn report(counters: &Counters, manners: &[Lapse]) -> io::Result<()> {
    let mut err = io::stderr().lock();
    writeln!(err, "{}", counted(counters))?;
    if !manners.is_empty() {
        let rows = manners.iter().map(|lapse| {
            [
                lapse.manner.to_string(),
                lapse.times.to_string(),
                lapse.client.clone(),
                lapse.manner.advice().into(),
            ]
        });
        writeln!(err, "\n{}", table::plain(["BAD MANNERS", "TIMES", "CLIENT", "BETTER"], rows))?;
    }
    Ok(())
}

fn counted(counters: &Counters) -> String {
    let row = |endpoint: &str, hits: Hits| {
        [endpoint.to_owned(), hits.hits.to_string(), hits.served.to_string(), hits.refused.to_string()]
    };
    table::plain(
        ["ENDPOINT", "HITS", "SERVED", "REFUSED"],
        [
            row("Maskinporten metadata", counters.metadata),
            row("Maskinporten public keys", counters.jwk),
            row("Maskinporten token", counters.token),
            row("Customs exchange", counters.customs_exchange),
            row("Customs test-auth", counters.customs_test_auth),
            row("Altinn exchange", counters.altinn_exchange),
            row("Altinn public keys", counters.altinn_keys),
            row("any other path", counters.other),
        ],
    )
}
