//! How the authorities answer: presets, single settings, knobs by name, and scenario files.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};

use super::{super::failure::Failure, start::text_of};
use crate::sandbox::{Clients, Fault, Knobs, Scenario};

#[derive(Debug, Args)]
#[command(next_help_heading = "How the authorities answer")]
pub(super) struct Behaviour {
    /// Refuse all that the documentation allows to refuse
    #[arg(long, conflicts_with = "as_2024")]
    strict: bool,
    /// Answer as the documentation of October 2024 has it
    #[arg(long)]
    as_2024: bool,
    /// Knobs, clients and faults over time from this file (TOML)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["strict", "as_2024"])]
    scenario: Option<PathBuf>,
    /// Wording of refusals: 2022 or 2026
    #[arg(long, value_name = "YEAR")]
    error_style: Option<String>,
    /// Where the MP code stands in a refusal: prefix, suffix or absent
    #[arg(long, value_name = "PLACE")]
    code_position: Option<String>,
    /// Life of Maskinporten's tokens
    #[arg(long, value_name = "SECONDS")]
    token_lifetime: Option<u64>,
    /// Life of Customs' tokens
    #[arg(long, value_name = "SECONDS")]
    customs_lifetime: Option<u64>,
    /// Time until Maskinporten knows of a changed key or client
    #[arg(long, value_name = "SECONDS")]
    propagation_delay: Option<u64>,
    /// How far the authorities' clock is ahead; behind when negative
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    clock_offset: Option<i64>,
    /// After N requests, answer 503 to the next M
    #[arg(long, value_name = "N:M")]
    burst: Option<String>,
    /// Altinn's answer: by-accept, quoted or bare
    #[arg(long, value_name = "SHAPE")]
    altinn_body: Option<String>,
    /// Shape of Customs' refusals: json or text
    #[arg(long, value_name = "SHAPE")]
    customs_error: Option<String>,
    /// Any knob by its name, such as strict_iat=true; may be given more than once
    #[arg(long, value_name = "NAME=VALUE")]
    knob: Vec<String>,
}

/// What comes of it.
pub(super) struct Plan {
    pub(super) knobs: Knobs,
    pub(super) clients: Option<Clients>,
    pub(super) faults: Vec<Fault>,
}

impl Behaviour {
    /// Preset or scenario first, single settings over them, knobs by name over all.
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        let (knobs, clients, faults) = match &self.scenario {
            Some(path) => {
                let text = text_of(path, "Name a file with a scenario that you can read.")?;
                let scenario = Scenario::from_toml(&text)?;
                (scenario.knobs, scenario.clients, scenario.faults)
            }
            None if self.strict => (Knobs::strict(), None, Vec::new()),
            None if self.as_2024 => (Knobs::as_2024(), None, Vec::new()),
            None => (Knobs::default(), None, Vec::new()),
        };
        let knobs = knobs.with(&self.settings()?).map_err(|why| {
            Failure::needs_person(why, "Correct the option; docs/examiner.md lists the values.")
        })?;
        let mut named = Map::new();
        for knob in &self.knob {
            let (name, value) =
                knob.split_once('=').ok_or_else(|| refused(format!("--knob {knob:?} has no value")))?;
            named.insert(name.to_owned(), knob_value(name, value).map_err(refused)?);
        }
        let knobs = knobs.with(&named).map_err(refused)?;
        Ok(Plan { knobs, clients, faults })
    }

    fn settings(&self) -> Result<Map<String, Value>, Failure> {
        let mut settings = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            settings.extend(value.map(|value| (name.to_owned(), value)));
        };
        set("error_style", self.error_style.clone().map(Value::from));
        set("mp_code_position", self.code_position.clone().map(Value::from));
        set("token_lifetime", self.token_lifetime.map(Value::from));
        set("customs_lifetime", self.customs_lifetime.map(Value::from));
        set("propagation_delay", self.propagation_delay.map(Value::from));
        set("clock_offset", self.clock_offset.map(Value::from));
        set("altinn_body", self.altinn_body.clone().map(Value::from));
        set("customs_error", self.customs_error.clone().map(Value::from));
        if let Some(burst) = &self.burst {
            let parts = burst
                .split_once(':')
                .and_then(|(every, length)| Some((every.parse::<u64>().ok()?, length.parse::<u64>().ok()?)));
            let (every, length) = parts.ok_or_else(|| {
                Failure::needs_person(
                    format!("--burst {burst:?} is not of the form N:M"),
                    "Write --burst 10:3 for three answers of 503 after each ten requests.",
                )
            })?;
            set("burst_every", Some(every.into()));
            set("burst_length", Some(length.into()));
        }
        Ok(settings)
    }
}

fn refused(why: String) -> Failure {
    Failure::needs_person(
        format!("--knob: {why}"),
        "Write --knob NAME=VALUE; docs/examiner.md lists the names.",
    )
}

/// The value of one knob: text where the knob takes text, else a number or a boolean.
fn knob_value(name: &str, value: &str) -> Result<Value, String> {
    let fits =
        |value: &Value| Knobs::default().with(&Map::from_iter([(name.to_owned(), value.clone())])).map(drop);
    let word = Value::from(value);
    let Err(why) = fits(&word) else { return Ok(word) };
    serde_json::from_str(value).ok().filter(|value| fits(value).is_ok()).ok_or(why)
}
