//! `segl pin set SIGNER`: asks twice, then writes the systemd credential or the owner-only file that the signer's
//! configuration names.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    cli::{
        Context,
        failure::Failure,
        secret_source::{SecretSource, secret_source},
    },
    config::{Key, Signer},
    pipeline,
    secret::{self, Source, Sources},
    sign::pkcs11::{Profile, Profiles},
    state::{Mode, write_file},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    /// Name of a [signers.NAME] table
    signer: String,
    /// Set the PIN that the device asks for at each signature (sign_pin)
    #[arg(long)]
    sign_pin: bool,
    /// Take the PIN from a file that only its owner can read, instead of asking for it
    #[arg(long, value_name = "file:PATH", value_parser = secret_source)]
    from: Option<SecretSource>,
    /// Folder for a systemd credential [default: /etc/credstore.encrypted; /etc/credstore without systemd-creds]
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
}

/// Where systemd looks for credentials that `LoadCredentialEncrypted=` and `LoadCredential=` name without a path
/// (systemd.exec(5)).
const ENCRYPTED: &str = "/etc/credstore.encrypted";
const PLAIN: &str = "/etc/credstore";

pub(super) fn run(command: Command, context: &Context) -> Result<(), Failure> {
    let mut config = context.configuration()?;
    let Some(signer) = config.signers.remove(&command.signer) else {
        let known = config.signers.into_keys().collect();
        return Err(pipeline::Error::Unknown { what: "signer", name: command.signer, known }.into());
    };
    let key = if command.sign_pin { "sign_pin" } else { "pin" };
    let sources = if command.sign_pin { &signer.sign_pin } else { &signer.pin };
    let place = Place::of(sources.as_ref(), command.directory.as_deref()).ok_or_else(|| {
        Failure::needs_person(
            format!("{key} of signers.{} names no place where a PIN can be kept", signer.name),
            format!("Write {key} = \"credential:NAME\" (systemd) or \"file:PATH\" there."),
        )
    })?;
    // Before anybody types anything.
    if !command.force && place.path.symlink_metadata().is_ok() {
        return Err(Failure::needs_person(
            format!("{} is there already", place.path.display()),
            "Add --force to replace it.",
        ));
    }
    let pin = match &command.from {
        Some(from) => stored(from)?,
        None => typed(&signer.name, key)?,
    };
    check(&pin, &signer, &*context.profiles()?)?;
    place.write(&pin, command.force)?;
    say(&format!("written: {}", place.path.display()));
    if let Some(hint) = place.hint() {
        say(&hint);
    }
    Ok(())
}

/// A file to write, and what is written into it.
struct Place {
    path: PathBuf,
    content: Content,
}

enum Content {
    /// The PIN, for the file's owner alone.
    Plain,
    /// The PIN as a systemd credential of this name, not encrypted, for want of `systemd-creds`.
    Credential { name: String },
    /// The PIN as a systemd credential of this name, encrypted by the program at this path.
    Encrypted { name: String, systemd_creds: PathBuf },
}

impl Place {
    /// The first place in `sources` that can be written to.
    fn of(sources: Option<&Sources>, directory: Option<&Path>) -> Option<Self> {
        sources?.iter().find_map(|source| match source {
            Source::File(path) => Some(Self { path: path.clone(), content: Content::Plain }),
            Source::Credential(name) => {
                let name = name.clone();
                let (usual, content) = match systemd_creds() {
                    Some(systemd_creds) => {
                        (ENCRYPTED, Content::Encrypted { name: name.clone(), systemd_creds })
                    }
                    None => (PLAIN, Content::Credential { name: name.clone() }),
                };
                Some(Self { path: directory.unwrap_or(Path::new(usual)).join(name), content })
            }
            _ => None,
        })
    }

    fn write(&self, pin: &SecretString, force: bool) -> Result<(), Failure> {
        if let (Some(folder), false) = (self.path.parent(), matches!(self.content, Content::Plain)) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|why| {
                Failure::needs_person(
                    format!("the folder {} cannot be made: {why}", folder.display()),
                    "Run this as root, or name another folder with --directory.",
                )
            })?;
        }
        let encrypted;
        let bytes = match &self.content {
            Content::Plain | Content::Credential { .. } => pin.expose_secret().as_bytes(),
            Content::Encrypted { name, systemd_creds } => {
                encrypted = encrypt(systemd_creds, name, pin)?;
                &encrypted
            }
        };
        Ok(write_file(&self.path, bytes, Mode::Private, force)?)
    }

    /// What remains to be done.
    fn hint(&self) -> Option<String> {
        match &self.content {
            Content::Plain => None,
            Content::Encrypted { name, .. } => Some(format!(
                "In the unit that runs Segl: LoadCredentialEncrypted={name}:{}",
                self.path.display()
            )),
            Content::Credential { name } => Some(format!(
                "It is not encrypted: systemd-creds is not here. In the unit that runs Segl: LoadCredential={name}:{}",
                self.path.display()
            )),
        }
    }
}

fn systemd_creds() -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join("systemd-creds")).find(runs)
}

/// The PIN as only this machine's systemd can read it. It goes through a pipe: arguments and environment can be seen.
fn encrypt(systemd_creds: &Path, name: &str, pin: &SecretString) -> Result<Vec<u8>, Failure> {
    let failed = |what: String| {
        Failure::needs_person(
            format!("systemd-creds did not encrypt the PIN: {what}"),
            "Run this as root; `systemd-creds setup` makes the key that it encrypts with.",
        )
    };
    let mut process = Process::new(systemd_creds)
        .args([
            OsStr::new("encrypt"),
            OsStr::new(&format!("--name={name}")),
            OsStr::new("-"),
            OsStr::new("-"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| failed(why.to_string()))?;
    // Far less than a pipe holds; dropped at the end of the statement, which closes the pipe.
    let written =
        process.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(pin.expose_secret().as_bytes()));
    let output = process.wait_with_output().map_err(|why| failed(why.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect();
    written.map_err(|why| failed(format!("{why} {said}")))?;
    if !output.status.success() || output.stdout.is_empty() {
        return Err(failed(format!("{} {said}", output.status)));
    }
    if !said.is_empty() {
        say(&format!("systemd-creds says: {said}"));
    }
    Ok(output.stdout)
}

/// The PIN as a person types it, twice: nobody sees what they type.
fn typed(signer: &str, key: &str) -> Result<SecretString, Failure> {
    let ask = |what: &str| {
        let answer = secret::ask(what).map_err(|why| Failure::needs_person(why.to_string(), why.remedy()))?;
        answer.ok_or_else(|| {
            Failure::needs_person(
                "there is no terminal to ask for the PIN at",
                "Run this in a terminal, or put the PIN into a file with mode 0600 and give --from file:PATH.",
            )
        })
    };
    let first = ask(&format!("New {key} of {signer}"))?;
    let second = ask("The same again")?;
    if first.expose_secret() == second.expose_secret() {
        Ok(first)
    } else {
        Err(Failure::needs_person("the two are not the same; nothing was written", "Try again."))
    }
}

fn stored(from: &SecretSource) -> Result<SecretString, Failure> {
    let source = from.file().ok_or_else(|| {
        Failure::needs_person(
            "--from names no file (the value is not repeated)",
            "Write --from file:PATH; a PIN that stood on a command line is known to others: change it.",
        )
    })?;
    let name = source.to_string();
    let read = Sources::new(vec![source]).read("PIN");
    let pin = read.map_err(|why| Failure::needs_person(why.to_string(), why.remedy()))?;
    pin.ok_or_else(|| Failure::needs_person(format!("{name} is not there"), "Name a file that is."))
}

/// What can be known to be wrong with a PIN without its device.
fn check(pin: &SecretString, signer: &Signer, profiles: &Profiles) -> Result<(), Failure> {
    let pin = pin.expose_secret();
    let misfit = if pin.chars().any(char::is_control) {
        Some("it holds a control character, such as a second line".to_owned())
    } else {
        profile(signer, profiles).and_then(|profile| profile.login.misfit(pin))
    };
    match misfit {
        None => Ok(()),
        Some(why) => Err(Failure::needs_person(
            format!("the PIN was not written: {why}"),
            "Look at what the device's maker says of its PINs.",
        )),
    }
}

/// The kind of the signer's device, as far as the configuration says it.
fn profile(signer: &Signer, profiles: &Profiles) -> Option<Profile> {
    let Key::Pkcs11(uris) = &signer.key else { return None };
    let uri = uris.first();
    let named = signer.profile.as_deref().or(uri.module_name());
    named
        .and_then(|name| profiles.named(name).cloned())
        .or_else(|| profiles.matching(uri.module_path()?, None, None))
}

fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sources: &str, directory: Option<&str>) -> Option<PathBuf> {
        let sources = sources.split(' ').map(|source| source.parse().unwrap()).collect();
        Place::of(Some(&Sources::new(sources)), directory.map(Path::new)).map(|place| place.path)
    }

    #[test]
    fn a_pin_goes_to_the_first_place_that_can_keep_it() {
        assert_eq!(place("prompt env:PIN exec:/bin/pin file:/a file:/b", None), Some("/a".into()));
        assert_eq!(place("credential:hsm-pin file:/a", Some("/c")), Some("/c/hsm-pin".into()));
        assert_eq!(place("prompt env:PIN exec:/bin/pin", None), None);
        assert!(Place::of(None, None).is_none());
    }

    #[test]
    fn what_is_no_file_is_forgotten_at_once() {
        for text in ["98765", "exec:/bin/echo 98765", "env:98765"] {
            let Ok(from) = secret_source(text);
            let failure = stored(&from).unwrap_err();
            assert!(!format!("{from:?} {failure} {failure:?}").contains("98765"), "{failure}");
        }
    }

    #[test]
    fn a_pin_that_the_device_would_not_take_is_refused_before_it_is_kept() {
        let profiles = Profiles::embedded();
        let with = profiles.iter().find(|profile| profile.login.pin_length.is_some());
        let profile = with.expect("a profile knows how long PINs are");
        let uri: crate::sign::pkcs11::Uri = format!("pkcs11:?module-name={}", profile.name).parse().unwrap();
        let signer = Signer::new("s", Key::Pkcs11(uri.into()));
        let long = "9".repeat(300);
        for wrong in [long.as_str(), "12\n34"] {
            let failure = check(&SecretString::from(wrong), &signer, &profiles).unwrap_err().to_string();
            assert!(failure.contains("the PIN was not written") && !failure.contains(wrong), "{failure}");
        }
        let file = Signer::new("s", Key::File("/k".into()));
        assert!(check(&SecretString::from(long), &file, &profiles).is_ok());
    }
}
