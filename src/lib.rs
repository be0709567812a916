//! Segl: access tokens for Norwegian public APIs from a key that never leaves its hardware.

pub mod call;
pub mod certificate;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod config;
pub mod grant;
pub mod http;
pub mod jose;
pub mod pipeline;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod secret;
pub mod sign;
pub mod state;
pub mod token;
