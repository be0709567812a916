//! `segl keys show`: everything that is known of what a URI names.

mod facts;
mod text;

use std::io::Write;

use clap::{Args, ValueEnum};

use self::{facts::Shown, text::text};
use super::{
    Work,
    configured::Configured,
    list::{Place, Seen, log_in},
    refused,
    target::{PinOption, named},
};
use crate::{
    cli::{failure::Failure, json},
    pipeline,
    sign::pkcs11::{SlotDescription, Uri},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    /// PKCS#11 URI of a device, key or certificate, or the name of a [signers.NAME] table
    #[arg(value_name = "URI|NAME")]
    key: String,
    #[command(flatten)]
    place: Place,
    /// Log in to the device, which shows the private keys that it hides otherwise
    #[arg(long)]
    login: bool,
    #[command(flatten)]
    pin: PinOption,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Lines for people
    Text,
    /// JSON; docs/keys-show.schema.json says what stands where
    Json,
}

impl Command {
    /// Whether libraries are loaded that others can change.
    pub(super) fn trusts_any(&self) -> bool {
        self.place.trust_module
    }
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = named(&command.key, work)?;
    let (wanted, mut looked) = command.place.look(Some(&signer), work).await?;
    let given = command.pin.sources()?;
    let configured = Configured::new(Some(signer), work);
    let pin = match command.login || given.is_some() {
        true => log_in(&mut looked, &wanted, &configured, given, work).await?,
        false => None,
    };
    let mut facts = Shown::new();
    for looked in &looked {
        let Ok(shown) = &looked.shown else { continue };
        let Some(slot) = shown.slots.iter().find(|slot| is_named(slot, &wanted)) else { continue };
        // Asked once more, for this library alone: most of what follows costs a call each.
        let whole = match (&slot.device, slot.logged_in && (command.login || pin.is_some())) {
            (Some(device), true) => {
                let uri =
                    device.uri.clone().with_slot_of(&wanted).with_module_path(looked.library.path.clone());
                pipeline::device(&work.modules, uri, None, pin.clone()).inspect(&work.call).await
            }
            _ => work.modules.inspect(&looked.library.path, &work.call).await,
        };
        facts.add(&looked.library, whole.map_err(refused)?, &wanted, &configured, work.modules.profiles());
    }
    if facts.modules.is_empty() {
        return Err(Seen::of(&looked).nothing_named(&wanted, !command.login));
    }
    match command.output {
        Output::Text => out.write_all(text(&facts).as_bytes())?,
        Output::Json => json::write(&facts, out)?,
    }
    Ok(())
}

/// Whether `wanted` names the device in `slot`, or something on it when it names an object.
fn is_named(slot: &SlotDescription, wanted: &Uri) -> bool {
    let has_device = slot.is_named_by(wanted)
        && slot.device.as_ref().is_some_and(|device| device.initialized && device.is_named_by(wanted));
    let names_object = wanted.object().is_some() || wanted.id().is_some() || wanted.kind().is_some();
    has_device
        && (!names_object
            || slot.keys.iter().any(|key| key.is_named_by(wanted))
            || slot.certificates.iter().any(|certificate| certificate.is_named_by(wanted)))
}
