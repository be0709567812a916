//! What a certificate says of itself under the European regulation: the qcStatements of RFC 3739 section 3.2.6, with the
//! statements of ETSI EN 319 412-5, EN 319 412-1 and TS 119 495.

use der::{AnyRef, Decode, Reader, SliceReader, Tag, Tagged, asn1::ObjectIdentifier};

use crate::language::printable;

/// The statements of a certificate. They are its issuer's word, and prove nothing by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QcStatements {
    /// QcCompliance: a qualified certificate.
    pub compliance: bool,
    /// QcType: what it is qualified for.
    pub types: Vec<QcType>,
    /// QcSSCD: its key is in a qualified signature or seal creation device.
    pub qscd: bool,
    /// Whose name the subject is.
    pub semantics: Option<Semantics>,
    /// QcCClegislation: countries outside the European Union by whose law it is qualified; empty: by the Union's.
    pub legislation: Vec<String>,
    /// The payment service provider's roles and supervisor.
    pub psd2: Option<Psd2>,
}

/// What a certificate is qualified for (ETSI EN 319 412-5 section 4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QcType {
    /// Signatures of a person.
    Signature,
    /// Seals of an organisation.
    Seal,
    /// Authentication of a web site.
    Web,
    /// Something newer.
    Other,
}

/// Whose name the subject is (ETSI EN 319 412-1 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Semantics {
    /// A person.
    NaturalPerson,
    /// An organisation.
    LegalPerson,
}

/// The statement of a payment service provider (ETSI TS 119 495 section 5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Psd2 {
    /// `PSP_AS`, `PSP_PI`, `PSP_AI`, `PSP_IC`.
    pub roles: Vec<String>,
    /// The supervisor's name.
    pub supervisor: Option<String>,
}

const PKIX_SYNTAX_2: &str = "1.3.6.1.5.5.7.11.2";
const COMPLIANCE: &str = "0.4.0.1862.1.1";
const QSCD: &str = "0.4.0.1862.1.4";
const TYPE: &str = "0.4.0.1862.1.6";
const LEGISLATION: &str = "0.4.0.1862.1.7";
const PSD2: &str = "0.4.0.19495.2";

/// More than anybody states.
const MOST: usize = 64;

impl QcStatements {
    /// Reads the value of the extension `1.3.6.1.5.5.7.1.3`; `None` when it is no list of statements. A statement whose
    /// information is damaged counts as one that says nothing further.
    pub(super) fn read(extension: &[u8]) -> Option<Self> {
        let mut statements = Self::default();
        for statement in elements(AnyRef::from_der(extension).ok()?)? {
            let parts = elements(statement)?;
            let id = oid(parts.first()?)?;
            let information = parts.get(1).copied();
            match id.as_str() {
                COMPLIANCE => statements.compliance = true,
                QSCD => statements.qscd = true,
                TYPE => statements
                    .types
                    .extend(inside(information).iter().filter_map(oid).map(|id| QcType::of(&id))),
                LEGISLATION => statements.legislation.extend(inside(information).iter().map(text)),
                PSD2 => statements.psd2 = Some(Psd2::read(information)),
                PKIX_SYNTAX_2 => {
                    let named = inside(information).first().and_then(oid);
                    statements.semantics = named.and_then(|id| Semantics::of(&id));
                }
                // It has no meaning here.
                _ => {}
            }
        }
        Some(statements)
    }

    /// Whether it says to be qualified for seals, by the law of the Union or of another country.
    #[must_use]
    pub fn is_qualified_seal(&self) -> bool {
        self.compliance && self.types.contains(&QcType::Seal)
    }
}

impl QcType {
    fn of(id: &str) -> Self {
        match id {
            "0.4.0.1862.1.6.1" => Self::Signature,
            "0.4.0.1862.1.6.2" => Self::Seal,
            "0.4.0.1862.1.6.3" => Self::Web,
            _ => Self::Other,
        }
    }
}

impl Semantics {
    fn of(id: &str) -> Option<Self> {
        match id {
            "0.4.0.194121.1.1" | "0.4.0.194121.1.3" => Some(Self::NaturalPerson),
            "0.4.0.194121.1.2" | "0.4.0.194121.1.4" => Some(Self::LegalPerson),
            _ => None,
        }
    }
}

impl Psd2 {
    fn read(information: Option<AnyRef<'_>>) -> Self {
        let parts = inside(information);
        let roles =
            inside(parts.first().copied()).into_iter().filter_map(|role| inside(Some(role)).get(1).map(text));
        Self { roles: roles.collect(), supervisor: parts.get(1).map(text) }
    }
}

/// What is in a sequence or set; `None` when `value` is neither, or its content is damaged.
fn elements(value: AnyRef<'_>) -> Option<Vec<AnyRef<'_>>> {
    if !matches!(value.tag(), Tag::Sequence | Tag::Set) {
        return None;
    }
    let mut reader = SliceReader::new(value.value()).ok()?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        if found.len() == MOST {
            return None;
        }
        found.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(found)
}

fn inside(value: Option<AnyRef<'_>>) -> Vec<AnyRef<'_>> {
    value.and_then(elements).unwrap_or_default()
}

fn oid(value: &AnyRef<'_>) -> Option<String> {
    value.decode_as::<ObjectIdentifier>().ok().map(|id| id.to_string())
}

/// As text that can be printed on a terminal.
fn text(value: &AnyRef<'_>) -> String {
    let shown = String::from_utf8_lossy(value.value());
    printable(&shown.chars().take(200).collect::<String>())
}

#[cfg(test)]
pub(crate) mod sample {
    //! Extensions for certificates of tests.

    use der::{Encode, asn1::ObjectIdentifier};

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match content.len() {
            short @ 0..=127 => out.push(short as u8),
            long => out.extend([0x82, (long >> 8) as u8, long as u8]),
        }
        out.extend_from_slice(content);
        out
    }

    pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
        tlv(0x30, &parts.concat())
    }

    pub(crate) fn oid(dotted: &str) -> Vec<u8> {
        ObjectIdentifier::new(dotted).unwrap().to_der().unwrap()
    }

    fn statement(id: &str, information: &[Vec<u8>]) -> Vec<u8> {
        let head = vec![oid(id)];
        sequence(&if information.is_empty() { head } else { [head, vec![sequence(information)]].concat() })
    }

    pub(crate) fn compliance() -> Vec<u8> {
        statement(super::COMPLIANCE, &[])
    }

    pub(crate) fn qscd() -> Vec<u8> {
        statement(super::QSCD, &[])
    }

    pub(crate) fn kind(number: u8) -> Vec<u8> {
        statement(super::TYPE, &[oid(&format!("0.4.0.1862.1.6.{number}"))])
    }

    pub(crate) fn semantics(number: u8) -> Vec<u8> {
        statement(super::PKIX_SYNTAX_2, &[oid(&format!("0.4.0.194121.1.{number}"))])
    }

    pub(crate) fn legislation(country: &str) -> Vec<u8> {
        statement(super::LEGISLATION, &[tlv(0x13, country.as_bytes())])
    }

    pub(crate) fn psd2(role: &str, supervisor: &str) -> Vec<u8> {
        let role = sequence(&[oid("0.4.0.19495.1.1"), tlv(0x0c, role.as_bytes())]);
        let parts = [sequence(&[role]), tlv(0x0c, supervisor.as_bytes()), tlv(0x0c, b"XX-NCA")];
        statement(super::PSD2, &parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Psd2, QcStatements, QcType, Semantics, sample::*};

    #[test]
    fn a_qualified_seal_on_a_device_says_so() {
        let read = QcStatements::read(&sequence(&[compliance(), qscd(), kind(2), semantics(2)])).unwrap();
        assert!(read.is_qualified_seal() && read.qscd);
        assert_eq!((read.types, read.semantics), (vec![QcType::Seal], Some(Semantics::LegalPerson)));
    }

    #[test]
    fn a_type_without_compliance_is_not_qualified() {
        assert!(!QcStatements::read(&sequence(&[kind(2)])).unwrap().is_qualified_seal());
        assert!(!QcStatements::read(&sequence(&[compliance(), kind(1)])).unwrap().is_qualified_seal());
    }

    #[test]
    fn the_law_of_another_country_and_a_payment_service_provider_are_named() {
        let read = QcStatements::read(&sequence(&[legislation("CH"), psd2("PSP_AI", "Tilsynet")])).unwrap();
        assert_eq!(read.legislation, ["CH"]);
        assert_eq!(
            read.psd2,
            Some(Psd2 { roles: vec!["PSP_AI".into()], supervisor: Some("Tilsynet".into()) })
        );
    }

    #[test]
    fn a_statement_that_nobody_knows_does_not_hide_the_others() {
        let unknown = sequence(&[oid("1.2.3.4"), vec![5, 0]]);
        let read = QcStatements::read(&sequence(&[unknown, compliance()])).unwrap();
        assert_eq!(read, QcStatements { compliance: true, ..QcStatements::default() });
    }

    #[test]
    fn what_is_no_list_of_statements_is_none() {
        for damaged in [&[][..], &[0x30], &[5, 0], &[0x30, 2, 5, 0], &[0x30, 2, 0x30, 0]] {
            assert_eq!(QcStatements::read(damaged), None, "{damaged:?}");
        }
    }

    proptest! {
        #[test]
        fn damaged_statements_never_panic(place in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut der = sequence(&[compliance(), qscd(), kind(2), semantics(2), legislation("CH"), psd2("PSP_AS", "x")]);
            let place = place.index(der.len());
            der[place] = value;
            let _ = QcStatements::read(&der);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = QcStatements::read(&bytes);
        }
    }
}
