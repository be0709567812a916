use super::{
    Who,
    answers::{Answers, Environment, Identity},
};

/// The configuration that `answers` make, with comments for whoever opens it next.
pub(super) fn toml(answers: &Answers) -> String {
    let signer = signer(answers);
    let client = client(answers);
    let environment = match &answers.environment {
        Environment::Named(_) => String::new(),
        Environment::Issuer(issuer) => format!(
            "\n# An authority that is neither test nor prod; the issuer byte for byte, with its slash.\n\
             [environments.other]\nissuer = {}\n",
            quoted(issuer)
        ),
    };
    let token = token(answers);
    format!(
        "# Written by segl init. Every key: segl config schema; every value in force: segl config show.\n\
         # Segl never writes to this file again.\n\nschema = 1\n\n{signer}\n{client}{environment}\n{token}"
    )
}

fn signer(answers: &Answers) -> String {
    let mut text = String::from("# The key that signs. It stays where it is.\n[signers.key]\n");
    line(&mut text, "key", &quoted(&answers.key), "a line of `segl keys`, or file:PATH");
    if let Some(profile) = &answers.profile {
        line(&mut text, "profile", &quoted(profile), "found by itself; here, so that a change is noticed");
    }
    match answers.pin.as_slice() {
        [] => {}
        [only] => line(&mut text, "pin", &quoted(only), "where it is found, never the PIN itself"),
        several => {
            let list: Vec<String> = several.iter().map(|source| quoted(source)).collect();
            line(
                &mut text,
                "pin",
                &format!("[{}]", list.join(", ")),
                "the first that exists; never the PIN itself",
            );
        }
    }
    text
}

fn client(answers: &Answers) -> String {
    let mut text = String::new();
    if answers.who == Who::Foreign {
        text.push_str("# A company outside Norway: the seal stands for it, and no client is registered.\n[clients.app]\n");
        line(&mut text, "kind", "\"eseal\"", "");
        line(&mut text, "name", &quoted(&answers.client), "the company");
    } else {
        text.push_str("# The client, as it is registered in Samarbeidsportalen.\n[clients.app]\n");
    }
    let (environment, comment) = match &answers.environment {
        Environment::Named(name) => (name.as_str(), "test or prod: all addresses follow from it"),
        Environment::Issuer(_) => ("other", "all addresses follow from it"),
    };
    line(&mut text, "environment", &quoted(environment), comment);
    if answers.who != Who::Foreign {
        line(&mut text, "client_id", &quoted(&answers.client), "");
    }
    line(&mut text, "signer", "\"key\"", "");
    match &answers.identity {
        Identity::Kid { kid, expires } => {
            line(&mut text, "kid", &quoted(kid), "the registered public key: segl keys jwk prints it");
            match expires {
                Some(day) => line(&mut text, "kid_expires", &day.to_string(), "registered keys live one year"),
                None => text.push_str("# kid_expires = 2027-01-31      # the day that Samarbeidsportalen shows; segl doctor warns ahead of it\n"),
            }
        }
        Identity::Certificate(place) if place == "token" => {
            line(&mut text, "certificate", "\"token\"", "the one beside the key");
        }
        Identity::Certificate(place) => {
            line(&mut text, "certificate", &quoted(place), "PEM, with its issuers")
        }
    }
    text
}

fn token(answers: &Answers) -> String {
    let mut text = String::from("# What is asked for: segl token NAME.\n[tokens.first]\n");
    line(&mut text, "client", "\"app\"", "");
    let scopes: Vec<String> = answers.scopes.iter().map(|scope| quoted(scope)).collect();
    line(&mut text, "scopes", &format!("[{}]", scopes.join(", ")), "segl scopes lists those that are known");
    if let Some(exchange) = answers.exchange {
        line(&mut text, "exchange", &quoted(exchange), "whose token the API takes");
    }
    if answers.who == Who::Supplier {
        line(&mut text, "consumer_org", "\"required\"", "each call names the customer: --consumer-org");
    } else {
        text.push_str("# keep_warm = true              # renew it ahead of time although nobody asks\n");
    }
    text
}

/// Where comments begin, so that they stand below each other.
const COMMENTS: usize = 30;

fn line(text: &mut String, key: &str, value: &str, comment: &str) {
    let said = format!("{key:<12} = {value}");
    let comment = if comment.is_empty() { String::new() } else { format!("  # {comment}") };
    text.push_str(format!("{said:<COMMENTS$}{comment}").trim_end());
    text.push('\n');
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn answers() -> Answers {
        Answers {
            who: Who::Company,
            environment: Environment::Named("test".into()),
            key: "pkcs11:token=CUSTOMS-A;object=grant-2026".into(),
            profile: Some("softhsm2".into()),
            pin: vec!["credential:hsm-pin".into(), "prompt".into()],
            identity: Identity::Kid { kid: "k-2026".into(), expires: Some("2027-01-31".parse().unwrap()) },
            client: "0b1c2d3e-0000-4000-8000-000000000002".into(),
            scopes: vec!["toll:movement/road/v2".into()],
            exchange: Some("customs"),
            notes: Vec::new(),
        }
    }

    #[track_caller]
    fn loads(answers: &Answers) -> Config {
        let text = toml(answers);
        Config::parse(&text, Path::new("/etc/segl")).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
    }

    #[test]
    fn what_is_written_is_a_configuration_without_warnings() {
        let config = loads(&answers());
        assert_eq!(config.warnings, [""; 0]);
        assert!(config.tokens["first"].exchange.is_some());
    }

    #[test]
    fn every_way_through_the_questions_ends_in_one() {
        let no_date = Identity::Kid { kid: "k".into(), expires: None };
        for (who, identity) in [
            (Who::Company, no_date),
            (Who::Supplier, Identity::Certificate("token".into())),
            (Who::Company, Identity::Certificate("chain.pem".into())),
        ] {
            loads(&Answers { who, identity, ..answers() });
        }
        let issuer = Environment::Issuer("http://127.0.0.1:8400/".into());
        loads(&Answers { environment: issuer, exchange: None, ..answers() });
        loads(&Answers {
            key: "file:/etc/segl/client.p12".into(),
            profile: None,
            pin: Vec::new(),
            ..answers()
        });
    }

    proptest! {
        #[test]
        fn no_answer_breaks_out_of_its_place(text in any::<String>()) {
            let config = toml(&Answers { client: text.clone(), key: format!("file:{text}"), ..answers() });
            let table: toml::Table = config.parse().unwrap();
            prop_assert_eq!(table["clients"]["app"]["client_id"].as_str(), Some(text.as_str()));
            let key = format!("file:{text}");
            prop_assert_eq!(table["signers"]["key"]["key"].as_str(), Some(key.as_str()));
        }
    }
}
