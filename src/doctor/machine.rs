//! What is the same for all tokens of this machine: files, environment variables, the way out.

use std::{fs, os::unix::fs::MetadataExt as _};

use rustix::process::geteuid;
use url::Url;

use super::{Examination, finding::Findings};
use crate::config::{Config, variables::CLIENT_JWK};

pub(super) fn check(examination: &Examination<'_>, findings: &mut Findings<'_>) {
    let config = examination.config;
    file(config, findings);
    // Those of a token are said with it.
    for warning in config.warnings.iter().filter(|warning| !warning.starts_with("tokens.")) {
        findings.warning(
            "configuration",
            "",
            warning.clone(),
            "Change it in the configuration, when there is time.",
        );
    }
    variables(examination, findings);
    way_out(config, findings);
}

/// Who else may write to the configuration: it names programs to run and libraries to load.
fn file(config: &Config, findings: &mut Findings<'_>) {
    let Some(path) = &config.path else {
        findings.ok("configuration file", "", "none: the configuration stands in environment variables");
        return;
    };
    let shown = path.display();
    match fs::metadata(path) {
        Err(why) => {
            findings.failure("configuration file", "", format!("{shown}: {why}"), "Make the file readable.");
        }
        Ok(found) => match others_may_write(found.uid(), found.mode()) {
            None => findings.ok("configuration file", "", format!("{shown}: nobody else can change it")),
            Some(reason) => findings.warning(
                "configuration file",
                "",
                format!("{shown} {reason}; it names programs to run and libraries to load"),
                format!("Run: chown root {shown} && chmod go-w {shown}"),
            ),
        },
    }
}

fn others_may_write(owner: u32, mode: u32) -> Option<String> {
    if owner != 0 && owner != geteuid().as_raw() {
        return Some(format!("belongs to user {owner}"));
    }
    (mode & 0o022 != 0).then(|| format!("has mode {:04o}, so that others can write to it", mode & 0o7777))
}

/// Variables of PKCS#11 wrappers and libraries that write down what passes through them, PINs included.
const WRITES_PINS: [&str; 3] = ["PKCS11SPY", "PKCS11SPY_OUTPUT", "P11_KIT_DEBUG"];

fn variables(examination: &Examination<'_>, findings: &mut Findings<'_>) {
    let mut sound = true;
    let mut warn = |name: &str, reason: String, remedy: &str| {
        sound = false;
        findings.warning("environment", name, reason, remedy);
    };
    let of_profiles: Vec<(&str, &str)> = examination
        .profiles
        .iter()
        .filter(|profile| !profile.module.installed().is_empty())
        .flat_map(|profile| {
            profile.module.env_danger.iter().map(|name| (name.as_str(), profile.title.as_str()))
        })
        .collect();
    for name in &examination.variables {
        if WRITES_PINS.contains(&name.as_str()) {
            let reason =
                format!("{name} is set: what passes through PKCS#11, PINs among it, may be written to a log");
            warn(name, reason, "Unset it once you have found what you were looking for.");
        } else if let Some((_, title)) = of_profiles.iter().find(|(danger, _)| danger == name) {
            let reason = format!("{name} is set: the library of {title} may write PINs to a log");
            warn(name, reason, "Unset it once you have found what you were looking for.");
        } else if name == CLIENT_JWK {
            let reason = format!("{name} holds a private key, and every process of this user can read it");
            warn(name, reason, "Put the key into a file or a device, and name it in SEGL_KEY.");
        } else if is_pin(name) {
            let reason =
                format!("{name} looks like a PIN or password, and every process of this user can read it");
            warn(name, reason, "Keep it as a systemd credential or a file: segl pin set SIGNER.");
        }
    }
    if sound {
        findings.ok("environment", "", "no variable gives a PIN or a private key away");
    }
}

/// `HSM_PIN`, `SMARTCARD_PASSWORD` and the like; `…_FILE` holds a path.
fn is_pin(name: &str) -> bool {
    let last = name.rsplit('_').next().unwrap_or_default();
    matches!(last, "PIN" | "PASSWORD" | "PASSPHRASE" | "PASSWD")
        || name.ends_with("PIN") && (name.contains("PKCS11") || name.contains("HSM"))
}

/// Whether requests go through a proxy.
fn way_out(config: &Config, findings: &mut Findings<'_>) {
    match proxy(Some(config), &of_process) {
        Ok(None) => findings.ok("proxy", "", "none: the authorities are reached directly"),
        Ok(Some((proxy, from))) => {
            // Its password may stand in the rest of the address.
            let shown = match (proxy.host_str(), proxy.port_or_known_default()) {
                (Some(host), Some(port)) => format!("{host}:{port}"),
                _ => "(no host)".to_owned(),
            };
            findings.ok("proxy", "", format!("{shown} ({from}); never for this machine"));
        }
        Err((name, why)) => findings.failure(
            "proxy",
            "",
            format!("{name} is no address of a proxy: {why}"),
            "Write it as http://HOST:PORT.",
        ),
    }
}

/// A variable of this process's environment.
pub(super) fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The proxy, and who says so: the configuration, else the environment. Or which variable is none, and why.
pub(super) fn proxy(
    config: Option<&Config>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<(Url, &'static str)>, (&'static str, String)> {
    if let Some(proxy) = config.and_then(|config| config.http.proxy.as_ref()) {
        return Ok(Some((proxy.clone(), "[http]")));
    }
    let set = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)));
    let Some((name, value)) = set else { return Ok(None) };
    let with_scheme = if value.contains("://") { value } else { format!("http://{value}") };
    match Url::parse(&with_scheme) {
        Ok(url) => Ok(Some((url, name))),
        Err(why) => Err((name, why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins_are_told_from_names_of_their_files() {
        for name in ["HSM_PIN", "PKCS11_PIN", "PKCS11PIN", "KEY_PASSWORD", "P12_PASSPHRASE", "PIN"] {
            assert!(is_pin(name), "{name}");
        }
        for name in ["SEGL_PIN_FILE", "SHIPPING", "PINNED", "SSH_ASKPASS", "PATH", "TYPING"] {
            assert!(!is_pin(name), "{name}");
        }
    }

    #[test]
    fn a_configuration_that_others_can_change_is_told() {
        let me = geteuid().as_raw();
        assert_eq!(others_may_write(me, 0o100_644), None);
        assert_eq!(others_may_write(0, 0o100_600), None);
        assert!(others_may_write(me, 0o100_664).is_some_and(|said| said.contains("0664")));
        assert!(others_may_write(me + 1, 0o100_644).is_some_and(|said| said.contains("belongs to user")));
    }
}
