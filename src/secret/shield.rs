use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keeps the memory of this process, in which secrets are, out of core files and out of the sight of other processes of
/// this user. To be called early by programs that hold PINs or keys; `segl` and the processes of libraries do.
///
/// The kernel then gives this process's files in `/proc` to root, who can look into it; what the process starts is not
/// concerned.
///
/// # Errors
/// What the operating system says.
pub fn shield() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
