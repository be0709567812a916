//! `segl doctor` and `segl init`: what is wrong is found before the authority is asked, by the real program.

#![cfg(all(feature = "cli", feature = "sandbox"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

#[path = "doctor/device.rs"]
mod device;
#[path = "doctor/eseal.rs"]
mod eseal;
#[path = "doctor/init.rs"]
mod init;
#[path = "doctor/mistakes.rs"]
mod mistakes;
#[path = "support/softhsm.rs"]
mod softhsm;
#[path = "support/stand.rs"]
mod stand;

use serde_json::Value;

use self::stand::{Said, Stand};

/// What `segl doctor` found.
pub(crate) struct Examined {
    pub(crate) code: Option<i32>,
    pub(crate) report: Value,
}

impl Examined {
    pub(crate) async fn of(
        stand: &Stand,
        config: &str,
        options: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        stand.configure(config);
        let arguments = [&["doctor", "--output", "json"], options].concat();
        Self::read(&stand.segl_with(&arguments, variables, "").await)
    }

    pub(crate) fn read(said: &Said) -> Self {
        let report = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
        Self { code: said.code, report }
    }

    /// Findings of `check` that are no `ok`.
    pub(crate) fn bad(&self, check: &str) -> Vec<&Value> {
        self.all(check).into_iter().filter(|finding| finding["verdict"] != "ok").collect()
    }

    pub(crate) fn all(&self, check: &str) -> Vec<&Value> {
        let findings = self.report["findings"].as_array().unwrap();
        findings.iter().filter(|finding| finding["check"] == check).collect()
    }

    /// The one finding of `check` that is no `ok` says `reason`, and what to do.
    #[track_caller]
    pub(crate) fn says(&self, check: &str, verdict: &str, reason: &str, remedy: &str) {
        let bad = self.bad(check);
        let [finding] = bad.as_slice() else { panic!("{check}: {:#}", self.report) };
        assert_eq!(finding["verdict"], verdict, "{finding:#}");
        let text = |name: &str| finding[name].as_str().unwrap_or_default();
        assert!(text("reason").contains(reason), "{finding:#}");
        assert!(text("remedy").contains(remedy), "{finding:#}");
    }

    /// Nothing is wrong.
    #[track_caller]
    pub(crate) fn is_well(&self) {
        assert_eq!((self.code, &self.report["failures"]), (Some(0), &Value::from(0)), "{:#}", self.report);
    }
}
