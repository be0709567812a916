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
        line(text, "problem", &printable(problem))?;
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
            let kind =
                [&device.model, &device.manufacturer].map(|part| printable(part.as_deref().unwrap_or("")));
            writeln!(text, "{} ({}): {}", printable(label), printable(serial), kind.join(", "))?;
        }
        _ => writeln!(text, "slot {}", printable(&device.slot))?,
    }
    line(text, "library", &library_name(module))?;
    if let Some(warning) = device.pin_warning() {
        line(text, "PIN", warning)?;
    }
    for problem in &device.problems {
        line(text, "problem", &printable(problem))?;
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
    let path = printable(&module.path.display().to_string());
    match &module.profile {
        Some(profile) => format!("{path} (profile {})", printable(profile)),
        None => path,
    }
}

fn write_key(text: &mut String, key: &KeyEntry) -> Result {
    let size = key.bits.map_or_else(String::new, |bits| format!("-{bits}"));
    line(text, "key", &format!("{}{size}", printable(&key.kind)))?;
    line(text, "label", &printable(&key.label))?;
    line(text, "id", &key.id)?;
    for certificate in &key.certificates {
        line(text, "certificate", &certificate_sentence(certificate))?;
    }
    line(text, "Maskinporten", &printable(&key.maskinporten.to_string()))?;
    line(text, "unattended", &printable(&key.unattended.to_string()))?;
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
    line(text, "label", &printable(&certificate.label))?;
    line(text, "id", &certificate.id)?;
    line(text, "Maskinporten", &printable(&maskinporten.to_string()))?;
    writeln!(text, "  {}", certificate.uri)
}

fn certificate_sentence(certificate: &CertificateEntry) -> String {
    match &certificate.content {
        None => format!("{}: it cannot be read", printable(&certificate.label)),
        Some(content) => content_sentence(content),
    }
}

/// Organisation, number, purpose, end.
pub(in crate::cli::keys) fn content_sentence(content: &Content) -> String {
    let who = printable(content.organisation.as_deref().unwrap_or("nobody"));
    let number = content.organisation_number.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
    format!("{who}{number}, {}, until {}", content.purpose, content.not_after)
}

/// `name` and `value` under a device.
pub(in crate::cli::keys) fn line(text: &mut String, name: &str, value: &str) -> Result {
    writeln!(text, "  {name:<12}  {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_cannot_steer_the_terminal_with_what_it_calls_itself() {
        let device = Device {
            slot_id: 0,
            slot: String::new(),
            uri: None,
            label: Some("Min nøkkel\u{1b}[2J\nyes".into()),
            serial: Some("\u{202e}1".into()),
            manufacturer: Some("Maker\u{7}".into()),
            model: None,
            initialized: Some(true),
            login_required: None,
            pin_pad: None,
            pin: None,
            pin_length: None,
            logged_in: false,
            keys: Vec::new(),
            certificates: Vec::new(),
            problems: vec!["away\u{9b}0m".into()],
        };
        let (path, devices) = ("/lib\u{1b}c.so".into(), vec![device]);
        let module =
            Module { path, named_by: Vec::new(), profile: None, library: None, devices, problem: None };
        let mut shown = String::new();
        write_module(&mut shown, &module).unwrap();
        assert_eq!(
            shown,
            "Min nøkkel\u{fffd}[2J\u{fffd}yes (\u{fffd}1): , Maker\u{fffd}\n  library       /lib\u{fffd}c.so\n  \
             problem       away\u{fffd}0m\n"
        );
    }
}
