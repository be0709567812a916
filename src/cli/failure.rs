use std::{fmt, process::ExitCode};

use crate::{
    advice, config,
    grant::InvalidRequest,
    language::Language,
    pipeline::{self, NotReady},
    sign::{self, Fault, PinProblem, pkcs11::profile::ProfileError},
    state, token,
};

/// How a command ends when it does not succeed (`0`). The numbers are the interface's; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The authority refused.
    Refused = 1,
    /// Configuration, key, certificate or PIN: a person must act.
    NeedsPerson = 2,
    /// Authority or device cannot be reached: try again.
    Unreachable = 3,
    /// Done, but something needs attention.
    NeedsAttention = 4,
}

/// Why a command failed: one sentence on what happened, one on what to do.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    outcome: Outcome,
    what: String,
    remedy: String,
    /// What `segl explain` is asked for.
    topic: Option<String>,
    pin_refused: bool,
}

impl Failure {
    /// A failure that a person must mend.
    pub(crate) fn needs_person(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (what, remedy) = (what.into(), remedy.into());
        Self { outcome: Outcome::NeedsPerson, what, remedy, topic: None, pin_refused: false }
    }

    /// Something that was done, and is not as it should be.
    pub(crate) fn needs_attention(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: Outcome::NeedsAttention, ..Self::needs_person(what, remedy) }
    }

    /// What `outcome` stands for, in other words than those of one error.
    pub(crate) fn of(outcome: Outcome, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome, ..Self::needs_person(what, remedy) }
    }

    /// The same, after a PIN or password that was refused: a person may type another.
    pub(crate) fn after_refused_pin(self) -> Self {
        Self { pin_refused: true, ..self }
    }

    /// The same, with what `segl explain` says more of.
    fn about(self, topic: &str) -> Self {
        Self { topic: advice::named(topic).map(|_| topic.to_owned()), ..self }
    }

    /// The same, with no other PIN asked for.
    pub(crate) fn for_good(self) -> Self {
        Self { pin_refused: false, ..self }
    }

    /// Whether a device, or the encryption of a key file, refused the PIN or password that it was given.
    pub(crate) fn is_refused_pin(&self) -> bool {
        self.pin_refused
    }

    /// What happened, in one sentence.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.outcome as u8)
    }
}

impl Failure {
    /// What happened, what to do, and where more is said. What happened is told in English, as the authorities tell it.
    pub(crate) fn told(&self, language: Language) -> String {
        let advice = self.topic.as_deref().and_then(advice::named);
        // A remedy that is written for this very case has no other language.
        let general = advice.filter(|advice| advice.remedy.in_language(Language::English) == self.remedy);
        let remedy = general.map_or(self.remedy.as_str(), |advice| advice.remedy.in_language(language));
        let mut told = format!("segl: {}\n      {}", self.what, remedy.replace('\n', "\n      "));
        if let Some(topic) = &self.topic {
            let more = match language {
                Language::English => "More",
                Language::Bokmal => "Mer",
            };
            told.push_str(&format!("\n      {more}: segl explain {topic}"));
        }
        told
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(Language::English))
    }
}

fn outcome_of(fault: Fault) -> Outcome {
    match fault {
        Fault::Authority => Outcome::Refused,
        Fault::Configuration => Outcome::NeedsPerson,
        Fault::Device | Fault::Unavailable | Fault::Network | Fault::Load => Outcome::Unreachable,
    }
}

fn is_refused_pin(error: &sign::Error) -> bool {
    matches!(error, sign::Error::Pin { problem: PinProblem::Refused(_), .. })
}

impl From<token::Error> for Failure {
    fn from(error: token::Error) -> Self {
        Self {
            outcome: outcome_of(error.kind()),
            what: error.to_string(),
            remedy: error.remedy(),
            topic: None,
            pin_refused: matches!(error.cause(), token::Error::Sign(error) if is_refused_pin(error)),
        }
        .about(error.topic())
    }
}

impl From<sign::Error> for Failure {
    fn from(error: sign::Error) -> Self {
        Self {
            outcome: outcome_of(error.kind()),
            what: error.to_string(),
            remedy: error.remedy(),
            topic: None,
            pin_refused: is_refused_pin(&error),
        }
        .about(error.topic())
    }
}

impl From<NotReady> for Failure {
    fn from(error: NotReady) -> Self {
        Self {
            outcome: outcome_of(error.kind()),
            what: error.to_string(),
            remedy: error.remedy(),
            topic: None,
            pin_refused: is_refused_pin(&error.error),
        }
        .about(error.error.topic())
    }
}

impl From<InvalidRequest> for Failure {
    fn from(error: InvalidRequest) -> Self {
        Self::needs_person(error.to_string(), error.remedy()).about("request")
    }
}

impl From<pipeline::Error> for Failure {
    fn from(error: pipeline::Error) -> Self {
        Self::needs_person(error.to_string(), error.remedy()).about(error.topic())
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::needs_person(error.to_string(), error.remedy())
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        Self::needs_person(error.to_string(), error.remedy()).about("profile")
    }
}

impl From<state::Error> for Failure {
    fn from(error: state::Error) -> Self {
        Self::needs_person(error.to_string(), error.remedy())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::needs_person(
            format!("the result could not be written: {error}"),
            "Look at where standard output leads.",
        )
    }
}
