//! A device that is lost again and again while many callers want tokens.

use std::{sync::Arc, time::Duration};

use segl::{
    pipeline::Pipeline,
    sandbox::{Knobs, Options},
};
use tokio::time::Instant;

use crate::{
    footprint::{Footprint, median, nothing_grows},
    leap::LeapingClock,
    load::{CALLERS, Load, Tally},
    stand::Stand,
};

/// How a device is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its processes are killed. Later it is there again.
    Killed,
    /// It does not answer, and every connection to it stays open. Later it goes on.
    Paused,
    /// It is killed, and there again as soon as it can be.
    Restarted,
}

/// A device that can be lost.
pub(crate) trait Hsm {
    async fn lose(&mut self, loss: Loss);
    /// Brings it back after [`Loss::Killed`] and [`Loss::Paused`].
    async fn bring_back(&mut self, loss: Loss);
}

/// Maskinporten's tokens live two minutes, and here those of Customs do, too.
const LIFE: Duration = Duration::from_secs(120);
/// Past the point at which they are to be renewed, and usable.
const PAST_REFRESH: Duration = Duration::from_secs(95);
/// What is left of them then.
const REST: Duration = Duration::from_secs(25);

/// Outages after which threads, descriptors and memory are no longer expected to grow: one of each kind, with tokens
/// that ran out and without.
const WARM_UP: usize = 6;

/// A sandbox, and the clock that it shares with the pipelines made for it.
pub(crate) async fn stand() -> (Stand, Arc<LeapingClock>) {
    let clock = Arc::new(LeapingClock::default());
    let mut knobs = Knobs::default();
    knobs.token_lifetime = LIFE.as_secs();
    knobs.customs_lifetime = LIFE.as_secs();
    let options = Options { clock: Some(clock.clone()), knobs, ..Options::default() };
    (Stand::with(options).await, clock)
}

/// What a program has that signs with this key: `spki`, named by `uri`.
pub(crate) fn pipeline(
    stand: &Stand,
    clock: &Arc<LeapingClock>,
    uri: String,
    spki: &[u8],
    pin: &str,
) -> Pipeline {
    stand.pipeline(&stand.device_client(uri, spki, pin), clock.clone())
}

/// Loses the device `rounds` times, in every way by turns; in every second outage of each kind all tokens run out.
pub(crate) async fn lose_again_and_again(hsm: &mut impl Hsm, stand: &Stand, load: Load, rounds: usize) {
    let begin = Instant::now();
    load.all_renewed(LIFE / 2).await;
    load.signs().await;
    let (mut recoveries, mut footprints, mut ran_out) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let loss = [Loss::Killed, Loss::Paused, Loss::Restarted][round % 3];
        hsm.lose(loss).await;
        load.leap(PAST_REFRESH).await;
        if loss != Loss::Restarted {
            load.asked_twice().await;
            if (round / 3) % 2 == 1 {
                ran_out += 1;
                load.leap(REST).await;
                load.all_failed().await;
            }
            hsm.bring_back(loss).await;
        }
        let back = Instant::now();
        load.signs().await;
        recoveries.push((back.elapsed(), loss));
        load.all_renewed(LIFE / 2).await;
        footprints.push(Footprint::now());
    }
    let tally = load.end().await;
    let counters = stand.sandbox.counters();
    show(&tally, &recoveries, rounds, ran_out, begin.elapsed());
    assert_eq!(counters.token.refused, 0, "the authority has refused a grant");
    assert!(tally.while_down > 0 && tally.failed > 0, "nobody noticed: {tally:?}");
    println!("the first {WARM_UP} outages left out:");
    nothing_grows(&footprints[WARM_UP..]);
}

fn show(tally: &Tally, recoveries: &[(Duration, Loss)], rounds: usize, ran_out: usize, took: Duration) {
    let number = |wanted: Loss| recoveries.iter().filter(|(_, loss)| *loss == wanted).count();
    println!(
        "{rounds} outages in {} s: killed {}, paused {}, restarted {}; in {ran_out} of them all tokens ran out",
        took.as_secs(),
        number(Loss::Killed),
        number(Loss::Paused),
        number(Loss::Restarted),
    );
    println!(
        "{CALLERS} callers, {} requests: 0 failed with a usable token; {} were served while renewal failed",
        tally.answered(),
        tally.while_down,
    );
    println!(
        "without one {} failed, none later than {} ms after its deadline; the last said: {}",
        tally.failed,
        tally.latest.as_millis(),
        tally.trouble,
    );
    for wanted in [Loss::Killed, Loss::Paused, Loss::Restarted] {
        let times: Vec<_> =
            recoveries.iter().filter(|(_, loss)| *loss == wanted).map(|(time, _)| time.as_millis()).collect();
        let (middle, most) = (median(times.iter().copied()), times.iter().max().unwrap());
        println!("{wanted:?}: a signature {middle} ms after the device was back (median; at most {most})");
    }
}
