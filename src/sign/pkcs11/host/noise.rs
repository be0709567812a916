//! What a library says on its standard error. All of it is heard, since a library waits when nobody listens; some of it
//! is passed on, since many say the same thing without end.

use std::time::Duration;

use crate::clock::Instant;

/// So many lines are passed on in a time of [`SPELL`].
const MOST_LINES: u32 = 20;
const SPELL: Duration = Duration::from_secs(10);

/// Of a line no more than this is passed on, in bytes.
const LONGEST_LINE: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Noise {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// When the spell began in which lines are counted, and how many there were.
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Noise {
    /// Takes what was said, and hands on what is worth it, line by line.
    pub(super) fn take(&mut self, bytes: &[u8], now: Instant, pass_on: &mut dyn FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = LONGEST_LINE.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(text.get(..room).unwrap_or(text));
            if ends {
                self.end_line(now, pass_on);
            }
        }
    }

    /// Says how much was left out, once the spell is over.
    pub(super) fn sum_up(&mut self, now: Instant, pass_on: &mut dyn FnMut(&str)) {
        if self.since.is_some_and(|since| now.since(since) >= SPELL) {
            self.tell_left_out(pass_on);
            (self.since, self.lines) = (None, 0);
        }
    }

    /// Nothing more comes from this process. The next one may say no more in this spell.
    pub(super) fn end(&mut self, now: Instant, pass_on: &mut dyn FnMut(&str)) {
        if !self.begun.is_empty() {
            self.end_line(now, pass_on);
        }
        self.tell_left_out(pass_on);
    }

    fn end_line(&mut self, now: Instant, pass_on: &mut dyn FnMut(&str)) {
        self.sum_up(now, pass_on);
        self.since.get_or_insert(now);
        let line = std::mem::take(&mut self.begun);
        if self.lines < MOST_LINES {
            self.lines += 1;
            pass_on(&String::from_utf8_lossy(&line));
        } else {
            self.left_out += 1;
        }
    }

    fn tell_left_out(&mut self, pass_on: &mut dyn FnMut(&str)) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            pass_on(&format!("({left_out} more lines within {} s were left out)", SPELL.as_secs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, ManualClock};

    fn clock() -> std::sync::Arc<ManualClock> {
        ManualClock::at(std::time::SystemTime::UNIX_EPOCH)
    }

    fn heard(noise: &mut Noise, bytes: &[u8], now: Instant) -> Vec<String> {
        let mut heard = Vec::new();
        noise.take(bytes, now, &mut |line| heard.push(line.to_owned()));
        heard
    }

    #[test]
    fn a_line_comes_whole_however_it_was_cut() {
        let (mut noise, now) = (Noise::default(), clock().now());
        assert_eq!(heard(&mut noise, b"one\ntw", now), ["one"]);
        assert_eq!(heard(&mut noise, b"o", now), [""; 0]);
        assert_eq!(heard(&mut noise, b"\n\xff\nthree", now), ["two", "\u{fffd}"]);
        let mut rest = Vec::new();
        noise.end(now, &mut |line| rest.push(line.to_owned()));
        assert_eq!(rest, ["three"]);
    }

    #[test]
    fn of_lines_without_end_some_are_passed_on_and_the_rest_is_counted() {
        let (mut noise, clock) = (Noise::default(), clock());
        let many = "the same again\n".repeat(1000);
        assert_eq!(heard(&mut noise, many.as_bytes(), clock.now()).len(), 20);
        clock.advance(SPELL - Duration::from_millis(1));
        assert_eq!(heard(&mut noise, b"still the same\n", clock.now()), [""; 0]);
        clock.advance(Duration::from_millis(1));
        let mut said = Vec::new();
        noise.sum_up(clock.now(), &mut |line| said.push(line.to_owned()));
        assert_eq!(said, ["(981 more lines within 10 s were left out)"]);
        assert_eq!(heard(&mut noise, b"news\n", clock.now()), ["news"]);
    }

    #[test]
    fn a_process_that_follows_on_one_that_said_too_much_says_no_more_at_once() {
        let (mut noise, now) = (Noise::default(), clock().now());
        for left_out in [5, 25] {
            heard(&mut noise, &b"I crash\n".repeat(25), now);
            let mut said = Vec::new();
            noise.end(now, &mut |line| said.push(line.to_owned()));
            assert_eq!(said, [format!("({left_out} more lines within 10 s were left out)")]);
        }
    }

    #[test]
    fn a_line_without_end_takes_up_little_memory() {
        let (mut noise, now) = (Noise::default(), clock().now());
        for _ in 0..1000 {
            assert_eq!(heard(&mut noise, &[b'x'; 4096], now), [""; 0]);
        }
        assert!(noise.begun.capacity() <= 4096);
        assert_eq!(heard(&mut noise, b"\n", now), ["x".repeat(1024)]);
    }

    proptest! {
        #[test]
        fn whatever_is_said_little_of_it_is_passed_on(said: Vec<Vec<u8>>) {
            let (mut noise, now) = (Noise::default(), clock().now());
            let lines: usize = said.iter().map(|bytes| heard(&mut noise, bytes, now).len()).sum();
            let ends: usize = said.iter().flatten().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(lines, ends.min(20));
        }
    }
}
