//! PKCS#11 return values: their names, and what each is good for.

use cryptoki::error::{Error as CryptokiError, RvError};

use crate::sign::{Error, Sought};

/// What the device answered, by the names of the standard (PKCS#11 2.40 section 5.1), `C_Sign` and `CKR_…`.
pub(super) fn answered(why: &CryptokiError) -> Error {
    match why {
        CryptokiError::Pkcs11(value, function) => {
            Error::Device { function: format!("C_{function:?}"), code: name_of(*value) }
        }
        other => Error::Device { function: "a call".into(), code: format!("an unreadable value ({other})") },
    }
}

/// `CKR_…` name of a return value; the number in hexadecimal for a vendor's own.
pub(super) fn name_of(value: RvError) -> String {
    if let RvError::VendorDefined(code) = value {
        return format!("{code:#010X}").replace("0X", "0x");
    }
    // The binding names its variants by the standard's names, in camel case.
    let mut name = String::from("CKR");
    for letter in format!("{value:?}").chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
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
pub(super) fn refuses_mechanism(value: RvError) -> bool {
    matches!(
        value,
        RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::KeyFunctionNotPermitted
            | RvError::KeyTypeInconsistent
            | RvError::FunctionNotSupported
            | RvError::DataLenRange
    )
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    fn device(function: Function, value: RvError) -> Error {
        answered(&CryptokiError::Pkcs11(value, function))
    }

    #[test]
    fn names_are_those_of_the_standard() {
        assert_eq!(
            device(Function::SignInit, RvError::KeyHandleInvalid).to_string(),
            "the device answered CKR_KEY_HANDLE_INVALID to C_SignInit"
        );
        assert_eq!(name_of(RvError::PinIncorrect), "CKR_PIN_INCORRECT");
        assert_eq!(name_of(RvError::RandomNoRng), "CKR_RANDOM_NO_RNG");
        assert_eq!(name_of(RvError::VendorDefined(0x8000_0384)), "0x80000384");
    }

    #[test]
    fn every_name_in_the_table_is_one_that_the_binding_can_give() {
        let known = [
            RvError::SessionHandleInvalid,
            RvError::SessionClosed,
            RvError::ObjectHandleInvalid,
            RvError::KeyHandleInvalid,
            RvError::OperationActive,
            RvError::OperationNotInitialized,
            RvError::UserNotLoggedIn,
            RvError::DeviceError,
            RvError::DeviceRemoved,
            RvError::TokenNotPresent,
            RvError::TokenNotRecognized,
            RvError::SlotIdInvalid,
            RvError::GeneralError,
            RvError::FunctionFailed,
            RvError::CryptokiNotInitialized,
        ];
        assert_eq!(known.map(name_of), GONE);
    }

    #[test]
    fn nothing_that_concerns_a_pin_or_writes_leads_to_a_second_try() {
        for value in [RvError::GeneralError, RvError::DeviceError, RvError::PinIncorrect, RvError::PinLocked]
        {
            assert!(!is_gone(&device(Function::Login, value)));
            assert!(!is_gone(&device(Function::GenerateKeyPair, value)));
            assert!(!is_gone(&device(Function::InitToken, value)));
            assert!(!is_gone(&device(Function::InitPIN, value)));
        }
        assert!(!is_gone(&device(Function::Sign, RvError::PinIncorrect)));
        assert!(is_gone(&device(Function::Sign, RvError::GeneralError)));
    }
}
