use std::{sync::Mutex, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Authority, Error, knobs::Knobs, world::locked};
use crate::clock::Instant;

/// Something that goes wrong for a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Fault {
    /// When it begins: seconds after the start of the sandbox.
    pub at: u64,
    /// How long it lasts, in seconds; `None`: until it is taken away.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<u64>,
    /// Who answers 503.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outage: Vec<Out>,
    /// Knobs that are turned meanwhile, by name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub knobs: Map<String, Value>,
}

/// What can be out of order by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Out {
    /// All of Maskinporten.
    Maskinporten,
    /// Maskinporten's metadata document alone.
    Metadata,
    /// Customs.
    Customs,
    /// Altinn.
    Altinn,
}

impl From<Authority> for Out {
    fn from(authority: Authority) -> Self {
        match authority {
            Authority::Maskinporten => Self::Maskinporten,
            Authority::Customs => Self::Customs,
            Authority::Altinn => Self::Altinn,
        }
    }
}

impl Fault {
    /// Whether it changes anything, and can.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.outage.is_empty() && self.knobs.is_empty() {
            return Err(Error::Fault("it has neither outage nor knobs".into()));
        }
        Knobs::default().with(&self.knobs).map(drop).map_err(Error::Fault)
    }

    fn is_on(&self, elapsed: Duration) -> bool {
        let elapsed = elapsed.as_secs();
        elapsed >= self.at && self.lasts.is_none_or(|lasts| elapsed < self.at.saturating_add(lasts))
    }
}

/// The faults of a run. They are looked up at each request, so they begin and end to the second on whatever clock.
#[derive(Debug)]
pub(super) struct Timeline {
    start: Instant,
    faults: Mutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    next: u64,
    all: Vec<(u64, Fault)>,
}

/// Far more than anybody plans.
const MOST: usize = 1000;

impl Timeline {
    pub(super) fn new(start: Instant, faults: Vec<Fault>) -> Result<Self, Error> {
        let timeline = Self { start, faults: Mutex::default() };
        for fault in faults {
            timeline.add(fault)?;
        }
        Ok(timeline)
    }

    /// Adds a fault; its number is returned.
    pub(super) fn add(&self, fault: Fault) -> Result<u64, Error> {
        fault.check()?;
        let mut faults = locked(&self.faults);
        if faults.all.len() >= MOST {
            return Err(Error::Fault("there are a thousand already".into()));
        }
        faults.next += 1;
        let number = faults.next;
        faults.all.push((number, fault));
        Ok(number)
    }

    /// Adds a fault whose `at` is counted from `now`.
    pub(super) fn add_now(&self, mut fault: Fault, now: Instant) -> Result<u64, Error> {
        fault.at = fault.at.saturating_add(now.since(self.start).as_secs());
        self.add(fault)
    }

    /// Takes a fault away, or all of them; how many there were.
    pub(super) fn remove(&self, number: Option<u64>) -> usize {
        let mut faults = locked(&self.faults);
        let before = faults.all.len();
        faults.all.retain(|(found, _)| number.is_some_and(|number| number != *found));
        before - faults.all.len()
    }

    /// All faults with their numbers, and whether each is on at `now`.
    pub(super) fn all(&self, now: Instant) -> Vec<(u64, Fault, bool)> {
        let elapsed = now.since(self.start);
        let faults = locked(&self.faults);
        faults.all.iter().map(|(number, fault)| (*number, fault.clone(), fault.is_on(elapsed))).collect()
    }

    pub(super) fn is_out(&self, out: Out, now: Instant) -> bool {
        let elapsed = now.since(self.start);
        locked(&self.faults).all.iter().any(|(_, fault)| fault.is_on(elapsed) && fault.outage.contains(&out))
    }

    /// `knobs` with what the faults of `now` turn, the later ones last.
    pub(super) fn turned(&self, knobs: Knobs, now: Instant) -> Knobs {
        let elapsed = now.since(self.start);
        let faults = locked(&self.faults);
        let on = faults.all.iter().filter(|(_, fault)| !fault.knobs.is_empty() && fault.is_on(elapsed));
        // Each set of changes was tried when it came.
        on.fold(knobs, |knobs, (_, fault)| knobs.with(&fault.knobs).unwrap_or(knobs))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::json;

    use super::*;
    use crate::clock::{Clock, ManualClock};

    fn fault(value: Value) -> Fault {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn faults_begin_and_end_to_the_second_and_a_later_one_goes_before_an_earlier() {
        let clock = ManualClock::at(UNIX_EPOCH);
        let start = clock.now();
        let timeline = Timeline::new(
            start,
            vec![
                fault(json!({ "at": 10, "for": 5, "outage": ["metadata"] })),
                fault(json!({ "at": 10, "knobs": { "token_lifetime": 30 } })),
                fault(json!({ "at": 12, "for": 1, "knobs": { "token_lifetime": 7 } })),
            ],
        )
        .unwrap();
        let seen = |seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            let knobs = timeline.turned(Knobs::default(), now);
            (timeline.is_out(Out::Metadata, now), timeline.is_out(Out::Customs, now), knobs.token_lifetime)
        };
        assert_eq!(seen(9), (false, false, 120));
        assert_eq!(seen(10), (true, false, 30));
        assert_eq!(seen(12), (true, false, 7));
        assert_eq!(seen(14), (true, false, 30));
        assert_eq!(seen(15), (false, false, 30));
        assert_eq!((timeline.remove(Some(2)), timeline.remove(Some(2))), (1, 0));
        assert_eq!(seen(12), (true, false, 7));
        assert_eq!(timeline.remove(None), 2);
    }

    #[test]
    fn a_fault_that_does_nothing_or_cannot_be_is_refused() {
        let timeline = Timeline::new(ManualClock::at(UNIX_EPOCH).now(), Vec::new()).unwrap();
        for (value, why) in [
            (json!({ "at": 1 }), "neither outage nor knobs"),
            (json!({ "knobs": { "speed": 1 } }), "unknown field `speed`"),
        ] {
            assert!(timeline.add(fault(value)).unwrap_err().to_string().contains(why));
        }
        for odd in [json!({ "outage": ["moon"] }), json!({ "outages": [] }), json!({ "at": -1 })] {
            assert!(serde_json::from_value::<Fault>(odd).is_err());
        }
    }
}
