//! The extension `qcStatements` (RFC 3739 section 3.2.6), by which a certificate says that it is for a seal, and that it
//! is a qualified one (ETSI EN 319 412-5).

use pkcs8::{
    der::{self, Any, Decode, Encode, Sequence},
    spki::ObjectIdentifier,
};

/// 1.3.6.1.5.5.7.1.3.
pub(super) const EXTENSION: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 3];

const QC_COMPLIANCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.4.0.1862.1.1");
const QC_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.4.0.1862.1.6");
const QC_TYPE_ESEAL: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.4.0.1862.1.6.2");

#[derive(Sequence)]
struct Statement {
    id: ObjectIdentifier,
    info: Option<Any>,
}

/// What an eSeal says of itself, DER.
pub(super) fn of_a_seal(qualified: bool) -> der::Result<Vec<u8>> {
    let kind = Any::encode_from(&vec![QC_TYPE_ESEAL])?;
    let mut statements = vec![Statement { id: QC_TYPE, info: Some(kind) }];
    if qualified {
        statements.insert(0, Statement { id: QC_COMPLIANCE, info: None });
    }
    statements.to_der()
}

/// Whether the extension's content is that of a qualified eSeal.
pub(super) fn is_qualified_seal(content: &[u8]) -> bool {
    let Ok(statements) = Vec::<Statement>::from_der(content) else { return false };
    let types = |statement: &Statement| statement.info.as_ref()?.decode_as::<Vec<ObjectIdentifier>>().ok();
    statements.iter().any(|statement| statement.id == QC_COMPLIANCE)
        && statements.iter().any(|statement| {
            statement.id == QC_TYPE && types(statement).is_some_and(|types| types.contains(&QC_TYPE_ESEAL))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_says_that_it_is_a_qualified_seal_is_one() {
        let qualified = of_a_seal(true).unwrap();
        assert!(is_qualified_seal(&qualified));
        assert!(!is_qualified_seal(&of_a_seal(false).unwrap()));
        // The last byte says which type: 2 is a seal, 1 a person's signature.
        let mut signature = qualified;
        *signature.last_mut().unwrap() = 1;
        assert!(Vec::<Statement>::from_der(&signature).is_ok(), "or this test proves nothing");
        assert!(!is_qualified_seal(&signature));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = is_qualified_seal(&bytes);
        }
    }
}
