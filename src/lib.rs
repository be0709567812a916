//! Segl (Norwegian for *seal*): access tokens for Norwegian public APIs from a key that never leaves its hardware.
//!
//! In goes a configuration that says which key signs, which client of Maskinporten it stands for, and which tokens are
//! wanted. Out come access tokens: Maskinporten's own, and those that Customs (Toll) or Altinn give in exchange. The
//! key stays in its device (PKCS#11) or its file; only signatures leave it.
//!
//! ```text
//!   segl.toml ──▶ Config ──▶ Pipeline ── token("road") ──▶ AccessToken
//!                               │
//!            ┌──────────────────┴───────────────────────────────────────┐
//!            │ Cached ──▶ Exchange ──▶ Maskinporten ──▶ Grant           │
//!            │   │        (Customs,        │            iat, exp, jti   │
//!            │   │         Altinn)         │              │             │
//!            │   ▼            ▼            ▼              ▼             │
//!            │  nearly    their token   POST /token    Signer           │
//!            │  every     endpoint                     device or file   │
//!            │  answer                                                  │
//!            └──────────────────────────────────────────────────────────┘
//! ```
//!
//! # The small public API
//!
//! | step | call |
//! |---|---|
//! | read | [`Config::find`](config::Config::find), [`load`](config::Config::load) or [`parse`](config::Config::parse) |
//! | wire | [`Pipeline::new`](pipeline::Pipeline::new): touches neither network nor device |
//! | keep warm | [`Pipeline::start`](pipeline::Pipeline::start), for tokens with `keep_warm = true` |
//! | ask | [`Pipeline::token`](pipeline::Pipeline::token) by name, then [`NamedToken::token`](pipeline::NamedToken::token) |
//! | require the keys | [`Pipeline::require_signers`](pipeline::Pipeline::require_signers), where a start without them is to fail |
//! | see what works | [`Pipeline::readiness`](pipeline::Pipeline::readiness): signers, authorities, tokens |
//! | ask for a customer | [`NamedToken::request`](pipeline::NamedToken::request) with [`Overrides`](pipeline::Overrides), then [`NamedToken::source`](pipeline::NamedToken::source) |
//! | use | [`AccessToken::secret`](token::AccessToken::secret) in an `Authorization: Bearer` header |
//! | end | [`Pipeline::shutdown`](pipeline::Pipeline::shutdown) |
//!
//! [`Call`](call::Call) says how long the caller waits. A token is asked for each time it is needed and not kept: the
//! cache answers in less than a microsecond, renews ahead of time, and lets many callers wait for one signature.
//!
//! An error says what happened (`Display`), what to do (`remedy()`) and, where it came from a key or an authority,
//! whose move it is (`kind()`) and whether asking again can help (`retry()`). `topic()` names its [`advice`], which says
//! more, in English and Norwegian.
//!
//! Who needs other parts puts them together by hand: a [`Signer`](sign::Signer) is proven to belong to an identity
//! ([`Credential`](sign::Credential)), a [`Grant`](grant::Grant) is made with it, and everything that gives tokens is a
//! [`TokenSource`](token::TokenSource).
//!
//! # Example
//!
//! A Customs token from the [`sandbox`]'s fake authorities. With the real ones there is only the second half, and a
//! `segl.toml` of your own.
//!
//! ```
//! # #[cfg(feature = "sandbox")]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use segl::{call::Call, clock::SystemClock, config::Config, pipeline::Pipeline, token::Delivery};
//! use segl::sandbox::{Authentication, Clients, Sandbox, Setup};
//! # use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
//! # use segl::state::{Mode, write_file};
//! # let folder = tempfile::tempdir()?;
//! # let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
//! # write_file(&folder.path().join("key.pem"), key.serialize_pem().as_bytes(), Mode::Private, false)?;
//! # let public_key = key.subject_public_key_info();
//!
//! let sandbox = Sandbox::start().await?;
//! sandbox.register_key(Clients::KEY_CLIENT, "key-2026", &public_key)?;
//! let segl_toml = sandbox.config_toml_for(&Setup {
//!     key: "file:key.pem".into(),
//!     pin: None,
//!     authentication: Authentication::Kid("key-2026".into()),
//! });
//! # let path = folder.path().join("segl.toml");
//! # write_file(&path, segl_toml.as_bytes(), Mode::Private, false)?;
//!
//! let config = Config::load(&path)?;
//! let clock = SystemClock::shared();
//! let pipeline = Pipeline::new(&config, clock.clone())?;
//! pipeline.start();
//!
//! let road = pipeline.token("road")?;
//! let token = road.token(&Call::new(&*clock)).await?;
//! let header = format!("Authorization: Bearer {}", token.secret());
//! # assert!(header.len() > 30);
//! assert_eq!(token.scope(), "toll:movement/road/v2");
//! assert_eq!(token.delivery(), Delivery::Fresh);
//!
//! let again = road.token(&Call::new(&*clock)).await?;
//! assert_eq!(again.delivery(), Delivery::Cached);
//! assert_eq!(road.client().signer().health().signatures, 1);
//!
//! pipeline.shutdown(std::time::Duration::from_secs(5)).await;
//! # sandbox.shutdown().await;
//! # Ok(())
//! # }
//! # #[cfg(feature = "sandbox")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
//! ```
//!
//! Two programs to start from stand in the folder `examples`: a service that calls an API with a token of its own, and
//! a token for curl.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `cli` | yes | the program `segl` and [`cli::main`]; without it, no command line parser is compiled |
//! | `sandbox` | yes | [`sandbox`]: fake authorities for tests; without it, no server is compiled |
//!
//! A program that only wants tokens takes `segl = { version = "0.1", default-features = false }`, and `sandbox` among
//! its `dev-dependencies`.
//!
//! # Secrets
//!
//! Tokens, assertions, PINs and keys print as nothing in `Debug`, stand in no error and no log record, and are wiped
//! when they are dropped. National identity numbers are masked.

pub mod advice;
pub mod call;
pub mod certificate;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod grant;
pub mod http;
pub mod jose;
pub mod language;
pub mod pipeline;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod scope;
pub mod secret;
pub mod sign;
pub mod state;
pub mod token;

pub use sign::pkcs11::module_host;
