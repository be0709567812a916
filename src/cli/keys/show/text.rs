//! The facts for people: a heading for each thing, and a line for each fact.

use std::fmt::{Display, Result as Written, Write as _};

use super::facts::{Certified, Device, Key, Limit, Mechanism, Module, Sessions, Shown};
use crate::{language::printable, sign::pkcs11::PinState};

/// All of `shown`.
pub(super) fn text(shown: &Shown) -> String {
    let mut text = String::new();
    for module in &shown.modules {
        // Writing to a String cannot fail.
        let _ = write_module(&mut text, module);
    }
    text
}

fn write_module(text: &mut String, module: &Module) -> Written {
    heading(text, "library")?;
    row(text, "file", module.file.display())?;
    row(text, "named by", module.named_by.join(", "))?;
    if let Some(says) = &module.library {
        row(text, "manufacturer", &says.manufacturer)?;
        row(text, "description", &says.description)?;
        row(text, "version", &says.version)?;
        row(text, "PKCS#11", &says.cryptoki)?;
    }
    module.devices.iter().try_for_each(|device| write_device(text, device))
}

fn write_device(text: &mut String, device: &Device) -> Written {
    heading(text, "device")?;
    row(text, "uri", &device.uri)?;
    row(text, "label", &device.label)?;
    row(text, "serial", &device.serial)?;
    row(text, "model", &device.model)?;
    row(text, "manufacturer", &device.manufacturer)?;
    row(text, "hardware", &device.hardware_version)?;
    row(text, "firmware", &device.firmware_version)?;
    row(text, "slot", format!("{} ({})", device.slot_id, device.slot))?;
    row(text, "flags", device.flags.join(", "))?;
    row(text, "PIN", pin(device.pin, device.pin_pad, device.pin_length))?;
    row(text, "logged in", if device.logged_in { "yes" } else { "no" })?;
    row(text, "sessions", counted(&device.sessions))?;
    row(text, "to write", counted(&device.rw_sessions))?;
    for problem in &device.problems {
        row(text, "problem", problem)?;
    }
    heading(text, "mechanisms")?;
    for Mechanism { name, key_size: (least, most), uses } in &device.mechanisms {
        let size = if (*least, *most) == (0, 0) { String::new() } else { format!("{least} to {most}  ") };
        let line = format!("  {:<32}  {size}{}", printable(name), uses.join(", "));
        writeln!(text, "{}", line.trim_end())?;
    }
    device.keys.iter().try_for_each(|key| write_key(text, key))?;
    device.certificates.iter().try_for_each(|certificate| write_certificate(text, certificate))
}

fn write_key(text: &mut String, key: &Key) -> Written {
    heading(text, "key")?;
    row(text, "uri", &key.uri)?;
    row(text, "label", &key.label)?;
    row(text, "id", &key.id)?;
    let size = key.bits.map_or_else(String::new, |bits| format!("-{bits}"));
    row(text, "type", format!("{}{size}", key.kind))?;
    row(
        text,
        "to be seen",
        match (key.private, key.public) {
            (true, true) => "both halves",
            (true, false) => "the private half",
            _ => "the public half",
        },
    )?;
    if let Some(thumbprint) = &key.thumbprint {
        row(text, "thumbprint", thumbprint)?;
    }
    row(text, "unattended", &key.unattended)?;
    for attribute in &key.attributes {
        writeln!(text, "  {:<24}  {}", printable(&attribute.name), printable(&attribute.value))?;
    }
    key.certificates.iter().try_for_each(|certificate| write_certificate(text, certificate))
}

fn write_certificate(text: &mut String, Certified { certificate, problem }: &Certified) -> Written {
    heading(text, "certificate")?;
    row(text, "uri", &certificate.uri)?;
    row(text, "label", &certificate.label)?;
    row(text, "id", &certificate.id)?;
    if let Some(problem) = problem {
        row(text, "problem", problem)?;
    }
    let Some(content) = &certificate.content else { return Ok(()) };
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
fn pin(state: PinState, pad: bool, length: (u64, u64)) -> String {
    let state = match state {
        PinState::Good => "good",
        PinState::NotSet => "not set",
        PinState::ToBeChanged => "must be changed before the device is of use",
        PinState::CountLow => "a wrong one was entered since the last login",
        PinState::FinalTry => "one try is left",
        PinState::Locked => "locked",
    };
    let pad = if pad { ", typed on the device" } else { "" };
    match length {
        (_, 0) => format!("{state}{pad}"),
        (least, most) => format!("{state}{pad}; {least} to {most} characters"),
    }
}

fn counted(sessions: &Sessions) -> String {
    let open = match sessions.open {
        None => "not said how many are open".into(),
        Some(open) => format!("{open} open"),
    };
    match sessions.most {
        Limit::Unknown => format!("{open}, not said how many may be"),
        Limit::Unlimited => format!("{open}, no limit"),
        Limit::Most(most) => format!("{open}, {most} at most"),
    }
}

fn heading(text: &mut String, name: &str) -> Written {
    let separator = if text.is_empty() { "" } else { "\n" };
    writeln!(text, "{separator}{name}")
}

fn row(text: &mut String, name: &str, value: impl Display) -> Written {
    let line = format!("  {name:<12}  {}", printable(&value.to_string()));
    writeln!(text, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_said_is_not_shown_as_none() {
        let said = |open, most| counted(&Sessions { open, most });
        assert_eq!(said(Some(2), Limit::Most(16)), "2 open, 16 at most");
        assert_eq!(said(Some(0), Limit::Unlimited), "0 open, no limit");
        assert_eq!(said(None, Limit::Unknown), "not said how many are open, not said how many may be");
    }

    #[test]
    fn the_state_of_the_pin_is_said_with_its_length() {
        assert_eq!(pin(PinState::Good, false, (4, 8)), "good; 4 to 8 characters");
        assert_eq!(pin(PinState::Locked, true, (0, 0)), "locked, typed on the device");
    }
}
