//! A signing key on a device: found, checked, and asked for signatures.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

use aws_lc_rs::signature::ParsedPublicKey;

use super::{
    Uri,
    authenticate::{asks_for_no_pin, is_logged_in, try_login},
    calls::{AttributeType, Failure, KeyType, Mechanism, Object, User},
    code::{answered, is},
    find,
    job::{FoundKey, KeyQuery},
    ladder::refuses_mechanism,
    login::{Login, LoginRequest, Logins},
    mechanism::Hash,
    object::{self, Values},
    profile::{AlwaysAuth, ContextLogin, SignForm as Form},
    session::Connection,
};
use crate::sign::{Error, PinProblem, verify};

/// A private key that was found, with all that is needed to sign with it.
pub(super) struct SigningKey {
    connection: Arc<Connection>,
    uri: Uri,
    spki: Vec<u8>,
    handle: Object,
    hash: Hash,
    verifier: ParsedPublicKey,
    ladder: Vec<Form>,
    /// Position in the ladder of the form that signed last, and was seen to sign rightly; [`UNSETTLED`] before.
    settled: AtomicU8,
    /// The device wants a login between C_SignInit and C_Sign.
    always_authenticate: AtomicBool,
}

const UNSETTLED: u8 = u8::MAX;

/// What is read of a private key before it is used.
const USE: &[AttributeType] = &[
    AttributeType::KeyType,
    AttributeType::Sign,
    AttributeType::AlwaysAuthenticate,
    AttributeType::AllowedMechanisms,
];

/// Why there is no signature of one form.
pub(super) enum Unsigned {
    /// The form is not for this key: the next one may be.
    Form(Error),
    /// Something else.
    Other(Error),
}

impl SigningKey {
    /// Finds exactly one private key that `query` names, and its public half.
    pub(super) fn find(connection: Arc<Connection>, query: &KeyQuery) -> Result<Self, Error> {
        let key = Self::locate(connection, query)?;
        if key.ladder.is_empty() {
            let reason =
                format!("the device does not let it sign {} (CKA_ALLOWED_MECHANISMS)", query.algorithm);
            return Err(Error::UnusableKey { key: key.uri.to_string(), reason });
        }
        Ok(key)
    }

    /// The same, though it may be allowed no form of signature.
    pub(super) fn locate(connection: Arc<Connection>, query: &KeyQuery) -> Result<Self, Error> {
        let hash = Hash::of(query.algorithm)?;
        let profile = connection.profile.clone();
        let keeper = connection.keeper();
        let session = keeper.as_ref();
        let device = connection.device.uri();
        let (handle, uri) = find::private_key(session, &device, &query.uri).map_err(|error| match error {
            Error::NotFound { .. } if connection.has_lost_login(session) => {
                Error::Device { function: "C_FindObjects".into(), code: "CKR_USER_NOT_LOGGED_IN".into() }
            }
            error => error,
        })?;
        let unusable = |reason: String| Error::UnusableKey { key: uri.to_string(), reason };
        let values = object::read(session, handle, USE)?;
        let key_type = values.key_type();
        if key_type != Some(KeyType::RSA) {
            return Err(unusable(format!("its type is {}", object::key_type_name(key_type))));
        }
        if values.flag(AttributeType::Sign) == Some(false) {
            return Err(unusable("the device does not let it sign (CKA_SIGN is false)".into()));
        }
        let public_key = find::public_key_of(session, handle)?
            .ok_or_else(|| unusable("the device shows no public half and no certificate of it".into()))?;
        if public_key.bits() < 2048 {
            return Err(unusable(format!("it has {} bits", public_key.bits())));
        }
        let spki = public_key.to_spki().map_err(|why| unusable(why.to_string()))?;
        let verifier = verify::verifier(query.algorithm, &spki)?;
        let listed = connection.library.mechanisms(connection.slot).unwrap_or_default();
        let allowed = values.allowed_mechanisms();
        let ladder = hash.ladder(&profile.sign.ladder, &listed, allowed.as_deref());
        let always_authenticate = match profile.sign.always_auth {
            AlwaysAuth::Attribute => values.flag(AttributeType::AlwaysAuthenticate) == Some(true),
            AlwaysAuth::Yes => true,
            AlwaysAuth::No => false,
        };
        if always_authenticate && profile.sign.context_login == ContextLogin::Forbidden {
            return Err(unusable(
                "the device asks for a PIN at each signature (CKA_ALWAYS_AUTHENTICATE), and its profile says that \
                 its library does not take one"
                    .into(),
            ));
        }
        drop(keeper);
        Ok(Self {
            connection,
            uri,
            spki,
            handle,
            hash,
            verifier,
            ladder,
            settled: AtomicU8::new(UNSETTLED),
            always_authenticate: AtomicBool::new(always_authenticate),
        })
    }

    /// The key, as far as the world may know it.
    pub(super) fn found(&self, generation: u64) -> FoundKey {
        FoundKey { spki: self.spki.clone(), generation, device: self.connection.device.name() }
    }

    /// The device that holds it.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Whether it has signed since it was found: then a form that is refused now was not.
    pub(super) fn has_signed(&self) -> bool {
        self.settled.load(Ordering::Relaxed) != UNSETTLED
    }

    /// Signs `message`. The first signature of a form is verified here, so that the ladder goes on past a form that
    /// the device does wrongly; all of them are verified where they are used.
    pub(super) fn sign(&self, message: &[u8], logins: &dyn Logins) -> Result<Vec<u8>, Error> {
        let settled = self.settled.load(Ordering::Relaxed);
        if let Some(form) = self.ladder.get(usize::from(settled)) {
            match self.sign_as(*form, message, logins) {
                Ok(signature) => return Ok(signature),
                Err(Unsigned::Other(error)) => return Err(error),
                Err(Unsigned::Form(_)) => {}
            }
        }
        let mut refused = None;
        for (at, form) in self.ladder.iter().enumerate() {
            let outcome = self
                .sign_as(*form, message, logins)
                .and_then(|signature| verified(&self.verifier, message, signature).map_err(Unsigned::Form));
            match outcome {
                Ok(signature) => {
                    self.settled.store(u8::try_from(at).unwrap_or(UNSETTLED), Ordering::Relaxed);
                    return Ok(signature);
                }
                Err(Unsigned::Form(error)) => refused = refused.or(Some(error)),
                Err(Unsigned::Other(error)) => return Err(error),
            }
        }
        // The ladder has at least one form, so something was refused.
        Err(refused.unwrap_or(Error::WrongSignature))
    }

    /// What the device says of its use.
    pub(super) fn uses(&self) -> Result<Values, Error> {
        object::read(self.connection.keeper().as_ref(), self.handle, USE)
    }

    /// The mechanism that a form of its signatures asks for.
    pub(super) fn mechanism(&self, form: Form) -> Mechanism {
        self.hash.mechanism(form)
    }

    /// Whether `signature` is one of this key and message.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify_sig(message, signature).is_ok()
    }

    /// One signature in this form, unverified.
    pub(super) fn sign_as(
        &self,
        form: Form,
        message: &[u8],
        logins: &dyn Logins,
    ) -> Result<Vec<u8>, Unsigned> {
        let authenticate = self.always_authenticate.load(Ordering::Relaxed);
        match self.attempt(form, message, authenticate.then_some(logins)) {
            // Some devices want a PIN at each signature and do not say so of their keys.
            Err(Attempt { error: Ok(why), logged_in: true })
                if !authenticate && is(&why, "CKR_USER_NOT_LOGGED_IN") && self.may_authenticate() =>
            {
                match self.attempt(form, message, Some(logins)) {
                    Ok(signature) => {
                        self.always_authenticate.store(true, Ordering::Relaxed);
                        Ok(signature)
                    }
                    // This one does not: it lost the login and does not know yet.
                    Err(Attempt { error: Err(error), .. }) if takes_no_pin(&error) => {
                        Err(Unsigned::Other(answered(&why)))
                    }
                    Err(attempt) => Err(attempt.into()),
                }
            }
            outcome => outcome.map_err(Unsigned::from),
        }
    }

    fn may_authenticate(&self) -> bool {
        let sign = &self.connection.profile.sign;
        sign.context_login == ContextLogin::Allowed && sign.always_auth != AlwaysAuth::No
    }

    /// C_SignInit, a login for this one signature where it is wanted, C_Sign: nothing may come between them.
    fn attempt(&self, form: Form, message: &[u8], logins: Option<&dyn Logins>) -> Result<Vec<u8>, Attempt> {
        let mut refusal = None;
        let mut logged_in = false;
        let input = self.hash.input(form, message);
        let signed = self.connection.signing(|session| {
            let login = match logins {
                // Asked before the operation begins: nothing may come between its three calls.
                Some(logins) => {
                    let info = self.connection.library.device_info(self.connection.slot)?;
                    Some((logins, LoginRequest::new(&info, Login::Signature)))
                }
                None => None,
            };
            session.sign_init(self.hash.mechanism(form), self.handle)?;
            let _one_at_a_time = login.as_ref().map(|_| self.connection.logging_in());
            if let Some((logins, request)) = login
                && let Err(why) = try_login(session, User::ContextSpecific, &request, logins)
            {
                refusal = Some(why.error);
                // The operation is still active: the session is to go.
                return Err(Failure::Unusable { function: "C_Login", problem: String::new() });
            }
            session.sign(&input).inspect_err(|why| {
                logged_in = is(why, "CKR_USER_NOT_LOGGED_IN") && is_logged_in(session);
            })
        });
        signed.map_err(|why| Attempt { error: refusal.map_or(Ok(why), Err), logged_in })
    }
}

/// An attempt that failed: with what the library answered, or with why there was no login.
struct Attempt {
    error: Result<Failure, Error>,
    /// The device counts us as logged in all the same.
    logged_in: bool,
}

impl From<Attempt> for Unsigned {
    fn from(attempt: Attempt) -> Self {
        match attempt.error {
            Ok(why) if refuses_mechanism(&why) => Self::Form(answered(&why)),
            Ok(why) => Self::Other(answered(&why)),
            Err(error) => Self::Other(error),
        }
    }
}

/// Whether a login for a signature was not made, or failed for another reason than its PIN.
fn takes_no_pin(error: &Error) -> bool {
    match error {
        Error::Pin { problem: PinProblem::Refused(code), .. } => asks_for_no_pin(code),
        Error::Pin { problem, .. } => {
            matches!(problem, PinProblem::Missing | PinProblem::RefusedBefore | PinProblem::CutShort)
        }
        _ => false,
    }
}

/// The signature, unless it is none of this key.
fn verified(verifier: &ParsedPublicKey, message: &[u8], signature: Vec<u8>) -> Result<Vec<u8>, Error> {
    match verifier.verify_sig(message, &signature) {
        Ok(()) => Ok(signature),
        Err(_) => Err(Error::WrongSignature),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::{KeyPair, KeySize},
        signature::{KeyPair as _, RSA_PKCS1_SHA256},
    };

    use super::*;
    use crate::jose::{Algorithm, RsaPublicKey};

    #[test]
    fn a_signature_that_is_not_of_this_key_and_message_does_not_leave() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero();
        let exponent = public.exponent().big_endian_without_leading_zero();
        let spki = RsaPublicKey::new(modulus, exponent).to_spki().unwrap();
        let sha256 = verify::verifier(Algorithm::RS256, &spki).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"message", &mut signature).unwrap();

        assert_eq!(verified(&sha256, b"message", signature.clone()), Ok(signature.clone()));
        assert_eq!(verified(&sha256, b"massage", signature.clone()), Err(Error::WrongSignature));
        let cut = signature[1..].to_vec();
        assert_eq!(verified(&sha256, b"message", cut), Err(Error::WrongSignature));
        assert_eq!(verified(&sha256, b"message", Vec::new()), Err(Error::WrongSignature));
        let sha384 = verify::verifier(Algorithm::RS384, &spki).unwrap();
        assert_eq!(verified(&sha384, b"message", signature), Err(Error::WrongSignature));
    }
}
