//! The program as people start it, and what it says.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// What one call of the program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// The same, in which none of `pins` stands.
    #[track_caller]
    pub(crate) fn without(self, pins: &[&str]) -> Self {
        for pin in pins {
            assert!(!self.out.contains(pin) && !self.err.contains(pin), "a PIN was printed: {self:?}");
        }
        self
    }

    /// It failed because a person must act, with a sentence on what happened and one on what to do.
    #[track_caller]
    pub(crate) fn assert_needs_person(&self, what: &str, remedy: &str) {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.out.is_empty(), "{self:?}");
        let said = self.err.trim_end();
        let said = said.rsplit_once("\n      More: segl explain ").map_or(said, |(said, _)| said);
        let (first, second) = said.rsplit_once('\n').unwrap();
        assert!(first.contains(what) && second.contains(remedy), "{self:?}");
    }
}

/// The program in `folder`, where a SoftHSM2 is set up whose library is `library`. Nobody types anything.
pub(crate) fn beside_softhsm(folder: &Path, library: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segl"));
    command
        .current_dir(folder)
        .env_remove("SEGL_CONFIG")
        .env("LC_ALL", "C")
        // Other libraries of the machine keep things at home.
        .env("HOME", folder)
        .env("STATE_DIRECTORY", folder.join("state"))
        .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
        .env("PKCS11SPY", library)
        .env("PKCS11SPY_OUTPUT", folder.join("spy.log"))
        .stdin(Stdio::null());
    command
}
