//! eSeals on a USB token or card: what they ask for beyond an ordinary key in a device.
//!
//! A qualified seal is made to be used with a person's knowledge: many devices want a PIN for each signature (PKCS#11 2.40
//! section 4.9, `CKA_ALWAYS_AUTHENTICATE`), some a second one, and some take it from their own keys only. A broker that
//! runs by night has to know before the first signature whether it can make one. And who checks a seal needs the whole
//! chain: European issuers are not in Maskinporten's list of authorities by their intermediate certificates.

use std::{sync::Arc, time::Duration};

use crate::{
    call::Call,
    certificate::Chain,
    clock::BoxFuture,
    sign::{
        Error, Health, Key, MakeMessage, Pkcs11Signer, Signed, Signer, Sought,
        pkcs11::{
            DeviceDescription, KeyDescription, ModuleDescription, Pin,
            profile::{AlwaysAuth, ContextPin, LoginMode, Profile, ProtectedPath},
        },
    },
};

/// Signs with an eSeal in a device, and gives out its chain only whole.
#[derive(Clone, Debug)]
pub struct EsealSigner(Arc<Pkcs11Signer>);

impl EsealSigner {
    /// The seal whose key `signer` holds. Its device's PIN may have another one for signatures
    /// ([`Pin::with_signature_pin`]). Touches nothing.
    #[must_use]
    pub fn new(signer: Pkcs11Signer) -> Self {
        Self(Arc::new(signer))
    }

    /// Whether the seal can sign with nobody there. Looks at the device without logging in first, and then logged in:
    /// many hide their keys until then. Nothing is signed.
    ///
    /// # Errors
    /// [`Error::Attended`] with the reason when a person would have to do something at each start or signature; otherwise
    /// what the device says.
    pub async fn check_unattended(&self, call: &Call) -> Result<(), Error> {
        let device = self.0.device();
        let profile = device.profile()?;
        let uri = device.uri();
        let attended = |obstacle: Obstacle| obstacle.on(&uri.device().to_string());
        if let Some(obstacle) = obstacle_of_pin(device.pin()) {
            return Err(attended(obstacle));
        }
        let shown = device.describe_as_found(call).await?;
        let found = the_one(&shown, |it| it.initialized && it.is_named_by(uri));
        let found = found.ok_or_else(|| Error::NotFound {
            sought: Sought::Device,
            uri: uri.device().to_string(),
            candidates: devices(&shown).map(|device| device.uri.to_string()).collect(),
        })?;
        if let Some(obstacle) =
            obstacle_of_device(&profile, found.login_required, found.pin_pad, device.pin())
        {
            return Err(attended(obstacle));
        }
        // What stands in the way of signing at all is said in its own words.
        let key = self.0.key(call).await?;
        let shown = device.describe(call).await?;
        let of_key = shown.slots.iter().flat_map(|slot| &slot.keys).find(|it| {
            it.private && it.spki.is_some() && it.spki.as_deref() == key.public_key.to_spki().ok().as_deref()
        });
        obstacle_of_key(&profile, of_key, device.pin()).map_or(Ok(()), |obstacle| Err(attended(obstacle)))
    }

    async fn whole_chain(&self, call: &Call) -> Result<Chain, Error> {
        let chain = self.0.chain(call).await?;
        check_whole(&chain)?;
        Ok(chain)
    }
}

impl Signer for EsealSigner {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        self.0.key(call)
    }

    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        self.0.sign(call, make)
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(self.whole_chain(call))
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn pauses(&self) -> (Duration, Duration) {
        self.0.pauses()
    }
}

/// What a seal's chain must be before anything is signed with it: whole, and with an identifier of the business.
pub(super) fn check_chain(chain: &Chain) -> Result<(), Error> {
    check_whole(chain)?;
    let leaf = chain.leaf();
    let identifier = leaf.identifier().ok_or_else(|| {
        Error::Certificate(format!(
            "{} has no organizationIdentifier such as VATSE-556012345601, and Maskinporten knows the holder of a seal by \
             nothing else",
            leaf.subject()
        ))
    })?;
    if identifier.is_norwegian() {
        tracing::warn!(
            %identifier,
            "a Norwegian organisation signs with an eSeal: Digdir describes that way for foreign businesses, and scopes \
             of Norwegian organisations are not given to seals"
        );
    }
    Ok(())
}

fn check_whole(chain: &Chain) -> Result<(), Error> {
    chain.missing_issuer().map_or(Ok(()), |issuer| Err(Error::IncompleteChain { issuer }))
}

/// Why a person would have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// A PIN is asked for at the terminal.
    Typed,
    /// The PIN is typed on the device or its reader.
    PinPad,
    /// There is no PIN for the login.
    NoPin,
    /// There is no PIN for the signatures.
    NoSignaturePin,
}

impl Obstacle {
    fn on(self, device: &str) -> Error {
        let (reason, remedy) = match self {
            Self::Typed => (
                "its PIN is asked of a person (prompt)",
                "Give pin and sign_pin as credential:NAME, file:PATH or exec:COMMAND, without prompt.",
            ),
            Self::PinPad => (
                "its PIN is typed on the device itself",
                "Use a device or reader without keys; where it takes a PIN from the computer too, set protected_path = \
                 \"never\" in its profile.",
            ),
            Self::NoPin => {
                ("it needs a PIN and none is configured", "Set pin on the signer; `segl pin set` keeps it.")
            }
            Self::NoSignaturePin => (
                "its key asks for a PIN at each signature, and none is configured for that",
                "Set sign_pin on the signer; `segl pin set --sign-pin` keeps it.",
            ),
        };
        Error::Attended { device: device.to_owned(), reason: reason.to_owned(), remedy: remedy.to_owned() }
    }
}

fn obstacle_of_pin(pin: Option<&Pin>) -> Option<Obstacle> {
    pin.is_some_and(Pin::is_typed).then_some(Obstacle::Typed)
}

fn obstacle_of_device(
    profile: &Profile,
    login_required: bool,
    pin_pad: bool,
    pin: Option<&Pin>,
) -> Option<Obstacle> {
    let needs_login = match profile.login.mode {
        LoginMode::Auto => login_required,
        LoginMode::Always => true,
        LoginMode::None => false,
    };
    let has_pad = match profile.login.protected_path {
        ProtectedPath::Auto => pin_pad,
        ProtectedPath::Always => true,
        ProtectedPath::Never => false,
    };
    match (has_pad, pin) {
        (true, _) => Some(Obstacle::PinPad),
        (false, None) if needs_login => Some(Obstacle::NoPin),
        _ => None,
    }
}

fn obstacle_of_key(profile: &Profile, key: Option<&KeyDescription>, pin: Option<&Pin>) -> Option<Obstacle> {
    let asks = match profile.sign.always_auth {
        AlwaysAuth::Attribute => key.is_some_and(|key| key.always_authenticate == Some(true)),
        AlwaysAuth::Yes => true,
        AlwaysAuth::No => false,
    };
    let has_one =
        pin.is_some_and(|pin| pin.has_signature_pin() || profile.sign.context_pin == ContextPin::Same);
    (asks && !has_one).then_some(Obstacle::NoSignaturePin)
}

fn devices(shown: &ModuleDescription) -> impl Iterator<Item = &DeviceDescription> {
    shown.slots.iter().filter_map(|slot| slot.device.as_ref()).filter(|device| device.initialized)
}

fn the_one(
    shown: &ModuleDescription,
    wanted: impl Fn(&DeviceDescription) -> bool,
) -> Option<DeviceDescription> {
    let mut found = devices(shown).filter(|device| wanted(device));
    found.next().filter(|_| found.next().is_none()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Pin {
        Pin::new(|| Ok(Some("1234".to_owned().into())))
    }

    fn typed() -> Pin {
        Pin::asking(true, |_| Err(crate::sign::PinProblem::Missing))
    }

    fn profile(changes: impl FnOnce(&mut Profile)) -> Profile {
        let mut profile = Profile::unknown();
        changes(&mut profile);
        profile
    }

    #[test]
    fn a_pin_that_a_person_types_is_no_pin_for_the_night() {
        assert_eq!(obstacle_of_pin(Some(&stored())), None);
        assert_eq!(obstacle_of_pin(Some(&typed())), Some(Obstacle::Typed));
        assert_eq!(obstacle_of_pin(Some(&stored().with_signature_pin(&typed()))), Some(Obstacle::Typed));
        assert_eq!(obstacle_of_pin(None), None);
    }

    #[test]
    fn a_pin_pad_is_refused_whatever_is_configured_unless_the_profile_knows_better() {
        let usual = Profile::unknown();
        let of = |profile: &Profile, pad, pin: Option<&Pin>| obstacle_of_device(profile, true, pad, pin);
        assert_eq!(of(&usual, true, Some(&stored())), Some(Obstacle::PinPad));
        assert_eq!(of(&usual, true, None), Some(Obstacle::PinPad));
        let never = profile(|profile| profile.login.protected_path = ProtectedPath::Never);
        assert_eq!(of(&never, true, Some(&stored())), None);
        let always = profile(|profile| profile.login.protected_path = ProtectedPath::Always);
        assert_eq!(of(&always, false, Some(&stored())), Some(Obstacle::PinPad));
    }

    #[test]
    fn a_device_that_wants_a_login_needs_a_pin() {
        let usual = Profile::unknown();
        assert_eq!(obstacle_of_device(&usual, true, false, None), Some(Obstacle::NoPin));
        assert_eq!(obstacle_of_device(&usual, false, false, None), None);
        let none = profile(|profile| profile.login.mode = LoginMode::None);
        assert_eq!(obstacle_of_device(&none, true, false, None), None);
    }

    #[test]
    fn a_key_that_asks_at_each_signature_needs_a_pin_for_that() {
        let separate = profile(|profile| {
            profile.sign.always_auth = AlwaysAuth::Yes;
            profile.sign.context_pin = ContextPin::Separate;
        });
        let both = stored().with_signature_pin(&stored());
        assert_eq!(obstacle_of_key(&separate, None, Some(&stored())), Some(Obstacle::NoSignaturePin));
        assert_eq!(obstacle_of_key(&separate, None, Some(&both)), None);
        let same = profile(|profile| profile.sign.always_auth = AlwaysAuth::Yes);
        assert_eq!(obstacle_of_key(&same, None, Some(&stored())), None, "the PIN of the login serves");
        assert_eq!(obstacle_of_key(&same, None, None), Some(Obstacle::NoSignaturePin));
        assert_eq!(obstacle_of_key(&Profile::unknown(), None, None), None, "it does not ask");
    }

    #[test]
    fn every_obstacle_is_said_with_what_to_do() {
        for obstacle in [Obstacle::Typed, Obstacle::PinPad, Obstacle::NoPin, Obstacle::NoSignaturePin] {
            let error = obstacle.on("pkcs11:token=seal");
            assert!(error.to_string().starts_with("pkcs11:token=seal cannot sign unattended: "), "{error}");
            assert!(!error.remedy().is_empty());
        }
    }
}
