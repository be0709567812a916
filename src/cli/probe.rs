//! `segl probe NAME`: the whole way once, step by step, and a first harmless call.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Context, ask::Ask, failure::Failure, json};
use crate::{
    call::Call,
    clock::Clock,
    grant::TokenRequest,
    pipeline::{FirstCall, NamedToken, Pipeline},
    sign::Proven,
    token::{AccessToken, Delivery, TokenSource},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    ask: Ask,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// A line for each step
    Text,
    /// The steps as JSON
    Json,
}

/// One step of the way, done.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    what: String,
    /// `None` for a step that there was nothing to do for.
    #[serde(
        rename = "microseconds",
        serialize_with = "microseconds",
        skip_serializing_if = "Option::is_none"
    )]
    took: Option<Duration>,
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    context.with_pipeline(async |pipeline: &Pipeline| probe(&command, pipeline, context, out).await).await
}

async fn probe(
    command: &Command,
    pipeline: &Pipeline,
    context: &Context,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (named, request) = command.ask.resolve(pipeline)?;
    let call = command.ask.call(context.clock());
    let mut report = Report { output: command.output, steps: Vec::new(), out };

    let start = Instant::now();
    let proven = named.client().prove(&call).await?;
    let key = proven.device().map_or_else(|| "key file".to_owned(), |device| format!("device {device}"));
    report.step("key", format!("{key}; {}", identity(&proven)), start)?;

    unattended(named, &call, &mut report).await?;

    let start = Instant::now();
    let token = named.source().token(&request, &call.clone().fresh()).await?;
    report.step("token", token_sentence(named, &token, context.clock()), start)?;

    first_call(named, &token, &call, &mut report).await?;
    asked_again(named, &request, &call, &mut report).await?;
    report.end()
}

fn identity(proven: &Proven) -> String {
    match (proven.kid(), proven.chain()) {
        (Some(kid), _) => format!("registered as {kid}"),
        (None, Some(chain)) => format!("certificate of {}", chain.leaf().holder()),
        (None, None) => "no identity".into(),
    }
}

/// Whether an eSeal in a device will do by night, too. Here a person may well be at hand, so that is no failure.
async fn unattended(named: &NamedToken, call: &Call, report: &mut Report<'_>) -> Result<(), Failure> {
    let start = Instant::now();
    let what = match named.client().check_unattended(call).await {
        None => return Ok(()),
        Some(Ok(())) => "it signs with nobody there".to_owned(),
        Some(Err(error)) => format!("{error}. {}", error.remedy()),
    };
    report.step("seal", what, start)
}

fn token_sentence(named: &NamedToken, token: &AccessToken, clock: &dyn Clock) -> String {
    let way = match named.exchanged_at() {
        None => "Maskinporten issued it".to_owned(),
        Some(authority) => format!("Maskinporten issued one, {authority} exchanged it"),
    };
    format!("{way}; {} for {} s", token.scope(), token.left(clock).as_secs())
}

async fn first_call(
    named: &NamedToken,
    token: &AccessToken,
    call: &Call,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    match named.first_call(token.scope()) {
        FirstCall::TestAuth(test) => {
            let start = Instant::now();
            let status = named.test_auth(&test, token, call).await?;
            report.step("call", format!("GET {} answered {status}", test.url()), start)
        }
        FirstCall::None(why) => report.record(Step { step: "call", what: why.to_owned(), took: None }),
    }
}

/// The same request once more, to show where nearly every answer comes from.
async fn asked_again(
    named: &NamedToken,
    request: &TokenRequest,
    call: &Call,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let before = named.client().signer().health().signatures;
    let start = Instant::now();
    let token = named.source().token(request, call).await?;
    let took = start.elapsed();
    let signatures = named.client().signer().health().signatures - before;
    let from = match token.delivery() {
        Delivery::Fresh => "issued anew",
        Delivery::Cached | Delivery::WhileDown => "from the cache",
    };
    let touched = if signatures == 0 { "not touched" } else { "used" };
    report.record(Step { step: "again", what: format!("{from}; the key was {touched}"), took: Some(took) })
}

struct Report<'a> {
    output: Output,
    steps: Vec<Step>,
    out: &'a mut dyn Write,
}

impl Report<'_> {
    fn step(&mut self, step: &'static str, what: String, start: Instant) -> Result<(), Failure> {
        self.record(Step { step, what, took: Some(start.elapsed()) })
    }

    fn record(&mut self, step: Step) -> Result<(), Failure> {
        match self.output {
            Output::Text => {
                let took = step.took.map(|took| format!("  ({})", readable(took))).unwrap_or_default();
                writeln!(self.out, "{:<6} {}{took}", step.step, step.what)?;
            }
            Output::Json => self.steps.push(step),
        }
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        if matches!(self.output, Output::Json) {
            json::write(&self.steps, self.out)?;
        }
        Ok(())
    }
}

fn readable(took: Duration) -> String {
    if took < Duration::from_millis(1) {
        format!("{:.1} µs", took.as_secs_f64() * 1e6)
    } else {
        format!("{:.1} ms", took.as_secs_f64() * 1e3)
    }
}

fn microseconds<S: serde::Serializer>(took: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    took.map(|took| took.as_secs_f64() * 1e6).serialize(serializer)
}
