//! What is done with a process, by what it answers and when.

use tokio::sync::oneshot;

use super::{
    super::{
        super::{
            guard::{Guard, PinRecords},
            login::Guarded,
        },
        frame::{FromHost, answer_frames, decoded},
    },
    *,
};
use crate::{clock::ManualClock, sign::Sought};

struct Desk {
    link: Link,
    clock: Arc<ManualClock>,
    profile: Arc<Profile>,
    logins: Arc<dyn Logins>,
    /// The other end of the process's socket.
    _theirs: Channel,
}

impl Desk {
    fn new() -> Self {
        let (clock, profile) = (ManualClock::at(std::time::UNIX_EPOCH), Arc::new(Profile::unknown()));
        let guard = Guard::new(std::path::Path::new("/m.so"), PinRecords::Memory, clock.clone());
        let logins = Arc::new(Guarded::new(Arc::new(guard), None, profile.clone()));
        let (ours, theirs) = Channel::pair().unwrap();
        let link = Link::over(ours, 0, clock.now());
        Self { link, clock, profile, logins, _theirs: Channel::over(theirs) }
    }

    /// Gives the process a job; its number.
    fn give(&mut self, job: Job) -> u64 {
        let now = self.clock.now();
        let ticket = Ticket {
            job,
            make: None,
            made: None,
            logins: self.logins.clone(),
            asked: now,
            deadline: now + Duration::from_secs(1000),
            reply: Box::new(oneshot::channel().0),
            again: false,
        };
        assert!(matches!(self.link.hand_over(ticket, now), Handed::Over));
        self.link.next - 1
    }

    fn is_answered(&mut self, job: u64, answer: &Result<Answer, Error>) {
        for frame in answer_frames(job, answer).unwrap() {
            let FromHost::Piece { id, bytes, last } = decoded(&frame).unwrap() else { panic!("no piece") };
            let ladder = Ladder::of(&self.profile);
            let _ =
                self.link.take_piece(id, bytes, last, self.clock.now(), (&self.profile, &ladder)).unwrap();
        }
    }

    fn is_absent(&mut self, is_missed: bool) {
        let job = self.give(probe("absent", is_missed));
        let (sought, uri) = (Sought::Device, "pkcs11:token=absent".into());
        self.is_answered(job, &Err(Error::NotFound { sought, uri, candidates: Vec::new() }));
    }

    /// Whether the process hangs after so many more times as long as one call may take.
    fn hangs_after(&self, calls: u32) -> bool {
        self.clock.advance(self.profile.sign.call_timeout() * calls + Duration::from_millis(1));
        self.link.late(self.clock.now(), &self.profile, false).is_some()
    }

    fn is_at_a_loss(&self) -> bool {
        self.link.is_at_a_loss(self.clock.now(), &self.profile)
    }
}

fn device(label: &str) -> Uri {
    format!("pkcs11:token={label}").parse().unwrap()
}

fn probe(label: &str, is_missed: bool) -> Job {
    Job::Probe { device: Some(device(label)), is_missed }
}

#[test]
fn a_device_that_nobody_wants_costs_no_other_its_process() {
    let mut desk = Desk::new();
    desk.is_absent(false);
    assert!(!desk.is_at_a_loss());
    desk.clock.advance(LOOK_AGAIN);
    assert!(desk.is_at_a_loss(), "alone, it is looked for now and then");
    let other = desk.give(probe("other", false));
    desk.is_answered(other, &Ok(Answer::There));
    desk.is_absent(false);
    assert!(!desk.is_at_a_loss());
    assert!(!desk.link.is_leaving);
    desk.is_absent(true);
    assert!(desk.is_at_a_loss() && desk.link.is_leaving, "it is given no more jobs");
}

#[test]
fn a_question_that_nobody_waits_for_may_take_as_long_as_one_call_once_the_process_has_answered() {
    let mut desk = Desk::new();
    let first = desk.give(probe("other", false));
    assert!(!desk.hangs_after(2), "the library is initialized");
    desk.is_answered(first, &Ok(Answer::There));
    let _silent = desk.give(probe("silent", false));
    let _behind = desk.give(Job::Certificates(device("other")));
    assert!(!desk.hangs_after(1), "it may have overtaken, and may take long");
    desk.is_answered(2, &Ok(Answer::There));
    assert!(!desk.hangs_after(0), "it may have begun only now");
    assert!(desk.hangs_after(1));
}

#[test]
fn a_question_is_not_to_blame_for_what_goes_before_it_or_starts_the_library_anew() {
    for (before, is_missed) in [(true, false), (false, true)] {
        let mut desk = Desk::new();
        let first = desk.give(probe("other", false));
        desk.is_answered(first, &Ok(Answer::There));
        if before {
            desk.give(probe("other", true));
        }
        desk.give(probe("silent", is_missed));
        assert!(!desk.hangs_after(4));
        assert!(desk.hangs_after(1));
    }
}

#[test]
fn time_in_which_the_machine_slept_counts_against_no_job_and_in_favour_of_none_that_came_later() {
    let night = Duration::from_secs(8 * 3600);
    for (slept_before, slept_after) in [(true, false), (false, true)] {
        let mut desk = Desk::new();
        if slept_before {
            desk.clock.advance(night);
        }
        desk.give(probe("silent", false));
        if slept_after {
            desk.clock.advance(night);
        }
        // It is seen a moment later that the machine has slept.
        desk.link.excuse(night, desk.clock.now());
        assert!(!desk.hangs_after(2));
        assert!(desk.hangs_after(3), "slept before: {slept_before}");
    }
}
