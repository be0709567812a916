//! In what a profile differs from the careful default, and why that matters to people.

use serde::Serialize;

use super::Profile;

/// A field of a profile that does not have its default.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The field with its table, as `session.lanes`.
    pub field: &'static str,
    /// What the profile says.
    pub value: toml::Value,
    /// Why it matters, one sentence.
    pub why: &'static str,
}

/// Every field that a device can differ in, and why it matters.
const FIELDS: &[(&str, &str)] = &[
    ("module.paths", "Segl looks for the library in these places, in this order."),
    (
        "module.env_config",
        "This variable leads the library to its configuration; where it is set, the library is meant.",
    ),
    (
        "module.env_required",
        "Without these variables the library cannot start, so it is left out until they are set.",
    ),
    ("module.env_default", "Segl sets these variables for the library when they are not set already."),
    (
        "module.env_danger",
        "These variables make the library write to a log what it should not, PINs among it: keep them unset.",
    ),
    ("module.env", "The library looks at these variables, so its process gets to see them."),
    ("module.working_directory", "The library looks for files in the folder that its process works in."),
    (
        "module.memory_limit_mb",
        "The library's process is ended and started anew when it takes up more memory than this.",
    ),
    (
        "module.os_locking",
        "The library does not start when it is told to lock by itself, so one thread alone may use it.",
    ),
    (
        "module.reserved",
        "The library wants this text when it starts, with environment variables in their places.",
    ),
    (
        "module.force_v2",
        "C_GetInterface of this library cannot be relied on, so the functions of PKCS#11 2.40 are taken.",
    ),
    (
        "module.finalize",
        "The library hangs or crashes when it is ended properly, so its process is ended instead.",
    ),
    (
        "module.init_timeout_s",
        "Starting takes longer or shorter than with others; after so many seconds the library is given up.",
    ),
    (
        "module.isolation",
        "The library has been tried and does not crash, so it runs within Segl and needs no process of its own.",
    ),
    (
        "module.groups",
        "The user who runs Segl must be in these groups, or the library shows nothing or hangs.",
    ),
    ("module.services", "These services must run, or the library finds no device."),
    ("login.mode", "When Segl logs in, whatever the device says of it."),
    ("login.user_type", "The login is that of a user who may use keys and not change them."),
    (
        "login.pin_format",
        "A PIN that does not match this expression is refused before the device sees it, and costs no try.",
    ),
    ("login.pin_hint", "What to type when Segl asks for the PIN."),
    (
        "login.pin_length",
        "A shorter or longer PIN (in bytes) is refused before the device sees it, and costs no try.",
    ),
    (
        "login.protected_path",
        "Whether the PIN is typed on the device itself, whatever the device says of it.",
    ),
    ("login.lockout_scope", "What refused PINs lock: this device alone, the whole hardware, or nothing."),
    ("login.flags_reliable", "What the device says of the tries that are left can be believed."),
    (
        "session.kind",
        "Sessions are opened read-write: the device refuses others, or is not known to take them.",
    ),
    ("session.lanes", "So many signatures run at the same time; one alone would leave the device idle."),
    (
        "session.total",
        "There are no more sessions than these, for all programs that use the device from here.",
    ),
    ("sign.ladder", "The forms of a signature that are tried, in this order."),
    ("sign.always_auth", "Whether keys ask for the PIN at each signature, whatever they say themselves."),
    ("sign.context_login", "The library refuses a login for one signature, or takes it for something else."),
    ("sign.context_pin", "A signature wants a PIN of its own, beside that of the login: set sign_pin."),
    (
        "sign.call_timeout_s",
        "A signature takes longer or shorter than with others; after so many seconds the library counts as hung.",
    ),
    (
        "objects.certificates",
        "The device holds no certificates: give them in a file (chain, or the client's certificate).",
    ),
    ("errors.reinit", "These errors mean that the device or its link is gone; the library is started anew."),
    ("errors.transient", "These errors pass by themselves; the same is asked once more."),
    ("errors.fatal", "Nothing helps against these errors; they are the answer."),
    (
        "errors.busy",
        "These errors mean that the device has too much to do; it is not broken, and asked again later.",
    ),
    (
        "errors.reinit_kind",
        "C_Finalize and C_Initialize do not bring this library back: its process is started anew instead.",
    ),
    ("errors.open_after", "After so many failures within a minute the device is left alone for a while."),
    (
        "errors.first_retry_ms",
        "A device that was left alone is asked again after so many milliseconds, then after twice as many.",
    ),
    ("errors.longest_retry_ms", "It is asked again after so many milliseconds at the latest."),
    (
        "errors.probe",
        "The library searches in what it remembers, so a device that was away is asked for a random number.",
    ),
];

impl Profile {
    /// The fields in which this profile differs from [`Profile::unknown`], in the order of the format.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        let (Ok(this), Ok(usual)) = (toml::Table::try_from(self), toml::Table::try_from(Self::unknown()))
        else {
            return Vec::new();
        };
        let differing = FIELDS.iter().filter_map(|(field, why)| {
            let value = value_of(&this, field)?;
            let differs = value_of(&usual, field) != Some(value);
            differs.then(|| Difference { field, value: value.clone(), why })
        });
        differing.collect()
    }
}

fn value_of<'a>(table: &'a toml::Table, field: &str) -> Option<&'a toml::Value> {
    let (section, key) = field.split_once('.')?;
    table.get(section)?.get(key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_of_a_profile_is_explained_and_no_other() {
        let schema = schemars::schema_for!(Profile).to_value();
        let sections = [
            ("module", "Module"),
            ("login", "Login"),
            ("session", "Session"),
            ("sign", "Sign"),
            ("objects", "Objects"),
            ("errors", "Errors"),
        ];
        let mut known = BTreeSet::new();
        for (section, definition) in sections {
            let properties = schema["$defs"][definition]["properties"].as_object().unwrap();
            known.extend(properties.keys().map(|key| format!("{section}.{key}")));
        }
        let explained: BTreeSet<String> = FIELDS.iter().map(|(field, _)| (*field).to_owned()).collect();
        assert_eq!(explained, known);
        for (field, why) in FIELDS {
            assert!(why.ends_with('.') && why.len() > 20, "{field}");
        }
    }

    #[test]
    fn the_careful_default_differs_in_nothing_and_a_change_is_seen() {
        assert_eq!(Profile::unknown().differences(), []);
        let mut profile = Profile::unknown();
        profile.session.lanes = 4;
        profile.login.pin_length = Some((6, 8));
        let differences = profile.differences();
        let told: Vec<_> = differences.iter().map(|found| (found.field, found.value.to_string())).collect();
        assert_eq!(told, [("login.pin_length", "[6, 8]".to_owned()), ("session.lanes", "4".to_owned())]);
    }
}
