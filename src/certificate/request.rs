use std::cell::RefCell;

use aws_lc_rs::signature::RsaPublicKeyComponents;
use pkcs8::spki::{SubjectPublicKeyInfoRef, der::Decode};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, PKCS_RSA_SHA256, PKCS_RSA_SHA384, PKCS_RSA_SHA512,
    PublicKeyData, SignatureAlgorithm, SigningKey, string::PrintableString,
};

use super::{OrganisationNumber, pem};
use crate::jose::{Algorithm, KeyError, RsaPublicKey};

/// A request for a virksomhetssertifikat (PKCS#10, RFC 2986) whose key lives elsewhere.
///
/// The subject is that of SEID 2: country, organisation, organizationIdentifier `NTRNO-…`, common name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Common name: the organisation, or what the certificate is used by.
    pub common_name: String,
    /// Registered name of the organisation.
    pub organisation: String,
    /// Its number.
    pub organisation_number: OrganisationNumber,
    /// Two-letter code of the country, `NO`.
    pub country: String,
}

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError<E> {
    /// A field of the subject cannot stand there.
    #[error("the subject's {field} cannot be used: {problem}")]
    Subject {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Not an algorithm that requests of this kind are signed with.
    #[error("a certificate request is signed with RS256, RS384 or RS512, not with {0}")]
    Algorithm(Algorithm),
    /// The public key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signer made no signature.
    #[error("the request could not be signed: {0}")]
    Sign(E),
    /// The signature is not one of the request by the key.
    #[error("the signature under the request does not verify with the key in it")]
    WrongSignature,
    /// The request could not be encoded.
    #[error("the request could not be encoded: {problem}")]
    Encoding {
        /// What the encoder says.
        problem: String,
    },
}

impl<E> RequestError<E> {
    /// What to do, in one sentence; `None` where the signer's own error says it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Subject { .. } => {
                "Correct the field; the country has two letters, the names are not empty."
            }
            Self::Algorithm(_) => "Set algorithm to RS256, or leave it out.",
            Self::Key(_) => "Use an RSA key of at least 2048 bits.",
            Self::WrongSignature => "See that the signature is made by the key that the request is for.",
            Self::Encoding { .. } => "Use plain letters and digits in the subject.",
            Self::Sign(_) => return None,
        })
    }
}

impl CertificateRequest {
    /// The request as DER, signed by `sign`, which gets the bytes to be signed (not a digest) and returns a PKCS#1
    /// v1.5 signature. The finished request's signature is verified before it is returned.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn to_der<E>(
        &self,
        public_key: &RsaPublicKey,
        algorithm: Algorithm,
        sign: impl Fn(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, RequestError<E>> {
        let (encoding, verification) = match algorithm {
            Algorithm::RS256 => (&PKCS_RSA_SHA256, &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => (&PKCS_RSA_SHA384, &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => (&PKCS_RSA_SHA512, &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA512),
            other => return Err(RequestError::Algorithm(other)),
        };
        let params = self.parameters()?;
        let outcome = RefCell::new(None);
        let key = ElsewhereKey {
            pkcs1: pkcs1(public_key)?,
            algorithm: encoding,
            sign: |message: &[u8]| match sign(message) {
                Ok(signature) => {
                    let key = RsaPublicKeyComponents { n: public_key.modulus(), e: public_key.exponent() };
                    key.verify(verification, message, &signature)
                        .map_err(|_| refuse(&outcome, RequestError::WrongSignature))?;
                    Ok(signature)
                }
                Err(error) => Err(refuse(&outcome, RequestError::Sign(error))),
            },
        };
        match params.serialize_request(&key) {
            Ok(request) => Ok(request.der().to_vec()),
            Err(why) => {
                Err(outcome.take().unwrap_or_else(|| RequestError::Encoding { problem: why.to_string() }))
            }
        }
    }

    /// The bytes that are signed (CertificationRequestInfo, RFC 2986 section 4.1): for signers that are asked
    /// elsewhere and later. [`to_der`](Self::to_der) asks for a signature over exactly these.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn to_be_signed(
        &self,
        public_key: &RsaPublicKey,
        algorithm: Algorithm,
    ) -> Result<Vec<u8>, RequestError<std::convert::Infallible>> {
        let seen = RefCell::new(Vec::new());
        let refused = self.to_der(public_key, algorithm, |message| {
            *seen.borrow_mut() = message.to_vec();
            Err::<Vec<u8>, ()>(())
        });
        match refused {
            Err(RequestError::Subject { field, problem }) => Err(RequestError::Subject { field, problem }),
            Err(RequestError::Algorithm(algorithm)) => Err(RequestError::Algorithm(algorithm)),
            Err(RequestError::Key(why)) => Err(RequestError::Key(why)),
            Err(RequestError::Encoding { problem }) => Err(RequestError::Encoding { problem }),
            Err(RequestError::Sign(()) | RequestError::WrongSignature) | Ok(_) => Ok(seen.take()),
        }
    }

    /// A finished request in PEM, as issuers want it pasted.
    #[must_use]
    pub fn pem(der: &[u8]) -> String {
        pem::encode("CERTIFICATE REQUEST", der)
    }

    fn parameters<E>(&self) -> Result<CertificateParams, RequestError<E>> {
        let named = |field, text: &str| {
            let problem = match text {
                text if text.trim().is_empty() => "it is empty",
                text if text.chars().any(char::is_control) => "it has control characters",
                _ => return Ok(text.to_owned()),
            };
            Err(RequestError::Subject { field, problem })
        };
        let country = Some(self.country.as_str())
            .filter(|code| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
            .and_then(|code| PrintableString::try_from(code).ok())
            .ok_or(RequestError::Subject { field: "country", problem: "it is not two capital letters" })?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, DnValue::PrintableString(country));
        name.push(DnType::OrganizationName, named("organisation", &self.organisation)?);
        name.push(DnType::from_oid(&[2, 5, 4, 97]), format!("NTRNO-{}", self.organisation_number));
        name.push(DnType::CommonName, named("common name", &self.common_name)?);
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        Ok(params)
    }
}

/// A key as the encoder wants to see it.
struct ElsewhereKey<F> {
    pkcs1: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
    sign: F,
}

impl<F> PublicKeyData for ElsewhereKey<F> {
    fn der_bytes(&self) -> &[u8] {
        &self.pkcs1
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl<F: Fn(&[u8]) -> Result<Vec<u8>, rcgen::Error>> SigningKey for ElsewhereKey<F> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        (self.sign)(message)
    }
}

/// Keeps the reason, since the encoder's error has no room for it.
fn refuse<E>(outcome: &RefCell<Option<RequestError<E>>>, reason: RequestError<E>) -> rcgen::Error {
    *outcome.borrow_mut() = Some(reason);
    rcgen::Error::RemoteKeyError
}

fn pkcs1(public_key: &RsaPublicKey) -> Result<Vec<u8>, KeyError> {
    let spki = public_key.to_spki()?;
    let info = SubjectPublicKeyInfoRef::from_der(&spki).map_err(|_| KeyError::Malformed)?;
    Ok(info.subject_public_key.as_bytes().ok_or(KeyError::Malformed)?.to_vec())
}

#[cfg(test)]
mod tests {
    use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

    use super::*;
    use crate::certificate::{Name, sample::Pair};

    fn request() -> CertificateRequest {
        CertificateRequest {
            common_name: "Segl i Bjørnafjorden".into(),
            organisation: "Fiktiv Sjøfart AS".into(),
            organisation_number: "991825827".parse().unwrap(),
            country: "NO".into(),
        }
    }

    #[test]
    fn a_request_verifies_with_the_key_in_it_and_has_the_subject_of_seid_2() {
        let [pair, _] = Pair::shared();
        let der =
            request().to_der(&pair.public_key(), Algorithm::RS256, |m| Ok::<_, ()>(pair.sign(m))).unwrap();
        let (rest, parsed) = X509CertificationRequest::from_der(&der).unwrap();
        assert!(rest.is_empty());
        parsed.verify_signature().unwrap();
        let info = &parsed.certification_request_info;
        assert_eq!(
            Name::read(&info.subject).to_string(),
            "C=NO, O=Fiktiv Sjøfart AS, organizationIdentifier=NTRNO-991825827, CN=Segl i Bjørnafjorden"
        );
        assert_eq!(RsaPublicKey::from_spki(info.subject_pki.raw).unwrap(), pair.public_key());
        assert!(CertificateRequest::pem(&der).starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
    }

    #[test]
    fn a_signature_made_elsewhere_and_later_finishes_the_same_request() {
        let [pair, _] = Pair::shared();
        let message = request().to_be_signed(&pair.public_key(), Algorithm::RS256).unwrap();
        let signature = pair.sign(&message);
        let der = request()
            .to_der(&pair.public_key(), Algorithm::RS256, |asked| {
                assert_eq!(asked, message);
                Ok::<_, ()>(signature.clone())
            })
            .unwrap();
        X509CertificationRequest::from_der(&der).unwrap().1.verify_signature().unwrap();
    }

    #[test]
    fn a_signature_by_another_key_is_refused() {
        let [pair, other] = Pair::shared();
        let result =
            request().to_der(&pair.public_key(), Algorithm::RS256, |m| Ok::<_, String>(other.sign(m)));
        assert_eq!(result, Err(RequestError::WrongSignature));
    }

    #[test]
    fn the_signers_own_error_comes_through() {
        let [pair, _] = Pair::shared();
        let result = request().to_der(&pair.public_key(), Algorithm::RS256, |_| Err("the card is out"));
        assert_eq!(result, Err(RequestError::Sign("the card is out")));
    }

    #[test]
    fn what_cannot_stand_in_a_request_is_refused_by_field() {
        let [pair, _] = Pair::shared();
        let attempt = |request: CertificateRequest, algorithm| {
            request.to_der(&pair.public_key(), algorithm, |m| Ok::<_, ()>(pair.sign(m))).unwrap_err()
        };
        for country in ["no", "NOR", "", "N\u{d8}"] {
            let odd = CertificateRequest { country: country.into(), ..request() };
            assert!(matches!(attempt(odd, Algorithm::RS256), RequestError::Subject { field: "country", .. }));
        }
        let empty = CertificateRequest { common_name: " ".into(), ..request() };
        assert!(matches!(
            attempt(empty, Algorithm::RS256),
            RequestError::Subject { field: "common name", .. }
        ));
        assert_eq!(attempt(request(), Algorithm::PS256), RequestError::Algorithm(Algorithm::PS256));
    }
}
