//! A device: its library, the PIN's source, what is recorded of refused PINs, and what the device says of itself.

use secrecy::ExposeSecret as _;

use super::{super::Ward, Findings, failed, surroundings};
use crate::{
    config::Signer,
    pipeline,
    secret::{Source, Sources},
    sign::{
        self, PinProblem,
        pkcs11::{
            Device, DeviceDescription, PinRecord, PinState, Profile, SessionLimit, Standing, Uri,
            check_trust,
            profile::{Isolation, LockoutScope},
        },
    },
};

/// Checks the device that `uri` names. How many signatures it makes at a time; `None` when it is of no use to ask it for
/// one.
pub(super) async fn check(
    ward: &Ward<'_>,
    signer: &Signer,
    uri: &Uri,
    findings: &mut Findings<'_>,
) -> Option<u8> {
    let about = &signer.name;
    let profiles = &ward.examination.profiles;
    let library = match profiles.library_for(uri, signer.profile.as_deref()) {
        Ok(library) => library,
        Err(error) => {
            failed("library", about, &error, findings);
            return None;
        }
    };
    if let Err(error) = check_trust(&library) {
        failed("library", about, &error, findings);
        return None;
    }
    let device = pipeline::signing_device(ward.pipeline.modules(), uri.clone(), signer);
    let profile = match device.profile() {
        Ok(profile) => profile,
        Err(error) => {
            failed("library", about, &error, findings);
            return None;
        }
    };
    let place = match profile.module.isolation {
        Isolation::Thread => "in this process",
        _ => "in a process of its own",
    };
    let (path, name, confidence) = (library.display(), &profile.name, profile.confidence);
    findings.ok("library", about, format!("{path}, profile {name} ({confidence}), {place}"));
    surroundings::check(&profile, &ward.examination.variables, about, findings);
    pin_sources(&profile, signer, uri, findings);
    if !records(ward, uri, profile.login.lockout_scope, about, findings) {
        return None;
    }
    described(ward, &device, &profile, about, findings).await.then(|| profile.session.lanes.max(1))
}

/// Whether the PINs are where the configuration says: that of the login, and that of each signature where it is another.
fn pin_sources(profile: &Profile, signer: &Signer, uri: &Uri, findings: &mut Findings<'_>) {
    let about = &signer.name;
    let in_uri = uri.pin_source().map(|source| Sources::new(vec![source.clone()]));
    match signer.pin.clone().or(in_uri) {
        Some(sources) => pin_source("PIN source", &sources, profile, about, findings),
        None => {
            let none = "none: the device is asked without a PIN, or has a PIN pad";
            findings.ok("PIN source", about, none);
        }
    }
    if let Some(sources) = &signer.sign_pin {
        pin_source("signature PIN source", sources, profile, about, findings);
    }
}

/// Looks a PIN up and forgets it. Programs are not run and nobody is asked, as the login will do that.
fn pin_source(
    check: &'static str,
    sources: &Sources,
    profile: &Profile,
    about: &str,
    findings: &mut Findings<'_>,
) {
    let option = if check == "PIN source" { "" } else { " --sign-pin" };
    let set = format!("segl pin set {about}{option}");
    for source in sources.iter() {
        if matches!(source, Source::Exec(_) | Source::Prompt) {
            let how = if *source == Source::Prompt { "a person is asked" } else { "a program is run" };
            return findings.ok(check, about, format!("{source}: {how} when it is needed"));
        }
        match Sources::new(vec![source.clone()]).read("PIN") {
            Ok(None) => {}
            Ok(Some(pin)) => {
                return match profile.login.misfit(pin.expose_secret()) {
                    None => findings.ok(check, about, format!("{source}: there")),
                    Some(misfit) => {
                        let remedy = format!("Put the right one there: {set}");
                        findings.failure(check, about, format!("{source}: {misfit}"), remedy);
                    }
                };
            }
            Err(error) => return findings.failure(check, about, error.to_string(), error.remedy()),
        }
    }
    let remedy = format!("Run: {set}. Credentials are there only when systemd starts the program.");
    findings.failure(check, about, format!("{sources}: there is none"), remedy);
}

/// Whether an earlier PIN was refused; `false` when the next login would not be tried.
fn records(
    ward: &Ward<'_>,
    uri: &Uri,
    scope: LockoutScope,
    about: &str,
    findings: &mut Findings<'_>,
) -> bool {
    let kept = match ward.examination.records.all() {
        Ok(kept) => kept,
        Err(problem) => {
            failed("PIN tries", about, &unrecorded(uri, problem), findings);
            return false;
        }
    };
    let mut clean = true;
    for (_, record) in &kept {
        let blocked = match record {
            Ok(record) if !record.is_named_by(uri, scope) => continue,
            Ok(record) => standing(record, about, findings),
            // Nobody knows whose it is; if it is this device's, the login says so.
            Err(problem) => {
                let error = unrecorded(uri, problem.clone());
                findings.warning("PIN tries", about, error.to_string(), error.remedy());
                false
            }
        };
        clean = false;
        if blocked {
            return false;
        }
    }
    if clean {
        findings.ok("PIN tries", about, "no PIN has been refused since the last good login");
    }
    true
}

fn unrecorded(uri: &Uri, problem: PinProblem) -> sign::Error {
    sign::Error::Pin { device: uri.device().to_string(), problem }
}

/// Whether the next try waits for a person.
fn standing(record: &PinRecord, about: &str, findings: &mut Findings<'_>) -> bool {
    let device = record.device();
    let answer = record.answer.as_deref().unwrap_or("how it ended is not known");
    let said = format!("{device}: {} refused ({answer})", tries(record.spent));
    match record.standing() {
        Standing::Changed => {
            let remedy = "Nothing: the PIN's file has been changed since, so the next login tries it once.";
            findings.warning("PIN tries", about, said, remedy);
            false
        }
        Standing::UntilChanged(source) => {
            let remedy = format!(
                "Put the right PIN into {source}, or see what the device says and run: segl pin unblock {about}"
            );
            findings.failure("PIN tries", about, said, remedy);
            true
        }
        _ => {
            let remedy =
                format!("See how many tries the device has left, then run: segl pin unblock {about}");
            findings.failure("PIN tries", about, said, remedy);
            true
        }
    }
}

fn tries(spent: u8) -> String {
    if spent == 1 { "1 try was".to_owned() } else { format!("{spent} tries were") }
}

/// What the device says of itself without a login; `false` when a login makes no sense.
async fn described(
    ward: &Ward<'_>,
    device: &Device,
    profile: &Profile,
    about: &str,
    findings: &mut Findings<'_>,
) -> bool {
    let found = match device.describe_as_found(&ward.call()).await {
        Ok(found) => found,
        Err(error) => {
            failed("device", about, &error, findings);
            return false;
        }
    };
    let named: Vec<&DeviceDescription> = found
        .slots
        .iter()
        .filter(|slot| slot.is_named_by(device.uri()))
        .filter_map(|slot| slot.device.as_ref())
        .filter(|device| device.initialized)
        .collect();
    // None or several: the search for the key says it, with the names of those that are there.
    let [only] = named.as_slice() else { return true };
    findings.ok("device", about, format!("{}: {}, {}", only.name(), only.model, only.manufacturer));
    sessions(only, profile, about, findings);
    pin_state(only, about, findings)
}

fn sessions(device: &DeviceDescription, profile: &Profile, about: &str, findings: &mut Findings<'_>) {
    let SessionLimit::Most(most) = device.sessions.most else { return };
    let wanted = u64::from(profile.session.lanes.max(1)) + 1;
    if most > 1 && most < wanted {
        findings.warning(
            "sessions",
            about,
            format!("the device allows {most} sessions, and profile {} wants {wanted}", profile.name),
            format!("Set lanes = {} in [profiles.{}.session].", most.saturating_sub(1), profile.name),
        );
    }
}

fn pin_state(device: &DeviceDescription, about: &str, findings: &mut Findings<'_>) -> bool {
    let mut refuse = |reason: &str, remedy: &str| {
        findings.failure("PIN state", about, reason, remedy);
        false
    };
    match device.pin {
        PinState::Locked => refuse(
            "the device says that its PIN is locked",
            "Whoever has its SO PIN or PUK unlocks it, in the vendor's tool.",
        ),
        PinState::FinalTry => refuse(
            "the device says that one try is left; a program does not spend it",
            "Log in once with the vendor's tool: that sets the count back.",
        ),
        PinState::NotSet => {
            refuse("no PIN has been set on the device", "Set the user's PIN in the vendor's tool.")
        }
        PinState::ToBeChanged => refuse(
            "the device wants its first PIN changed before it is of use",
            "Change the PIN in the vendor's tool, then run: segl pin set.",
        ),
        PinState::CountLow => {
            findings.warning(
                "PIN state",
                about,
                "a wrong PIN was entered since the last good login",
                "Make sure that the stored PIN is the right one.",
            );
            true
        }
        _ => {
            findings.ok("PIN state", about, "nothing is wrong with it");
            true
        }
    }
}
