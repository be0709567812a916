//! `segl keys csr`: a certificate request that the key itself signs, for Buypass or Commfides.

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{Work, refused, say, target::Target};
use crate::{
    certificate::{CertificateRequest, OrganisationNumber, RequestError},
    cli::failure::Failure,
    state::{self, Mode},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    target: Target,
    /// Registered name of the organisation
    #[arg(long, value_name = "NAME")]
    organisation: String,
    /// Its number in the register: nine digits
    #[arg(long, value_name = "NUMBER")]
    organisation_number: OrganisationNumber,
    /// Name in the certificate [default: the organisation's]
    #[arg(long, value_name = "NAME")]
    common_name: Option<String>,
    /// File to write; one that is there already is left alone [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    // Said before anybody has typed a PIN; the writing itself replaces nothing either.
    if let Some(path) = command.out.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
        return Err(state::Error::Exists { path: path.clone() }.into());
    }
    let request = CertificateRequest {
        common_name: command.common_name.unwrap_or_else(|| command.organisation.clone()),
        organisation: command.organisation,
        organisation_number: command.organisation_number,
        country: "NO".into(),
    };
    let signer = command.target.signer(work)?;
    let key = signer.key(&work.call).await.map_err(refused)?;
    let message = request.to_be_signed(&key.public_key, key.algorithm).map_err(|why| unwritten(&why))?;
    let signed = signer.sign(&work.call, Box::new(move || message)).await.map_err(refused)?;
    let finished = request
        .to_der(&key.public_key, key.algorithm, |asked| {
            if asked == signed.message { Ok(signed.signature.clone()) } else { Err("another request") }
        })
        .map_err(|why| unwritten(&why))?;
    let pem = CertificateRequest::pem(&finished);
    match &command.out {
        None => out.write_all(pem.as_bytes())?,
        Some(path) => {
            state::write_file(path, pem.as_bytes(), Mode::Public, false)?;
            say(format!("written: {}", path.display()));
        }
    }
    say("Send the request to Buypass or Commfides; what they return is for `segl keys import`.");
    Ok(())
}

fn unwritten<E: std::fmt::Display>(error: &RequestError<E>) -> Failure {
    Failure::needs_person(error.to_string(), error.remedy().unwrap_or("Try again."))
}
