use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the sandbox answers where the real authorities are odd, undocumented or out of order.
///
/// The defaults are the strictest reading that real clients live with. They can be turned while the sandbox
/// runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Knobs {
    /// Refuse the claims `sub` and `nbf`, which are undocumented but tolerated today.
    pub strict_claims: bool,
    /// Refuse grants whose `iat` is more than 10 s old, as one reading of Digdir's documentation says.
    pub strict_iat: bool,
    /// Take an `aud` that lacks the final slash of the issuer.
    pub tolerate_aud_no_slash: bool,
    /// Where the MP code stands in `error_description`: no verbatim answer has been published.
    pub mp_code_position: CodePosition,
    /// The wording of which year.
    pub error_style: ErrorStyle,
    /// Life of access tokens in seconds, unless a scope or the client says otherwise.
    pub token_lifetime: u64,
    /// Life of Customs tokens in seconds. 970 is the number in Customs' example.
    pub customs_lifetime: u64,
    /// Which JSON type the claim `resource` may have.
    pub resource_type: ResourceType,
    /// Whether `externalRef` of a system user stands in the token, as it did in early 2025.
    #[serde(rename = "echo_externalRef")]
    pub echo_external_ref: bool,
    /// How the token of an eSeal names its holder's authority and its kind of authentication.
    pub eseal_spelling: EsealSpelling,
    /// What Altinn's exchange answers with.
    pub altinn_body: AltinnBody,
    /// What Customs' refusals look like: none has been published.
    pub customs_error: CustomsError,
    /// Seconds by which the authorities' clock is ahead of the handed-in one (negative: behind).
    pub clock_offset: i64,
    /// `Retry-After` of answers during an outage, in seconds.
    pub retry_after: Option<u64>,
    /// How long each answer is held back, on the handed-in clock.
    #[serde(with = "milliseconds")]
    pub delay: Duration,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            strict_claims: false,
            strict_iat: false,
            tolerate_aud_no_slash: false,
            mp_code_position: CodePosition::Suffix,
            error_style: ErrorStyle::Of2026,
            token_lifetime: 120,
            customs_lifetime: 970,
            resource_type: ResourceType::Both,
            echo_external_ref: false,
            eseal_spelling: EsealSpelling::Example,
            altinn_body: AltinnBody::ByAccept,
            customs_error: CustomsError::Json,
            clock_offset: 0,
            retry_after: None,
            delay: Duration::ZERO,
        }
    }
}

/// Where an MP code stands in `error_description`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CodePosition {
    /// Before the text.
    Prefix,
    /// After the text, before the trace reference.
    Suffix,
    /// Nowhere, as before 2024.
    Absent,
}

/// The wording of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorStyle {
    /// `forbidden` for missing access, and a `correlation id`.
    #[serde(rename = "2022")]
    Of2022,
    /// `invalid_scope` for missing access, and a `trace_id`.
    #[serde(rename = "2026")]
    Of2026,
}

/// The JSON type of the claim `resource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ResourceType {
    /// An array of strings, as documented.
    Array,
    /// A string, as most clients send it.
    String,
    /// Either.
    Both,
}

/// Digdir's page on eSeals spells two values in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EsealSpelling {
    /// As its text has them: `etsi_en_119_612`, `QRForeSeals`, `CForeSeals`.
    Prose,
    /// As its example has them: `etsi-en-319-412`, `QCForESeal`, `CForESeal`.
    Example,
}

/// The body of Altinn's exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AltinnBody {
    /// A JSON string when the client accepts JSON, else bare text.
    ByAccept,
    /// A JSON string, whatever is accepted.
    Quoted,
    /// Bare text, whatever is accepted.
    Bare,
}

/// The shape of Customs' refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CustomsError {
    /// An RFC 6749 error object.
    Json,
    /// A sentence as plain text.
    Text,
}

mod milliseconds {
    use super::{Deserialize, Duration};

    pub(super) fn serialize<S: serde::Serializer>(delay: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
