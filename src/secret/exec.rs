use std::{
    ffi::OsString,
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use zeroize::Zeroizing;

use super::{Error, LONGEST, Source};
use crate::clock::{Clock, Instant, SystemClock};

/// How long a helper may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// The variables that a helper gets to see; everything else in our environment stays here.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Runs a helper and returns what it wrote to stdout; `None` when there is no such program.
pub(super) fn run(
    source: &Source,
    argv: &[String],
    deadline: Duration,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(None) };
    let Some(found) = located(program, variable) else { return Ok(None) };
    check_trusted(source, &found)?;
    let spawned = Command::new(found)
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, variable(name)?))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A helper's complaints may quote what it works with.
        .stderr(Stdio::null())
        // A group of its own, so that its children can be ended with it.
        .process_group(0)
        .spawn();
    let refused = |kind| Error::Io { source_name: source.to_string(), kind };
    let child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error.kind())),
    };
    let mut helper = Helper { child, until: SystemClock.now() + deadline };
    let output = helper.output();
    match output {
        Ok(Ended::InTime(output, status)) if status.success() => Ok(Some(output)),
        Ok(Ended::InTime(_, status)) => {
            Err(Error::Helper { source_name: source.to_string(), status: status.to_string() })
        }
        Ok(Ended::TooMuch) => Err(Error::TooLong { source_name: source.to_string() }),
        Ok(Ended::TooLate) => Err(Error::Deadline { source_name: source.to_string(), after: deadline }),
        Err(error) => Err(refused(error.kind())),
    }
}

/// The file that a program's name leads to: by itself when it has a slash, else along `PATH`, as execvp(3) does.
fn located(program: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let found = if program.contains('/') {
        PathBuf::from(program)
    } else {
        let is_program =
            |path: &PathBuf| path.metadata().is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0);
        std::env::split_paths(&variable("PATH")?).map(|folder| folder.join(program)).find(is_program)?
    };
    // Where symbolic links lead in the end is what runs, and what is looked at below.
    found.canonicalize().ok()
}

/// Refuses a program that somebody else could put their own in place of: they would be handed nothing, but what they
/// answer would be tried as a PIN, and they would run as this user.
fn check_trusted(source: &Source, program: &Path) -> Result<(), Error> {
    let looked_at = |path: &Path| {
        path.metadata().map_err(|error| Error::Io { source_name: source.to_string(), kind: error.kind() })
    };
    let file = looked_at(program)?;
    if file.uid() != 0 && file.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::Owner { path: program.to_owned(), owner: file.uid() });
    }
    if file.mode() & 0o022 != 0 {
        return Err(Error::Changeable { path: program.to_owned(), mode: file.mode() & 0o7777 });
    }
    let Some(folder) = program.parent() else { return Ok(()) };
    let mode = looked_at(folder)?.mode() & 0o7777;
    // In a folder with the sticky bit, as /tmp, nobody can replace a file of another user.
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Err(Error::Changeable { path: folder.to_owned(), mode });
    }
    Ok(())
}

/// A running helper. However it is left, its process group is ended and the process reaped.
struct Helper {
    child: Child,
    until: Instant,
}

enum Ended {
    InTime(Zeroizing<Vec<u8>>, std::process::ExitStatus),
    TooMuch,
    TooLate,
}

impl Helper {
    fn output(&mut self) -> io::Result<Ended> {
        let mut stdout = self.child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut buffer = Zeroizing::new(vec![0; LONGEST + 1]);
        let mut filled = 0;
        loop {
            if !self.wait_for(&stdout)? {
                return Ok(Ended::TooLate);
            }
            let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) else {
                return Ok(Ended::TooMuch);
            };
            match stdout.read(room) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        let process = pidfd_open(self.pid()?, PidfdFlags::empty())?;
        if !self.wait_for(&process)? {
            return Ok(Ended::TooLate);
        }
        Ok(Ended::InTime(buffer, self.child.wait()?))
    }

    /// Waits until `fd` has something to say; `false` when the time was over first.
    fn wait_for(&self, fd: &impl AsFd) -> io::Result<bool> {
        loop {
            let left = self.until.since(SystemClock.now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
            match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn pid(&self) -> io::Result<Pid> {
        let raw = i32::try_from(self.child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
        Pid::from_raw(raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Once the helper has been reaped its number may be another's.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), self.pid()) {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline: Duration) -> Result<Option<String>, Error> {
        let argv = ["/bin/sh", "-c", script].map(String::from).to_vec();
        let source = Source::Exec(argv.clone());
        let output = run(&source, &argv, deadline, &|name| std::env::var_os(name))?;
        Ok(output.map(|output| String::from_utf8(output.to_vec()).unwrap()))
    }

    #[test]
    fn what_a_helper_writes_to_stdout_is_taken() {
        assert_eq!(shell("echo 1234; echo noise >&2", DEADLINE), Ok(Some("1234\n".into())));
    }

    #[test]
    fn a_helper_sees_only_three_variables_and_no_input() {
        let seen = shell("/usr/bin/env | /usr/bin/cut -d= -f1; cat", DEADLINE).unwrap().unwrap();
        for name in seen.lines() {
            // The shell itself adds the last three.
            assert!(["PATH", "HOME", "LANG", "PWD", "SHLVL", "_", "OLDPWD"].contains(&name), "{name}");
        }
    }

    #[test]
    fn a_helper_that_fails_is_an_error_even_when_it_wrote_something() {
        let error = shell("echo 1234; exit 3", DEADLINE).unwrap_err();
        assert_eq!(
            error,
            Error::Helper { source_name: "exec:/bin/sh …".into(), status: "exit status: 3".into() }
        );
    }

    #[test]
    fn a_helper_that_hangs_is_ended_at_its_deadline_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > '{}'; wait", mark.display());
        let error = shell(&script, Duration::from_secs(3)).unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
        let pid = std::fs::read_to_string(mark).unwrap().trim().parse().unwrap();
        // A process that is gone has no descriptor; one that is going becomes readable.
        let ended = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).map_or(true, |process| {
            let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
            poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)).unwrap() == 1
        });
        assert!(ended, "the helper's child outlived it");
    }

    #[test]
    fn a_helper_that_closes_its_output_and_stays_is_ended_too() {
        let error = shell("exec >&-; sleep 600", Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    }

    #[test]
    fn a_helper_that_never_stops_talking_is_refused() {
        assert!(matches!(shell("while :; do echo 1234; done", DEADLINE), Err(Error::TooLong { .. })));
    }

    #[test]
    fn a_helper_that_is_not_there_is_a_source_that_does_not_exist() {
        let argv = vec!["/nonexistent/helper".to_owned()];
        assert_eq!(run(&Source::Exec(argv.clone()), &argv, DEADLINE, &|_| None), Ok(None));
    }

    #[test]
    fn a_helper_that_others_can_change_is_not_run() {
        use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt};

        let home = tempfile::tempdir().unwrap();
        let helper = home.path().join("helper");
        fs::write(&helper, "#!/bin/sh\necho 1234\n").unwrap();
        let argv = vec![helper.display().to_string()];
        let outcome = |of_file: u32, of_folder: u32| {
            fs::set_permissions(&helper, Permissions::from_mode(of_file)).unwrap();
            fs::set_permissions(home.path(), Permissions::from_mode(of_folder)).unwrap();
            run(&Source::Exec(argv.clone()), &argv, DEADLINE, &|_| None)
        };
        for mode in [0o500, 0o755] {
            assert_eq!(outcome(mode, 0o755).unwrap().unwrap().as_slice(), b"1234\n");
        }
        for mode in [0o775, 0o757] {
            let error = outcome(mode, 0o755).unwrap_err();
            assert_eq!(error, Error::Changeable { path: helper.canonicalize().unwrap(), mode });
            assert!(error.remedy().starts_with("Run: chmod go-w "), "{}", error.remedy());
        }
        assert!(matches!(outcome(0o755, 0o777), Err(Error::Changeable { mode: 0o777, .. })));
        assert!(outcome(0o755, 0o1777).is_ok(), "the sticky bit keeps others from replacing it");
    }

    #[test]
    fn a_helper_without_a_slash_is_looked_for_along_the_path() {
        let argv = ["echo", "1234"].map(String::from).to_vec();
        let run = |path: &str| {
            let variable = |name: &str| (name == "PATH").then(|| OsString::from(path));
            run(&Source::Exec(argv.clone()), &argv, DEADLINE, &variable)
        };
        assert_eq!(run("/nonexistent:/bin").unwrap().unwrap().as_slice(), b"1234\n");
        assert_eq!(run("/nonexistent"), Ok(None));
    }

    #[test]
    fn arguments_go_through_no_shell() {
        let argv = ["/bin/echo", "$HOME;", "`id`"].map(String::from).to_vec();
        let output = run(&Source::Exec(argv.clone()), &argv, DEADLINE, &|_| None).unwrap().unwrap();
        assert_eq!(output.as_slice(), b"$HOME; `id`\n");
    }
}
