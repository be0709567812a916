//! A library that answers what a test wants: one device, one RSA key, and an outcome for each call.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use secrecy::SecretString;

use super::{
    Access, Attribute, AttributeType, DeviceInfo, Failure, InitializeArguments, LibraryInfo, Limit,
    Mechanism, MechanismInfo, Object, ObjectClass, Session, SessionState, Slot, SlotInfo, User, Version,
};

/// What one call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Outcome {
    Well,
    /// This code, and nothing is done.
    Answers(u64),
    /// The library dies in it: it never answers, and nothing after it does either.
    Dies,
}

/// The library.
#[derive(Clone, Default)]
pub(in super::super) struct Fake(Arc<Mutex<Inside>>);

#[derive(Default)]
pub(in super::super) struct Inside {
    /// For the next calls but C_Login; all is well when there are no more.
    pub(in super::super) calls: VecDeque<Outcome>,
    /// For the next calls of C_Login.
    pub(in super::super) logins: VecDeque<Outcome>,
    /// For every call, as long as it is there.
    pub(in super::super) always: Option<u64>,
    /// Keys ask for a login at each signature.
    pub(in super::super) always_authenticate: bool,
    /// The function of the last call that died.
    pub(in super::super) dead: Option<&'static str>,
    /// Every call, in order.
    pub(in super::super) made: Vec<&'static str>,
    /// How each C_Login ended: who, and the code.
    pub(in super::super) log: Vec<(User, Option<u64>)>,
    pub(in super::super) logged_in: bool,
    /// Another device of the same label has taken its place.
    pub(in super::super) is_another: bool,
    sessions: usize,
    inside: usize,
    /// C_Finalize came while another call was on its way.
    pub(in super::super) was_finalized_in_use: bool,
}

/// `CKR_GENERAL_ERROR`: what a dead library is taken to say.
const DEAD: u64 = 0x05;

/// `CKR_USER_NOT_LOGGED_IN`
const NOT_LOGGED_IN: u64 = 0x101;

impl Fake {
    pub(in super::super) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    /// How often `function` was called.
    pub(in super::super) fn count(&self, function: &str) -> usize {
        self.inside().made.iter().filter(|made| **made == function).count()
    }

    /// A new process: what was dead is alive.
    pub(in super::super) fn restart(&self) {
        let mut inside = self.inside();
        inside.dead = None;
        inside.logged_in = false;
        inside.sessions = 0;
    }

    fn call(&self, function: &'static str) -> Result<MutexGuard<'_, Inside>, Failure> {
        let mut inside = self.inside();
        inside.made.push(function);
        let outcome = inside.calls.pop_front().unwrap_or(Outcome::Well);
        inside.after(function, outcome)?;
        Ok(inside)
    }
}

impl Inside {
    fn after(&mut self, function: &'static str, outcome: Outcome) -> Result<(), Failure> {
        if self.dead.is_some() {
            return Err(Failure::Answered { function, code: DEAD });
        }
        match (self.always, outcome) {
            (Some(code), _) | (None, Outcome::Answers(code)) => Err(Failure::Answered { function, code }),
            (None, Outcome::Well) => Ok(()),
            (None, Outcome::Dies) => {
                self.dead = Some(function);
                Err(Failure::Answered { function, code: DEAD })
            }
        }
    }
}

pub(in super::super) fn pair() -> &'static KeyPair {
    static PAIR: OnceLock<KeyPair> = OnceLock::new();
    PAIR.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).unwrap())
}

const VERSION: Version = Version { major: 1, minor: 0 };

impl super::Library for Fake {
    fn initialize(&self, _: &InitializeArguments) -> Result<(), Failure> {
        self.call("C_Initialize").map(drop)
    }

    fn finalize(&self) -> Result<(), Failure> {
        let mut inside = self.call("C_Finalize")?;
        inside.was_finalized_in_use |= inside.inside > 0;
        inside.logged_in = false;
        Ok(())
    }

    fn info(&self) -> Result<LibraryInfo, Failure> {
        self.call("C_GetInfo").map(|_| LibraryInfo {
            manufacturer: "made up".into(),
            description: "made up".into(),
            version: VERSION,
            cryptoki: VERSION,
        })
    }

    fn slots(&self) -> Result<Vec<Slot>, Failure> {
        self.call("C_GetSlotList").map(|_| vec![Slot(1)])
    }

    fn slot_info(&self, _: Slot) -> Result<SlotInfo, Failure> {
        self.call("C_GetSlotInfo").map(|_| SlotInfo {
            manufacturer: "made up".into(),
            description: "made up".into(),
            removable: false,
        })
    }

    fn device_info(&self, _: Slot) -> Result<DeviceInfo, Failure> {
        self.call("C_GetTokenInfo").map(|inside| DeviceInfo {
            label: "ci".into(),
            manufacturer: "made up".into(),
            model: "made up".into(),
            serial: if inside.is_another { "2" } else { "1" }.into(),
            // Initialized, has a PIN, wants a login.
            flags: 0x40c,
            max_sessions: Limit::Unlimited,
            sessions: Limit::Unknown,
            max_rw_sessions: Limit::Unlimited,
            rw_sessions: Limit::Unknown,
            pin_length: (4, 8),
            hardware: VERSION,
            firmware: VERSION,
        })
    }

    fn mechanisms(&self, _: Slot) -> Result<Vec<u64>, Failure> {
        self.call("C_GetMechanismList").map(|_| vec![Mechanism::Sha256RsaPkcs.number()])
    }

    fn mechanism_info(&self, _: Slot, _: u64) -> Result<MechanismInfo, Failure> {
        self.call("C_GetMechanismInfo").map(|_| MechanismInfo { key_size: (2048, 4096), flags: 0 })
    }

    fn initialize_device(&self, _: Slot, _: &SecretString, _: &str) -> Result<(), Failure> {
        self.call("C_InitToken").map(drop)
    }

    fn open(&self, _: Slot, _: Access) -> Result<Box<dyn Session>, Failure> {
        self.call("C_OpenSession")?.sessions += 1;
        Ok(Box::new(Open(self.clone())))
    }
}

struct Open(Fake);

impl Drop for Open {
    fn drop(&mut self) {
        let mut inside = self.0.inside();
        inside.sessions = inside.sessions.saturating_sub(1);
        // With the last session the login ends (PKCS#11 2.40, C_CloseSession).
        inside.logged_in &= inside.sessions > 0;
    }
}

impl Session for Open {
    fn state(&self) -> Result<SessionState, Failure> {
        let inside = self.0.call("C_GetSessionInfo")?;
        Ok(if inside.logged_in { SessionState::User } else { SessionState::Public })
    }

    fn login(&self, user: User, _: Option<&SecretString>) -> Result<(), Failure> {
        let mut inside = self.0.inside();
        inside.made.push("C_Login");
        let outcome = inside.logins.pop_front().unwrap_or(Outcome::Well);
        let ended = inside.after("C_Login", outcome);
        let code = match &ended {
            Err(Failure::Answered { code, .. }) => Some(*code),
            _ => None,
        };
        inside.log.push((user, code));
        inside.logged_in |= ended.is_ok();
        ended
    }

    fn logout(&self) -> Result<(), Failure> {
        self.0.call("C_Logout")?.logged_in = false;
        Ok(())
    }

    fn initialize_pin(&self, _: &SecretString) -> Result<(), Failure> {
        self.0.call("C_InitPIN").map(drop)
    }

    fn find(&self, template: &[Attribute], _: usize) -> Result<Vec<Object>, Failure> {
        let inside = self.0.call("C_FindObjects")?;
        let is_private = template.contains(&Attribute::class(ObjectClass::PrivateKey));
        Ok(if is_private && inside.logged_in { vec![Object(1)] } else { Vec::new() })
    }

    fn attributes(&self, _: Object, wanted: &[AttributeType]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let always_authenticate = self.0.call("C_GetAttributeValue")?.always_authenticate;
        let public = pair().public_key();
        let value = |kind: &AttributeType| match kind {
            AttributeType::Label => Some(b"grant".to_vec()),
            AttributeType::KeyType => Some(Attribute::number(*kind, 0).value),
            AttributeType::Sign => Some(vec![1]),
            AttributeType::AlwaysAuthenticate => Some(vec![u8::from(always_authenticate)]),
            AttributeType::Modulus => Some(public.modulus().big_endian_without_leading_zero().to_vec()),
            AttributeType::PublicExponent => {
                Some(public.exponent().big_endian_without_leading_zero().to_vec())
            }
            _ => None,
        };
        Ok(wanted.iter().map(value).collect())
    }

    fn create(&self, _: &[Attribute]) -> Result<Object, Failure> {
        self.0.call("C_CreateObject").map(|_| Object(2))
    }

    fn destroy(&self, _: Object) -> Result<(), Failure> {
        self.0.call("C_DestroyObject").map(drop)
    }

    fn generate_rsa_pair(&self, _: &[Attribute], _: &[Attribute]) -> Result<(Object, Object), Failure> {
        self.0.call("C_GenerateKeyPair").map(|_| (Object(3), Object(4)))
    }

    fn random(&self) -> Result<[u8; 8], Failure> {
        self.0.call("C_GenerateRandom").map(|_| [4; 8])
    }

    fn sign_init(&self, _: Mechanism, _: Object) -> Result<(), Failure> {
        match self.0.call("C_SignInit")?.logged_in {
            true => Ok(()),
            false => Err(Failure::Answered { function: "C_SignInit", code: NOT_LOGGED_IN }),
        }
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Failure> {
        self.0.call("C_Sign")?.inside += 1;
        let mut signature = vec![0; pair().public_modulus_len()];
        pair().sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).unwrap();
        self.0.inside().inside -= 1;
        Ok(signature)
    }
}
