//! What programs read from standard output.

use std::io::{self, Write};

use serde::Serialize;

/// Writes `value`, and ends the line.
pub(super) fn write(value: &(impl Serialize + ?Sized), out: &mut dyn Write) -> io::Result<()> {
    let json = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    writeln!(out, "{json}")
}

/// Holds the JSON Schema `docs/NAME` against what is printed of a `T`; with SEGL_WRITE_SCHEMA set, writes it before.
#[cfg(test)]
pub(super) fn assert_documented<T: schemars::JsonSchema>(name: &str) {
    use std::{fs, path::Path};

    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let current = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("SEGL_WRITE_SCHEMA").is_some() {
        fs::write(&path, &current).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == current,
        "docs/{name} is old: run this test once with SEGL_WRITE_SCHEMA=1"
    );
}
