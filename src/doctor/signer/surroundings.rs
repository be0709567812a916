//! What a library needs around it: variables, files, groups, services.

use std::{collections::BTreeSet, fs, path::Path};

use rustix::process::{getegid, geteuid, getgroups};

use super::Findings;
use crate::sign::pkcs11::Profile;

pub(super) fn check(
    profile: &Profile,
    variables: &BTreeSet<String>,
    about: &str,
    findings: &mut Findings<'_>,
) {
    let module = &profile.module;
    let config = &module.env_config;
    for name in module.env_required.iter().filter(|name| !variables.contains(*name)) {
        let remedy = format!("Set {name}; docs/hsm says to what.");
        findings.failure("library's environment", about, format!("{name} is not set"), remedy);
    }
    if !config.is_empty() && variables.contains(config) {
        configuration(config, about, findings);
    }
    if !geteuid().is_root() {
        groups(&module.groups, about, findings);
    }
    services(&module.services, about, findings);
}

/// Where the variable holds a path, there must be something.
fn configuration(name: &str, about: &str, findings: &mut Findings<'_>) {
    let Ok(value) = std::env::var(name) else { return };
    if !value.starts_with('/') {
        return;
    }
    match fs::metadata(Path::new(&value)) {
        Ok(_) => findings.ok("library's environment", about, format!("{name} leads to {value}")),
        Err(why) => findings.failure(
            "library's environment",
            about,
            format!("{name} leads to {value}: {why}"),
            "Correct the variable, or make the file readable.",
        ),
    }
}

fn groups(wanted: &[String], about: &str, findings: &mut Findings<'_>) {
    if wanted.is_empty() {
        return;
    }
    let known = fs::read_to_string("/etc/group").unwrap_or_default();
    let mine: Vec<u32> = getgroups()
        .unwrap_or_default()
        .into_iter()
        .chain([getegid()])
        .map(rustix::process::Gid::as_raw)
        .collect();
    for group in wanted {
        match number(&known, group) {
            Some(number) if mine.contains(&number) => {
                findings.ok("group", about, format!("this user is in {group}"));
            }
            Some(_) => findings.failure(
                "group",
                about,
                format!("this user is not in the group {group}, which the library asks for"),
                format!("Run: usermod -aG {group} USER, and start the service again."),
            ),
            None => findings.warning(
                "group",
                about,
                format!("there is no group {group} on this machine, which the library's maker names"),
                "See in the vendor's manual who may talk to the device.",
            ),
        }
    }
}

/// The number of the group called `name` in the text of `/etc/group` (group(5)).
fn number(known: &str, name: &str) -> Option<u32> {
    known.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// Names of processes are cut to this length by the kernel (proc_pid_comm(5)).
const LONGEST_NAME: usize = 15;

fn services(wanted: &[String], about: &str, findings: &mut Findings<'_>) {
    for service in wanted {
        if is_running(service) || is_started_by_socket(service) {
            findings.ok("service", about, format!("{service} is there"));
        } else {
            findings.warning(
                "service",
                about,
                format!("{service} does not run on this machine, and the library asks for it"),
                format!("Run: systemctl enable --now {service}. In a container, it runs on the host."),
            );
        }
    }
}

fn is_running(service: &str) -> bool {
    let name = service.get(..LONGEST_NAME).unwrap_or(service);
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}

/// systemd starts it when somebody knocks.
fn is_started_by_socket(service: &str) -> bool {
    [format!("/run/{service}/{service}.comm"), format!("/run/systemd/units/invocation:{service}.socket")]
        .iter()
        .any(|path| fs::symlink_metadata(path).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_group_is_read_where_group_5_says() {
        let known = "root:x:0:\nhsmusers:x:1007:segl,other\nhsm:x:8:\n";
        assert_eq!(number(known, "hsmusers"), Some(1007));
        assert_eq!(number(known, "hsm"), Some(8));
        assert_eq!(number(known, "nfast"), None);
        assert_eq!(number("hsm", "hsm"), None);
    }

    #[test]
    fn a_process_is_found_by_its_name() {
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(is_running(own.trim_end()));
        assert!(!is_running("no-such-service-anywhere"));
    }
}
