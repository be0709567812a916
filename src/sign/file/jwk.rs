//! A private JWK (RFC 7517, RFC 7518 section 6.3.2), as Samarbeidsportalen and many tools hand it out.

use std::borrow::Cow;

use aws_lc_rs::{rsa::KeyPairComponents, signature::RsaPublicKeyComponents};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    content::{KeyFile, Refusal},
    rsa::Rsa,
};
use crate::jose::{Algorithm, from_base64url};

/// The numbers are borrowed from the file: base64url has nothing to unescape, and so nothing is copied.
#[derive(Deserialize)]
struct PrivateJwk<'a> {
    #[serde(borrow)]
    kty: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alg: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "use")]
    usage: Option<Cow<'a, str>>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    d: Option<&'a str>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    dp: Option<&'a str>,
    dq: Option<&'a str>,
    qi: Option<&'a str>,
    oth: Option<serde::de::IgnoredAny>,
    keys: Option<serde::de::IgnoredAny>,
}

pub(super) fn read(json: &[u8], algorithm: Algorithm) -> Result<KeyFile, Refusal> {
    // The parser's own words could quote the key, so they are not passed on.
    let jwk: PrivateJwk<'_> = serde_json::from_slice(json)
        .map_err(|_| Refusal::file("this JSON is no JWK", "Give one private JWK."))?;
    check_kind(&jwk, algorithm)?;
    let number = |name: &'static str, text: Option<&str>| {
        let text = text.ok_or_else(|| missing(name))?;
        let bytes = from_base64url(text).map(Zeroizing::new).filter(|bytes| !bytes.is_empty());
        bytes.ok_or_else(|| {
            Refusal::file(
                format!("the JWK's {name} is not base64url without padding"),
                "Export the JWK anew.",
            )
        })
    };
    let (n, e) = (number("n", jwk.n)?, number("e", jwk.e)?);
    let components = KeyPairComponents {
        public_key: RsaPublicKeyComponents { n: trimmed(&n), e: trimmed(&e) },
        d: number("d", jwk.d)?,
        p: number("p", jwk.p)?,
        q: number("q", jwk.q)?,
        dP: number("dp", jwk.dp)?,
        dQ: number("dq", jwk.dq)?,
        qInv: number("qi", jwk.qi)?,
    };
    let rsa = Rsa::from_components(&components)?;
    Ok(KeyFile { rsa, certificates: Ok(Vec::new()), key_id: jwk.kid.map(Cow::into_owned) })
}

fn check_kind(jwk: &PrivateJwk<'_>, algorithm: Algorithm) -> Result<(), Refusal> {
    let unusable = |reason: &str| Err(Refusal::Key { reason: reason.into() });
    if jwk.keys.is_some() {
        return Err(Refusal::file(
            "this is a set of keys (JWKS)",
            "Put the one private JWK there, without the array.",
        ));
    }
    match jwk.kty.as_deref() {
        Some("RSA") => {}
        Some("EC") => return unusable("it is an elliptic curve key; Maskinporten takes RSA only"),
        Some("OKP") => return unusable("it is an Edwards curve key; Maskinporten takes RSA only"),
        Some("oct") => return unusable("it is a symmetric key; Maskinporten takes RSA only"),
        _ => {
            return Err(Refusal::file(
                "this JSON is no JWK (its kty is missing or unknown)",
                "Give one private JWK.",
            ));
        }
    }
    if jwk.d.is_none() {
        return Err(Refusal::file("this JWK is the public half only", "Give the private JWK."));
    }
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return unusable("the JWK says that it is not for signatures (use)");
    }
    if jwk.oth.is_some() {
        return unusable("it has more than two primes (oth)");
    }
    match jwk.alg.as_deref().map(str::parse::<Algorithm>) {
        None => Ok(()),
        Some(Ok(own)) if own == algorithm => Ok(()),
        Some(Ok(own)) if own.accepted_by_maskinporten() => Err(Refusal::file(
            format!("the JWK is for {own} and the signer is set to {algorithm}"),
            format!("Set algorithm = \"{own}\" on the signer."),
        )),
        Some(_) => unusable("the JWK's alg is none that Maskinporten takes (RS256, RS384, RS512)"),
    }
}

fn missing(name: &str) -> Refusal {
    match name {
        "n" | "e" => Refusal::file(format!("the JWK has no {name}"), "Export the JWK anew."),
        _ => Refusal::file(
            format!("the JWK has no {name}; d alone is not enough to sign with"),
            "Export the JWK anew with p, q, dp, dq and qi.",
        ),
    }
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
