//! Authorities fail, Segl does not: each fault, on the wire in front of the real sandbox, and what callers, caches and
//! the authority get to see of it. Time is moved by hand, so that minutes pass at once; the figures are printed
//! (`--nocapture`) and stand in docs/reliability.md.

#![cfg(all(feature = "cli", feature = "sandbox"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and shows its figures, and clippy knows only #[test] functions as tests"
)]

#[path = "support/odd_server.rs"]
mod odd_server;
#[path = "support/stand.rs"]
mod stand;

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use segl::{
    call::{Call, DEFAULT_PATIENCE},
    clock::{Clock, Instant, ManualClock},
    grant::TokenRequest,
    pipeline::{NamedToken, Pipeline},
    sandbox::{Options, Ports},
    sign::{Fault, Retry},
    token::{AccessToken, Delivery, Error, Side, TokenSource},
};
use tokio::{net::TcpListener, task::JoinSet};

use self::{
    odd_server::{Answer, Server, json, ok, status},
    stand::{Stand, call, part},
};

/// Different tokens of one client that are asked for: each in its own name, and each once a second.
const TOKENS: usize = 20;

/// How long the authority stays away once the tokens have expired.
const OUTAGE: u64 = 120;

/// How long a caller waits for a token, in seconds, and one more: the clock moves in seconds.
const PATIENCE: u64 = DEFAULT_PATIENCE.as_secs() + 1;

/// A try each ten seconds, and one more.
const MOST_IN_A_MINUTE: usize = 7;

/// In the minute in which an authority goes away it sees those that are under way together, then tries after a quarter of a
/// second, doubled six times, and one each ten seconds.
const MOST_AT_FIRST: usize = TOKENS + 12;

/// Runs `test` on one thread, with one more for what blocks.
fn on_one_thread(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

/// The real sandbox, and on the way to each of its authorities a server that can spoil what comes and goes.
struct Road {
    stand: Stand,
    clock: Arc<ManualClock>,
    maskinporten: Server,
    customs: Server,
}

impl Road {
    async fn new() -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let mut fronts = Vec::new();
        for _ in 0..3 {
            fronts.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let [maskinporten, customs, altinn] =
            [0, 1, 2].map(|front: usize| fronts[front].local_addr().unwrap().port());
        // Another address of this machine, with the same ports: the sandbox has the addresses that clients see.
        let behind = Ipv4Addr::new(127, 0, 0, 2);
        let options = Options {
            ports: Ports { maskinporten, customs, altinn },
            bind: Some(behind.into()),
            public_url: Some("http://127.0.0.1".into()),
            clock: Some(clock.clone()),
            ..Options::default()
        };
        let stand = Stand::with(options).await;
        let mut fronts = fronts.into_iter().map(|listener| {
            let port = listener.local_addr().unwrap().port();
            Server::in_front_of((behind, port).into(), listener)
        });
        let (maskinporten, customs) = (fronts.next().unwrap(), fronts.next().unwrap());
        Self { stand, clock, maskinporten, customs }
    }

    fn pipeline(&self) -> Pipeline {
        self.stand.pipeline(&self.stand.key_client(), self.clock.clone())
    }

    fn front(&self, side: Front) -> &Server {
        match side {
            Front::Maskinporten => &self.maskinporten,
            Front::Customs => &self.customs,
        }
    }

    /// Lets happen what can happen at this moment, signatures too, and a second pass.
    async fn a_second_passes(&self) {
        self.passes(Duration::from_secs(1)).await;
    }

    /// Does `work` while time passes, but none while something can happen.
    async fn as_time_passes<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.passes(Duration::from_millis(100)) => {}
            }
        }
    }

    async fn passes(&self, time: Duration) {
        for _ in 0..2 {
            for _ in 0..500 {
                tokio::task::yield_now().await;
            }
            // Keys sign on the one thread for such work, one after the other: whoever comes after them has waited.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            while self.maskinporten.is_busy() || self.customs.is_busy() {
                tokio::task::yield_now().await;
            }
        }
        self.clock.advance(time);
    }

    /// Segl has sent no grant twice; how many it has sent.
    #[track_caller]
    fn no_jti_was_used_twice(&self) -> usize {
        let grants = self.maskinporten.grants();
        let jtis: HashSet<String> =
            grants.iter().map(|grant| part(grant, 1)["jti"].as_str().unwrap().to_owned()).collect();
        assert_eq!(jtis.len(), grants.len());
        jtis.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Maskinporten,
    Customs,
}

/// One fault of an authority.
struct Spoilt {
    what: &'static str,
    answer: Answer,
    /// Which side callers are told.
    side: Side,
    /// What they are told of it.
    said: &'static str,
    kind: Fault,
    /// The most requests that the authority sees in a minute once it is known to be away.
    most: usize,
}

fn faults() -> Vec<Spoilt> {
    let most = MOST_IN_A_MINUTE;
    let row = |what, answer, side, said, kind| Spoilt { what, answer, side, said, kind, most };
    let page = "<html><body>Sorry</body></html>";
    let typed = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: image/png\r\nContent-Length: 4\r\n\r\n\u{7f}PNG";
    let busy =
        "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n";
    let (signs, net) = (Side::Authority, Side::Network);
    vec![
        row("silence", Answer::ThenSilence(String::new()), net, "did not answer in time", Fault::Network),
        row("reset", Answer::Reset, net, "cannot be reached", Fault::Network),
        row("answer lost", Answer::Lost, net, "cannot be reached", Fault::Network),
        row("half a body", Answer::Half, net, "cannot be reached", Fault::Network),
        row("HTTP 500", status("500 Internal Server Error", "{}"), signs, "HTTP 500", Fault::Unavailable),
        row("HTTP 503, HTML", status("503 Unavailable", page), signs, "HTTP 503", Fault::Unavailable),
        // One each half minute, wherever the minute begins.
        Spoilt {
            most: 3,
            ..row("Retry-After 30", Answer::Whole(busy.into()), signs, "HTTP 429", Fault::Unavailable)
        },
        row("HTML, HTTP 200", Answer::Whole(ok(page)), net, "cannot be used", Fault::Network),
        row("HTML, HTTP 403", status("403 Forbidden", page), signs, "refused (HTTP 403)", Fault::Authority),
        row("another type", Answer::Whole(typed.into()), net, "cannot be used", Fault::Network),
        row("no token in it", json("{}"), net, "cannot be used", Fault::Network),
    ]
}

#[test]
fn maskinporten_fails_in_every_way() {
    on_one_thread(async {
        fails_in_every_way(Front::Maskinporten, "maskinporten", 119).await;
    });
}

#[test]
fn customs_fails_in_every_way() {
    on_one_thread(async {
        fails_in_every_way(Front::Customs, "road", 970).await;
    });
}

async fn fails_in_every_way(front: Front, name: &str, life: u64) {
    let road = Road::new().await;
    println!(
        "{front:?}: {TOKENS} tokens, each asked for once a second; away for {OUTAGE} s more than the tokens live\n\
         {:<15} | {:<9} | minute 1 | later | signed | from cache | in time | back after",
        "fault", "side said"
    );
    for fault in faults() {
        one_outage(&road, front, name, life, &fault).await;
    }
    let grants = road.no_jti_was_used_twice();
    assert_eq!(road.stand.sandbox.counters().token.refused, 0, "Maskinporten has refused a grant");
    println!("{front:?}: {grants} grants, {grants} different jti");
}

/// From tokens that are good, through their renewal and their end, to good ones again.
async fn one_outage(road: &Road, front: Front, name: &str, life: u64, fault: &Spoilt) {
    let clock = &road.clock;
    let pipeline = road.pipeline();
    let named = pipeline.token(name).unwrap();
    let requests = requests_like(named);
    let mut held = Vec::new();
    for request in &requests {
        held.push(named.source().token(request, &call(clock)).await.unwrap());
    }
    // To the last second before they are renewed.
    clock.advance(Duration::from_secs(life - (life / 4).min(60) - 1));
    road.front(front).answers(fault.answer.clone());

    let mut seen = Seen::new(road, front);
    let signed_before = signatures(&pipeline);
    let mut served = 0;
    while held.iter().all(|token| token.left(&**clock) > Duration::from_secs(1)) {
        for (request, token) in requests.iter().zip(&held) {
            let now = named.source().token(request, &call(clock)).await.unwrap();
            assert_eq!(now.secret(), token.secret(), "{}", fault.what);
            if now.delivery() == Delivery::WhileDown {
                let outage = now.outage().expect("a reason");
                assert_eq!(outage.side, fault.side, "{}: {outage}", fault.what);
                served += 1;
            }
        }
        road.a_second_passes().await;
        seen.a_second();
    }
    assert!(served > 0, "{}: nobody was told", fault.what);

    clock.advance(Duration::from_secs(1));
    let mut callers = JoinSet::new();
    for _ in 0..OUTAGE {
        for request in &requests {
            callers.spawn(caller(named, request, clock));
        }
        road.a_second_passes().await;
        seen.a_second();
    }
    let mut failed = 0;
    while let Some(ended) = callers.try_join_next() {
        ended.unwrap().told_in_time(fault);
        failed += 1;
    }
    assert!(failed >= (OUTAGE - PATIENCE) * TOKENS as u64, "{}: {failed} have been told", fault.what);
    let signed = signatures(&pipeline) - signed_before;
    let (first, later) = seen.most();
    assert!(first <= MOST_AT_FIRST && later <= fault.most, "{}: {first}, {later}", fault.what);

    road.front(front).answers(Answer::Passed);
    let over = clock.now();
    for request in &requests {
        road.as_time_passes(named.source().token(request, &call(clock))).await.unwrap();
    }
    let back = clock.now().since(over);
    assert!(back <= Duration::from_secs(31), "{}: {back:?}", fault.what);
    // Those who still waited are served, too, or told in time; whose time runs out when all is well again, without a side.
    for ended in road.as_time_passes(callers.join_all()).await {
        match ended.result {
            Ok(_) | Err(Error::Deadline(None)) => ended.is_in_time(fault),
            Err(_) => ended.told_in_time(fault),
        }
    }
    println!(
        "{:<15} | {:<9} | {first:>8} | {later:>5} | {signed:>6} | {served:>10} | {failed:>7} | {:>4.1} s",
        fault.what,
        format!("{:?}", fault.side).to_lowercase(),
        back.as_secs_f64()
    );
}

/// Signatures that its key made.
fn signatures(pipeline: &Pipeline) -> u64 {
    pipeline.signer("sandbox").unwrap().health().signatures
}

/// Requests for tokens that differ in whom they are for.
fn requests_like(named: &NamedToken) -> Vec<TokenRequest> {
    let scope = named.request(Default::default()).unwrap().scope().to_owned();
    let request = |number: usize| {
        TokenRequest::builder([scope.as_str()])
            .resource(format!("https://api.example/{number}"))
            .build()
            .unwrap()
    };
    (0..TOKENS).map(request).collect()
}

/// How one caller fared, by the clock that is moved by hand.
struct Ended {
    result: Result<AccessToken, Error>,
    at: Instant,
    deadline: Instant,
}

fn caller(
    named: &NamedToken,
    request: &TokenRequest,
    clock: &Arc<ManualClock>,
) -> impl Future<Output = Ended> + Send + use<> {
    let (source, request, call, clock) =
        (named.source().clone(), request.clone(), Call::new(&**clock), clock.clone());
    async move {
        let result = source.token(&request, &call).await;
        Ended { result, at: clock.now(), deadline: call.deadline() }
    }
}

impl Ended {
    /// By its deadline, a second of the clock that moves in seconds added.
    fn is_in_time(&self, fault: &Spoilt) {
        let late = self.at.since(self.deadline);
        assert!(late <= Duration::from_secs(1), "{}: {late:?} late", fault.what);
    }

    /// By then the caller knows which side it is, since when, and what happened.
    fn told_in_time(self, fault: &Spoilt) {
        self.is_in_time(fault);
        let error = self.result.expect_err("the authority is away");
        let said = error.to_string();
        assert_eq!((error.side(), error.kind()), (Some(fault.side), fault.kind), "{}: {said}", fault.what);
        assert!(said.contains(fault.said) && said.contains(" since 2027-01-15 "), "{}: {said}", fault.what);
        assert!(error.remedy().ends_with(['.', ')']), "{}", error.remedy());
    }
}

/// The requests that an authority saw, second by second.
struct Seen<'a> {
    front: &'a Server,
    at_first: usize,
    by_second: Vec<usize>,
}

impl<'a> Seen<'a> {
    fn new(road: &'a Road, front: Front) -> Self {
        let front = road.front(front);
        Self { front, at_first: front.requests(), by_second: Vec::new() }
    }

    fn a_second(&mut self) {
        self.by_second.push(self.front.requests() - self.at_first);
    }

    /// In the first minute, and in the worst minute after that.
    fn most(&self) -> (usize, usize) {
        let until = |second: usize| self.by_second[second.min(self.by_second.len() - 1)];
        let later =
            (60..self.by_second.len().saturating_sub(60)).map(|second| until(second + 60) - until(second));
        (until(60), later.max().expect("more than two minutes"))
    }
}

/// A proxy that sends a request again spends the grant in it; the next try makes its own.
#[test]
fn a_grant_that_somebody_repeats_is_refused_and_not_sent_again() {
    on_one_thread(async {
        let road = Road::new().await;
        let pipeline = road.pipeline();
        let named = pipeline.token("maskinporten").unwrap();
        road.maskinporten.answers(Answer::Repeated);
        let error = named.token(&call(&road.clock)).await.unwrap_err();
        assert!(error.to_string().contains("Grant is used before. MP-012"), "{error}");
        // Once more with a new grant, which went the same way.
        assert_eq!((road.no_jti_was_used_twice(), road.stand.sandbox.counters().token.hits), (2, 4));
        road.maskinporten.answers(Answer::Passed);
        road.clock.advance(Duration::from_secs(5));
        named.token(&call(&road.clock)).await.unwrap();
        assert_eq!(road.no_jti_was_used_twice(), 3);
        println!("a request that a proxy sends twice: MP-012, 2 grants sent by Segl, 2 different jti");
    });
}

#[test]
fn a_refusal_that_comes_from_configuration_is_not_tried_again_and_a_loop_costs_a_few_requests_a_minute() {
    on_one_thread(async {
        let road = Road::new().await;
        let config = road.stand.key_client().replace("kid = \"", "kid = \"not-");
        let scope = "altinn:serviceowner/instances.read";
        println!("a loop that asks each second for a minute, refused for its configuration:");
        for (what, config, name, code, most) in [
            ("MP-200: not on the client", road.stand.key_client(), "maskinporten", "MP-200", 12),
            ("unknown kid", config, "road", "Unknown key identifier", 12),
            (
                "Customs: another's scope",
                road.stand.key_client(),
                "road",
                "Not authorized to request scope",
                2,
            ),
        ] {
            let pipeline = road.stand.pipeline(&config, road.clock.clone());
            let named = pipeline.token(name).unwrap();
            let request = match what {
                "MP-200: not on the client" => TokenRequest::scopes(["nobody:has/this"]).unwrap(),
                "unknown kid" => named.request(Default::default()).unwrap(),
                _ => TokenRequest::scopes([scope]).unwrap(),
            };
            let front = if what.starts_with("Customs") { &road.customs } else { &road.maskinporten };
            let before = front.requests();
            let error = named.source().token(&request, &call(&road.clock)).await.unwrap_err();
            assert!(error.to_string().contains(code), "{what}: {error}");
            assert!(!matches!(error.retry(), Retry::NewGrant), "{what}");
            let once = front.requests() - before;
            // The metadata, where nobody knows it yet, and one request.
            assert!(once <= 2, "{what}: {once}");
            for _ in 0..60 {
                road.clock.advance(Duration::from_secs(1));
                named.source().token(&request, &call(&road.clock)).await.unwrap_err();
            }
            let minute = front.requests() - before - once;
            assert!((most / 2..=most).contains(&minute), "{what}: {minute}");
            println!("{what:<25} | {minute:>2} requests");
        }
        road.no_jti_was_used_twice();
    });
}

/// The authority's clock stays right: what jumps is this machine's.
#[test]
fn a_wall_clock_that_jumps_costs_a_named_refusal_and_no_token() {
    on_one_thread(async {
        let road = Road::new().await;
        let clock = &road.clock;
        let pipeline = road.pipeline();
        let named = pipeline.token("road").unwrap();
        let token = named.token(&call(clock)).await.unwrap();
        let began = clock.now();
        for (jump, direction) in [(3_600_i64, "ahead of"), (-3_600, "behind")] {
            let right = clock.wall();
            let wrong = UNIX_EPOCH + Duration::from_secs(clock.numeric_date().saturating_add_signed(jump));
            clock.set_wall(wrong);
            road.stand.sandbox.turn(|knobs| knobs.clock_offset = -jump);
            let before = road.maskinporten.grants().len();
            let probe =
                named.source().token(&named.request(Default::default()).unwrap(), &call(clock).fresh()).await;
            let said = probe.unwrap_err().to_string();
            assert!(
                said.contains(&format!("this machine's clock is 3600 s {direction} Maskinporten's")),
                "{said}"
            );
            let grants = road.maskinporten.grants();
            assert_eq!(grants.len() - before, 1, "another grant would fare no better");
            let iat = part(&grants[before], 1)["iat"].as_u64().unwrap();
            assert_eq!(iat, segl::clock::numeric_date(wrong), "it is not shifted");
            let readiness = pipeline.readiness();
            let maskinporten =
                readiness.authorities.iter().find(|it| it.address == road.stand.sandbox.issuer());
            assert!(maskinporten.unwrap().clock_is_off);
            clock.set_wall(right);
            road.stand.sandbox.turn(|knobs| knobs.clock_offset = 0);
            assert_eq!(named.token(&call(clock)).await.unwrap().secret(), token.secret(), "it was not lost");
        }
        // Behind for the rest of its life, the token is served to its real end and not longer.
        clock.set_wall(clock.wall() - Duration::from_secs(3_600));
        road.stand.sandbox.turn(|knobs| knobs.clock_offset = 3_600);
        let mut last = began;
        while let Ok(served) = road.as_time_passes(named.token(&call(clock))).await {
            assert_eq!(served.secret(), token.secret());
            last = clock.now();
            road.a_second_passes().await;
        }
        let lived = last.since(began).as_secs();
        assert!((token.life().as_secs() - 2..token.life().as_secs()).contains(&lived), "{lived} s");
        println!("a clock set an hour forwards and back: served for {lived} of {} s", token.life().as_secs());
        road.no_jti_was_used_twice();
    });
}
