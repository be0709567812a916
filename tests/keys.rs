//! `segl keys` through the real program and the real SoftHSM2: every call is a process of its own, as it is for people.

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
#[path = "support/softhsm.rs"]
mod softhsm;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use segl::{
    certificate::Certificate,
    jose::RsaPublicKey,
    sandbox::{Issued, Profile, TestCa},
    sign::pkcs11::Uri,
};
use serde_json::Value;
use tempfile::TempDir;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use self::{
    said::{Said, beside_softhsm},
    softhsm::{LIBRARY, PIN, SO_PIN, configure, spy},
};

const WRONG_PIN: &str = "0815-4711";
const ORGNO: &str = "312700018";

/// A directory with a SoftHSM2 of its own, the PIN in `pin` and a wrong one in `wrong-pin`.
struct Desk(TempDir);

impl Desk {
    /// Without a device that is set up.
    fn empty() -> Self {
        assert!(Path::new(LIBRARY).exists(), "SoftHSM2 is missing: apt-get install softhsm2");
        let desk = Self(tempfile::tempdir().unwrap());
        configure(desk.0.path());
        desk.secret("pin", PIN);
        desk.secret("wrong-pin", WRONG_PIN);
        desk
    }

    /// With a device called `ci`.
    fn new() -> Self {
        let desk = Self::empty();
        desk.device("ci");
        desk
    }

    fn device(&self, label: &str) {
        self.softhsm(&["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN]);
    }

    fn softhsm(&self, arguments: &[&str]) {
        let made = Command::new("softhsm2-util")
            .args(arguments)
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn secret(&self, name: &str, text: impl AsRef<[u8]>) {
        self.write(name, text);
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }

    /// `segl keys ARGUMENTS`.
    fn keys(&self, arguments: &[&str]) -> Said {
        self.segl(&[&["keys"], arguments].concat())
    }

    fn segl(&self, arguments: &[&str]) -> Said {
        let output = beside_softhsm(self.0.path(), LIBRARY).args(arguments).output().unwrap();
        Said::from(output).without(&[PIN, WRONG_PIN])
    }

    /// The same with the right PIN, and it must succeed.
    fn done(&self, arguments: &[&str]) -> Said {
        let said = self.keys(&[arguments, &["--pin", "file:pin"]].concat());
        assert_eq!(said.code, 0, "{said:?}");
        said
    }

    /// A new key of 2048 bits on `ci`: the URI that was printed.
    fn generate(&self, label: &str) -> String {
        let made = self.done(&["generate", &format!("pkcs11:token=ci;object={label}"), "--bits", "2048"]);
        made.out.trim().to_owned()
    }

    /// The request of a key, DER.
    fn csr(&self, uri: &str) -> Vec<u8> {
        let asked =
            self.done(&["csr", uri, "--organisation", "Fiktiv Sjøfart AS", "--organisation-number", ORGNO]);
        pem::parse(asked.out).unwrap().into_contents()
    }

    /// A certificate of this kind for a key, its file written as `name`.
    fn certify(&self, uri: &str, profile: Profile, name: &str) -> Issued {
        let issued = ca().issue_for(&public_key(&self.csr(uri)), ORGNO, profile).unwrap();
        self.write(name, issued.chain_pem());
        issued
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[&["--output", "json"], arguments].concat()).out).unwrap()
    }
}

/// The one authority of these tests: its keys take a while.
fn ca() -> &'static TestCa {
    static CA: OnceLock<TestCa> = OnceLock::new();
    CA.get_or_init(|| TestCa::ephemeral().unwrap())
}

/// The SubjectPublicKeyInfo in a request.
fn public_key(csr: &[u8]) -> Vec<u8> {
    let (_, request) = X509CertificationRequest::from_der(csr).unwrap();
    request.certification_request_info.subject_pki.raw.to_vec()
}

/// The device called `ci`; other libraries of the machine may show others.
fn ci(listing: &Value) -> &Value {
    let devices =
        listing["modules"].as_array().unwrap().iter().flat_map(|it| it["devices"].as_array().unwrap());
    let [device] = devices.filter(|it| it["label"] == "ci").collect::<Vec<_>>()[..] else {
        panic!("{listing}");
    };
    device
}

/// The keys of the device called `ci`.
fn listed(listing: &Value) -> &Vec<Value> {
    ci(listing)["keys"].as_array().unwrap()
}

#[test]
fn a_key_is_born_certified_and_registered_without_leaving_its_device() {
    let desk = Desk::new();
    let born = desk.done(&["generate", "pkcs11:token=ci;object=grant"]);
    let uri = born.out.trim();
    let parsed: Uri = uri.parse().unwrap();
    assert!(parsed.serial().is_some() && parsed.object() == Some("grant") && parsed.id().is_some(), "{uri}");

    let shown = desk.keys(&[]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains(&format!("\n  {uri}\n")), "{shown:?}");
    assert!(shown.out.contains("its private half is hidden until login"), "{shown:?}");
    assert!(shown.err.contains("may be hidden on ci until login: add --login"), "{shown:?}");
    assert!(shown.out.contains("unattended    unknown until login\n"), "{shown:?}");
    assert!(shown.out.contains("extractable   unknown until login\n"), "{shown:?}");

    let shown = desk.done(&["list", "--login"]);
    assert!(shown.out.contains("key           RSA-3072\n"), "{shown:?}");
    assert!(shown.out.contains("Maskinporten  with kid: it has no certificate\n"), "{shown:?}");
    assert!(shown.out.contains("unattended    yes: with a PIN from a file, "), "{shown:?}");
    assert!(shown.out.contains("extractable   no\n"), "{shown:?}");
    assert!(!shown.err.contains("hidden"), "{shown:?}");

    let der = desk.csr(uri);
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    request.verify_signature().unwrap();
    let subject = request.certification_request_info.subject.to_string();
    assert!(
        subject.contains("Fiktiv Sjøfart AS") && subject.contains(&format!("NTRNO-{ORGNO}")),
        "{subject}"
    );

    let issued = ca().issue_from_csr(&der, ORGNO).unwrap();
    desk.write("chain.pem", issued.chain_pem());
    let stored = desk.done(&["import", uri, "chain.pem"]);
    let lines: Vec<_> = stored.out.lines().collect();
    assert_eq!(lines.len(), 2, "{stored:?}");
    assert!(
        lines[0].starts_with(&format!("stored     Fiktiv Sjøfart AS ({ORGNO}), for authentication, until "))
    );
    assert!(lines[1].starts_with("stored     Segl Sandbox Test CA, for issuing certificates, until "));
    let again = desk.done(&["import", uri, "chain.pem"]);
    assert_eq!(again.out.matches("was there").count(), 2, "{again:?}");

    let shown = desk.done(&["--login"]);
    assert!(shown.out.contains(&format!("certificate   Fiktiv Sjøfart AS ({ORGNO}), for auth")), "{shown:?}");
    assert!(shown.out.contains("Maskinporten  yes\n"), "{shown:?}");
    assert!(shown.out.contains("certificate   Segl Sandbox Test CA, "), "{shown:?}");
    // Seen without a login, too.
    assert!(desk.keys(&[]).out.contains("Maskinporten  yes; its private half is hidden until login\n"));

    let jwk: Value = serde_json::from_str(&desk.done(&["jwk", uri]).out).unwrap();
    let [jwk] = jwk.as_array().unwrap().as_slice() else { panic!("{jwk}") };
    let mut members: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
    let thumbprint = RsaPublicKey::from_spki(&public_key(&der)).unwrap().thumbprint();
    assert_eq!(jwk["kid"], thumbprint);
    assert!(born.err.contains(&thumbprint), "{born:?}");
}

#[test]
fn json_has_schema_1_and_says_what_is_inside_each_certificate() {
    let desk = Desk::new();
    let uri = desk.generate("grant");
    let issued = desk.certify(&uri, Profile::Seid2, "chain.pem");
    desk.done(&["import", &uri, "chain.pem"]);
    let listing = desk.json(&["--login"]);
    let schema: Value = serde_json::from_str(include_str!("../docs/keys.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for listing in [&listing, &desk.json(&["--module", LIBRARY])] {
        let faults: Vec<_> = validator.iter_errors(listing).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
    assert!(!validator.is_valid(&serde_json::json!({ "schema": 2, "modules": [] })));
    assert_eq!(listing["schema"], 1);
    let modules = listing["modules"].as_array().unwrap();
    let module = modules.iter().find(|it| it["profile"] == "softhsm2").unwrap();
    assert!(module["path"].as_str().unwrap().ends_with("libsofthsm2.so"), "{module}");
    assert!(module["named_by"].as_array().unwrap().contains(&"profile softhsm2".into()), "{module}");
    assert_eq!((&ci(&listing)["pin"], &ci(&listing)["logged_in"]), (&"good".into(), &true.into()));
    let [key] = listed(&listing).as_slice() else { panic!("{listing}") };
    assert_eq!((&key["uri"], &key["type"], &key["bits"]), (&uri.into(), &"RSA".into(), &2048.into()));
    assert_eq!((&key["private"], &key["extractable"]), (&true.into(), &false.into()));
    assert_eq!(key["maskinporten"], serde_json::json!({ "answer": "yes", "why": null }));
    assert_eq!(key["unattended"]["answer"], "yes");
    let content = &key["certificates"][0]["content"];
    let leaf = Certificate::from_der(&issued.leaf).unwrap();
    assert_eq!(content["organisation_number"], ORGNO);
    assert_eq!(content["fingerprint"], leaf.fingerprint());
    assert_eq!(content["purpose"], "for authentication");
}

#[test]
fn a_certificate_on_a_device_is_judged_without_a_pin_by_uri_and_by_the_signers_name() {
    let desk = Desk::new();
    let uri = desk.generate("grant");
    desk.certify(&uri, Profile::Seid2, "chain.pem");
    desk.done(&["import", &uri, "chain.pem"]);
    desk.write("segl.toml", format!("schema = 1\n[signers.hsm]\nkey = \"{uri}\"\n"));
    for target in [uri.as_str(), "pkcs11:token=ci", "pkcs11:token=ci;object=grant;type=cert", "hsm"] {
        let shown = desk.segl(&["certificate", "show", target]);
        assert_eq!(shown.code, 0, "{target}: {shown:?}");
        assert!(shown.out.contains("virksomhetssertifikat (SEID 2) from the sandbox"), "{target}: {shown:?}");
        assert!(shown.out.contains("its issuer is here"), "{target}: {shown:?}");
    }
    let none = desk.segl(&["certificate", "show", "pkcs11:token=ci;object=other"]);
    none.assert_needs_person("names no certificate that is to be seen", "segl keys --login");
}

#[test]
fn a_certificate_that_will_not_do_is_named_with_the_reason() {
    let desk = Desk::new();
    for (label, profile, expected) in [
        ("encryption", Profile::Encryption, "with kid: its certificate is for encryption\n"),
        ("expired", Profile::Expired, "with kid: its certificate expired on 2"),
        ("foreign", Profile::Foreign, "yes; as an eSeal only; an eSeal goes with its whole chain"),
    ] {
        let uri = desk.generate(label);
        desk.certify(&uri, profile, "chain.pem");
        desk.done(&["import", &uri, "chain.pem"]);
        let shown = desk.done(&["list", &uri, "--login"]);
        assert!(shown.out.contains(&format!("Maskinporten  {expected}")), "{shown:?}");
        // Only the key that was named.
        assert_eq!(shown.out.matches("Maskinporten").count(), 1, "{shown:?}");
    }
}

#[test]
fn a_key_that_maskinporten_does_not_take_says_why() {
    let desk = Desk::new();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    desk.secret("ec.pem", key.serialize_pem());
    let path = desk.path("ec.pem");
    desk.softhsm(&[
        "--import",
        path.to_str().unwrap(),
        "--token",
        "ci",
        "--label",
        "ec",
        "--id",
        "0e",
        "--pin",
        PIN,
    ]);
    // A certificate of it under another id, and one of another key under its own.
    let look_alike = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    for (key, label, id) in [(&key, "its own", "0f"), (&look_alike, "look-alike", "0e")] {
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(key).unwrap();
        desk.write("ec.der", certificate.der());
        let file = desk.path("ec.der");
        let written = Command::new("pkcs11-tool")
            .args(["--module", LIBRARY, "--token-label", "ci", "--login", "--pin", PIN, "--id", id])
            .args(["--label", label, "--type", "cert", "--write-object", file.to_str().unwrap()])
            .env("SOFTHSM2_CONF", desk.path("softhsm2.conf"))
            .output()
            .unwrap();
        assert!(written.status.success(), "{written:?}");
    }
    let shown = desk.done(&["--login"]);
    assert!(shown.out.contains("key           EC-256\n"), "{shown:?}");
    assert!(shown.out.contains("Maskinporten  no: it is an EC key; Maskinporten takes RSA\n"), "{shown:?}");
    let listing = desk.json(&["--login"]);
    let [key] = listed(&listing).as_slice() else { panic!("{listing}") };
    let [certificate] = key["certificates"].as_array().unwrap().as_slice() else { panic!("{key}") };
    assert_eq!(certificate["label"], "its own", "{key}");
    let whole = desk.done(&["show", "pkcs11:token=ci;object=ec", "--login"]);
    assert!(whole.out.contains("  CKA_EC_PARAMS             P-256\n"), "{whole:?}");
    assert_eq!(
        desk.done(&["--login", "--output", "uri"]).out,
        "",
        "a key that will not do is no line to paste"
    );
    let refused = desk.keys(&["jwk", "pkcs11:token=ci;object=ec", "--pin", "file:pin"]);
    refused.assert_needs_person("its type is EC", "Use an RSA key");
}

#[test]
fn a_wrong_pin_is_tried_once_and_never_printed() {
    let desk = Desk::new();
    desk.generate("grant");
    let spy = spy().expect("pkcs11-spy is missing: apt-get install opensc-pkcs11");
    let uri = format!("pkcs11:token=ci;object=grant?module-path={}", spy.display());
    for command in [
        &["list", &uri, "--login"][..],
        &["generate", &uri],
        &["csr", &uri, "--organisation", "A", "--organisation-number", ORGNO],
        &["jwk", &uri],
    ] {
        let _ = fs::remove_file(desk.path("spy.log"));
        // As on another machine: what this one knows of the PIN outlives the program.
        let _ = fs::remove_dir_all(desk.path("state"));
        let refused = desk.keys(&[command, &["--pin", "file:wrong-pin"]].concat());
        refused
            .assert_needs_person("refused the PIN (CKR_PIN_INCORRECT); it was tried once", "Correct the PIN");
        let log = fs::read_to_string(desk.path("spy.log")).unwrap();
        assert_eq!(log.matches(": C_Login\n").count(), 1, "{command:?}");
        assert_eq!(log.matches(": C_Finalize\n").count(), 1, "{command:?}: the library was not ended");
    }
}

#[test]
fn a_pin_that_stands_on_the_command_line_by_mistake_is_not_repeated() {
    let desk = Desk::new();
    for command in [&["--login"][..], &["jwk", "pkcs11:token=ci"]] {
        let refused = desk.keys(&[command, &["--pin", PIN]].concat());
        refused.assert_needs_person("a secret is not written here", "--pin file:PATH");
    }
    let refused = desk.keys(&["jwk", &format!("pkcs11:token=ci?pin-value={PIN}")]);
    refused.assert_needs_person("a PIN in a URI", "`segl keys`");
}

#[test]
fn without_a_pin_and_without_a_person_the_error_says_how_to_give_one() {
    let desk = Desk::new();
    let refused = desk.keys(&["jwk", "pkcs11:token=ci"]);
    refused.assert_needs_person("needs a PIN", "--pin file:PATH, credential:NAME");
}

#[test]
fn the_pin_is_found_where_the_uri_says() {
    let desk = Desk::new();
    let given = format!("pkcs11:token=ci;object=grant?pin-source=file:{}", desk.path("pin").display());
    let made = desk.keys(&["generate", &given, "--bits", "2048"]);
    assert_eq!(made.code, 0, "{made:?}");
    // The line to paste finds it there, too.
    let uri = made.out.trim();
    assert_eq!(desk.keys(&["jwk", uri]).code, 0);
    assert_eq!(desk.keys(&["list", uri, "--login"]).code, 0);
}

#[test]
fn a_label_or_an_id_that_is_taken_is_not_given_again() {
    let desk = Desk::new();
    let first = desk.done(&["generate", "pkcs11:token=ci;object=grant", "--bits", "2048", "--id", "0a0b"]);
    assert!(first.out.ends_with(";object=grant;id=%0A%0B\n"), "{first:?}");
    for (arguments, what) in [
        (&["pkcs11:token=ci;object=grant"][..], "label"),
        (&["pkcs11:token=ci;object=other", "--id", "0A0B"], "id"),
        (&["pkcs11:token=ci;object=other;id=%0a%0b"], "id"),
    ] {
        let refused = desk.keys(&[&["generate", "--pin", "file:pin"], arguments].concat());
        let expected = format!("a key of this {what} is on the device already: {}", first.out.trim());
        refused.assert_needs_person(&expected, &format!("Choose another {what}"));
    }
    assert_eq!(listed(&desk.json(&["--login"])).len(), 1);
}

#[test]
fn a_new_key_needs_a_name_and_only_one_id() {
    let desk = Desk::new();
    let nameless = desk.keys(&["generate", "pkcs11:token=ci", "--pin", "file:pin"]);
    nameless.assert_needs_person("does not say what the new key is to be called", ";object=LABEL");
    let two = desk.keys(&["generate", "pkcs11:token=ci;object=a;id=%01", "--id", "02", "--pin", "file:pin"]);
    two.assert_needs_person("name two ids", "Leave one of them out");
}

#[test]
fn a_request_is_written_to_a_new_file_and_never_over_an_old_one() {
    let desk = Desk::new();
    let uri = desk.generate("grant");
    let ask = ["csr", &uri, "--organisation", "A AS", "--organisation-number", ORGNO, "--out", "grant.csr"];
    let written = desk.done(&ask);
    assert!(written.out.is_empty() && written.err.contains("written: grant.csr"), "{written:?}");
    let first = fs::read(desk.path("grant.csr")).unwrap();
    assert!(first.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----\n"));
    // No PIN is asked for before that is said.
    desk.keys(&ask).assert_needs_person("grant.csr exists already", "Choose another name");
    assert_eq!(fs::read(desk.path("grant.csr")).unwrap(), first);
}

#[test]
fn a_certificate_of_no_key_on_the_device_is_not_stored() {
    let desk = Desk::new();
    let (grant, other) = (desk.generate("grant"), desk.generate("other"));
    desk.certify(&other, Profile::Seid2, "other.pem");
    let refused = desk.keys(&["import", &grant, "other.pem", "--pin", "file:pin"]);
    refused.assert_needs_person("none of these certificates is for the key named (\"grant\")", "--login");
    assert_eq!(listed(&desk.json(&["--login"]))[0]["certificates"], serde_json::json!([]));
    // The device alone names all its keys.
    desk.done(&["import", "pkcs11:token=ci", "other.pem"]);
}

#[test]
fn of_a_set_of_certificates_only_those_of_keys_here_and_their_issuers_are_stored() {
    let desk = Desk::new();
    let (grant, other) = (desk.generate("grant"), desk.generate("other"));
    let own = desk.certify(&grant, Profile::Seid2, "own.pem");
    let stranger = desk.certify(&other, Profile::Encryption, "stranger.pem");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    desk.write("set.pem", stranger.leaf_pem() + &own.chain_pem() + &key.serialize_pem());
    let stored = desk.done(&["import", &grant, "set.pem"]);
    assert_eq!(stored.out.lines().count(), 2, "{stored:?}");
    assert!(stored.err.contains("passed over: SEGL SANDBOX TEST (312700018), for encryption"), "{stored:?}");
    assert!(stored.err.contains("set.pem holds a private key, too; it was not imported"), "{stored:?}");
}

#[test]
fn files_that_hold_no_certificates_are_told_apart() {
    let desk = Desk::new();
    let import = |name: &str| desk.keys(&["import", "pkcs11:token=ci", name, "--pin", "file:pin"]);
    // A PFX in DER, and one in BER without a length (RFC 7292 section 4).
    for pfx in [&[0x30, 0x82, 0x09, 0x11, 2, 1, 3, 0x30, 0x82][..], &[0x30, 0x80, 2, 1, 3, 0x30, 0x80]] {
        desk.write("key.p12", pfx);
        import("key.p12").assert_needs_person("the private key in it is not imported", "-nokeys");
    }
    desk.write("empty.pem", "nothing at all\n");
    import("empty.pem").assert_needs_person("empty.pem: no certificate was found", "BEGIN CERTIFICATE");
    desk.write("bad.der", [0x30, 0x82, 0xff]);
    import("bad.der").assert_needs_person("bad.der: the certificate cannot be read", "as PEM");
    import("absent.pem").assert_needs_person("absent.pem cannot be read", "Name a file");
    desk.write("large.pem", vec![b' '; (1 << 20) + 1]);
    import("large.pem").assert_needs_person("it is larger than 1 MiB", "Name a file");
}

#[test]
fn a_signer_of_the_configuration_brings_its_key_and_its_pin() {
    let desk = Desk::new();
    desk.write(
        "segl.toml",
        "schema = 1\n[signers.hsm]\nkey = \"pkcs11:token=ci;object=grant\"\npin = \"file:pin\"\n",
    );
    let made = desk.keys(&["generate", "hsm", "--bits", "2048"]);
    assert_eq!(made.code, 0, "{made:?}");
    let jwk = desk.keys(&["jwk", "hsm", "--set", "--kid", "312700018-2026-11"]);
    let jwk: Value = serde_json::from_str(&jwk.out).unwrap();
    assert_eq!(jwk["keys"][0]["kid"], "312700018-2026-11");
    for login in [&["list", "hsm", "--login"][..], &["--login"]] {
        let shown = desk.keys(login);
        assert!(shown.code == 0 && shown.out.contains("with kid: it has no certificate\n"), "{shown:?}");
    }
    desk.keys(&["jwk", "hms"]).assert_needs_person("there is no signer called \"hms\"", "Name one of these");
}

#[test]
fn a_key_file_has_a_request_and_a_jwk_but_no_device() {
    let desk = Desk::new();
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    desk.secret("key.pem", key.serialize_pem());
    // The chain is not there yet: it is what the request is for.
    desk.write("segl.toml", "schema = 1\n[signers.file]\nkey = \"file:key.pem\"\nchain = \"chain.pem\"\n");
    let jwk = desk.keys(&["jwk", "file"]);
    assert_eq!(jwk.code, 0, "{jwk:?}");
    let asked = desk.keys(&["csr", "file", "--organisation", "A AS", "--organisation-number", ORGNO]);
    let der = pem::parse(&asked.out).unwrap().into_contents();
    X509CertificationRequest::from_der(&der).unwrap().1.verify_signature().unwrap();
    for command in [&["generate", "file"][..], &["import", "file", "key.pem"], &["list", "file"]] {
        let refused = desk.keys(command);
        assert_eq!(refused.code, 2, "{refused:?}");
    }
    let refused = desk.keys(&["generate", "file"]);
    refused.assert_needs_person("is no key in a device, so no key can be made there", "Give a PKCS#11 URI");
}

#[test]
fn the_line_to_paste_leads_to_the_library_that_was_asked() {
    let desk = Desk::new();
    let uri = desk.generate("grant");
    assert!(!uri.contains("module"), "{uri}");
    let shown = desk.keys(&["--module", LIBRARY]);
    assert!(shown.out.contains(&format!("  {uri}?module-path={LIBRARY}\n")), "{shown:?}");
    let shown = desk.keys(&["--profile", "softhsm2"]);
    assert!(
        !shown.err.contains("is gone"),
        "a process that was asked to end is none that is missing: {shown:?}"
    );
    assert!(shown.out.contains(&format!("  {uri}?module-name=softhsm2\n")), "{shown:?}");
    let other = desk.keys(&["--module", "/nowhere/libp11.so"]);
    other.assert_needs_person("/nowhere/libp11.so", "Install the vendor's PKCS#11 library");
}

#[test]
fn with_several_devices_a_login_needs_the_name_of_one() {
    let desk = Desk::new();
    desk.device("other");
    let refused = desk.keys(&["--login", "--pin", "file:pin"]);
    refused.assert_needs_person("more than one device matches", "serial=");
    let shown = desk.done(&["list", "pkcs11:token=other", "--login"]);
    assert!(shown.out.contains("other (") && !shown.out.contains("ci ("), "{shown:?}");
    assert!(shown.out.contains("keys          none to be seen\n"), "{shown:?}");
    let all = desk.keys(&[]);
    assert!(all.out.contains("ci (") && all.out.contains("other ("), "{all:?}");
}

#[test]
fn a_slot_number_shows_that_slot_alone_and_is_never_to_be_pasted() {
    let desk = Desk::new();
    let uri = desk.generate("grant");
    let slot = ci(&desk.json(&["--login"]))["slot_id"].as_u64().unwrap();
    desk.device("other");
    let by_slot = format!("pkcs11:slot-id={slot}");
    let shown = desk.done(&["list", &by_slot, "--login"]);
    assert!(shown.err.contains(&format!("slot-id={slot} may be another device tomorrow")), "{shown:?}");
    assert!(shown.out.contains("ci (") && !shown.out.contains("other ("), "{shown:?}");
    assert!(shown.out.contains(&format!("\n  {uri}\n")) && !shown.out.contains("slot-id"), "{shown:?}");
    let shown = desk.done(&["show", &by_slot, "--login"]);
    assert!(shown.out.contains(&format!("  slot          {slot} (")), "{shown:?}");
    assert!(shown.out.contains(&uri) && !shown.out.contains("  label         other\n"), "{shown:?}");
    for command in ["list", "show"] {
        desk.keys(&[command, "pkcs11:slot-id=4711"])
            .assert_needs_person("is named pkcs11:slot-id=4711", "`segl keys`");
    }
}

#[test]
fn a_key_that_asks_at_each_signature_is_unattended_where_the_configuration_has_its_pin() {
    let desk = Desk::new();
    let made = Command::new("pkcs11-tool")
        .args(["--module", LIBRARY, "--token-label", "ci", "--login", "--pin", PIN, "--keypairgen"])
        .args(["--key-type", "rsa:2048", "--id", "0c", "--label", "seal", "--always-auth"])
        .env("SOFTHSM2_CONF", desk.path("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let no = "unattended    no: PIN for each signature, and no source for it: set pin on its signer\n";
    let list = || desk.done(&["list", "--login"]);
    assert!(list().out.contains(no), "{:?}", list());
    let signer = "schema = 1\n[signers.seal]\nkey = \"pkcs11:token=ci;object=seal\"\n";
    desk.write("segl.toml", format!("{signer}pin = \"prompt\"\n"));
    assert!(list().out.contains(no), "{:?}", list());
    desk.write("segl.toml", format!("{signer}pin = \"file:pin\"\n"));
    let yes = "unattended    yes: with its PIN for each signature from ";
    assert!(list().out.contains(yes), "{:?}", list());
    let shown = desk.keys(&["show", "seal", "--login"]);
    assert!(shown.out.contains("  unattended    yes: with its PIN for each"), "{shown:?}");
}

#[test]
fn a_device_that_is_not_there_can_be_tried_again_later() {
    let desk = Desk::new();
    let away = desk.keys(&["jwk", "pkcs11:token=away", "--pin", "file:pin"]);
    assert_eq!(away.code, 3, "{away:?}");
    assert!(away.err.contains("no device matches pkcs11:token=away; seen: pkcs11:token=ci;"), "{away:?}");
}

#[test]
fn where_no_device_is_set_up_the_list_is_empty_and_says_so() {
    let shown = Desk::empty().keys(&["--module", LIBRARY]);
    assert_eq!((shown.code, shown.out.as_str()), (0, ""), "{shown:?}");
    assert!(shown.err.contains("No device that is set up shows itself through"), "{shown:?}");
}

#[test]
fn one_line_for_each_usable_key_and_nothing_else_is_what_a_script_gets() {
    let desk = Desk::new();
    let (one, other) = (desk.generate("one"), desk.generate("other"));
    let shown = desk.keys(&["--output", "uri"]);
    let mut lines: Vec<_> = shown.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [one.as_str(), &other], "{shown:?}");
}

#[test]
fn a_name_that_fits_nothing_is_answered_with_what_is_near_it() {
    let desk = Desk::new();
    let uri = desk.generate("grant-2026");
    for wrong in
        ["pkcs11:token=ci;object=grnat-2026", "pkcs11:object=grant", "pkcs11:token=CI;object=grant-2026"]
    {
        let near = desk.keys(&["list", wrong]);
        near.assert_needs_person(&format!("is named {wrong}; near it: {uri}"), "`segl keys`");
    }
    let far = desk.keys(&["list", "pkcs11:object=seal"]);
    far.assert_needs_person("nothing that is to be seen is named pkcs11:object=seal", "add --login");
    assert!(!far.err.contains("near it"), "{far:?}");
    desk.keys(&["list", "pkcs11:token=cj"]).assert_needs_person("near it: pkcs11:token=ci;serial=", "paste");
}

#[test]
fn a_library_that_others_can_change_is_not_loaded_unless_the_person_says_so() {
    let desk = Desk::new();
    let copy = desk.path("library.so");
    fs::copy(LIBRARY, &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o666)).unwrap();
    let path = copy.to_str().unwrap();
    let refused = desk.keys(&["--module", path]);
    refused.assert_needs_person(&format!("{path} has mode 0666, so others can change it"), "--trust-module");
    let trusted = desk.keys(&["--module", path, "--trust-module"]);
    assert!(trusted.code == 0 && trusted.out.contains("ci ("), "{trusted:?}");
    let uri = format!("pkcs11:token=ci;object=grant?module-path={path}");
    let device = format!("pkcs11:token=ci?module-path={path}");
    assert_eq!(desk.keys(&["show", &device, "--trust-module"]).code, 0);
    // What is more than a look has no such way around.
    let refused = desk.keys(&["generate", &uri, "--pin", "file:pin"]);
    refused
        .assert_needs_person(&format!("{path} has mode 0666"), "Let only root and the user that runs Segl");
}

#[test]
fn a_look_alike_under_the_id_of_a_key_is_not_taken_for_its_certificate() {
    let desk = Desk::new();
    let uri = desk.done(&["generate", "pkcs11:token=ci;object=grant", "--bits", "2048", "--id", "0a0b"]).out;
    desk.certify(uri.trim(), Profile::Seid2, "own.pem");
    desk.done(&["import", uri.trim(), "own.pem"]);
    let stranger =
        rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let look_alike = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&stranger).unwrap();
    desk.write("stranger.der", look_alike.der());
    let file = desk.path("stranger.der");
    let written = Command::new("pkcs11-tool")
        .args(["--module", LIBRARY, "--token-label", "ci", "--login", "--pin", PIN, "--id", "0a0b"])
        .args(["--label", "attestation", "--type", "cert", "--write-object", file.to_str().unwrap()])
        .env("SOFTHSM2_CONF", desk.path("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    let listing = desk.json(&["--login"]);
    let [key] = listed(&listing).as_slice() else { panic!("{listing}") };
    assert_eq!(key["certificates"].as_array().unwrap().len(), 1, "{key}");
    assert_eq!(key["maskinporten"]["answer"], "yes");
    let lone = ci(&listing)["certificates"].as_array().unwrap();
    let lone = lone.iter().find(|it| it["label"] == "attestation").unwrap();
    assert_eq!(lone["maskinporten"]["why"], "it certifies another key than the one with its id");
}

#[test]
fn everything_about_a_key_is_shown_for_whoever_asks_a_vendor() {
    let desk = Desk::new();
    let uri = desk.generate("grant");
    let other = desk.generate("other");
    let issued = desk.certify(&uri, Profile::Seid2, "chain.pem");
    desk.done(&["import", &uri, "chain.pem"]);
    let shown = desk.done(&["show", &uri, "--login"]);
    for expected in [
        "  file          /usr/lib/",
        "  named by      profile softhsm2",
        "  PKCS#11       2.40\n",
        "  label         ci\n",
        "LOGIN_REQUIRED, USER_PIN_INITIALIZED",
        "  PIN           good; 4 to 255 characters\n",
        " open, no limit\n",
        "  CKM_SHA256_RSA_PKCS               512 to 16384  sign, verify\n",
        "  type          RSA-2048\n",
        "  to be seen    both halves\n",
        "  CKA_ALWAYS_SENSITIVE      true\n",
        "  CKA_NEVER_EXTRACTABLE     true\n",
        &format!("  SHA-256       {}\n", Certificate::from_der(&issued.leaf).unwrap().fingerprint()),
    ] {
        assert!(shown.out.contains(expected), "{expected:?} is not in {}", shown.out);
    }
    assert!(shown.out.contains(&uri) && !shown.out.contains(&other), "{}", shown.out);
    let hidden = desk.keys(&["show", &uri]);
    assert!(hidden.out.contains("  to be seen    the public half\n"), "{hidden:?}");
    assert!(desk.done(&["show", "pkcs11:token=ci", "--login"]).out.contains(&other));
    let wrong = desk.keys(&["show", "pkcs11:token=ci;object=grand"]);
    wrong.assert_needs_person(&format!("near it: {uri}"), "add --login");
}

#[test]
fn the_same_facts_are_json_for_programs() {
    let desk = Desk::new();
    let uri = desk.generate("grant");
    let issued = desk.certify(&uri, Profile::Seid2, "chain.pem");
    desk.done(&["import", &uri, "chain.pem"]);
    let shown = desk.done(&["show", &uri, "--login", "--output", "json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../docs/keys-show.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<_> = validator.iter_errors(&shown).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    assert!(!validator.is_valid(&serde_json::json!({ "schema": 2, "modules": [] })));
    let [device] = shown["modules"][0]["devices"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!((&device["label"], &device["pin"]), (&"ci".into(), &"good".into()));
    assert_eq!(device["sessions"]["most"], "unlimited");
    assert!(device["flags"].as_array().unwrap().contains(&"LOGIN_REQUIRED".into()), "{device}");
    let mechanisms = device["mechanisms"].as_array().unwrap();
    let signing = mechanisms.iter().find(|it| it["name"] == "CKM_SHA256_RSA_PKCS").unwrap();
    assert_eq!(signing["uses"], serde_json::json!(["sign", "verify"]));
    let [key] = device["keys"].as_array().unwrap().as_slice() else { panic!("{device}") };
    assert_eq!((&key["uri"], &key["type"], &key["bits"]), (&uri.into(), &"RSA".into(), &2048.into()));
    let sensitive = serde_json::json!({ "name": "CKA_ALWAYS_SENSITIVE", "value": "true" });
    assert!(key["attributes"].as_array().unwrap().contains(&sensitive), "{key}");
    let fingerprint = Certificate::from_der(&issued.leaf).unwrap().fingerprint();
    assert_eq!(key["certificates"][0]["content"]["fingerprint"], fingerprint);
    assert_eq!(key["certificates"][0]["problem"], Value::Null);
}

#[test]
fn a_key_pair_goes_for_good_with_its_certificates_and_nothing_else_does() {
    let desk = Desk::new();
    let (uri, other) = (desk.generate("grant"), desk.generate("other"));
    desk.certify(&uri, Profile::Seid2, "chain.pem");
    desk.done(&["import", &uri, "chain.pem"]);
    let delete = |more: &[&str]| desk.keys(&[&["delete", "--pin", "file:pin"], more].concat());
    delete(&[&uri]).assert_needs_person("its certificate is still valid: SEGL SANDBOX TEST", "--force");
    delete(&[&uri, "--yes"]).assert_needs_person("its certificate is still valid", "revoked");
    delete(&[&uri, "--force"]).assert_needs_person("nobody is there to say", "--yes");
    delete(&["pkcs11:token=ci", "--yes"]).assert_needs_person("does not say which key", "object=");
    delete(&["pkcs11:token=ci;object=grand", "--yes"]).assert_needs_person("near it: ", "`segl keys`");
    assert_eq!(listed(&desk.json(&["--login"])).len(), 2, "something was deleted all the same");

    let gone = delete(&[&uri, "--yes", "--force"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(gone.out.lines().count(), 2, "{gone:?}");
    assert!(gone.out.contains("deleted    certificate SEGL SANDBOX TEST"), "{gone:?}");
    assert!(gone.out.contains("deleted    RSA-2048 key pair \"grant\", id "), "{gone:?}");
    let listing = desk.json(&["--login"]);
    let [key] = listed(&listing).as_slice() else { panic!("{listing}") };
    assert_eq!((&key["uri"], &key["private"]), (&other.clone().into(), &true.into()));
    // The issuer's stays: it may be another's, too.
    assert_eq!(ci(&listing)["certificates"].as_array().unwrap().len(), 1);
    // What stays can still be used.
    assert_eq!(desk.done(&["jwk", &other]).code, 0);
}

#[test]
fn the_type_says_that_only_the_certificate_or_only_the_key_pair_is_to_go() {
    let desk = Desk::new();
    let uri = desk.generate("grant");
    desk.certify(&uri, Profile::Expired, "chain.pem");
    desk.done(&["import", &uri, "chain.pem"]);
    let gone = desk.done(&["delete", &format!("{uri};type=cert"), "--yes"]);
    assert_eq!(gone.out.matches("deleted    certificate").count(), 1, "{gone:?}");
    assert_eq!(listed(&desk.json(&["--login"]))[0]["certificates"], serde_json::json!([]));
    desk.done(&["import", &uri, "chain.pem"]);
    let gone = desk.done(&["delete", &format!("{uri};type=private"), "--yes"]);
    assert!(gone.out.lines().count() == 1 && gone.out.contains("key pair"), "{gone:?}");
    let listing = desk.json(&["--login"]);
    assert!(listed(&listing).is_empty());
    assert_eq!(ci(&listing)["certificates"].as_array().unwrap().len(), 2, "{listing}");
}
