//! Every stored input of the fuzzer, through the same functions, without the fuzzer.

#![cfg(feature = "sandbox")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

#[path = "../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "in its own package it is a library")]
mod targets;

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use proptest::prelude::*;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(corpus().join(target)).expect("each target has a corpus");
    folder.map(|entry| entry.expect("readable").path()).collect()
}

#[test]
fn every_target_has_a_corpus_a_fuzzer_and_no_other_has() {
    let names: BTreeSet<String> = targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<String> = fs::read_dir(corpus())
        .expect("the corpus is there")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("a plain name"))
        .collect();
    assert_eq!(found, names);
    for name in names {
        assert!(inputs(&name).len() >= 2, "{name}");
        assert!(corpus().join("../fuzz_targets").join(format!("{name}.rs")).exists(), "{name}");
    }
}

#[test]
fn every_input_of_the_corpus_is_survived() {
    let mut count = 0;
    for (name, target) in targets::TARGETS {
        for path in inputs(name) {
            let input = fs::read(&path).expect("readable");
            let survived = catch_unwind(AssertUnwindSafe(|| target(&input)));
            assert!(survived.is_ok(), "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn inputs_of_the_corpus_with_a_damaged_byte_are_survived(at: prop::sample::Index, byte: u8) {
        for (name, target) in targets::TARGETS {
            // Opening a key file derives keys from passwords: too slow to be done so often.
            for path in inputs(name).into_iter().filter(|_| name != "key_file") {
                let mut input = fs::read(&path).expect("readable");
                if !input.is_empty() {
                    let at = at.index(input.len());
                    input[at] = byte;
                }
                target(&input);
            }
        }
    }
}
