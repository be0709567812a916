use std::path::Path;

use serde::Serialize;

use crate::{
    config::{Origin, Problem},
    sign::Fault,
};

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and may not for long, or not as well as it could.
    Warning,
    /// It does not work.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Which check: a word that does not change.
    pub check: &'static str,
    /// Whose: the name of a signer, a client, a token or an environment; empty for the machine.
    pub about: String,
    /// How it was found.
    pub verdict: Verdict,
    /// What was found, in one sentence.
    pub reason: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whose move it is, for failures.
    #[serde(skip)]
    pub fault: Option<Fault>,
}

impl Finding {
    /// What is wrong with a configuration that cannot be used.
    #[must_use]
    pub fn of_configuration(path: Option<&Path>, problems: &[Problem]) -> Vec<Self> {
        let place = |origin| match (path, origin) {
            (Some(path), Origin::File { line }) => format!("{}:{line}: ", path.display()),
            (Some(path), _) => format!("{}: ", path.display()),
            (None, _) => String::new(),
        };
        let finding = |problem: &Problem| Self {
            check: "configuration",
            about: String::new(),
            verdict: Verdict::Failure,
            reason: format!("{}{problem}", place(problem.origin)),
            remedy: Some(problem.fault.remedy()),
            fault: Some(Fault::Configuration),
        };
        problems.iter().map(finding).collect()
    }
}

/// Hands findings on as they are made.
pub(super) struct Findings<'a> {
    found: &'a mut dyn FnMut(&Finding),
}

impl<'a> Findings<'a> {
    pub(super) fn new(found: &'a mut dyn FnMut(&Finding)) -> Self {
        Self { found }
    }

    pub(super) fn ok(&mut self, check: &'static str, about: &str, reason: impl Into<String>) {
        self.tell(check, about, Verdict::Ok, reason.into(), None, None);
    }

    pub(super) fn warning(
        &mut self,
        check: &'static str,
        about: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.tell(check, about, Verdict::Warning, reason.into(), Some(remedy.into()), None);
    }

    /// What a person has to mend.
    pub(super) fn failure(
        &mut self,
        check: &'static str,
        about: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.failed(check, about, Fault::Configuration, reason, remedy);
    }

    pub(super) fn failed(
        &mut self,
        check: &'static str,
        about: &str,
        fault: Fault,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remedy = Some(remedy.into()).filter(|remedy| !remedy.is_empty());
        self.tell(check, about, Verdict::Failure, reason.into(), remedy, Some(fault));
    }

    fn tell(
        &mut self,
        check: &'static str,
        about: &str,
        verdict: Verdict,
        reason: String,
        remedy: Option<String>,
        fault: Option<Fault>,
    ) {
        let about = about.to_owned();
        (self.found)(&Finding { check, about, verdict, reason, remedy, fault });
    }
}
