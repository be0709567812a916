use std::{fmt, io::ErrorKind, path::PathBuf};

use serde::Serialize;

use crate::{grant::InvalidRequest, scope, secret, sign};

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No file, and no environment variables in its place.
    Absent {
        /// Where a file was looked for.
        searched: Vec<PathBuf>,
    },
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        kind: ErrorKind,
    },
    /// More bytes than a configuration has.
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Not UTF-8.
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Everybody can write to the file, which may name programs to run.
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that nobody named belongs to another user, and it may name programs to run.
    Stranger {
        /// The file.
        path: PathBuf,
        /// The user whose it is.
        owner: u32,
    },
    /// Something in it is wrong; all that was found is listed.
    Invalid {
        /// The file; `None` for environment variables.
        path: Option<PathBuf>,
        /// At least one, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl Error {
    /// What to do, in one sentence; for several problems, one line for each.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Absent { .. } => {
                "Write a segl.toml (docs/segl.example.toml is a start) and name it with --config, \
                or set MASKINPORTEN_CLIENT_ID and its companions."
                    .to_owned()
            }
            Self::Unreadable { path, kind: ErrorKind::NotFound } => {
                format!("Check the name {}.", path.display())
            }
            Self::Unreadable { path, .. } => {
                format!("Make {} readable for the user that runs this program.", path.display())
            }
            Self::TooLong { path } | Self::NotText { path } => {
                format!("Check that {} is the configuration.", path.display())
            }
            Self::TooOpen { path, .. } => format!("Run: chmod o-w {}", path.display()),
            Self::Stranger { path, .. } => format!("If you trust it, name it: --config {}", path.display()),
            Self::Invalid { problems, .. } => {
                problems.iter().map(|problem| problem.fault.remedy()).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { searched } => {
                let searched: Vec<_> = searched.iter().map(|path| path.display().to_string()).collect();
                write!(f, "there is no configuration: looked for {}", searched.join(", "))
            }
            Self::Unreadable { path, kind: ErrorKind::NotFound } => {
                write!(f, "there is no file {}", path.display())
            }
            Self::Unreadable { path, kind } => write!(f, "{} cannot be read: {kind}", path.display()),
            Self::TooLong { path } => write!(f, "{} is larger than 1 MiB", path.display()),
            Self::NotText { path } => write!(f, "{} is no text (UTF-8)", path.display()),
            Self::TooOpen { path, mode } => {
                write!(f, "everybody can write to {} (mode {mode:04o})", path.display())
            }
            Self::Stranger { path, owner } => {
                write!(f, "{} belongs to user {owner}, who is neither you nor root", path.display())
            }
            Self::Invalid { path, problems } => {
                for (index, problem) in problems.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "\n" })?;
                    match (path, problem.origin) {
                        (Some(path), Origin::File { line }) => write!(f, "{}:{line}: ", path.display())?,
                        (Some(path), _) => write!(f, "{}: ", path.display())?,
                        (None, _) => {}
                    }
                    fmt::Display::fmt(problem, f)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// Not written anywhere.
    Default,
    /// The configuration file.
    File {
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "line {line}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Path of the key, as `clients.forwarder.signer`; empty for the file as a whole.
    pub place: String,
    /// Where the key, or the table it is missing from, is written.
    pub origin: Origin,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.origin, self.place.as_str()) {
            (Origin::Variable(name), _) => write!(f, "{name}: {}", self.fault),
            (_, "") => write!(f, "{}", self.fault),
            (_, place) => write!(f, "{place}: {}", self.fault),
        }
    }
}

fn hint(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

/// What is wrong with a value. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message says what its variant is")]
pub enum Fault {
    #[error("this is not TOML: {message}")]
    Syntax { message: String },
    #[error("schema = 1 is missing; it says which version of the format this file is written in")]
    SchemaMissing,
    #[error("this version of Segl reads schema = 1 only")]
    Schema,
    #[error("this key is not known{}", hint(nearest.as_ref()))]
    UnknownKey { nearest: Option<String>, known: Vec<String> },
    #[error("a name has small letters, digits, hyphens and underscores, and begins with a letter or digit")]
    Name,
    #[error("a table is expected here")]
    NotATable,
    #[error("{message}")]
    Value { message: String },
    #[error("{message}")]
    SecretPlace { message: String },
    #[error("must not be empty or hold control characters")]
    Text,
    #[error("there is no {table} {name:?}{}", hint(nearest.as_ref()))]
    UnknownName { table: &'static str, name: String, nearest: Option<String>, known: Vec<String> },

    #[error("the list of keys is empty")]
    NoKey,
    #[error("of several keys for one signer, each is in a device and written as pkcs11:…")]
    SeveralFiles,
    #[error("the same key stands there twice")]
    SameKeyTwice,
    #[error(
        "slot-id={slot} is no lasting name: on most devices slot numbers change from one start to the next"
    )]
    UnstableSlot { slot: u64 },
    #[error("goes with a key in a device, and this one is in a file")]
    DeviceOnly,
    #[error("the key must be written as pkcs11:… or file:… (the value is not repeated)")]
    KeyScheme,
    #[error("{0}")]
    KeyUri(#[from] sign::Error),
    #[error("a PIN in a key's URI ends up in logs and is not taken")]
    PinInUri,
    #[error("{0}")]
    Secret(#[from] secret::Malformed),
    #[error("{name:?} cannot be used: Maskinporten accepts only RS256, RS384, RS512")]
    Algorithm { name: String },
    #[error("the private key is no JSON object (the value is not repeated)")]
    Jwk,

    #[error("a client has either a kid or a certificate, not both")]
    BothIdentities,
    #[error("a client needs a kid or a certificate")]
    NoIdentity,
    #[error("client_id is missing")]
    NoClientId,
    #[error("a client with kind = \"eseal\" needs a name, which stands in its grants")]
    NoName,
    #[error("an eSeal has no client_id: Maskinporten knows the business by its certificate")]
    SealClientId,
    #[error("an eSeal has no kid: it goes with its certificate and the whole chain")]
    SealKid,
    #[error("a name goes with kind = \"eseal\"; a registered client has a client_id")]
    NameWithoutSeal,
    #[error("kid_expires belongs to a kid, and this client has none")]
    ExpiryWithoutKid,
    #[error("kid_expires is a date without a time, such as 2027-11-20")]
    Date,
    #[error("a grant may be valid for 1 to 119 seconds, not {seconds}")]
    GrantLifetime { seconds: i64 },
    #[error("ver1 was closed years ago")]
    Ver1,

    #[error("the name {name:?} is taken by Maskinporten's own environments")]
    ReservedName { name: String },
    #[error("from is \"test\" or \"prod\", not {name:?}")]
    From { name: String },
    #[error("an environment needs an issuer, or from = \"test\" or \"prod\"")]
    NoIssuer,
    #[error("this is not an address such as https://example.no")]
    NotAnAddress,
    #[error("plain http is for this machine only (127.0.0.1, [::1], localhost)")]
    PlainHttp,
    #[error("an address here must not hold a user name or password (the value is not repeated)")]
    AddressPassword,
    #[error("an address here ends with its host and port or path, without ? and #")]
    AddressQuery,
    #[error("an issuer ends in a slash, as {issuer}/ would; Maskinporten compares it byte by byte")]
    IssuerSlash { issuer: String },
    #[error("an issuer is written as {expected}; Maskinporten compares it byte by byte")]
    IssuerSpelling { expected: String },
    #[error("ver2.maskinporten.no was replaced by test.maskinporten.no")]
    ClosedHost,
    #[error("{host} belongs to {found}, the rest of this environment to {rest}: test and prod must not meet")]
    MixedEnvironment { host: String, found: &'static str, rest: &'static str },
    #[error("{address} does not begin with the issuer {issuer}")]
    OtherOrigin { address: String, issuer: String },

    #[error("{0}")]
    Request(#[from] InvalidRequest),
    #[error("{scope:?} is for foreign companies with an eSeal; a Norwegian client cannot have it")]
    EuScope { scope: String },
    #[error(
        "{scope:?} is not for eSeals: Maskinporten gives them scopes that begin with toll:eu/, and digdir:verksemd.eu"
    )]
    SealScope { scope: String },
    #[error("{scope:?} and {other:?} are of two families; with an eSeal, a token has scopes of one")]
    SealFamilies { scope: String, other: String },
    #[error("Customs does not exchange tokens for {scope}, which opens none of its APIs")]
    NotAtCustoms { scope: String },
    #[error("Altinn exchanges tokens of Norwegian organisations only, and answers 401 to one of an eSeal")]
    SealAtAltinn,
    #[error("goes with a client in Samarbeidsportalen, and a business with an eSeal has none")]
    NotWithSeal,
    #[error("exchange is \"customs\", \"altinn\" or \"altinn:\" and one of {known}, not {exchange:?}")]
    Exchange { exchange: String, known: &'static str },
    #[error("{exchange:?} takes tokens from Maskinporten {needs}, and client {client:?} is in {has}")]
    ExchangeElsewhere { exchange: String, client: String, needs: &'static str, has: String },
    #[error(
        "environment {environment:?} has an Altinn of its own, so the exchange is plain \"altinn\" there"
    )]
    NamedAltinn { environment: String },
    #[error("environment {environment:?} has no address for {authority}")]
    NoAddress { environment: String, authority: &'static str },
    #[error("a probe path goes with exchange = \"customs\"")]
    ProbeWithoutCustoms,
    #[error("a probe path begins with one slash and has no space, ? or #")]
    ProbePath,
    #[error("altinn_test goes with an Altinn exchange")]
    AltinnTest,
    #[error("a token that needs a customer in each call cannot be kept warm")]
    KeepWarm,

    #[error("a proxy is an http:// or https:// address with a host")]
    Proxy,
    #[error("a timeout is 1 to 300 seconds, not {seconds}")]
    Timeout { seconds: i64 },

    #[error("is needed beside MASKINPORTEN_CLIENT_ID and is not set")]
    VariableMissing,
    #[error("is no text (UTF-8)")]
    VariableNotText,
    #[error("is set beside {other}; only one of them can name the key")]
    VariableConflict { other: &'static str },
}

impl Fault {
    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::SchemaMissing | Self::Schema => "Write schema = 1 as the first line.".to_owned(),
            Self::UnknownKey { known, .. } => format!("Use one of: {}.", known.join(", ")),
            Self::UnknownName { table, known, .. } if known.is_empty() => {
                format!("Add a table for the {table}.")
            }
            Self::UnknownName { known, .. } => format!("Use one of: {}.", known.join(", ")),
            Self::SecretPlace { .. } => {
                "Write where the secret is found, as file:PATH; if it stood here itself, regard it as known and change it."
                    .to_owned()
            }
            Self::Secret(malformed) => malformed.remedy(),
            Self::PinInUri => "Take pin-value out, give pin = \"file:PATH\", and change the PIN.".to_owned(),
            Self::KeyUri(error) => error.remedy(),
            Self::NoKey => "Name at least one key.".to_owned(),
            Self::SeveralFiles => "Name one file, or give each file a signer of its own.".to_owned(),
            Self::SameKeyTwice => "Leave one of them out.".to_owned(),
            Self::UnstableSlot { .. } => {
                "Name the device by token= or serial=, which `segl keys` prints; or, where the device keeps its slot \
                 numbers, add allow_unstable_slot = true."
                    .to_owned()
            }
            Self::DeviceOnly => "Leave it out.".to_owned(),
            Self::KeyScheme => "Write key = \"file:/path/to/key.pem\", or the pkcs11: URI of the key.".to_owned(),
            Self::Algorithm { .. } => "Leave algorithm out, or use an RSA key with one of the three.".to_owned(),
            Self::NoIdentity => {
                "Add kid = \"…\" for a registered key, or certificate = \"token\" for the certificate beside the key."
                    .to_owned()
            }
            Self::NoClientId => {
                "Add client_id = \"…\" from Samarbeidsportalen; a foreign business has kind = \"eseal\" and a name."
                    .to_owned()
            }
            Self::NoName => "Add name = \"…\", the name of the business.".to_owned(),
            Self::SealClientId | Self::SealKid => {
                "Leave it out; without kind = \"eseal\" it is a client in Samarbeidsportalen.".to_owned()
            }
            Self::NameWithoutSeal => "Leave name out, or write kind = \"eseal\".".to_owned(),
            Self::BothIdentities => {
                "Keep the kid when a public key is registered on the client, the certificate otherwise.".to_owned()
            }
            Self::Ver1 => "Use environment = \"test\" or \"prod\".".to_owned(),
            Self::ClosedHost => "Use environment = \"test\" on the client.".to_owned(),
            Self::PlainHttp => "Use https.".to_owned(),
            Self::AddressPassword => "Take the password out and change it.".to_owned(),
            Self::MixedEnvironment { .. } | Self::ExchangeElsewhere { .. } => {
                "Make one client and environment for test and another for prod.".to_owned()
            }
            Self::Request(invalid) => invalid.remedy(),
            Self::EuScope { scope } => match scope::twin(scope) {
                Some(twin) => format!("Use {twin:?}."),
                None => "Leave it out, or give the token a client with kind = \"eseal\".".to_owned(),
            },
            Self::SealScope { scope } => match scope::twin(scope) {
                Some(twin) => format!("Use {twin:?}."),
                None => "Begin with \"digdir:verksemd.eu\", which needs no registration anywhere.".to_owned(),
            },
            Self::SealFamilies { .. } => "Make a [tokens] table for each.".to_owned(),
            Self::NotAtCustoms { .. } => {
                "Leave exchange out, or ask for the scope of one of Customs' APIs, as \"toll:eu/movement/road/v2\"."
                    .to_owned()
            }
            Self::SealAtAltinn => {
                "Leave exchange out; Altinn's APIs are for clients with a Norwegian organisation number.".to_owned()
            }
            Self::NotWithSeal => "Leave it out.".to_owned(),
            Self::NamedAltinn { .. } => "Write exchange = \"altinn\".".to_owned(),
            Self::NoAddress { environment, authority } => {
                format!("Add {authority} to [environments.{environment}].")
            }
            Self::KeepWarm => "Remove keep_warm, or name one customer in consumer_org.".to_owned(),
            Self::VariableMissing => "Set it, or write a segl.toml.".to_owned(),
            Self::VariableConflict { other } => format!("Unset it, or unset {other}."),
            Self::Jwk => "Put the private JWK as it was issued into the variable, on one line.".to_owned(),
            _ => "Correct the value; `segl config schema` describes what it may be.".to_owned(),
        }
    }
}
