//! `segl keys generate`: a key pair that is born in the device and never leaves it.

use std::io::Write;

use clap::Args;

use super::{Work, quoted, refused, say, target::Target};
use crate::{
    cli::failure::Failure,
    jose::RsaPublicKey,
    sign::{self, pkcs11::NewKeyPair},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    target: Target,
    /// Length of the key in bits
    #[arg(long, default_value = "3072", value_parser = ["2048", "3072", "4096"])]
    bits: String,
    /// Its id (CKA_ID), hexadecimal [default: 16 random bytes]
    #[arg(long, value_name = "HEX", value_parser = id)]
    id: Option<Id>,
}

/// A `CKA_ID`, in a type of its own: a vector would be an option that may be given more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Id(Vec<u8>);

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let device = command.target.device(work, "no key can be made there")?;
    let given = device.uri().clone();
    let label = given.object().filter(|label| !label.is_empty()).ok_or_else(|| {
        Failure::needs_person(
            format!("{given} does not say what the new key is to be called"),
            "Add ;object=LABEL to the URI.",
        )
    })?;
    let asked = match (command.id, given.id()) {
        (Some(Id(id)), Some(other)) if id != other => {
            return Err(Failure::needs_person("--id and the URI name two ids", "Leave one of them out."));
        }
        (Some(Id(id)), _) => Some(id),
        (None, other) => other.map(<[u8]>::to_vec),
    };
    // The parser has let through three numbers.
    let bits = command.bits.parse().unwrap_or(3072);
    let pair = NewKeyPair { label: label.to_owned(), id: asked, bits };
    let made = device.generate_key_pair(pair, &work.call).await.map_err(refused)?;
    let unreadable = |why: crate::jose::KeyError| sign::Error::UnusableKey {
        key: made.uri.to_string(),
        reason: why.to_string(),
    };
    let public_key = RsaPublicKey::from_spki(&made.spki).map_err(unreadable)?;
    let uri = made.uri.clone().with_query_of(&given);
    writeln!(out, "{uri}")?;
    say(format!("made: RSA-{}, thumbprint {}", public_key.bits(), public_key.thumbprint()));
    say("The line on standard output is for segl.toml: key = \"…\" in a [signers.NAME] table.");
    say(format!("To register the key itself:    segl keys jwk {}", quoted(&uri)));
    say(format!(
        "To ask for a certificate:      segl keys csr {} --organisation NAME --organisation-number NUMBER",
        quoted(&uri)
    ));
    Ok(())
}

/// The longest `CKA_ID` taken, in bytes: devices differ, and nobody needs more to tell keys apart.
const LONGEST_ID: usize = 64;

fn id(text: &str) -> Result<Id, String> {
    let id = hex::decode(text).map_err(|_| "an id is written in hexadecimal digits, two for each byte")?;
    if (1..=LONGEST_ID).contains(&id.len()) {
        Ok(Id(id))
    } else {
        Err(format!("an id has 1 to {LONGEST_ID} bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_hexadecimal_and_neither_empty_nor_endless() {
        assert_eq!(id("01fE"), Ok(Id(vec![1, 0xfe])));
        for wrong in ["", "1", "0g", "01 02", &"00".repeat(65)] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }
}
