use std::sync::Weak;

use super::{super::breaker::Watch, module::Module};
use crate::{clock::Instant, sign::Error};

/// Asks what is away, each time that its time has come, until nothing is.
pub(super) async fn keep_watch(module: Weak<Module>, mut watch: Watch) {
    loop {
        let Some(module) = module.upgrade().filter(|module| !module.queue.is_closed()) else { return };
        let mut changes = module.breaker.changes();
        let at: Instant = match module.breaker.due() {
            Ok(Some(permit)) => {
                let to_come = module.probe(permit.whose());
                let (breaker, clock) = (module.breaker.clone(), module.clock.clone());
                let silence = module.profile.sign.call_timeout();
                drop(module);
                let asked = clock.now();
                let answer = match to_come {
                    Ok(to_come) => to_come.get().await,
                    Err(error) => Err(error),
                };
                let outcome = match answer {
                    // It was silent until the process was ended.
                    Err(Error::Host { .. }) if clock.now().since(asked) >= silence => Err(Error::Deadline),
                    answer => answer.map(drop),
                };
                breaker.probed(permit, &outcome);
                continue;
            }
            Ok(None) => match watch.end() {
                Some(next) => {
                    watch = next;
                    continue;
                }
                None => return,
            },
            Err(at) => at,
        };
        let clock = module.clock.clone();
        drop(module);
        tokio::select! {
            _ = changes.changed() => {}
            () = clock.sleep_until(at) => {}
        }
    }
}
