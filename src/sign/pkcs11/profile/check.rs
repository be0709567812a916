//! What serde cannot see: values that have the right shape and make no sense.

use std::path::Path;

use regex_lite::Regex;

use super::{
    Profile, SCHEMA,
    device::{AlwaysAuth, ContextLogin, ContextPin, LoginMode, ProtectedPath},
    environment,
    error::Problem,
    pattern, placeholder,
};
use crate::sign::pkcs11::ladder;

/// The most sessions and threads that a device may be given.
const MOST_LANES: u8 = 32;

/// Longest PIN that any library takes, in bytes.
const LONGEST_PIN: u32 = 4096;

/// The longest pause before a device is asked again, in milliseconds.
const LONGEST_RETRY: u64 = 600_000;

/// The first thing that is wrong with `profile`.
pub(super) fn check(profile: &Profile) -> Result<(), Problem> {
    identity(profile)?;
    matching(profile)?;
    module(profile)?;
    login(profile)?;
    session(profile)?;
    sign(profile)?;
    errors(profile)
}

fn identity(profile: &Profile) -> Result<(), Problem> {
    ensure("schema", profile.schema == SCHEMA, || {
        format!("{} is not known; this build reads {SCHEMA}", profile.schema)
    })?;
    ensure("name", is_name(&profile.name), || "is made of a-z, 0-9 and -, 64 at most".into())?;
    texts("title", [&profile.title])?;
    ensure("sources", !profile.sources.is_empty(), || "names at least one".into())?;
    texts("sources", &profile.sources)?;
    texts("notes", &profile.notes)
}

fn matching(profile: &Profile) -> Result<(), Problem> {
    let matching = &profile.matching;
    for (key, globs) in [
        ("match.module_file", &matching.module_file),
        ("match.manufacturer", &matching.manufacturer),
        ("match.model", &matching.model),
    ] {
        for glob in globs {
            if let Some(fault) = pattern::fault(glob) {
                return refuse(key, fault);
            }
        }
    }
    let file_name = |glob: &&String| glob.contains('/');
    ensure("match.module_file", !matching.module_file.iter().any(|glob| file_name(&glob)), || {
        "is a file name, without a folder".into()
    })
}

fn module(profile: &Profile) -> Result<(), Problem> {
    let module = &profile.module;
    for path in &module.paths {
        if let Some(fault) = pattern::path_fault(path) {
            return refuse("module.paths", fault);
        }
    }
    let config = Some(module.env_config.as_str()).filter(|name| !name.is_empty());
    variables("module.env_config", config)?;
    variables("module.env_required", module.env_required.iter().map(String::as_str))?;
    variables("module.env_default", module.env_default.keys().map(String::as_str))?;
    variables("module.env_danger", module.env_danger.iter().map(String::as_str))?;
    let of_profile = module.env.iter().map(|name| name.strip_suffix('*').unwrap_or(name));
    variables("module.env", of_profile.filter(|name| !name.is_empty()))?;
    ensure("module.env", !module.env.iter().any(|name| matches!(name.as_str(), "" | "*")), || {
        "names variables; * alone would be all of them".into()
    })?;
    no_secret("module.env_config", config)?;
    no_secret("module.env_required", module.env_required.iter().map(String::as_str))?;
    no_secret("module.env_default", module.env_default.keys().map(String::as_str))?;
    no_secret("module.env", module.env.iter().map(String::as_str))?;
    no_secret("module.reserved", placeholder::names(&module.reserved))?;
    let folder = Path::new(&module.working_directory);
    ensure(
        "module.working_directory",
        folder.is_absolute() && !module.working_directory.contains('\0'),
        || "is an absolute path".into(),
    )?;
    within("module.memory_limit_mb", module.memory_limit_mb, 64, 65_536)?;
    let has_nul = module.env_default.values().any(|value| value.contains('\0'));
    ensure("module.env_default", !has_nul, || "a value holds NUL".into())?;
    ensure("module.reserved", !module.reserved.contains(char::is_control), || {
        "holds control characters".into()
    })?;
    variables("module.reserved", placeholder::names(&module.reserved))?;
    within("module.init_timeout_s", module.init_timeout_s, 1, 600)?;
    texts("module.groups", &module.groups)?;
    texts("module.services", &module.services)
}

fn login(profile: &Profile) -> Result<(), Problem> {
    let login = &profile.login;
    if let Err(why) = Regex::new(&login.pin_format) {
        return refuse("login.pin_format", format!("is no regular expression: {why}"));
    }
    ensure("login.pin_hint", login.pin_format.is_empty() || !login.pin_hint.is_empty(), || {
        "is needed beside pin_format: people must know what to type".into()
    })?;
    ensure("login.pin_hint", !login.pin_hint.contains(char::is_control), || {
        "holds control characters".into()
    })?;
    if let Some((least, most)) = login.pin_length {
        ensure("login.pin_length", least <= most && most <= LONGEST_PIN, || {
            format!("[{least}, {most}] is no shortest and longest, {LONGEST_PIN} at most")
        })?;
    }
    let takes_pin = login.mode != LoginMode::None;
    ensure("login.pin_format", takes_pin || login.pin_format.is_empty(), || {
        "makes no sense with mode = \"none\"".into()
    })?;
    ensure("login.protected_path", takes_pin || login.protected_path != ProtectedPath::Always, || {
        "cannot be \"always\" with mode = \"none\"".into()
    })
}

fn session(profile: &Profile) -> Result<(), Problem> {
    let session = &profile.session;
    within("session.lanes", session.lanes.into(), 1, MOST_LANES.into())?;
    // A lane signs on a session of its own, and one more holds the login.
    let fits = match session.total {
        0 => true,
        1 => session.lanes == 1,
        total => u32::from(session.lanes) < total,
    };
    ensure("session.lanes", fits, || {
        format!("{} and the session that holds the login are more than {}", session.lanes, session.total)
    })
}

fn sign(profile: &Profile) -> Result<(), Problem> {
    let sign = &profile.sign;
    ensure("sign.ladder", !sign.ladder.is_empty(), || "names at least one form".into())?;
    let mut rest = sign.ladder.as_slice();
    while let [form, others @ ..] = rest {
        ensure("sign.ladder", !others.contains(form), || "names a form twice".into())?;
        rest = others;
    }
    within("sign.call_timeout_s", sign.call_timeout_s, 1, 120)?;
    let forbidden = sign.context_login == ContextLogin::Forbidden;
    ensure("sign.always_auth", !(forbidden && sign.always_auth == AlwaysAuth::Yes), || {
        "cannot be \"yes\" with context_login = \"forbidden\"".into()
    })?;
    ensure("sign.context_pin", !(forbidden && sign.context_pin == ContextPin::Separate), || {
        "cannot be \"separate\" with context_login = \"forbidden\"".into()
    })
}

fn errors(profile: &Profile) -> Result<(), Problem> {
    let errors = &profile.errors;
    for (key, list) in [
        ("errors.reinit", &errors.reinit),
        ("errors.transient", &errors.transient),
        ("errors.fatal", &errors.fatal),
        ("errors.busy", &errors.busy),
    ] {
        if let Some(fault) = list.iter().find_map(|text| ladder::fault(text)) {
            return refuse(key, fault);
        }
    }
    within("errors.open_after", errors.open_after.into(), 1, 100)?;
    within("errors.first_retry_ms", errors.first_retry_ms, 10, LONGEST_RETRY)?;
    within("errors.longest_retry_ms", errors.longest_retry_ms, 10, LONGEST_RETRY)?;
    ensure("errors.longest_retry_ms", errors.first_retry_ms <= errors.longest_retry_ms, || {
        format!("is at least first_retry_ms, {}", errors.first_retry_ms)
    })
}

fn ensure(key: &str, holds: bool, problem: impl FnOnce() -> String) -> Result<(), Problem> {
    if holds { Ok(()) } else { refuse(key, problem()) }
}

fn refuse(key: &str, problem: String) -> Result<(), Problem> {
    Err(Problem { key: key.to_owned(), problem })
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), Problem> {
    ensure(key, (least..=most).contains(&value), || format!("is {least} to {most}, not {value}"))
}

fn texts<'a>(key: &str, texts: impl IntoIterator<Item = &'a String>) -> Result<(), Problem> {
    let is_text = |text: &String| !text.trim().is_empty() && !text.contains(char::is_control);
    let all = texts.into_iter().all(is_text);
    ensure(key, all, || "holds an empty text or control characters".into())
}

fn variables<'a>(key: &str, names: impl IntoIterator<Item = &'a str>) -> Result<(), Problem> {
    for name in names {
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        ensure(key, is_name, || format!("{name:?} is no name of an environment variable"))?;
    }
    Ok(())
}

/// Of variables that the library gets to see.
fn no_secret<'a>(key: &str, names: impl IntoIterator<Item = &'a str>) -> Result<(), Problem> {
    let secret = names.into_iter().find(|name| environment::is_secret(name));
    secret.map_or(Ok(()), |secret| {
        refuse(key, format!("{secret} may hold a secret, which no library gets to see"))
    })
}

/// Whether `name` may name a profile.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::pkcs11::profile::ProfileError;

    const SOUND: &str = r#"
schema = 1
name = "card"
title = "A card"
confidence = "guess"
sources = ["https://example.com/"]
"#;

    fn said(more: &str) -> String {
        let error = Profile::parse(&format!("{SOUND}{more}"), "card.toml").unwrap_err();
        assert!(!error.remedy().is_empty());
        error.to_string()
    }

    #[test]
    fn a_file_that_lists_no_difference_is_the_careful_default() {
        let profile = Profile::parse(SOUND, "card.toml").unwrap();
        let unknown = Profile::unknown();
        assert_eq!(profile.module, unknown.module);
        assert_eq!((profile.login, profile.session), (unknown.login, unknown.session));
        assert_eq!((profile.sign, profile.objects), (unknown.sign, unknown.objects));
        assert_eq!(profile.errors, unknown.errors);
        check(&Profile::unknown()).map_err(|problem| problem.problem).unwrap();
    }

    #[test]
    fn every_mistake_is_named_by_file_and_key() {
        for (more, key) in [
            ("[match]\nmanufacturer = [\"*\"]", "match.manufacturer"),
            ("[match]\nmodule_file = [\"/usr/lib/a.so\"]", "match.module_file"),
            ("[module]\npaths = [\"lib/a.so\"]", "module.paths"),
            ("[module]\npaths = [\"/usr/*/*/a.so\"]", "module.paths"),
            ("[module]\nenv_required = [\"A-B\"]", "module.env_required"),
            ("[module.env_default]\n\"1A\" = \"x\"", "module.env_default"),
            ("[module]\nreserved = \"a\\u0000\"", "module.reserved"),
            ("[module]\nreserved = \"${}\"", "module.reserved"),
            ("[module]\ninit_timeout_s = 0", "module.init_timeout_s"),
            ("[module]\nenv = [\"A-*\"]", "module.env"),
            ("[module]\nenv = [\"*\"]", "module.env"),
            ("[module]\nenv = [\"CARD_PIN\"]", "module.env"),
            ("[module]\nenv_config = \"CARD_PIN\"", "module.env_config"),
            ("[module]\nenv_required = [\"CARD_PIN\"]", "module.env_required"),
            ("[module.env_default]\nCARD_PIN = \"x\"", "module.env_default"),
            ("[module]\nreserved = \"${CARD_PIN}\"", "module.reserved"),
            ("[module]\nworking_directory = \"card\"", "module.working_directory"),
            ("[module]\nmemory_limit_mb = 1", "module.memory_limit_mb"),
            ("[module]\ngroups = [\"\"]", "module.groups"),
            ("[login]\npin_format = \"(\"\npin_hint = \"x\"", "login.pin_format"),
            ("[login]\npin_format = \"^x\"", "login.pin_hint"),
            ("[login]\npin_length = [8, 4]", "login.pin_length"),
            ("[login]\nmode = \"none\"\nprotected_path = \"always\"", "login.protected_path"),
            ("[session]\nlanes = 0", "session.lanes"),
            ("[session]\nlanes = 33", "session.lanes"),
            ("[session]\nlanes = 2\ntotal = 1", "session.lanes"),
            ("[session]\nlanes = 2\ntotal = 2", "session.lanes"),
            ("[sign]\nladder = []", "sign.ladder"),
            ("[sign]\nladder = [\"raw\", \"raw\"]", "sign.ladder"),
            ("[sign]\ncall_timeout_s = 121", "sign.call_timeout_s"),
            ("[errors]\nreinit = [\"CKR_NO_SUCH\"]", "errors.reinit"),
            ("[errors]\ntransient = [\"Sign:CKR_DEVICE_ERROR\"]", "errors.transient"),
            ("[errors]\nbusy = [\"C_Login:CKR_DEVICE_ERROR\"]", "errors.busy"),
            ("[errors]\nfatal = [\"CKR_PIN_INCORRECT\"]", "errors.fatal"),
            ("[errors]\nfatal = [\"0xZ\"]", "errors.fatal"),
            ("[errors]\nopen_after = 0", "errors.open_after"),
            ("[errors]\nfirst_retry_ms = 9", "errors.first_retry_ms"),
            ("[errors]\nlongest_retry_ms = 600001", "errors.longest_retry_ms"),
            ("[errors]\nlongest_retry_ms = 100", "errors.longest_retry_ms"),
            ("[sign]\ncontext_login = \"forbidden\"\nalways_auth = \"yes\"", "sign.always_auth"),
            ("[sign]\ncontext_login = \"forbidden\"\ncontext_pin = \"separate\"", "sign.context_pin"),
        ] {
            let said = said(more);
            assert!(said.starts_with(&format!("card.toml: {key}: ")), "{more}: {said}");
        }
        for (old, new, key) in [
            ("schema = 1", "schema = 2", "schema"),
            ("name = \"card\"", "name = \"A card\"", "name"),
            ("title = \"A card\"", "title = \" \"", "title"),
            ("sources = [\"https://example.com/\"]", "sources = []", "sources"),
        ] {
            let said = Profile::parse(&SOUND.replace(old, new), "card.toml").unwrap_err().to_string();
            assert!(said.starts_with(&format!("card.toml: {key}: ")), "{said}");
        }
    }

    #[test]
    fn a_key_or_value_that_is_not_known_is_refused_with_its_file_and_table() {
        for (more, parts) in [
            ("laens = 2", ["laens", "notes"]),
            ("[session]\nlaens = 2", ["laens", "session"]),
            ("[session]\nlanes = \"two\"", ["lanes", "session"]),
            ("[session]\nlanes = -1", ["lanes", "session"]),
            ("[sign]\nladder = [\"pss\"]", ["pss", "sign.ladder"]),
            ("[module]\nisolation = \"p11-kit\"", ["p11-kit", "module.isolation"]),
        ] {
            let said = said(more);
            assert!(said.starts_with("card.toml: "), "{said}");
            assert!(parts.iter().all(|part| said.contains(part)), "{more}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
        let missing = SOUND.replace("confidence = \"guess\"\n", "");
        let said = Profile::parse(&missing, "card.toml").unwrap_err().to_string();
        assert!(said.contains("card.toml") && said.contains("confidence"), "{said}");
    }

    #[test]
    fn what_is_no_toml_is_named_by_file_and_line() {
        let error = Profile::parse("schema = 1\nname = \n", "card.toml").unwrap_err();
        assert!(matches!(error, ProfileError::Syntax { line: 2, .. }), "{error}");
        assert!(error.to_string().starts_with("card.toml:2: "), "{error}");
    }
}
