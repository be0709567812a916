//! The process of a library, from the inside: takes jobs from one socket, asks for PINs on the other.

use std::{
    io,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    thread,
    time::Duration,
};

use secrecy::SecretString;

use super::{
    super::{
        job::Answer,
        login::{LoginOutcome, LoginRequest, Logins},
        owner::Owner,
    },
    frame::{
        FromHost, Hello, LONGEST_FRAME, LoginQuestion, ToHost, answer_frames, decoded, decoded_pin, encoded,
        pin_buffer,
    },
    process::{self, Channel, Received},
};
use crate::{
    clock::{Clock, SystemClock},
    sign::{Error, MakeMessage, PinProblem},
};

/// Makes this program able to run PKCS#11 libraries in processes of their own. To be called first in `main`:
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = segl::sign::pkcs11::module_host() {
///         return code;
///     }
///     // …
///     std::process::ExitCode::SUCCESS
/// }
/// ```
///
/// `Some` when this is such a process: then its work is done, and `main` is to return the code.
#[must_use]
pub fn module_host() -> Option<ExitCode> {
    process::this_program_is_a_host();
    let is_host = std::env::args_os().nth(1).is_some_and(|argument| argument == process::ARGUMENT);
    is_host.then(run)
}

/// How long the lanes may take to end their jobs and finalize the library once the parent has gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs until the parent closes its end.
fn run() -> ExitCode {
    match serve() {
        Ok(()) => {
            process::end();
            ExitCode::SUCCESS
        }
        Err(why) => {
            use io::Write as _;
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::from(2)
        }
    }
}

fn serve() -> Result<(), String> {
    let said = |why: io::Error| why.to_string();
    let (jobs, logins) = process::take_channels().map_err(said)?;
    process::harden().map_err(said)?;
    let hello = greet(&jobs)?;
    let lanes = hello.profile.session.lanes.max(1);
    let host = Arc::new(Host {
        owner: Owner::new(
            hello.path,
            Arc::new(hello.profile),
            SystemClock::shared(),
            Arc::new(AtomicU64::new(0)),
        ),
        jobs,
        logins: Arc::new(Parent { turn: Mutex::default(), channel: Mutex::new(logins) }),
    });
    let lane = |_| {
        let host = host.clone();
        thread::Builder::new().name("pkcs11-lane".into()).spawn(move || host.run_lane()).map_err(said)
    };
    let lanes = (0..lanes).map(lane).collect::<Result<Vec<_>, _>>()?;
    let watched = host.clone();
    thread::Builder::new()
        .name("parent-watch".into())
        .spawn(move || {
            process::wait_for_end(rustix::fd::AsFd::as_fd(&watched.jobs));
            thread::sleep(FAREWELL);
            process::end();
        })
        .map_err(said)?;
    for lane in lanes {
        lane.join().map_err(|_| "a lane ended unexpectedly".to_owned())??;
    }
    host.owner.stop();
    Ok(())
}

/// The first frames: what this process is there for, and that it is of the same build.
fn greet(jobs: &Channel) -> Result<Hello, String> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut buffer = vec![0; LONGEST_FRAME];
    let hello = match receive(jobs, &mut buffer)? {
        Some(frame) => match decoded(frame)? {
            ToHost::Hello(hello) => *hello,
            ToHost::Ask { .. } => return Err("a job came before the greeting".into()),
        },
        None => return Err("nobody is there".into()),
    };
    let ready = encoded(&FromHost::Ready { version: version.clone() })?;
    // The parent learns from it that the builds differ, and tells.
    jobs.send(&ready).map_err(|why| why.to_string())?;
    if hello.version != version {
        return Err(format!("is of version {version}, and its parent of version {}", hello.version));
    }
    Ok(hello)
}

struct Host {
    owner: Owner,
    jobs: Channel,
    logins: Arc<Parent>,
}

impl Host {
    /// The kernel hands each job to one of the lanes that wait for one.
    fn run_lane(&self) -> Result<(), String> {
        let mut buffer = vec![0; LONGEST_FRAME];
        while let Some(frame) = receive(&self.jobs, &mut buffer)? {
            let ToHost::Ask { id, expires, job, message } = decoded(frame)? else {
                return Err("a second greeting came".into());
            };
            let made = message.as_ref().map(|(_, made)| *made);
            let make = message.map(|(message, _)| Box::new(move || message) as MakeMessage);
            let logins = RemoteLogins { job: id, parent: self.logins.clone() };
            let answer = if SystemClock.now() >= expires {
                Err(Error::Deadline)
            } else {
                self.owner.answer(&job, make, made, &logins).map(without_message)
            };
            for frame in answer_frames(id, &answer)? {
                self.jobs.send(&frame).map_err(|why| why.to_string())?;
            }
        }
        Ok(())
    }
}

/// The parent has the message; it need not come back.
fn without_message(mut answer: Answer) -> Answer {
    if let Answer::Signature(signature) = &mut answer {
        signature.message = Vec::new();
    }
    answer
}

fn receive<'a>(channel: &Channel, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>, String> {
    match channel.receive(buffer).map_err(|why| why.to_string())? {
        Received::Message(length) => Ok(buffer.get(..length)),
        Received::Nothing | Received::End => Ok(None),
    }
}

/// Logins are authorised by the parent, who also has the PIN: this process keeps none.
struct RemoteLogins {
    job: u64,
    parent: Arc<Parent>,
}

/// The way to the parent, who must not wait for one login to end while it is asked about the next.
struct Parent {
    turn: Mutex<()>,
    channel: Mutex<Channel>,
}

impl RemoteLogins {
    /// A question and its answer; nobody else's come in between.
    fn ask<T>(
        &self,
        question: &LoginQuestion,
        read: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, String> {
        let channel = self.parent.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(&encoded(question)?).map_err(|why| why.to_string())?;
        let mut buffer = pin_buffer();
        let reply = receive(&channel, &mut buffer)?.ok_or("the parent has gone")?;
        read(reply)
    }
}

impl Logins for RemoteLogins {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.parent.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authorize(&self, request: &LoginRequest) -> Result<Option<SecretString>, PinProblem> {
        let question = LoginQuestion::Authorize { job: self.job, request: request.clone() };
        self.ask(&question, decoded_pin).map_err(PinProblem::Source)?
    }

    fn ended(&self, request: &LoginRequest, outcome: &LoginOutcome) -> bool {
        let (request, outcome) = (request.clone(), outcome.clone());
        let question = LoginQuestion::Ended { job: self.job, request, outcome };
        self.ask(&question, decoded).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::profile::Profile, *};

    #[test]
    fn a_process_of_another_build_than_its_parent_tells_it_so_and_loads_nothing() {
        let own = env!("CARGO_PKG_VERSION");
        for (version, is_own) in [(own, true), ("0.0.0-other", false)] {
            let (parent, child) = Channel::pair().unwrap();
            let (version, profile) = (version.to_owned(), Profile::unknown());
            let hello = Hello { version, path: "/m.so".into(), profile };
            parent.send(&encoded(&ToHost::Hello(Box::new(hello))).unwrap()).unwrap();
            let greeted = greet(&Channel::over(child));
            assert_eq!(greeted.is_ok(), is_own, "{:?}", greeted.err());
            let mut buffer = vec![0; LONGEST_FRAME];
            let answer = decoded(receive(&parent, &mut buffer).unwrap().unwrap()).unwrap();
            assert!(matches!(answer, FromHost::Ready { version } if version == own));
        }
    }
}
