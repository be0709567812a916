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

/// What was asked is wrong, and asking a library that was initialized anew gives the same answer. Everything else, a
/// vendor's own codes among it, may mean that session, login, handle or link is gone.
const CALLERS_FAULT: &[&str] = &[
    "CKR_ACTION_PROHIBITED",
    "CKR_ARGUMENTS_BAD",
    "CKR_ATTRIBUTE_READ_ONLY",
    "CKR_ATTRIBUTE_SENSITIVE",
    "CKR_ATTRIBUTE_TYPE_INVALID",
    "CKR_ATTRIBUTE_VALUE_INVALID",
    "CKR_BUFFER_TOO_SMALL",
    "CKR_DATA_INVALID",
    "CKR_DATA_LEN_RANGE",
    "CKR_DOMAIN_PARAMS_INVALID",
    "CKR_FUNCTION_NOT_SUPPORTED",
    "CKR_KEY_FUNCTION_NOT_PERMITTED",
    "CKR_KEY_SIZE_RANGE",
    "CKR_KEY_TYPE_INCONSISTENT",
    "CKR_MECHANISM_INVALID",
    "CKR_MECHANISM_PARAM_INVALID",
    "CKR_PIN_EXPIRED",
    "CKR_PIN_INCORRECT",
    "CKR_PIN_INVALID",
    "CKR_PIN_LEN_RANGE",
    "CKR_PIN_LOCKED",
    "CKR_PIN_TOO_WEAK",
    "CKR_TEMPLATE_INCOMPLETE",
    "CKR_TEMPLATE_INCONSISTENT",
    "CKR_TOKEN_WRITE_PROTECTED",
    "CKR_USER_PIN_NOT_INITIALIZED",
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

/// Whether the library answered so, as opposed to what Segl found out by itself.
pub(super) fn is_answer(error: &Error) -> bool {
    matches!(error, Error::Device { .. })
}

/// Whether initializing the library anew may help.
pub(super) fn is_gone(error: &Error) -> bool {
    match error {
        Error::Device { function, code } => {
            let answered = code.starts_with("CKR_") || code.starts_with("0x");
            answered && !CALLERS_FAULT.contains(&code.as_str()) && !NOT_TWICE.contains(&function.as_str())
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
        for wanted in CALLERS_FAULT.iter().chain(REFUSES_MECHANISM) {
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
        assert!(is_gone(&answered(&failure("C_Sign", 0x8000_0384))), "a vendor's link is gone");
        assert!(!is_gone(&answered(&failure("C_SignInit", MECHANISM_INVALID))));
    }
}
