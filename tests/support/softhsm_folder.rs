//! Where a SoftHSM2 of one's own has its devices.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Makes a place for devices in `folder`, and the configuration that leads SoftHSM2 there: what `SOFTHSM2_CONF` is to name.
pub(crate) fn configure(folder: &Path) -> PathBuf {
    let (configuration, tokens) = (folder.join("softhsm2.conf"), folder.join("tokens"));
    fs::create_dir_all(&tokens).unwrap();
    let lines = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    fs::write(&configuration, lines).unwrap();
    configuration
}
