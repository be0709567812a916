//! `segl sandbox issue`: a certificate like those of a Norwegian enterprise, or an eSeal, which only the sandbox takes.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use super::super::failure::Failure;
use crate::{
    sandbox::{Clients, TestCa},
    state::{self, Mode},
};

/// Far above any request; the CA has a narrower limit of its own.
const LARGEST_FILE: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// Certificate signing request (PKCS#10), PEM or DER
    csr_file: PathBuf,
    /// Directory that keeps the test CA; a new one is made when there is none
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Organisation that the certificate is for
    #[arg(long, value_name = "NUMBER", default_value = Clients::ORGANISATION)]
    organisation_number: String,
    /// Issue an eSeal of a foreign business, with its whole chain
    #[arg(long, conflicts_with = "organisation_number")]
    eseal: bool,
    /// organizationIdentifier of that business
    #[arg(long, value_name = "ID", requires = "eseal", default_value = Clients::FOREIGN_ORGANISATION)]
    organisation_identifier: String,
    /// Write certificate and issuing CA to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(issue: &Issue, out: &mut dyn Write) -> Result<(), Failure> {
    let request = read(&issue.csr_file).map_err(|why| {
        Failure::needs_person(
            format!("{}: {why}", issue.csr_file.display()),
            "Name a file with a certificate signing request that you can read.",
        )
    })?;
    let ca = TestCa::open_or_create(&issue.state)?;
    let chain = if issue.eseal {
        ca.issue_seal_from_csr(&request, &issue.organisation_identifier)?.whole_chain_pem()
    } else {
        ca.issue_from_csr(&request, &issue.organisation_number)?.chain_pem()
    };
    match &issue.out {
        Some(path) => Ok(state::write_file(path, chain.as_bytes(), Mode::Public, false)?),
        None => Ok(write!(out, "{chain}")?),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
