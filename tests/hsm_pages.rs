//! The pages in `docs/hsm/`: each says where its knowledge is from, and what it shows can be configured.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use segl::{
    config::{Config, Key},
    sign::pkcs11::Profile,
};

const INDEX: &str = "README.md";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hsm")
}

/// Every page by its name.
fn pages() -> BTreeMap<String, String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let pages =
        files.map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()));
    pages.collect()
}

/// Name of a profile and where it is said to be known from, for each that a page claims in its first lines.
fn claims(page: &str) -> Vec<(&str, &str)> {
    let lines = page.lines().take(6).filter_map(|line| line.strip_prefix("Profile: `"));
    lines
        .map(|line| {
            let (name, rest) = line.split_once("` (known from: ").unwrap_or_else(|| panic!("{line}"));
            (name, rest.strip_suffix(')').unwrap_or_else(|| panic!("{line}")))
        })
        .collect()
}

fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap())
}

#[test]
fn every_profile_has_one_page_that_says_where_it_is_known_from() {
    let mut told = BTreeSet::new();
    for (name, page) in pages().iter().filter(|(name, _)| *name != INDEX) {
        let claims = claims(page);
        assert!(!claims.is_empty(), "{name} claims no profile");
        for (profile, known_from) in claims {
            let found = Profile::named(profile).unwrap_or_else(|| panic!("{name}: {profile}"));
            assert_eq!(known_from, found.confidence.to_string(), "{name}: {profile}");
            assert!(told.insert(profile.to_owned()), "{profile} has two pages");
        }
    }
    let profiles: BTreeSet<String> = Profile::all().map(|profile| profile.name).collect();
    assert_eq!(told, profiles);
}

#[test]
fn the_index_names_every_page_and_says_the_same() {
    let pages = pages();
    let mut rows = BTreeSet::new();
    for row in pages[INDEX].lines().filter(|line| line.contains(".md)")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, _, profile, known_from, page, _] = cells.as_slice() else { continue };
        let page = page.split("](").nth(1).and_then(|rest| rest.strip_suffix(')')).unwrap();
        let claimed = claims(&pages[page]);
        let claim = (profile.trim_matches('`'), *known_from);
        assert!(claimed.contains(&claim), "{page} does not claim {claim:?}: {claimed:?}");
        rows.insert(claim.0.to_owned());
    }
    assert_eq!(rows.len(), Profile::all().count());
}

#[test]
fn what_the_pages_show_can_be_configured_and_names_its_profile() {
    for (name, page) in pages() {
        let mut signers = 0;
        for block in blocks(&page) {
            let config = Config::parse(&format!("schema = 1\n{block}"), Path::new("/etc/segl"))
                .unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
            config.profiles(None).unwrap_or_else(|why| panic!("{name}: {why}"));
            for signer in config.signers.values() {
                assert!(matches!(signer.key, Key::Pkcs11(_)), "{name}");
                let own: Vec<&str> = claims(&page).iter().map(|(profile, _)| *profile).collect();
                let is_own = signer.profile.as_deref().is_none_or(|profile| own.contains(&profile));
                assert!(is_own, "{name}: {:?}", signer.profile);
                signers += 1;
            }
        }
        assert!(
            signers >= claims(&page).len().max(1),
            "{name} configures no signer for each of its profiles"
        );
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut links = 0;
    for (name, page) in pages() {
        let targets = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for target in targets.filter(|target| !target.starts_with("https://")) {
            assert!(folder().join(target).exists(), "{name}: {target}");
            links += 1;
        }
    }
    // The index has one to each page.
    assert!(links >= pages().len() - 1, "{links}");
}
