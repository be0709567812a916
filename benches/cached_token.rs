//! A cached token, in process: the path that nearly every request takes.
//!
//! `cargo bench --bench cached_token`
//!
//! Criterion's figures come first. The lines that begin with `ratio` are taken in interleaved rounds of the cache and of
//! a bare concurrent map with the same keys, so that a machine whose speed changes does not change them.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "its result")]

use std::{
    hint::black_box,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group};
use segl::{
    call::Call,
    clock::{BoxFuture, Clock, SystemClock},
    grant::TokenRequest,
    token::{AccessToken, Cached, DEFAULT_CAPACITY, Error, Outage, Provenance, TokenSource},
};

#[derive(Debug)]
struct Issuing;

impl TokenSource for Issuing {
    fn token<'a>(&'a self, _: &'a TokenRequest, _: &'a Call) -> BoxFuture<'a, Result<AccessToken, Error>> {
        let life = Duration::from_secs(100_000);
        let text = "x".repeat(1_000).into();
        let token = AccessToken::issued(
            text,
            "a:b".into(),
            SystemClock.now(),
            SystemClock.numeric_date(),
            life,
            Provenance::default(),
        );
        Box::pin(std::future::ready(Ok(token)))
    }

    fn outage(&self) -> Option<Outage> {
        None
    }
}

fn request(number: usize) -> TokenRequest {
    TokenRequest::builder([format!("toll:movement/road/v{number}"), "toll:movement/air".into()])
        .resource("https://api.toll.no/")
        .consumer_org("991825827")
        .build()
        .unwrap()
}

fn warm(requests: &[TokenRequest]) -> Cached {
    let cache = Cached::new(Arc::new(Issuing), SystemClock::shared(), DEFAULT_CAPACITY);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for request in requests {
            cache.token(request, &Call::new(&SystemClock)).await.unwrap();
        }
    });
    cache
}

/// A hit is ready at the first poll: no runtime is needed to read it.
fn hit(cache: &Cached, request: &TokenRequest, call: &Call) -> AccessToken {
    let mut future = pin!(cache.token(request, call));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(token) => token.unwrap(),
        Poll::Pending => unreachable!("the token is cached"),
    }
}

/// So many threads, each doing `iterations` of `work`; the time of the slowest.
fn on_threads(threads: usize, iterations: u64, work: impl Fn(usize, u64) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    for iteration in 0..iterations {
                        work(thread, iteration);
                    }
                    start.elapsed()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    })
}

/// The cache, and the map that it is compared with.
struct Bench {
    requests: Vec<TokenRequest>,
    cache: Cached,
    call: Call,
    map: papaya::HashMap<TokenRequest, Arc<String>>,
}

impl Bench {
    fn new() -> Self {
        let requests: Vec<_> = (0..1_000).map(request).collect();
        let map = requests.iter().map(|request| (request.clone(), Arc::new("x".repeat(1_000)))).collect();
        let call = Call::within(&SystemClock, Duration::from_secs(100_000));
        Self { cache: warm(&requests), requests, call, map }
    }

    fn hit(&self, request: &TokenRequest) {
        drop(black_box(hit(&self.cache, black_box(request), &self.call)));
    }

    fn bare(&self, request: &TokenRequest) {
        drop(black_box(self.map.pin().get(black_box(request)).cloned()));
    }

    fn hot(&self, _thread: usize, _iteration: u64) -> &TokenRequest {
        &self.requests[0]
    }

    /// Two threads never ask for the same.
    fn distinct(&self, thread: usize, iteration: u64) -> &TokenRequest {
        &self.requests[(iteration as usize * 2 + thread) % self.requests.len()]
    }
}

type Choice = for<'a> fn(&'a Bench, usize, u64) -> &'a TokenRequest;

const SHAPES: [(&str, usize, Choice); 4] = [
    ("one thread, one request", 1, Bench::hot),
    ("one thread, 500 requests", 1, Bench::distinct),
    ("two threads, distinct requests", 2, Bench::distinct),
    ("two threads, one hot request", 2, Bench::hot),
];

fn cached_token(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("cached token");
    group.bench_function("bare concurrent map, one thread", |b| b.iter(|| bench.bare(&bench.requests[0])));
    for (name, threads, choose) in SHAPES {
        group.bench_function(name, |b| {
            b.iter_custom(|n| on_threads(threads, n, |thread, i| bench.hit(choose(&bench, thread, i))));
        });
    }
    group.finish();
}

fn ratios() {
    const ROUNDS: usize = 301;
    // A round is over before a busy machine takes the processor away.
    const HITS: u64 = 20_000;
    let bench = Bench::new();
    for (name, threads, choose) in SHAPES {
        let nanoseconds = |work: &(dyn Fn(usize, u64) + Sync)| {
            on_threads(threads, HITS, work).as_secs_f64() * 1e9 / HITS as f64
        };
        let mut rounds: Vec<(f64, f64)> = (0..=ROUNDS)
            .map(|_| {
                let bare = nanoseconds(&|thread, i| bench.bare(choose(&bench, thread, i)));
                (bare, nanoseconds(&|thread, i| bench.hit(choose(&bench, thread, i))))
            })
            .collect();
        rounds.remove(0);
        println!(
            "ratio: {name:31} cached {:4.0} ns, bare map {:4.0} ns: {:.2} times (medians of {ROUNDS} rounds)",
            median(rounds.iter().map(|(_, cached)| *cached)),
            median(rounds.iter().map(|(bare, _)| *bare)),
            median(rounds.iter().map(|(bare, cached)| cached / bare)),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

criterion_group!(benches, cached_token);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    ratios();
}
