//! Where a secret is found, as an option of the command line says it.

use std::{
    convert::Infallible,
    io::{self, IsTerminal},
};

use super::failure::Failure;
use crate::secret::{Malformed, Source, Sources};

/// What was given with an option. A secret itself, given by mistake, is forgotten here: the parser's own message would
/// repeat it.
#[derive(Clone, Debug)]
pub(super) struct SecretSource(Result<Source, Malformed>);

/// Reads an option's value; what is wrong with it is said later.
pub(super) fn secret_source(text: &str) -> Result<SecretSource, Infallible> {
    Ok(SecretSource(text.parse()))
}

impl SecretSource {
    /// The place that was given; an error names the option, and what is sought (`PIN`, `password`).
    pub(super) fn sources(&self, option: &str, what: &str) -> Result<Sources, Failure> {
        let source = self.0.clone().map_err(|malformed| {
            Failure::needs_person(
                format!("{option}: {malformed}"),
                format!(
                    "Put the {what} into a file with mode 0600 and give {option} file:PATH; a {what} that stood on a \
                     command line is known to others: change it."
                ),
            )
        })?;
        let sources = Sources::new(vec![source]);
        for warning in sources.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(sources)
    }

    /// The file that was given; `None` for any other place, and for what is none.
    pub(super) fn file(&self) -> Option<Source> {
        self.0.clone().ok().filter(|source| matches!(source, Source::File(_)))
    }
}

/// The person at the terminal, if there is one. Without, a prompt would wait for ever on whatever terminal the program
/// was started from.
pub(super) fn person() -> Option<Source> {
    io::stdin().is_terminal().then_some(Source::Prompt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_of_a_secret_is_forgotten_at_once() {
        let Ok(source) = secret_source("98765");
        assert!(!format!("{source:?}").contains("98765"));
        let failure = source.sources("--pin", "PIN").unwrap_err();
        assert!(!format!("{source:?} {failure:?} {failure}").contains("98765"));
    }
}
