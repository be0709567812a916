use super::ProfileError;

/// `text` with each `${NAME}` replaced by what `variable` gives for it. Nothing else is special; what was put in is not
/// looked at again.
///
/// # Errors
/// [`ProfileError::Variable`] with the first name that `variable` has nothing for.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, ProfileError> {
    let mut expanded = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => expanded.push_str(text),
            Piece::Variable(name) => match variable(name) {
                Some(value) => expanded.push_str(&value),
                None => return Err(ProfileError::Variable { name: name.to_owned() }),
            },
        }
    }
    Ok(expanded)
}

/// The names that stand in `text` as `${NAME}`.
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).filter_map(|piece| match piece {
        Piece::Variable(name) => Some(name),
        Piece::Text(_) => None,
    })
}

enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

fn pieces(mut rest: &str) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((name, after)) = rest.strip_prefix("${").and_then(|opened| opened.split_once('}')) {
            rest = after;
            return Some(Piece::Variable(name));
        }
        // The next opening stands after the first character, which may be a `$` that opens nothing.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest.get(first..).and_then(|after| after.find("${")).map_or(rest.len(), |at| at + first);
        let (text, after) = rest.split_at(end);
        rest = after;
        Some(Piece::Text(text))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "DIR" => Some("/var/nss".into()),
            "LOOP" => Some("${LOOP}".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_put_in_their_places() {
        let expanded = |text| expand(text, variable).unwrap();
        assert_eq!(expanded("configdir='sql:${DIR}' flags=x"), "configdir='sql:/var/nss' flags=x");
        assert_eq!(expanded("${DIR}${DIR}"), "/var/nss/var/nss");
        assert_eq!(expanded("a${EMPTY}b"), "ab");
        assert_eq!(expanded(""), "");
    }

    #[test]
    fn what_was_put_in_is_not_looked_at_again() {
        assert_eq!(expand("${LOOP}", variable).unwrap(), "${LOOP}");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = expand("x ${NSS_CONFIG_DIR} ${DIR}", variable).unwrap_err();
        assert!(error.to_string().contains("NSS_CONFIG_DIR"), "{error}");
        assert!(error.remedy().contains("NSS_CONFIG_DIR"));
    }

    #[test]
    fn what_opens_no_variable_stays() {
        for text in ["$", "$$", "cost $5", "${open", "a$", "{DIR}", "$DIR", "å$å"] {
            assert_eq!(expand(text, variable).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_expands_or_names_a_variable_that_stands_in_it(text in "[${}A-Cåx ]{0,40}") {
            match expand(&text, |_| None) {
                Ok(expanded) => prop_assert_eq!(expanded, text),
                Err(ProfileError::Variable { name }) => {
                    let placeholder = format!("${{{name}}}");
                    prop_assert!(text.contains(&placeholder));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
