use std::io;

/// Keeps the memory of this process, in which secrets are, out of core files and out of the sight of other processes of
/// this user. To be called early by programs that hold PINs or keys; `segl` and the processes of libraries do.
///
/// The kernel then gives this process's files in `/proc` to root; what the process starts is not concerned.
///
/// # Errors
/// What the operating system says. On others than Linux nothing is done.
pub fn shield() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    Ok(())
}
