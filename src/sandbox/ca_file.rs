//! Where the test CAs are kept between two runs: a file for each, so that key and certificates cannot come apart.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm};
use rustix::fs::OFlags;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{Error, production};

/// One of the two authorities, as it is kept.
pub(super) struct Kept {
    file: &'static str,
    pub(super) algorithm: &'static SignatureAlgorithm,
}

/// The issuer of Norwegian enterprise certificates.
pub(super) const NORWEGIAN: Kept = Kept { file: "segl-sandbox-ca.pem", algorithm: &PKCS_RSA_SHA256 };

/// The issuer of European eSeals.
pub(super) const EUROPEAN: Kept =
    Kept { file: "segl-sandbox-eseal-ca.pem", algorithm: &PKCS_ECDSA_P256_SHA256 };

const LARGEST: u64 = 64 * 1024;

/// The issuing CA's key and the certificates.
pub(super) struct Stored {
    pub(super) key: KeyPair,
    pub(super) issuing: Vec<u8>,
    pub(super) root: Vec<u8>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").finish_non_exhaustive()
    }
}

/// The CA kept in `directory`; `None` when there is none yet.
pub(super) fn load(directory: &Path, kept: &Kept) -> Result<Option<Stored>, Error> {
    make_private(directory)?;
    let path = directory.join(kept.file);
    let opened = OpenOptions::new().read(true).custom_flags(flags(OFlags::NOFOLLOW)).open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    let metadata = file.metadata().map_err(Error::io(&path))?;
    if !metadata.is_file() {
        return Err(Error::State { path, problem: "is no regular file", fix: None });
    }
    if metadata.mode() & 0o077 != 0 {
        let fix = format!("chmod 600 '{}'", path.display());
        return Err(Error::State { path, problem: "can be read by others", fix: Some(fix) });
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(LARGEST + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 > LARGEST => {
            Err(Error::State { path, problem: "is too large for a test CA", fix: None })
        }
        Ok(_) => parse(&path, &text, kept).map(Some),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Error::State { path, problem: "is no PEM file", fix: None })
        }
        Err(error) => Err(Error::io(&path)(error)),
    }
}

/// Keeps `ca` in `directory`, and gives back what lies there: another program's CA when that was quicker.
pub(super) fn store(directory: &Path, kept: &Kept, ca: Stored) -> Result<Stored, Error> {
    let path = directory.join(kept.file);
    let temporary = directory.join(format!(".{}.{}", kept.file, uuid::Uuid::new_v4()));
    let private = Zeroizing::new(pem("PRIVATE KEY", ca.key.serialized_der()));
    let certificates = pem("CERTIFICATE", &ca.issuing) + &pem("CERTIFICATE", &ca.root);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(private.as_bytes())?;
            file.write_all(certificates.as_bytes())?;
            file.sync_all()
        })
        // Unlike a rename, a link does not replace what is there already.
        .and_then(|()| fs::hard_link(&temporary, &path))
        .and_then(|()| File::open(directory)?.sync_all());
    // The name only; the linked file stays. When the file was never made there is nothing to remove.
    let _ = fs::remove_file(&temporary);
    match written {
        Ok(()) => Ok(ca),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(directory, kept)?
            .ok_or(Error::State { path, problem: "went away while it was read", fix: None }),
        Err(error) => Err(Error::io(&path)(error)),
    }
}

/// `der` as PEM with Unix line ends.
pub(super) fn pem(tag: &str, der: &[u8]) -> String {
    pem::encode_config(&Pem::new(tag, der), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

fn make_private(directory: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(Error::io(directory))?;
    let metadata = fs::metadata(directory).map_err(Error::io(directory))?;
    if metadata.mode() & 0o077 != 0 {
        let fix = format!("chmod 700 '{}'", directory.display());
        return Err(Error::State { path: directory.into(), problem: "is open to others", fix: Some(fix) });
    }
    Ok(())
}

fn parse(path: &Path, text: &str, kept: &Kept) -> Result<Stored, Error> {
    let broken = |problem| Error::State { path: PathBuf::from(path), problem, fix: None };
    let parts = pem::parse_many(text).map_err(|_| broken("is no PEM file"))?;
    for part in &parts {
        if let Some(issuer) = production::real_issuer(part.contents()) {
            return Err(Error::RealIssuer { path: path.into(), issuer });
        }
    }
    let [key, issuing, root] = parts.as_slice() else {
        return Err(broken("does not hold a key and two certificates"));
    };
    if key.tag() != "PRIVATE KEY" {
        return Err(broken("does not begin with a private key"));
    }
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key.contents().into(), kept.algorithm)
        .map_err(|_| broken("holds a private key of another kind"))?;
    let (_, root_certificate) =
        X509Certificate::from_der(root.contents()).map_err(|_| broken("holds a broken certificate"))?;
    let (_, certificate) =
        X509Certificate::from_der(issuing.contents()).map_err(|_| broken("holds a broken certificate"))?;
    if !certificate.issuer().to_string().contains("Segl Sandbox") {
        return Err(broken("holds certificates of another CA"));
    }
    if certificate.public_key().raw != key.subject_public_key_info() || !certificate.is_ca() {
        return Err(broken("holds a key and a certificate that do not belong together"));
    }
    certificate
        .verify_signature(Some(root_certificate.public_key()))
        .map_err(|_| broken("holds certificates that do not belong together"))?;
    Ok(Stored { key, issuing: issuing.contents().to_vec(), root: root.contents().to_vec() })
}

fn flags(flags: OFlags) -> i32 {
    // `open` takes an int; the flag bits fit.
    flags.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sandbox::TestCa;

    #[test]
    fn the_ca_is_the_same_after_a_restart_and_private_to_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let first = TestCa::open_or_create(&directory).unwrap();
        let second = TestCa::open_or_create(&directory).unwrap();
        assert_eq!((first.root(), first.issuing()), (second.root(), second.issuing()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(NORWEGIAN.file))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "no temporary file is left");
        assert_eq!((first.seal_root(), first.seal_issuing()), (second.seal_root(), second.seal_issuing()));
    }

    #[test]
    fn the_slower_of_two_programs_takes_the_ca_of_the_quicker() {
        let directory = private_directory();
        let first = TestCa::open_or_create(directory.path()).unwrap();
        let other = TestCa::ephemeral().unwrap();
        let text = fs::read_to_string(directory.path().join(NORWEGIAN.file)).unwrap();
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(
            &pem("PRIVATE KEY", pem::parse_many(&text).unwrap()[0].contents()),
            &PKCS_RSA_SHA256,
        )
        .unwrap();
        let slower = Stored { key, issuing: other.issuing().into(), root: other.root().into() };
        assert_eq!(store(directory.path(), &NORWEGIAN, slower).unwrap().root, first.root());
    }

    #[test]
    fn a_ca_that_others_can_read_is_refused_with_the_command_to_run() {
        let directory = private_directory();
        TestCa::open_or_create(directory.path()).unwrap();
        let path = directory.path().join(NORWEGIAN.file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = TestCa::open_or_create(directory.path()).unwrap_err();
        assert_eq!(error.remedy(), format!("Run: chmod 600 '{}'", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = TestCa::open_or_create(directory.path()).unwrap_err();
        assert!(error.remedy().starts_with("Run: chmod 700"), "{error}");
    }

    #[test]
    fn a_ca_of_a_real_issuer_is_refused_by_name() {
        let directory = private_directory();
        let key = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Commfides Legal Person - G3");
        let text = key.serialize_pem() + &params.self_signed(&key).unwrap().pem();
        write_private(&directory.path().join(NORWEGIAN.file), text.as_bytes());
        let error = TestCa::open_or_create(directory.path()).unwrap_err();
        assert!(matches!(error, Error::RealIssuer { issuer: "Commfides", .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_test_ca_is_refused() {
        let directory = private_directory();
        let path = directory.path().join(NORWEGIAN.file);
        let other = KeyPair::generate().unwrap().serialize_pem();
        for text in [&b""[..], b"\xff\xfe", b"no pem", other.as_bytes(), &[b'a'; 70_000]] {
            write_private(&path, text);
            assert!(matches!(TestCa::open_or_create(directory.path()), Err(Error::State { fix: None, .. })));
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(TestCa::open_or_create(directory.path()), Err(Error::Io { .. })));
    }

    fn private_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    fn write_private(path: &Path, bytes: &[u8]) {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }
}
