//! `segl keys [list]`: every device, key and certificate that one PKCS#11 library shows.

use std::{fmt::Write as _, io::Write, path::PathBuf};

use clap::{Args, ValueEnum};

use super::{
    Work,
    listing::{CertificateEntry, Content, DeviceEntry, KeyEntry, Listing},
    refused, say,
    target::{PinOption, named, uri_of, usual_pin},
};
use crate::{
    cli::failure::Failure,
    config::{Key, Signer},
    pipeline,
    secret::Sources,
    sign::pkcs11::{DeviceDescription, ModuleDescription, Uri},
};

#[derive(Debug, Args)]
// It stands among the arguments of another one of this name, and groups bear the names of their types.
#[group(skip)]
pub(super) struct Command {
    /// Only what this PKCS#11 URI names, or the device of this [signers.NAME] table
    #[arg(value_name = "URI|NAME")]
    key: Option<String>,
    /// PKCS#11 library to ask [default: that of the URI, the profile, or the one known kind installed here]
    #[arg(long, value_name = "PATH", conflicts_with = "profile")]
    module: Option<PathBuf>,
    /// Kind of device, which says where its library lies
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Log in to the device, which shows the private keys that it hides otherwise
    #[arg(long)]
    login: bool,
    #[command(flatten)]
    pin: PinOption,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Lines for people; the last of each key is the one to paste
    Table,
    /// JSON
    Json,
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = match &command.key {
        Some(key) => Some(named(key, work)?),
        None => None,
    };
    let wanted = match &signer {
        Some(signer) => uri_of(signer, "it is in none of the devices that are listed here")?.clone(),
        None => Uri::default(),
    };
    let wanted = match (&command.module, &command.profile) {
        (Some(path), _) => wanted.with_module_path(std::path::absolute(path)?),
        // Without the library in the line to paste, another profile's might be taken there.
        (None, Some(name)) => {
            let library = work.modules.profiles().library_for(&wanted, Some(name))?;
            wanted.with_module_path(library)
        }
        (None, None) => wanted,
    };
    let profile = signer.as_ref().and_then(|signer| signer.profile.as_deref());
    let library = work.modules.profiles().library_for(&wanted, profile)?;
    let mut shown = work.modules.describe(&library, None, &work.call).await?;
    let given = command.pin.sources()?;
    if command.login || given.is_some() {
        let device = the_one_device(&shown, &wanted);
        let configured = signer.as_ref().and_then(|signer| signer.pin.clone());
        let pin = given.or(configured).or_else(|| pin_on(device, work)).or_else(|| usual_pin(&wanted));
        let uri = device.map_or_else(|| wanted.device(), |device| device.uri.clone());
        let device = pipeline::device(&work.modules, uri.with_module_path(library), None, pin);
        shown = device.describe(&work.call).await.map_err(refused)?;
    }
    let listing = Listing::new(shown, &wanted, work.context.clock().wall());
    match command.output {
        Output::Json => {
            let json = serde_json::to_string_pretty(&listing).map_err(std::io::Error::from)?;
            writeln!(out, "{json}")?;
        }
        Output::Table => out.write_all(table(&listing).as_bytes())?,
    }
    explain(&listing);
    Ok(())
}

/// The initialized device that `uri` names, when there is exactly one.
fn the_one_device<'a>(shown: &'a ModuleDescription, uri: &Uri) -> Option<&'a DeviceDescription> {
    let devices = shown.slots.iter().filter_map(|slot| slot.device.as_ref());
    let mut named = devices.filter(|device| device.initialized && device.is_named_by(uri));
    named.next().filter(|_| named.next().is_none())
}

/// Where the configuration says that the PIN of `device` is, on any signer there.
fn pin_on(device: Option<&DeviceDescription>, work: &Work<'_>) -> Option<Sources> {
    let device = device?;
    let config = work.context.configuration_if_any().unwrap_or_else(|_| {
        tracing::warn!("the configuration is wrong and is passed over; `segl config check` says why");
        None
    });
    let on_device = |signer: &Signer| match &signer.key {
        // A URI that fits every device may be meant for another one, and a wrong PIN costs a try.
        Key::Pkcs11(uri) => (uri.token().or(uri.serial())).is_some() && device.is_named_by(uri),
        Key::File(_) | Key::Jwk(_) => false,
    };
    let signers = config.into_iter().flat_map(|config| config.signers.into_values());
    signers.filter(on_device).find_map(|signer| signer.pin)
}

/// What a person should know about what is not shown.
fn explain(listing: &Listing) {
    let library = listing.module.display();
    if listing.devices.iter().all(DeviceEntry::is_blank) {
        say(format!("No device that is set up shows itself through {library}."));
        say("Plug it in, start its service, or initialize it with the vendor's tool.");
    }
    for device in listing.devices.iter().filter(|device| device.may_hide_keys()) {
        let name = device.device.as_ref().map_or("a device", |device| &device.label);
        say(format!("Private keys may be hidden on {} until login: add --login.", plain(name)));
    }
}

fn table(listing: &Listing) -> String {
    let mut text = String::new();
    for device in listing.devices.iter().filter(|device| !device.is_blank()) {
        let separator = if text.is_empty() { "" } else { "\n" };
        text.push_str(separator);
        // Writing to a String cannot fail.
        let _ = write_device(&mut text, device);
    }
    text
}

fn write_device(text: &mut String, entry: &DeviceEntry) -> std::fmt::Result {
    match &entry.device {
        Some(device) => {
            let kind = [&device.model, &device.manufacturer].map(|part| plain(part)).join(", ");
            writeln!(text, "{} ({}): {kind}", plain(&device.label), plain(&device.serial))?;
        }
        None => writeln!(text, "slot {}", plain(&entry.slot))?,
    }
    if let Some(warning) = entry.pin_warning() {
        line(text, "PIN", warning)?;
    }
    for problem in &entry.problems {
        line(text, "problem", &plain(problem))?;
    }
    if entry.keys.is_empty() && entry.certificates.is_empty() && entry.problems.is_empty() {
        line(text, "keys", "none to be seen")?;
    }
    for key in &entry.keys {
        text.push('\n');
        write_key(text, key)?;
    }
    for certificate in &entry.certificates {
        text.push('\n');
        line(text, "certificate", &certificate_sentence(certificate))?;
        line(text, "label", &plain(&certificate.label))?;
        writeln!(text, "  {}", certificate.uri)?;
    }
    Ok(())
}

fn write_key(text: &mut String, key: &KeyEntry) -> std::fmt::Result {
    let size = key.bits.map_or_else(String::new, |bits| format!("-{bits}"));
    line(text, "key", &format!("{}{size}", plain(&key.kind)))?;
    line(text, "label", &plain(&key.label))?;
    line(text, "id", &key.id)?;
    for certificate in &key.certificates {
        line(text, "certificate", &certificate_sentence(certificate))?;
    }
    line(text, "Maskinporten", &plain(&key.maskinporten.to_string()))?;
    writeln!(text, "  {}", key.uri)
}

fn certificate_sentence(certificate: &CertificateEntry) -> String {
    match &certificate.content {
        None => format!("{}: it cannot be read", plain(&certificate.label)),
        Some(content) => content_sentence(content),
    }
}

/// Organisation, number, purpose, end.
pub(super) fn content_sentence(content: &Content) -> String {
    let who = plain(content.organisation.as_deref().unwrap_or("nobody"));
    let number = content.organisation_number.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
    format!("{who}{number}, {}, until {}", content.purpose, content.not_after)
}

fn line(text: &mut String, name: &str, value: &str) -> std::fmt::Result {
    writeln!(text, "  {name:<12}  {value}")
}

/// What a device says, without what a terminal would act on.
fn plain(text: &str) -> String {
    text.chars().map(|sign| if sign.is_control() { '\u{fffd}' } else { sign }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_cannot_steer_the_terminal_with_its_label() {
        assert_eq!(plain("ci\u{1b}[2J\nyes"), "ci\u{fffd}[2J\u{fffd}yes");
        assert_eq!(plain("Min nøkkel"), "Min nøkkel");
    }
}
