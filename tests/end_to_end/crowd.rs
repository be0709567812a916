//! Many callers, few signatures.

use std::sync::Arc;

use segl::{
    call::Call,
    clock::SystemClock,
    pipeline::{Overrides, Pipeline},
    sandbox::{Authority, Clients},
    token::{AccessToken, Error, TokenSource},
};
use tokio::{sync::Barrier, task::JoinHandle};

use crate::stand::Stand;

const CALLERS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_cold_callers_cost_one_signature_one_grant_and_one_exchange() {
    let stand = Stand::new().await;
    let pipeline = Arc::new(stand.live_pipeline(&stand.key_client()));
    let held = stand.sandbox.hold(Authority::Maskinporten);
    let callers = callers(&pipeline, "road").await;
    stand.sandbox.wait_until(|counters| counters.metadata.hits == 1).await;
    drop(held);
    let mut tokens = Vec::new();
    for caller in callers {
        tokens.push(caller.await.unwrap().unwrap());
    }
    assert_eq!(tokens.len(), CALLERS);
    assert!(tokens.iter().all(|token| token.secret() == tokens[0].secret()));
    let counters = stand.sandbox.counters();
    assert_eq!((counters.metadata.hits, counters.token.hits, counters.customs_exchange.hits), (1, 1, 1));
    assert_eq!(pipeline.signer("sandbox").unwrap().health().signatures, 1);
}

#[tokio::test]
async fn callers_that_go_away_leave_the_flight_to_the_others() {
    let stand = Stand::new().await;
    let pipeline = Arc::new(stand.live_pipeline(&stand.key_client()));
    let held = stand.sandbox.hold(Authority::Customs);
    let mut callers = callers(&pipeline, "road").await;
    stand.sandbox.wait_until(|counters| counters.customs_exchange.hits == 1).await;
    // The first, who started the flight, among them.
    let last = callers.split_off(CALLERS - 1);
    for caller in callers {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    drop(held);
    for caller in last {
        caller.await.unwrap().unwrap();
    }
    let counters = stand.sandbox.counters();
    assert_eq!((counters.token.hits, counters.customs_exchange.hits), (1, 1));
}

#[tokio::test]
async fn a_refusal_answers_all_who_wait_for_it_and_nobody_else() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    let refused = format!(
        "{config}\n[tokens.refused]\nclient = \"sandbox\"\nscopes = [\"{}\"]\nexchange = \"customs\"\n",
        Clients::NOT_GRANTED
    );
    let pipeline = Arc::new(stand.live_pipeline(&refused));
    let held = stand.sandbox.hold(Authority::Maskinporten);
    let callers = callers(&pipeline, "refused").await;
    stand.sandbox.wait_until(|counters| counters.metadata.hits == 1).await;
    drop(held);
    for caller in callers {
        let Err(Error::Refused(refusal)) = caller.await.unwrap() else { panic!("not refused") };
        assert_eq!(refusal.code.as_deref(), Some("MP-250"));
    }
    assert_eq!(stand.sandbox.counters().token.hits, 1);
    // The same cache, another request.
    let road = pipeline.token("road").unwrap();
    assert!(road.token(&Call::new(&SystemClock)).await.is_ok());
}

#[tokio::test]
async fn customers_do_not_share_tokens() {
    let stand = Stand::new().await;
    let pipeline = stand.live_pipeline(&stand.key_client());
    let road = pipeline.token("road").unwrap();
    let call = Call::new(&SystemClock);
    let ask = async |customer: Option<&str>| {
        let overrides = Overrides { consumer_org: customer.map(str::to_owned), ..Overrides::default() };
        let request = road.request(overrides).unwrap();
        road.source().token(&request, &call).await.unwrap().secret().to_owned()
    };
    let (own, customers) = (ask(None).await, ask(Some(Clients::CUSTOMER)).await);
    assert_ne!(own, customers);
    assert_eq!((ask(None).await, ask(Some(Clients::CUSTOMER)).await), (own, customers));
    assert_eq!(stand.sandbox.counters().customs_exchange.hits, 2);
}

/// Starts all callers; each has asked, or is just about to, when this returns.
async fn callers(
    pipeline: &Arc<Pipeline>,
    name: &'static str,
) -> Vec<JoinHandle<Result<AccessToken, Error>>> {
    let gathered = Arc::new(Barrier::new(CALLERS + 1));
    let callers = (0..CALLERS)
        .map(|_| {
            let (pipeline, gathered) = (pipeline.clone(), gathered.clone());
            tokio::spawn(async move {
                gathered.wait().await;
                pipeline.token(name).unwrap().token(&Call::new(&SystemClock)).await
            })
        })
        .collect();
    gathered.wait().await;
    callers
}
