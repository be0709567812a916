//! A key in every format that is read, and what of it is to be nowhere afterwards.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use der::{Decode, Encode};
use p12_keystore::{KeyStore, KeyStoreEntry, PrivateKeyChain};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, pkcs5::pbes2};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::{pkcs1::Numbers, random, search::Needles};

/// The numbers as the program computes with them: what must be in memory to sign.
pub(crate) const USED: &str = "numbers to sign with";

/// A file, and what is written in it.
pub(crate) struct KeyFile {
    pub(crate) name: &'static str,
    pub(crate) content: Vec<u8>,
    pub(crate) password: Option<String>,
    /// The numbers of the key as its file writes them, its text, its password.
    pub(crate) secrets: Needles,
}

/// Writes a key (PKCS#8), with a password or without: the file, and whether it is encrypted.
type Write = fn(&[u8], &str) -> (Vec<u8>, bool);

/// Of a key that is made anew for each.
pub(crate) fn key_files() -> Vec<KeyFile> {
    let formats: [(&'static str, Write); 7] = [
        ("PKCS#8 PEM", |key, _| (pem("PRIVATE KEY", key), false)),
        ("PKCS#1 PEM", |key, _| (pem("RSA PRIVATE KEY", pkcs1(key)), false)),
        ("PKCS#8 DER", |key, _| (key.to_vec(), false)),
        ("JWK", |key, _| (jwk(key), false)),
        ("encrypted PKCS#8 DER", |key, password| (encrypted(key, password), true)),
        ("encrypted PKCS#8 PEM", |key, password| {
            (pem("ENCRYPTED PRIVATE KEY", &encrypted(key, password)), true)
        }),
        ("PKCS#12", |key, password| (pkcs12(key, password), true)),
    ];
    formats.map(|(name, write)| key_file(name, write)).into()
}

fn key_file(name: &'static str, write: Write) -> KeyFile {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_der();
    let password = random();
    let (content, is_encrypted) = write(&key, &password);
    let mut secrets = Needles::default();
    let numbers = Numbers::from_der(pkcs1(&key)).unwrap();
    for (_, number) in numbers.private() {
        secrets.bytes("DER", number);
        secrets.text("JWK", &URL_SAFE_NO_PAD.encode(number));
        let used: Vec<u8> = if cfg!(target_endian = "little") {
            number.iter().rev().copied().collect()
        } else {
            number.to_vec()
        };
        secrets.bytes(USED, &used);
    }
    if name.ends_with("PEM") {
        let text = str::from_utf8(&content).unwrap();
        for line in text.lines().skip(9).filter(|line| line.len() == 64) {
            // The public half stands in the first lines.
            secrets.text("PEM", line);
        }
        assert!(secrets.has("PEM"), "{name}: no line of it would be looked for");
    }
    if is_encrypted {
        secrets.text("password", &password);
        // As PKCS#12 writes it (RFC 7292 appendix B.1).
        let wide: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
        secrets.bytes("password in UTF-16", &wide);
    }
    KeyFile { name, content, password: is_encrypted.then_some(password), secrets }
}

fn pkcs1(key: &[u8]) -> &[u8] {
    PrivateKeyInfoRef::try_from(key).unwrap().private_key.as_bytes()
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    pem::encode(&pem::Pem::new(label, der)).into_bytes()
}

fn jwk(key: &[u8]) -> Vec<u8> {
    let numbers = Numbers::from_der(pkcs1(key)).unwrap();
    let public = [("n", numbers.modulus.as_bytes()), ("e", numbers.public_exponent.as_bytes())];
    let all = public.into_iter().chain(numbers.private());
    let mut jwk: serde_json::Map<String, serde_json::Value> =
        all.map(|(name, number)| (name.to_owned(), URL_SAFE_NO_PAD.encode(number).into())).collect();
    jwk.insert("kty".into(), "RSA".into());
    serde_json::to_vec_pretty(&jwk).unwrap()
}

fn encrypted(key: &[u8], password: &str) -> Vec<u8> {
    let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(2048, &[7; 16], [9; 16]).unwrap();
    let encrypted = parameters.encrypt(password, key).unwrap();
    let encrypted_data = der::asn1::OctetStringRef::new(&encrypted).unwrap();
    EncryptedPrivateKeyInfoRef { encryption_algorithm: parameters.into(), encrypted_data }.to_der().unwrap()
}

fn pkcs12(key: &[u8], password: &str) -> Vec<u8> {
    let mut store = KeyStore::new();
    let key = p12_keystore::PrivateKey::from_der(key).unwrap();
    store.add_entry("one", KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new("one", key, Vec::new())));
    store.writer(password).encryption_iterations(2048).mac_iterations(2048).write().unwrap()
}
