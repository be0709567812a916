use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::super::failure::Failure;
use crate::{
    sandbox::Sandbox,
    state::{self, Mode},
};

/// Longer than anything that is placed here.
const LONGEST: u64 = 64 * 1024;

/// A file that is there while the sandbox runs. Removed at the end, unless somebody has changed it by then.
#[derive(Debug)]
pub(super) struct Placed {
    path: PathBuf,
    content: Vec<u8>,
}

impl Placed {
    /// Writes a configuration. A file that is there already is never replaced; one with the same content will do.
    pub(super) fn config(path: &Path, content: &str) -> Result<Self, Failure> {
        if content_of(path).as_deref() != Some(content.as_bytes()) {
            state::write_file(path, content.as_bytes(), Mode::Public, false)?;
        }
        Ok(Self { path: path.to_owned(), content: content.into() })
    }

    /// Writes, in one step, that the sandbox answers and where.
    pub(super) fn ready(path: &Path, sandbox: &Sandbox) -> Result<Self, Failure> {
        let ready = Ready {
            segl_sandbox: 1,
            pid: std::process::id(),
            maskinporten: sandbox.issuer().to_owned(),
            customs: sandbox.customs().to_owned(),
            altinn: sandbox.altinn().to_owned(),
            management: sandbox.management(),
        };
        let content = format!("{}\n", serde_json::to_string(&ready).unwrap_or_default()).into_bytes();
        state::write_file(path, &content, Mode::Public, false)?;
        Ok(Self { path: path.to_owned(), content })
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if content_of(&self.path).as_ref() == Some(&self.content) {
            // When that fails, nobody is left who could do something about it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What `--ready-file` holds.
#[derive(Debug, Deserialize, Serialize)]
struct Ready {
    /// Version of this file.
    segl_sandbox: u32,
    pid: u32,
    /// Issuer, with its final slash.
    maskinporten: String,
    customs: String,
    altinn: String,
    #[serde(default)]
    management: Option<String>,
}

/// Removes what a sandbox that was killed left behind: whoever waits for the file must not find an old one. Any other
/// file is left alone.
pub(super) fn make_way_for_ready_file(path: &Path) -> Result<(), Failure> {
    if content_of(path).is_some_and(|content| serde_json::from_slice::<Ready>(&content).is_ok()) {
        let _ = fs::remove_file(path);
    }
    match fs::symlink_metadata(path) {
        Ok(_) => Err(state::Error::Exists { path: path.to_owned() }.into()),
        Err(_) => Ok(()),
    }
}

fn content_of(path: &Path) -> Option<Vec<u8>> {
    // A named pipe would be waited on.
    let is_file = fs::symlink_metadata(path).ok()?.is_file();
    let mut content = Vec::new();
    let file = is_file.then(|| File::open(path).ok())??;
    file.take(LONGEST).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_was_changed_is_neither_replaced_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segl.toml");
        let placed = Placed::config(&path, "schema = 1\n").unwrap();
        drop(Placed::config(&path, "schema = 1\n").unwrap());
        assert!(!path.exists(), "one with the same content is ours");
        fs::write(&path, "schema = 1 # mine\n").unwrap();
        assert!(Placed::config(&path, "schema = 1\n").unwrap_err().to_string().contains("exists already"));
        drop(placed);
        assert_eq!(fs::read_to_string(&path).unwrap(), "schema = 1 # mine\n");
    }

    #[test]
    fn only_a_ready_file_is_taken_for_a_stale_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        for kept in ["", "{}", "other", r#"{"pid": 1}"#] {
            fs::write(&path, kept).unwrap();
            assert!(make_way_for_ready_file(&path).unwrap_err().to_string().contains("exists already"));
            assert!(path.exists(), "{kept}");
        }
        let stale = r#"{"segl_sandbox":1,"pid":1,"maskinporten":"","customs":"","altinn":""}"#;
        fs::write(&path, stale).unwrap();
        make_way_for_ready_file(&path).unwrap();
        assert!(!path.exists());
    }
}
