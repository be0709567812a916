use std::{path::Path, sync::Arc, thread, time::Duration};

use super::{
    super::{
        Uri,
        calls::mechanism_name,
        code::answered,
        job::KeyQuery,
        key::{SigningKey, Unsigned},
        profile::SignForm,
        session::Connection,
    },
    FormOutcome, OneTry, Pace, Particulars, TriedForm, TriedKey,
};
use crate::{
    clock::{Clock, Instant},
    jose::Algorithm,
    sign::Error,
};

/// What a trial makes is kept until it has been verified: no more of it than this.
const MOST_SIGNATURES: usize = 100_000;

/// A device that is open and logged in, to try a key on.
pub(in super::super) struct Bench<'a> {
    pub(in super::super) connection: Arc<Connection>,
    pub(in super::super) key: &'a Uri,
    pub(in super::super) clock: &'a dyn Clock,
    pub(in super::super) logins: &'a OneTry<'a>,
}

impl Bench<'_> {
    pub(in super::super) fn look(&self, path: &Path) -> Result<Particulars, Error> {
        let key = match self.key(Algorithm::RS256) {
            Ok(key) => Ok(TriedKey::of(&key)?),
            // It is there; the rest of the report is of use without it, too.
            Err(error @ Error::UnusableKey { .. }) => Err(error),
            Err(error) => return Err(error),
        };
        let Connection { library, slot, .. } = self.connection.as_ref();
        Particulars::new(path.to_owned(), library.as_ref(), *slot, key)
    }

    pub(in super::super) fn sign(&self, algorithm: Algorithm, form: SignForm) -> Result<TriedForm, Error> {
        let key = self.key(algorithm)?;
        let message = message(0, 0);
        let start = self.clock.now();
        let signed = key.sign_as(form, &message, self.logins);
        let took = self.clock.now().since(start);
        let outcome = match signed {
            Ok(signature) if key.verifies(&message, &signature) => FormOutcome::Signed,
            Ok(_) => FormOutcome::Wrong,
            Err(Unsigned::Form(error)) => FormOutcome::Refused(error),
            Err(Unsigned::Other(error)) => FormOutcome::Failed(error),
        };
        Ok(TriedForm { mechanism: mechanism_name(key.mechanism(form).number()), outcome, took })
    }

    pub(in super::super) fn pace(
        &self,
        algorithm: Algorithm,
        form: SignForm,
        threads: u8,
        time: Duration,
    ) -> Result<Pace, Error> {
        let key = self.key(algorithm)?;
        let (sessions, no_more) = self.connection.reserve(threads.into());
        let start = self.clock.now();
        let until = start + time;
        let most = MOST_SIGNATURES / sessions.max(1);
        let runs: Vec<Run> = thread::scope(|scope| {
            let run = |thread: usize| {
                let key = &key;
                let run = move || self.run(key, form, thread, until, most);
                thread::Builder::new().name("pkcs11-trial".into()).spawn_scoped(scope, run)
            };
            let started: Vec<_> = (0..sessions).map(run).collect();
            started.into_iter().filter_map(|thread| thread.ok()?.join().ok()).collect()
        });
        Ok(summed(&key, runs, start, no_more.map(|why| answered(&why))))
    }

    /// What one thread does.
    fn run(&self, key: &SigningKey, form: SignForm, thread: usize, until: Instant, most: usize) -> Run {
        let mut run = Run { thread, signatures: Vec::new(), latencies: Vec::new(), failed: None, end: until };
        // One in any case: a card may take longer for it than the whole trial is to last.
        loop {
            let before = self.clock.now();
            let signed = key.sign_as(form, &message(thread, run.signatures.len()), self.logins);
            run.end = self.clock.now();
            match signed {
                Ok(signature) => run.signatures.push(signature),
                Err(Unsigned::Form(error) | Unsigned::Other(error)) => {
                    run.failed = Some(error);
                    return run;
                }
            }
            run.latencies.push(run.end.since(before));
            if run.end >= until || run.signatures.len() >= most {
                return run;
            }
        }
    }

    fn key(&self, algorithm: Algorithm) -> Result<SigningKey, Error> {
        SigningKey::locate(self.connection.clone(), &KeyQuery { uri: self.key.clone(), algorithm })
    }
}

/// What one thread made.
struct Run {
    thread: usize,
    signatures: Vec<Vec<u8>>,
    latencies: Vec<Duration>,
    failed: Option<Error>,
    end: Instant,
}

/// No two are the same: a library that mixes up its sessions gives a signature over another one's message.
fn message(thread: usize, number: usize) -> Vec<u8> {
    format!("segl keys test: thread {thread}, message {number}").into_bytes()
}

fn summed(key: &SigningKey, runs: Vec<Run>, start: Instant, no_more_sessions: Option<Error>) -> Pace {
    let threads = u8::try_from(runs.len()).unwrap_or(u8::MAX);
    let end = runs.iter().map(|run| run.end).max().unwrap_or(start);
    let (mut good, mut wrong) = (0, 0);
    for run in &runs {
        for (number, signature) in run.signatures.iter().enumerate() {
            if key.verifies(&message(run.thread, number), signature) { good += 1 } else { wrong += 1 }
        }
    }
    let mut latencies: Vec<Duration> = runs.iter().flat_map(|run| run.latencies.iter().copied()).collect();
    latencies.sort_unstable();
    Pace {
        threads,
        no_more_sessions,
        signatures: good,
        wrong,
        took: end.since(start),
        median: latencies.get(latencies.len() / 2).copied().unwrap_or_default(),
        slowest: latencies.last().copied().unwrap_or_default(),
        failed: runs.into_iter().find_map(|run| run.failed),
    }
}
