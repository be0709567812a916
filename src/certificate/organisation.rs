use std::{fmt, str::FromStr};

use super::{
    Name, OrganisationIdentifier,
    name::{COUNTRY, ORGANISATION, ORGANISATION_IDENTIFIER, SERIAL_NUMBER},
};

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

/// The nine digits of a Norwegian organisation in `subject`, looked for in the order of Digdir's validator
/// (felleslosninger/idporten-seid2-certificate-validator-lib): `serialNumber`, the end of O, organizationIdentifier.
///
/// That validator sees Norwegian certificates only. Here, nine digits of another country are left alone: Portugal's
/// numbers, for one, have nine digits and stand in `serialNumber`.
pub(super) fn nine_digits(subject: &Name) -> Option<&str> {
    let identifier = || subject.values(ORGANISATION_IDENTIFIER);
    let read = identifier().find_map(|text| OrganisationIdentifier::parse(text).ok());
    let names_country = subject.values(COUNTRY).next().is_some();
    let is_norwegian = subject.values(COUNTRY).any(|country| country.eq_ignore_ascii_case("NO"));
    match &read {
        Some(read) if !read.is_norwegian() => return None,
        None if names_country && !is_norwegian => return None,
        _ => {}
    }
    let in_serial_number = || subject.values(SERIAL_NUMBER).find(|text| is_nine_digits(text));
    let in_organisation = || {
        subject.values(ORGANISATION).find_map(|text| {
            let (name, digits) = last_nine_digits(text)?;
            name.trim_end().ends_with('-').then_some(digits)
        })
    };
    // In an identifier of another form nothing says which country is meant, unless the subject does.
    let in_identifier = || {
        identifier().find_map(|text| {
            let (front, digits) = last_nine_digits(text)?;
            let may_be = front.is_empty() || front.ends_with('-') && (read.is_some() || is_norwegian);
            may_be.then_some(digits)
        })
    };
    in_serial_number().or_else(in_organisation).or_else(in_identifier)
}

fn last_nine_digits(text: &str) -> Option<(&str, &str)> {
    let (front, digits) = text.split_at_checked(text.len().checked_sub(9)?)?;
    is_nine_digits(digits).then_some((front, digits))
}

fn is_nine_digits(text: &str) -> bool {
    text.len() == 9 && text.bytes().all(|byte| byte.is_ascii_digit())
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
