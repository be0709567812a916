//! Minting a grant without the device's part: claims, header, encoding.
//!
//! `cargo bench --bench mint_grant`

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    PublicKeyData, RsaKeySize,
};
use segl::{
    call::Call,
    certificate::{Certificate, Chain},
    clock::{BoxFuture, Clock, SystemClock},
    grant::{Grant, TokenRequest},
    jose::{Algorithm, RsaPublicKey},
    sign::{
        CertificateSource, Credential, Error, Health, Identity, Key, MakeMessage, Proven, Signed, Signer,
    },
};

/// A device that signs in no time.
#[derive(Debug)]
struct Instantly(RsaPublicKey);

impl Signer for Instantly {
    fn key<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        let key =
            Key { algorithm: Algorithm::RS256, public_key: self.0.clone(), generation: 1, device: None };
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

/// A virksomhetssertifikat as `x5c` has it: leaf and issuer, both RSA-3072, without the root.
fn chain() -> (Chain, RsaPublicKey) {
    let key = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap();
    let authority = |name: &str| {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    };
    let root = Issuer::new(authority("Root"), key());
    let (issuing_params, issuing_key) = (authority("Issuing CA"), key());
    let issuing = issuing_params.signed_by(&issuing_key, &root).unwrap();
    let mut leaf = named("Virksomhet AS");
    leaf.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), "NTRNO-974760673");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf_key = key();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(issuing_params, issuing_key)).unwrap();
    let public_key = RsaPublicKey::from_spki(&leaf_key.subject_public_key_info()).unwrap();
    let pool = [leaf.der(), issuing.der()].map(|der| Certificate::from_der(der).unwrap()).to_vec();
    (Chain::assemble(&public_key, pool, SystemClock.wall()).unwrap(), public_key)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemClock.wall() - Duration::from_secs(86_400)).into();
    params.not_after = (SystemClock.wall() + Duration::from_secs(86_400)).into();
    params
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
    let prove = |identity, public_key| -> Proven {
        let credential = Credential::new(identity, Arc::new(Instantly(public_key)));
        runtime.block_on(credential.prove(&call)).unwrap()
    };
    let by_kid =
        prove(Identity::KeyId("991825827-2026-11".into()), RsaPublicKey::new(&[0xff; 384], &[1, 0, 1]));
    let (chain, public_key) = chain();
    assert_eq!(chain.len(), 2);
    let by_chain = prove(Identity::Certificate(CertificateSource::Given(chain)), public_key);

    let mut group = criterion.benchmark_group("mint a grant, without signing");
    for (name, proven) in [("kid", by_kid), ("x5c of two certificates", by_chain)] {
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(grant.assert(&proven, black_box(&request), &call)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, mint_grant);
criterion_main!(benches);
