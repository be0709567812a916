//! The walls of the house: which room may use which, read from the sources.
//!
//! `docs/architecture.md` says why. A room is a module right below the crate root. The compiler lets modules of one
//! crate use each other in any direction, so this test reads every file, follows `crate::`, `super::`, `self::` and
//! re-exports, and names each edge that the plan does not have.

#[path = "layers/house.rs"]
mod house;
#[path = "layers/mentions.rs"]
mod mentions;

use std::{collections::BTreeSet, fs, io, path::Path};

use syn::visit::Visit;

use self::{
    house::{House, Sources, read_sources},
    mentions::{Manner, Mention, Mentions},
};

/// The rooms from the ground up: each may use those before it.
const ROOMS: [&str; 18] = [
    "clock",
    "call",
    "secret",
    "state",
    "http",
    "jose",
    "language",
    "advice",
    "scope",
    "certificate",
    "sign",
    "grant",
    "token",
    "selfservice",
    "config",
    "pipeline",
    "doctor",
    "broker",
];

/// The front door: above all rooms, and the only one that may open the sandbox.
const FRONT: &str = "cli";

/// The house next door.
const SANDBOX: &str = "sandbox";

/// All the sandbox may use: an examiner that shared the pupil's notes would repeat the pupil's mistakes.
const SANDBOX_MAY_USE: [&str; 2] = ["clock", "jose"];

/// Names that say nothing, and soon hold everything.
const DRAWERS: [&str; 5] = ["types.rs", "utils.rs", "common.rs", "prelude.rs", "mod.rs"];

/// A file longer than this, its tests left out, is two ideas.
const MOST_LINES: usize = 420;

#[test]
fn every_edge_between_rooms_is_in_the_plan() {
    let found = trespasses(&sources().expect("the sources can be read"));
    assert!(found.is_empty(), "the house plan (docs/architecture.md) does not have:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_a_drawer_or_two_ideas() {
    let found = unkept_files(&sources().expect("the sources can be read"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_document_tells_the_same_plan() {
    let document = architecture().expect("docs/architecture.md can be read");
    let has_line = |line: String| document.lines().any(|written| written.replace(" <-", ",") == line);
    assert!(has_line(format!("{}, {FRONT}", ROOMS.join(", "))), "{ROOMS:?}");
    assert!(has_line(format!("{}, {SANDBOX}, {FRONT}", SANDBOX_MAY_USE.join(", "))), "{SANDBOX_MAY_USE:?}");
}

#[test]
fn every_dependency_has_its_reason_in_the_document_and_no_other() {
    let document = architecture().expect("docs/architecture.md can be read");
    let reasons = document.split("\n## Dependencies").nth(1).expect("the section is there");
    let explained: BTreeSet<&str> =
        reasons.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("Cargo.toml is TOML");
    let used: BTreeSet<&str> = ["dependencies", "dev-dependencies"]
        .into_iter()
        .flat_map(|table| manifest[table].as_table().expect("a table").keys().map(String::as_str))
        .collect();
    assert_eq!(explained, used);
}

fn architecture() -> io::Result<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md"))
}

fn sources() -> io::Result<Sources> {
    read_sources(Path::new(env!("CARGO_MANIFEST_DIR")))
}

/// Every edge outside the plan, and everything that would hide one; one sentence each.
fn trespasses(sources: &Sources) -> Vec<String> {
    let house = House::open(sources);
    let mut found = BTreeSet::from_iter(house.faults.iter().cloned());
    for (path, module) in &house.modules {
        let Some(room) = path.first() else { continue };
        if !is_in_plan(room) {
            found.insert(format!("{}: the plan has no room `{room}`", module.file));
            continue;
        }
        for mention in &module.mentions {
            for fault in faults_of(&house, mention, |used| may_use(room, used)) {
                found.insert(format!("{}: {room} {fault}", module.file));
            }
        }
    }
    found.extend(binary_trespasses(&house, sources));
    found.into_iter().collect()
}

/// The binary turns words into a call of the front door and does nothing else.
fn binary_trespasses(house: &House, sources: &Sources) -> Vec<String> {
    let Some(text) = sources.get("src/main.rs") else { return Vec::new() };
    let parsed = match syn::parse_file(text) {
        Ok(parsed) => parsed,
        Err(error) => return vec![format!("src/main.rs: {error}")],
    };
    let mut mentions = Mentions::new(env!("CARGO_PKG_NAME"), &[]);
    mentions.visit_file(&parsed);
    let mut found: Vec<String> = mentions
        .found
        .iter()
        .flat_map(|mention| faults_of(house, mention, |used| used == FRONT))
        .map(|fault| format!("src/main.rs: main {fault}"))
        .collect();
    if parsed.items.iter().any(|item| matches!(item, syn::Item::Mod(item) if item.content.is_none())) {
        found.push("src/main.rs: modules belong to the library".to_owned());
    }
    found
}

fn faults_of(house: &House, mention: &Mention, may_use: impl Fn(&str) -> bool) -> Vec<String> {
    let written = format!("`crate::{}`", mention.path.join("::"));
    if mention.path.is_empty() {
        let how = if mention.manner == Manner::All { "takes in all of" } else { "renames" };
        return vec![format!("{how} the crate root, which hides the rooms it uses")];
    }
    let rooms = house.rooms_of(mention);
    if rooms.is_empty() {
        return vec![format!("uses {written}, which is in no room")];
    }
    let forbidden = rooms.iter().filter(|used| !may_use(used));
    forbidden.map(|used| format!("must not use {used} ({written})")).collect()
}

fn is_in_plan(room: &str) -> bool {
    room == FRONT || room == SANDBOX || ROOMS.contains(&room)
}

fn may_use(user: &str, used: &str) -> bool {
    let height = |room: &str| ROOMS.iter().position(|&known| known == room);
    match (user, used) {
        _ if user == used => true,
        (FRONT, _) => is_in_plan(used),
        (SANDBOX, _) => SANDBOX_MAY_USE.contains(&used),
        _ => matches!((height(user), height(used)), (Some(user), Some(used)) if used < user),
    }
}

fn unkept_files(sources: &Sources) -> Vec<String> {
    let house = House::open(sources);
    let mut found = Vec::new();
    for (file, text) in sources {
        if DRAWERS.contains(&file.rsplit('/').next().unwrap_or(file)) {
            found.push(format!("{file}: the name does not say what the file holds"));
        }
        let lines = lines_before_tests(text);
        if lines > MOST_LINES && !house.test_files.contains(file) {
            found.push(format!("{file}: {lines} lines before its tests, more than {MOST_LINES}"));
        }
    }
    found
}

fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let starts_tests = |at: usize| {
        lines.get(at) == Some(&"#[cfg(test)]")
            && lines
                .iter()
                .skip(at + 1)
                .find(|line| !line.starts_with("#["))
                .is_some_and(|line| line.contains("mod "))
    };
    (0..lines.len()).find(|&at| starts_tests(at)).unwrap_or(lines.len())
}

mod planted {
    //! A gate that cannot turn red guards nothing: each kind of edge, planted in a small house.

    use super::*;

    /// A house of the given files, `lib.rs` made from the rooms among them.
    fn house(files: &[(&str, &str)]) -> Sources {
        let mut sources: Sources =
            files.iter().map(|(file, text)| (format!("src/{file}"), (*text).to_owned())).collect();
        let rooms: Vec<&str> = files.iter().filter_map(|(file, _)| file.strip_suffix(".rs")).collect();
        let declarations =
            rooms.iter().filter(|room| !room.contains('/') && !matches!(**room, "main" | "lib"));
        let library = sources.entry("src/lib.rs".to_owned()).or_default();
        for room in declarations {
            library.push_str(&format!("pub mod {room};\n"));
        }
        sources
    }

    #[track_caller]
    fn assert_one(files: &[(&str, &str)], expected: &str) {
        assert_eq!(trespasses(&house(files)), [expected]);
    }

    #[track_caller]
    fn assert_none(files: &[(&str, &str)]) {
        assert_eq!(trespasses(&house(files)), [""; 0]);
    }

    #[test]
    fn an_edge_to_the_right_is_found() {
        assert_one(
            &[("clock.rs", "use crate::token::Error;"), ("token.rs", "pub struct Error;")],
            "src/clock.rs: clock must not use token (`crate::token::Error`)",
        );
    }

    #[test]
    fn an_edge_to_the_left_is_allowed() {
        assert_none(&[("token.rs", "use crate::clock::Clock;"), ("clock.rs", "pub trait Clock {}")]);
    }

    #[test]
    fn an_edge_in_a_nested_group_is_found() {
        assert_one(
            &[
                ("call.rs", "use crate::{clock::{self, Clock}, sign::{error::{Fault as _}}};"),
                ("clock.rs", "pub trait Clock {}"),
                ("sign.rs", "pub mod error { pub trait Fault {} }"),
            ],
            "src/call.rs: call must not use sign (`crate::sign::error::Fault`)",
        );
    }

    #[test]
    fn super_that_climbs_out_of_its_room_is_found() {
        assert_one(
            &[
                ("jose.rs", "mod jwk; pub mod deep { pub mod down { pub use super::super::jwk::Jwk; } }"),
                ("jose/jwk.rs", "pub struct Jwk; fn x() { super::super::grant::ask() }"),
                ("grant.rs", "pub fn ask() {}"),
            ],
            "src/jose/jwk.rs: jose must not use grant (`crate::grant::ask`)",
        );
    }

    #[test]
    fn an_edge_in_types_patterns_and_trait_bounds_is_found() {
        for text in [
            "pub struct S(Option<Vec<crate::token::T>>);",
            "fn f(x: u8) -> bool { matches_(|crate::token::T { .. }| true) }",
            "fn f<X: crate::token::T>() {}",
            "fn f() -> <u8 as crate::token::T>::Out { loop {} }",
            "impl crate::token::T for u8 {}",
            "mod inner { fn f() { mod innermost { fn g() { super::super::super::token::T } } } }",
        ] {
            let files = [("sign.rs", text), ("token.rs", "pub struct T;")];
            let found = trespasses(&house(&files));
            let expected = "src/sign.rs: sign must not use token (`crate::token::T";
            assert!(matches!(found.as_slice(), [one] if one.starts_with(expected)), "{text}: {found:?}");
        }
    }

    #[test]
    fn an_edge_inside_a_macro_or_an_attribute_is_found() {
        for text in [
            "fn f() { tokio::select! { _ = crate::token::T::new() => {} } }",
            "macro_rules! m { () => { $crate::token::T }; }",
            "macro_rules! m { () => { use super::{clock, token::{T}}; }; }",
            "fn f() { assert!([1].iter().any(|_| { super::token::T })); }",
            "#[serde(with = \"crate::token::T\")] struct S;",
            "struct S { #[serde(default = \"super::token::T\")] x: u8 }",
            "#[derive(crate::token::T)] struct S;",
        ] {
            let files = [("sign.rs", text), ("clock.rs", ""), ("token.rs", "pub struct T;")];
            let found = trespasses(&house(&files));
            let expected = "src/sign.rs: sign must not use token (`crate::token::T";
            assert!(matches!(found.as_slice(), [one] if one.starts_with(expected)), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_link_in_documentation_is_no_edge() {
        assert_none(&[
            ("sign.rs", "#![doc = \"crate::token::T\"]\n/// See [`crate::token::T`].\npub struct S;"),
            ("token.rs", "pub struct T;"),
        ]);
    }

    #[test]
    fn a_re_export_is_followed_to_the_room_it_comes_from() {
        let passing_on = "mod jwk; pub use self::jwk::Get;";
        let files = [
            ("jose.rs", passing_on),
            ("jose/jwk.rs", "pub use crate::http::{Client as Get};"),
            ("http.rs", "pub struct Client;"),
            ("sandbox.rs", "use crate::jose::Get;"),
        ];
        assert_one(&files, "src/sandbox.rs: sandbox must not use http (`crate::jose::Get`)");
        let by_glob = [
            ("jose.rs", "pub use crate::http::*;"),
            ("http.rs", "pub struct Client;"),
            ("sandbox.rs", "fn f() { crate::jose::Client }"),
        ];
        assert_one(&by_glob, "src/sandbox.rs: sandbox must not use http (`crate::jose::Client`)");
        let taking_all =
            [("jose.rs", "pub use crate::http::Client;"), files[2], ("sandbox.rs", "use super::jose::*;")];
        assert_one(&taking_all, "src/sandbox.rs: sandbox must not use http (`crate::jose`)");
    }

    #[test]
    fn a_re_export_of_the_crate_root_is_followed() {
        for lib in ["pub use token::Error;", "pub use crate::token::*;", "pub use self::token::{Error};"] {
            let files =
                [("lib.rs", lib), ("sign.rs", "use crate::Error;"), ("token.rs", "pub enum Error {}")];
            let found = trespasses(&house(&files));
            assert_eq!(found, ["src/sign.rs: sign must not use token (`crate::Error`)"], "{lib}");
        }
        assert_none(&[
            ("lib.rs", "pub use clock::Clock;"),
            ("sign.rs", "use crate::Clock;"),
            ("clock.rs", "pub trait Clock {}"),
        ]);
    }

    #[test]
    fn re_exports_that_run_in_circles_end() {
        assert_none(&[(
            "clock.rs",
            "pub use crate::clock::inner::A; pub mod inner { pub use super::A; pub use super::*; }",
        )]);
        assert_none(&[
            ("call.rs", "use time; use time::Duration; pub use self::Duration as D;"),
            ("clock.rs", ""),
        ]);
    }

    #[test]
    fn what_hides_an_edge_is_refused() {
        for (text, expected) in [
            (
                "use crate::*;",
                "src/sign.rs: sign takes in all of the crate root, which hides the rooms it uses",
            ),
            (
                "mod t { use super::super::*; }",
                "src/sign.rs: sign takes in all of the crate root, which hides the rooms it uses",
            ),
            ("use crate as root;", "src/sign.rs: sign renames the crate root, which hides the rooms it uses"),
            (
                "use super::{self as root};",
                "src/sign.rs: sign renames the crate root, which hides the rooms it uses",
            ),
            (
                "extern crate self as root;",
                "src/sign.rs: sign renames the crate root, which hides the rooms it uses",
            ),
            ("#[path = \"../x.rs\"] mod x {}", "src/sign.rs: mod x is led elsewhere by #[path]"),
            ("use crate::Version;", "src/sign.rs: sign uses `crate::Version`, which is in no room"),
        ] {
            assert_one(&[("lib.rs", "pub struct Version;"), ("sign.rs", text)], expected);
        }
    }

    #[test]
    fn a_room_that_the_plan_does_not_have_is_found() {
        assert_one(&[("helpers.rs", "")], "src/helpers.rs: the plan has no room `helpers`");
    }

    #[test]
    fn a_file_that_no_module_declares_is_found() {
        assert_one(
            &[("jose.rs", ""), ("jose/jwk.rs", "use crate::token::T;")],
            "src/jose/jwk.rs: no module declares this file",
        );
        assert_one(
            &[("jose.rs", "mod jwk;")],
            "src/jose/jwk.rs: declared as a module, but there is no such file",
        );
    }

    #[test]
    fn tests_inside_a_room_may_use_every_room_and_hide_nothing_else() {
        assert_none(&[
            ("sandbox.rs", "#[cfg(test)] mod tests { use crate::config; } #[cfg(test)] mod more;"),
            ("sandbox/more.rs", "use super::super::config;"),
            ("config.rs", ""),
        ]);
        for gate in ["#[cfg(not(test))]", "#[cfg(any(test, feature = \"x\"))]", "#[cfg(feature = \"test\")]"]
        {
            let text = format!("{gate} mod tests {{ use crate::config; }}");
            let found = trespasses(&house(&[("sandbox.rs", &text), ("config.rs", "")]));
            assert_eq!(found, ["src/sandbox.rs: sandbox must not use config (`crate::config`)"], "{gate}");
        }
    }

    #[test]
    fn only_the_front_door_opens_the_sandbox_and_the_sandbox_sees_two_rooms() {
        for room in ROOMS {
            assert!(!may_use(room, SANDBOX), "{room}");
            assert!(!may_use(room, FRONT), "{room}");
            assert_eq!(may_use(SANDBOX, room), matches!(room, "clock" | "jose"), "{room}");
            assert!(may_use(FRONT, room), "{room}");
        }
        assert!(may_use(FRONT, SANDBOX));
        assert!(!may_use(SANDBOX, FRONT));
    }

    #[test]
    fn the_binary_uses_the_front_door_only() {
        let rooms = [("cli.rs", "pub fn run() {}"), ("token.rs", "pub struct T;")];
        let with = |main| [rooms[0], rooms[1], ("main.rs", main)];
        assert_none(&with("use segl::cli; fn main() { cli::run(); segl::cli::run() }"));
        assert_one(
            &with("fn main() { let _ = segl::token::T; }"),
            "src/main.rs: main must not use token (`crate::token::T`)",
        );
        assert_one(
            &with("use segl::*;"),
            "src/main.rs: main takes in all of the crate root, which hides the rooms it uses",
        );
        assert_one(&with("mod cli;"), "src/main.rs: modules belong to the library");
    }

    #[test]
    fn the_real_edges_are_seen() {
        // The gate would be green, too, if it read nothing.
        let house = House::open(&super::sources().expect("the sources can be read"));
        let sees = |user: &str, used: &str| {
            let inside =
                house.modules.iter().filter(|(path, _)| path.first().is_some_and(|room| room == user));
            inside
                .flat_map(|(_, module)| &module.mentions)
                .any(|mention| house.rooms_of(mention).contains(used))
        };
        assert!(sees("call", "clock"));
        assert!(sees("sign", "certificate"));
        assert!(sees("token", "grant"));
    }

    #[test]
    fn drawers_and_long_files_are_found() {
        let long = "// x\n".repeat(MOST_LINES + 1);
        let just = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "// x\n".repeat(MOST_LINES));
        let sources = house(&[
            ("clock.rs", &long),
            ("sign.rs", "mod utils;"),
            ("sign/utils.rs", ""),
            ("token.rs", &just),
            ("jose.rs", "#[cfg(test)]\nmod vectors;"),
            ("jose/vectors.rs", &long),
        ]);
        assert_eq!(
            unkept_files(&sources),
            [
                "src/clock.rs: 421 lines before its tests, more than 420",
                "src/sign/utils.rs: the name does not say what the file holds",
            ]
        );
    }
}
