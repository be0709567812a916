//! Certificates as Norway uses them: leaf, chain, organisation number, purpose, validity, and the request for one.
//!
//! Nothing here decides about trust: the authority does. A chain is put together so that the authority can follow
//! it, and each link of it is a signature that was verified.

mod bundle;
mod chain;
mod container;
mod error;
mod extension;
mod fetch;
mod identifier;
mod issuers;
mod judgement;
mod key;
mod leaf;
mod name;
mod organisation;
pub(crate) mod pem;
pub(crate) mod pkcs12;
mod purpose;
mod qualified;
mod request;
#[cfg(test)]
pub(crate) mod sample;
mod set;

pub(crate) use self::error::date;
pub use self::{
    chain::Chain,
    container::{Ask, Container},
    error::Error,
    fetch::{Completed, Fetched, Miss},
    identifier::{NotAnIdentifier, OrganisationIdentifier, Scheme},
    issuers::{Environment, Generation, Issuer, Storage},
    judgement::{Finding, Fitness, Judgement, Kind, Level, NEAR_EXPIRY, Seal, Stranger, Way, Who},
    key::KeyKind,
    leaf::Certificate,
    name::Name,
    organisation::{NotAnOrganisationNumber, OrganisationNumber},
    purpose::Purpose,
    qualified::{Psd2, QcStatements, QcType, Semantics},
    request::{CertificateRequest, RequestError},
    set::{CertificateSet, Member},
};
