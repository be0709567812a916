use std::fmt;

/// An organizationIdentifier (2.5.4.97) by the grammar of ETSI EN 319 412-1 section 5.1.4: `NTRNO-991825827`,
/// `VATSE-556012345601`, `PSDFI-FINFSA-12345678`, `LEIXG-…`, `XX:SE-…`.
///
/// Nothing is asked of the number itself, whose form is each country's own affair. Maskinporten hands it on as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganisationIdentifier {
    text: String,
    scheme: Scheme,
    country: [char; 2],
    number: usize,
}

/// Whose numbers they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `VAT`: the number of a value added tax register.
    Vat,
    /// `NTR`: the number of a national trade register.
    Ntr,
    /// `PSD`: the number that a country's supervisor gave a payment service provider (ETSI TS 119 495 section 5.2.1).
    Psd,
    /// `LEI`: a Legal Entity Identifier (ISO 17442); its country is `XG`.
    Lei,
    /// Another scheme of three letters.
    Other(String),
    /// A scheme that a country defined itself: two letters and a colon.
    National(String),
}

/// Why a text is no organizationIdentifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error(
    "it does not begin with a scheme and a country, as NTRNO- or VATSE- (ETSI EN 319 412-1 section 5.1.4)"
)]
pub struct NotAnIdentifier;

impl OrganisationIdentifier {
    /// Reads `text`. A region may follow the country, as in `NTRUS+DE-…`, which the CA/Browser Forum added.
    ///
    /// # Errors
    /// [`NotAnIdentifier`] when it has another form.
    pub fn parse(text: &str) -> Result<Self, NotAnIdentifier> {
        let (front, number) = text.split_once('-').ok_or(NotAnIdentifier)?;
        let (front, region) =
            front.split_once('+').map_or((front, None), |(front, region)| (front, Some(region)));
        let is_region = |region: &str| {
            (1..=3).contains(&region.len())
                && region.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        };
        let characters: Vec<char> = front.chars().collect();
        let [a, b, third, c1, c2] = *characters.as_slice() else { return Err(NotAnIdentifier) };
        let letters = [a, b, c1, c2].iter().all(char::is_ascii_uppercase);
        if !letters || number.trim().is_empty() || !region.is_none_or(is_region) {
            return Err(NotAnIdentifier);
        }
        let scheme = match (third, [a, b, third].iter().collect::<String>()) {
            (':', _) => Scheme::National([a, b].iter().collect()),
            (_, word) if word == "VAT" => Scheme::Vat,
            (_, word) if word == "NTR" => Scheme::Ntr,
            (_, word) if word == "PSD" => Scheme::Psd,
            (_, word) if word == "LEI" => Scheme::Lei,
            (letter, word) if letter.is_ascii_uppercase() => Scheme::Other(word),
            _ => return Err(NotAnIdentifier),
        };
        Ok(Self { text: text.to_owned(), scheme, country: [c1, c2], number: text.len() - number.len() })
    }

    /// Whose numbers they are.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Two letters: ISO 3166-1 as a rule, `EL` for Greece and `XI` for Northern Ireland in VAT numbers, `XG` for an LEI.
    #[must_use]
    pub fn country(&self) -> String {
        self.country.iter().collect()
    }

    /// Whether Norway is named.
    #[must_use]
    pub fn is_norwegian(&self) -> bool {
        self.country == ['N', 'O']
    }

    /// What stands behind the first hyphen.
    #[must_use]
    pub fn number(&self) -> &str {
        self.text.get(self.number..).unwrap_or_default()
    }

    /// The supervisor of a payment service provider: `FINFSA` in `PSDFI-FINFSA-12345678`. `None` in other schemes.
    #[must_use]
    pub fn supervisor(&self) -> Option<&str> {
        let (supervisor, _) = self.number().split_once('-').filter(|_| self.scheme == Scheme::Psd)?;
        let plain =
            (2..=8).contains(&supervisor.len()) && supervisor.bytes().all(|byte| byte.is_ascii_uppercase());
        plain.then_some(supervisor)
    }
}

impl fmt::Display for OrganisationIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vat => "VAT",
            Self::Ntr => "NTR",
            Self::Psd => "PSD",
            Self::Lei => "LEI",
            Self::Other(word) => word,
            Self::National(letters) => return write!(f, "{letters}:"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_scheme_of_the_standard_is_read() {
        for (text, scheme, country, number) in [
            ("NTRNO-991825827", Scheme::Ntr, "NO", "991825827"),
            ("VATSE-556012345601", Scheme::Vat, "SE", "556012345601"),
            ("VATEL-123456789", Scheme::Vat, "EL", "123456789"),
            ("NTRDE-HRB 1234 B", Scheme::Ntr, "DE", "HRB 1234 B"),
            ("NTRDE-Amtsgericht Köln-HRB1", Scheme::Ntr, "DE", "Amtsgericht Köln-HRB1"),
            ("PSDFI-FINFSA-1234567-8", Scheme::Psd, "FI", "FINFSA-1234567-8"),
            ("LEIXG-529900T8BM49AURSDO55", Scheme::Lei, "XG", "529900T8BM49AURSDO55"),
            ("GOVEU-1", Scheme::Other("GOV".into()), "EU", "1"),
            ("EI:SE-5567971433", Scheme::National("EI".into()), "SE", "5567971433"),
            ("NTRUS+DE-123", Scheme::Ntr, "US", "123"),
        ] {
            let read = OrganisationIdentifier::parse(text).unwrap();
            assert_eq!(
                (read.scheme(), read.country().as_str(), read.number()),
                (&scheme, country, number),
                "{text}"
            );
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn what_has_another_form_is_none() {
        for text in [
            "",
            "-",
            "991825827",
            "NTRNO",
            "NTRNO-",
            "NTRNO- ",
            "NTR-NO-991825827",
            "VAT-DE-123456789",
            "ntrno-991825827",
            "NTRN-1",
            "NTRNOR-1",
            "N:RNO-1",
            "QQQ:SE-1",
            "NT1NO-1",
            "NTRUS+-1",
            "NTRUS+lower-1",
            "ÆØRNO-1",
        ] {
            assert_eq!(OrganisationIdentifier::parse(text), Err(NotAnIdentifier), "{text}");
        }
    }

    #[test]
    fn the_supervisor_is_named_for_payment_service_providers_only() {
        let supervisor =
            |text: &str| OrganisationIdentifier::parse(text).unwrap().supervisor().map(str::to_owned);
        assert_eq!(supervisor("PSDNO-FSA-991825827").as_deref(), Some("FSA"));
        assert_eq!(supervisor("PSDNO-991825827"), None);
        assert_eq!(supervisor("NTRDE-HRB-1"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_stands_or_not_at_all(text in "\\PC{0,30}|[A-Z]{2}[A-Z:][A-Z]{2}([+][A-Z]{2})?-\\PC{0,20}") {
            if let Ok(read) = OrganisationIdentifier::parse(&text) {
                prop_assert_eq!(read.to_string(), text.clone());
                prop_assert!(text.ends_with(read.number()) && !read.number().is_empty());
                prop_assert!(text.contains(&read.country()) && text.starts_with(&read.scheme().to_string()));
            }
        }
    }
}
