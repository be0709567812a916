//! `segl token NAME`: one access token.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::json;

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
    /// An RFC 6749 answer: access_token, token_type, expires_in, scope
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
            let answer = json!({
                "access_token": token.secret(),
                "token_type": "Bearer",
                "expires_in": token.left(clock).as_secs(),
                "scope": token.scope(),
            });
            writeln!(out, "{answer}")?;
        }
    }
    Ok(())
}
