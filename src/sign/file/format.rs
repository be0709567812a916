//! Which of the formats a key file has, and the key out of it.

use der::{AnyRef, Decode, Reader, SliceReader, Tag, Tagged};
use p12_keystore::Pkcs12Archive;
use pkcs8::{
    EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument,
    pkcs5::{self, pbes2::Kdf},
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    content::{KeyFile, Refusal},
    jwk,
    rsa::Rsa,
};
use crate::{
    certificate::{
        self, Certificate, Purpose, pem,
        pkcs12::{self, Refused},
    },
    jose::Algorithm,
};

pub(super) type Ask<'a> = &'a (dyn Fn() -> Result<Option<SecretString>, String> + Send + Sync);

pub(super) fn read(file: &[u8], algorithm: Algorithm, ask: Ask<'_>) -> Result<KeyFile, Refusal> {
    let text = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file).trim_ascii_start();
    if text.first() == Some(&b'{') {
        jwk::read(text, algorithm)
    } else if text.windows(11).any(|window| window == b"-----BEGIN ") {
        read_pem(text, ask)
    } else {
        read_der(file, ask)
    }
}

fn read_pem(text: &[u8], ask: Ask<'_>) -> Result<KeyFile, Refusal> {
    let damaged =
        |why: certificate::Error| Refusal::file(why.to_string(), "Export the key anew from where it came.");
    let blocks = pem::blocks(text).map_err(damaged)?;
    let mut keys = blocks.iter().filter(|block| block.label().ends_with("PRIVATE KEY"));
    let Some(key) = keys.next() else {
        let found: Vec<&str> = blocks.iter().map(pem::Block::label).collect();
        return Err(Refusal::file(
            format!("there is no private key in the file (found: {})", found.join(", ")),
            "Name the file that holds the private key.",
        ));
    };
    let others: Vec<String> = keys.map(|block| block.label().to_owned()).collect();
    if !others.is_empty() {
        let candidates = std::iter::once(key.label().to_owned()).chain(others).collect();
        return Err(Refusal::Keys { candidates });
    }
    if key.label() == "OPENSSH PRIVATE KEY" {
        return Err(Refusal::file(
            "the key is in OpenSSH's own format",
            "Convert a copy of it with: ssh-keygen -p -m PKCS8 -f FILE",
        ));
    }
    if key.has_headers() {
        return Err(old_encryption());
    }
    let read = read_der(&key.der().map_err(damaged)?, ask)?;
    let certificates = match Certificate::all_from_file(text) {
        Err(certificate::Error::NoCertificate { .. }) => Ok(Vec::new()),
        certificates => certificates,
    };
    Ok(KeyFile { certificates, ..read })
}

fn read_der(der: &[u8], ask: Ask<'_>) -> Result<KeyFile, Refusal> {
    let nowhere = |what: &str| Refusal::file(what, "Name the file that holds the private key.");
    let key = match Shape::of(der) {
        Some(Shape::Pkcs8) => from_pkcs8(der)?,
        Some(Shape::Pkcs1) => Rsa::from_pkcs1(der)?,
        Some(Shape::EncryptedPkcs8) => from_pkcs8(decrypted(der, ask)?.as_bytes())?,
        Some(Shape::Pkcs12) => return from_pkcs12(der, ask),
        Some(Shape::EllipticCurve) => return Err(not_rsa("an elliptic curve key")),
        Some(Shape::PublicKey) => return Err(nowhere("the file holds a public key only")),
        Some(Shape::Certificate) => return Err(nowhere("the file holds a certificate and no key")),
        Some(Shape::Indefinite) => {
            return Err(Refusal::file(
                "the file is in BER of indefinite length, not in DER",
                "Export it anew with: openssl pkcs12 -in OLD -nodes | openssl pkcs12 -export -out NEW",
            ));
        }
        None => return Err(nowhere("this is none of the formats PKCS#8, PKCS#1, PKCS#12 and JWK")),
    };
    Ok(KeyFile { rsa: key, certificates: Ok(Vec::new()), key_id: None })
}

/// The formats tell themselves apart by what their outermost sequence begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Pkcs8,
    EncryptedPkcs8,
    Pkcs1,
    Pkcs12,
    EllipticCurve,
    PublicKey,
    Certificate,
    Indefinite,
}

impl Shape {
    fn of(der: &[u8]) -> Option<Self> {
        if der.starts_with(&[0x30, 0x80]) {
            return Some(Self::Indefinite);
        }
        let outer = AnyRef::from_der(der).ok().filter(|outer| outer.tag() == Tag::Sequence)?;
        let mut reader = SliceReader::new(outer.value()).ok()?;
        let first: AnyRef<'_> = reader.decode().ok()?;
        let second: AnyRef<'_> = reader.decode().ok()?;
        Some(match (first.tag(), second.tag()) {
            (Tag::Integer, Tag::Sequence) if first.value() == [3] => Self::Pkcs12,
            (Tag::Integer, Tag::Sequence) => Self::Pkcs8,
            (Tag::Integer, Tag::Integer) if reader.is_finished() => Self::PublicKey,
            (Tag::Integer, Tag::Integer) => Self::Pkcs1,
            (Tag::Integer, Tag::OctetString) => Self::EllipticCurve,
            (Tag::Sequence, Tag::OctetString) => Self::EncryptedPkcs8,
            (Tag::Sequence, Tag::Sequence) => Self::Certificate,
            (Tag::Sequence, Tag::BitString) => Self::PublicKey,
            _ => return None,
        })
    }
}

fn from_pkcs8(der: &[u8]) -> Result<Rsa, Refusal> {
    let damaged = |_| Refusal::file("the private key is damaged", "Export the key anew from where it came.");
    let info = PrivateKeyInfoRef::try_from(der).map_err(damaged)?;
    match info.algorithm.oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" => Ok(Rsa::from_pkcs1(info.private_key.as_bytes())?),
        "1.2.840.113549.1.1.10" => Err(not_rsa("an RSA key for PSS signatures only")),
        "1.2.840.10045.2.1" => Err(not_rsa("an elliptic curve key")),
        "1.3.101.112" | "1.3.101.113" => Err(not_rsa("an Edwards curve key")),
        other => Err(not_rsa(&format!("a key of algorithm {other}"))),
    }
}

/// Ten times what careful people choose; beyond that the file is there to keep us busy.
const MOST_ITERATIONS: u32 = 10_000_000;
const MOST_SCRYPT_MEMORY: u64 = 256 * 1024 * 1024;
const MOST_SCRYPT_LANES: u16 = 16;

fn decrypted(der: &[u8], ask: Ask<'_>) -> Result<SecretDocument, Refusal> {
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| old_encryption())?;
    let Some(parameters) = info.encryption_algorithm.pbes2() else { return Err(old_encryption()) };
    let affordable = match &parameters.kdf {
        Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MOST_ITERATIONS,
        Kdf::Scrypt(scrypt) => {
            let memory =
                scrypt.cost_parameter.saturating_mul(u64::from(scrypt.block_size)).saturating_mul(128);
            memory <= MOST_SCRYPT_MEMORY && scrypt.parallelization <= MOST_SCRYPT_LANES
        }
        _ => false,
    };
    if !affordable {
        return Err(Refusal::file(
            "opening the file would take too much time or memory",
            "Encrypt the key anew with: openssl pkcs8 -topk8 -in OLD -out NEW",
        ));
    }
    let password = password(ask)?.ok_or(Refusal::NoPassword)?;
    let plain = info.decrypt(password.expose_secret()).map_err(|why| match why {
        pkcs8::Error::EncryptedPrivateKey(
            pkcs5::Error::UnsupportedAlgorithm { .. } | pkcs5::Error::AlgorithmParametersInvalid { .. },
        ) => old_encryption(),
        _ => Refusal::WrongPassword,
    })?;
    // A wrong password passes the padding check once in 256 times; then there is no key inside.
    if PrivateKeyInfoRef::try_from(plain.as_bytes()).is_err() {
        return Err(Refusal::WrongPassword);
    }
    Ok(plain)
}

fn from_pkcs12(der: &[u8], ask: Ask<'_>) -> Result<KeyFile, Refusal> {
    // Some are not encrypted, or "protected" by the empty password: then there is nothing to ask for.
    let archive = match opened(der, "") {
        Ok(archive) => archive,
        Err(without) => match (password(ask)?, without) {
            (Some(password), _) => opened(der, password.expose_secret())?,
            (None, Refusal::WrongPassword) => return Err(Refusal::NoPassword),
            (None, other) => return Err(other),
        },
    };
    let certificates: Result<Vec<Certificate>, _> =
        archive.certs.iter().map(|bag| Certificate::from_der(bag.cert.as_der())).collect();
    let known = certificates.as_deref().unwrap_or_default();
    let mut keys = Vec::new();
    let mut unusable = None;
    for bag in &archive.keys {
        match from_pkcs8(bag.key.as_der()) {
            Ok(rsa) => keys.push((bag.friendly_name.clone(), rsa)),
            Err(why) => unusable = unusable.or(Some(why)),
        }
    }
    let rsa = the_one_meant(keys, known).map_err(|nothing| match nothing {
        Some(several) => several,
        None => unusable.unwrap_or_else(|| {
            Refusal::file(
                "there is no private key in the file",
                "Export it anew together with its private key.",
            )
        }),
    })?;
    Ok(KeyFile { rsa, certificates, key_id: None })
}

fn opened(der: &[u8], password: &str) -> Result<Pkcs12Archive, Refusal> {
    pkcs12::opened(der, password).map_err(|why| match why {
        Refused::WrongPassword => Refusal::WrongPassword,
        Refused::Encryption => Refusal::file(
            "the file is encrypted in a way that is not supported",
            "Export it anew with: openssl pkcs12 -in OLD -nodes | openssl pkcs12 -export -out NEW",
        ),
        Refused::Damaged => {
            Refusal::file("the PKCS#12 file is damaged", "Get the file anew from where it came.")
        }
    })
}

/// One key, or among several (a set for authentication, signing and encryption in one file) the one whose certificate
/// is for authentication. The error is `None` when there is no key.
fn the_one_meant(
    mut keys: Vec<(Option<String>, Rsa)>,
    certificates: &[Certificate],
) -> Result<Rsa, Option<Refusal>> {
    let purposes = |rsa: &Rsa| -> Vec<Purpose> {
        let of_the_key = |one: &&Certificate| one.public_key().as_ref() == Ok(rsa.public_key());
        certificates.iter().filter(of_the_key).map(Certificate::purpose).collect()
    };
    if keys.len() > 1 {
        let all = keys.iter().map(|(name, rsa)| {
            let name = name.clone().unwrap_or_else(|| rsa.public_key().thumbprint());
            let purposes: Vec<String> = purposes(rsa).iter().map(ToString::to_string).collect();
            if purposes.is_empty() { name } else { format!("{name} ({})", purposes.join(", ")) }
        });
        let several = Refusal::Keys { candidates: all.collect() };
        keys.retain(|(_, rsa)| purposes(rsa).contains(&Purpose::Authentication));
        if keys.len() != 1 {
            return Err(Some(several));
        }
    }
    keys.pop().map(|(_, rsa)| rsa).ok_or(None)
}

fn password(ask: Ask<'_>) -> Result<Option<SecretString>, Refusal> {
    ask().map_err(|reason| Refusal::PasswordSource { reason })
}

fn not_rsa(what: &str) -> Refusal {
    Refusal::Key { reason: format!("it is {what}; Maskinporten takes RSA (RS256, RS384, RS512) only") }
}

fn old_encryption() -> Refusal {
    Refusal::file(
        "the key is encrypted in an old way that is not supported",
        "Encrypt it anew with: openssl pkcs8 -topk8 -in OLD -out NEW",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::encoded, *};
    use crate::certificate::sample::{self, Pair};

    fn refusal(file: impl AsRef<[u8]>) -> String {
        match read(file.as_ref(), Algorithm::RS256, &|| Ok(Some("secret".into()))) {
            Ok(_) => panic!("accepted"),
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    #[test]
    fn keys_that_are_not_rsa_are_named() {
        let curve = rcgen::KeyPair::generate().unwrap().serialize_der();
        assert!(refusal(&curve).contains("elliptic curve"));
        assert!(refusal(encoded::pem("PRIVATE KEY", &curve)).contains("elliptic curve"));
        let edwards = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_der();
        assert!(refusal(&edwards).contains("Edwards curve"));
        assert!(refusal(br#"{"kty":"EC","crv":"P-256","d":"AA"}"#).contains("elliptic curve"));
    }

    #[test]
    fn rsa_keys_too_short_and_too_long_are_refused_with_their_size() {
        assert!(refusal(encoded::hollow_pkcs1(1024)).contains("it has 1024 bits; Maskinporten wants 2048"));
        assert!(refusal(encoded::hollow_pkcs1(2047)).contains("it has 2047 bits"));
        assert!(refusal(encoded::hollow_pkcs1(16384)).contains("it has 16384 bits; 8192 is the most"));
    }

    #[test]
    fn numbers_that_do_not_fit_together_are_refused() {
        assert!(refusal(encoded::hollow_pkcs1(2048)).contains("do not fit together"));
        let [pair, other] = Pair::shared();
        let mut jwk = encoded::jwk(pair);
        jwk["d"] = encoded::jwk(other)["d"].clone();
        assert!(refusal(jwk.to_string()).contains("do not fit together"));
    }

    #[test]
    fn a_jwk_without_the_numbers_for_signing_is_refused_with_the_missing_one() {
        let [pair, _] = Pair::shared();
        for (member, words) in [
            ("n", "has no n"),
            ("d", "public half only"),
            ("p", "has no p; d alone is not enough"),
            ("qi", "has no qi; d alone is not enough"),
        ] {
            let mut jwk = encoded::jwk(pair);
            jwk.as_object_mut().unwrap().remove(member);
            assert!(refusal(jwk.to_string()).contains(words), "{member}");
        }
        let mut padded = encoded::jwk(pair);
        padded["dp"] = format!("{}=", padded["dp"].as_str().unwrap()).into();
        assert!(refusal(padded.to_string()).contains("dp is not base64url without padding"));
    }

    #[test]
    fn a_jwk_for_something_else_is_refused_with_the_reason() {
        let [pair, _] = Pair::shared();
        for (member, value, words) in
            [("use", "enc", "not for signatures"), ("alg", "PS256", "none that Maskinporten takes")]
        {
            let mut jwk = encoded::jwk(pair);
            jwk[member] = value.into();
            assert!(refusal(jwk.to_string()).contains(words), "{member}");
        }
        let set = serde_json::json!({ "keys": [encoded::jwk(pair)] });
        assert!(refusal(set.to_string()).contains("JWKS"));
    }

    #[test]
    fn files_without_a_private_key_are_told_what_they_hold() {
        let certificate = sample::self_signed(sample::parameters("x"));
        assert!(refusal(certificate.der()).contains("a certificate and no key"));
        assert!(refusal(certificate.to_pem()).contains("no private key in the file (found: CERTIFICATE)"));
        let public = Pair::shared()[0].public_key().to_spki().unwrap();
        assert!(refusal(&public).contains("public key only"));
        assert!(refusal("hello").contains("none of the formats"));
    }

    #[test]
    fn two_keys_in_one_pem_file_are_one_too_many() {
        let [one, two] = Pair::shared();
        let file = [one, two].map(|pair| encoded::pem("PRIVATE KEY", pair.pkcs8())).concat();
        assert!(refusal(file).starts_with("Keys"));
    }

    #[test]
    fn old_formats_are_refused_with_the_command_that_converts_them() {
        let headers =
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----";
        assert!(refusal(headers).contains("openssl pkcs8 -topk8"));
        let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----";
        assert!(refusal(openssh).contains("ssh-keygen -p -m PKCS8"));
        assert!(refusal([0x30, 0x80, 0x02, 0x01, 0x03]).contains("BER"));
    }

    #[test]
    fn a_file_that_would_keep_us_busy_for_hours_is_refused_before_the_password_is_asked_for() {
        let file = encoded::encrypted_with(Pair::shared()[0], "secret", 10_000_001);
        let ask = || -> Result<Option<SecretString>, String> { panic!("asked") };
        assert!(matches!(
            read(&file, Algorithm::RS256, &ask),
            Err(Refusal::File { problem, .. }) if problem.contains("too much time")
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, Algorithm::RS256, &|| Ok(None));
        }

        #[test]
        fn a_damaged_key_never_panics(
            format in 0..4_usize,
            place in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            let [pair, _] = Pair::shared();
            let mut file = match format {
                0 => pair.pkcs8().to_vec(),
                1 => encoded::pkcs1(pair),
                2 => encoded::pem("PRIVATE KEY", pair.pkcs8()),
                _ => encoded::jwk(pair).to_string().into_bytes(),
            };
            let place = place.index(file.len());
            file[place] = value;
            let _ = read(&file, Algorithm::RS256, &|| Ok(None));
        }
    }
}
