//! What is written about the matrix and the module is what they are.

use std::{fs, path::Path};

use libtest_mimic::{Failed, Trial};

use crate::rows::{End, PHASES, ROWS, Row};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "documents::the_table_of_the_matrix_is_the_one_that_is_run",
            the_table_is_in_the_documents,
        ),
        Trial::test(
            "documents::the_readme_of_the_module_has_every_word_of_its_language",
            the_readme_is_complete,
        ),
    ]
}

fn the_table_is_in_the_documents() -> Result<(), Failed> {
    let document = read("docs/reliability.md")?;
    let table = table();
    if document.contains(&table) {
        Ok(())
    } else {
        Err(format!("docs/reliability.md is to have this table:\n{table}").into())
    }
}

fn the_readme_is_complete() -> Result<(), Failed> {
    let readme = read("tests/faultp11/README.md")?;
    let source = read("tests/faultp11/src/script.rs")?;
    // Every pattern of the parser begins with the words of its line.
    let words: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("[\"")?.split_once('"'))
        .map(|(word, _)| word)
        .collect();
    if words.len() < 30 {
        return Err(format!("these are all the words found: {words:?}").into());
    }
    let missing: Vec<&&str> = words.iter().filter(|word| !readme.contains(&format!("`{word}"))).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("not in the README: {missing:?}").into()) }
}

fn read(path: &str) -> Result<String, Failed> {
    Ok(fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))?)
}

/// The matrix in Markdown; faults that end alike stand in one line.
fn table() -> String {
    let mut text = String::from("| fault |");
    for phase in PHASES {
        text.push_str(&format!(" {} |", phase.name()));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(PHASES.len()));
    let mut rest: Vec<&Row> = ROWS.iter().collect();
    while let Some(first) = rest.first().copied() {
        let alike;
        (alike, rest) = rest.into_iter().partition(|row| row.ends == first.ends);
        let alike: Vec<&Row> = alike;
        let names: Vec<String> = alike.iter().map(|row| format!("`{}`", row.name)).collect();
        text.push_str(&format!("\n| {} |", names.join(", ")));
        for end in first.ends {
            text.push_str(match end {
                End::Harmless => " signs |",
                End::Recovers => " recovers |",
                End::Person => " person |",
                End::PersonUnlessClean => " person, or flags |",
                End::No(_) => " – |",
            });
        }
    }
    text.push('\n');
    text
}
