use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::Authority;

/// Why the sandbox does not start, or its test CA does not issue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be listened on.
    #[error("{authority} of the sandbox cannot listen on {address}: {source}")]
    Listen {
        /// Whose address it is.
        authority: Authority,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// One of `bind` and `public_url` was given without the other.
    #[error("{given} was given without {missing}")]
    HalfOpen {
        /// The option that was given.
        given: &'static str,
        /// The option that goes with it.
        missing: &'static str,
    },
    /// The public URL is not `http://HOST`.
    #[error("the public URL is not usable: {problem}")]
    PublicUrl {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A host of a real authority was named.
    #[error("{host} is a host of a real authority")]
    RealHost {
        /// The host.
        host: String,
    },
    /// A certificate of a real issuer was found where the test CA belongs.
    #[error("{} holds a certificate of {issuer}, a real issuer", path.display())]
    RealIssuer {
        /// The file.
        path: PathBuf,
        /// The issuer's name.
        issuer: &'static str,
    },
    /// The state directory, or the test CA's file in it, cannot be used as it is.
    #[error("{}: {problem}", path.display())]
    State {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// The command that puts it right, when there is one.
        fix: Option<String>,
    },
    /// The state directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of clients and grants cannot be used.
    #[error("the sandbox's clients: {0}")]
    Clients(String),
    /// The file of a scenario cannot be used.
    #[error("the scenario: {0}")]
    Scenario(String),
    /// A fault cannot be.
    #[error("the fault: {0}")]
    Fault(String),
    /// The management interface cannot be listened on.
    #[error("the sandbox's management interface cannot listen on port {port}: {source}")]
    Management {
        /// The port asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A key cannot be registered.
    #[error("the key cannot be registered: {0}")]
    Key(&'static str),
    /// The certificate signing request is not acceptable.
    #[error("the certificate signing request {0}")]
    Request(&'static str),
    /// A number that is no organisation number.
    #[error("{0:?} is no organisation number")]
    OrganisationNumber(String),
    /// An identifier that has not the form of an organizationIdentifier.
    #[error("{0:?} is no organizationIdentifier")]
    OrganisationIdentifier(String),
    /// What was given as an issuer of eSeals is none.
    #[error("the issuer of eSeals {0}")]
    SealIssuer(&'static str),
    /// The cryptographic library refused.
    #[error("the sandbox could not {0}")]
    Crypto(&'static str),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Listen { .. } => "End the program that listens there, or choose other ports.".into(),
            Self::HalfOpen { missing, .. } => {
                format!("Give {missing} too, or neither: without both, the sandbox stays on loopback.")
            }
            Self::PublicUrl { .. } => {
                "Give scheme and host only, such as http://segl-sandbox; each authority adds its port.".into()
            }
            Self::RealHost { .. } => {
                "Choose a host name of your own: a sandbox never answers under a real name.".into()
            }
            Self::RealIssuer { .. } => {
                "Give the sandbox an empty directory of its own; it makes its own test CA there.".into()
            }
            Self::State { fix: Some(fix), .. } => format!("Run: {fix}"),
            Self::State { fix: None, .. } => {
                "Remove the file, or give the sandbox an empty directory; it makes a new test CA there.".into()
            }
            Self::Io { .. } => "Check that the directory exists and that you may write there.".into(),
            Self::Clients(_) => "Correct the file of clients; the documentation of the sandbox shows one.".into(),
            Self::Scenario(_) => {
                "Correct the file of the scenario; the documentation of the sandbox shows one.".into()
            }
            Self::Fault(_) => {
                "Give outage = [\"maskinporten\"] or knobs, with at and for in seconds.".into()
            }
            Self::Management { .. } => {
                "End the program that listens there, or choose another port.".into()
            }
            Self::Key(_) => {
                "Register an RSA public key of 2048 bits or more; a kid holds letters, digits, '.', '_' and '-'."
                    .into()
            }
            Self::Request(_) => "Make a new PKCS#10 request, signed by the RSA key it is for.".into(),
            Self::OrganisationNumber(_) => {
                "Give nine digits with a right check digit, such as 312700018.".into()
            }
            Self::OrganisationIdentifier(_) => {
                "Give scheme, country, hyphen and identifier, such as VATSE-556012345601 or NTRDE-HRB1234.".into()
            }
            Self::SealIssuer(_) => "Give the certificate of a certification authority, PEM.".into(),
            Self::Crypto(_) => "Try again; if it happens twice, please report it.".into(),
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<'_> {
        |source| Self::Io { path: path.to_owned(), source }
    }
}
