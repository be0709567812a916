//! From URI to text: the shortest that says it, in the order in which people read it.

use std::{
    fmt::{self, Write as _},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::{SCHEME, Uri};
use crate::{jose::base64url, secret::Source};

/// RFC 7512 section 2.3: what may stand in a value as it is, besides letters and digits (`unreserved` and
/// `pk11-res-avail`). What we write is encoded a little more strictly, so that shells leave it alone.
const WRITTEN_AS_IT_IS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@');
const WRITTEN_IN_PATHS: &AsciiSet = &WRITTEN_AS_IT_IS.remove(b'/');

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        let path = [
            ("token", self.token.as_deref().map(encoded)),
            ("manufacturer", self.manufacturer.as_deref().map(encoded)),
            ("model", self.model.as_deref().map(encoded)),
            ("serial", self.serial.as_deref().map(encoded)),
            ("library-manufacturer", self.library_manufacturer.as_deref().map(encoded)),
            ("library-description", self.library_description.as_deref().map(encoded)),
            ("library-version", self.library_version.map(|(major, minor)| format!("{major}.{minor}"))),
            ("slot-manufacturer", self.slot_manufacturer.as_deref().map(encoded)),
            ("slot-description", self.slot_description.as_deref().map(encoded)),
            ("slot-id", self.slot_id.map(|id| id.to_string())),
            ("object", self.object.as_deref().map(encoded)),
            ("id", self.id.as_deref().map(hex_escaped)),
            ("type", self.kind.map(|kind| kind.name().to_owned())),
            ("x5t-S256", self.certificate_thumbprint.map(base64url)),
            ("jkt", self.key_thumbprint.map(base64url)),
        ];
        write_all(f, path, "", ";")?;
        let query = [
            ("module-name", self.module_name.as_deref().map(encoded)),
            ("module-path", self.module_path.as_deref().map(encoded_path)),
            ("pin-source", self.pin_source.as_ref().map(encoded_source)),
        ];
        write_all(f, query, "?", "&")
    }
}

fn write_all<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    attributes: [(&str, Option<String>); N],
    first: &str,
    between: &str,
) -> fmt::Result {
    let mut separator = first;
    for (name, value) in attributes {
        if let Some(value) = value {
            write!(f, "{separator}{name}={value}")?;
            separator = between;
        }
    }
    Ok(())
}

fn encoded(text: &str) -> String {
    percent_encode(text.as_bytes(), WRITTEN_AS_IT_IS).to_string()
}

fn encoded_path(path: &Path) -> String {
    percent_encode(path.as_os_str().as_bytes(), WRITTEN_IN_PATHS).to_string()
}

fn encoded_source(source: &Source) -> String {
    match source {
        // What follows two slashes is a host, so a path that begins with two is written after an empty one.
        Source::File(path) if path.as_os_str().as_bytes().starts_with(b"//") => {
            format!("file://{}", encoded_path(path))
        }
        Source::File(path) => format!("file:{}", encoded_path(path)),
        other => encoded(&other.to_string()),
    }
}

/// RFC 7512 section 2.3 recommends to write every byte of an `id` percent-encoded.
fn hex_escaped(id: &[u8]) -> String {
    id.iter().fold(String::with_capacity(id.len() * 3), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "%{byte:02X}");
        text
    })
}
