//! The mechanisms that a report on signing keys is about.

use cryptoki_sys::{
    CKM_ECDSA, CKM_ECDSA_SHA256, CKM_ECDSA_SHA384, CKM_ECDSA_SHA512, CKM_RSA_PKCS, CKM_RSA_PKCS_PSS,
    CKM_RSA_X_509, CKM_SHA1_RSA_PKCS, CKM_SHA256_RSA_PKCS, CKM_SHA256_RSA_PKCS_PSS, CKM_SHA384_RSA_PKCS,
    CKM_SHA384_RSA_PKCS_PSS, CKM_SHA512_RSA_PKCS, CKM_SHA512_RSA_PKCS_PSS,
};

/// Those that sign with RSA or EC keys, in the order of the report.
const SIGNING: &[u64] = &[
    CKM_RSA_PKCS,
    CKM_RSA_X_509,
    CKM_SHA1_RSA_PKCS,
    CKM_SHA256_RSA_PKCS,
    CKM_SHA384_RSA_PKCS,
    CKM_SHA512_RSA_PKCS,
    CKM_RSA_PKCS_PSS,
    CKM_SHA256_RSA_PKCS_PSS,
    CKM_SHA384_RSA_PKCS_PSS,
    CKM_SHA512_RSA_PKCS_PSS,
    CKM_ECDSA,
    CKM_ECDSA_SHA256,
    CKM_ECDSA_SHA384,
    CKM_ECDSA_SHA512,
];

/// Those of `listed` that are known to sign, in the order of the report.
pub(super) fn signing(listed: &[u64]) -> impl Iterator<Item = u64> {
    SIGNING.iter().copied().filter(|number| listed.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::pkcs11::calls::mechanism_name;

    #[test]
    fn what_does_not_sign_is_passed_over_and_the_order_is_the_report_s() {
        let listed = signing(&[0x40, 0x00, 0x1041, 0x01, 0x8000_0001]);
        let names: Vec<String> = listed.map(mechanism_name).collect();
        assert_eq!(names, ["CKM_RSA_PKCS", "CKM_SHA256_RSA_PKCS", "CKM_ECDSA"]);
        assert!(SIGNING.iter().all(|number| mechanism_name(*number).starts_with("CKM_")));
    }
}
