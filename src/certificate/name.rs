use std::fmt;

use x509_parser::{
    asn1_rs::{Any, Tag},
    x509::X509Name,
};

use crate::language::printable;

pub(super) const COMMON_NAME: &str = "2.5.4.3";
pub(super) const SERIAL_NUMBER: &str = "2.5.4.5";
pub(super) const SURNAME: &str = "2.5.4.4";
pub(super) const COUNTRY: &str = "2.5.4.6";
pub(super) const GIVEN_NAME: &str = "2.5.4.42";
pub(super) const ORGANISATION: &str = "2.5.4.10";
pub(super) const ORGANISATION_IDENTIFIER: &str = "2.5.4.97";

/// A distinguished name (RFC 5280 section 4.1.2.4), with its values as text.
///
/// Every string type of X.520 is read, of any length; what is no text is shown in hexadecimal. Control characters
/// are replaced, so that a name can be printed on a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    der: Vec<u8>,
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    oid: String,
    text: String,
}

impl Name {
    pub(super) fn read(name: &X509Name<'_>) -> Self {
        let attributes = name
            .iter_attributes()
            .map(|attribute| Attribute {
                oid: attribute.attr_type().to_id_string(),
                text: text(attribute.attr_value()),
            })
            .collect();
        Self { der: name.as_raw().to_vec(), attributes }
    }

    /// DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The values of the attribute with this object identifier (dotted), in order.
    pub fn values<'a>(&'a self, oid: &'a str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter(move |attribute| attribute.oid == oid).map(|found| found.text.as_str())
    }

    /// Whether both are the same name: the same bytes, or the same values in another string type, case or spacing
    /// (RFC 5280 section 7.1). It says nothing about keys.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.der == other.der
            || (self.attributes.len() == other.attributes.len()
                && self.attributes.iter().zip(&other.attributes).all(|(ours, theirs)| {
                    ours.oid == theirs.oid && folded(&ours.text) == folded(&theirs.text)
                }))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, Attribute { oid, text }) in self.attributes.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{}=", short_name(oid).unwrap_or(oid))?;
            for character in text.chars() {
                // As in RFC 4514, so that a comma in a value does not look like the next attribute.
                if matches!(character, ',' | '+' | '\\' | '"') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        COMMON_NAME => "CN",
        SURNAME => "SN",
        SERIAL_NUMBER => "serialNumber",
        COUNTRY => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        ORGANISATION => "O",
        "2.5.4.11" => "OU",
        "2.5.4.15" => "businessCategory",
        GIVEN_NAME => "GN",
        ORGANISATION_IDENTIFIER => "organizationIdentifier",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "0.9.2342.19200300.100.1.25" => "DC",
        _ => return None,
    })
}

fn text(value: &Any<'_>) -> String {
    let bytes = value.data;
    let raw = match value.tag() {
        Tag::BmpString => {
            let units = bytes.chunks(2).map(|pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => u16::from(u8::MAX),
            });
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        Tag::UniversalString => bytes
            .chunks(4)
            .map(|four| {
                <[u8; 4]>::try_from(four)
                    .ok()
                    .and_then(|four| char::from_u32(u32::from_be_bytes(four)))
                    .unwrap_or(char::REPLACEMENT_CHARACTER)
            })
            .collect(),
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString
        | Tag::GeneralString
        | Tag::GraphicString
        | Tag::T61String => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            // Teletex strings of the nineties are Latin-1 in practice, whatever T.61 says.
            Err(_) => bytes.iter().copied().map(char::from).collect(),
        },
        _ => hex::encode(bytes),
    };
    printable(&raw)
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, DnValue, KeyPair,
        string::{BmpString, TeletexString, UniversalString},
    };

    use crate::certificate::Certificate;

    fn with_common_name(value: DnValue) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, value);
        let key = KeyPair::generate().unwrap();
        Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn every_string_type_of_x_520_is_read() {
        for value in [
            DnValue::Utf8String("Sjøfart AS".into()),
            DnValue::BmpString(BmpString::try_from("Sjøfart AS").unwrap()),
            DnValue::UniversalString(UniversalString::try_from("Sjøfart AS").unwrap()),
        ] {
            assert_eq!(with_common_name(value).common_name(), Some("Sjøfart AS"));
        }
        let teletex = DnValue::TeletexString(TeletexString::try_from("Sjofart AS").unwrap());
        assert_eq!(with_common_name(teletex).common_name(), Some("Sjofart AS"));
    }

    #[test]
    fn the_same_name_in_another_string_type_case_or_spacing_matches() {
        let one = with_common_name(DnValue::Utf8String("Fiktiv  Utsteder".into()));
        let other = with_common_name(DnValue::BmpString(BmpString::try_from("FIKTIV Utsteder").unwrap()));
        assert_ne!(one.subject().der(), other.subject().der());
        assert!(one.subject().matches(other.subject()));
        assert!(!one.subject().matches(with_common_name("Fiktiv Utsteder 2".into()).subject()));
    }

    #[test]
    fn a_name_of_more_than_64_characters_is_fine() {
        let long =
            "Samvirkelaget for svært lange navn på norske virksomheter, avdeling Bjørnafjorden".repeat(3);
        assert_eq!(with_common_name(long.as_str().into()).common_name(), Some(long.as_str()));
    }

    #[test]
    fn a_name_cannot_play_with_the_terminal_or_pose_as_another_attribute() {
        let shown = with_common_name("a\u{1b}[31m, O=Other".into()).subject().to_string();
        assert_eq!(shown, "CN=a\u{fffd}[31m\\, O=Other");
    }
}
