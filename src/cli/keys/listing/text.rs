//! The listing for people: a block for each device, the line to paste last in each key's part.

use std::fmt::{Result, Write as _};

use super::{CertificateEntry, Content, Device, KeyEntry, Listing, LoneCertificate, Module};
use crate::language::printable;

/// All of `listing`.
pub(in crate::cli::keys) fn text(listing: &Listing) -> String {
    let mut text = String::new();
    for module in &listing.modules {
        // Writing to a String cannot fail.
        let _ = write_module(&mut text, module);
    }
    text
}

fn write_module(text: &mut String, module: &Module) -> Result {
    for device in module.devices.iter().filter(|device| !device.is_blank()) {
        separate(text);
        write_device(text, module, device)?;
    }
    if let Some(problem) = &module.problem {
        separate(text);
        writeln!(text, "{}", library_name(module))?;
        line(text, "problem", &plain(problem))?;
    }
    Ok(())
}

fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push('\n');
    }
}

fn write_device(text: &mut String, module: &Module, device: &Device) -> Result {
    match (&device.label, &device.serial) {
        (Some(label), Some(serial)) => {
            let kind = [&device.model, &device.manufacturer].map(|part| plain(part.as_deref().unwrap_or("")));
            writeln!(text, "{} ({}): {}", plain(label), plain(serial), kind.join(", "))?;
        }
        _ => writeln!(text, "slot {}", plain(&device.slot))?,
    }
    line(text, "library", &library_name(module))?;
    if let Some(warning) = device.pin_warning() {
        line(text, "PIN", warning)?;
    }
    for problem in &device.problems {
        line(text, "problem", &plain(problem))?;
    }
    if device.keys.is_empty() && device.certificates.is_empty() && device.problems.is_empty() {
        line(text, "keys", "none to be seen")?;
    }
    for key in &device.keys {
        text.push('\n');
        write_key(text, key)?;
    }
    for certificate in &device.certificates {
        text.push('\n');
        write_lone(text, certificate)?;
    }
    Ok(())
}

fn library_name(module: &Module) -> String {
    let path = plain(&module.path.display().to_string());
    match &module.profile {
        Some(profile) => format!("{path} (profile {})", plain(profile)),
        None => path,
    }
}

fn write_key(text: &mut String, key: &KeyEntry) -> Result {
    let size = key.bits.map_or_else(String::new, |bits| format!("-{bits}"));
    line(text, "key", &format!("{}{size}", plain(&key.kind)))?;
    line(text, "label", &plain(&key.label))?;
    line(text, "id", &key.id)?;
    for certificate in &key.certificates {
        line(text, "certificate", &certificate_sentence(certificate))?;
    }
    line(text, "Maskinporten", &plain(&key.maskinporten.to_string()))?;
    line(text, "unattended", &plain(&key.unattended.to_string()))?;
    line(
        text,
        "extractable",
        match key.extractable {
            Some(true) => "yes: it can be copied out of the device",
            Some(false) => "no",
            None if key.private => "the device does not say",
            None => "unknown until login",
        },
    )?;
    writeln!(text, "  {}", key.uri)
}

fn write_lone(text: &mut String, LoneCertificate { certificate, maskinporten }: &LoneCertificate) -> Result {
    line(text, "certificate", &certificate_sentence(certificate))?;
    line(text, "label", &plain(&certificate.label))?;
    line(text, "id", &certificate.id)?;
    line(text, "Maskinporten", &plain(&maskinporten.to_string()))?;
    writeln!(text, "  {}", certificate.uri)
}

fn certificate_sentence(certificate: &CertificateEntry) -> String {
    match &certificate.content {
        None => format!("{}: it cannot be read", plain(&certificate.label)),
        Some(content) => content_sentence(content),
    }
}

/// Organisation, number, purpose, end.
pub(in crate::cli::keys) fn content_sentence(content: &Content) -> String {
    let who = plain(content.organisation.as_deref().unwrap_or("nobody"));
    let number = content.organisation_number.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
    format!("{who}{number}, {}, until {}", content.purpose, content.not_after)
}

/// `name` and `value` under a device.
pub(in crate::cli::keys) fn line(text: &mut String, name: &str, value: &str) -> Result {
    writeln!(text, "  {name:<12}  {value}")
}

/// What a device says, without what a terminal would act on.
pub(in crate::cli::keys) fn plain(text: &str) -> String {
    printable(text)
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
