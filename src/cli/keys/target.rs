use std::sync::Arc;

use clap::Args;

use super::Work;
use crate::{
    cli::{
        failure::Failure,
        is_pkcs11_uri,
        secret_source::{SecretSource, person, secret_source},
    },
    config::{self, Key},
    pipeline,
    secret::Sources,
    sign::{
        Signer,
        pkcs11::{Device, Uri},
    },
};

/// A key or a device, and where its PIN is found.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// PKCS#11 URI, as `segl keys` prints it, or the name of a [signers.NAME] table
    #[arg(value_name = "URI|NAME")]
    key: String,
    #[command(flatten)]
    pin: PinOption,
}

/// `--pin`
#[derive(Debug, Args)]
pub(super) struct PinOption {
    /// Where the PIN is found: file:PATH, credential:NAME, exec:COMMAND, prompt, env:NAME
    /// [default: the URI's pin-source or the signer's pin; else prompt]
    #[arg(long = "pin", value_name = "SOURCE", value_parser = secret_source)]
    source: Option<SecretSource>,
}

impl Target {
    /// As a signer, configured or made up for the URI.
    pub(super) fn resolve(&self, work: &Work<'_>) -> Result<config::Signer, Failure> {
        let pin = self.pin.sources()?;
        let named = named(&self.key, work)?;
        let usual = || match &named.key {
            Key::Pkcs11(uris) => usual_pin(uris.first()),
            Key::File(_) | Key::Jwk(_) => person().map(|person| Sources::new(vec![person])),
        };
        let pin = pin.or_else(|| named.pin.clone()).or_else(usual);
        Ok(config::Signer { pin, ..named })
    }

    /// As a signer that can sign.
    pub(super) fn signer(&self, work: &Work<'_>) -> Result<Arc<dyn Signer>, Failure> {
        // The certificates of its chain may be what is being asked for right now.
        let described = config::Signer { chain: None, ..self.resolve(work)? };
        Ok(pipeline::signer(&described, &work.modules, &work.context.clock)?)
    }

    /// As a device; `purpose` says in an error what a key file cannot do.
    pub(super) fn device(&self, work: &Work<'_>, purpose: &str) -> Result<Device, Failure> {
        let signer = self.resolve(work)?;
        let uri = uri_of(&signer, purpose)?.clone();
        Ok(pipeline::device(&work.modules, uri, signer.profile, signer.pin))
    }
}

impl PinOption {
    /// The place that was given, if one was.
    pub(super) fn sources(&self) -> Result<Option<Sources>, Failure> {
        self.source.as_ref().map(|source| source.sources("--pin", "PIN")).transpose()
    }
}

/// The signer that `key` names or, for a URI, one made up for it, without a PIN.
pub(super) fn named(key: &str, work: &Work<'_>) -> Result<config::Signer, Failure> {
    if is_pkcs11_uri(key) {
        let uri = key.parse::<Uri>()?;
        if let Some(slot) = uri.slot_id() {
            tracing::warn!("slot-id={slot} may be another device tomorrow; token= and serial= stay");
        }
        return Ok(config::Signer::new(key, Key::Pkcs11(uri.into())));
    }
    let mut config = match work.context.configuration_if_any()? {
        Some(config) => config,
        None => {
            return Err(Failure::needs_person(
                format!(
                    "{key:?} is no PKCS#11 URI, and there is no configuration that could name a signer so"
                ),
                "Write pkcs11:token=LABEL;object=LABEL; `segl keys` shows what there is.",
            ));
        }
    };
    match config.signers.remove(key) {
        Some(signer) => Ok(signer),
        None => Err(pipeline::Error::Unknown {
            what: "signer",
            name: key.to_owned(),
            known: config.signers.into_keys().collect(),
        }
        .into()),
    }
}

/// The URI of a signer in a device.
pub(super) fn uri_of<'a>(signer: &'a config::Signer, purpose: &str) -> Result<&'a Uri, Failure> {
    match &signer.key {
        Key::Pkcs11(uris) => uris.only().ok_or_else(|| {
            Failure::needs_person(
                format!("the signer {} has keys in several devices", signer.name),
                "Give the URI of one of them.",
            )
        }),
        Key::File(_) | Key::Jwk(_) => Err(Failure::needs_person(
            format!("the key of {} is no key in a device, so {purpose}", signer.name),
            "Give a PKCS#11 URI, or the name of a signer whose key is one.",
        )),
    }
}

/// Where the PIN comes from when nobody says it: from where the URI says, else from the person at the terminal.
pub(super) fn usual_pin(uri: &Uri) -> Option<Sources> {
    let of_uri = uri.pin_source().cloned();
    of_uri.or_else(person).map(|source| Sources::new(vec![source]))
}
