use std::time::UNIX_EPOCH;

use super::*;
use crate::clock::ManualClock;

struct Stand {
    clock: Arc<ManualClock>,
    contact: Arc<Contact>,
}

impl Stand {
    fn new() -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let contact = Arc::new(Contact::new(Authority::Customs, clock.clone()));
        Self { clock, contact }
    }

    fn call(&self, patience: u64) -> Call {
        Call::within(&*self.clock, Duration::from_secs(patience))
    }

    async fn ends(&self, result: Result<(), Error>) {
        let call = self.call(3_600);
        let mut turn = self.contact.turn(&call).await.unwrap();
        assert!(turn.asks());
        let _ = turn.end(result);
    }
}

fn down(retry_after: Option<u64>) -> Error {
    let retry_after = retry_after.map(Duration::from_secs);
    Error::Unavailable { authority: Authority::Customs, status: 503, retry_after }
}

/// Whether `work` has ended by itself.
async fn is_done<T>(work: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = tokio::task::yield_now() => None,
    }
}

#[tokio::test]
async fn one_looks_whether_it_is_back_and_the_others_wait_for_how_that_goes() {
    let stand = Stand::new();
    stand.ends(Err(down(None))).await;
    stand.clock.advance(Duration::from_secs(1));
    let call = stand.call(30);
    let mut trial = stand.contact.turn(&call).await.unwrap();
    assert!(trial.asks());
    let mut waits = std::pin::pin!(stand.contact.turn(&call));
    assert!(is_done(&mut waits).await.is_none());
    trial.end(Ok(())).unwrap();
    assert!(is_done(&mut waits).await.unwrap().is_ok());
    assert_eq!(stand.contact.outage(), None);
}

#[tokio::test]
async fn one_that_gave_up_before_it_asked_leaves_the_turn_to_another() {
    let stand = Stand::new();
    stand.ends(Err(down(None))).await;
    stand.clock.advance(Duration::from_secs(1));
    let call = stand.call(30);
    let trial = stand.contact.turn(&call).await.unwrap();
    let mut waits = std::pin::pin!(stand.contact.turn(&call));
    assert!(is_done(&mut waits).await.is_none());
    drop(trial);
    assert!(is_done(&mut waits).await.unwrap().is_ok());
    assert!(stand.contact.outage().is_some(), "nothing is known anew");
}

/// One that looks whether the authority is back, and that signs for it.
async fn preparing<'a>(stand: &'a Stand, call: &Call) -> Turn<'a> {
    let mut turn = stand.contact.turn(call).await.unwrap();
    assert!(turn.asks());
    turn.pauses();
    turn
}

#[tokio::test]
async fn one_that_takes_long_to_be_ready_keeps_nobody_from_asking() {
    let stand = Stand::new();
    stand.ends(Err(down(None))).await;
    stand.clock.advance(Duration::from_secs(1));
    let call = stand.call(30);
    let mut slow = preparing(&stand, &call).await;
    let mut waits = std::pin::pin!(stand.contact.turn(&call));
    assert!(is_done(&mut waits).await.is_none());
    stand.clock.advance(PREPARATION);
    let mut other = is_done(&mut waits).await.unwrap().unwrap();
    assert!(other.asks());
    assert!(!slow.asks(), "two would ask at a time");
    let _ = other.end::<()>(Err(down(Some(60))));
    assert!(!slow.asks(), "it is to be left alone");
    stand.clock.advance(Duration::from_secs(60));
    assert!(slow.asks());
}

/// Devices that take longer than the others wait come to ask, too.
#[tokio::test]
async fn of_several_that_take_long_the_first_that_is_ready_asks() {
    let stand = Stand::new();
    stand.ends(Err(down(None))).await;
    stand.clock.advance(Duration::from_secs(1));
    let call = stand.call(30);
    let mut first = preparing(&stand, &call).await;
    stand.clock.advance(PREPARATION);
    let mut second = preparing(&stand, &call).await;
    assert!(first.asks());
    assert!(!second.asks());
    drop(second);
    let mut waits = std::pin::pin!(stand.contact.turn(&call));
    assert!(is_done(&mut waits).await.is_none(), "one asks");
    first.end(Ok(())).unwrap();
    assert!(is_done(&mut waits).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_caller_that_goes_away_from_a_silent_authority_has_seen_that_it_is_silent() {
    let stand = Stand::new();
    for (waited, is_away) in [(1, false), (2, true)] {
        let call = stand.call(30);
        let mut turn = stand.contact.turn(&call).await.unwrap();
        assert!(turn.asks());
        stand.clock.advance(Duration::from_secs(waited));
        drop(turn);
        assert_eq!(stand.contact.outage().is_some(), is_away, "{waited} s");
    }
}

#[tokio::test]
async fn a_wait_that_was_asked_for_holds_for_those_who_come_later_and_ends_after_five_minutes() {
    let stand = Stand::new();
    stand.ends(Err(down(Some(86_400)))).await;
    stand.clock.advance(Duration::from_secs(1));
    let error = stand.contact.turn(&stand.call(30)).await.err().unwrap();
    assert!(error.to_string().contains("HTTP 503"), "{error}");
    stand.clock.advance(Duration::from_secs(298));
    let call = stand.call(30);
    let mut waits = std::pin::pin!(stand.contact.turn(&call));
    assert!(is_done(&mut waits).await.is_none());
    stand.clock.advance(Duration::from_secs(1));
    assert!(is_done(&mut waits).await.unwrap().is_ok());
}

/// A loop of probes would be many requests to an authority that wants to be left alone.
#[tokio::test]
async fn who_wants_a_fresh_answer_waits_like_everybody_else() {
    let stand = Stand::new();
    stand.ends(Err(down(Some(60)))).await;
    let error = stand.contact.turn(&stand.call(30).fresh()).await.err().unwrap();
    assert!(error.to_string().contains("HTTP 503"), "{error}");
    stand.clock.advance(Duration::from_secs(60));
    let call = stand.call(30).fresh();
    let mut trial = stand.contact.turn(&call).await.unwrap();
    assert!(trial.asks());
    let mut waits = std::pin::pin!(stand.contact.turn(&call));
    assert!(is_done(&mut waits).await.is_none(), "one asks");
    trial.end(Ok(())).unwrap();
    assert!(is_done(&mut waits).await.unwrap().is_ok());
}

#[tokio::test]
async fn failures_of_one_moment_are_one_failure() {
    let stand = Stand::new();
    let call = stand.call(3_600);
    let mut turns = Vec::new();
    for _ in 0..200 {
        turns.push(stand.contact.turn(&call).await.unwrap());
    }
    for mut turn in turns {
        assert!(turn.asks());
        let _ = turn.end::<()>(Err(down(None)));
    }
    // A quarter of a second, and what the jitter adds.
    stand.clock.advance(Duration::from_millis(500));
    let mut turn = std::pin::pin!(stand.contact.turn(&call));
    assert!(is_done(&mut turn).await.is_some());
}

#[test]
fn a_clock_that_is_off_is_noticed_and_so_is_one_that_is_right_again() {
    let stand = Stand::new();
    let sent = Moment::of(&*stand.clock);
    for (behind, is_off) in [(3, false), (30, true), (0, false)] {
        let there = sent.wall + Duration::from_secs(behind);
        stand.contact.compared(Offset::measured(sent, sent, there), false);
        assert_eq!(stand.contact.state().clock_is_off, is_off, "{behind} s");
    }
}
