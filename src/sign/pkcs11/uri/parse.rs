//! From text to URI: the grammar of RFC 7512 section 2.3.

use std::{path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;

use super::{ObjectKind, SCHEME, Uri, printable};
use crate::sign::Error;

/// Longer than any URI that names something real; what is read from files and the command line is bounded.
pub(super) const LONGEST: usize = 4096;

impl FromStr for Uri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|problem| Error::Uri { uri: shown(text), problem })
    }
}

fn parse(text: &str) -> Result<Uri, String> {
    if text.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} characters"));
    }
    let scheme = text.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
    let rest = text.get(SCHEME.len()..).filter(|_| scheme.is_some());
    let rest = rest.ok_or("it does not begin with pkcs11:")?;
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let mut uri = Uri::default();
    for attribute in path.split(';').filter(|_| !path.is_empty()) {
        let (name, value) = split(attribute, "&")?;
        uri.set_path_attribute(name, value)?;
    }
    if let Some(query) = query {
        for attribute in query.split('&').filter(|_| !query.is_empty()) {
            let (name, value) = split(attribute, "/?|")?;
            uri.set_query_attribute(name, value)?;
        }
    }
    Ok(uri)
}

/// Splits one attribute and checks its characters: `more` are those allowed here besides the usual ones.
fn split<'a>(attribute: &'a str, more: &str) -> Result<(&'a str, &'a str), String> {
    let (name, value) = attribute.split_once('=').ok_or("an attribute has no =")?;
    // Checked before anything is said about it: the words below repeat the name.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err("the name of an attribute has a character that none has".into());
    }
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next(), rest.next()];
                if !hex.iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())) {
                    return Err(format!("a % in {name} is not followed by two hexadecimal digits"));
                }
            }
            b' ' => return Err(format!("a blank in {name} must be written %20")),
            _ if byte.is_ascii_alphanumeric()
                || b"-._~:[]@!$'()*+,=".contains(&byte)
                || more.as_bytes().contains(&byte) => {}
            _ => return Err(format!("a character in {name} must be percent-encoded (%{byte:02X})")),
        }
    }
    Ok((name, value))
}

impl Uri {
    fn set_path_attribute(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "token" => once(&mut self.token, name, text(name, value)?),
            "manufacturer" => once(&mut self.manufacturer, name, text(name, value)?),
            "serial" => once(&mut self.serial, name, text(name, value)?),
            "model" => once(&mut self.model, name, text(name, value)?),
            "library-manufacturer" => once(&mut self.library_manufacturer, name, text(name, value)?),
            "library-description" => once(&mut self.library_description, name, text(name, value)?),
            "library-version" => once(&mut self.library_version, name, text(name, value)?),
            "slot-manufacturer" => once(&mut self.slot_manufacturer, name, text(name, value)?),
            "slot-description" => once(&mut self.slot_description, name, text(name, value)?),
            "object" => once(&mut self.object, name, text(name, value)?),
            "id" => once(&mut self.id, name, percent_decode_str(value).collect()),
            "type" => {
                let kind = ObjectKind::ALL.into_iter().find(|kind| kind.name() == value);
                once(&mut self.kind, name, kind.ok_or_else(|| format!("type={value} is unknown"))?)
            }
            "slot-id" => Err("slot numbers change; use token or serial".into()),
            "pin-value" => Err(PIN_IN_URI.into()),
            _ => unknown(name),
        }
    }

    fn set_query_attribute(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "module-path" => once(&mut self.module_path, name, absolute(name, &text(name, value)?)?),
            "module-name" => once(&mut self.module_name, name, text(name, value)?),
            "pin-source" => {
                let value = text(name, value)?;
                let path = value.strip_prefix("file:").ok_or("pin-source must be a file: here")?;
                let path = path.strip_prefix("//").unwrap_or(path);
                once(&mut self.pin_source, name, absolute(name, path)?)
            }
            "pin-value" => Err(PIN_IN_URI.into()),
            _ => unknown(name),
        }
    }
}

const PIN_IN_URI: &str = "a PIN in a URI ends up in logs; name its source with pin = on the signer";

fn once<T>(field: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    if field.replace(value).is_some() { Err(format!("{name} stands there twice")) } else { Ok(()) }
}

fn text(name: &str, value: &str) -> Result<String, String> {
    let decoded = percent_decode_str(value).decode_utf8();
    decoded.map(Into::into).map_err(|_| format!("{name} is not UTF-8"))
}

fn absolute(name: &str, value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    if path.is_absolute() { Ok(path) } else { Err(format!("{name} must be an absolute path")) }
}

fn unknown(name: &str) -> Result<(), String> {
    if name.starts_with("x-") { Ok(()) } else { Err(format!("the attribute {name:?} is unknown")) }
}

/// As much of a refused URI as may stand in an error: nothing from where a PIN might be, and nothing that a terminal
/// would act on.
fn shown(text: &str) -> String {
    let text = printable(text);
    let lower = text.to_ascii_lowercase();
    let end = ["?", ";pin", ":pin", "&pin"].iter().filter_map(|start| lower.find(start)).min();
    let end = end.unwrap_or(text.len()).min(200);
    match text.char_indices().map(|(at, _)| at).find(|at| *at >= end) {
        None => text,
        Some(cut) => format!("{}…", text.get(..cut).unwrap_or_default()),
    }
}
