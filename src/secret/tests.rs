use proptest::prelude::*;

use super::*;

fn parsed(toml: &str) -> Result<Sources, String> {
    #[derive(Deserialize)]
    struct Table {
        pin: Sources,
    }
    toml::from_str::<Table>(toml).map(|table| table.pin).map_err(|error| error.message().to_owned())
}

#[test]
fn every_scheme_is_understood() {
    let sources = parsed(
        r#"pin = ["credential:hsm-pin", "file:/run/pin", "file:///run/pin", "exec:pass show 'the pin'", "prompt",
                      "env:HSM_PIN", { exec = ["op", "read", "a b"] }]"#,
    )
    .unwrap();
    let words = |words: &[&str]| Source::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(
        sources,
        Sources(vec![
            Source::Credential("hsm-pin".into()),
            Source::File("/run/pin".into()),
            Source::File("/run/pin".into()),
            words(&["pass", "show", "the pin"]),
            Source::Prompt,
            Source::Env("HSM_PIN".into()),
            words(&["op", "read", "a b"]),
        ])
    );
    assert_eq!(parsed(r#"pin = "prompt""#).unwrap(), Sources(vec![Source::Prompt]));
}

#[test]
fn a_pin_written_in_place_of_a_source_is_refused_and_never_repeated() {
    for value in [
        "\"98761234\"",
        "98761234",
        "98761234.5",
        "[\"98761234\"]",
        "[98761234]",
        "{ value = \"98761234\" }",
        "{ exec = \"98761234\" }",
        "{ exec = [98761234] }",
        "\"pin:98761234\"",
        "\"98761234:5\"",
    ] {
        let message = parsed(&format!("pin = {value}")).unwrap_err();
        assert!(!message.contains("98761234"), "{value}: {message}");
        assert!(message.contains("credential:NAME, file:PATH"), "{value}: {message}");
    }
}

#[test]
fn malformed_sources_are_refused_each_with_its_reason() {
    for (text, expected) in [
        ("credential:../etc/shadow", Malformed::CredentialName),
        ("credential:..", Malformed::CredentialName),
        ("credential:", Malformed::CredentialName),
        ("file:", Malformed::Path),
        ("file://host/pin", Malformed::FileHost),
        ("exec:", Malformed::Program),
        ("exec:pass 'open", Malformed::Quotes),
        ("env:A B", Malformed::VariableName),
        ("env:1A", Malformed::VariableName),
        ("prompt:", Malformed::Scheme),
    ] {
        assert_eq!(text.parse::<Source>(), Err(expected), "{text}");
        assert!(!expected.remedy().is_empty());
    }
    assert_eq!(parsed("pin = []").unwrap_err(), Malformed::EmptyList.to_string());
}

#[test]
fn a_helpers_arguments_are_not_shown() {
    let source: Source = "exec:/usr/bin/helper --token 98761234".parse().unwrap();
    assert_eq!(format!("{source:?} {source}"), "exec:/usr/bin/helper … exec:/usr/bin/helper …");
    let sources = Sources(vec![source, Source::Prompt]);
    assert!(!format!("{sources:?} {sources:#?} {sources}").contains("98761234"));
}

#[test]
fn a_secret_that_was_read_is_silent_in_debug() {
    let secret = Sources(vec!["exec:/bin/echo 98761234".parse().unwrap()]).read("PIN").unwrap();
    assert!(!format!("{secret:?}").contains("9876"), "{secret:?}");
}

#[test]
fn an_environment_variable_is_warned_of_and_the_others_are_not() {
    let sources = parsed(r#"pin = ["credential:p", "file:/p", "exec:p", "prompt", "env:HSM_PIN"]"#).unwrap();
    assert_eq!(sources.warnings().len(), 1);
    assert!(sources.warnings()[0].contains("HSM_PIN"));
}

#[test]
fn relative_paths_are_taken_from_the_directory_that_is_given() {
    let sources = parsed(r#"pin = ["file:pin", "file:/abs/pin"]"#).unwrap();
    assert_eq!(
        sources.relative_to(Path::new("/etc/segl")),
        Sources(vec![Source::File("/etc/segl/pin".into()), Source::File("/abs/pin".into())])
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_and_none_is_repeated_in_an_error(text in "[0-9A-Za-z:/ '\"]{6,40}") {
        if let Err(error) = text.parse::<Source>() {
            let said = error.to_string();
            prop_assert!(!said.contains(&text), "{}", said);
        }
    }
}
