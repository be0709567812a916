//! The two languages of what people are told, and texts that are written in both.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A language that Segl explains itself in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Norwegian bokmål.
    Bokmal,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Bokmal];

    /// Its tag (RFC 5646).
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Bokmal => "nb",
        }
    }

    /// The language of a POSIX locale as `LANG` has it, `nb_NO.UTF-8` for example. Norwegian of each kind is bokmål
    /// here, and everything else is English.
    #[must_use]
    pub fn of_locale(locale: &str) -> Self {
        let name = locale.split(['_', '.', '@', '-']).next().unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "nb" | "no" | "nn" => Self::Bokmal,
            _ => Self::English,
        }
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(tag: &str) -> Result<Self, UnknownLanguage> {
        Self::ALL.into_iter().find(|language| language.tag() == tag).ok_or(UnknownLanguage)
    }
}

/// A tag that is none of [`Language::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the languages are en (English) and nb (bokmål)")]
pub struct UnknownLanguage;

/// Whether a terminal would act on `c`: controls, and the marks that make text run backwards.
pub(crate) fn is_steering(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with nothing in it that a terminal would act on: what comes from devices, certificates and servers.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_steering(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `1 day`, `2 days`.
pub(crate) fn counted<N: PartialEq + From<u8> + fmt::Display>(count: N, what: &str) -> String {
    let s = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// One text in each language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    en: String,
    nb: String,
}

impl Text {
    /// The text in `language`.
    #[must_use]
    pub fn in_language(&self, language: Language) -> &str {
        match language {
            Language::English => &self.en,
            Language::Bokmal => &self.nb,
        }
    }

    /// The text in each language.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        Language::ALL.into_iter().map(|language| self.in_language(language))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_norwegian_locale_of_any_kind_is_answered_in_bokmal() {
        for locale in ["nb_NO.UTF-8", "no_NO", "nn_NO@euro", "NB", "nb-NO"] {
            assert_eq!(Language::of_locale(locale), Language::Bokmal, "{locale}");
        }
        for locale in ["", "C", "POSIX", "en_GB.UTF-8", "sv_SE.UTF-8", "nbx"] {
            assert_eq!(Language::of_locale(locale), Language::English, "{locale}");
        }
    }

    #[test]
    fn what_a_terminal_would_act_on_is_replaced() {
        assert_eq!(printable("a\u{1b}[31m\u{202e}b\tæ"), "a\u{fffd}[31m\u{fffd}b\u{fffd}æ");
    }

    #[test]
    fn one_thing_is_counted_in_the_singular() {
        let said = [counted(0_usize, "token"), counted(1_i64, "day"), counted(2_usize, "signer")];
        assert_eq!(said, ["0 tokens", "1 day", "2 signers"]);
    }

    #[test]
    fn a_tag_leads_back_to_its_language() {
        for language in Language::ALL {
            assert_eq!(language.tag().parse(), Ok(language));
        }
        assert_eq!("sv".parse::<Language>(), Err(UnknownLanguage));
    }
}
