//! `segl token NAME`: one access token.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Context, ask::Ask, decode, failure::Failure};
use crate::{
    clock::Clock,
    pipeline::Pipeline,
    token::{AccessToken, TokenSource},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    ask: Ask,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Token)]
    output: Output,
    /// Show what is inside instead; the signature stays hidden
    #[arg(long)]
    decode: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// The token alone
    Token,
    /// An RFC 6749 answer, with the delivery and, if there is one, the outage
    Json,
    /// An HTTP header line, for curl -H @-
    Header,
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let work = async |pipeline: &Pipeline| {
        let (named, request) = command.ask.resolve(pipeline)?;
        let token = named.source().token(&request, &command.ask.call(context.clock())).await?;
        if command.decode {
            return decode::show(token.secret(), out);
        }
        print(&token, command.output, context.clock(), out)
    };
    context.with_pipeline(work).await
}

fn print(token: &AccessToken, output: Output, clock: &dyn Clock, out: &mut dyn Write) -> Result<(), Failure> {
    match output {
        Output::Token => writeln!(out, "{}", token.secret())?,
        Output::Header => writeln!(out, "Authorization: Bearer {}", token.secret())?,
        Output::Json => {
            writeln!(out, "{}", answer(token, clock))?;
        }
    }
    Ok(())
}

fn answer(token: &AccessToken, clock: &dyn Clock) -> Value {
    let mut answer = json!({
        "access_token": token.secret(),
        "token_type": "Bearer",
        "expires_in": token.left(clock).as_secs(),
        "scope": token.scope(),
        "delivery": token.delivery(),
    });
    if let (Some(outage), Some(members)) = (token.outage(), answer.as_object_mut()) {
        members.insert("outage".into(), json!(outage));
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;
    use crate::{
        clock::ManualClock,
        token::{Authority, Error, Outage, Provenance},
    };

    #[test]
    fn a_token_that_cannot_be_renewed_says_who_is_away_and_since_when() {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let life = Duration::from_secs(120);
        let (now, wall) = (clock.now(), clock.numeric_date());
        let token = AccessToken::issued("t".into(), "a:b".into(), now, wall, life, Provenance::default());
        let fresh = answer(&token, &*clock);
        assert_eq!((&fresh["delivery"], &fresh["outage"]), (&json!("fresh"), &Value::Null));
        let error = Error::Unavailable { authority: Authority::Customs, status: 503, retry_after: None };
        let marked = answer(&token.while_down(Arc::new(Outage::of(error, clock.wall()))), &*clock);
        assert_eq!(marked["delivery"], "while-down");
        assert_eq!(marked["outage"]["side"], "authority");
        assert_eq!(marked["outage"]["authority"], "Customs");
        assert_eq!(marked["outage"]["since"], "2027-01-15T08:00:00Z");
    }
}
