//! The environment variables that platforms hand to a sidecar: their names, and what they say before it is checked.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::secret::Source;

pub(crate) const ENABLED: &str = "MASKINPORTEN_ENABLED";
pub(crate) const CLIENT_ID: &str = "MASKINPORTEN_CLIENT_ID";
pub(crate) const CLIENT_JWK: &str = "MASKINPORTEN_CLIENT_JWK";
pub(super) const CLIENT_KID: &str = "MASKINPORTEN_CLIENT_KID";
pub(super) const SCOPES: &str = "MASKINPORTEN_SCOPES";
pub(super) const WELL_KNOWN: &str = "MASKINPORTEN_WELL_KNOWN_URL";
pub(super) const ISSUER: &str = "MASKINPORTEN_ISSUER";
pub(super) const TOKEN_ENDPOINT: &str = "MASKINPORTEN_TOKEN_ENDPOINT";
pub(super) const KEY: &str = "SEGL_KEY";
pub(super) const PIN_FILE: &str = "SEGL_PIN_FILE";

const KNOWN: [&str; 10] =
    [ENABLED, CLIENT_ID, CLIENT_JWK, CLIENT_KID, SCOPES, WELL_KNOWN, ISSUER, TOKEN_ENDPOINT, KEY, PIN_FILE];

/// The path that metadata has below an issuer without a path (RFC 8414 section 3).
const WELL_KNOWN_PATH: &str = ".well-known/oauth-authorization-server";

/// The known variables that are set and not empty. Wiped when dropped, as one may be a private key.
pub(crate) struct Variables(BTreeMap<&'static str, Zeroizing<String>>);

impl Variables {
    /// Those among `variables`, and the names of those that are no text.
    pub(crate) fn collect(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> (Self, Vec<&'static str>) {
        let (mut set, mut no_text) = (BTreeMap::new(), Vec::new());
        for (name, value) in variables {
            let Some(name) = KNOWN.into_iter().find(|known| name == *known) else { continue };
            match String::from_utf8(value.into_vec()) {
                Ok(text) if text.is_empty() => {}
                Ok(text) => {
                    set.insert(name, Zeroizing::new(text));
                }
                Err(error) => {
                    drop(Zeroizing::new(error.into_bytes()));
                    no_text.push(name);
                }
            }
        }
        (Self(set), no_text)
    }

    /// The text of one of them.
    pub(super) fn text(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(|text| text.as_str())
    }

    /// Whether the client is switched off.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self.text(ENABLED), Some("false" | "0"))
    }

    /// Client identifier.
    pub(crate) fn client_id(&self) -> Option<&str> {
        self.text(CLIENT_ID)
    }

    /// The scopes, which spaces separate.
    pub(crate) fn scopes(&self) -> Vec<String> {
        self.text(SCOPES).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// The key that is named.
    pub(crate) fn key(&self) -> Option<&str> {
        self.text(KEY)
    }

    /// Where its PIN is.
    pub(crate) fn pin(&self) -> Option<Source> {
        self.text(PIN_FILE).map(|path| Source::File(path.into()))
    }

    /// The private JWK.
    pub(crate) fn jwk(&self) -> Option<&str> {
        self.text(CLIENT_JWK)
    }

    /// The name of the registered key; where none is said, the one in the private JWK.
    pub(crate) fn kid(&self) -> Option<String> {
        let of_jwk = || KeyId::in_jwk(self.jwk()?)?.kid;
        self.text(CLIENT_KID).map(str::to_owned).or_else(of_jwk)
    }

    /// Maskinporten's issuer, itself or by the address of its metadata, and which variable says so.
    pub(crate) fn issuer(&self) -> Option<(&str, &'static str)> {
        let derived = || self.text(WELL_KNOWN)?.strip_suffix(WELL_KNOWN_PATH);
        let said = self.text(ISSUER).map(|issuer| (issuer, ISSUER));
        said.or_else(|| derived().map(|issuer| (issuer, WELL_KNOWN)))
    }
}

/// The one member of a private JWK that is read here; the others are not kept.
#[derive(Deserialize)]
pub(super) struct KeyId {
    kid: Option<String>,
}

impl KeyId {
    /// `None` when `jwk` is no JSON object.
    pub(super) fn in_jwk(jwk: &str) -> Option<Self> {
        serde_json::from_str(jwk).ok()
    }
}
