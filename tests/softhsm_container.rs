//! A network HSM that is stopped, killed and frozen while Segl uses it: SoftHSM2 in a container.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails by panicking and shows its figures, and clippy knows only #[test] functions as tests"
)]

#[path = "support/cable.rs"]
mod cable;
#[path = "support/container.rs"]
mod container;
#[path = "support/footprint.rs"]
mod footprint;
#[path = "support/leap.rs"]
mod leap;
#[path = "support/load.rs"]
mod load;
#[path = "support/need.rs"]
mod need;
#[path = "support/processes.rs"]
mod processes;
#[path = "support/stand.rs"]
mod stand;

use std::{
    cell::Cell,
    process::ExitCode,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use segl::{
    call::Call,
    certificate::Certificate,
    clock::SystemClock,
    jose::{Algorithm, RsaPublicKey},
    sandbox::{Clients, Profile},
    sign::{
        Error, Pkcs11Signer, Signed, Signer,
        pkcs11::{KeyPair, Modules, NewCertificate, NewKeyPair, module_host},
    },
};
use tokio::task::{LocalSet, yield_now};

use self::{
    cable::{Hsm, Loss, lose_again_and_again},
    container::{LABEL, NetworkHsm, PIN, run},
    load::Load,
    stand::{Said, Stand, ca},
};

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        run(&[$((stringify!($name), |hsm| Box::pin($name(hsm)))),*])
    };
}

fn main() -> ExitCode {
    // The library may want a process of its own: this program again.
    if let Some(code) = module_host() {
        return code;
    }
    tests![
        a_key_made_and_certified_over_the_network_signs_again_after_a_restart,
        a_device_that_fails_under_load_is_used_again_when_it_is_back,
        a_device_that_stops_answering_costs_a_call_its_deadline_and_no_more,
        a_device_that_is_away_at_the_start_is_found_when_it_comes,
        a_device_that_is_lost_again_and_again_under_load_costs_no_request_while_a_token_is_usable,
        the_program_makes_lists_and_uses_a_key_over_the_network,
    ]
}

async fn a_key_made_and_certified_over_the_network_signs_again_after_a_restart(mut hsm: NetworkHsm) {
    let modules = hsm.modules();
    let pair = generate(&hsm, &modules).await;
    let device = hsm.device(&modules, "");
    let issued = ca().issue_for(&pair.spki, Clients::ORGANISATION, Profile::Seid2).unwrap();
    for der in issued.chain() {
        device.store_certificate(NewCertificate { der, label: None }, &call()).await.unwrap();
    }

    let signer = signer(&hsm, &modules);
    let first = signed(&signer, &pair).await;
    let chain = signer.chain(&call()).await.unwrap();
    assert_eq!(chain.leaf().fingerprint(), Certificate::from_der(&issued.leaf).unwrap().fingerprint());
    assert_eq!(chain.len(), 2, "leaf and issuing CA, both from the device");

    hsm.stop().await;
    let error = sign(&signer, &call()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. } | Error::Device { .. }), "{error:?}");
    hsm.start_again().await;

    // The same signer: no new process, no person.
    let second = signed(&signer, &pair).await;
    assert!(second.generation > first.generation);
    let key = signer.key(&call()).await.unwrap();
    assert_eq!(key.public_key, RsaPublicKey::from_spki(&pair.spki).unwrap());
    assert_eq!(signer.chain(&call()).await.unwrap().leaf().fingerprint(), chain.leaf().fingerprint());
    assert_eq!((signer.health().signatures, signer.health().trouble), (2, None));

    // Nor is it noticed when nobody asked for anything in between.
    hsm.stop().await;
    hsm.start_again().await;
    signed(&signer, &pair).await;
    modules.shutdown(&call()).await.unwrap();
    hsm.remove().await;
}

async fn a_device_that_fails_under_load_is_used_again_when_it_is_back(mut hsm: NetworkHsm) {
    let modules = hsm.modules();
    let pair = Rc::new(generate(&hsm, &modules).await);
    let signer = Rc::new(signer(&hsm, &modules));
    let tasks = LocalSet::new();
    let stop = Rc::new(Cell::new(false));
    for _ in 0..4 {
        let (signer, pair, stop) = (signer.clone(), pair.clone(), stop.clone());
        tasks.spawn_local(async move {
            while !stop.get() {
                // A device that is away fails at once: the others are to have their turn.
                yield_now().await;
                if let Ok(signed) = sign(&signer, &call()).await {
                    assert_verifies(&pair, &signed);
                }
            }
        });
    }
    tasks
        .run_until(async {
            for _ in 0..2 {
                let before = signer.health().signatures;
                until(|| signer.health().signatures > before + 20).await;
                hsm.kill().await;
                until(|| signer.health().trouble.is_some()).await;
                hsm.start_again().await;
                until(|| signer.health().trouble.is_none()).await;
            }
            stop.set(true);
        })
        .await;
    tasks.await;
    signed(&signer, &pair).await;
    modules.shutdown(&call()).await.unwrap();
    hsm.remove().await;
}

async fn a_device_that_stops_answering_costs_a_call_its_deadline_and_no_more(hsm: NetworkHsm) {
    let modules = hsm.modules();
    let pair = generate(&hsm, &modules).await;
    let signer = signer(&hsm, &modules);
    signed(&signer, &pair).await;

    hsm.freeze().await;
    let begin = Instant::now();
    let hasty = Call::within(&SystemClock, Duration::from_millis(300));
    let error = sign(&signer, &hasty).await.unwrap_err();
    assert!(matches!(error, Error::Deadline), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    hsm.thaw().await;

    signed(&signer, &pair).await;
    modules.shutdown(&call()).await.unwrap();
    hsm.remove().await;
}

async fn a_device_that_is_away_at_the_start_is_found_when_it_comes(mut hsm: NetworkHsm) {
    let modules = hsm.modules();
    let pair = generate(&hsm, &modules).await;
    modules.shutdown(&call()).await.unwrap();
    hsm.stop().await;

    let modules = hsm.modules();
    let signer = signer(&hsm, &modules);
    let error = sign(&signer, &call()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    hsm.start_again().await;
    signed(&signer, &pair).await;
    modules.shutdown(&call()).await.unwrap();
    hsm.remove().await;
}

async fn a_device_that_is_lost_again_and_again_under_load_costs_no_request_while_a_token_is_usable(
    mut hsm: NetworkHsm,
) {
    let modules = hsm.modules();
    let pair = generate(&hsm, &modules).await;
    modules.shutdown(&call()).await.unwrap();
    let (stand, clock) = cable::stand().await;
    let pipeline = cable::pipeline(&stand, &clock, hsm.uri(";object=grant"), &pair.spki, PIN);
    lose_again_and_again(&mut hsm, &stand, Load::start(pipeline, clock), 18).await;
    hsm.remove().await;
}

impl Hsm for NetworkHsm {
    async fn lose(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.kill().await,
            Loss::Paused => self.freeze().await,
            Loss::Restarted => {
                self.stop().await;
                self.start_again().await;
            }
        }
    }

    async fn bring_back(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.start_again().await,
            Loss::Paused => self.thaw().await,
            Loss::Restarted => {}
        }
    }
}

async fn the_program_makes_lists_and_uses_a_key_over_the_network(mut hsm: NetworkHsm) {
    let stand = Stand::new().await;
    stand.write("pin", PIN);
    let made = segl(&stand, &hsm, &["keys", "generate", &hsm.uri(";object=grant"), "--bits", "2048"]).await;
    let uri = made.out.trim();
    let listed = segl(&stand, &hsm, &["keys", &hsm.uri(""), "--login", "--output", "json"]).await;
    let listing: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let device = &listing["modules"][0]["devices"][0];
    assert_eq!(device["label"], LABEL, "{listing}");
    let keys = device["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["uri"], &keys[0]["bits"]), (1, &uri.into(), &2048.into()), "{listing}");

    let modules = hsm.modules();
    let key = signer(&hsm, &modules).key(&call()).await.unwrap();
    modules.shutdown(&call()).await.unwrap();
    let spki = key.public_key.to_spki().unwrap();
    stand.configure(&stand.device_client(hsm.uri(";object=grant"), &spki, PIN));
    let first = segl(&stand, &hsm, &["token", "maskinporten"]).await;
    hsm.kill().await;
    hsm.start_again().await;
    let second = segl(&stand, &hsm, &["token", "maskinporten"]).await;
    assert_ne!(first.token(), second.token());
    hsm.remove().await;
}

/// Runs the program where it reaches the device; it must succeed.
async fn segl(stand: &Stand, hsm: &NetworkHsm, arguments: &[&str]) -> Said {
    let (name, address) = hsm.variable();
    let pin: &[&str] = if arguments.first() == Some(&"keys") { &["--pin", "file:pin"] } else { &[] };
    let said = stand.segl_with(&[arguments, pin].concat(), &[(name, &address)], "").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.out.contains(PIN) && !said.err.contains(PIN), "a PIN was printed: {said:?}");
    said
}

async fn generate(hsm: &NetworkHsm, modules: &Arc<Modules>) -> KeyPair {
    let mut pair = NewKeyPair::new("grant");
    pair.bits = 2048;
    hsm.device(modules, "").generate_key_pair(pair, &call()).await.unwrap()
}

fn signer(hsm: &NetworkHsm, modules: &Arc<Modules>) -> Pkcs11Signer {
    Pkcs11Signer::new(hsm.device(modules, ";object=grant"), Algorithm::RS256).unwrap()
}

async fn sign(signer: &Pkcs11Signer, call: &Call) -> Result<Signed, Error> {
    signer.sign(call, Box::new(|| b"header.payload".to_vec())).await
}

/// A signature that verifies with the key of `pair`.
async fn signed(signer: &Pkcs11Signer, pair: &KeyPair) -> Signed {
    let signed = sign(signer, &call()).await.unwrap();
    assert_verifies(pair, &signed);
    signed
}

fn assert_verifies(pair: &KeyPair, signed: &Signed) {
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &pair.spki).unwrap();
    key.verify_sig(&signed.message, &signed.signature).unwrap();
}

fn call() -> Call {
    Call::new(&SystemClock)
}

async fn until(mut reached: impl FnMut() -> bool) {
    while !reached() {
        yield_now().await;
    }
}
