//! How many signatures an hour costs: HSMs are slow, and some are paid by the signature.

use std::time::Duration;

use segl::{clock::Clock, token::Delivery};

use crate::stand::{PATIENCE, Stand, call};

const HOUR: Duration = Duration::from_secs(3_600);

/// A token is renewed this long before it expires.
const LEAD: u64 = 60;

#[tokio::test]
async fn an_hour_of_customs_costs_one_signature_per_life_of_a_customs_token() {
    assert_eq!(signatures_in_an_hour("road", 970).await, 4);
}

#[tokio::test]
async fn an_hour_of_altinn_costs_one_signature_per_life_of_an_altinn_token() {
    assert_eq!(signatures_in_an_hour("instances", 1_800).await, 3);
}

/// A caller asks every five seconds and never waits: each renewal is done before the old token has expired.
async fn signatures_in_an_hour(name: &str, life: u64) -> u64 {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let named = pipeline.token(name).unwrap();
    let end = clock.now() + HOUR;
    let mut token = named.token(&call(&clock)).await.unwrap();
    assert_eq!(token.life(), Duration::from_secs(life));
    while clock.now() < end {
        let answer = named.token(&call(&clock)).await.unwrap();
        assert_eq!(answer.delivery(), Delivery::Cached);
        if answer.left(&*clock) <= Duration::from_secs(LEAD) {
            // The renewal has set out; time stands still until it is back.
            let renewed = async {
                while named.token(&call(&clock)).await.unwrap().secret() == answer.secret() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, renewed).await.expect("a renewal");
        }
        token = answer;
        clock.advance(Duration::from_secs(5));
    }
    assert!(!token.left(&*clock).is_zero());
    let signatures = pipeline.signer("sandbox").unwrap().health().signatures;
    let counters = stand.sandbox.counters();
    assert_eq!(counters.token.hits, signatures);
    assert_eq!(counters.customs_exchange.hits + counters.altinn_exchange.hits, signatures);
    assert!(signatures <= HOUR.as_secs().div_ceil(life - LEAD), "{signatures}");
    signatures
}
