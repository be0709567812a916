//! Files of certificates, as people have them.

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{
    Certificate, Error, bundle,
    leaf::LARGEST,
    pem,
    pkcs12::{self, Refused, is_pkcs12},
};

/// Largest file of certificates, in bytes.
const LARGEST_FILE: usize = 1024 * 1024;

/// A file of certificates holds a chain, perhaps the issuers of two generations.
pub(super) const MOST_IN_FILE: usize = 32;

/// Where the password of a PKCS#12 file comes from: asked for only when the file does not open without one. `Ok(None)`
/// says that there is none, `Err` why it cannot be had.
pub type Ask<'a> = &'a dyn Fn() -> Result<Option<SecretString>, String>;

/// What a file of certificates held: PEM, DER, PKCS#7, PKCS#12, or the bare base64 of one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Container {
    /// Its certificates, in its order, each once.
    pub certificates: Vec<Certificate>,
    /// Whether a private key is there, too.
    pub holds_private_key: bool,
    /// Bytes behind the end of a certificate, which were left out, as other programs do.
    pub trailing_bytes: usize,
    /// PEM labels of what else is there.
    pub others: Vec<String>,
}

impl Container {
    /// Reads `file`. Text around PEM blocks, a byte order mark, either line ending, UTF-16 as Windows writes it, bytes
    /// behind the end and repetitions are fine; a damaged certificate is not. Private keys are passed over unread, except
    /// that a PKCS#12 file opens as a whole.
    ///
    /// # Errors
    /// [`Error`] when it is too large (1 MiB, 32 certificates), damaged, holds no certificate, or does not open.
    pub fn read(file: &[u8], ask: Ask<'_>) -> Result<Self, Error> {
        if file.len() > LARGEST_FILE {
            return Err(Error::TooLarge { limit: LARGEST_FILE });
        }
        let narrow = from_utf16(file);
        let file = narrow.as_deref().map_or(file, Vec::as_slice);
        let mut found = Self::default();
        if file.windows(11).any(|window| window == b"-----BEGIN ") {
            found.read_pem(file)?;
        } else if file.first() == Some(&0x30) {
            found.read_der(file, ask)?;
        } else if let Some(der) = from_base64(file) {
            found.read_der(&der, ask)?;
        }
        if found.certificates.is_empty() {
            Err(Error::NoCertificate { found: found.others })
        } else {
            Ok(found)
        }
    }

    fn read_pem(&mut self, file: &[u8]) -> Result<(), Error> {
        for block in pem::blocks(file)? {
            match block.label() {
                // The first two are one; OpenSSL puts what it trusts behind the third, which is left out.
                "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                    self.read_certificates(&block.der()?)?
                }
                "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => {
                    self.add_all(bundle::certificates(&block.der()?)?)?
                }
                label => {
                    self.holds_private_key |= label.ends_with("PRIVATE KEY");
                    self.others.push(label.to_owned());
                }
            }
        }
        Ok(())
    }

    fn read_der(&mut self, der: &[u8], ask: Ask<'_>) -> Result<(), Error> {
        if bundle::is_bundle(der) {
            self.add_all(bundle::certificates(der)?)
        } else if is_pkcs12(der) {
            self.read_pkcs12(der, ask)
        } else {
            self.read_certificates(der)
        }
    }

    /// One certificate, or several end to end, and what comes behind.
    fn read_certificates(&mut self, der: &[u8]) -> Result<(), Error> {
        let (first, mut rest) = Certificate::first_in(der)?;
        self.add(first)?;
        while let Ok((next, further)) = Certificate::first_in(rest) {
            self.add(next)?;
            rest = further;
        }
        self.trailing_bytes += rest.len();
        Ok(())
    }

    fn read_pkcs12(&mut self, der: &[u8], ask: Ask<'_>) -> Result<(), Error> {
        // Some are not encrypted, or "protected" by the empty password: then there is nothing to ask for.
        let opened = match pkcs12::opened(der, "") {
            Err(Refused::WrongPassword) => {
                let password = ask().map_err(Error::PasswordSource)?.ok_or(Error::NoPassword)?;
                pkcs12::opened(der, password.expose_secret())
            }
            without => without,
        };
        let archive = opened.map_err(|why| match why {
            Refused::WrongPassword => Error::WrongPassword,
            Refused::Encryption => Error::Encryption,
            Refused::Damaged => Error::Malformed { problem: "the PKCS#12 file is damaged".into() },
        })?;
        self.holds_private_key |= !archive.keys.is_empty();
        archive.certs.iter().try_for_each(|bag| self.add(Certificate::from_der(bag.cert.as_der())?))
    }

    fn add_all(&mut self, certificates: Vec<Certificate>) -> Result<(), Error> {
        certificates.into_iter().try_for_each(|certificate| self.add(certificate))
    }

    fn add(&mut self, certificate: Certificate) -> Result<(), Error> {
        if self.certificates.contains(&certificate) {
            return Ok(());
        }
        if self.certificates.len() == MOST_IN_FILE {
            return Err(Error::TooMany { limit: MOST_IN_FILE });
        }
        self.certificates.push(certificate);
        Ok(())
    }
}

/// UTF-16 with its byte order mark, as UTF-8. It may hold a private key, so it is wiped.
fn from_utf16(file: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (mark, text) = file.split_at_checked(2)?;
    let unit = match mark {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    let units = text.chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok().map(unit));
    let mut narrow = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    for character in char::decode_utf16(units) {
        let mut buffer = [0; 4];
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        narrow.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    }
    Some(narrow)
}

/// A certificate whose armour was lost, as in `x5c` of a JWK.
fn from_base64(file: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut bare = Zeroizing::new(Vec::with_capacity(text.len()));
    bare.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != b'"'));
    if bare.len() > LARGEST * 4 {
        return None;
    }
    STANDARD.decode(bare.as_slice()).ok().map(Zeroizing::new).filter(|der| der.first() == Some(&0x30))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::certificate::{
        bundle::sample::bundle,
        sample::{self, Authority, Pair, parameters, real},
    };

    fn none() -> Result<Option<SecretString>, String> {
        Ok(None)
    }

    fn read(file: &[u8]) -> Result<Container, Error> {
        Container::read(file, &none)
    }

    fn two() -> [Certificate; 2] {
        let root = Authority::root("Rot");
        [root.issue(&parameters("Virksomhet"), Pair::shared()[0]), root.certificate]
    }

    fn pkcs12(certificates: &[Certificate], password: &str) -> Vec<u8> {
        sample::pkcs12(&[(Pair::shared()[0], certificates)], password)
    }

    #[test]
    fn every_form_of_a_file_gives_the_same_certificates() {
        let both = two();
        let pem = both[0].to_pem() + &both[1].to_pem();
        let in_bundle = bundle(&[&both[0], &both[1]], true);
        let wide = |order: fn(u16) -> [u8; 2]| {
            let units = std::iter::once(0xfeff).chain(pem.encode_utf16());
            units.flat_map(order).collect::<Vec<u8>>()
        };
        let bare = STANDARD.encode(both[0].der());
        for (file, expected) in [
            (pem.clone().into_bytes(), &both[..]),
            (pem.replace('\n', "\r\n").into_bytes(), &both[..]),
            (pem.replace('\n', "\r").into_bytes(), &both[..]),
            (format!("\u{feff}text\n{pem}").into_bytes(), &both[..]),
            (pem.replace(" CERT", " TRUSTED CERT").into_bytes(), &both[..]),
            (wide(u16::to_le_bytes), &both[..]),
            (wide(u16::to_be_bytes), &both[..]),
            (both[0].der().to_vec(), &both[..1]),
            ([both[0].der(), both[1].der()].concat(), &both[..]),
            (in_bundle.clone(), &both[..]),
            (bundle(&[&both[0], &both[1]], false), &both[..]),
            (pem::encode("PKCS7", &in_bundle).into_bytes(), &both[..]),
            (STANDARD.encode(&in_bundle).into_bytes(), &both[..]),
            (format!("\u{feff}\"{bare}\"\r\n").into_bytes(), &both[..1]),
            (bare.as_bytes().chunks(64).flat_map(|line| [line, b"\n"].concat()).collect(), &both[..1]),
        ] {
            let found = read(&file).unwrap();
            assert_eq!(found.certificates, expected);
            assert_eq!((found.trailing_bytes, found.holds_private_key), (0, false));
        }
    }

    #[test]
    fn bytes_behind_the_end_are_left_out_and_counted() {
        let [leaf, _] = two();
        for garbage in [&b"\n"[..], &[0; 7], b"garbage", &[0x30, 0x82, 0x01]] {
            let file = [leaf.der(), garbage].concat();
            let found = read(&file).unwrap();
            assert_eq!(
                (found.certificates.as_slice(), found.trailing_bytes),
                (&[leaf.clone()][..], garbage.len())
            );
            let armoured = read(pem::encode("CERTIFICATE", &file).as_bytes()).unwrap();
            assert_eq!(armoured, found);
        }
    }

    #[test]
    fn a_private_key_in_the_file_is_noticed_and_not_read() {
        let [leaf, _] = two();
        let file = format!("-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n{}", leaf.to_pem());
        let found = read(file.as_bytes()).unwrap();
        assert!(found.holds_private_key);
        assert_eq!(found.others, ["PRIVATE KEY"]);
    }

    #[test]
    fn a_pkcs12_file_asks_for_its_password_only_when_it_has_one() {
        let both = two();
        let asked = |password: Result<Option<&'static str>, &'static str>| {
            let file = pkcs12(&both, "correct horse");
            Container::read(&file, &|| password.map(|it| it.map(SecretString::from)).map_err(str::to_owned))
        };
        let opened = asked(Ok(Some("correct horse"))).unwrap();
        assert!(opened.holds_private_key);
        assert!(both.iter().all(|it| opened.certificates.contains(it)));
        assert_eq!(asked(Ok(Some("battery"))), Err(Error::WrongPassword));
        assert_eq!(asked(Ok(None)), Err(Error::NoPassword));
        assert_eq!(asked(Err("no terminal")), Err(Error::PasswordSource("no terminal".into())));
        let open = Container::read(&pkcs12(&both, ""), &|| panic!("asked for a password that is not there"))
            .unwrap();
        assert_eq!(open.certificates.len(), 2);
    }

    #[test]
    fn files_without_certificates_and_files_too_large_are_refused_politely() {
        for file in [&b""[..], b"\xff\xfe", b"hello", b"\"\"", b"-----BEGIN X-----\n-----END X-----\n"] {
            assert!(matches!(read(file), Err(Error::NoCertificate { .. })), "{file:?}");
        }
        for file in [vec![b'A'; 10_000_000], vec![0x30; 10_000_000]] {
            assert_eq!(read(&file), Err(Error::TooLarge { limit: LARGEST_FILE }));
        }
        assert!(matches!(read(&[0x30, 0x82]), Err(Error::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), front in prop::sample::select(vec![&b""[..], b"\xff\xfe", b"\x30\x80\x02\x01\x03", b"\x30\x82"])) {
            let _ = read(&[front, &bytes].concat());
        }

        #[test]
        fn what_is_appended_does_not_change_the_certificate(garbage in proptest::collection::vec(any::<u8>(), 0..50)) {
            let found = read(&[real(), &garbage].concat()).unwrap();
            prop_assert_eq!(found.certificates[0].der(), real());
        }
    }
}
