//! What the program prints, kept as fixtures in `tests/cmd`. After a change that is meant:
//! `TRYCMD=overwrite cargo test --test cli`.

#![cfg(feature = "cli")]

#[test]
fn the_program_prints_what_the_fixtures_say() {
    trycmd::TestCases::new()
        .env("SEGL_CONFIG", "")
        .env("COLUMNS", "100")
        .env("LC_ALL", "C")
        .case("tests/cmd/*.trycmd");
}
