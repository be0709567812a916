use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{
    Error, LONGEST, Source, exec,
    origin::{Stamp, credentials},
    prompt,
};

/// The secret of `source`; `None` when the source does not exist.
pub(super) fn read(
    source: &Source,
    what: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<SecretString>, Error> {
    Ok(read_stamped(source, what, variable)?.map(|(secret, _)| secret))
}

/// The same, with what tells this content of a file from the next.
pub(super) fn read_stamped(
    source: &Source,
    what: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<(SecretString, Option<Stamp>)>, Error> {
    let mut stamp = None;
    let bytes = match source {
        Source::Credential(name) => match variable("CREDENTIALS_DIRECTORY") {
            // systemd sets the mode of its credentials itself: 0400, or 0440 with an access list.
            Some(directory) => from_file(source, &PathBuf::from(directory).join(name), ModeRule::Systemd)?
                .map(|(bytes, _)| bytes),
            None => None,
        },
        Source::File(path) => from_file(source, path, ModeRule::OwnerOnly)?.map(|(bytes, found)| {
            stamp = found;
            bytes
        }),
        Source::Exec(argv) => exec::run(source, argv, exec::DEADLINE, variable)?,
        Source::Prompt => prompt::read(what)?,
        Source::Env(name) => variable(name).map(|value| Zeroizing::new(value.into_vec())),
    };
    if bytes.is_some() && *source != Source::Prompt {
        prompt::something_else_was_read();
    }
    bytes.map(|bytes| Ok((text(source, &bytes)?, stamp))).transpose()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ModeRule {
    OwnerOnly,
    Systemd,
}

type Content = (Zeroizing<Vec<u8>>, Option<Stamp>);

fn from_file(source: &Source, path: &Path, rule: ModeRule) -> Result<Option<Content>, Error> {
    let refused = |error: &io::Error| Error::Io { source_name: source.to_string(), kind: error.kind() };
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(refused(&error)),
    };
    // The opened file is looked at, not the name, which may lead elsewhere a moment later.
    let found = file.metadata().map_err(|error| refused(&error))?;
    if !found.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::Owner { path: path.to_owned(), owner: found.uid() });
    }
    if rule == ModeRule::OwnerOnly && found.mode() & 0o077 != 0 {
        return Err(Error::TooOpen { path: path.to_owned(), mode: found.mode() & 0o7777 });
    }
    // Looked at before it is read: one that is written meanwhile has changed.
    let stamp = Stamp::of(path, &file, &found, credentials().as_deref());
    Ok(Some((read_limited(source, &mut file)?, stamp)))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read_limited(source: &Source, reader: &mut impl Read) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Sized once: a buffer that grows would leave copies of the secret behind.
    let mut buffer = Zeroizing::new(vec![0; LONGEST + 1]);
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match reader.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Io { source_name: source.to_string(), kind: error.kind() }),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Checks length and encoding and takes one line end off.
pub(super) fn text(source: &Source, bytes: &[u8]) -> Result<SecretString, Error> {
    if bytes.len() > LONGEST {
        return Err(Error::TooLong { source_name: source.to_string() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotText { source_name: source.to_string() })?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(Error::Empty { source_name: source.to_string() });
    }
    Ok(SecretString::from(Box::<str>::from(text)))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use secrecy::ExposeSecret;

    use super::*;
    use crate::secret::Sources;

    fn file(directory: &Path, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn read_file(path: &Path) -> Result<Option<SecretString>, Error> {
        read(&Source::File(path.to_owned()), "PIN", &|_| None)
    }

    fn told(secret: Option<SecretString>) -> String {
        secret.unwrap().expose_secret().to_owned()
    }

    #[test]
    fn one_line_end_is_taken_off_a_secret_and_no_more() {
        let home = tempfile::tempdir().unwrap();
        for (content, expected) in [
            ("1234", "1234"),
            ("1234\n", "1234"),
            ("1234\r\n", "1234"),
            ("1234\n\n", "1234\n"),
            (" 12 \n", " 12 "),
        ] {
            let path = file(home.path(), "pin", content, 0o600);
            assert_eq!(told(read_file(&path).unwrap()), expected);
        }
    }

    #[test]
    fn a_secret_file_that_others_can_use_is_refused_with_the_chmod_to_run() {
        let home = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
            let path = file(home.path(), "the pin", "1234", mode);
            let error = read_file(&path).unwrap_err();
            assert_eq!(error, Error::TooOpen { path: path.clone(), mode });
            assert_eq!(error.remedy(), format!("Run: chmod 600 '{}'", path.display()));
        }
    }

    #[test]
    fn an_absent_file_gives_way_to_the_next_source_and_an_open_one_does_not() {
        let home = tempfile::tempdir().unwrap();
        let good = file(home.path(), "good", "5678", 0o400);
        let open = file(home.path(), "open", "1234", 0o644);
        let absent = home.path().join("absent");
        let sources =
            |first: &Path| Sources::new(vec![Source::File(first.to_owned()), Source::File(good.clone())]);
        assert_eq!(told(sources(&absent).read("PIN").unwrap()), "5678");
        assert_eq!(told(sources(&good.join("below")).read("PIN").unwrap()), "5678");
        assert!(matches!(sources(&open).read("PIN"), Err(Error::TooOpen { .. })));
        assert!(Sources::new(vec![Source::File(absent)]).read("PIN").unwrap().is_none());
    }

    #[test]
    fn a_directory_and_a_named_pipe_are_refused_at_once() {
        let home = tempfile::tempdir().unwrap();
        let pipe = home.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        for path in [home.path(), &pipe] {
            assert!(matches!(read_file(path), Err(Error::NotAFile { .. })), "{}", path.display());
        }
    }

    #[test]
    fn a_secret_that_is_too_long_empty_or_no_text_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let try_with = |content: &[u8]| read_file(&file(home.path(), "pin", content, 0o600));
        assert_eq!(told(try_with(&[b'x'; LONGEST]).unwrap()).len(), LONGEST);
        assert!(matches!(try_with(&[b'x'; LONGEST + 1]), Err(Error::TooLong { .. })));
        assert!(matches!(try_with(&[b'x'; 100 * LONGEST]), Err(Error::TooLong { .. })));
        assert!(matches!(try_with(b"\n"), Err(Error::Empty { .. })));
        assert!(matches!(try_with(&[0xff, 0xfe]), Err(Error::NotText { .. })));
    }

    #[test]
    fn a_systemd_credential_is_read_whatever_mode_systemd_gave_it() {
        let home = tempfile::tempdir().unwrap();
        file(home.path(), "hsm-pin", "1234\n", 0o440);
        let directory = home.path().as_os_str().to_owned();
        let variable = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.clone());
        let source = Source::Credential("hsm-pin".into());
        assert_eq!(told(read(&source, "PIN", &variable).unwrap()), "1234");
        assert!(read(&source, "PIN", &|_| None).unwrap().is_none(), "outside systemd there is none");
        assert!(read(&Source::Credential("other".into()), "PIN", &variable).unwrap().is_none());
    }

    #[test]
    fn an_environment_variable_is_read_when_it_is_set() {
        let variable = |name: &str| (name == "HSM_PIN").then(|| OsString::from("1234"));
        assert_eq!(told(read(&Source::Env("HSM_PIN".into()), "PIN", &variable).unwrap()), "1234");
        assert!(read(&Source::Env("OTHER".into()), "PIN", &variable).unwrap().is_none());
    }
}
