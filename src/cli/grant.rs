//! `segl grant NAME`: signs a grant and sends nothing.

use std::io::Write;

use clap::Args;
use secrecy::ExposeSecret;

use super::{Context, ask::Ask, decode, failure::Failure};
use crate::pipeline::Pipeline;

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    ask: Ask,
    /// Show what is inside instead; the signature stays hidden
    #[arg(long)]
    decode: bool,
}

pub(super) async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Result<(), Failure> {
    let work = async |pipeline: &Pipeline| {
        let (named, request) = command.ask.resolve(pipeline)?;
        let assertion = named.client().assert(&request, &command.ask.call(context.clock())).await?;
        let jws = assertion.into_jws();
        if command.decode {
            return decode::show(jws.expose_secret(), out);
        }
        writeln!(out, "{}", jws.expose_secret())?;
        Ok(())
    };
    context.with_pipeline(work).await
}
