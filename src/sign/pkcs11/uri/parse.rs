//! From text to URI: the grammar of RFC 7512 section 2.3.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;

use super::{LibraryVersion, ObjectKind, SCHEME, Thumbprint, Uri, printable};
use crate::{
    jose::from_base64url,
    secret::{self, Source},
    sign::Error,
};

/// Longer than any URI that names something real; what is read from files and the command line is bounded.
pub(super) const LONGEST: usize = 4096;

/// The attributes of the path, and then those of the query.
const IN_PATH: [&str; 15] = [
    "token",
    "manufacturer",
    "serial",
    "model",
    "library-manufacturer",
    "library-description",
    "library-version",
    "slot-manufacturer",
    "slot-description",
    "slot-id",
    "object",
    "id",
    "type",
    "x5t-S256",
    "jkt",
];
const IN_QUERY: [&str; 3] = ["module-path", "module-name", "pin-source"];

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
        let (name, value) = split(attribute)?;
        if IN_QUERY.contains(&name) {
            return Err(format!("{name} stands behind a ?, not behind a ;"));
        }
        check_characters(name, value, "&")?;
        uri.set_path_attribute(name, value)?;
    }
    if let Some(query) = query {
        for attribute in query.split('&').filter(|_| !query.is_empty()) {
            let (name, value) = split(attribute)?;
            if IN_PATH.contains(&name) {
                return Err(format!("{name} stands before the ? or behind a ;, not behind ? or &"));
            }
            check_characters(name, value, "/?|")?;
            uri.set_query_attribute(name, value)?;
        }
    }
    Ok(uri)
}

/// Splits one attribute at its equals sign.
fn split(attribute: &str) -> Result<(&str, &str), String> {
    let (name, value) = attribute.split_once('=').ok_or("an attribute has no =")?;
    // Checked before anything is said about it: the words below repeat the name.
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err("the name of an attribute has a character that none has, or is empty".into());
    }
    Ok((name, value))
}

/// Checks the characters of a value: `more` are those allowed there besides the usual ones.
fn check_characters(name: &str, value: &str, more: &str) -> Result<(), String> {
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
    Ok(())
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
            "library-version" => once(&mut self.library_version, name, version(value)?),
            "slot-manufacturer" => once(&mut self.slot_manufacturer, name, text(name, value)?),
            "slot-description" => once(&mut self.slot_description, name, text(name, value)?),
            "slot-id" => once(&mut self.slot_id, name, slot_number(value)?),
            "object" => once(&mut self.object, name, text(name, value)?),
            "id" => once(&mut self.id, name, percent_decode_str(value).collect()),
            "type" => {
                let kind = ObjectKind::ALL.into_iter().find(|kind| kind.name() == value);
                once(&mut self.kind, name, kind.ok_or_else(|| format!("type={value} is unknown"))?)
            }
            "x5t-S256" => once(&mut self.certificate_thumbprint, name, thumbprint(name, value)?),
            "jkt" => once(&mut self.key_thumbprint, name, thumbprint(name, value)?),
            _ => {
                misspelt(name)?;
                // Passed over, it would match more than was asked for.
                let is_vendors = name.starts_with("x-");
                if is_vendors { Ok(()) } else { Err(format!("the attribute {name:?} is unknown")) }
            }
        }
    }

    fn set_query_attribute(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "module-path" => once(&mut self.module_path, name, path(name, decoded(value))?),
            "module-name" => once(&mut self.module_name, name, text(name, value)?),
            "pin-source" => once(&mut self.pin_source, name, pin_source(value)?),
            // A vendor's: RFC 7512 section 2.5 passes over what is not known here.
            _ => misspelt(name),
        }
    }
}

/// Refuses a name that is meant to be a known one, or that a PIN may stand behind.
fn misspelt(name: &str) -> Result<(), String> {
    let plain = name.to_ascii_lowercase().replace('_', "-");
    if plain.split('-').any(|word| word.starts_with("pin") || word == "password") {
        return Err("a PIN in a URI ends up in logs; name its source with pin = on the signer".into());
    }
    let distance = |known: &str| strsim::osa_distance(&plain, &known.to_ascii_lowercase());
    let near = |known: &&&str| distance(known) <= if known.len() < 5 { 1 } else { 2 };
    let known = IN_PATH.iter().chain(&IN_QUERY);
    match known.filter(near).min_by_key(|known| distance(known)) {
        Some(nearest) => Err(format!("the attribute {name:?} is unknown; did you mean {nearest}?")),
        None => Ok(()),
    }
}

fn once<T>(field: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    if field.replace(value).is_some() { Err(format!("{name} stands there twice")) } else { Ok(()) }
}

fn decoded(value: &str) -> Vec<u8> {
    percent_decode_str(value).collect()
}

fn text(name: &str, value: &str) -> Result<String, String> {
    String::from_utf8(decoded(value)).map_err(|_| format!("{name} is not UTF-8"))
}

/// A path is bytes, and need not be UTF-8.
fn path(name: &str, value: Vec<u8>) -> Result<PathBuf, String> {
    if value.contains(&0) {
        return Err(format!("{name} has a NUL, and no path has one"));
    }
    let path = PathBuf::from(OsString::from_vec(value));
    if path.is_absolute() { Ok(path) } else { Err(format!("{name} must be an absolute path")) }
}

/// `M` or `M.N` (RFC 7512 section 2.3); the minor number is 0 when it is not there.
fn version(value: &str) -> Result<LibraryVersion, String> {
    let (major, minor) = value.split_once('.').unwrap_or((value, "0"));
    match (number(major), number(minor)) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err("library-version is a number or two with a dot between, each 0 to 255".into()),
    }
}

fn slot_number(value: &str) -> Result<u64, String> {
    number(value).ok_or_else(|| "slot-id is a decimal number".into())
}

/// Digits and nothing else: the standard parser would take a plus sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// As base64url (43 characters), or as 64 hexadecimal digits with or without colons, as other tools print it.
fn thumbprint(name: &str, value: &str) -> Result<Thumbprint, String> {
    let value = text(name, value)?;
    let bytes = match value.len() {
        43 => from_base64url(&value),
        95 if value.split(':').all(|pair| pair.len() == 2) => hex::decode(value.replace(':', "")).ok(),
        _ => hex::decode(&value).ok(),
    };
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        format!("{name} is a SHA-256 thumbprint: 43 characters of base64url, or 64 hexadecimal digits")
    })
}

/// A file, as a `file:` URI of this machine or as a path alone, or a systemd credential. What would run a program, or
/// read what other programs see, is named in the configuration, which not everybody can write, and not in a URI.
fn pin_source(value: &str) -> Result<Source, String> {
    const NAME: &str = "pin-source";
    let value = decoded(value);
    if let Some(rest) = value.strip_prefix(b"file:") {
        let rest = rest.strip_prefix(b"//").map_or(rest, |rest| {
            rest.strip_prefix(b"localhost").filter(|path| path.starts_with(b"/")).unwrap_or(rest)
        });
        return path(NAME, rest.to_vec()).map(Source::File);
    }
    if value.starts_with(b"/") {
        return path(NAME, value).map(Source::File);
    }
    if value.starts_with(b"|") || value.starts_with(b"exec:") {
        return Err(
            "no program that a URI names is run for a PIN; write pin = \"exec:…\" on the signer".into()
        );
    }
    match std::str::from_utf8(&value).map(str::parse) {
        Ok(Ok(source @ Source::Credential(_))) => Ok(source),
        Ok(Err(secret::Malformed::CredentialName)) => Err(secret::Malformed::CredentialName.to_string()),
        _ => Err("pin-source is file:PATH, an absolute path or credential:NAME here".into()),
    }
}

/// As much of a refused URI as may stand in an error: nothing from where a PIN might be, and nothing that a terminal
/// would act on.
fn shown(text: &str) -> String {
    let text = printable(text);
    let lower = text.to_ascii_lowercase();
    let end =
        ["?", "pin", "password"].iter().filter_map(|start| lower.get(SCHEME.len()..)?.find(start)).min();
    let end = end.map(|end| end + SCHEME.len());
    let end = end.unwrap_or(text.len()).min(200);
    match text.char_indices().map(|(at, _)| at).find(|at| *at >= end) {
        None => text,
        Some(cut) => format!("{}…", text.get(..cut).unwrap_or_default()),
    }
}
