//! Minting a grant without the device's part: claims, header, encoding.
//!
//! `cargo bench --bench mint_grant`

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use segl::{
    call::Call,
    certificate::Chain,
    clock::{BoxFuture, SystemClock},
    grant::{Grant, TokenRequest},
    jose::{Algorithm, RsaPublicKey},
    sign::{Credential, Error, Health, Identity, Key, MakeMessage, Signed, Signer},
};

/// A device that signs in no time.
#[derive(Debug)]
struct Instantly;

impl Signer for Instantly {
    fn key<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        let public_key = RsaPublicKey::new(&[0xff; 384], &[1, 0, 1]);
        let key = Key { algorithm: Algorithm::RS256, public_key, generation: 1, device: None };
        Box::pin(std::future::ready(Ok(key)))
    }

    fn sign<'a>(&'a self, _: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        Box::pin(async { Ok(Signed { message: make(), signature: vec![0; 384], generation: 1 }) })
    }

    fn chain<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(std::future::ready(Err(Error::Closed)))
    }

    fn health(&self) -> Health {
        Health::default()
    }
}

fn mint_grant(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let call = Call::within(&SystemClock, Duration::from_secs(100_000));
    let grant =
        Grant::new(SystemClock::shared(), "https://maskinporten.no/", "0b1c2d3e-0000-4000-8000-000000000001");
    let request = TokenRequest::builder(["toll:movement/road/v2", "toll:movement/air"])
        .resource("https://api.toll.no/")
        .consumer_org("991825827")
        .build()
        .unwrap();
    let credential = Credential::new(Identity::KeyId("991825827-2026-11".into()), Arc::new(Instantly));
    let proven = runtime.block_on(credential.prove(&call)).unwrap();
    criterion.bench_function("mint a grant, without signing", |b| {
        b.iter(|| runtime.block_on(grant.assert(&proven, black_box(&request), &call)).unwrap());
    });
}

criterion_group!(benches, mint_grant);
criterion_main!(benches);
