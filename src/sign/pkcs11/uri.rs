//! PKCS#11 URIs (RFC 7512): how a person names a device or a key so that it is still found tomorrow.

mod parse;

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A PKCS#11 URI (RFC 7512). Attributes that are not given match anything.
///
/// Slot numbers are refused, since they change from one start to the next, and so are PINs, since a URI ends up in
/// logs and process lists. Vendor attributes (`x-…`) are passed over; every other unknown attribute is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uri {
    token: Option<String>,
    manufacturer: Option<String>,
    serial: Option<String>,
    model: Option<String>,
    library_manufacturer: Option<String>,
    library_description: Option<String>,
    library_version: Option<String>,
    slot_manufacturer: Option<String>,
    slot_description: Option<String>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    kind: Option<ObjectKind>,
    module_path: Option<PathBuf>,
    module_name: Option<String>,
    pin_source: Option<PathBuf>,
}

/// Value of the `type` attribute (RFC 7512 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// `cert`
    Certificate,
    /// `public`
    Public,
    /// `private`
    Private,
    /// `secret-key`
    SecretKey,
    /// `data`
    Data,
}

const SCHEME: &str = "pkcs11:";

/// RFC 7512 section 2.3: what may stand in a value as it is, besides letters and digits (`unreserved` and
/// `pk11-res-avail`). What we write is encoded a little more strictly, so that shells leave it alone.
const WRITTEN_AS_IT_IS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@');
const WRITTEN_IN_PATHS: &AsciiSet = &WRITTEN_AS_IT_IS.remove(b'/');

impl Uri {
    /// `token`: label of the device.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// `serial`: serial number of the device.
    #[must_use]
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// `object`: `CKA_LABEL`, compared whole.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// `id`: `CKA_ID`.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_deref()
    }

    /// `type`.
    #[must_use]
    pub fn kind(&self) -> Option<ObjectKind> {
        self.kind
    }

    /// `module-path`: absolute path of the PKCS#11 library.
    #[must_use]
    pub fn module_path(&self) -> Option<&Path> {
        self.module_path.as_deref()
    }

    /// `module-name`: name of a profile.
    #[must_use]
    pub fn module_name(&self) -> Option<&str> {
        self.module_name.as_deref()
    }

    /// `pin-source`: the file that holds the PIN. Only named here; who builds the signer reads it.
    #[must_use]
    pub fn pin_source(&self) -> Option<&Path> {
        self.pin_source.as_deref()
    }

    /// The device part alone: neither `object`, `id`, `type` nor the query.
    #[must_use]
    pub fn device(&self) -> Self {
        Self {
            object: None,
            id: None,
            kind: None,
            module_path: None,
            module_name: None,
            pin_source: None,
            ..self.clone()
        }
    }

    /// The same object in the library at `path`, which is absolute.
    #[must_use]
    pub fn with_module_path(self, path: PathBuf) -> Self {
        Self { module_path: Some(path), ..self }
    }

    /// The same object in the library of the profile called `name`.
    #[must_use]
    pub fn with_module_name(self, name: String) -> Self {
        Self { module_name: Some(name), ..self }
    }

    /// The same object, found the way that `other` says: its library and where its PIN is.
    #[must_use]
    pub fn with_query_of(self, other: &Self) -> Self {
        Self {
            module_path: other.module_path.clone(),
            module_name: other.module_name.clone(),
            pin_source: other.pin_source.clone(),
            ..self
        }
    }

    /// The device part from what a device says of itself; empty texts are left out.
    pub(super) fn of_device(token: &str, serial: &str) -> Self {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self { token: given(token), serial: given(serial), ..Self::default() }
    }

    /// The same device, and on it the object with this label and `CKA_ID`.
    pub(super) fn with_object(&self, label: &str, id: &[u8]) -> Self {
        Self {
            object: Some(label.to_owned()).filter(|label| !label.is_empty()),
            id: Some(id.to_vec()).filter(|id| !id.is_empty()),
            ..self.clone()
        }
    }

    /// The same, and only certificates.
    pub(super) fn of_certificate(self) -> Self {
        Self { kind: Some(ObjectKind::Certificate), ..self }
    }

    /// Whether what a library says of itself matches.
    pub(super) fn matches_library(&self, manufacturer: &str, description: &str, version: &str) -> bool {
        same(self.library_manufacturer.as_deref(), manufacturer)
            && same(self.library_description.as_deref(), description)
            && same(self.library_version.as_deref(), version)
    }

    /// Whether what a slot says of itself matches.
    pub(super) fn matches_slot(&self, manufacturer: &str, description: &str) -> bool {
        same(self.slot_manufacturer.as_deref(), manufacturer)
            && same(self.slot_description.as_deref(), description)
    }

    /// Whether the URI names its reader or library, which costs more calls to compare.
    pub(super) fn names_slot_or_library(&self) -> bool {
        self.slot_manufacturer.is_some()
            || self.slot_description.is_some()
            || self.library_manufacturer.is_some()
            || self.library_description.is_some()
            || self.library_version.is_some()
    }

    /// Whether what a device says of itself matches.
    pub(super) fn matches_device(&self, token: &str, serial: &str, manufacturer: &str, model: &str) -> bool {
        same(self.token.as_deref(), token)
            && same(self.serial.as_deref(), serial)
            && same(self.manufacturer.as_deref(), manufacturer)
            && same(self.model.as_deref(), model)
    }

    /// Whether an object with this label and `CKA_ID` matches.
    pub(super) fn matches_object(&self, label: &str, id: &[u8]) -> bool {
        same(self.object.as_deref(), label) && self.id.as_deref().is_none_or(|wanted| wanted == id)
    }
}

/// Devices pad their texts with blanks, some with NULs; neither counts.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_end_matches([' ', '\0'])
}

fn same(wanted: Option<&str>, is: &str) -> bool {
    wanted.is_none_or(|wanted| trimmed(wanted) == trimmed(is))
}

/// `text` with its control characters replaced: it goes to terminals and logs.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        let mut separator = "";
        let mut write = |name: &str, value: Option<&[u8]>| -> fmt::Result {
            if let Some(value) = value {
                let encoded = percent_encode(value, WRITTEN_AS_IT_IS);
                write!(f, "{separator}{name}={encoded}")?;
                separator = ";";
            }
            Ok(())
        };
        write("token", bytes(&self.token))?;
        write("manufacturer", bytes(&self.manufacturer))?;
        write("model", bytes(&self.model))?;
        write("serial", bytes(&self.serial))?;
        write("library-manufacturer", bytes(&self.library_manufacturer))?;
        write("library-description", bytes(&self.library_description))?;
        write("library-version", bytes(&self.library_version))?;
        write("slot-manufacturer", bytes(&self.slot_manufacturer))?;
        write("slot-description", bytes(&self.slot_description))?;
        write("object", bytes(&self.object))?;
        let id: Option<String> = self.id.as_ref().map(|id| hex_escaped(id));
        if let Some(id) = id {
            write!(f, "{separator}id={id}")?;
            separator = ";";
        }
        if let Some(kind) = self.kind {
            write!(f, "{separator}type={}", kind.name())?;
        }
        let mut separator = "?";
        let path =
            |path: &Path| percent_encode(path.as_os_str().as_encoded_bytes(), WRITTEN_IN_PATHS).to_string();
        let query = [
            (
                "module-name",
                self.module_name
                    .as_ref()
                    .map(|name| percent_encode(name.as_bytes(), WRITTEN_AS_IT_IS).to_string()),
            ),
            ("module-path", self.module_path.as_deref().map(path)),
            ("pin-source", self.pin_source.as_deref().map(|source| format!("file:{}", path(source)))),
        ];
        for (name, value) in query {
            if let Some(value) = value {
                write!(f, "{separator}{name}={value}")?;
                separator = "&";
            }
        }
        Ok(())
    }
}

fn bytes(text: &Option<String>) -> Option<&[u8]> {
    text.as_deref().map(str::as_bytes)
}

/// RFC 7512 section 2.3 recommends to write every byte of an `id` percent-encoded.
fn hex_escaped(id: &[u8]) -> String {
    id.iter().fold(String::with_capacity(id.len() * 3), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "%{byte:02X}");
        text
    })
}

impl ObjectKind {
    const ALL: [Self; 5] = [Self::Certificate, Self::Public, Self::Private, Self::SecretKey, Self::Data];

    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "cert",
            Self::Public => "public",
            Self::Private => "private",
            Self::SecretKey => "secret-key",
            Self::Data => "data",
        }
    }
}

impl Serialize for Uri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{parse::LONGEST, *};
    use crate::sign::Error;

    fn problem(uri: &str) -> String {
        match uri.parse::<Uri>() {
            Err(Error::Uri { problem, .. }) => problem,
            other => panic!("{uri}: {other:?}"),
        }
    }

    #[test]
    fn nothing_that_a_terminal_would_act_on_is_repeated_in_an_error() {
        for uri in ["pkcs11:\u{1b}[31mtoken=%", "pkcs11:token=\u{7}", "\u{1b}[31m", "pkcs11:to\0ken=a"] {
            let error = uri.parse::<Uri>().unwrap_err();
            let said = format!("{error} {}", error.remedy());
            assert!(!said.chars().any(char::is_control), "{said:?}");
        }
    }

    #[test]
    fn the_examples_of_rfc_7512_section_3_that_carry_no_pin_are_read() {
        let uri: Uri =
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;\
                        model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial="
                .parse()
                .unwrap();
        assert_eq!(uri.token(), Some("The Software PKCS#11 Softtoken"));
        assert_eq!(uri.id(), Some(&[0x69, 0x95, 0x3e, 0x5c, 0xf4, 0xbd, 0xec, 0x91][..]));
        assert_eq!(uri.kind(), Some(ObjectKind::Certificate));
        for other in [
            "pkcs11:",
            "pkcs11:object=my-pubkey;type=public",
            "pkcs11:object=my-key;type=private?pin-source=file:/etc/token",
            "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;\
             library-version=1.23;token=My%20token%20created%20by%20Joe",
            "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?module-path=/opt/a%26b.so",
        ] {
            assert!(other.parse::<Uri>().is_ok(), "{other}");
        }
    }

    #[test]
    fn slot_numbers_and_pins_are_refused_with_the_reason() {
        assert_eq!(problem("pkcs11:slot-id=0"), "slot numbers change; use token or serial");
        for uri in ["pkcs11:token=a?pin-value=1234", "pkcs11:token=a;pin-value=1234"] {
            assert!(problem(uri).starts_with("a PIN in a URI ends up in logs"));
        }
    }

    #[test]
    fn an_error_never_repeats_the_place_where_a_pin_might_stand() {
        for uri in [
            "pkcs11:token=a?pin-value=98765",
            "pkcs11:token=a;pin-value=98765",
            "pkcs11:PIN-value=98765",
            "pkcs11:token=a;Pin=98765",
            "pkcs11:token=a b?pin-source=98765",
        ] {
            let error = uri.parse::<Uri>().unwrap_err();
            assert!(!format!("{error} {error:?} {}", error.remedy()).contains("98765"), "{error}");
        }
    }

    #[test]
    fn unknown_attributes_are_refused_and_vendor_attributes_passed_over() {
        assert_eq!(problem("pkcs11:tokn=a"), "the attribute \"tokn\" is unknown");
        assert_eq!(problem("pkcs11:token=a?max-sessions=2"), "the attribute \"max-sessions\" is unknown");
        assert_eq!("pkcs11:x-muppet=cookie;token=a".parse::<Uri>().unwrap().token(), Some("a"));
    }

    #[test]
    fn what_the_grammar_does_not_allow_is_named() {
        for (uri, expected) in [
            ("pkcs12:token=a", "it does not begin with pkcs11:"),
            ("", "it does not begin with pkcs11:"),
            ("pkcs11:token", "an attribute has no ="),
            ("pkcs11:token=a;;serial=1", "an attribute has no ="),
            ("pkcs11:token=My Token", "a blank in token must be written %20"),
            ("pkcs11:token=%2", "a % in token is not followed by two hexadecimal digits"),
            ("pkcs11:token=%zz", "a % in token is not followed by two hexadecimal digits"),
            ("pkcs11:object=a/b", "a character in object must be percent-encoded (%2F)"),
            ("pkcs11:token=%FF", "token is not UTF-8"),
            ("pkcs11:token=a;token=b", "token stands there twice"),
            ("pkcs11:type=key", "type=key is unknown"),
            ("pkcs11:token=a?module-path=lib.so", "module-path must be an absolute path"),
            ("pkcs11:token=a?pin-source=|/bin/pin", "pin-source must be a file: here"),
        ] {
            assert_eq!(problem(uri), expected, "{uri}");
        }
        assert!(problem(&format!("pkcs11:token={}", "a".repeat(5000))).contains("longer"));
    }

    #[test]
    fn a_label_matches_whole_and_padding_does_not_count() {
        let uri: Uri = "pkcs11:token=ci;object=grant-".parse().unwrap();
        assert!(uri.matches_device("ci          ", "1", "", ""));
        assert!(uri.matches_device("ci\0\0", "1", "", ""));
        assert!(!uri.matches_device("cis", "1", "", ""));
        assert!(uri.matches_object("grant- ", b""));
        assert!(!uri.matches_object("grant-2026", b""));
    }

    #[test]
    fn a_path_is_decoded_once() {
        let uri: Uri = "pkcs11:?module-path=/a%2520b&pin-source=file:///c%2520d".parse().unwrap();
        assert_eq!(uri.module_path(), Some(Path::new("/a%20b")));
        assert_eq!(uri.pin_source(), Some(Path::new("/c%20d")));
    }

    #[test]
    fn a_uri_written_for_people_is_the_shortest_that_says_it() {
        let uri = Uri::of_device("Min nøkkel", "02A1").with_object("grant-2026", &[1, 0xfe]);
        assert_eq!(uri.to_string(), "pkcs11:token=Min%20n%C3%B8kkel;serial=02A1;object=grant-2026;id=%01%FE");
    }

    #[test]
    fn a_uri_takes_over_where_another_one_looks() {
        let given: Uri = "pkcs11:token=a;object=b?module-path=/m.so&pin-source=file:/p".parse().unwrap();
        let found = Uri::of_device("a", "1").with_query_of(&given);
        assert_eq!(found.to_string(), "pkcs11:token=a;serial=1?module-path=/m.so&pin-source=file:/p");
        let elsewhere = found.with_module_path("/n.so".into());
        assert_eq!(elsewhere.module_path(), Some(Path::new("/n.so")));
    }

    proptest! {
        #[test]
        fn every_uri_survives_being_written_and_read(
            token in proptest::option::of(".*"),
            serial in proptest::option::of("[0-9a-f]{0,16}"),
            library_description in proptest::option::of(".{0,9}"),
            slot_description in proptest::option::of(".{0,9}"),
            object in proptest::option::of(".*"),
            id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            kind in proptest::option::of(proptest::sample::select(ObjectKind::ALL.to_vec())),
            module in proptest::option::of("/.*"),
            module_name in proptest::option::of(".{0,9}"),
            pin_source in proptest::option::of("/[^/]\\PC*"),
        ) {
            let uri = Uri {
                token, serial, library_description, slot_description, object, id, kind, module_name,
                module_path: module.map(PathBuf::from),
                pin_source: pin_source.map(PathBuf::from),
                ..Uri::default()
            };
            let text = uri.to_string();
            prop_assume!(text.len() <= LONGEST);
            prop_assert_eq!(text.parse::<Uri>().unwrap(), uri);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(pkcs11:)?[a-z=;?&%0-9ø -]*", any in ".*") {
            let _ = text.parse::<Uri>();
            let _ = any.parse::<Uri>();
        }
    }
}
