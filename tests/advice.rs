//! The advice is complete, and docs/errors.md is the same advice. After a change that is meant:
//! `ERRORS_PAGE=overwrite cargo test --test advice`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use segl::{
    advice::{self, Advice, Again, Origin},
    language::{Language, Text},
    pipeline,
    sign::{self, PinProblem, pkcs11::return_values},
    token::{self, Authority, Refusal},
};

/// Every name that the errors of `source` can give as their topic. The compiler sees to it that no variant is left out
/// of the match; this reads what the match says.
fn topics(source: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(source)).unwrap();
    let mut topics = BTreeSet::new();
    for body in text.split("fn topic(&self)").skip(1) {
        let body = body.split("\n    }\n").next().unwrap();
        let literals = body.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        topics.extend(literals);
    }
    topics
}

#[test]
fn everything_that_an_error_names_has_advice() {
    for (source, least) in
        [("src/sign/error.rs", 28), ("src/token/error.rs", 6), ("src/pipeline/error.rs", 4)]
    {
        let topics = topics(source);
        assert!(topics.len() >= least, "{source}: {topics:?}");
        for topic in topics {
            assert!(advice::named(&topic).is_some(), "{source}: {topic}");
        }
    }
}

#[test]
fn what_segl_finds_out_by_itself_can_happen() {
    let sources = ["src/sign/error.rs", "src/token/error.rs", "src/pipeline/error.rs"];
    let named: BTreeSet<String> = sources.iter().flat_map(|source| topics(source)).collect();
    for advice in advice::all().iter().filter(|advice| advice.from == Origin::Segl) {
        assert!(named.contains(advice.code()), "{} is named by no error", advice.code());
    }
}

#[test]
fn every_return_value_of_the_standard_has_advice() {
    let mut count = 0;
    for (_, name) in return_values() {
        let found = advice::named(name).unwrap_or_else(|| panic!("{name}"));
        assert!(found.codes.iter().any(|code| code == name) && found.from == Origin::Device, "{name}");
        count += 1;
    }
    assert!(count > 90, "{count}");
}

#[test]
fn an_error_leads_to_its_own_advice_and_takes_its_remedy_from_there() {
    let device = |code: &str| sign::Error::Device { function: "C_Sign".into(), code: code.into() };
    assert_eq!(device("CKR_DEVICE_ERROR").topic(), "CKR_DEVICE_ERROR");
    assert_eq!(device("0x80000384").topic(), "0x80000384");
    assert!(device("0x80000384").remedy().contains("vendor's manual"));
    assert_eq!(device("what cannot be used: a length").topic(), "device-answer");
    let pin = |problem| sign::Error::Pin { device: "CARD".into(), problem };
    assert_eq!(pin(PinProblem::Locked).topic(), "CKR_PIN_LOCKED");
    assert_eq!(pin(PinProblem::Refused("CKR_PIN_INCORRECT".into())).topic(), "CKR_PIN_INCORRECT");
    assert_eq!(pin(PinProblem::Refused("CKR_GENERAL_ERROR".into())).topic(), "pin-refused");
    let refused = |authority, status, body: &str| {
        token::Error::Refused(Box::new(Refusal::read(authority, status, body.as_bytes())))
    };
    let body = r#"{"error":"invalid_scope","error_description":"MP-250: Consumer (trace_id: 0f)"}"#;
    assert_eq!(refused(Authority::Maskinporten, 400, body).topic(), "MP-250");
    let body = r#"{"error":"invalid_grant","error_description":"Unknown key identifier (kid) for client"}"#;
    assert_eq!(refused(Authority::Maskinporten, 400, body).topic(), "unknown-kid");
    assert_eq!(
        refused(Authority::Maskinporten, 400, r#"{"error":"x","error_description":"MP-999"}"#).topic(),
        "maskinporten"
    );
    let body = r#"{"error":"invalid_scope","error_description":"Not authorized to request scope toll:x"}"#;
    assert_eq!(refused(Authority::Customs, 403, body).topic(), "customs-scope");
    assert_eq!(refused(Authority::Altinn, 401, "").topic(), "altinn-token");
    assert_eq!(pipeline::Error::from(device("CKR_PIN_LOCKED")).topic(), "CKR_PIN_LOCKED");
}

/// The page, from the table.
fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    let groups = [
        (Origin::Maskinporten, "Maskinporten"),
        (Origin::Customs, "Customs (Tolletaten)"),
        (Origin::Altinn, "Altinn"),
        (Origin::Network, "The network (nettet)"),
        (Origin::Device, "PKCS#11 devices (enheter)"),
        (Origin::Segl, "Segl itself (Segl selv)"),
    ];
    let mut told = 0;
    for (from, title) in groups {
        write!(page, "\n## {title}\n").unwrap();
        for advice in advice::all().iter().filter(|advice| advice.from == from) {
            entry(advice, &mut page);
            told += 1;
        }
    }
    assert_eq!(told, advice::all().len());
    page
}

const INTRODUCTION: &str = "# Errors, and what to do (feil, og hva du gjør)

Everything that `segl explain` knows, offline: `segl explain MP-250`, `segl explain CKR_PIN_LOCKED`, a piece of a message,
or a whole answer with `segl explain -`. Norwegian with `--lang nb`. This page is made from the same table by a test.
";

fn entry(advice: &Advice, page: &mut String) {
    let (en, nb) = (Language::English, Language::Bokmal);
    let told = |text: &Text, language| text.in_language(language).to_owned();
    let who = |language| advice.who.iter().map(|party| party.name(language)).collect::<Vec<_>>().join(", ");
    write!(page, "\n### {}\n\n", advice.codes.join(", ")).unwrap();
    writeln!(
        page,
        "**{}** {} *What to do:* {}",
        told(&advice.title, en),
        told(&advice.cause, en),
        told(&advice.remedy, en)
    )
    .unwrap();
    writeln!(page, "*Who must act:* {}.{}\n", who(en), again(advice, en)).unwrap();
    writeln!(
        page,
        "**{}** {} *Gjør dette:* {}",
        told(&advice.title, nb),
        told(&advice.cause, nb),
        told(&advice.remedy, nb)
    )
    .unwrap();
    writeln!(page, "*Hvem:* {}.{}", who(nb), again(advice, nb)).unwrap();
    for (index, check) in advice.checks.iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        writeln!(page, "{gap}{}. {} / {}", index + 1, told(&check.text, en), told(&check.text, nb)).unwrap();
    }
    let page_and_address: Vec<String> = advice
        .page
        .iter()
        .map(|address| format!("<{address}>"))
        .chain(advice.write_to.iter().map(|address| format!("<{address}>")))
        .collect();
    if !page_and_address.is_empty() {
        writeln!(page, "\n{}", page_and_address.join(" · ")).unwrap();
    }
}

fn again(advice: &Advice, language: Language) -> String {
    let label = if language == Language::English { "Ask again" } else { "Prøv igjen" };
    match advice.again {
        Again::Never => String::new(),
        again => format!(" *{label}:* {}.", again.sentence(language)),
    }
}

#[test]
fn the_page_of_errors_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let made = page();
    if std::env::var_os("ERRORS_PAGE").is_some_and(|what| what == "overwrite") {
        fs::write(&path, &made).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap();
    let differs = written.lines().zip(made.lines()).find(|(written, made)| written != made);
    assert_eq!(differs, None);
    assert_eq!(written.lines().count(), made.lines().count());
}
