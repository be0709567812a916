use std::{
    fs::{Permissions, set_permissions, write},
    os::unix::fs::PermissionsExt,
    sync::{Mutex, atomic::AtomicUsize},
    time::Duration,
};

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use rcgen::KeyUsagePurpose;

use super::*;
use crate::{
    certificate::sample::{self, Authority, Pair, today},
    clock::ManualClock,
    sign::{CertificateSource, Credential, Identity, Sought},
};

const SECRET: &str = "correct horse battery staple";

struct Bench {
    _folder: tempfile::TempDir,
    path: PathBuf,
    clock: Arc<ManualClock>,
    asked: Arc<AtomicUsize>,
}

impl Bench {
    fn with(file: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, file).unwrap();
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        Self { _folder: folder, path, clock: ManualClock::at(today()), asked: Arc::default() }
    }

    fn signer(&self, algorithm: Algorithm, password: Option<&'static str>) -> FileSigner {
        let asked = self.asked.clone();
        let password: Password = Arc::new(move || {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(password.map(SecretString::from))
        });
        FileSigner::new(&self.path, algorithm, password, self.clock.clone())
    }

    fn call(&self) -> Call {
        Call::new(self.clock.as_ref())
    }

    async fn error(&self, password: Option<&'static str>) -> Error {
        self.signer(Algorithm::RS256, password).key(&self.call()).await.unwrap_err()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn message(text: &'static str) -> MakeMessage {
    Box::new(move || text.as_bytes().to_vec())
}

fn pair() -> &'static Pair {
    Pair::shared()[0]
}

/// A chain for the shared pair: leaf, issuing authority, root.
fn certificates() -> Vec<Certificate> {
    let root = Authority::root("Rot");
    let issuing = root.below("Utsteder");
    let mut params = sample::parameters("Virksomhet");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf = issuing.issue(&params, pair());
    vec![leaf, issuing.certificate, root.certificate]
}

fn verifies(signed: &Signed, algorithm: &'static RsaParameters) -> bool {
    let key = pair().public_key();
    let components = RsaPublicKeyComponents { n: key.modulus(), e: key.exponent() };
    components.verify(algorithm, &signed.message, &signed.signature).is_ok()
}

#[tokio::test]
async fn every_format_signs_and_asks_for_a_password_only_where_there_is_one() {
    let pair = pair();
    for (name, file, questions) in [
        ("PKCS#8 DER", pair.pkcs8().to_vec(), 0),
        ("PKCS#8 PEM", encoded::pem("PRIVATE KEY", pair.pkcs8()), 0),
        ("PKCS#1 DER", encoded::pkcs1(pair), 0),
        ("PKCS#1 PEM", encoded::pem("RSA PRIVATE KEY", &encoded::pkcs1(pair)), 0),
        ("JWK", encoded::jwk(pair).to_string().into_bytes(), 0),
        ("encrypted DER", encoded::encrypted(pair, SECRET), 1),
        ("encrypted PEM", encoded::pem("ENCRYPTED PRIVATE KEY", &encoded::encrypted(pair, SECRET)), 1),
        ("PKCS#12", sample::pkcs12(&[(pair, &certificates())], SECRET), 1),
    ] {
        let bench = Bench::with(file);
        let signer = bench.signer(Algorithm::RS256, Some(SECRET));
        assert_eq!(signer.key(&bench.call()).await.unwrap().public_key, pair.public_key(), "{name}");
        let signed = signer.sign(&bench.call(), message("en melding")).await.unwrap();
        assert!(verifies(&signed, &RSA_PKCS1_2048_8192_SHA256), "{name}");
        assert_eq!(bench.asked(), questions, "{name}");
        assert_eq!(signer.health(), Health { signatures: 1, ..Health::default() }, "{name}");
    }
}

#[tokio::test]
async fn the_constructor_touches_nothing_and_the_file_is_read_once() {
    let bench = Bench::with(encoded::encrypted(pair(), SECRET));
    let signer = bench.signer(Algorithm::RS256, Some(SECRET));
    assert_eq!(bench.asked(), 0);
    let both = tokio::join!(async { signer.key(&bench.call()).await.map(|key| key.generation) }, async {
        signer.key(&bench.call()).await.map(|key| key.generation)
    });
    assert_eq!(both, (Ok(1), Ok(1)));
    std::fs::remove_file(&bench.path).unwrap();
    signer.sign(&bench.call(), message("x")).await.unwrap();
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn a_file_that_comes_late_is_found_when_it_is_there() {
    let bench = Bench::with("");
    let signer = bench.signer(Algorithm::RS256, None);
    assert!(matches!(signer.key(&bench.call()).await, Err(Error::File { .. })));
    assert!(matches!(signer.health().trouble, Some(Error::File { .. })));
    write(&bench.path, pair().pkcs8()).unwrap();
    signer.key(&bench.call()).await.unwrap();
    assert_eq!(signer.health().trouble, None);
}

#[tokio::test]
async fn a_missing_and_a_wrong_password_are_told_apart() {
    for file in [encoded::encrypted(pair(), SECRET), sample::pkcs12(&[(pair(), &certificates())], SECRET)] {
        let bench = Bench::with(file);
        let missing = bench.error(None).await;
        assert!(matches!(missing, Error::Pin { problem: PinProblem::Missing, .. }), "{missing}");
        let wrong = bench.error(Some("wrong")).await;
        assert!(matches!(wrong, Error::Pin { problem: PinProblem::Refused(_), .. }), "{wrong}");
    }
}

#[tokio::test]
async fn a_password_source_that_fails_is_named_with_its_reason() {
    let bench = Bench::with(encoded::encrypted(pair(), SECRET));
    let password: Password = Arc::new(|| Err("the credential is not there".into()));
    let signer = FileSigner::new(&bench.path, Algorithm::RS256, password, bench.clock.clone());
    let error = signer.key(&bench.call()).await.unwrap_err();
    assert!(matches!(&error, Error::Pin { problem: PinProblem::Source(_), .. }));
    assert!(error.to_string().contains("the credential is not there"), "{error}");
}

#[tokio::test]
async fn a_pkcs12_with_the_empty_password_needs_no_source() {
    let bench = Bench::with(sample::pkcs12(&[(pair(), &certificates())], ""));
    bench.signer(Algorithm::RS256, None).key(&bench.call()).await.unwrap();
    assert_eq!(bench.asked(), 0);
}

#[tokio::test]
async fn in_a_pkcs12_of_several_keys_the_one_for_authentication_is_meant() {
    let issuing = Authority::root("Rot");
    let certified = |pair, usage| {
        let mut params = sample::parameters("Virksomhet");
        params.key_usages = vec![usage];
        vec![issuing.issue(&params, pair)]
    };
    let [first, second] = Pair::shared();
    let signing = certified(second, KeyUsagePurpose::ContentCommitment);
    let authentication = certified(first, KeyUsagePurpose::DigitalSignature);
    let bench = Bench::with(sample::pkcs12(&[(second, &signing), (first, &authentication)], SECRET));
    let key = bench.signer(Algorithm::RS256, Some(SECRET)).key(&bench.call()).await.unwrap();
    assert_eq!(key.public_key, first.public_key());

    let bench = Bench::with(sample::pkcs12(&[(second, &signing), (first, &signing)], SECRET));
    let error = bench.error(Some(SECRET)).await;
    assert!(
        matches!(&error, Error::Ambiguous { sought: Sought::Key, candidates, .. } if candidates.len() == 2)
    );
}

#[tokio::test]
async fn the_chain_comes_from_the_same_file_or_from_further_certificates() {
    let chain = certificates();
    let key = encoded::pem("PRIVATE KEY", pair().pkcs8());
    let all: String = chain.iter().rev().map(Certificate::to_pem).collect();
    let whole = [key.as_slice(), all.as_bytes()].concat();
    let leaf_only = [key.as_slice(), chain[0].to_pem().as_bytes()].concat();
    for (file, further) in [
        (whole, vec![]),
        (sample::pkcs12(&[(pair(), &chain)], SECRET), vec![]),
        (leaf_only, chain[1..].to_vec()),
        (encoded::jwk(pair()).to_string().into_bytes(), chain.clone()),
    ] {
        let bench = Bench::with(file);
        let signer = bench.signer(Algorithm::RS256, Some(SECRET)).with_certificates(further);
        let found = signer.chain(&bench.call()).await.unwrap();
        assert!(found.certificates().eq(&chain));
        let identity = Identity::Certificate(CertificateSource::Beside);
        Credential::new(identity, Arc::new(signer)).prove(&bench.call()).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_certificate_the_error_says_where_to_put_one() {
    let bench = Bench::with(pair().pkcs8());
    let error = bench.signer(Algorithm::RS256, None).chain(&bench.call()).await.unwrap_err();
    assert!(error.to_string().contains("no certificate"), "{error}");
    assert!(error.remedy().contains("chain = "), "{}", error.remedy());
}

#[tokio::test]
async fn a_damaged_certificate_does_not_hinder_a_client_with_a_kid() {
    let mut file = encoded::pem("PRIVATE KEY", pair().pkcs8());
    file.extend_from_slice(&encoded::pem("CERTIFICATE", b"no certificate"));
    let bench = Bench::with(file);
    let signer = bench.signer(Algorithm::RS256, None);
    signer.sign(&bench.call(), message("x")).await.unwrap();
    assert!(matches!(signer.chain(&bench.call()).await, Err(Error::File { .. })));
}

#[tokio::test]
async fn a_call_whose_deadline_has_passed_never_makes_its_message() {
    let bench = Bench::with(pair().pkcs8());
    let signer = bench.signer(Algorithm::RS256, None);
    signer.key(&bench.call()).await.unwrap();
    let late = bench.call();
    bench.clock.advance(Duration::from_secs(31));
    let make: MakeMessage = Box::new(|| panic!("made for nobody"));
    assert_eq!(signer.sign(&late, make).await.unwrap_err(), Error::Deadline);
    assert_eq!(signer.health().trouble, None, "it was the caller who was late");
}

#[tokio::test]
async fn a_caller_leaves_at_its_deadline_and_the_answered_prompt_serves_the_next() {
    let bench = Bench::with(encoded::encrypted(pair(), SECRET));
    let (answer, question) = std::sync::mpsc::channel::<&str>();
    let question = Mutex::new(question);
    let password: Password = Arc::new(move || {
        let typed = question.lock().unwrap().recv().map_err(|_| "nobody answers".to_owned())?;
        Ok(Some(SecretString::from(typed)))
    });
    let signer = FileSigner::new(&bench.path, Algorithm::RS256, password, bench.clock.clone());
    let call = bench.call();
    let (first, ()) = tokio::join!(signer.key(&call), async {
        tokio::task::yield_now().await;
        bench.clock.advance(Duration::from_secs(31));
    });
    assert_eq!(first.unwrap_err(), Error::Deadline);
    answer.send(SECRET).unwrap();
    drop(answer);
    signer.key(&bench.call()).await.unwrap();
}

#[tokio::test]
async fn algorithms_that_maskinporten_does_not_take_are_refused_before_the_file_is_touched() {
    for algorithm in [Algorithm::PS256, Algorithm::PS512, Algorithm::ES256] {
        let bench = Bench::with("not even a key");
        let signer = bench.signer(algorithm, None);
        assert_eq!(signer.key(&bench.call()).await.unwrap_err(), Error::Algorithm(algorithm));
    }
}

#[tokio::test]
async fn the_longer_hashes_sign_too() {
    for (algorithm, verification) in
        [(Algorithm::RS384, &RSA_PKCS1_2048_8192_SHA384), (Algorithm::RS512, &RSA_PKCS1_2048_8192_SHA512)]
    {
        let bench = Bench::with(pair().pkcs8());
        let signed = bench.signer(algorithm, None).sign(&bench.call(), message("x")).await.unwrap();
        assert!(verifies(&signed, verification), "{algorithm}");
    }
}

#[tokio::test]
async fn a_jwk_tells_its_kid_and_must_be_for_the_same_algorithm() {
    let mut jwk = encoded::jwk(pair());
    jwk["kid"] = "min-nøkkel".into();
    jwk["alg"] = "RS512".into();
    let bench = Bench::with(jwk.to_string());
    let named = bench.signer(Algorithm::RS512, None).key_id(&bench.call()).await.unwrap();
    assert_eq!(named.as_deref(), Some("min-nøkkel"));
    let error = bench.error(None).await;
    assert_eq!(error.remedy(), "Set algorithm = \"RS512\" on the signer.");
}

#[tokio::test]
async fn no_debug_output_shows_a_key_or_a_password() {
    let bench = Bench::with(encoded::encrypted(pair(), SECRET));
    let signer = bench.signer(Algorithm::RS256, Some(SECRET));
    signer.key(&bench.call()).await.unwrap();
    let signed = signer.sign(&bench.call(), message("a message")).await.unwrap();
    let jwk = encoded::jwk(pair());
    let shown = format!(
        "{signer:?} {signer:#?} {signed:?} {:?} {:?} {:?}",
        signer.health(),
        bench.error(Some("another secret")).await,
        format::read(jwk.to_string().replace("\"q\"", "\"x\"").as_bytes(), Algorithm::RS256, &|| Ok(None))
            .err()
    );
    for secret in
        [SECRET, "another secret", "a message", jwk["d"].as_str().unwrap(), jwk["p"].as_str().unwrap()]
    {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("FileSigner"));
}
