//! Every refusal of Maskinporten's that our own client can cause, caused once: it arrives whole in the library, and as
//! one sentence and one remedy with exit code 1 on the command line.
//!
//! What a client cannot cause, because Segl refuses to build such a grant:
//!
//! | refusal | why it cannot happen |
//! |---|---|
//! | "Unknown field …" | the claims are a closed struct; no configuration adds one |
//! | unsupported algorithm | a signer takes RS256, RS384 and RS512 only |
//! | both `kid` and `x5c` | an identity is one or the other |
//! | MP-011, `exp` too late | `grant_lifetime` ends at 119 s |
//! | MP-012 | each try mints a grant of its own; see the test that sends one twice by hand |
//! | MP-123 | `x5c` is made from certificates that were parsed and put in order |
//! | MP-301, MP-302 | `authorization_details` of another type or with other fields are refused at load |

#![cfg(all(feature = "cli", feature = "sandbox"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

#[path = "support/stand.rs"]
mod stand;

use rcgen::PublicKeyData;
use secrecy::ExposeSecret;
use segl::{
    call::Call,
    clock::SystemClock,
    config::Config,
    http::{Http, Options, Request},
    pipeline::Overrides,
    sandbox::{Clients, CodePosition, CustomsError, ErrorStyle, Profile, ResourceType, TestCa},
    sign::Retry,
    token::{Authority, Error, Refusal, TokenSource},
};

use self::stand::{KID, PID, Said, Stand, key, now, other_key, spki};

/// How a request for a named token is refused, by the library and by the program.
struct Refused {
    refusal: Refusal,
    error: Error,
    said: Said,
    /// Grants that the library sent.
    grants: u64,
}

impl Refused {
    async fn of(stand: &Stand, config: &str, name: &str, options: &[&str]) -> Self {
        let pipeline = stand.live_pipeline(config);
        let named = pipeline.token(name).unwrap();
        let option = |name: &str| {
            let at = options.iter().position(|option| *option == name)?;
            Some(options[at + 1].to_owned())
        };
        let overrides = Overrides {
            consumer_org: option("--consumer-org"),
            pid: option("--pid"),
            scopes: option("--scope").into_iter().collect(),
        };
        let before = stand.sandbox.counters().token.hits;
        let request = named.request(overrides).unwrap();
        let error = named.source().token(&request, &Call::new(&SystemClock)).await.unwrap_err();
        let Error::Refused(refusal) = &error else { panic!("{error}") };
        let grants = stand.sandbox.counters().token.hits - before;
        stand.configure(config);
        let said = stand.segl(&[&["token", name], options].concat()).await;
        Self { refusal: (**refusal).clone(), error, said, grants }
    }

    /// The error says by how much this machine's clock is off; the real clock moves on while the test runs.
    #[track_caller]
    fn names_the_clock(&self, direction: &str) {
        let offset = self.refusal.clock_to_blame().expect("a date");
        assert!(
            offset.ahead_ms.unsigned_abs().abs_diff(300_000) <= 1_000 + offset.uncertainty_ms,
            "{offset:?}"
        );
        assert_eq!(offset.ahead_ms > 0, direction == "ahead of", "{offset:?}");
        let sentence = format!("; this machine's clock is {}", offset.compared_with("Maskinporten"));
        assert!(self.error.to_string().ends_with(&sentence), "{}", self.error);
        assert!(self.said.err.contains(&format!("s {direction} Maskinporten's")), "{:?}", self.said);
        assert_eq!(self.error.retry(), Retry::Never);
    }

    /// Maskinporten said `code` (empty: none) and `text`; nothing was lost on the way, and somebody is told what to do.
    #[track_caller]
    fn is(&self, code: &str, error: &str, text: &str, remedy: &str) -> &Self {
        let refusal = &self.refusal;
        assert_eq!((refusal.authority, refusal.status), (Authority::Maskinporten, 400));
        assert_eq!(refusal.code.as_deref().unwrap_or_default(), code, "{refusal:?}");
        assert_eq!(refusal.error.as_deref(), Some(error), "{refusal:?}");
        assert!(refusal.description.contains(text), "{refusal:?}");
        let trace = refusal.trace_id.as_deref().unwrap();
        assert!(trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()), "{refusal:?}");
        assert!(refusal.description.ends_with(&format!("(trace_id: {trace})")), "{refusal:?}");
        assert!(self.error.remedy().contains(remedy), "{}", self.error.remedy());

        let (what, next) = self.said.failed(1);
        assert!(what.starts_with(&format!("Maskinporten refused ({error}): ")), "{what}");
        assert!(what.contains(text) && what.contains(code) && what.contains("(trace_id: "), "{what}");
        assert_eq!(next, self.error.remedy());
        let more = format!("      More: segl explain {}", self.error.topic());
        assert_eq!(self.said.err.lines().last(), Some(more.as_str()));
        self
    }

    /// Asking again is pointless, and was not done.
    #[track_caller]
    fn once(&self) {
        assert_eq!((self.grants, self.error.retry()), (1, Retry::Never));
    }
}

const INVALID: &str = "invalid_grant";

#[tokio::test]
async fn mp_011_a_parameter_that_only_the_authority_can_judge() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    // Eleven digits, but the check digits are wrong.
    let wrong = "01811210029";
    assert_ne!(wrong, PID);
    let refused = Refused::of(&stand, &config, "maskinporten", &["--pid", wrong]).await;
    refused.is("MP-011", "invalid_request", "Invalid parameter value: pid", "trace id").once();
    assert!(!refused.said.err.contains(wrong));

    stand.sandbox.turn(|knobs| knobs.resource_type = ResourceType::String);
    let config = config
        .replace("[tokens.maskinporten]", "[tokens.maskinporten]\nresource = \"https://api.example.no\"");
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("MP-011", "invalid_request", "Invalid parameter value: resource", "trace id").once();
}

/// By hand: no code of ours sends a grant twice.
#[tokio::test]
async fn mp_012_a_grant_that_is_sent_twice() {
    let stand = Stand::new().await;
    let pipeline = stand.live_pipeline(&stand.key_client());
    let named = pipeline.token("maskinporten").unwrap();
    let call = Call::new(&SystemClock);
    let grant = named.client().assert(&named.request(Overrides::default()).unwrap(), &call).await.unwrap();
    let jws = grant.into_jws();
    let form =
        [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", jws.expose_secret())];
    let url = format!("{}token", stand.sandbox.issuer()).parse().unwrap();
    let http = Http::new(Options::default(), SystemClock::shared());
    let send = async || {
        let request = Request { url: &url, accept: None, bearer: None, form: Some(&form) };
        http.send(request, &call).await.unwrap()
    };
    assert_eq!(send().await.status, 200);
    let again = send().await;
    let refusal = Refusal::read(Authority::Maskinporten, again.status, &again.body);
    assert_eq!((refusal.status, refusal.code.as_deref()), (400, Some("MP-012")));
    assert!(refusal.description.contains("Grant is used before") && refusal.trace_id.is_some());
    let error = Error::Refused(Box::new(refusal));
    assert_eq!(error.retry(), Retry::NewGrant);
    assert!(error.remedy().contains("jti"));
}

#[tokio::test]
async fn mp_100_a_client_that_is_not_known() {
    let stand = Stand::new().await;
    let config = stand.key_client().replace(Clients::KEY_CLIENT, "5e610000-0000-4000-8000-00000000dead");
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("MP-100", INVALID, "Client not found", "client_id").once();
}

#[tokio::test]
async fn a_kid_that_is_not_registered() {
    let stand = Stand::new().await;
    let config = stand.key_client().replace(KID, "another-kid");
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("", INVALID, "Unknown key identifier (kid) for client", "kid");
    // The key may be on its way: it is worth asking again, but no caller waits for minutes.
    assert_eq!(refused.grants, 1);
    assert!(matches!(refused.error.retry(), Retry::After(_)));
}

#[tokio::test]
async fn a_certificate_where_a_key_is_registered() {
    let stand = Stand::new().await;
    let (config, _) = stand.certificate_client();
    stand.sandbox.register_key(Clients::CERTIFICATE_CLIENT, KID, &spki(key())).unwrap();
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("", INVALID, "requires pre-registered jwk and no key identifier (kid) provided", "kid").once();
}

/// Only an issuer of another environment gives another `aud`: here the same server under another name, whose metadata
/// would give it away.
#[tokio::test]
async fn mp_110_a_grant_for_another_issuer() {
    let stand = Stand::new().await;
    stand.sandbox.set_metadata_outage(true);
    let config = stand.key_client();
    let alias = stand.sandbox.issuer().replace("127.0.0.1", "localhost");
    let config = config.replace(stand.sandbox.issuer(), &alias);
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("MP-110", INVALID, "Invalid JWT claim aud", "environment").once();
}

#[tokio::test]
async fn mp_120_a_certificate_of_another_ca() {
    let stand = Stand::new().await;
    let elsewhere = TestCa::ephemeral().unwrap();
    let issued = elsewhere.issue_for(&spki(key()), Clients::ORGANISATION, Profile::Seid2).unwrap();
    let refused = Refused::of(&stand, &stand.client_with(&issued), "maskinporten", &[]).await;
    refused.is("MP-120", INVALID, "signed with an invalid certificate", "virksomhetssertifikat").once();
}

#[tokio::test]
async fn mp_121_a_key_whose_year_is_over() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    stand.sandbox.register_key_until(Clients::KEY_CLIENT, KID, &spki(key()), now() - 1).unwrap();
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("MP-121", INVALID, "Expired key", "Upload the key again").once();
}

#[tokio::test]
async fn mp_122_a_certificate_of_another_organisation() {
    let stand = Stand::new().await;
    let issued = stand.sandbox.ca().issue_for(&spki(key()), Clients::CUSTOMER, Profile::Seid2).unwrap();
    let refused = Refused::of(&stand, &stand.client_with(&issued), "maskinporten", &[]).await;
    refused.is("MP-122", INVALID, "Does not match certificate orgno", "owns the client").once();
}

#[tokio::test]
async fn mp_124_a_kid_that_names_another_key() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    let other = other_key().subject_public_key_info();
    stand.sandbox.register_key(Clients::KEY_CLIENT, KID, &other).unwrap();
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("MP-124", INVALID, "Invalid JWT signature", "belongs to this key").once();
}

#[tokio::test]
async fn mp_130_a_clock_that_is_behind_is_named_and_no_other_grant_is_made() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    stand.sandbox.turn(|knobs| knobs.clock_offset = 300);
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("MP-130", INVALID, "JWT is expired", "Set this machine's clock").once();
    refused.names_the_clock("behind");
}

#[tokio::test]
async fn a_clock_that_is_ahead() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    stand.sandbox.turn(|knobs| knobs.clock_offset = -300);
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("", INVALID, "Issue time is after now", "Set this machine's clock").once();
    refused.names_the_clock("ahead of");
}

#[tokio::test]
async fn a_grant_that_is_old_where_old_ones_are_not_taken() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    stand.sandbox.turn(|knobs| {
        knobs.strict_iat = true;
        knobs.clock_offset = 30;
    });
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("", INVALID, "Issue time is too long ago", "clock").once();
}

/// A client with a key does not know its own organisation; one with a certificate does, and does not ask.
#[tokio::test]
async fn a_supplier_that_names_itself_as_its_customer() {
    let stand = Stand::new().await;
    let own = ["--consumer-org", Clients::ORGANISATION];
    let refused = Refused::of(&stand, &stand.key_client(), "maskinporten", &own).await;
    refused
        .is(
            "",
            "invalid_request",
            "consumer_org in claim and delegation scope on client",
            "Leave consumer_org out",
        )
        .once();

    let (config, _) = stand.certificate_client();
    stand.configure(&config);
    let before = stand.sandbox.counters().token.hits;
    let said = stand.segl(&[&["token", "maskinporten"], &own[..]].concat()).await;
    assert!(said.failed(2).0.contains("consumer_org: is the organisation that signs"), "{said:?}");
    assert_eq!(stand.sandbox.counters().token.hits, before);
}

#[tokio::test]
async fn mp_200_a_scope_that_is_not_on_the_client() {
    let stand = Stand::new().await;
    let scope = ["--scope", Clients::NOT_REGISTERED];
    let refused = Refused::of(&stand, &stand.key_client(), "maskinporten", &scope).await;
    refused.is("MP-200", "invalid_scope", "invalid scopes for client", "Add the scope to the client");
    // As with an unknown kid: changes in the portal take minutes.
    assert_eq!(refused.grants, 1);
    assert!(matches!(refused.error.retry(), Retry::After(_)));
}

#[tokio::test]
async fn mp_201_a_client_of_another_type() {
    let stand = Stand::new().await;
    let config = stand.key_client().replace(Clients::KEY_CLIENT, Clients::OTHER_TYPE_CLIENT);
    stand.sandbox.register_key(Clients::OTHER_TYPE_CLIENT, KID, &spki(key())).unwrap();
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    refused.is("MP-201", "invalid_scope", "not allowed for maskinporten", "new client").once();
}

#[tokio::test]
async fn mp_250_a_scope_that_is_not_granted_to_the_organisation() {
    let stand = Stand::new().await;
    let scope = ["--scope", Clients::NOT_GRANTED];
    let refused = Refused::of(&stand, &stand.key_client(), "maskinporten", &scope).await;
    refused.is("MP-250", "invalid_scope", Clients::NOT_GRANTED, "Ask the API owner").once();
}

#[tokio::test]
async fn mp_251_a_customer_that_has_delegated_nothing() {
    let stand = Stand::new().await;
    let stranger = ["--consumer-org", Clients::STRANGER];
    let refused = Refused::of(&stand, &stand.key_client(), "maskinporten", &stranger).await;
    refused.is("MP-251", "invalid_scope", "has not delegated access", "delegate the scope").once();
}

#[tokio::test]
async fn mp_303_a_system_user_that_is_not_there() {
    let stand = Stand::new().await;
    let config = with_details(
        &stand.key_client(),
        &format!(
            r#"type = "urn:altinn:systemuser", systemuser_org = {{ authority = "iso6523-actorid-upis", ID = "0192:{}" }}"#,
            Clients::STRANGER
        ),
    );
    let refused = Refused::of(&stand, &config, "maskinporten", &[]).await;
    let error = "invalid_altinn_customer_configuration";
    refused.is("MP-303", error, "no system user was found", "system user");
    assert_eq!(refused.grants, 1);
    assert!(matches!(refused.error.retry(), Retry::After(_)), "an approval takes minutes to arrive");
}

#[tokio::test]
async fn mp_301_and_mp_302_are_refused_when_the_configuration_is_read() {
    let stand = Stand::new().await;
    let organisation = r#"systemuser_org = { authority = "iso6523-actorid-upis", ID = "0192:313005003" }"#;
    for details in [
        format!(r#"type = "urn:other", {organisation}"#),
        format!(r#"type = "urn:altinn:systemuser", {organisation}, systemuserorg = 1"#),
    ] {
        let config = with_details(&stand.key_client(), &details);
        assert!(Config::parse(&config, stand.folder()).is_err());
        stand.configure(&config);
        let said = stand.segl(&["token", "maskinporten"]).await;
        assert!(said.failed(2).0.contains("tokens.maskinporten.authorization_details"), "{said:?}");
    }
    assert_eq!(stand.sandbox.counters().token.hits, 0);
}

#[tokio::test]
async fn the_code_is_found_wherever_the_authority_puts_it_and_its_absence_is_no_harm() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    let scope = ["--scope", Clients::NOT_GRANTED];
    stand.sandbox.turn(|knobs| knobs.mp_code_position = CodePosition::Prefix);
    let refused = Refused::of(&stand, &config, "maskinporten", &scope).await;
    refused.is("MP-250", "invalid_scope", "MP-250: Consumer", "Ask the API owner").once();
    stand.sandbox.turn(|knobs| knobs.mp_code_position = CodePosition::Absent);
    let refused = Refused::of(&stand, &config, "maskinporten", &scope).await;
    refused.is("", "invalid_scope", "has not been granted access", "").once();
    // The wording of 2022: another error, and a correlation id.
    stand.sandbox.turn(|knobs| knobs.error_style = ErrorStyle::Of2022);
    let refused = Refused::of(&stand, &config, "maskinporten", &scope).await;
    assert_eq!(refused.refusal.error.as_deref(), Some("forbidden"));
    assert_eq!(refused.refusal.trace_id.as_deref().map(str::len), Some(36));
    refused.said.failed(1);
}

/// Whatever shape Customs gives it: nobody has published one.
#[tokio::test]
async fn customs_refuses_a_scope_that_is_not_its_own() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    let scope = ["--scope", "altinn:serviceowner/instances.read"];
    let text = "Not authorized to request scope altinn:serviceowner/instances.read";
    let refused = Refused::of(&stand, &config, "road", &scope).await;
    assert_eq!((refused.refusal.authority, refused.refusal.status), (Authority::Customs, 403));
    assert_eq!(refused.refusal.error.as_deref(), Some("invalid_scope"));
    let (what, remedy) = refused.said.failed(1);
    assert_eq!(what, format!("Customs refused (invalid_scope): {text}"));
    assert!(remedy.contains("ask Customs"), "{remedy}");

    stand.sandbox.turn(|knobs| knobs.customs_error = CustomsError::Text);
    stand.configure(&config);
    let said = stand.segl(&[&["token", "road", "--timeout", "2"], &scope[..]].concat()).await;
    let (what, remedy) = said.failed(1);
    assert!(what.contains(text), "{what}");
    assert!(remedy.contains("ask Customs"), "{remedy}");
}

#[tokio::test]
async fn altinn_refuses_tokens_of_another_environment() {
    let (stand, elsewhere) = (Stand::new().await, Stand::new().await);
    let config = stand.key_client().replace(stand.sandbox.altinn(), elsewhere.sandbox.altinn());
    stand.configure(&config);
    // Altinn says nothing but 401: worth another try, as Customs advises for refusals without a message.
    let said = stand.segl(&["token", "instances", "--timeout", "2"]).await;
    let (what, remedy) = said.failed(1);
    assert!(what.contains("Altinn refused (HTTP 401): it gave no reason"), "{what}");
    assert!(remedy.contains("belongs to this Maskinporten environment"), "{remedy}");
    assert!(elsewhere.sandbox.counters().altinn_exchange.refused >= 1);
    assert_eq!(stand.sandbox.counters().token.hits, 1, "the subject token is used again");
}

#[tokio::test]
async fn an_authority_that_cannot_serve_has_not_refused() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    stand.sandbox.set_outage(segl::sandbox::Authority::Maskinporten, true);
    let said = stand.segl(&["token", "road", "--timeout", "1"]).await;
    let (what, remedy) = said.failed(3);
    assert!(what.contains("Maskinporten cannot serve at the moment: it answered HTTP 503"), "{what}");
    assert!(remedy.contains("status.digdir.no"), "{remedy}");
}

fn with_details(config: &str, details: &str) -> String {
    let table = "[tokens.maskinporten]";
    config.replace(table, &format!("{table}\nauthorization_details = [{{ {details} }}]"))
}
