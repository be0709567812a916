//! What the cache promises, with a source whose every answer the test holds in its hand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use segl::{
    call::Call,
    clock::{BoxFuture, Clock, ManualClock},
    grant::TokenRequest,
    sign,
    token::{
        AccessToken, Authority, Cached, Delivery, Error, Outage, Provenance, Refusal, Side, TokenSource,
    },
};
use tokio::sync::Semaphore;

const LIFE: Duration = Duration::from_secs(120);

/// When a source that is down says that it went down.
const WENT_DOWN: SystemTime = UNIX_EPOCH;

/// Answers when the test opens the gate, with what the test has put in line, else with a new token.
#[derive(Debug)]
struct Source {
    clock: Arc<ManualClock>,
    gate: Semaphore,
    asked: AtomicUsize,
    in_hand: AtomicUsize,
    errors: Mutex<VecDeque<Error>>,
    down: Mutex<Option<Error>>,
}

impl Source {
    async fn answer(&self, call: &Call) -> Result<AccessToken, Error> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.in_hand.fetch_add(1, Ordering::SeqCst);
        let _gone = Gone(&self.in_hand);
        let (now, wall) = (self.clock.now(), self.clock.numeric_date());
        self.gate.acquire().await.unwrap().forget();
        if let Some(error) = self.down.lock().unwrap().clone() {
            return Err(error);
        }
        if let Some(error) = self.errors.lock().unwrap().pop_front() {
            return Err(error);
        }
        if LIFE < call.required_life() {
            return Err(too_short(call.required_life()));
        }
        let text = format!("token-{number}").into();
        Ok(AccessToken::issued(text, "a:b".into(), now, wall, LIFE, Provenance::default()))
    }
}

struct Gone<'a>(&'a AtomicUsize);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TokenSource for Source {
    fn token<'a>(
        &'a self,
        _request: &'a TokenRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<AccessToken, Error>> {
        Box::pin(self.answer(call))
    }

    fn outage(&self) -> Option<Outage> {
        self.down.lock().unwrap().clone().map(|error| Outage::of(error, WENT_DOWN))
    }
}

struct House {
    clock: Arc<ManualClock>,
    source: Arc<Source>,
    cache: Cached,
}

impl House {
    fn with_gate(permits: usize, capacity: usize) -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let source = Arc::new(Source {
            clock: clock.clone(),
            gate: Semaphore::new(permits),
            asked: AtomicUsize::new(0),
            in_hand: AtomicUsize::new(0),
            errors: Mutex::default(),
            down: Mutex::default(),
        });
        let cache = Cached::new(source.clone(), clock.clone(), capacity);
        Self { clock, source, cache }
    }

    fn open() -> Self {
        Self::with_gate(Semaphore::MAX_PERMITS, 1_000)
    }

    fn shut() -> Self {
        Self::with_gate(0, 1_000)
    }

    fn call(&self) -> Call {
        Call::new(&*self.clock)
    }

    async fn token(&self) -> Result<AccessToken, Error> {
        self.cache.token(&request("a:b"), &self.call()).await
    }

    fn spawn_caller(&self, patience: Duration) -> tokio::task::JoinHandle<Result<AccessToken, Error>> {
        self.spawn_call(Call::within(&*self.clock, patience))
    }

    fn spawn_call(&self, call: Call) -> tokio::task::JoinHandle<Result<AccessToken, Error>> {
        let cache = self.cache.clone();
        tokio::spawn(async move { cache.token(&request("a:b"), &call).await })
    }

    fn asked(&self) -> usize {
        self.source.asked.load(Ordering::SeqCst)
    }

    fn go_down(&self) {
        *self.source.down.lock().unwrap() = Some(unreachable());
    }
}

fn request(scope: &str) -> TokenRequest {
    TokenRequest::scopes([scope]).unwrap()
}

fn unreachable() -> Error {
    let refusal = Refusal::read(Authority::Maskinporten, 403, b"");
    Error::Refused(Box::new(refusal))
}

/// No answer from the network, which asks to be left alone for so long.
fn overloaded(seconds: u64) -> Error {
    let retry_after = Some(Duration::from_secs(seconds));
    Error::Unavailable { authority: Authority::Maskinporten, status: 503, retry_after }
}

fn out_of_time(error: Error) -> Error {
    Error::Deadline(Some(Box::new(Outage::of(error, WENT_DOWN))))
}

fn too_short(needed: Duration) -> Error {
    Error::TooShort { authority: Authority::Maskinporten, life: LIFE, needed }
}

fn refused(description: &str) -> Error {
    let body = format!(r#"{{"error":"invalid_grant","error_description":"{description}"}}"#);
    Error::Refused(Box::new(Refusal::read(Authority::Maskinporten, 400, body.as_bytes())))
}

/// Lets every task that can go on go on. The runtime is single-threaded, so after enough turns none can.
async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_hundred_cold_callers_cause_one_request() {
    let house = House::shut();
    let callers: Vec<_> = (0..200).map(|_| house.spawn_caller(Duration::from_secs(30))).collect();
    settle().await;
    assert_eq!(house.asked(), 1);
    house.source.gate.add_permits(1);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "token-1");
    }
    assert_eq!(house.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_cold_callers_on_several_threads_cause_one_request() {
    let house = House::shut();
    let callers: Vec<_> = (0..200).map(|_| house.spawn_caller(Duration::from_secs(30))).collect();
    while house.asked() == 0 {
        tokio::task::yield_now().await;
    }
    house.source.gate.add_permits(1);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "token-1");
    }
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn callers_that_go_away_leave_the_flight_for_the_others() {
    let house = House::shut();
    let first = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    let second = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    first.abort();
    settle().await;
    house.source.gate.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap().secret(), "token-1");
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn the_first_callers_short_deadline_is_nobody_elses() {
    let house = House::shut();
    let first = house.spawn_caller(Duration::from_secs(1));
    settle().await;
    let second = house.spawn_caller(Duration::from_secs(20));
    settle().await;
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(first.await.unwrap().unwrap_err(), Error::Deadline(None));
    house.source.gate.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap().secret(), "token-1");
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_flight_ends_with_its_last_waiter() {
    let house = House::shut();
    let callers = [house.spawn_caller(Duration::from_secs(30)), house.spawn_caller(Duration::from_secs(30))];
    settle().await;
    assert_eq!(house.source.in_hand.load(Ordering::SeqCst), 1);
    for caller in &callers {
        caller.abort();
    }
    settle().await;
    assert_eq!(house.source.in_hand.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_flight_ends_at_its_own_deadline_and_its_waiters_start_another() {
    let house = House::shut();
    let patient = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    house.clock.advance(Duration::from_secs(20));
    let later = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    house.clock.advance(Duration::from_secs(11));
    assert!(matches!(patient.await.unwrap(), Err(Error::Deadline(_))));
    settle().await;
    house.source.gate.add_permits(2);
    assert_eq!(later.await.unwrap().unwrap().secret(), "token-2");
}

#[tokio::test]
async fn a_flight_that_gives_up_early_is_not_followed_by_another_before_its_time_is_up() {
    let house = House::shut();
    let gives_up = out_of_time(unreachable());
    house.source.errors.lock().unwrap().push_back(gives_up.clone());
    let first = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    house.clock.advance(Duration::from_secs(10));
    let second = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    house.source.gate.add_permits(2);
    // The next flight would not end before the first caller's deadline either.
    assert_eq!(first.await.unwrap().unwrap_err(), gives_up);
    settle().await;
    house.clock.advance(Duration::from_secs(19));
    settle().await;
    assert_eq!(house.asked(), 1);
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(second.await.unwrap().unwrap().secret(), "token-2");
}

#[tokio::test]
async fn a_failed_flight_answers_all_its_waiters_and_does_not_poison_the_next() {
    let house = House::shut();
    house.source.errors.lock().unwrap().push_back(unreachable());
    let callers: Vec<_> = (0..50).map(|_| house.spawn_caller(Duration::from_secs(30))).collect();
    settle().await;
    house.source.gate.add_permits(1);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap_err(), unreachable());
    }
    house.source.gate.add_permits(1);
    assert_eq!(house.token().await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn a_fresh_token_is_returned_without_asking() {
    let house = House::open();
    assert_eq!(house.token().await.unwrap().delivery(), Delivery::Fresh);
    house.clock.advance(LIFE * 3 / 4 - Duration::from_secs(1));
    assert_eq!(house.token().await.unwrap().delivery(), Delivery::Cached);
    settle().await;
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_usable_token_past_its_refresh_point_is_returned_at_once_while_one_flight_renews_it() {
    let house = House::with_gate(1, 1_000);
    house.token().await.unwrap();
    house.clock.advance(LIFE * 3 / 4);
    for _ in 0..100 {
        assert_eq!(house.token().await.unwrap().secret(), "token-1");
    }
    settle().await;
    assert_eq!(house.asked(), 2);
    house.source.gate.add_permits(1);
    settle().await;
    assert_eq!(house.token().await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn tokens_that_live_long_are_renewed_a_minute_ahead() {
    let house = House::open();
    let (now, wall) = (house.clock.now(), house.clock.numeric_date());
    let text = "long".to_owned().into();
    let life = Duration::from_secs(970);
    let token = AccessToken::issued(text, String::new(), now, wall, life, Provenance::default());
    assert_eq!(token.left(&*house.clock), life);
    #[derive(Debug)]
    struct One(AccessToken, AtomicUsize);
    impl TokenSource for One {
        fn token<'a>(
            &'a self,
            _: &'a TokenRequest,
            _: &'a Call,
        ) -> BoxFuture<'a, Result<AccessToken, Error>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(self.0.clone()) })
        }
        fn outage(&self) -> Option<Outage> {
            None
        }
    }
    let source = Arc::new(One(token, AtomicUsize::new(0)));
    let cache = Cached::new(source.clone(), house.clock.clone(), 10);
    cache.token(&request("a:b"), &house.call()).await.unwrap();
    house.clock.advance(Duration::from_secs(909));
    cache.token(&request("a:b"), &house.call()).await.unwrap();
    settle().await;
    assert_eq!(source.1.load(Ordering::SeqCst), 1);
    house.clock.advance(Duration::from_secs(1));
    cache.token(&request("a:b"), &house.call()).await.unwrap();
    settle().await;
    assert_eq!(source.1.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn in_an_outage_every_caller_is_served_from_the_cache_until_the_token_expires() {
    let house = House::open();
    house.token().await.unwrap();
    house.go_down();
    for second in 0..119 {
        house.clock.advance(Duration::from_secs(1));
        settle().await;
        assert_eq!(house.token().await.unwrap().secret(), "token-1", "second {second}");
    }
    let last = house.token().await.unwrap();
    assert_eq!(last.delivery(), Delivery::WhileDown);
    assert_eq!(last.outage().map(|outage| outage.side), Some(Side::Authority));
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(house.token().await.unwrap_err(), unreachable());
}

#[tokio::test]
async fn renewal_goes_on_through_an_outage_and_ends_it() {
    let house = House::open();
    house.token().await.unwrap();
    house.go_down();
    house.clock.advance(Duration::from_secs(91));
    house.token().await.unwrap();
    settle().await;
    let during = house.asked();
    assert!(during >= 2);
    *house.source.down.lock().unwrap() = None;
    for _ in 0..20 {
        house.clock.advance(Duration::from_secs(1));
        settle().await;
    }
    let renewed = house.token().await.unwrap();
    assert_ne!(renewed.secret(), "token-1");
    assert_eq!(renewed.delivery(), Delivery::Cached);
}

#[tokio::test]
async fn a_caller_who_runs_out_of_time_is_told_what_it_was_waiting_for() {
    let house = House::shut();
    house.go_down();
    let caller = house.spawn_caller(Duration::from_secs(5));
    settle().await;
    house.clock.advance(Duration::from_secs(6));
    assert_eq!(caller.await.unwrap().unwrap_err(), out_of_time(unreachable()));
}

#[tokio::test]
async fn a_configuration_refusal_is_remembered_for_half_a_minute() {
    let house = House::open();
    house.source.errors.lock().unwrap().push_back(refused("MP-124 Invalid JWT signature"));
    house.token().await.unwrap_err();
    house.clock.advance(Duration::from_secs(29));
    house.token().await.unwrap_err();
    assert_eq!(house.asked(), 1);
    house.clock.advance(Duration::from_secs(1));
    house.token().await.unwrap();
}

#[tokio::test]
async fn a_key_on_its_way_through_the_portal_is_refused_from_memory_for_five_seconds_only() {
    for description in ["Unknown key identifier (kid) for client", "MP-200 scopes", "MP-303 system user"] {
        let house = House::open();
        house.source.errors.lock().unwrap().push_back(refused(description));
        house.token().await.unwrap_err();
        house.clock.advance(Duration::from_secs(4));
        house.token().await.unwrap_err();
        assert_eq!(house.asked(), 1, "{description}");
        house.clock.advance(Duration::from_secs(1));
        house.token().await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_of_one_request_says_nothing_of_another() {
    let house = House::open();
    house.source.errors.lock().unwrap().push_back(refused("MP-250 not granted"));
    house.token().await.unwrap_err();
    house.cache.token(&request("other:scope"), &house.call()).await.unwrap();
}

#[tokio::test]
async fn an_outage_is_never_remembered_as_an_answer() {
    let house = House::open();
    house.source.errors.lock().unwrap().push_back(unreachable());
    house.token().await.unwrap_err();
    house.token().await.unwrap();
}

#[tokio::test]
async fn a_probe_goes_past_stored_answers_good_and_bad() {
    let house = House::open();
    house.token().await.unwrap();
    let probed = house.cache.token(&request("a:b"), &house.call().fresh()).await.unwrap();
    assert_eq!(probed.secret(), "token-2");
    house.source.errors.lock().unwrap().push_back(refused("MP-124"));
    let other = request("b:c");
    house.cache.token(&other, &house.call()).await.unwrap_err();
    house.cache.token(&other, &house.call().fresh()).await.unwrap();
    house.cache.token(&other, &house.call()).await.unwrap();
}

#[tokio::test]
async fn a_wall_clock_set_forward_expires_a_token_and_one_set_back_does_not_prolong_it() {
    let house = House::open();
    house.token().await.unwrap();
    house.clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + LIFE);
    assert_eq!(house.token().await.unwrap().secret(), "token-2");

    let house = House::open();
    house.token().await.unwrap();
    house.clock.advance(LIFE);
    house.clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    assert_eq!(house.token().await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn a_caller_who_needs_the_token_longer_than_it_lasts_gets_another() {
    let house = House::open();
    house.token().await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    let call = house.call().min_life(Duration::from_secs(61));
    assert_eq!(house.cache.token(&request("a:b"), &call).await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn the_cache_is_bounded_and_drops_what_has_expired_first() {
    let house = House::with_gate(Semaphore::MAX_PERMITS, 100);
    for number in 0..50 {
        house.cache.token(&request(&format!("old:{number}")), &house.call()).await.unwrap();
    }
    house.clock.advance(LIFE);
    for number in 0..100 {
        house.cache.token(&request(&format!("new:{number}")), &house.call()).await.unwrap();
    }
    assert_eq!(house.cache.len(), 100);
    // Those that have expired went, and none of the others.
    for number in 0..100 {
        house.cache.token(&request(&format!("new:{number}")), &house.call()).await.unwrap();
    }
    assert_eq!(house.asked(), 150);
    house.clock.advance(Duration::from_secs(1));
    for number in 0..500 {
        house.cache.token(&request(&format!("more:{number}")), &house.call()).await.unwrap();
        assert!(house.cache.len() <= 100);
    }
}

#[tokio::test]
async fn a_warm_token_is_renewed_without_callers_through_outages_and_until_shutdown() {
    let house = House::open();
    house.cache.keep_warm(request("a:b"));
    settle().await;
    assert_eq!(house.asked(), 1);
    house.clock.advance(Duration::from_secs(91));
    settle().await;
    assert_eq!(house.asked(), 2);
    house.go_down();
    for _ in 0..300 {
        house.clock.advance(Duration::from_secs(1));
        settle().await;
    }
    let during = house.asked();
    assert!((5..40).contains(&during), "{during} tries in five minutes");
    *house.source.down.lock().unwrap() = None;
    house.clock.advance(Duration::from_secs(61));
    settle().await;
    assert_eq!(house.token().await.unwrap().delivery(), Delivery::Cached);
    house.cache.shutdown(Duration::from_secs(5)).await;
    let after = house.asked();
    house.clock.advance(LIFE * 2);
    settle().await;
    assert_eq!(house.asked(), after);
}

#[tokio::test]
async fn shutdown_answers_those_who_wait_and_those_who_come_later() {
    let house = House::shut();
    let caller = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    house.cache.shutdown(Duration::from_secs(5)).await;
    assert_eq!(caller.await.unwrap().unwrap_err(), Error::Closed);
    assert_eq!(house.token().await.unwrap_err(), Error::Closed);
}

#[tokio::test]
async fn a_caller_who_looked_just_before_a_flight_landed_does_not_start_another() {
    let house = House::open();
    let (first, call) = (request("a:b"), house.call());
    // A future that has looked for a token and found none, and goes on only when the flight of another has landed.
    let slow = house.cache.token(&first, &call);
    assert_eq!(house.token().await.unwrap().secret(), "token-1");
    assert_eq!(slow.await.unwrap().secret(), "token-1");
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_caller_who_looked_just_before_a_refusal_does_not_cause_another() {
    let house = House::open();
    house.source.errors.lock().unwrap().push_back(refused("MP-124 Invalid JWT signature"));
    let (first, call) = (request("a:b"), house.call());
    let slow = house.cache.token(&first, &call);
    house.token().await.unwrap_err();
    slow.await.unwrap_err();
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_source_that_gives_up_before_the_deadline_is_not_asked_again_at_once() {
    let house = House::open();
    let gives_up = out_of_time(overloaded(60));
    house.source.errors.lock().unwrap().extend(vec![gives_up.clone(); 20]);
    assert_eq!(house.token().await.unwrap_err(), gives_up);
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_caller_without_time_starts_no_flight() {
    let house = House::open();
    let call = Call::within(&*house.clock, Duration::ZERO);
    let error = house.cache.token(&request("a:b"), &call).await.unwrap_err();
    assert!(matches!(error, Error::Deadline(_)));
    settle().await;
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn callers_who_need_a_longer_life_than_the_flight_brings_share_the_next_one() {
    let house = House::shut();
    let modest = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    let call = house.call().min_life(Duration::from_secs(100));
    let demanding: Vec<_> = (0..50).map(|_| house.spawn_call(call.clone())).collect();
    settle().await;
    house.clock.advance(Duration::from_secs(25));
    house.source.gate.add_permits(1);
    assert_eq!(modest.await.unwrap().unwrap().secret(), "token-1");
    settle().await;
    assert_eq!(house.asked(), 2);
    house.source.gate.add_permits(1);
    for caller in demanding {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "token-2");
    }
    assert_eq!(house.asked(), 2);
}

#[tokio::test]
async fn a_waiter_whose_flight_is_late_takes_what_another_request_has_brought() {
    let house = House::shut();
    let probe = house.spawn_call(house.call().fresh());
    settle().await;
    let waiter = house.spawn_caller(Duration::from_secs(5));
    settle().await;
    assert_eq!(house.asked(), 2);
    house.source.gate.add_permits(1);
    assert_eq!(probe.await.unwrap().unwrap().secret(), "token-1");
    house.clock.advance(Duration::from_secs(5));
    assert_eq!(waiter.await.unwrap().unwrap().secret(), "token-1");
}

#[tokio::test]
async fn a_caller_who_needs_more_than_tokens_live_is_alone_in_its_failure() {
    let house = House::shut();
    let needed = Duration::from_secs(500);
    let demanding = house.spawn_call(house.call().min_life(needed));
    settle().await;
    let modest = house.spawn_caller(Duration::from_secs(30));
    settle().await;
    house.source.gate.add_permits(2);
    assert_eq!(demanding.await.unwrap().unwrap_err(), too_short(needed));
    assert_eq!(modest.await.unwrap().unwrap().secret(), "token-2");
    assert_eq!(house.asked(), 2);
}

#[tokio::test]
async fn renewing_in_a_full_cache_drops_nothing() {
    let house = House::with_gate(Semaphore::MAX_PERMITS, 100);
    for number in 0..100 {
        house.cache.token(&request(&format!("a:{number}")), &house.call()).await.unwrap();
    }
    house.cache.token(&request("a:7"), &house.call().fresh()).await.unwrap();
    assert_eq!(house.cache.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_fill_the_cache_together_all_get_their_tokens() {
    let house = House::with_gate(Semaphore::MAX_PERMITS, 1);
    let callers: Vec<_> = (0..2_000)
        .map(|number| {
            let (cache, call) = (house.cache.clone(), house.call());
            tokio::spawn(async move { cache.token(&request(&format!("a:{number}")), &call).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(house.cache.len(), 1);
}

/// Gives the same token over and over, as an authority does that caches too.
#[derive(Debug)]
struct Same(AccessToken, AtomicUsize);

impl TokenSource for Same {
    fn token<'a>(&'a self, _: &'a TokenRequest, _: &'a Call) -> BoxFuture<'a, Result<AccessToken, Error>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn outage(&self) -> Option<Outage> {
        None
    }
}

#[tokio::test]
async fn a_source_that_gives_the_same_token_again_is_not_asked_in_a_loop() {
    let clock = House::open().clock;
    let text = "same".to_owned().into();
    let token = AccessToken::issued(
        text,
        String::new(),
        clock.now(),
        clock.numeric_date(),
        LIFE,
        Provenance::default(),
    );
    let source = Arc::new(Same(token, AtomicUsize::new(0)));
    let cache = Cached::new(source.clone(), clock.clone(), 10);
    cache.keep_warm(request("a:b"));
    settle().await;
    clock.advance(LIFE * 3 / 4);
    for _ in 0..50 {
        cache.token(&request("a:b"), &Call::new(&*clock)).await.unwrap();
        settle().await;
    }
    assert_eq!(source.1.load(Ordering::SeqCst), 2);
    // Not even when what it gives has expired.
    clock.advance(LIFE);
    settle().await;
    let asked = source.1.load(Ordering::SeqCst);
    assert!(asked <= 4, "{asked}");
}

#[tokio::test]
async fn a_renewal_that_ended_while_the_wall_clock_was_wrong_is_taken_up_again() {
    let house = House::open();
    house.token().await.unwrap();
    house.clock.advance(LIFE * 3 / 4);
    let wall = house.clock.wall();
    house.source.errors.lock().unwrap().push_back(refused("MP-124"));
    house.token().await.unwrap();
    house.clock.set_wall(wall + LIFE);
    settle().await;
    house.clock.set_wall(wall);
    assert_eq!(house.token().await.unwrap().secret(), "token-1");
    settle().await;
    assert_eq!(house.token().await.unwrap().secret(), "token-3");
}

#[tokio::test]
async fn a_warm_token_that_ran_out_of_time_is_tried_again_with_backoff() {
    let house = House::open();
    house.source.errors.lock().unwrap().push_back(out_of_time(overloaded(1)));
    house.cache.keep_warm(request("a:b"));
    settle().await;
    assert_eq!(house.asked(), 1);
    house.clock.advance(Duration::from_secs(2));
    settle().await;
    assert_eq!(house.token().await.unwrap().delivery(), Delivery::Cached);
}

#[tokio::test]
async fn renewals_leave_an_authority_alone_for_as_long_as_it_asks() {
    let house = House::open();
    house.source.errors.lock().unwrap().extend([overloaded(20), overloaded(1_000_000_000)]);
    house.cache.keep_warm(request("a:b"));
    settle().await;
    house.clock.advance(Duration::from_secs(19));
    settle().await;
    assert_eq!(house.asked(), 1);
    house.clock.advance(Duration::from_secs(1));
    settle().await;
    assert_eq!(house.asked(), 2);
    // Not for thirty years, though.
    house.clock.advance(Duration::from_secs(600));
    settle().await;
    assert_eq!(house.asked(), 3);
}

#[tokio::test]
async fn a_refusal_is_forgotten_once_a_token_came() {
    let house = House::open();
    house.source.errors.lock().unwrap().push_back(refused("MP-124"));
    house.token().await.unwrap_err();
    house.cache.keep_warm(request("a:b"));
    settle().await;
    house.clock.advance(Duration::from_secs(2));
    let call = house.call().min_life(LIFE - Duration::from_secs(1));
    assert_eq!(house.cache.token(&request("a:b"), &call).await.unwrap().secret(), "token-3");
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_says_why_and_since_when_and_the_next_one_does_not() {
    let house = House::open();
    assert_eq!(house.token().await.unwrap().outage(), None);
    house.go_down();
    assert_eq!(house.token().await.unwrap().outage(), None, "it need not be renewed yet");
    house.clock.advance(LIFE * 3 / 4);
    let marked = house.token().await.unwrap();
    assert_eq!((marked.secret(), marked.delivery()), ("token-1", Delivery::WhileDown));
    assert_eq!(marked.outage(), Some(&Outage::of(unreachable(), WENT_DOWN)));
    *house.source.down.lock().unwrap() = None;
    for _ in 0..20 {
        house.clock.advance(Duration::from_secs(1));
        settle().await;
    }
    let renewed = house.token().await.unwrap();
    assert_eq!((renewed.delivery(), renewed.outage()), (Delivery::Cached, None));
}

#[tokio::test]
async fn a_renewal_that_a_busy_device_turned_away_marks_no_token() {
    let house = House::open();
    house.token().await.unwrap();
    house.clock.advance(LIFE * 3 / 4);
    let busy = Error::Sign(sign::Error::Busy { waiting: 64, after: Duration::from_secs(1) });
    for (error, delivery) in [
        (busy.clone(), Delivery::Cached),
        (out_of_time(busy), Delivery::Cached),
        (unreachable(), Delivery::WhileDown),
    ] {
        house.source.errors.lock().unwrap().push_back(error);
        let asked = house.asked();
        house.token().await.unwrap();
        while house.asked() == asked {
            house.clock.advance(Duration::from_millis(100));
            settle().await;
        }
        let served = house.token().await.unwrap();
        assert_eq!((served.secret(), served.delivery()), ("token-1", delivery));
    }
}

/// A grant that was refused for its time has been minted twice by then.
#[tokio::test]
async fn a_loop_in_a_program_does_not_repeat_what_was_tried_twice() {
    let house = House::open();
    house.source.errors.lock().unwrap().push_back(refused("MP-130 JWT is expired"));
    for _ in 0..100 {
        house.token().await.unwrap_err();
    }
    assert_eq!(house.asked(), 1);
    house.clock.advance(Duration::from_secs(5));
    house.token().await.unwrap();
}

#[tokio::test]
async fn a_wall_clock_that_jumps_ends_a_token_early_and_never_late() {
    let house = House::open();
    let wall = house.clock.wall();
    house.token().await.unwrap();
    house.clock.set_wall(wall + LIFE);
    assert_eq!(house.token().await.unwrap().secret(), "token-2", "by the wall clock the first has expired");
    house.clock.set_wall(wall - Duration::from_secs(86_400));
    assert_eq!(house.token().await.unwrap().secret(), "token-2");
    house.clock.advance(LIFE);
    assert_eq!(house.token().await.unwrap().secret(), "token-3", "by the other clock the second has expired");
}

#[tokio::test]
async fn a_wall_clock_that_jumps_moves_no_deadline() {
    let house = House::shut();
    let wall = house.clock.wall();
    let caller = house.spawn_caller(Duration::from_secs(10));
    settle().await;
    for jump in [Duration::from_secs(86_400), Duration::ZERO] {
        house.clock.set_wall(wall + jump);
        settle().await;
        assert!(!caller.is_finished());
    }
    house.clock.advance(Duration::from_secs(10));
    assert!(matches!(caller.await.unwrap(), Err(Error::Deadline(_))));
}
