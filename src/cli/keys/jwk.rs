//! `segl keys jwk`: the public key in the forms in which Samarbeidsportalen takes it.

use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::{Work, refused, say, target::Target};
use crate::{
    cli::{failure::Failure, json},
    jose::PublicJwk,
    sign,
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    target: Target,
    /// Name of the key on the client: letters, digits, . _ - [default: its RFC 7638 thumbprint]
    #[arg(long, value_parser = kid)]
    kid: Option<String>,
    /// Print a key set, as the self-service API wants it, not the bare array of the web form
    #[arg(long)]
    set: bool,
}

/// Longer than any scheme of names; the API names no limit.
const LONGEST_KID: usize = 128;

/// Maskinporten takes no shorter keys.
const FEWEST_BITS: usize = 2048;

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let key = command.target.signer(work)?.key(&work.call).await.map_err(refused)?;
    if key.public_key.bits() < FEWEST_BITS {
        return Err(sign::Error::UnusableKey {
            key: key.device.unwrap_or_else(|| "in the file".into()),
            reason: format!(
                "it has {} bits; Maskinporten wants {FEWEST_BITS} or more",
                key.public_key.bits()
            ),
        }
        .into());
    }
    let kid = command.kid.unwrap_or_else(|| key.public_key.thumbprint());
    let jwk = PublicJwk::new(&key.public_key, key.algorithm, &kid);
    if command.set {
        json::write(&Set { keys: [jwk] }, out)?;
        say(
            "This is the body of POST /clients/{id}/jwks. It replaces the whole set: add the keys that are to stay.",
        );
    } else {
        json::write(&[jwk], out)?;
        say(
            "Paste it at https://sjolvbetjening.samarbeid.digdir.no, on the client, among its keys; for the test",
        );
        say(
            "environment at https://sjolvbetjening.test.samarbeid.digdir.no. The key is registered for a year at most.",
        );
    }
    say(format!("In segl.toml: kid = \"{kid}\" on the client."));
    Ok(())
}

/// JWK Set (RFC 7517 section 5).
#[derive(Serialize)]
struct Set {
    keys: [PublicJwk; 1],
}

/// What a `kid` may be at Samarbeidsportalen: letters and digits of ASCII, dot, underscore, hyphen.
fn kid(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain && (1..=LONGEST_KID).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("a kid has 1 to {LONGEST_KID} characters: letters a to z, digits, . _ -"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_is_what_samarbeidsportalen_takes() {
        for good in ["991825827-2026-11", "a", "A.b_c-9", &"x".repeat(128)] {
            assert_eq!(kid(good).as_deref(), Ok(good));
        }
        for wrong in ["", "a b", "nøkkel", "a/b", "a+b", "a\n", &"x".repeat(129)] {
            assert!(kid(wrong).is_err(), "{wrong}");
        }
    }
}
