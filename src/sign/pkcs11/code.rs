//! PKCS#11 return values as errors; what each is good for, [`super::ladder`] says.

use super::calls::{Failure, code_name, code_names};
use crate::sign::Error;

/// The name of what a library answers, as errors have it: `CKR_…`, or the number for a vendor's own.
#[must_use]
pub fn return_value_name(code: u64) -> String {
    code_name(code)
}

/// Every number of a return value that has a name (PKCS#11 2.40 and 3.2), with it.
pub fn return_values() -> impl Iterator<Item = (u64, &'static str)> {
    code_names()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY_HANDLE_INVALID: u64 = 0x60;
    const PIN_INCORRECT: u64 = 0xa0;

    #[test]
    fn names_are_those_of_the_standard() {
        let failure = |function, code| Failure::Answered { function, code };
        assert_eq!(
            answered(&failure("C_SignInit", KEY_HANDLE_INVALID)).to_string(),
            "the device answered CKR_KEY_HANDLE_INVALID to C_SignInit"
        );
        assert!(is(&failure("C_Login", PIN_INCORRECT), "CKR_PIN_INCORRECT"));
    }
}
