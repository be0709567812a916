//! `segl keys show`: everything that is known of what a URI names.

use std::{
    fmt::{Display, Result as Written, Write as _},
    io::Write,
};

use clap::Args;

use super::{
    Work,
    list::{Place, Seen, log_in},
    listing::{Content, plain},
    refused,
    target::{PinOption, named},
    unattended::Unattended,
};
use crate::{
    certificate::Certificate,
    cli::failure::Failure,
    jose::RsaPublicKey,
    pipeline,
    sign::pkcs11::{
        CertificateDescription, DeviceDescription, Installed, KeyDescription, MechanismDescription,
        ModuleDescription, NamedBy, PinState, SessionLimit, SlotDescription, Uri,
    },
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
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = named(&command.key, work)?;
    let (wanted, mut looked) = command.place.look(Some(&signer), work).await?;
    let given = command.pin.sources()?;
    let pin = match command.login || given.is_some() {
        true => log_in(&mut looked, &wanted, Some(&signer), given, work).await?,
        false => None,
    };
    let mut text = String::new();
    for looked in &looked {
        let Ok(shown) = &looked.shown else { continue };
        let Some(slot) = shown.slots.iter().find(|slot| is_named(slot, &wanted)) else { continue };
        // Asked once more, for this library alone: most of what follows costs a call each.
        let whole = match (&slot.device, slot.logged_in && (command.login || pin.is_some())) {
            (Some(device), true) => {
                let uri = device.uri.clone().with_module_path(looked.library.path.clone());
                pipeline::device(&work.modules, uri, None, pin.clone()).inspect(&work.call).await
            }
            _ => work.modules.inspect(&looked.library.path, &work.call).await,
        };
        let whole = whole.map_err(refused)?;
        // Writing to a String cannot fail.
        let _ = write_module(&mut text, &looked.library, &whole, &wanted);
    }
    if text.is_empty() {
        return Err(Seen::of(&looked).nothing_named(&wanted, !command.login));
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// Whether `wanted` names the device in `slot`, or something on it when it names an object.
fn is_named(slot: &SlotDescription, wanted: &Uri) -> bool {
    let has_device =
        slot.device.as_ref().is_some_and(|device| device.initialized && device.is_named_by(wanted));
    let names_object = wanted.object().is_some() || wanted.id().is_some() || wanted.kind().is_some();
    has_device
        && (!names_object
            || slot.keys.iter().any(|key| key.is_named_by(wanted))
            || slot.certificates.iter().any(|certificate| certificate.is_named_by(wanted)))
}

fn write_module(text: &mut String, library: &Installed, shown: &ModuleDescription, wanted: &Uri) -> Written {
    heading(text, "library")?;
    row(text, "file", shown.path.display())?;
    row(text, "named by", join(library.named_by.iter().map(NamedBy::to_string)))?;
    if let Some(says) = &shown.library {
        row(text, "manufacturer", &says.manufacturer)?;
        row(text, "description", &says.description)?;
        row(text, "version", &says.version)?;
        row(text, "PKCS#11", &says.cryptoki)?;
    }
    for slot in shown.slots.iter().filter(|slot| is_named(slot, wanted)) {
        let Some(device) = &slot.device else { continue };
        write_device(text, slot, device)?;
        for key in slot.keys.iter().filter(|key| key.is_named_by(wanted)) {
            write_key(text, key, device)?;
        }
        for certificate in slot.certificates.iter().filter(|it| it.is_named_by(wanted)) {
            write_certificate(text, certificate)?;
        }
    }
    Ok(())
}

fn write_device(text: &mut String, slot: &SlotDescription, device: &DeviceDescription) -> Written {
    heading(text, "device")?;
    row(text, "uri", &device.uri)?;
    row(text, "label", &device.label)?;
    row(text, "serial", &device.serial)?;
    row(text, "model", &device.model)?;
    row(text, "manufacturer", &device.manufacturer)?;
    row(text, "hardware", &device.hardware_version)?;
    row(text, "firmware", &device.firmware_version)?;
    row(text, "slot", &slot.description)?;
    row(text, "flags", device.flags.join(", "))?;
    row(text, "PIN", pin(device))?;
    row(text, "logged in", if slot.logged_in { "yes" } else { "no" })?;
    let sessions = &device.sessions;
    row(text, "sessions", counted(sessions.open, sessions.most))?;
    row(text, "to write", counted(sessions.open_rw, sessions.most_rw))?;
    for problem in &slot.problems {
        row(text, "problem", problem)?;
    }
    heading(text, "mechanisms")?;
    for MechanismDescription { name, key_size: (least, most), uses, .. } in &slot.mechanisms {
        let size = if (*least, *most) == (0, 0) { String::new() } else { format!("{least} to {most}  ") };
        let line = format!("  {:<32}  {size}{}", plain(name), join(uses));
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

fn write_key(text: &mut String, key: &KeyDescription, device: &DeviceDescription) -> Written {
    heading(text, "key")?;
    row(text, "uri", &key.uri)?;
    row(text, "label", &key.label)?;
    row(text, "id", &key.id)?;
    let size = key.bits.map_or_else(String::new, |bits| format!("-{bits}"));
    row(text, "type", format!("{}{size}", key.key_type))?;
    row(
        text,
        "to be seen",
        match (key.private, key.public) {
            (true, true) => "both halves",
            (true, false) => "the private half",
            _ => "the public half",
        },
    )?;
    let public_key = key.spki.as_deref().and_then(|spki| RsaPublicKey::from_spki(spki).ok());
    if let Some(public_key) = public_key {
        row(text, "thumbprint", public_key.thumbprint())?;
    }
    row(text, "unattended", Unattended::of(key, Some(device), false))?;
    for (name, value) in &key.attributes {
        writeln!(text, "  {:<24}  {}", plain(name), plain(value))?;
    }
    for certificate in &key.certificates {
        write_certificate(text, certificate)?;
    }
    Ok(())
}

fn write_certificate(text: &mut String, certificate: &CertificateDescription) -> Written {
    heading(text, "certificate")?;
    row(text, "uri", &certificate.uri)?;
    row(text, "label", &certificate.label)?;
    row(text, "id", &certificate.id)?;
    let read = match Certificate::from_der(&certificate.der) {
        Ok(read) => read,
        Err(problem) => return row(text, "problem", problem),
    };
    let content = Content::new(&read);
    row(text, "subject", &content.subject)?;
    row(text, "issuer", &content.issuer)?;
    if let Some(number) = &content.organisation_number {
        row(text, "organisation", number)?;
    }
    row(text, "purpose", &content.purpose)?;
    row(text, "valid", format!("{} to {}", content.not_before, content.not_after))?;
    row(text, "serial", &content.serial_number)?;
    row(text, "SHA-256", &content.fingerprint)
}

/// What the device says of its PIN.
fn pin(device: &DeviceDescription) -> String {
    let state = match device.pin {
        PinState::Good => "good",
        PinState::NotSet => "not set",
        PinState::ToBeChanged => "must be changed before the device is of use",
        PinState::CountLow => "a wrong one was entered since the last login",
        PinState::FinalTry => "one try is left",
        PinState::Locked => "locked",
    };
    let pad = if device.pin_pad { ", typed on the device" } else { "" };
    match device.pin_length {
        (_, 0) => format!("{state}{pad}"),
        (least, most) => format!("{state}{pad}; {least} to {most} characters"),
    }
}

fn counted(open: Option<u64>, most: SessionLimit) -> String {
    let open = open.map_or_else(|| "not said how many are open".into(), |open| format!("{open} open"));
    match most {
        SessionLimit::Unknown => format!("{open}, not said how many may be"),
        SessionLimit::Unlimited => format!("{open}, no limit"),
        SessionLimit::Most(most) => format!("{open}, {most} at most"),
    }
}

fn heading(text: &mut String, name: &str) -> Written {
    let separator = if text.is_empty() { "" } else { "\n" };
    writeln!(text, "{separator}{name}")
}

fn row(text: &mut String, name: &str, value: impl Display) -> Written {
    let line = format!("  {name:<12}  {}", plain(&value.to_string()));
    writeln!(text, "{}", line.trim_end())
}

fn join(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::keys::sample;

    #[test]
    fn a_limit_that_is_not_said_is_not_shown_as_none() {
        assert_eq!(counted(Some(2), SessionLimit::Most(16)), "2 open, 16 at most");
        assert_eq!(counted(Some(0), SessionLimit::Unlimited), "0 open, no limit");
        assert_eq!(
            counted(None, SessionLimit::Unknown),
            "not said how many are open, not said how many may be"
        );
    }

    #[test]
    fn the_state_of_the_pin_is_said_with_its_length() {
        let device = sample::device();
        assert_eq!(pin(&device), "good; 4 to 8 characters");
        let locked = DeviceDescription { pin: PinState::Locked, pin_pad: true, pin_length: (0, 0), ..device };
        assert_eq!(pin(&locked), "locked, typed on the device");
    }
}
