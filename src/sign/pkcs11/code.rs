//! PKCS#11 return values: what each is good for.

use super::calls::{Failure, code_name};
use crate::sign::{Error, Sought};

/// What the device answered, by the names of the standard (PKCS#11 2.40 section 5.1), `C_Sign` and `CKR_…`.
pub(super) fn answered(failure: &Failure) -> Error {
    match failure {
        Failure::Answered { function, code } => {
            Error::Device { function: (*function).to_owned(), code: code_name(*code) }
        }
        Failure::Unusable { function, problem } => Error::Device {
            function: (*function).to_owned(),
            code: format!("what cannot be used: {problem}"),
        },
    }
}

/// Whether `failure` is the answer of this name.
pub(super) fn is(failure: &Failure, name: &str) -> bool {
    matches!(failure, Failure::Answered { code, .. } if code_name(*code) == name)
}

/// Session, login, handle or link is gone: the library is to be initialized anew and everything found again.
const GONE: &[&str] = &[
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_SESSION_CLOSED",
    "CKR_OBJECT_HANDLE_INVALID",
    "CKR_KEY_HANDLE_INVALID",
    "CKR_OPERATION_ACTIVE",
    "CKR_OPERATION_NOT_INITIALIZED",
    "CKR_USER_NOT_LOGGED_IN",
    "CKR_DEVICE_ERROR",
    "CKR_DEVICE_REMOVED",
    "CKR_TOKEN_NOT_PRESENT",
    "CKR_TOKEN_NOT_RECOGNIZED",
    "CKR_SLOT_ID_INVALID",
    "CKR_GENERAL_ERROR",
    "CKR_FUNCTION_FAILED",
    "CKR_CRYPTOKI_NOT_INITIALIZED",
];

/// These may have done their work before they failed: they are not called twice.
const NOT_TWICE: &[&str] =
    &["C_GenerateKeyPair", "C_CreateObject", "C_DestroyObject", "C_Login", "C_InitToken", "C_InitPIN"];

/// The key may do with another mechanism what it did not do with this one.
const REFUSES_MECHANISM: &[&str] = &[
    "CKR_MECHANISM_INVALID",
    "CKR_MECHANISM_PARAM_INVALID",
    "CKR_KEY_FUNCTION_NOT_PERMITTED",
    "CKR_KEY_TYPE_INCONSISTENT",
    "CKR_FUNCTION_NOT_SUPPORTED",
    "CKR_DATA_LEN_RANGE",
    "CKR_DATA_INVALID",
];

/// Whether initializing the library anew may help.
pub(super) fn is_gone(error: &Error) -> bool {
    match error {
        Error::Device { function, code } => {
            GONE.contains(&code.as_str()) && !NOT_TWICE.contains(&function.as_str())
        }
        _ => false,
    }
}

/// Whether the device may have been plugged in or made since the library was initialized.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::NotFound { sought: Sought::Device, .. })
}

/// Whether the key may do with another mechanism what it did not do with this one.
pub(super) fn refuses_mechanism(failure: &Failure) -> bool {
    match failure {
        Failure::Answered { code, .. } => REFUSES_MECHANISM.contains(&code_name(*code).as_str()),
        Failure::Unusable { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(function: &'static str, code: u64) -> Failure {
        Failure::Answered { function, code }
    }

    const GENERAL_ERROR: u64 = 0x05;
    const DEVICE_ERROR: u64 = 0x30;
    const KEY_HANDLE_INVALID: u64 = 0x60;
    const MECHANISM_INVALID: u64 = 0x70;
    const PIN_INCORRECT: u64 = 0xa0;
    const PIN_LOCKED: u64 = 0xa4;

    #[test]
    fn names_are_those_of_the_standard() {
        assert_eq!(
            answered(&failure("C_SignInit", KEY_HANDLE_INVALID)).to_string(),
            "the device answered CKR_KEY_HANDLE_INVALID to C_SignInit"
        );
        assert!(is(&failure("C_Login", PIN_INCORRECT), "CKR_PIN_INCORRECT"));
        assert!(refuses_mechanism(&failure("C_SignInit", MECHANISM_INVALID)));
        assert!(!refuses_mechanism(&failure("C_SignInit", DEVICE_ERROR)));
    }

    #[test]
    fn every_name_in_the_tables_is_one_that_a_code_has() {
        let names: Vec<String> = (0..0x300).map(code_name).collect();
        for wanted in GONE.iter().chain(REFUSES_MECHANISM) {
            assert!(names.iter().any(|name| name == wanted), "{wanted}");
        }
    }

    #[test]
    fn nothing_that_concerns_a_pin_or_writes_leads_to_a_second_try() {
        for code in [GENERAL_ERROR, DEVICE_ERROR, PIN_INCORRECT, PIN_LOCKED] {
            for function in NOT_TWICE {
                assert!(!is_gone(&answered(&failure(function, code))), "{function} {code}");
            }
        }
        assert!(!is_gone(&answered(&failure("C_Sign", PIN_INCORRECT))));
        assert!(is_gone(&answered(&failure("C_Sign", GENERAL_ERROR))));
    }
}
