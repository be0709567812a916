//! Numbers of Norwegian organisations and persons, and where a certificate holds the former.

use x509_parser::x509::X509Name;

/// Whether `text` is an organisation number: nine digits, of which the last is the check digit of the others
/// (modulus 11, Brønnøysundregistrene).
pub(super) fn is_number(text: &str) -> bool {
    digits(text, 9).is_some_and(|digits| weighted(&digits, &[3, 2, 7, 6, 5, 4, 3, 2, 1]))
}

/// Whether `text` has the form of an organizationIdentifier (ETSI EN 319 412-1 section 5.1.4): a scheme of three capital
/// letters, or of two and a colon; the country; a hyphen; an identifier.
pub(super) fn is_identifier(text: &str) -> bool {
    let Some((front, identifier)) = text.split_once('-') else { return false };
    let letter = |byte: u8| byte.is_ascii_uppercase();
    let fits = match front.as_bytes() {
        [a, b, c, d, e] => [a, b, d, e].into_iter().all(|byte| letter(*byte)) && (letter(*c) || *c == b':'),
        _ => false,
    };
    fits && !identifier.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control)
}

/// Whether `text` is a syntactically valid national identity number or D-number: eleven digits with a right
/// second check digit. The first one is no longer reliable: numbers issued from 2032 on relax it
/// (Skatteetaten).
pub(super) fn is_person(text: &str) -> bool {
    digits(text, 11).is_some_and(|digits| weighted(&digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]))
}

/// The organisation number in a subject, looked for where Digdir's validator looks, in its order:
/// `serialNumber`, the end of the organisation's name, the end of `organizationIdentifier`.
pub(super) fn number_of(subject: &X509Name<'_>) -> Option<String> {
    let value = |oid: &str| -> Option<&str> {
        subject.iter_attributes().find(|found| found.attr_type().to_id_string() == oid)?.as_str().ok()
    };
    let candidates = [
        value("2.5.4.5"),
        value("2.5.4.10").and_then(after_hyphen),
        value("2.5.4.97").and_then(|text| if text.contains('-') { after_hyphen(text) } else { Some(text) }),
    ];
    candidates.into_iter().flatten().find(|text| is_number(text)).map(str::to_owned)
}

fn after_hyphen(text: &str) -> Option<&str> {
    text.rsplit_once('-').map(|(_, end)| end.trim_start())
}

fn digits(text: &str, count: usize) -> Option<Vec<u32>> {
    (text.len() == count).then(|| text.chars().map(|c| c.to_digit(10)).collect::<Option<_>>())?
}

fn weighted(digits: &[u32], weights: &[u32]) -> bool {
    digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum::<u32>().is_multiple_of(11)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_organisation_number_has_nine_digits_and_a_right_check_digit() {
        for number in ["991825827", "983163327", "312700018"] {
            assert!(is_number(number), "{number}");
        }
        for text in ["991825828", "99182582", "9918258277", "99182582a", "", "٩٩١٨٢٥٨٢٧"] {
            assert!(!is_number(text), "{text}");
        }
    }

    #[test]
    fn a_national_identity_number_has_eleven_digits_and_a_right_check_digit() {
        assert!(is_person("01811210028"));
        for text in ["01811210029", "0181121002", "", "0181121002x"] {
            assert!(!is_person(text), "{text}");
        }
    }

    #[test]
    fn an_identifier_has_scheme_country_hyphen_and_something_behind_it() {
        for text in
            ["VATSE-556012345601", "NTRDE-HRB 1234", "NTRNO-312700018", "XX:SE-1", "LEIXG-5493001KJTIIGC8"]
        {
            assert!(is_identifier(text), "{text}");
        }
        for text in ["", "VATSE", "VATSE-", "VAT-SE-1", "vatse-1", "VATS-1", "VAT:SE-1", "312700018"] {
            assert!(!is_identifier(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_checks_panic(text in ".{0,20}") {
            let _ = (is_number(&text), is_person(&text), is_identifier(&text));
        }
    }
}
