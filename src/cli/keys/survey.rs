//! Looking at many libraries, some of which hang.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::task::JoinSet;

use super::Work;
use crate::{
    call::Call,
    clock::{Clock, Instant},
    sign::{
        Error,
        pkcs11::{Installed, ModuleDescription},
    },
};

/// The next library is started when the one before has answered, or after this time: two that wrap the same driver
/// would otherwise start it at the same moment, which some drivers do not survive.
const BETWEEN_STARTS: Duration = Duration::from_millis(250);

/// People are told what they wait for when they have waited this long.
const UNTIL_PROGRESS: Duration = Duration::from_millis(500);

/// A library, and what it showed.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) library: Installed,
    pub(super) shown: Result<ModuleDescription, Error>,
}

/// Looks at every one of `libraries`, each for at most `patience`, side by side. One that others can change is not
/// loaded unless `trust_all`.
pub(super) async fn look(
    libraries: Vec<Installed>,
    trust_all: bool,
    patience: Duration,
    work: &Work<'_>,
) -> Vec<Looked> {
    let clock = work.context.clock();
    let mut answers: Vec<Option<Result<ModuleDescription, Error>>> =
        libraries.iter().map(|library| library.distrust.clone().filter(|_| !trust_all).map(Err)).collect();
    let mut waiting: Vec<usize> =
        answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(index, _)| index).collect();
    waiting.reverse();
    let mut tasks = JoinSet::new();
    let mut running: Vec<usize> = Vec::new();
    let mut progress = Progress::new(clock.now() + UNTIL_PROGRESS);
    let mut next_start = clock.now();
    loop {
        if (running.is_empty() || clock.now() >= next_start)
            && let Some(index) = waiting.pop()
            && let Some(library) = libraries.get(index)
        {
            let (modules, path) = (work.modules.clone(), library.path.clone());
            let call = Call::within(clock, patience);
            tasks.spawn(async move { (index, modules.describe(&path, None, &call).await) });
            running.push(index);
            next_start = clock.now() + BETWEEN_STARTS;
        }
        if running.is_empty() {
            break;
        }
        let names = running.iter().filter_map(|index| libraries.get(*index)).map(file_name);
        progress.show(clock, names.collect::<Vec<_>>().join(", "));
        tokio::select! {
            biased;
            Some(done) = tasks.join_next() => {
                // A task that panicked says nothing of which it was; those that stay unanswered are closed below.
                if let Ok((index, shown)) = done {
                    running.retain(|other| *other != index);
                    if let Some(answer) = answers.get_mut(index) {
                        *answer = Some(shown);
                    }
                } else {
                    break;
                }
            }
            () = clock.sleep_until(next_start), if !waiting.is_empty() => {}
            () = clock.sleep_until(progress.at), if !progress.shown => {}
        }
    }
    progress.clear();
    let answers = answers.into_iter().map(|answer| answer.unwrap_or(Err(Error::Closed)));
    libraries.into_iter().zip(answers).map(|(library, shown)| Looked { library, shown }).collect()
}

fn file_name(library: &Installed) -> String {
    library.name.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// One line on standard error that is rewritten and taken away again; none where nobody watches.
struct Progress {
    watched: bool,
    at: Instant,
    shown: bool,
}

impl Progress {
    fn new(at: Instant) -> Self {
        let watched = io::stderr().is_terminal();
        Self { watched, at, shown: !watched }
    }

    fn show(&mut self, clock: &dyn Clock, names: String) {
        if self.watched && clock.now() >= self.at {
            self.shown = true;
            let _ = write!(io::stderr(), "\r\x1b[Kasking {names} …");
        }
    }

    fn clear(&self) {
        if self.watched && self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
