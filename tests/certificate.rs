//! `segl certificate` through the real program: every call is a process of its own, as it is for people.

#![cfg(all(feature = "cli", feature = "sandbox"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

#[path = "support/said.rs"]
mod said;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use p12_keystore::{KeyStore, KeyStoreEntry, PrivateKeyChain};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
};
use segl::{
    certificate::{Certificate, Chain},
    sandbox::{Profile, TestCa},
};
use serde_json::Value;
use tempfile::TempDir;

use self::said::Said;

const ORGNO: &str = "312700018";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder of files.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }

    fn segl(&self, arguments: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_segl"))
            .arg("certificate")
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            // Whoever fetches an issuer goes the direct way, whatever stands here.
            .env("HTTP_PROXY", "http://127.0.0.1:9")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        Said::from(output)
    }

    fn json(&self, file: &str) -> Value {
        let said = self.segl(&["show", file, "--output", "json"]);
        serde_json::from_str(&said.out).unwrap_or_else(|why| panic!("{why}: {said:?}"))
    }
}

/// One for all certificates: a key of its own for each would take too long.
fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
}

fn issued(ca: &TestCa, key: &KeyPair, profile: Profile) -> Vec<u8> {
    ca.issue_for(&key.subject_public_key_info(), ORGNO, profile).unwrap().leaf
}

fn pem(der: &[u8]) -> String {
    Certificate::from_der(der).unwrap().to_pem()
}

#[test]
fn a_certificate_of_the_sandbox_is_said_to_work_there_in_plain_words() {
    let desk = Desk::new();
    let ca = TestCa::ephemeral().unwrap();
    let chain = ca.issue_for(&key().subject_public_key_info(), ORGNO, Profile::Seid2).unwrap();
    let file = desk.file("chain.pem", chain.chain_pem());
    let said = desk.segl(&["show", &file]);
    assert_eq!(said.code, 0, "{said:?}");
    for line in [
        "certificate    virksomhetssertifikat (SEID 2) from the sandbox\n",
        "Maskinporten   works at the sandbox only for SEGL SANDBOX TEST (312700018), as a Norwegian business, until 20",
        "purpose        for authentication\n",
        "key            RSA, 2048 bits\n",
        "chain          its issuer is here; not here: ",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    let json = desk.json(&file);
    assert_eq!((&json["schema"], &json["chosen"]), (&Value::from(1), &Value::from(0)));
    assert_eq!(json["certificates"][0]["works_as"], "business");
    assert_eq!(json["certificates"][0]["organisation_number"], ORGNO);
}

#[test]
fn of_three_certificates_in_one_file_the_one_for_maskinporten_is_named() {
    let desk = Desk::new();
    let ca = TestCa::ephemeral().unwrap();
    let set = [Profile::Encryption, Profile::Signing, Profile::Seid2].map(|it| pem(&issued(&ca, key(), it)));
    let file = desk.file("set.pem", set.concat());
    let said = desk.segl(&["show", &file]);
    assert_eq!(said.code, 0, "{said:?}");
    let rows: Vec<&str> = said.out.lines().skip(1).take(3).collect();
    assert!(
        rows[0].contains("for encryption") && rows[0].contains("no: it is for encryption"),
        "{}",
        said.out
    );
    assert!(rows[1].contains("for signing") && rows[1].ends_with("yes"), "{}", said.out);
    assert!(
        rows[2].contains("for authentication") && rows[2].ends_with("yes: this is the one to use"),
        "{}",
        said.out
    );
    assert_eq!(desk.json(&file)["chosen"], 2);
    let encryption = desk.segl(&["show", &desk.file("encryption.pem", &set[0])]);
    assert_eq!(encryption.code, 2);
    assert!(encryption.err.contains("Use the authentication certificate of the set"), "{encryption:?}");
}

#[test]
fn the_exit_code_says_whose_move_it_is() {
    let desk = Desk::new();
    let ca = TestCa::ephemeral().unwrap();
    let expired = desk.file("expired.pem", pem(&issued(&ca, key(), Profile::Expired)));
    let said = desk.segl(&["show", &expired]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("the certificate does not work at Maskinporten: it expired on 20"), "{said:?}");
    let root = Authority::root("Fiktiv rot");
    let soon = root.issue(|params| params.not_after = (SystemTime::now() + DAY * 20).into());
    let soon = desk.file("soon.pem", soon + &root.pem());
    let said = desk.segl(&["show", &soon]);
    assert_eq!(said.code, 4);
    assert!(said.err.contains("it expires in 19 days\n      Order the next one now"), "{said:?}");
    let issuer = desk.segl(&["show", &desk.file("root.pem", root.pem())]);
    assert_eq!(issuer.code, 2);
    assert!(
        issuer.out.contains("certificate of an issuer (CA)") && issuer.err.contains("belongs behind it"),
        "{issuer:?}"
    );
}

#[test]
fn names_of_the_configuration_lead_to_their_certificates() {
    let desk = Desk::new();
    let ca = TestCa::ephemeral().unwrap();
    let key = key();
    let beside = key.serialize_pem() + &pem(&issued(&ca, key, Profile::Seid2));
    let path = desk.file("key.pem", beside);
    set_mode(&path, 0o600);
    desk.file("certificate.pem", pem(&issued(&ca, key, Profile::Seid1)));
    desk.file(
        "segl.toml",
        "schema = 1\n[signers.own]\nkey = \"file:key.pem\"\n\
         [clients.beside]\nenvironment = \"test\"\nclient_id = \"a\"\nsigner = \"own\"\ncertificate = \"token\"\n\
         [clients.apart]\nenvironment = \"test\"\nclient_id = \"a\"\nsigner = \"own\"\ncertificate = \"certificate.pem\"\n\
         [clients.kid]\nenvironment = \"test\"\nclient_id = \"a\"\nsigner = \"own\"\nkid = \"k\"\n\
         [tokens.road]\nclient = \"apart\"\nscopes = [\"toll:movement/road/v2\"]\n",
    );
    for (name, expected) in [
        ("own", "SEID 2"),
        ("beside", "SEID 2"),
        ("apart", "SEID 1"),
        ("road", "SEID 1"),
        ("certificate.pem", "SEID 1"),
    ] {
        let said = desk.segl(&["show", name]);
        assert!(said.code == 0 && said.out.contains(expected), "{name}: {said:?}");
    }
    let kid = desk.segl(&["show", "kid"]);
    assert!(kid.code == 2 && kid.err.contains("known by the key k that was registered"), "{kid:?}");
    let unknown = desk.segl(&["show", "rod"]);
    assert!(unknown.code == 2 && unknown.err.contains("apart, beside, kid, road, own"), "{unknown:?}");
}

#[test]
fn files_that_are_no_certificates_are_refused_politely() {
    let desk = Desk::new();
    let none = desk.segl(&["show", "nothing.pem"]);
    assert!(none.code == 2 && none.err.contains("no file here"), "{none:?}");
    for (name, content, expected) in [
        ("large.pem", vec![b'A'; 10_000_000], "larger than 1 MiB"),
        ("empty.pem", Vec::new(), "no certificate was found"),
        ("damaged.cer", vec![0x30, 0x82, 1, 1, 0], "cannot be read"),
    ] {
        let said = desk.segl(&["show", &desk.file(name, content)]);
        assert!(said.code == 2 && said.err.contains(expected), "{said:?}");
    }
}

#[test]
fn a_protected_file_without_its_password_says_which_option_gives_it() {
    let desk = Desk::new();
    let ca = TestCa::ephemeral().unwrap();
    let key = key();
    let certificate = issued(&ca, key, Profile::Seid2);
    let file = desk.file("company.p12", pkcs12(key, &certificate, "correct horse"));
    let said = desk.segl(&["show", &file]);
    assert!(said.code == 2 && said.err.contains("--password file:PATH"), "{said:?}");
    let password = desk.file("password", "correct horse\n");
    set_mode(&password, 0o600);
    let said = desk.segl(&["show", &file, "--password", &format!("file:{password}")]);
    assert!(said.code == 0 && said.out.contains("virksomhetssertifikat"), "{said:?}");
    // It was decrypted with the rest.
    assert!(said.out.contains("holds a private key, too, of which no use was made"), "{said:?}");
    // Where the certificates of its issuers are known all the same, it is said that its own is not.
    let root = Authority::root("Fiktiv rot");
    desk.file("issuers.pem", root.pem());
    let signer = "schema = 1\n[signers.own]\nkey = \"file:company.p12\"\nchain = \"issuers.pem\"\n";
    desk.file("segl.toml", signer);
    for arguments in [&["show", "own"][..], &["fetch-chain", "own", "--out", "x.pem"]] {
        let said = desk.segl(arguments);
        let shown = said.out.clone() + &said.err;
        assert!(shown.contains("company.p12: the file is protected by a password"), "{said:?}");
    }
    // The chain of a signer has no password that could be given.
    desk.file("key.pem", pem(&certificate));
    let chain = "schema = 1\n[signers.own]\nkey = \"file:key.pem\"\nchain = \"company.p12\"\n";
    desk.file("segl.toml", chain);
    let said = desk.segl(&["show", "own"]);
    assert!(said.code == 2 && said.err.contains("take the certificates out of it as PEM"), "{said:?}");
    assert!(!said.err.contains("--password"), "{said:?}");
}

/// A key and its certificate, as issuers deliver them.
fn pkcs12(key: &KeyPair, certificate: &[u8], password: &str) -> Vec<u8> {
    let certificate = p12_keystore::Certificate::from_der(certificate).unwrap();
    let private = p12_keystore::PrivateKey::from_der(&key.serialize_der()).unwrap();
    let entry = PrivateKeyChain::new("one", private, vec![certificate]);
    let mut store = KeyStore::new();
    store.add_entry("one", KeyStoreEntry::PrivateKeyChain(entry));
    store.writer(password).encryption_iterations(2048).mac_iterations(2048).write().unwrap()
}

/// An authority with a name of its own.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

fn parameters(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY * 1000).into();
    params
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut params = parameters(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Authority {
    fn root(name: &str) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), authority_parameters(name));
        Self { certificate: params.self_signed(&key).unwrap(), issuer: Issuer::new(params, key) }
    }

    fn below(&self, name: &str, url: &str) -> Self {
        let (key, mut params) = (KeyPair::generate().unwrap(), authority_parameters(name));
        params.custom_extensions.push(access(url));
        Self { certificate: params.signed_by(&key, &self.issuer).unwrap(), issuer: Issuer::new(params, key) }
    }

    fn pem(&self) -> String {
        pem(self.certificate.der())
    }

    /// The seal of a foreign organisation, as PEM.
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = parameters("Norrbottens Åkeri AB");
        params.distinguished_name.push(DnType::OrganizationName, "Norrbottens Åkeri AB");
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), "VATSE-556012345601");
        params.key_usages = vec![KeyUsagePurpose::ContentCommitment];
        // LCP, ETSI EN 319 411-1.
        let policy = vec![0x30, 0x0a, 0x30, 8, 6, 6, 4, 0, 0x8f, 0x7a, 1, 3];
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 32], policy));
        change(&mut params);
        pem(params.signed_by(key(), &self.issuer).unwrap().der())
    }
}

/// authorityInfoAccess with one address of the issuer.
fn access(url: &str) -> CustomExtension {
    let length = u8::try_from(url.len()).unwrap();
    let location = [&[0x86, length][..], url.as_bytes()].concat();
    let method = [6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2];
    let one = [&[0x30, length + 12][..], &method, &location].concat();
    let all = [&[0x30, length + 14][..], &one].concat();
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], all)
}

/// Files by name.
type Files = Arc<Mutex<Vec<(&'static str, Vec<u8>)>>>;

/// A server on this machine with files that are set later, and ends with the test.
struct Server {
    address: SocketAddr,
    files: Files,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn new() -> Self {
        let files = Files::default();
        let served = files.clone();
        let answer = move |Path(path): Path<String>| {
            let found =
                served.lock().unwrap().iter().find(|(name, _)| *name == path).map(|(_, body)| body.clone());
            async move { found.ok_or(StatusCode::NOT_FOUND) }
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/{path}", get(answer));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, files, _runtime: runtime }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn set(&self, files: Vec<(&'static str, Vec<u8>)>) {
        *self.files.lock().unwrap() = files;
    }
}

fn set_mode(path: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_chain_of_a_seal_is_fetched_written_and_pasted_and_the_seal_works_then() {
    let (desk, server) = (Desk::new(), Server::new());
    let root = Authority::root("Fiktiv rot");
    let issuing = root.below("Fiktiv utsteder", &server.url("root"));
    let url = server.url("issuing");
    let leaf = desk.file("leaf.pem", issuing.issue(|params| params.custom_extensions.push(access(&url))));
    server.set(vec![("issuing", issuing.certificate.der().to_vec()), ("root", root.pem().into_bytes())]);
    let before = desk.segl(&["show", &leaf]);
    assert_eq!(before.code, 2);
    assert!(before.err.contains("Run segl certificate fetch-chain"), "{before:?}");
    let fetched = desk.segl(&["fetch-chain", &leaf, "--out", "chain.pem", "--allow-private"]);
    assert_eq!(fetched.code, 0, "{fetched:?}");
    assert_eq!(fetched.out, format!("chain = \"{}\"\n", desk.path("chain.pem").display()));
    assert!(
        fetched.err.contains(&format!("fetched: CN=Fiktiv utsteder from {}", server.url("issuing"))),
        "{fetched:?}"
    );
    let written = fs::read(desk.path("chain.pem")).unwrap();
    let chain = Chain::from_file(&written, None, SystemTime::now()).unwrap();
    assert_eq!((chain.len(), chain.missing_issuer()), (3, None));
    let after = desk.segl(&["show", "chain.pem"]);
    assert_eq!(after.code, 0, "{after:?}");
    assert!(
        after.out.contains("works at Maskinporten in test and production for Norrbottens Åkeri AB (VATSE-556012345601), as an eSeal"),
        "{after:?}"
    );
    // What is there is not replaced, unless that is meant.
    let again = desk.segl(&["fetch-chain", &leaf, "--out", "chain.pem", "--allow-private"]);
    assert!(again.code == 2 && fs::read(desk.path("chain.pem")).unwrap() == written, "{again:?}");
    let forced = desk.segl(&["fetch-chain", "chain.pem", "--out", "chain.pem", "--force"]);
    assert!(forced.code == 0 && fs::read(desk.path("chain.pem")).unwrap() == written, "{forced:?}");
}

#[test]
fn an_address_that_leads_to_this_machine_is_not_followed_and_nothing_is_written() {
    let (desk, server) = (Desk::new(), Server::new());
    let issuing = Authority::root("Fiktiv utsteder");
    server.set(vec![("issuing", issuing.certificate.der().to_vec())]);
    let port = server.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/issuing");
        let leaf = desk.file("leaf.pem", issuing.issue(|params| params.custom_extensions.push(access(&url))));
        let said = desk.segl(&["fetch-chain", &leaf, "--out", "chain.pem"]);
        assert!(said.code == 2 && said.err.contains("which is not on the public internet"), "{said:?}");
        assert!(!desk.path("chain.pem").exists());
    }
}

#[test]
fn what_cannot_be_fetched_says_whose_move_it_is() {
    let (desk, server) = (Desk::new(), Server::new());
    let root = Authority::root("Fiktiv rot");
    let issuing = root.below("Fiktiv utsteder", &server.url("nowhere"));
    let url = server.url("issuing");
    let leaf = desk.file("leaf.pem", issuing.issue(|params| params.custom_extensions.push(access(&url))));
    let fetch = |file: &str| desk.segl(&["fetch-chain", file, "--out", "chain.pem", "--allow-private"]);
    let missing = fetch(&leaf);
    assert!(missing.code == 2 && missing.err.contains("HTTP 404"), "{missing:?}");
    // A decoy of the issuer's name did not sign it.
    server.set(vec![("issuing", Authority::root("Fiktiv utsteder").certificate.der().to_vec())]);
    let decoy = fetch(&leaf);
    assert!(decoy.code == 2 && decoy.err.contains("did not issue it"), "{decoy:?}");
    let silent = desk.file("silent.pem", issuing.issue(|_| {}));
    let silent = fetch(&silent);
    assert!(silent.code == 2 && silent.err.contains("does not say where it is"), "{silent:?}");
    // Port 9 of this machine answers nobody.
    let away = issuing.issue(|params| params.custom_extensions.push(access("http://127.0.0.1:9/x")));
    let away = fetch(&desk.file("away.pem", away));
    assert_eq!(away.code, 3, "{away:?}");
    assert!(!desk.path("chain.pem").exists());
    // A part of the chain is better than none, and is said to be one.
    server.set(vec![("issuing", issuing.certificate.der().to_vec())]);
    let part = fetch(&leaf);
    assert!(part.code == 4 && part.err.contains("not complete yet"), "{part:?}");
    assert!(desk.path("chain.pem").exists());
}
