//! What depends on the operating system: sockets that keep messages apart, starting the process, and making it end
//! with us. Linux.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::FileExt, process::CommandExt},
    },
    path::{self, Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

use crate::{
    clock::{Clock, SystemClock},
    secret,
};

/// First argument of a program that is to be the process of a library.
pub(super) const ARGUMENT: &str = "--segl-module-host";

/// Pieces of 4 kB that are heard of a library at a time.
const MOST_NOISE: usize = 64;

/// How long a process that was killed is waited for.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Processes that were killed and have not ended, each with its library: one that waits for a device inside the operating
/// system ends when that lets go of it, if ever.
static LINGERING: Mutex<Vec<(PathBuf, process::Child)>> = Mutex::new(Vec::new());

/// No more of one library are left behind: a device that hangs for days would have left hundreds, each with its memory.
const MOST_LINGERING: usize = 16;

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
    library: PathBuf,
    /// Taken out when it is ended.
    process: Option<process::Child>,
    /// What the operating system says of it. Opened at the start: later, not even its parent may, where `/proc` shows
    /// nobody the processes of others.
    status: Option<File>,
    /// Jobs and answers.
    pub(super) jobs: Channel,
    /// Logins.
    pub(super) logins: Channel,
    /// What the library says on its standard error.
    pub(super) noise: Option<process::ChildStderr>,
}

impl Child {
    /// Starts `program` in `folder` for `library`, with `environment` and no more. The process ends with the *thread* that
    /// calls this.
    pub(super) fn start(
        library: &Path,
        program: &Path,
        folder: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> io::Result<Self> {
        let (jobs, their_jobs) = Channel::pair()?;
        let (logins, their_logins) = Channel::pair()?;
        let mut command = Command::new(path::absolute(program)?);
        command
            .arg0("segl")
            .arg(ARGUMENT)
            .current_dir(folder)
            .env_clear()
            .envs(environment)
            // Ctrl-C is for the parent, who lets the library end its sessions.
            .process_group(0)
            .stdin(Stdio::from(their_jobs))
            .stdout(Stdio::from(their_logins))
            .stderr(Stdio::piped());
        room_beside(reap(library))?;
        let mut process = command.spawn()?;
        let status = File::open(format!("/proc/{}/status", process.id())).ok();
        let noise = process.stderr.take().ok_or_else(|| io::Error::other("it has no standard error"))?;
        let flags = rustix::fs::fcntl_getfl(&noise)?;
        rustix::fs::fcntl_setfl(&noise, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self {
            library: library.to_owned(),
            process: Some(process),
            status,
            jobs,
            logins,
            noise: Some(noise),
        })
    }

    /// Hands what the library has said on its standard error to `heard`, piece by piece.
    pub(super) fn hear(&mut self, mut heard: impl FnMut(&[u8])) {
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
            heard(buffer.get(..length).unwrap_or_default());
        }
    }

    /// The memory that it takes up (resident set), in MiB; `None` when that cannot be told.
    pub(super) fn memory(&self) -> Option<u64> {
        let mut text = [0; 4096];
        let length = self.status.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = str::from_utf8(text.get(..length)?).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        Some(kilobytes / 1024)
    }

    /// Ends it, whatever it is doing, unless it has ended already; how it ended. `None`: it has been killed and has not
    /// ended yet, and is not waited for.
    pub(super) fn kill(mut self) -> io::Result<Option<ExitStatus>> {
        self.end()
    }

    fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(mut process) = self.process.take() else { return Ok(None) };
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status));
        }
        process.kill()?;
        Ok(wait_or_leave(&self.library, process, LAST_MOMENT))
    }

    /// Waits until it has ended, at most `time`.
    pub(super) fn wait(&mut self, time: Duration) {
        if let Some(process) = &mut self.process {
            wait_at_most(process, time);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn wait_at_most(process: &mut process::Child, time: Duration) -> Option<ExitStatus> {
    let until = SystemClock.now() + time;
    loop {
        let ended = process.try_wait().ok().flatten();
        if ended.is_some() || SystemClock.now() >= until {
            return ended;
        }
        let _ = wait_for([], Duration::from_millis(2));
    }
}

/// How it ended, if it does so in `time`; else it is left to [`reap`].
fn wait_or_leave(library: &Path, mut process: process::Child, time: Duration) -> Option<ExitStatus> {
    let ended = wait_at_most(&mut process, time);
    if ended.is_none() {
        LINGERING.lock().unwrap_or_else(PoisonError::into_inner).push((library.to_owned(), process));
    }
    ended
}

/// Lets go of processes that have ended since they were left; how many of `library` have not.
fn reap(library: &Path) -> usize {
    let mut lingering = LINGERING.lock().unwrap_or_else(PoisonError::into_inner);
    lingering.retain_mut(|(_, process)| matches!(process.try_wait(), Ok(None)));
    lingering.iter().filter(|(of, _)| of == library).count()
}

/// Whether another process may be started beside so many that do not end: each keeps its memory, and a device that hangs
/// in its driver would have us start one after the other.
fn room_beside(lingering: usize) -> io::Result<()> {
    if lingering < MOST_LINGERING {
        return Ok(());
    }
    let problem = format!(
        "{lingering} earlier ones have been killed and have not ended, as a driver or a disk does not answer"
    );
    Err(io::Error::new(io::ErrorKind::ResourceBusy, problem))
}

/// Whether a process that was not started may be started later though nobody changes anything: the machine has no more
/// room for it, or earlier ones have not ended.
pub(super) fn is_for_want_of_room(why: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, ResourceBusy, WouldBlock};
    matches!(why.kind(), OutOfMemory | ResourceBusy | WouldBlock)
}

/// The two sockets that this process was started with. From here on, standard input and output are `/dev/null`: a
/// library that reads or prints does not get between our frames.
pub(super) fn take_channels() -> io::Result<(Channel, Channel)> {
    let jobs = io::stdin().as_fd().try_clone_to_owned()?;
    let logins = io::stdout().as_fd().try_clone_to_owned()?;
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
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

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use super::{super::Host, *};
    use crate::{
        clock::ManualClock,
        sign::{Error, pkcs11::profile::Profile},
    };

    fn asleep() -> process::Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    /// Whether it `is_so` some time in a minute: no more than a busy machine needs.
    fn within_a_minute(is_so: impl Fn() -> bool) -> bool {
        let until = SystemClock.now() + Duration::from_secs(60);
        while !is_so() {
            if SystemClock.now() >= until {
                return false;
            }
            let _ = wait_for([], Duration::from_millis(2));
        }
        true
    }

    fn lingers(process: u32) -> bool {
        reap(Path::new("/opt/lib.so"));
        LINGERING.lock().unwrap().iter().any(|(_, it)| it.id() == process)
    }

    #[test]
    fn a_process_that_does_not_end_is_not_waited_for_and_let_go_of_when_it_does() {
        let process = asleep();
        let number = process.id();
        assert_eq!(wait_or_leave(Path::new("/opt/lib.so"), process, Duration::from_millis(5)), None);
        assert!(lingers(number));
        let name = rustix::process::Pid::from_raw(number.cast_signed()).unwrap();
        kill_process(name, Signal::KILL).unwrap();
        assert!(within_a_minute(|| !lingers(number)), "it is kept though it has ended");
    }

    #[test]
    fn beside_sixteen_processes_that_do_not_end_no_other_is_started() {
        assert!(room_beside(15).is_ok());
        let refused = room_beside(16).unwrap_err();
        assert!(is_for_want_of_room(&refused), "it is nobody's mistake");
        let refused = refused.to_string();
        assert!(refused.starts_with("16 earlier ones have been killed and have not ended"), "{refused}");
    }

    #[test]
    fn processes_of_one_library_that_do_not_end_keep_no_other_from_being_started() {
        let [stuck, other] = ["/opt/stuck.so", "/opt/other.so"].map(Path::new);
        let processes: Vec<_> = (0..MOST_LINGERING).map(|_| asleep()).collect();
        let numbers: Vec<_> = processes.iter().map(process::Child::id).collect();
        for process in processes {
            assert_eq!(wait_or_leave(stuck, process, Duration::ZERO), None);
        }
        let start = |library| Child::start(library, Path::new("/bin/true"), Path::new("/"), []);
        let host = Host::new(
            HostProgram::at("/bin/true"),
            stuck.into(),
            Arc::new(Profile::unknown()),
            ManualClock::at(std::time::UNIX_EPOCH),
            Arc::default(),
            Arc::default(),
            false,
        );
        let (refused, started) = (host.start().map(drop), start(other).map(drop));
        for number in numbers {
            let name = rustix::process::Pid::from_raw(number.cast_signed()).unwrap();
            kill_process(name, Signal::KILL).unwrap();
        }
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, Error::Host { problem, .. } if problem.starts_with("cannot be started: 16 earlier ones")),
            "{refused}"
        );
        started.unwrap();
        assert!(within_a_minute(|| reap(stuck) == 0));
        start(stuck).unwrap();
    }

    #[test]
    fn what_there_is_no_room_for_may_be_started_later_and_what_is_not_there_may_not() {
        for (code, wanted) in
            [(Errno::AGAIN, true), (Errno::NOMEM, true), (Errno::NOENT, false), (Errno::ACCESS, false)]
        {
            assert_eq!(is_for_want_of_room(&code.into()), wanted, "{code}");
        }
    }

    #[test]
    fn a_process_is_as_large_as_the_operating_system_says() {
        const SIZE: usize = 100 << 20;
        // It keeps as much as it is to show at the end of its input.
        let mut process = Command::new("tail")
            .args(["-c", &SIZE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        let status = File::open(format!("/proc/{}/status", process.id())).ok();
        let (jobs, other) = Channel::pair().unwrap();
        let logins = Channel::over(other);
        let child = Child {
            library: "/opt/lib.so".into(),
            process: Some(process),
            status,
            jobs,
            logins,
            noise: None,
        };
        let before = child.memory().unwrap();
        input.write_all(&vec![1; SIZE]).unwrap();
        assert!(within_a_minute(|| child.memory().unwrap() >= before + 99), "{before} MiB before");
        let grown = child.memory().unwrap();
        assert!(grown <= before + 110, "{before} MiB, then {grown}");
        drop(input);
        assert!(child.kill().unwrap().is_some());
    }
}
