use serde_json::{Value, json};

use super::knobs::{CodePosition, ErrorStyle, Knobs};

/// Why Maskinporten's fake refuses a request, with the code and the key phrase of Digdir's troubleshooting
/// page (docs.digdir.no, `maskinporten_feilsoking`).
///
/// Details name a field or a reason, never a value out of the grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Form(&'static str),
    GrantType,
    Malformed(String),
    UnknownField(String),
    Algorithm,
    UnknownClient,
    Audience,
    BothKeyReferences,
    UnknownKey,
    KeyRequired,
    KeyExpired,
    X5c(&'static str),
    Certificate(String),
    OrganisationNumber,
    SealChain(&'static str),
    SealIssuer,
    SealIdentifier(&'static str),
    SealScope { scope: String },
    SealClaim(&'static str),
    Signature,
    Lifetime,
    Expired,
    NotYetIssued,
    TooOld,
    Replayed,
    OnBehalfOf,
    ConsumerIsSelf,
    IntegrationType,
    ScopeNotOnClient,
    NotGranted { scope: String },
    NotDelegated { scope: String, consumer: String, supplier: String },
    DetailsType,
    DetailsField(String),
    DetailsValue(&'static str),
    NoSystemUser,
}

/// A refusal in the authority's words.
struct Words {
    error: &'static str,
    code: Option<&'static str>,
    text: String,
    /// What of the answer nobody has published.
    guess: &'static str,
}

const STATUS_AND_ERROR: &str = "status, error, code position";
const EVERYTHING: &str = "status, error, text";
const SYNTHETIC: &str = "status, error, code, text";
const CLIENT_AUTHENTICATION: &str = "Invalid assertion. Client authentication failed.";
const TROUBLESHOOTING: &str = "https://docs.digdir.no/docs/Maskinporten/maskinporten_feilsoking";

impl Refusal {
    /// The MP code, for the log of the sandbox.
    pub(super) fn code(&self) -> &'static str {
        self.words(ErrorStyle::Of2026).code.unwrap_or("none")
    }

    /// Which parts of the answer are guesses.
    pub(super) fn guess(&self) -> &'static str {
        self.words(ErrorStyle::Of2026).guess
    }

    /// The answer's body. `trace` is a reference of 32 hexadecimal digits.
    pub(super) fn body(&self, knobs: &Knobs, trace: &str) -> Value {
        let Words { error, code, text, .. } = self.words(knobs.error_style);
        let text = match (code, knobs.mp_code_position) {
            (Some(code), CodePosition::Prefix) => format!("{code}: {text}"),
            (Some(code), CodePosition::Suffix) => format!("{text}. {code}"),
            _ => text,
        };
        let reference = match knobs.error_style {
            ErrorStyle::Of2022 => {
                let id = uuid::Uuid::parse_str(trace).map(|id| id.to_string()).unwrap_or_default();
                format!("(correlation id: {id})")
            }
            ErrorStyle::Of2026 => format!("(trace_id: {trace})"),
        };
        json!({
            "error": error,
            "error_description": format!("{text} {reference}"),
            "error_uri": TROUBLESHOOTING,
        })
    }

    fn words(&self, style: ErrorStyle) -> Words {
        let grant =
            |code, text: String| Words { error: "invalid_grant", code, text, guess: STATUS_AND_ERROR };
        let authentication = |code, detail: &str| grant(code, format!("{CLIENT_AUTHENTICATION} {detail}"));
        let request = |code, text: String, guess| Words { error: "invalid_request", code, text, guess };
        let access = match style {
            ErrorStyle::Of2022 => "forbidden",
            ErrorStyle::Of2026 => "invalid_scope",
        };
        match self {
            Self::Form(detail) => request(None, format!("Invalid request. {detail}"), EVERYTHING),
            Self::GrantType => Words {
                error: "unsupported_grant_type",
                code: None,
                text: "Unsupported grant type".into(),
                guess: EVERYTHING,
            },
            Self::Malformed(detail) => request(
                Some("MP-011"),
                format!("Invalid assertion. Invalid parameter value: {detail}"),
                STATUS_AND_ERROR,
            ),
            Self::UnknownField(name) => {
                request(None, format!("Invalid assertion. Unknown field {name}"), "error, detail")
            }
            Self::Algorithm => {
                authentication(None, "Unsupported signature algorithm; RS256, RS384 and RS512 are supported")
                    .guessed(EVERYTHING)
            }
            Self::UnknownClient => authentication(Some("MP-100"), "Client not found"),
            Self::Audience => authentication(Some("MP-110"), "Invalid JWT claim aud"),
            Self::BothKeyReferences => {
                authentication(None, "Both kid and x5c in the JWT header").guessed(EVERYTHING)
            }
            Self::UnknownKey => {
                authentication(None, "Unknown key identifier (kid) for client").guessed("status, error")
            }
            Self::KeyRequired => authentication(
                None,
                "The client requires pre-registered jwk and no key identifier (kid) provided",
            )
            .guessed("status, error"),
            Self::KeyExpired => authentication(Some("MP-121"), "Expired key"),
            Self::X5c(detail) => authentication(Some("MP-123"), &format!("Invalid JWT header x5c: {detail}")),
            Self::Certificate(detail) => authentication(
                Some("MP-120"),
                &format!("The JWT is signed with an invalid certificate: {detail}"),
            ),
            Self::OrganisationNumber => authentication(
                Some("MP-122"),
                "Invalid organization number for client. Does not match certificate orgno",
            ),
            // Nothing has been published of how Maskinporten refuses eSeals: codes and texts are of the sandbox's own
            // making, after what is refused for the same reason elsewhere.
            Self::SealChain(detail) => {
                authentication(Some("MP-123"), &format!("Invalid JWT header x5c: {detail}"))
                    .guessed(SYNTHETIC)
            }
            Self::SealIssuer => authentication(
                Some("MP-120"),
                "The JWT is signed with an invalid certificate: its issuer is on no trusted list",
            )
            .guessed(SYNTHETIC),
            Self::SealIdentifier(detail) => authentication(
                Some("MP-122"),
                &format!("Invalid organizationIdentifier in the certificate: {detail}"),
            )
            .guessed(SYNTHETIC),
            Self::SealScope { scope } => Words {
                error: "invalid_scope",
                code: Some("MP-200"),
                text: format!("Token request contains a scope that is not open to eSeals: {scope}"),
                guess: SYNTHETIC,
            },
            Self::SealClaim(name) => request(
                Some("MP-011"),
                format!("Invalid assertion. Invalid parameter value: {name} is not available to eSeals"),
                SYNTHETIC,
            ),
            Self::Signature => authentication(Some("MP-124"), "Invalid JWT signature"),
            Self::Lifetime => request(
                Some("MP-011"),
                "Invalid assertion. Invalid parameter value: exp must be after iat, by 120 seconds at most"
                    .into(),
                EVERYTHING,
            ),
            Self::Expired => grant(Some("MP-130"), "Invalid assertion. JWT is expired".into()),
            Self::NotYetIssued => {
                grant(None, "Invalid assertion. Issue time is after now".into()).guessed("status, error")
            }
            Self::TooOld => {
                grant(None, "Invalid assertion. Issue time is too long ago".into()).guessed(EVERYTHING)
            }
            Self::Replayed => grant(Some("MP-012"), "Invalid assertion. Grant is used before".into()),
            Self::OnBehalfOf => request(
                Some("MP-011"),
                "Invalid assertion. Invalid parameter value: iss_onbehalfof is not available to this client"
                    .into(),
                EVERYTHING,
            ),
            Self::ConsumerIsSelf => request(
                None,
                "The combination consumer_org in claim and delegation scope on client is invalid".into(),
                "status, error",
            ),
            Self::IntegrationType => Words {
                error: "invalid_scope",
                code: Some("MP-201"),
                text: "Token request contains scopes not allowed for maskinporten".into(),
                guess: STATUS_AND_ERROR,
            },
            Self::ScopeNotOnClient => Words {
                error: "invalid_scope",
                code: Some("MP-200"),
                text: "Token request contains invalid scopes for client".into(),
                guess: STATUS_AND_ERROR,
            },
            Self::NotGranted { scope } => Words {
                error: access,
                code: Some("MP-250"),
                text: format!("Consumer has not been granted access to the scope {scope}"),
                guess: "code position",
            },
            Self::NotDelegated { scope, consumer, supplier } => Words {
                error: access,
                code: Some("MP-251"),
                text: format!(
                    "Consumer {consumer} has not delegated access to the scope {scope} to supplier {supplier}"
                ),
                guess: STATUS_AND_ERROR,
            },
            Self::DetailsType => details("MP-301", "Unknown authorization_details type".into()),
            Self::DetailsField(name) => {
                details("MP-302", format!("Unknown field in authorization_details: {name}"))
            }
            Self::DetailsValue(detail) => {
                details("MP-303", format!("Invalid authorization_details values: {detail}"))
            }
            Self::NoSystemUser => Words {
                error: "invalid_altinn_customer_configuration",
                code: Some("MP-303"),
                text: "Invalid authorization_details values: no system user was found".into(),
                guess: "status, code position",
            },
        }
    }
}

fn details(code: &'static str, text: String) -> Words {
    Words { error: "invalid_authorization_details", code: Some(code), text, guess: STATUS_AND_ERROR }
}

impl Words {
    fn guessed(self, guess: &'static str) -> Self {
        Self { guess, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0123456789abcdef0123456789abcdef";

    fn description(knobs: &Knobs) -> String {
        Refusal::Signature.body(knobs, TRACE)["error_description"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_code_stands_where_the_knob_says() {
        let mut knobs = Knobs::default();
        assert!(
            description(&knobs)
                .ends_with("Invalid JWT signature. MP-124 (trace_id: 0123456789abcdef0123456789abcdef)")
        );
        knobs.mp_code_position = CodePosition::Prefix;
        assert!(description(&knobs).starts_with("MP-124: Invalid assertion."));
        knobs.mp_code_position = CodePosition::Absent;
        assert!(!description(&knobs).contains("MP-"));
    }

    #[test]
    fn the_wording_of_2022_says_forbidden_and_correlation_id() {
        let knobs = Knobs { error_style: ErrorStyle::Of2022, ..Knobs::default() };
        let body = Refusal::NotGranted { scope: "a:b".into() }.body(&knobs, TRACE);
        assert_eq!(body["error"], "forbidden");
        assert!(body["error_description"].as_str().unwrap().contains("(correlation id: 01234567-89ab-"));
    }
}
