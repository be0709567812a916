//! What of the environment the process of a library gets to see: what is named, and nothing else. Everything that is
//! in a process's memory can be read by the library in it, and what an environment holds is nobody's choice.

use std::{ffi::OsString, path::Path};

use super::{Module, placeholder};

/// Variables that programs of every kind look at; a `*` at the end stands for anything.
const USUAL: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
];

/// How the names of Segl's own variables begin, private keys among them.
const OWN: [&str; 2] = ["SEGL_", "MASKINPORTEN_"];

/// Whether a variable of this name may hold a secret, or leads to secrets: no library gets it, whoever asks for it.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let secret = |word: &str| {
        word.ends_with("PIN")
            || word.contains("PASSWORD")
            || matches!(word, "PASSWD" | "PASSPHRASE" | "SECRET")
    };
    name == "CREDENTIALS_DIRECTORY"
        || OWN.iter().any(|own| name.starts_with(own))
        || name.split('_').any(secret)
}

/// Whether `name` is the variable, or one of the variables, that `pattern` names.
fn names(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

impl Module {
    /// The variables by which the library is configured, those with a `*` as they are written.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let config = Some(self.env_config.as_str()).filter(|name| !name.is_empty());
        let listed = self.env.iter().chain(&self.env_required).chain(self.env_default.keys());
        listed.map(String::as_str).chain(config).chain(placeholder::names(&self.reserved))
    }

    /// What the library's process finds in its environment, out of `whole`, that of this process.
    #[must_use]
    pub fn environment(
        &self,
        whole: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let seen = whole.into_iter().filter(|(name, _)| name.to_str().is_some_and(|name| self.sees(name)));
        let mut seen: Vec<_> = seen.map(|(name, value)| self.found_from_anywhere(name, value)).collect();
        for (name, value) in &self.env_default {
            if !seen.iter().any(|(set, _)| set.to_str() == Some(name)) {
                seen.push((name.into(), value.into()));
            }
        }
        seen
    }

    fn sees(&self, name: &str) -> bool {
        let is_danger = self.env_danger.iter().any(|danger| danger == name);
        let known = USUAL.into_iter().chain(self.variables());
        !is_secret(name) && known.into_iter().any(|known| known == name || (!is_danger && names(known, name)))
    }

    /// The library works in a folder of its own: a path to its configuration is to lead to the same file there.
    fn found_from_anywhere(&self, name: OsString, value: OsString) -> (OsString, OsString) {
        let is_config =
            name.to_str().is_some_and(|name| name == self.env_config || self.env_configs.contains(name));
        let is_path = is_config && Path::new(&value).exists();
        let absolute = if is_path { std::path::absolute(&value).ok() } else { None };
        (name, absolute.map_or(value, Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Profiles, *};

    fn names_seen(module: &Module, whole: &[&str]) -> Vec<String> {
        let whole = whole.iter().map(|name| (OsString::from(name), OsString::from("x")));
        module.environment(whole).into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_library_sees_what_every_program_needs_and_what_its_profile_names() {
        let module = Module {
            env_config: "CARD_CONF".into(),
            env_required: vec!["CARD_HOME".into()],
            env_danger: vec!["CARD_DEBUG".into()],
            env: vec!["CARDS_*".into(), "DBUS_SESSION_BUS_ADDRESS".into()],
            reserved: "dir='${CARD_DIR}'".into(),
            ..Module::default()
        };
        let seen = [
            "PATH",
            "LC_TIME",
            "CARD_CONF",
            "CARD_HOME",
            "CARD_DIR",
            "CARDS_READER",
            "DBUS_SESSION_BUS_ADDRESS",
        ];
        assert_eq!(names_seen(&module, &seen), seen);
        let hidden = ["LD_LIBRARY_PATH", "LD_PRELOAD", "CARD_DEBUG", "DATABASE_URL", "SSH_AUTH_SOCK", "CARD"];
        assert_eq!(names_seen(&module, &hidden), [""; 0]);
    }

    #[test]
    fn secrets_stay_here_whatever_a_profile_names() {
        let secrets = [
            "MASKINPORTEN_CLIENT_JWK",
            "SEGL_PIN_FILE",
            "CREDENTIALS_DIRECTORY",
            "HSM_PIN",
            "TOKEN_SOPIN",
            "CARD_PASSWORD",
            "pkcs11_pin",
        ];
        let env = secrets.iter().map(|name| (*name).to_owned()).chain(["*".to_owned()]).collect();
        assert_eq!(names_seen(&Module { env, ..Module::default() }, &secrets), [""; 0]);
    }

    #[test]
    fn what_makes_a_library_write_down_pins_takes_its_whole_name() {
        let danger = || vec!["CARD_DEBUG".to_owned()];
        let module = |env: &str| Module { env_danger: danger(), env: vec![env.into()], ..Module::default() };
        assert_eq!(names_seen(&module("CARD_*"), &["CARD_DEBUG", "CARD_LOG"]), ["CARD_LOG"]);
        assert_eq!(names_seen(&module("CARD_DEBUG"), &["CARD_DEBUG"]), ["CARD_DEBUG"]);
    }

    #[test]
    fn a_default_is_set_where_nothing_else_is() {
        let env_default = [("CARD_MODE".to_owned(), "single".to_owned())].into();
        let module = Module { env_default, ..Module::default() };
        let value = |whole: Vec<(OsString, OsString)>| module.environment(whole)[0].1.clone();
        assert_eq!(value(Vec::new()), "single");
        assert_eq!(value(vec![("CARD_MODE".into(), "many".into())]), "many");
    }

    #[test]
    fn a_relative_path_to_a_configuration_leads_to_the_same_file_from_any_folder() {
        let module = Module { env_config: "CARD_CONF".into(), ..Module::default() };
        let value = |value: &str| module.environment([("CARD_CONF".into(), value.into())])[0].1.clone();
        assert_eq!(value("Cargo.toml"), std::path::absolute("Cargo.toml").unwrap());
        assert_eq!(value("unix:path=/run/p11.sock"), "unix:path=/run/p11.sock");
    }

    #[test]
    fn a_library_that_nobody_knows_finds_the_configuration_of_the_one_behind_it() {
        let module = Profiles::embedded().unknown().module;
        for name in ["SOFTHSM2_CONF", "OPENSC_CONF"] {
            let seen = module.environment([(name.into(), "Cargo.toml".into())]);
            assert!(
                seen.contains(&(name.into(), std::path::absolute("Cargo.toml").unwrap().into())),
                "{seen:?}"
            );
        }
        let seen = module.environment([("LANG".into(), "src".into())]);
        assert!(seen.contains(&("LANG".into(), "src".into())), "what is no path stays as it is: {seen:?}");
    }
}
