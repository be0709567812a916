//! Authorities that do not answer, for a while or for good.

use std::time::Duration;

use segl::{
    sandbox::{Authority, Sandbox},
    token::{self, Delivery, Error},
};

use crate::stand::{PATIENCE, Stand, as_time_passes, call, in_trouble, out_of_time, settle};

const ALL: [Authority; 3] = [Authority::Maskinporten, Authority::Customs, Authority::Altinn];

#[tokio::test]
async fn every_caller_is_served_until_the_token_expires_and_again_when_the_outage_is_over() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let road = pipeline.token("road").unwrap();
    let token = road.token(&call(&clock)).await.unwrap();
    set_outage(&stand.sandbox, true);

    let mut deliveries = Vec::new();
    while token.left(&*clock) > Duration::from_secs(1) {
        let served = road.token(&call(&clock)).await.unwrap();
        assert_eq!(served.secret(), token.secret());
        deliveries.push(served.delivery());
        if token.left(&*clock) <= Duration::from_secs(60) {
            // The first caller past the refresh point has set a renewal going; let it find out.
            in_trouble(road.source()).await;
            settle_briefly().await;
        }
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(deliveries.len(), 969, "one caller a second");
    let calm = deliveries.iter().take_while(|delivery| **delivery == Delivery::Cached).count();
    // 60 s before the end a renewal sets out; callers are told so once a try of it has failed.
    assert!((910..=912).contains(&calm), "{calm}");
    assert!(deliveries[calm..].iter().all(|delivery| *delivery == Delivery::WhileDown));

    clock.advance(Duration::from_secs(1));
    let error = out_of_time(road, &clock).await;
    assert!(matches!(error, Error::Deadline(Some(_))), "{error}");
    assert!(
        error.to_string().contains("Maskinporten cannot serve at the moment: it answered HTTP 503"),
        "{error}"
    );
    assert!(error.remedy().contains("Maskinporten"), "{}", error.remedy());
    assert_eq!(stand.sandbox.counters().customs_exchange.hits, 1);

    set_outage(&stand.sandbox, false);
    // A renewal may still be pausing: it is the one to join.
    let fresh = as_time_passes(&clock, road.token(&call(&clock))).await.unwrap();
    assert_eq!(fresh.delivery(), Delivery::Fresh);
    assert_ne!(fresh.secret(), token.secret());
}

/// The first renewal gives up after half a minute; the next ones go on.
#[tokio::test]
async fn an_outage_that_ends_before_the_token_does_is_noticed_by_nobody() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let road = pipeline.token("road").unwrap();
    let token = road.token(&call(&clock)).await.unwrap();
    clock.advance(Duration::from_secs(910));
    set_outage(&stand.sandbox, true);
    assert_eq!(road.token(&call(&clock)).await.unwrap().secret(), token.secret());
    in_trouble(road.source()).await;
    for _ in 0..31 {
        clock.advance(Duration::from_secs(1));
        settle().await;
    }
    assert_eq!(road.token(&call(&clock)).await.unwrap().delivery(), Delivery::WhileDown);
    set_outage(&stand.sandbox, false);
    let renewed = async {
        while road.token(&call(&clock)).await.unwrap().secret() == token.secret() {
            settle().await;
            clock.advance(Duration::from_millis(100));
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("a renewal");
    assert!(!token.left(&*clock).is_zero(), "no caller had to wait");
}

#[tokio::test]
async fn the_authority_that_is_down_is_the_one_that_is_named() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    for (name, authority) in [("road", Authority::Customs), ("instances", Authority::Altinn)] {
        stand.sandbox.set_outage(authority, true);
        let error = out_of_time(pipeline.token(name).unwrap(), &clock).await;
        let sentence = format!("{authority} cannot serve at the moment: it answered HTTP 503");
        assert!(error.to_string().contains(&sentence), "{error}");
    }
}

/// A subject token lives two minutes: a short outage of Customs costs no second signature.
#[tokio::test]
async fn an_exchange_that_is_tried_again_uses_the_subject_token_again_while_it_lasts() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let road = pipeline.token("road").unwrap();
    stand.sandbox.set_outage(Authority::Customs, true);
    let call = call(&clock);
    let (token, ()) = tokio::join!(road.token(&call), async {
        in_trouble(road.source()).await;
        stand.sandbox.set_outage(Authority::Customs, false);
        clock.advance(Duration::from_secs(1));
    });
    token.unwrap();
    let counters = stand.sandbox.counters();
    assert_eq!((counters.token.hits, counters.customs_exchange.hits), (1, 2));
}

#[tokio::test]
async fn a_caller_does_not_notice_a_short_outage() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let named = pipeline.token("maskinporten").unwrap();
    stand.sandbox.set_outage(Authority::Maskinporten, true);
    let call = call(&clock);
    let (token, ()) = tokio::join!(named.token(&call), async {
        in_trouble(named.source()).await;
        stand.sandbox.set_outage(Authority::Maskinporten, false);
        clock.advance(Duration::from_secs(1));
    });
    assert_eq!(token.unwrap().delivery(), Delivery::Fresh);
    let counters = stand.sandbox.counters();
    assert_eq!((counters.token.hits, counters.token.refused, counters.token.served), (2, 1, 1));
    // One grant for each try.
    assert_eq!(pipeline.signer("sandbox").unwrap().health().signatures, 2);
}

#[tokio::test]
async fn an_authority_that_asks_to_be_left_alone_is_left_alone_for_as_long_as_it_says() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let named = pipeline.token("maskinporten").unwrap();
    stand.sandbox.turn(|knobs| knobs.retry_after = Some(7));
    stand.sandbox.set_outage(Authority::Maskinporten, true);
    let call = call(&clock);
    let (token, ()) = tokio::join!(named.token(&call), async {
        in_trouble(named.source()).await;
        stand.sandbox.set_outage(Authority::Maskinporten, false);
        clock.advance(Duration::from_millis(6_900));
        settle().await;
        assert_eq!(stand.sandbox.counters().token.hits, 1);
        clock.advance(Duration::from_millis(100));
    });
    token.unwrap();
    assert_eq!(stand.sandbox.counters().token.hits, 2);
}

#[tokio::test]
async fn a_wait_longer_than_the_caller_has_ends_at_once() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    stand.sandbox.turn(|knobs| knobs.retry_after = Some(3_600));
    stand.sandbox.set_outage(Authority::Maskinporten, true);
    let call = call(&clock);
    let error = pipeline.token("maskinporten").unwrap().token(&call).await.unwrap_err();
    assert_eq!(stand.sandbox.counters().token.hits, 1);
    let Error::Unavailable { authority, retry_after, .. } = error.cause() else { panic!("{error}") };
    assert_eq!(*authority, token::Authority::Maskinporten);
    assert_eq!(*retry_after, Some(Duration::from_secs(3_600)));
}

#[tokio::test]
async fn without_metadata_the_built_in_endpoint_serves() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    stand.sandbox.set_metadata_outage(true);
    let named = pipeline.token("maskinporten").unwrap();
    named.token(&call(&clock)).await.unwrap();
    let counters = stand.sandbox.counters();
    assert_eq!((counters.metadata.refused, counters.token.served), (1, 1));

    // It is looked for again after a minute, and then trusted for a day.
    stand.sandbox.set_metadata_outage(false);
    for _ in 0..20 {
        clock.advance(Duration::from_secs(121));
        named.token(&call(&clock)).await.unwrap();
    }
    assert_eq!(stand.sandbox.counters().metadata.hits, 2);
}

#[tokio::test]
async fn a_token_that_is_kept_warm_comes_back_by_itself_after_an_outage() {
    let (stand, clock) = Stand::by_hand().await;
    let config = stand.key_client().replace("[tokens.road]", "[tokens.road]\nkeep_warm = true");
    let pipeline = stand.pipeline(&config, clock.clone());
    set_outage(&stand.sandbox, true);
    pipeline.start();
    let road = pipeline.token("road").unwrap();
    in_trouble(road.source()).await;
    // Ten minutes later than any caller would have waited.
    for _ in 0..600 {
        clock.advance(Duration::from_secs(1));
        settle_briefly().await;
    }
    assert!(road.source().is_empty());
    set_outage(&stand.sandbox, false);
    let back = async {
        while road.source().is_empty() {
            clock.advance(Duration::from_secs(1));
            settle().await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("a token without a caller");
    let hits = stand.sandbox.counters().token.hits;
    assert_eq!(road.token(&call(&clock)).await.unwrap().delivery(), Delivery::Cached);
    assert_eq!(stand.sandbox.counters().token.hits, hits);
    pipeline.shutdown(Duration::from_secs(5)).await;
}

fn set_outage(sandbox: &Sandbox, outage: bool) {
    for authority in ALL {
        sandbox.set_outage(authority, outage);
    }
}

async fn settle_briefly() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
