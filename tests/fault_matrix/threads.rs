//! The matrix with the library in threads of the program: a process for each row, since in one process all copies of the
//! module would share what they wrap.

use std::{fs, path::PathBuf};

use libtest_mimic::Failed;

use crate::{
    alone::{alone, is_alone},
    cell::Cell,
    figures::{Figures, Seen, Way},
    rows::{End, PHASES, Row},
    stand::{Bench, Stand},
};

const IN_THREADS: &str = "isolation = \"thread\"\n";

/// Runs the row in a process of its own; `name` is the name of this test.
pub(crate) fn run(stand: &Stand, figures: &Figures, name: &str, row: &Row) -> Result<(), Failed> {
    let told = tempfile::NamedTempFile::new()?;
    alone(
        name,
        |folder| {
            let configuration = stand.copy(folder);
            vec![("SOFTHSM2_CONF", configuration.into()), ("SEGL_TEST_FIGURES", told.path().into())]
        },
        async |folder: PathBuf| {
            let mut sum = Seen::default();
            let mut failures = Vec::new();
            for (phase, end) in PHASES.into_iter().zip(row.ends) {
                if matches!(end, End::No(_)) {
                    continue;
                }
                // A copy of the module for each, since what it counts and remembers is its own.
                let own = folder.join(phase.name());
                fs::create_dir(&own).unwrap();
                fs::copy(folder.join("spki"), own.join("spki")).unwrap();
                let bench = Bench::new(&own, String::new());
                match Cell::new(&bench, row, phase, end, IN_THREADS).all().await {
                    Ok(seen) => sum.join(&seen),
                    Err(why) => failures.push(format!("{}: {why}", phase.name())),
                }
            }
            assert!(failures.is_empty(), "\n{}", failures.join("\n"));
            let told = std::env::var_os("SEGL_TEST_FIGURES").unwrap();
            fs::write(told, serde_json::to_vec(&sum).unwrap()).unwrap();
        },
    );
    // In the process of the row, this is not the one that is told.
    if !is_alone() {
        figures.add(Way::Threads, row.name, serde_json::from_slice(&fs::read(told.path())?)?);
    }
    Ok(())
}
