//! One header line with a token, for curl.
//!
//! ```text
//! cargo run --quiet --example token_for_curl -- road |
//!     curl -H @- https://api.toll.no/api/movement/road/v2/test-auth
//! ```
//!
//! The token goes from one program to the other through a pipe: it stands in no argument, where other users of the
//! machine could read it, and in no file. The configuration is found as the program `segl` finds it: `$SEGL_CONFIG`,
//! `./segl.toml`, `/etc/segl/segl.toml`. To try it without an account, start `segl sandbox` and use the `segl.toml` that
//! it writes.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use segl::{call::Call, clock::SystemClock, config::Config, pipeline::Pipeline};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(what_and_remedy) => {
            let _ = writeln!(io::stderr(), "{what_and_remedy}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let name = env::args().nth(1).ok_or("usage: token_for_curl TOKEN")?;
    let clock = SystemClock::shared();
    let config = Config::find(None).map_err(|error| said(&error, &error.remedy()))?;
    let pipeline = Pipeline::new(&config, clock.clone()).map_err(|error| said(&error, &error.remedy()))?;
    let named = pipeline.token(&name).map_err(|error| said(&error, &error.remedy()))?;
    let token = named.token(&Call::new(&*clock)).await.map_err(|error| said(&error, &error.remedy()))?;
    writeln!(io::stdout(), "Authorization: Bearer {}", token.secret()).map_err(|error| error.to_string())?;
    pipeline.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Every error of this library says what happened, and what to do.
fn said(error: &dyn std::error::Error, remedy: &str) -> String {
    format!("{error}\n{remedy}")
}
