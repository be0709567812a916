//! What depends on the operating system: sockets that keep messages apart, starting the process, and making it end
//! with us. Linux.

use std::{
    env,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
        socketpair,
    },
    process::{Signal, getpid, getppid, kill_process, set_parent_process_death_signal},
};

use crate::secret;

/// First argument of a program that is to be the process of a library.
pub(super) const ARGUMENT: &str = "--segl-module-host";

/// Pieces of 4 kB that are heard of a library at a time, and lines of each.
const MOST_NOISE: usize = 64;
const MOST_LINES: usize = 20;

/// Whether this program's `main` begins with [`module_host`](super::module_host).
static IS_HOST: AtomicBool = AtomicBool::new(false);

pub(super) fn this_program_is_a_host() {
    IS_HOST.store(true, Ordering::Release);
}

/// The program that PKCS#11 libraries run in, when they are to have a process of their own.
///
/// By default this program itself, if its `main` begins with [`module_host`](super::module_host), as that of `segl`
/// does.
#[derive(Clone, Debug, Default)]
pub struct HostProgram(Option<PathBuf>);

impl HostProgram {
    /// The program at `path`: `segl`, or one whose `main` begins with [`module_host`](super::module_host) of the same
    /// version of this crate.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Some(path.into()))
    }

    pub(super) fn path(&self) -> Result<PathBuf, String> {
        match &self.0 {
            Some(path) => Ok(path.clone()),
            // Not its path: the file there may have been replaced by another version since.
            None if IS_HOST.load(Ordering::Acquire) => Ok("/proc/self/exe".into()),
            None => Err("needs a process of its own, and this program has none to give: begin main with \
                         segl::module_host(), or name a program with HostProgram::at"
                .into()),
        }
    }
}

/// One end of a socket that keeps messages apart.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// What came out of [`Channel::receive`].
pub(super) enum Received {
    /// A message of this length is in the buffer.
    Message(usize),
    /// There is none at the moment.
    Nothing,
    /// The other end is closed.
    End,
}

impl Channel {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// Our end, out of a descriptor.
    pub(super) fn over(end: OwnedFd) -> Self {
        Self(end)
    }

    /// Sends a message. `false`: not now, the socket is full.
    pub(super) fn try_send(&self, message: &[u8]) -> io::Result<bool> {
        match send(&self.0, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS) => Ok(false),
            Err(why) => Err(why.into()),
        }
    }

    /// Sends a message; waits while the socket is full.
    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        loop {
            match send(&self.0, message, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Takes a message, without waiting for one.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.receive_with(buffer, RecvFlags::DONTWAIT)
    }

    /// Waits for a message. Any number of threads may; each message goes to one of them.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.receive_with(buffer, RecvFlags::empty())
    }

    fn receive_with(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Received> {
        loop {
            // With TRUNC the length is that of the whole message, however much of it fitted.
            match recv(&self.0, &mut *buffer, flags | RecvFlags::TRUNC) {
                Ok((_, 0)) => return Ok(Received::End),
                Ok((_, length)) if length > buffer.len() => {
                    return Err(io::Error::other(format!("a message has {length} bytes")));
                }
                Ok((_, length)) => return Ok(Received::Message(length)),
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(Received::End),
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Says that nothing more will come from here.
    pub(super) fn finish(&self) {
        let _ = shutdown(&self.0, Shutdown::Write);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of `ends` has something to read or is closed, at most `timeout`; which of them.
pub(super) fn wait_for<const N: usize>(
    ends: [BorrowedFd<'_>; N],
    timeout: Duration,
) -> io::Result<[bool; N]> {
    let mut polled = ends.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN));
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(polled.map(|end| !end.revents().is_empty())),
        Err(why) => Err(why.into()),
    }
}

/// Waits until the other end of `end` is closed, however long that takes.
pub(super) fn wait_for_end(end: BorrowedFd<'_>) {
    let mut polled = [PollFd::from_borrowed_fd(end, PollFlags::RDHUP)];
    while matches!(poll(&mut polled, None), Err(Errno::INTR)) {}
}

/// The process of a library, as its parent has it.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    /// Jobs and answers.
    pub(super) jobs: Channel,
    /// Logins.
    pub(super) logins: Channel,
    /// What the library says on its standard error.
    pub(super) noise: Option<process::ChildStderr>,
}

impl Child {
    /// Starts `program` with `variables` added to its environment. The process ends with the *thread* that calls this.
    pub(super) fn start<'a>(
        program: &Path,
        variables: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> io::Result<Self> {
        let (jobs, their_jobs) = Channel::pair()?;
        let (logins, their_logins) = Channel::pair()?;
        let mut command = Command::new(program);
        command
            .arg0("segl")
            .arg(ARGUMENT)
            // Ctrl-C is for the parent, who lets the library end its sessions.
            .process_group(0)
            .stdin(Stdio::from(their_jobs))
            .stdout(Stdio::from(their_logins))
            .stderr(Stdio::piped());
        for (name, value) in variables {
            if env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let mut process = command.spawn()?;
        let noise = process.stderr.take().ok_or_else(|| io::Error::other("it has no standard error"))?;
        let flags = rustix::fs::fcntl_getfl(&noise)?;
        rustix::fs::fcntl_setfl(&noise, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self { process, jobs, logins, noise: Some(noise) })
    }

    /// Hands what the library has said on its standard error to `heard`, line by line.
    pub(super) fn hear(&mut self, mut heard: impl FnMut(&str)) {
        let mut buffer = [0; 4096];
        // What is said without end is heard again in the next round.
        for _ in 0..MOST_NOISE {
            let length = match self.noise.as_mut().map(|noise| noise.read(&mut buffer)) {
                // Closed by the library: listening on would be told so for ever.
                Some(Ok(0)) => {
                    self.noise = None;
                    return;
                }
                Some(Ok(length)) => length,
                Some(Err(_)) | None => return,
            };
            let said = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            said.lines().take(MOST_LINES).for_each(&mut heard);
        }
    }

    /// Ends it, whatever it is doing, unless it has ended already; how it ended.
    pub(super) fn kill(mut self) -> io::Result<ExitStatus> {
        // Both do nothing to a process that has been waited for.
        if self.process.try_wait()?.is_none() {
            self.process.kill()?;
        }
        self.process.wait()
    }

    /// Waits until it has ended, for a moment: its sockets are closed a little before it can be waited for.
    pub(super) fn wait_a_moment(&mut self) {
        for _ in 0..100 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            let _ = wait_for([], Duration::from_millis(2));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both do nothing to a process that has been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The two sockets that this process was started with. From here on, standard input and output are `/dev/null`: a
/// library that reads or prints does not get between our frames.
pub(super) fn take_channels() -> io::Result<(Channel, Channel)> {
    let jobs = io::stdin().as_fd().try_clone_to_owned()?;
    let logins = io::stdout().as_fd().try_clone_to_owned()?;
    let nowhere = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok((Channel::over(jobs), Channel::over(logins)))
}

/// Makes this process end with its parent, and keeps its memory out of files and debuggers.
pub(super) fn harden() -> io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended while we asked; if it did before, its end of the socket is closed.
    if getppid() != parent {
        return Err(io::Error::other("the parent process has ended"));
    }
    secret::shield()
}

/// Ends this process at once. Handlers that libraries have registered for the end of the process do not run: many of
/// them crash there.
pub(super) fn end() {
    let _ = kill_process(getpid(), Signal::KILL);
}
