//! A cached token, in process: the path that nearly every request takes.
//!
//! `cargo bench --bench cached_token`

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]

use std::{
    hint::black_box,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use segl::{
    call::Call,
    clock::{BoxFuture, Clock, SystemClock},
    grant::TokenRequest,
    token::{AccessToken, Cached, DEFAULT_CAPACITY, Error, Provenance, TokenSource},
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

    fn trouble(&self) -> Option<Error> {
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
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
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

/// Two threads, each doing `iterations` of `work`; the time of the slower one.
fn on_two_threads(iterations: u64, work: impl Fn(usize, u64) + Sync) -> Duration {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
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

fn cached_token(criterion: &mut Criterion) {
    let requests: Vec<_> = (0..1_000).map(request).collect();
    let cache = warm(&requests);
    let call = Call::within(&SystemClock, Duration::from_secs(100_000));
    let map: papaya::HashMap<TokenRequest, Arc<String>> =
        requests.iter().map(|request| (request.clone(), Arc::new("x".repeat(1_000)))).collect();
    let hot = &requests[0];
    let distinct = |thread: usize, iteration: u64| &requests[(iteration as usize * 2 + thread) % 1_000];

    let mut group = criterion.benchmark_group("cached token");
    group.bench_function("bare concurrent map, one thread", |b| {
        b.iter(|| map.pin().get(black_box(hot)).cloned());
    });
    group.bench_function("one thread", |b| b.iter(|| hit(&cache, black_box(hot), &call)));
    group.bench_function("one thread, 1,000 requests", |b| {
        let mut iteration = 0;
        b.iter(|| {
            iteration += 1;
            hit(&cache, black_box(distinct(0, iteration)), &call)
        });
    });
    group.bench_function("two threads, distinct requests", |b| {
        b.iter_custom(|n| {
            on_two_threads(n, |thread, i| drop(black_box(hit(&cache, distinct(thread, i), &call))))
        });
    });
    group.bench_function("two threads, one hot request", |b| {
        b.iter_custom(|n| on_two_threads(n, |_, _| drop(black_box(hit(&cache, hot, &call)))));
    });
    group.finish();
}

criterion_group!(benches, cached_token);
criterion_main!(benches);
