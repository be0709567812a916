use std::time::{Duration, SystemTime};

use super::{Clock, Moment};

/// A time of trouble: when it began, and whether it has been spoken of. Most are over before anybody need hear of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    began: Moment,
    announced: bool,
}

/// What lasts longer than this is worth a line in the log.
const WORTH_A_WORD: Duration = Duration::from_secs(5);

impl Spell {
    /// One that begins at `began`.
    pub(crate) fn since(began: Moment) -> Self {
        Self { began, announced: false }
    }

    /// When it began, as people count.
    pub(crate) fn wall(&self) -> SystemTime {
        self.began.wall
    }

    /// Whether it is time to say that it is there: true once, when it has lasted for five seconds.
    pub(crate) fn is_to_be_announced(&mut self, clock: &dyn Clock) -> bool {
        let due = !self.announced && self.lasted(clock) >= WORTH_A_WORD;
        self.announced |= due;
        due
    }

    /// Whether its end is worth a word: its beginning was.
    pub(crate) fn was_announced(&self) -> bool {
        self.announced
    }

    /// How long it has lasted, whatever the wall clock was set to meanwhile.
    pub(crate) fn lasted(&self, clock: &dyn Clock) -> Duration {
        clock.now().since(self.began.now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn it_is_announced_once_and_only_when_it_lasts() {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_000));
        let mut spell = Spell::since(Moment::of(&*clock));
        clock.advance(Duration::from_secs(4));
        assert!(!spell.is_to_be_announced(&*clock) && !spell.was_announced());
        clock.advance(Duration::from_secs(1));
        clock.set_wall(UNIX_EPOCH);
        assert!(spell.is_to_be_announced(&*clock) && spell.was_announced());
        assert!(!spell.is_to_be_announced(&*clock));
        assert_eq!(spell.wall(), UNIX_EPOCH + Duration::from_secs(1_000));
    }
}
