use std::{fmt, str::FromStr};

/// A Norwegian organisation number: nine digits, the last of which is a modulus-11 check digit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrganisationNumber([u8; 9]);

/// Why a text is no organisation number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnOrganisationNumber {
    /// Not nine digits.
    #[error("an organisation number has nine digits and nothing else")]
    Shape,
    /// The check digit does not fit.
    #[error("the check digit does not fit: a digit is wrong or two are swapped")]
    CheckDigit,
}

const WEIGHTS: [u32; 8] = [3, 2, 7, 6, 5, 4, 3, 2];

impl FromStr for OrganisationNumber {
    type Err = NotAnOrganisationNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: [u8; 9] = text.as_bytes().try_into().map_err(|_| NotAnOrganisationNumber::Shape)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(NotAnOrganisationNumber::Shape);
        }
        let sum: u32 =
            digits.iter().zip(WEIGHTS).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
        let check = (11 - sum % 11) % 11;
        // A remainder that would need the check digit 10 is never issued.
        if check == u32::from(digits[8] - b'0') {
            Ok(Self(digits))
        } else {
            Err(NotAnOrganisationNumber::CheckDigit)
        }
    }
}

impl fmt::Display for OrganisationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl fmt::Debug for OrganisationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_real_public_bodies_pass() {
        // Digdir, Brønnøysundregistrene, Tolletaten, Buypass.
        for number in ["991825827", "974760673", "974761343", "983163327"] {
            assert_eq!(number.parse::<OrganisationNumber>().unwrap().to_string(), number);
        }
    }

    #[test]
    fn a_changed_digit_is_noticed() {
        assert_eq!("991825828".parse::<OrganisationNumber>(), Err(NotAnOrganisationNumber::CheckDigit));
    }

    #[test]
    fn prefixes_blanks_and_other_lengths_are_no_organisation_numbers() {
        for text in ["", "0192:991825827", " 991825827", "99182582", "9918258271", "９91825827"] {
            assert_eq!(text.parse::<OrganisationNumber>(), Err(NotAnOrganisationNumber::Shape), "{text}");
        }
    }
}
