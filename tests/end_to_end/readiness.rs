//! What works at the moment, signer and authority told apart; and signers that have to be there at the start.

use std::time::Duration;

use segl::{
    clock::Clock,
    pipeline::{Readiness, State},
    sandbox::{Authority, Clients, Profile},
    sign::Fault,
    token::{CLOCK_LIMIT, Side},
};

use crate::stand::{Stand, as_time_passes, call, other_key, out_of_time, spki};

#[tokio::test]
async fn what_nobody_has_asked_yet_is_ready_and_has_done_nothing() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let readiness = pipeline.readiness();
    assert_eq!(readiness.state, State::Ready);
    let [signer] = &readiness.signers[..] else { panic!("{readiness:?}") };
    assert_eq!((signer.name.as_str(), signer.state, signer.last_success), ("sandbox", State::Ready, None));
    assert_eq!(readiness.authorities.len(), 3);
    assert!(readiness.authorities.iter().all(|authority| authority.last_success.is_none()));

    pipeline.require_signers(&call(&clock)).await.unwrap();
    let signer = &pipeline.readiness().signers[0];
    assert_eq!((signer.last_success, signer.signatures), (Some(clock.wall()), 0), "its key was seen");
    assert_eq!(stand.sandbox.counters(), Default::default());
}

#[tokio::test]
async fn an_authority_that_is_away_degrades_what_the_cache_serves_and_takes_down_what_it_does_not() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    let went_down = clock.wall();
    pipeline.token("road").unwrap().token(&call(&clock)).await.unwrap();
    stand.sandbox.set_outage(Authority::Maskinporten, true);
    let error = out_of_time(pipeline.token("maskinporten").unwrap(), &clock).await;
    assert!(
        error.to_string().contains("Maskinporten has been away since 2027-01-15 08:00:00 UTC"),
        "{error}"
    );

    let readiness = pipeline.readiness();
    assert_eq!(
        states(&readiness),
        (State::Degraded, State::Ready, [State::Down, State::Ready, State::Ready])
    );
    let outage = readiness.authorities[0].outage.as_ref().unwrap();
    assert_eq!((outage.side, outage.since), (Side::Authority, went_down));
    let [instances, maskinporten, road] = &readiness.tokens[..] else { panic!("{readiness:?}") };
    assert_eq!((instances.state, maskinporten.state), (State::Down, State::Down));
    assert_eq!(road.state, State::Degraded);
    assert!(road.usable_seconds.is_some_and(|left| left > 900), "{road:?}");

    clock.advance(Duration::from_secs(970));
    let readiness = pipeline.readiness();
    assert_eq!(readiness.state, State::Down, "{readiness:?}");

    stand.sandbox.set_outage(Authority::Maskinporten, false);
    let maskinporten = pipeline.token("maskinporten").unwrap();
    as_time_passes(&clock, maskinporten.token(&call(&clock))).await.unwrap();
    let readiness = pipeline.readiness();
    assert_eq!(readiness.state, State::Ready, "{readiness:?}");
    assert_eq!(readiness.authorities[0].last_success, Some(clock.wall()));
}

#[tokio::test]
async fn a_signer_that_is_away_is_told_from_an_authority() {
    let (stand, clock) = Stand::by_hand().await;
    let config = stand.key_client().replace("file:key.pem", "file:later.pem");
    let pipeline = stand.pipeline(&config, clock.clone());
    let missing = pipeline.require_signers(&call(&clock)).await.unwrap_err();
    assert_eq!((missing.name.as_str(), missing.kind()), ("sandbox", Fault::Configuration));
    assert!(missing.to_string().contains("later.pem"), "{missing}");

    let since = clock.wall();
    clock.advance(Duration::from_secs(60));
    let error = pipeline.token("road").unwrap().token(&call(&clock)).await.unwrap_err();
    assert_eq!(error.side(), Some(Side::Signer));
    let readiness = pipeline.readiness();
    assert_eq!(states(&readiness), (State::Down, State::Down, [State::Ready; 3]));
    assert_eq!(readiness.signers[0].since, Some(since), "it was away before, too");
    assert!(readiness.signers[0].remedy.is_some());

    stand.write("later.pem", crate::stand::key().serialize_pem());
    pipeline.token("road").unwrap().token(&call(&clock)).await.unwrap();
    assert_eq!(states(&pipeline.readiness()), (State::Ready, State::Ready, [State::Ready; 3]));
}

#[tokio::test]
async fn a_clock_that_is_off_is_shown_and_shifts_nothing() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    // Fast by less than what Maskinporten takes.
    stand.sandbox.turn(|knobs| knobs.clock_offset = -8);
    pipeline.token("maskinporten").unwrap().token(&call(&clock)).await.unwrap();
    let authority = pipeline.readiness().authorities.remove(0);
    let offset = authority.clock.unwrap();
    assert!(authority.clock_is_off && offset.surely_exceeds(CLOCK_LIMIT), "{offset:?}");
    assert_eq!((offset.ahead_ms, offset.to_string().as_str()), (7_500, "8 s ahead"));
    assert_eq!(authority.state, State::Ready);

    stand.sandbox.turn(|knobs| knobs.clock_offset = -12);
    clock.advance(Duration::from_secs(120));
    let error = pipeline.token("maskinporten").unwrap().token(&call(&clock)).await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("Issue time is after now") && said.contains("12 s ahead of Maskinporten's"),
        "{said}"
    );
}

#[tokio::test]
async fn readiness_is_json_for_a_probe() {
    let (stand, clock) = Stand::by_hand().await;
    let pipeline = stand.pipeline(&stand.key_client(), clock.clone());
    stand.sandbox.set_outage(Authority::Maskinporten, true);
    out_of_time(pipeline.token("maskinporten").unwrap(), &clock).await;
    let json = serde_json::to_value(pipeline.readiness()).unwrap();
    assert_eq!(json["state"], "down");
    assert_eq!(json["signers"][0]["state"], "ready");
    // Each try was signed anew.
    let signed = json["signers"][0]["last_success"].as_str().unwrap();
    assert!(signed.starts_with("2027-01-15T08:00:") && signed.ends_with('Z'), "{signed}");
    let maskinporten = &json["authorities"][0];
    assert_eq!(
        (&maskinporten["authority"], &maskinporten["state"]),
        (&"Maskinporten".into(), &"down".into())
    );
    assert_eq!(maskinporten["address"], stand.sandbox.issuer());
    assert_eq!(maskinporten["outage"]["side"], "authority");
    assert_eq!(maskinporten["outage"]["since"], "2027-01-15T08:00:00Z");
    assert_eq!(json["tokens"][0]["name"], "instances");
}

#[tokio::test]
async fn a_configuration_can_be_checked_with_its_signers() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let said = stand.segl(&["config", "check", "--require-signer"]).await;
    let lines: Vec<&str> = said.done().lines().collect();
    assert_eq!(lines[1..], ["Every signer is there, with the key that its clients name."], "{said:?}");

    stand.configure(&stand.key_client().replace("file:key.pem", "file:none.pem"));
    stand.segl(&["config", "check"]).await.done();
    let said = stand.segl(&["config", "check", "--require-signer"]).await;
    assert!(said.failed(2).0.starts_with("the signer sandbox is not ready: "), "{said:?}");

    let ca = stand.sandbox.ca();
    let issued = ca.issue_for(&spki(other_key()), Clients::ORGANISATION, Profile::Seid2).unwrap();
    stand.configure(&stand.client_with(&issued));
    let said = stand.segl(&["config", "check", "--require-signer"]).await;
    assert!(said.failed(2).0.contains("belongs to another key"), "{said:?}");
    assert_eq!(stand.sandbox.counters(), Default::default());
}

/// All in all, of the one signer, and of Maskinporten, Customs and Altinn.
fn states(readiness: &Readiness) -> (State, State, [State; 3]) {
    let authorities: Vec<State> = readiness.authorities.iter().map(|authority| authority.state).collect();
    (readiness.state, readiness.signers[0].state, authorities.try_into().unwrap())
}
