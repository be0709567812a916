use std::path::Path;

use super::{super::guard::PinRecords, *};
use crate::clock::SystemClock;

fn stored(pin: SecretString) -> PinAnswer {
    PinAnswer::Stored(pin, None)
}

fn request(final_try: bool) -> LoginRequest {
    LoginRequest { count_low: final_try, final_try, ..LoginRequest::sample("A", "1") }
}

/// With a source that may ask a person, and answers `answer`.
fn guarded(answer: fn(SecretString) -> PinAnswer) -> Guarded {
    let pin = Pin::asking(true, move |_| Ok(answer(SecretString::from("1234"))));
    let guard = Guard::new(Path::new("/m.so"), PinRecords::Memory, SystemClock::shared());
    Guarded::new(Arc::new(guard), Some(pin), Arc::new(Profile::unknown()))
}

fn refused() -> LoginOutcome {
    LoginOutcome::Refused("CKR_PIN_INCORRECT".into())
}

#[test]
fn a_stored_pin_is_tried_once_even_where_a_person_could_have_been_asked() {
    let logins = guarded(stored);
    assert!(logins.authorize(&request(false)).is_ok());
    logins.ended(&request(false), &refused());
    assert_eq!(logins.authorize(&request(false)).unwrap_err(), PinProblem::RefusedBefore);
}

#[test]
fn the_last_try_is_a_persons_to_spend_and_not_a_stored_pins() {
    assert_eq!(guarded(stored).authorize(&request(true)).unwrap_err(), PinProblem::FinalTry);
    assert!(guarded(PinAnswer::Typed).authorize(&request(true)).is_ok());
}

fn for_a_signature() -> LoginRequest {
    LoginRequest { login: Login::Signature, ..request(false) }
}

#[test]
fn a_pin_that_a_signature_refused_is_not_tried_at_a_login_where_the_two_are_one() {
    for [first, second] in [[for_a_signature(), request(false)], [request(false), for_a_signature()]] {
        let logins = guarded(stored);
        logins.authorize(&first).unwrap();
        logins.ended(&first, &refused());
        assert_eq!(logins.authorize(&second).unwrap_err(), PinProblem::RefusedBefore);
    }
}

#[test]
fn a_login_that_the_device_does_not_want_neither_clears_nor_spends_a_try() {
    let folder = tempfile::tempdir().unwrap();
    for records in [PinRecords::Memory, PinRecords::In(folder.path().to_owned())] {
        let guard = Arc::new(Guard::new(Path::new("/m.so"), records.clone(), SystemClock::shared()));
        let ends = |version, request: &LoginRequest, outcome: &LoginOutcome| {
            let profile = Arc::new(Profile::unknown());
            let logins = Guarded::new(guard.clone(), Some(Pin::in_file(version)), profile);
            logins.authorize(request)?;
            logins.ended(request, outcome);
            Ok(())
        };
        ends(1, &request(false), &LoginOutcome::NotWanted).unwrap();
        let known = || guard.known(&request(false), &Profile::unknown()).unwrap();
        assert_eq!(known(), None);
        ends(1, &request(false), &refused()).unwrap();
        let before = known();
        assert!(before.is_some());
        for version in 2..6 {
            ends(version, &for_a_signature(), &LoginOutcome::NotWanted).unwrap();
            assert_eq!(known(), before, "{records:?}");
            assert_eq!(guard.refused(&request(false)), 1);
        }
        ends(6, &request(false), &refused()).unwrap();
        assert_eq!(ends(7, &for_a_signature(), &refused()), Err(PinProblem::RefusedBefore), "{records:?}");
    }
}

#[test]
fn a_login_and_a_signature_with_pins_of_their_own_are_counted_apart() {
    let mut logins = guarded(stored);
    let own = Pin::new(|| Ok(Some(SecretString::from("5678"))));
    logins.pin = logins.pin.map(|pin| pin.with_signature_pin(&own));
    logins.authorize(&for_a_signature()).unwrap();
    logins.ended(&for_a_signature(), &refused());
    assert!(logins.authorize(&request(false)).is_ok());
}

#[test]
fn two_pins_out_of_one_source_are_one() {
    let origin = || {
        let text = r#"{"source":"credential:pin","file":null}"#;
        serde_json::from_str::<Origin>(text).ok()
    };
    let from_source =
        move || Pin::asking(false, move |_| Ok(PinAnswer::Stored(SecretString::from("1234"), origin())));
    let mut logins = guarded(stored);
    logins.pin = Some(from_source().with_signature_pin(&from_source()));
    logins.authorize(&for_a_signature()).unwrap();
    logins.ended(&for_a_signature(), &refused());
    assert_eq!(logins.authorize(&request(false)).unwrap_err(), PinProblem::RefusedBefore);
}

#[test]
fn a_person_who_mistypes_is_asked_three_times() {
    let logins = guarded(PinAnswer::Typed);
    for left in [true, true, false] {
        assert!(logins.authorize(&request(false)).is_ok());
        assert_eq!(logins.ended(&request(false), &refused()), left);
    }
    assert_eq!(logins.authorize(&request(false)).unwrap_err(), PinProblem::RefusedBefore);
    let logins = guarded(PinAnswer::Typed);
    logins.authorize(&request(false)).unwrap();
    logins.ended(&request(false), &LoginOutcome::Done);
    assert!(logins.authorize(&request(false)).is_ok(), "one that was right is forgotten");
}
