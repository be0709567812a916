//! What of a device's own words matches a URI (RFC 7512 section 2.5).

use super::Uri;

impl Uri {
    /// Whether what a library says of itself matches; `version` as `2.6`.
    pub(in super::super) fn matches_library(
        &self,
        manufacturer: &str,
        description: &str,
        version: &str,
    ) -> bool {
        let wanted = self.library_version.map(|(major, minor)| format!("{major}.{minor}"));
        same(self.library_manufacturer.as_deref(), manufacturer)
            && same(self.library_description.as_deref(), description)
            && same(wanted.as_deref(), version)
    }

    /// Whether a slot of this number, and what it says of itself, matches.
    pub(in super::super) fn matches_slot(&self, id: u64, manufacturer: &str, description: &str) -> bool {
        self.slot_id.is_none_or(|wanted| wanted == id)
            && same(self.slot_manufacturer.as_deref(), manufacturer)
            && same(self.slot_description.as_deref(), description)
    }

    /// Whether the URI names its slot or library, which costs more calls to compare.
    pub(in super::super) fn names_slot_or_library(&self) -> bool {
        self.slot_id.is_some()
            || self.slot_manufacturer.is_some()
            || self.slot_description.is_some()
            || self.library_manufacturer.is_some()
            || self.library_description.is_some()
            || self.library_version.is_some()
    }

    /// Whether what a device says of itself matches.
    pub(in super::super) fn matches_device(
        &self,
        token: &str,
        serial: &str,
        manufacturer: &str,
        model: &str,
    ) -> bool {
        same(self.token.as_deref(), token)
            && same(self.serial.as_deref(), serial)
            && same(self.manufacturer.as_deref(), manufacturer)
            && same(self.model.as_deref(), model)
    }

    /// Whether an object with this label and `CKA_ID` matches.
    pub(in super::super) fn matches_object(&self, label: &str, id: &[u8]) -> bool {
        same(self.object.as_deref(), label) && self.id.as_deref().is_none_or(|wanted| wanted == id)
    }
}

/// Devices pad their texts with blanks, some with NULs, and some write a label to the right of its field: none of that
/// counts, at neither end.
pub(in super::super) fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\0'])
}

fn same(wanted: Option<&str>, is: &str) -> bool {
    wanted.is_none_or(|wanted| trimmed(wanted) == trimmed(is))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_label_matches_whole_and_padding_does_not_count() {
        let uri = uri("pkcs11:token=ci;object=grant-");
        for label in ["ci          ", "ci\0\0", "          ci", "\0 ci \0"] {
            assert!(uri.matches_device(label, "1", "", ""), "{label:?}");
        }
        assert!(!uri.matches_device("cis", "1", "", ""));
        assert!(!uri.matches_device("c i", "1", "", ""));
        assert!(!uri.matches_device("CI", "1", "", ""));
        assert!(uri.matches_object("grant- ", b""));
        assert!(!uri.matches_object("grant-2026", b""));
    }

    #[test]
    fn an_id_is_compared_byte_by_byte() {
        let uri = uri("pkcs11:id=%01%20");
        assert!(uri.matches_object("", &[1, 0x20]));
        for id in [&[1][..], &[1, 0x20, 0], &[]] {
            assert!(!uri.matches_object("", id), "{id:?}");
        }
    }

    #[test]
    fn an_attribute_that_is_there_and_empty_matches_what_is_empty_alone() {
        assert!(uri("pkcs11:serial=").matches_device("ci", "", "", ""));
        assert!(uri("pkcs11:serial=").matches_device("ci", "                ", "", ""));
        assert!(!uri("pkcs11:serial=").matches_device("ci", "1", "", ""));
        assert!(!uri("pkcs11:id=").matches_object("", &[1]));
    }

    #[test]
    fn slot_number_0_is_a_number_like_any_other() {
        let zero = uri("pkcs11:slot-id=0");
        assert!(zero.names_slot_or_library());
        assert!(zero.matches_slot(0, "", "Reader"));
        assert!(!zero.matches_slot(1, "", "Reader"));
        assert!(uri("pkcs11:").matches_slot(1, "", "Reader"));
        assert!(!uri("pkcs11:slot-id=0;slot-description=Other").matches_slot(0, "", "Reader"));
    }

    #[test]
    fn a_library_version_without_its_minor_number_means_minor_0() {
        assert!(uri("pkcs11:library-version=2").matches_library("", "", "2.0"));
        assert!(!uri("pkcs11:library-version=2").matches_library("", "", "2.1"));
        assert!(uri("pkcs11:library-version=02.06").matches_library("", "", "2.6"));
    }

    proptest! {
        #[test]
        fn padding_at_either_end_never_decides(
            label in "[a-z]{1,8}( [a-z]{1,8})?",
            before in "[ \0]{0,4}",
            after in "[ \0]{0,4}",
        ) {
            let uri = Uri::of_device(&label, "");
            let padded = format!("{before}{label}{after}");
            prop_assert!(uri.matches_device(&padded, "1", "", ""));
        }
    }
}
