use std::collections::BTreeMap;

use super::{document::Report, error::Fault};
use crate::sign::pkcs11::profile::{ProfileError, Profiles};

/// Checks the `[profiles.NAME]` tables as far as that can be done here: the profile that one changes may lie in a
/// folder, which is read later.
pub(super) fn check(changes: &BTreeMap<String, toml::Table>, report: &mut Report) {
    let profiles = Profiles::embedded();
    for (name, table) in changes {
        let place = format!("profiles.{name}");
        match profiles.check_changes(name, table.clone()) {
            Ok(()) => {}
            Err(ProfileError::Field { key, problem, .. }) if !key.is_empty() => {
                report.refuse(&format!("{place}.{key}"), Fault::Value { message: problem });
            }
            Err(ProfileError::Field { problem, .. }) => {
                report.refuse(&place, Fault::Value { message: problem });
            }
            Err(other) => report.refuse(&place, Fault::Value { message: other.to_string() }),
        }
    }
}
