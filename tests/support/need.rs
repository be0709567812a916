//! What tests need beside the project itself. Where a machine does not have it, they are reported as ignored, by name, and
//! why is said on the standard error. In CI, where everything can be had, they fail.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::env;

use libtest_mimic::{Arguments, Failed, Trial};

/// Something that tests need.
pub(crate) struct Need {
    lack: Option<String>,
    is_left_out: bool,
}

impl Need {
    /// What is missing on this machine for `what`, if anything, and how it is had.
    #[allow(clippy::print_stderr, reason = "the output of a program that has a main of its own")]
    pub(crate) fn of(what: &str, lack: Option<String>, arguments: &Arguments) -> Self {
        let in_ci = env::var_os("CI").is_some_and(|value| value != "false");
        let is_left_out = lack.is_some() && !in_ci;
        if let Some(why) = lack.as_ref().filter(|_| is_left_out && !arguments.list) {
            eprintln!("left out: {what} ({why})");
        }
        Self { lack, is_left_out }
    }

    /// Of tests that need nothing.
    pub(crate) fn nothing() -> Self {
        Self { lack: None, is_left_out: false }
    }

    /// Tests that need it, by their names.
    pub(crate) fn trials(&self, tests: &[(&'static str, fn())]) -> Vec<Trial> {
        let trial = |&(name, test): &(&'static str, fn())| {
            self.trial(name, move || {
                test();
                Ok(())
            })
        };
        tests.iter().map(trial).collect()
    }

    /// A test that needs it.
    pub(crate) fn trial(
        &self,
        name: impl Into<String>,
        test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) -> Trial {
        let lack = self.lack.clone();
        let trial = Trial::test(name, move || match lack {
            Some(why) => Err(why.into()),
            None => test(),
        });
        trial.with_ignored_flag(self.is_left_out)
    }
}
