//! Names of what a library answers (`CKR_…`, PKCS#11 2.40 and 3.2).

use cryptoki_sys::CK_RV;

/// Its name; a number in hexadecimal for a vendor's own and for those that no standard has.
pub(in super::super) fn name(code: u64) -> String {
    match NAMES.iter().find(|(known, _)| *known == code) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{code:#010x}"),
    }
}

/// The code of this name, as [`name`] gives it.
pub(in super::super) fn of(name: &str) -> Option<u64> {
    match NAMES.iter().find(|(_, known)| *known == name) {
        Some((code, _)) => Some(*code),
        None => u64::from_str_radix(name.strip_prefix("0x")?, 16).ok(),
    }
}

/// Every number that has a name, with it.
pub(in super::super) fn names() -> impl Iterator<Item = (u64, &'static str)> {
    NAMES.iter().copied()
}

macro_rules! names {
    ($($name:ident)*) => { &[$((cryptoki_sys::$name, stringify!($name))),*] };
}

const NAMES: &[(CK_RV, &str)] = names! {
    CKR_OK
    CKR_CANCEL
    CKR_HOST_MEMORY
    CKR_SLOT_ID_INVALID
    CKR_GENERAL_ERROR
    CKR_FUNCTION_FAILED
    CKR_ARGUMENTS_BAD
    CKR_NO_EVENT
    CKR_NEED_TO_CREATE_THREADS
    CKR_CANT_LOCK
    CKR_ATTRIBUTE_READ_ONLY
    CKR_ATTRIBUTE_SENSITIVE
    CKR_ATTRIBUTE_TYPE_INVALID
    CKR_ATTRIBUTE_VALUE_INVALID
    CKR_ACTION_PROHIBITED
    CKR_DATA_INVALID
    CKR_DATA_LEN_RANGE
    CKR_DEVICE_ERROR
    CKR_DEVICE_MEMORY
    CKR_DEVICE_REMOVED
    CKR_ENCRYPTED_DATA_INVALID
    CKR_ENCRYPTED_DATA_LEN_RANGE
    CKR_AEAD_DECRYPT_FAILED
    CKR_FUNCTION_CANCELED
    CKR_FUNCTION_NOT_PARALLEL
    CKR_FUNCTION_NOT_SUPPORTED
    CKR_KEY_HANDLE_INVALID
    CKR_KEY_SIZE_RANGE
    CKR_KEY_TYPE_INCONSISTENT
    CKR_KEY_NOT_NEEDED
    CKR_KEY_CHANGED
    CKR_KEY_NEEDED
    CKR_KEY_INDIGESTIBLE
    CKR_KEY_FUNCTION_NOT_PERMITTED
    CKR_KEY_NOT_WRAPPABLE
    CKR_KEY_UNEXTRACTABLE
    CKR_MECHANISM_INVALID
    CKR_MECHANISM_PARAM_INVALID
    CKR_OBJECT_HANDLE_INVALID
    CKR_OPERATION_ACTIVE
    CKR_OPERATION_NOT_INITIALIZED
    CKR_PIN_INCORRECT
    CKR_PIN_INVALID
    CKR_PIN_LEN_RANGE
    CKR_PIN_EXPIRED
    CKR_PIN_LOCKED
    CKR_SESSION_CLOSED
    CKR_SESSION_COUNT
    CKR_SESSION_HANDLE_INVALID
    CKR_SESSION_PARALLEL_NOT_SUPPORTED
    CKR_SESSION_READ_ONLY
    CKR_SESSION_EXISTS
    CKR_SESSION_READ_ONLY_EXISTS
    CKR_SESSION_READ_WRITE_SO_EXISTS
    CKR_SIGNATURE_INVALID
    CKR_SIGNATURE_LEN_RANGE
    CKR_TEMPLATE_INCOMPLETE
    CKR_TEMPLATE_INCONSISTENT
    CKR_TOKEN_NOT_PRESENT
    CKR_TOKEN_NOT_RECOGNIZED
    CKR_TOKEN_WRITE_PROTECTED
    CKR_UNWRAPPING_KEY_HANDLE_INVALID
    CKR_UNWRAPPING_KEY_SIZE_RANGE
    CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT
    CKR_USER_ALREADY_LOGGED_IN
    CKR_USER_NOT_LOGGED_IN
    CKR_USER_PIN_NOT_INITIALIZED
    CKR_USER_TYPE_INVALID
    CKR_USER_ANOTHER_ALREADY_LOGGED_IN
    CKR_USER_TOO_MANY_TYPES
    CKR_WRAPPED_KEY_INVALID
    CKR_WRAPPED_KEY_LEN_RANGE
    CKR_WRAPPING_KEY_HANDLE_INVALID
    CKR_WRAPPING_KEY_SIZE_RANGE
    CKR_WRAPPING_KEY_TYPE_INCONSISTENT
    CKR_RANDOM_SEED_NOT_SUPPORTED
    CKR_RANDOM_NO_RNG
    CKR_DOMAIN_PARAMS_INVALID
    CKR_CURVE_NOT_SUPPORTED
    CKR_BUFFER_TOO_SMALL
    CKR_SAVED_STATE_INVALID
    CKR_INFORMATION_SENSITIVE
    CKR_STATE_UNSAVEABLE
    CKR_CRYPTOKI_NOT_INITIALIZED
    CKR_CRYPTOKI_ALREADY_INITIALIZED
    CKR_MUTEX_BAD
    CKR_MUTEX_NOT_LOCKED
    CKR_NEW_PIN_MODE
    CKR_NEXT_OTP
    CKR_EXCEEDED_MAX_ITERATIONS
    CKR_FIPS_SELF_TEST_FAILED
    CKR_LIBRARY_LOAD_FAILED
    CKR_PIN_TOO_WEAK
    CKR_PUBLIC_KEY_INVALID
    CKR_FUNCTION_REJECTED
    CKR_TOKEN_RESOURCE_EXCEEDED
    CKR_OPERATION_CANCEL_FAILED
    CKR_KEY_EXHAUSTED
    CKR_PENDING
    CKR_SESSION_ASYNC_NOT_SUPPORTED
    CKR_SEED_RANDOM_REQUIRED
    CKR_OPERATION_NOT_VALIDATED
    CKR_TOKEN_NOT_INITIALIZED
    CKR_PARAMETER_SET_NOT_SUPPORTED
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_standard() {
        assert_eq!(name(0x00), "CKR_OK");
        assert_eq!(name(0x05), "CKR_GENERAL_ERROR");
        assert_eq!(name(0xa0), "CKR_PIN_INCORRECT");
        assert_eq!(name(0xb3), "CKR_SESSION_HANDLE_INVALID");
        assert_eq!(name(0x191), "CKR_CRYPTOKI_ALREADY_INITIALIZED");
        assert_eq!(name(0x203), "CKR_KEY_EXHAUSTED");
    }

    #[test]
    fn a_number_without_a_name_stands_for_itself() {
        assert_eq!(name(0x8000_0384), "0x80000384");
        assert_eq!(name(0x04), "0x00000004");
        assert_eq!(name(u64::MAX), "0xffffffffffffffff");
        for code in [0x05, 0x04, 0x8000_0384, u64::MAX] {
            assert_eq!(of(&name(code)), Some(code));
        }
        assert_eq!((of("CKR_NO_SUCH"), of("GENERAL_ERROR"), of("0xg")), (None, None, None));
    }

    #[test]
    fn no_number_has_two_names_and_the_table_is_in_order() {
        assert!(NAMES.is_sorted_by_key(|(code, _)| code));
        assert!(NAMES.windows(2).all(|pair| matches!(pair, [(one, _), (other, _)] if one != other)));
    }
}
