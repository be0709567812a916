//! What the README shows is what the program takes.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

use std::{path::Path, process::Command};

use segl::config::Config;

const README: &str = include_str!("../README.md");

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    README.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn the_configuration_in_the_readme_is_valid() {
    let configurations: Vec<_> =
        blocks("toml").into_iter().filter(|block| block.starts_with("schema")).collect();
    assert_eq!(configurations.len(), 1);
    let config = Config::parse(configurations[0], Path::new("")).unwrap();
    assert!(config.tokens.contains_key("road"));
}

#[test]
fn every_command_in_the_readme_exists() {
    let commands: Vec<Vec<&str>> = blocks("sh")
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("segl "))
        .map(|line| {
            line.split_whitespace().take_while(|word| word.chars().all(char::is_alphabetic)).collect()
        })
        .collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for mut command in commands {
        // What follows `token` and `probe` is a name.
        if matches!(command.first(), Some(&("token" | "probe"))) {
            command.truncate(1);
        }
        let help = Command::new(env!("CARGO_BIN_EXE_segl")).args(&command).arg("--help").output().unwrap();
        assert!(help.status.success(), "{command:?}");
    }
}

#[test]
fn every_page_that_the_readme_points_to_is_there() {
    let targets = README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let mut pages = 0;
    for target in targets.filter(|target| !target.starts_with("http")) {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(target).exists(), "{target}");
        pages += 1;
    }
    assert!(pages >= 6);
}
