use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How the sandbox answers where the real authorities are odd, undocumented or out of order.
///
/// The defaults are the strictest reading that real clients live with. They can be turned while the sandbox
/// runs. [`strict`](Self::strict) and [`as_2024`](Self::as_2024) are two other sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Knobs {
    /// Refuse the claims `sub` and `nbf`, which are undocumented but tolerated today.
    pub strict_claims: bool,
    /// Pass over claims that are not documented, as before 2025, instead of refusing them.
    pub tolerate_unknown_claims: bool,
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
    /// The `aud` of a token for which no `resource` was asked: `unspecified`, as until 2024, or none.
    pub aud_unspecified: bool,
    /// Whether `externalRef` of a system user stands in the token, as it did in early 2025.
    #[serde(rename = "echo_externalRef")]
    pub echo_external_ref: bool,
    /// How the token of an eSeal names its holder's authority and its kind of authentication.
    pub eseal_spelling: EsealSpelling,
    /// Seconds until Maskinporten knows of a key or a client that was changed while it runs. Up to 120 in reality.
    pub propagation_delay: u64,
    /// Refuse public keys without `use`, as Samarbeidsportalen has since May 2025.
    pub jwks_require_use: bool,
    /// Remember grants, and refuse a second use. Without it, nothing finds a client that sends a grant twice.
    pub replay_memory: bool,
    /// Whether Altinn makes `authorization_details` of one object the bare object, as observed.
    pub flatten_authorization_details: bool,
    /// What Altinn's exchange answers with.
    pub altinn_body: AltinnBody,
    /// What Customs' refusals look like: none has been published.
    pub customs_error: CustomsError,
    /// Seconds by which the authorities' clock is ahead of the handed-in one (negative: behind).
    pub clock_offset: i64,
    /// After so many requests, an authority is out of order for [`burst_length`](Self::burst_length) requests: 503.
    /// 0: never.
    pub burst_every: u64,
    /// How many requests such a burst takes.
    pub burst_length: u64,
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
            tolerate_unknown_claims: false,
            strict_iat: false,
            tolerate_aud_no_slash: false,
            mp_code_position: CodePosition::Suffix,
            error_style: ErrorStyle::Of2026,
            token_lifetime: 120,
            customs_lifetime: 970,
            resource_type: ResourceType::Both,
            aud_unspecified: false,
            echo_external_ref: false,
            eseal_spelling: EsealSpelling::Example,
            propagation_delay: 0,
            jwks_require_use: false,
            replay_memory: true,
            flatten_authorization_details: true,
            altinn_body: AltinnBody::ByAccept,
            customs_error: CustomsError::Json,
            clock_offset: 0,
            burst_every: 0,
            burst_length: 1,
            retry_after: None,
            delay: Duration::ZERO,
        }
    }
}

impl Knobs {
    /// Everything is refused that the documentation allows to refuse: for clients that are to outlive what is tolerated
    /// today.
    #[must_use]
    pub fn strict() -> Self {
        Self {
            strict_claims: true,
            strict_iat: true,
            resource_type: ResourceType::Array,
            jwks_require_use: true,
            ..Self::default()
        }
    }

    /// As the documentation of October 2024 has it: unknown claims are passed over, missing access is `forbidden` and
    /// comes with a correlation id, and a token without `resource` has an `aud`.
    #[must_use]
    pub fn as_2024() -> Self {
        Self {
            tolerate_unknown_claims: true,
            error_style: ErrorStyle::Of2022,
            aud_unspecified: true,
            echo_external_ref: true,
            ..Self::default()
        }
    }

    /// The same with `changes`, by the names that a configuration has for them.
    ///
    /// # Errors
    /// What is wrong with a name or a value.
    pub fn with(&self, changes: &Map<String, Value>) -> Result<Self, String> {
        let mut all = match serde_json::to_value(self) {
            Ok(Value::Object(all)) => all,
            _ => Map::new(),
        };
        all.extend(changes.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self::deserialize(Value::Object(all)).map_err(|why| why.to_string())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(changes: Value) -> Result<Knobs, String> {
        Knobs::default().with(changes.as_object().unwrap())
    }

    #[test]
    fn knobs_are_changed_by_name_and_what_is_wrong_is_named() {
        let turned = with(json!({ "token_lifetime": 30, "error_style": "2022" })).unwrap();
        let expected = Knobs { token_lifetime: 30, error_style: ErrorStyle::Of2022, ..Knobs::default() };
        assert_eq!(turned, expected);
        assert!(with(json!({ "strict": true })).unwrap_err().contains("unknown field `strict`"));
        assert!(with(json!({ "burst_every": -1 })).unwrap_err().contains("-1"));
    }

    #[test]
    fn the_presets_differ_from_the_default_and_from_each_other() {
        let [usual, strict, old] = [Knobs::default(), Knobs::strict(), Knobs::as_2024()];
        assert!(usual != strict && usual != old && strict != old);
    }
}
