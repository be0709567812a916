//! What is done with input from outside, one function for each kind. The fuzzer feeds them, and `tests/fuzz_corpus.rs`
//! feeds them with the stored corpus on every run of the tests.
//!
//! Each function states what must hold of any input; that it does not panic goes without saying.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use secrecy::SecretString;
use segl::{
    advice,
    call::Call,
    certificate::{
        Certificate, CertificateSet, Chain, Judgement, OrganisationIdentifier, OrganisationNumber, Way,
    },
    clock::{Clock, Instant, ManualClock, SystemClock},
    config::Config,
    grant::TokenRequest,
    http::Response,
    jose::{self, Algorithm, RsaPublicKey},
    sandbox::{Clients, Scenario},
    secret::Source,
    sign::{
        FileSigner, Signer,
        pkcs11::{Profile, Profiles, Uri, attribute_values, host_says},
    },
    token::{AccessToken, Altinn, Authority, Counterparty, Customs, ExchangedToken, Provenance, Refusal},
};
use zeroize::Zeroizing;

/// A target: bytes from outside, to be survived.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 13] = [
    ("answer", answer),
    ("attributes", attributes),
    ("certificates", certificates),
    ("clients", clients),
    ("configuration", configuration),
    ("frames", frames),
    ("grant_request", grant_request),
    ("jose", jws),
    ("key_file", key_file),
    ("pkcs11_uri", pkcs11_uri),
    ("profile", profile),
    ("refusal", refusal),
    ("token_response", token_response),
];

/// 2027-01-15, when the certificates of the corpus are valid.
const NOW: u64 = 1_800_000_000;

/// What somebody pastes to have it explained: nothing of it is repeated but codes and phrases that are known.
pub fn answer(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for recognised in advice::recognise(&text) {
        let known = || advice::all().iter().flat_map(|advice| advice.codes.iter().chain(&advice.texts));
        let is_number = recognised.by.starts_with("0x") && recognised.by.len() <= 18;
        assert!(
            is_number || known().any(|known| known.eq_ignore_ascii_case(&recognised.by)),
            "{recognised:?}"
        );
    }
    let _ = advice::nearest(&text);
}

/// What a device answers when it is asked for attributes: for each call a `CKR_…` of two bytes, then for each row a
/// length of three bytes, the first of which chooses its kind. When the input ends it begins anew.
pub fn attributes(input: &[u8]) {
    if input.is_empty() {
        return;
    }
    let mut bytes = input.iter().copied().cycle();
    let mut next = || bytes.next().unwrap_or_default();
    let (mut calls, mut room) = (0, 0);
    let values = attribute_values(|rows| {
        calls += 1;
        let code = u64::from(u16::from_be_bytes([next(), next()]));
        for (buffer, length) in rows {
            room = room.max(buffer.len());
            let (kind, number) = (next(), u64::from(u16::from_be_bytes([next(), next()])));
            match kind % 5 {
                0 => {} // as it was
                1 => **length = number,
                2 => **length = u64::MAX - number,
                3 => **length = number << 16,
                _ => {
                    **length = number.min(buffer.len() as u64);
                    buffer.fill(kind);
                }
            }
        }
        code
    });
    assert!(calls <= 13, "each attribute is asked for three times at most");
    assert!(room <= 64 * 1024, "a device does not say how much memory is taken");
    match values {
        Ok(values) => {
            assert_eq!(values.len(), 6);
            assert!(values.iter().flatten().all(|value| value.len() <= room));
        }
        Err(code) => assert_ne!(code, 0, "a failure has its number"),
    }
}

/// What the process of a library says, frame by frame: a length of one byte before each.
pub fn frames(input: &[u8]) {
    let understood = host_says(input);
    let framed: Vec<u8> = understood
        .iter()
        .filter_map(|frame| Some((u8::try_from(frame.len()).ok()?, frame)))
        .flat_map(|(length, frame)| std::iter::once(length).chain(frame.iter().copied()))
        .collect();
    let again = host_says(&framed);
    let short = understood.iter().filter(|frame| frame.len() <= 255);
    assert!(again.len() >= short.count(), "what was written is understood again");
}

/// Files of certificates (PEM, DER, PKCS#7, PKCS#12), what they are judged to be; and public keys.
pub fn certificates(input: &[u8]) {
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    if let Ok(certificate) = Certificate::from_der(input) {
        look_at(&certificate, now);
    }
    if let Ok(key) = RsaPublicKey::from_spki(input) {
        // A key without modulus or exponent has no encoding.
        if let Ok(spki) = key.to_spki() {
            assert_eq!(RsaPublicKey::from_spki(&spki).as_ref(), Ok(&key));
        }
    }
    let Ok(found) = Certificate::all_from_file(input) else { return };
    found.iter().for_each(|certificate| look_at(certificate, now));
    let set = CertificateSet::judge(&found, &[], now);
    assert!(set.best().is_some() && set.members.len() <= found.len());
    assert_eq!(set.chosen().is_some(), set.members.iter().any(|member| member.judgement.way().is_some()));
    set.members.iter().for_each(|member| is_founded(&member.judgement, member.chain.leaf(), now));
    if let Ok(chain) = Chain::from_file(input, None, now) {
        assert!(chain.len() <= found.len(), "a chain is made of what is there");
        assert_eq!(chain.to_der(true).len(), chain.len());
        assert!(chain.to_der(false).len() <= chain.len());
        let whole = chain.clone().completed_from(&found, now);
        assert!(whole.len() >= chain.len());
        let _ = (whole.missing_issuer(), whole.check_validity(now));
    }
}

fn look_at(certificate: &Certificate, now: SystemTime) {
    let shown = format!("{} {}", certificate.subject(), certificate.issuer());
    assert!(!shown.chars().any(char::is_control), "a terminal would act on {shown:?}");
    let again = Certificate::from_der(certificate.der()).map(|again| again.fingerprint());
    assert_eq!(again, Ok(certificate.fingerprint()));
    let _ = (certificate.purpose(), certificate.check_validity(now), certificate.is_self_signed());
    if let Ok(number) = certificate.organisation_number() {
        assert_eq!(number.to_string().parse(), Ok(number));
    }
    if let Some(identifier) = certificate.identifier() {
        assert_eq!(OrganisationIdentifier::parse(&identifier.to_string()), Ok(identifier));
    }
    let judgement = Chain::of(certificate.clone(), &[], now).judge(now);
    is_founded(&judgement, certificate, now);
    for finding in judgement.fitness().obstacles.iter().chain(&judgement.fitness().cautions) {
        assert!(!finding.to_string().is_empty() && !finding.remedy().is_empty());
    }
    let said = format!("{judgement} {}", judgement.kind);
    assert!(!said.chars().any(char::is_control), "a terminal would act on {said:?}");
}

/// What works at Maskinporten is valid, and somebody's.
fn is_founded(judgement: &Judgement, certificate: &Certificate, now: SystemTime) {
    let Some(way) = judgement.way() else { return };
    assert!(certificate.check_validity(now).is_ok() && judgement.days_left >= 0);
    match way {
        Way::Business => assert!(certificate.organisation_number().is_ok()),
        _ => assert!(certificate.identifier().is_some()),
    }
}

/// The sandbox's clients, and the scenarios that may hold them.
pub fn clients(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let _ = Clients::from_toml(text);
    let _ = Scenario::from_toml(text);
}

/// `segl.toml`, and the places of secrets in it.
pub fn configuration(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let _ = text.parse::<Source>();
    match Config::parse(text, Path::new("/etc/segl")) {
        Ok(config) => {
            let _ = config.show();
            for token in config.tokens.values() {
                assert!(config.clients.contains_key(&token.client), "every name leads somewhere");
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal has its reason");
            for problem in problems {
                assert!(!problem.to_string().is_empty() && !problem.fault.remedy().is_empty());
            }
        }
    }
}

/// What a caller asks for: a field on each line, `authorization_details` last.
pub fn grant_request(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut lines = text.splitn(5, '\n');
    let mut line = || lines.next().filter(|line| !line.is_empty());
    let mut builder = TokenRequest::builder(line().unwrap_or_default().split('|'));
    if let Some(resource) = line() {
        builder = builder.resource(resource);
    }
    if let Some(number) = line() {
        if let Ok(read) = number.parse::<OrganisationNumber>() {
            assert_eq!(read.to_string(), number);
        }
        builder = builder.consumer_org(number);
    }
    let pid = line();
    if let Some(pid) = pid {
        builder = builder.pid(pid);
    }
    if let Some(details) = line().and_then(|details| serde_json::from_str(details).ok()) {
        builder = builder.authorization_details(details);
    }
    let Ok(request) = builder.build() else { return };
    let again = TokenRequest::scopes(request.scope().split(' ')).expect("checked scopes pass again");
    assert_eq!(again.scope(), request.scope());
    assert!(pid.is_none_or(|pid| !format!("{:?}", request.pid()).contains(pid)), "a pid is masked");
}

/// A compact JWS from somebody else.
pub fn jws(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = jose::unverified_header(&text);
    if jose::unverified_payload(&text).is_some() {
        assert_eq!(text.split('.').count(), 3);
    }
    assert_eq!(jose::from_base64url(&jose::base64url(input)).as_deref(), Some(input));
}

/// A private key in any of its formats. The password is the empty one.
pub fn key_file(input: &[u8]) {
    static FILE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let path = FILE.get_or_init(|| tempfile::tempdir().expect("a folder")).path().join("key");
    let mut file =
        fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).expect("a file");
    file.write_all(input).expect("written");
    drop(file);
    let password = Arc::new(|| Ok(Some(SecretString::from(""))));
    let clock = SystemClock::shared();
    let signer = FileSigner::new(&path, Algorithm::RS256, password, clock.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let call = Call::within(&*clock, Duration::from_secs(60));
        let Ok(key) = signer.key(&call).await else { return };
        assert!((2048..=8192).contains(&key.public_key.bits()));
        let make = Box::new(|| b"message".to_vec());
        let signed = signer.sign(&call, make).await.expect("a key that was taken signs");
        assert_eq!(signed.message, b"message");
        let _ = signer.chain(&call).await;
    });
}

/// RFC 7512 URIs.
pub fn pkcs11_uri(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match text.parse::<Uri>() {
        Ok(uri) => {
            let written = uri.to_string();
            assert_eq!(written.parse::<Uri>().as_ref(), Ok(&uri), "{written}");
            assert!(written.is_ascii() && !written.chars().any(char::is_control), "{written:?}");
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
}

/// A device profile: a file of its own, and as changes of one that is there.
pub fn profile(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Profile::parse(text, "x.toml") {
        Ok(profile) => {
            let again = Profile::parse(&profile.to_toml(), "again");
            assert_eq!(again.as_ref(), Ok(&profile));
            let _ = (profile.differences(), profile.login.misfit("12345678"), profile.module.installed());
            let reserved = profile.module.reserved_text(|_| Some("x".into()));
            assert!(reserved.is_ok(), "every variable had a value");
        }
        Err(error) => assert!(error.to_string().starts_with("x.toml") && !error.remedy().is_empty()),
    }
    let Ok(changes) = text.parse() else { return };
    let mut profiles = Profiles::embedded();
    let checked = profiles.check_changes("luna", toml::Table::clone(&changes));
    let changed = profiles.override_with("luna", changes);
    assert!(checked.is_ok() || changed.is_err(), "what is made was checked");
}

/// The body of a refusal, which goes to terminals and logs.
pub fn refusal(input: &[u8]) {
    for authority in [Authority::Maskinporten, Authority::Customs, Authority::Altinn] {
        let refusal = Refusal::read(authority, 400, input);
        let texts = [&refusal.error, &refusal.code, &refusal.trace_id].into_iter().flatten();
        for text in texts.chain([&refusal.description]) {
            assert!(text.chars().count() <= 2_000, "bounded");
            assert!(!text.chars().any(char::is_control), "a terminal would act on {text:?}");
        }
        let words = refusal.description.split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c));
        assert!(
            words.filter(|word| word.starts_with("eyJ")).all(|word| word.len() <= 16),
            "a token or grant"
        );
    }
}

/// The answer of a token endpoint: the status in the first byte, the body in the others.
pub fn token_response(input: &[u8]) {
    let Some((status, body)) = input.split_first() else { return };
    let status = match status {
        b'2' => 200,
        other => 200 + u16::from(*other),
    };
    let response = Response { status, retry_after: None, clock: None, body: Zeroizing::new(body.to_vec()) };
    let base = "https://example.org".parse().expect("an address");
    let clock: &dyn Clock = &*ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW));
    let customs = Customs::new(&base).read(&response, &subject(clock.now()), NOW);
    let altinn = Altinn::new(&base, false).read(&response, &subject(clock.now()), NOW);
    for answer in [customs, altinn] {
        match answer {
            Ok(token) => silent(&token, body),
            Err(error) => {
                let said = format!("{error} {}", error.remedy());
                assert!(!said.chars().any(char::is_control), "a terminal would act on {said:?}");
            }
        }
    }
}

fn subject(now: Instant) -> AccessToken {
    let (text, life) = (SecretString::from("subject"), Duration::from_secs(120));
    AccessToken::issued(text, "a:b".into(), now, NOW, life, Provenance::default())
}

/// A token prints as nothing.
fn silent(token: &ExchangedToken, body: &[u8]) {
    let shown = format!("{token:?}");
    let long_words = body.split(|byte| !byte.is_ascii_graphic()).filter(|word| word.len() > 40);
    for word in long_words {
        assert!(!shown.as_bytes().windows(word.len()).any(|window| window == word), "{shown}");
    }
}
