//! A device that hangs while an authority is looked for, beside a key that works.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use segl::{
    call::Call,
    certificate::Chain,
    clock::{BoxFuture, Clock, ManualClock},
    grant::Grant,
    http::{self, Http},
    sandbox::{self, Clients},
    sign::{self, Credential, Health, Identity, Key, MakeMessage, Signed, Signer},
    token::{Authority, Contact, Customs, Endpoints, Error, Exchange, Maskinporten, TokenSource},
};

use crate::stand::{KID, Stand, as_time_passes, call, until};

/// The key of `beside`, in a device that hangs with each signature.
#[derive(Debug)]
struct Hanging {
    beside: Arc<dyn Signer>,
    hangs: AtomicBool,
}

impl Signer for Hanging {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, sign::Error>> {
        self.beside.key(call)
    }

    fn sign<'a>(&'a self, _: &'a Call, _: MakeMessage) -> BoxFuture<'a, Result<Signed, sign::Error>> {
        self.hangs.store(true, Ordering::SeqCst);
        Box::pin(pending())
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, sign::Error>> {
        self.beside.chain(call)
    }

    fn health(&self) -> Health {
        self.beside.health()
    }
}

/// Tokens of the sandbox, with what is known of `contact`'s authority shared.
struct Sources {
    stand: Stand,
    clock: Arc<ManualClock>,
    http: Arc<Http>,
    authority: Authority,
    contact: Arc<Contact>,
}

impl Sources {
    async fn of(authority: Authority) -> Self {
        let (stand, clock) = Stand::by_hand().await;
        let http = Arc::new(Http::new(http::Options::default(), clock.clone()));
        let contact = Arc::new(Contact::new(authority, clock.clone()));
        Self { stand, clock, http, authority, contact }
    }

    fn with(&self, signer: Arc<dyn Signer>) -> Arc<dyn TokenSource> {
        let issuer = self.stand.sandbox.issuer();
        let grant = Grant::new(self.clock.clone(), issuer, Clients::KEY_CLIENT);
        let credential = Arc::new(Credential::new(Identity::KeyId(KID.into()), signer));
        let endpoints = Endpoints::of(issuer.parse().unwrap());
        let maskinporten =
            Maskinporten::new(self.http.clone(), self.clock.clone(), endpoints, grant, credential);
        if self.authority == Authority::Maskinporten {
            return Arc::new(maskinporten.with_contact(self.contact.clone()));
        }
        let customs = Customs::new(&self.stand.sandbox.customs().parse().unwrap());
        let exchange = Exchange::new(Arc::new(maskinporten), customs, self.http.clone(), self.clock.clone());
        Arc::new(exchange.with_contact(self.contact.clone()))
    }
}

#[tokio::test]
async fn a_device_that_hangs_keeps_no_other_key_from_maskinporten_that_is_back() {
    others_are_served(Authority::Maskinporten, sandbox::Authority::Maskinporten, "maskinporten").await;
}

#[tokio::test]
async fn a_device_that_hangs_keeps_no_other_key_from_customs_that_is_back() {
    others_are_served(Authority::Customs, sandbox::Authority::Customs, "road").await;
}

async fn others_are_served(authority: Authority, away: sandbox::Authority, name: &str) {
    let sources = Sources::of(authority).await;
    let (stand, clock) = (&sources.stand, &sources.clock);
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let request = pipeline.token(name).unwrap().request(Default::default()).unwrap();
    let good = pipeline.signer("sandbox").unwrap();
    let device = Arc::new(Hanging { beside: good.clone(), hangs: AtomicBool::default() });
    let (works, hangs) = (sources.with(good), sources.with(device.clone()));

    stand.sandbox.set_outage(away, true);
    let hurried = Call::within(&**clock, Duration::from_millis(200));
    let error = works.token(&request, &hurried).await.unwrap_err();
    assert!(matches!(error, Error::Deadline(Some(_))), "{error}");
    stand.sandbox.set_outage(away, false);
    clock.advance(Duration::from_secs(1));

    // The one that is let go to look whether the authority is back.
    let looks = tokio::spawn({
        let (request, call) = (request.clone(), call(clock));
        async move { hangs.token(&request, &call).await }
    });
    until("a signature under way", || device.hangs.load(Ordering::SeqCst)).await;
    let before = clock.now();
    as_time_passes(clock, works.token(&request, &call(clock))).await.unwrap();
    let waited = clock.now().since(before);
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert!(!looks.is_finished());
    looks.abort();
}
