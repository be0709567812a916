//! PKCS#11 through the `cryptoki` crate, which has its own care for pointers and lengths.
//!
//! Where that falls short, [`raw`](super::raw) does the call, on the same library and the same sessions: C_Initialize
//! with a reserved string or without locking; C_Sign by itself, so that a login may come before it; lists, for whose
//! lengths the crate takes the library's word, without the mechanisms that it does not know; what it cannot convert.
//! And attributes: with one value that it cannot convert the crate gives none, it asks two or three times for each,
//! and it reads as many bytes as the library says it wrote, room or not.

mod failure;

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::Error,
    mechanism::Mechanism as CryptokiMechanism,
    object::Attribute as CryptokiAttribute,
    session::{SessionState as CryptokiState, UserType},
    slot::{Limit as CryptokiLimit, Slot as CryptokiSlot, TokenInfo},
    types::Version as CryptokiVersion,
};
use cryptoki_sys::CK_ATTRIBUTE;
use secrecy::SecretString;

use super::{
    Access, Attribute, AttributeType, DeviceInfo, Failure, InitializeArguments, LibraryInfo, Limit,
    MechanismInfo, Object, Session, SessionState, Slot, SlotInfo, User, Version,
    mechanism::Mechanism,
    pin_length,
    raw::{self, object_handle},
    text,
};

/// So many objects are asked for at once.
const BATCH: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// A library, driven by the crate.
pub(super) struct Library {
    context: Pkcs11,
    raw: Arc<raw::Library>,
}

/// A session, closed when it is dropped.
struct Open {
    session: cryptoki::session::Session,
    /// The same session.
    raw: raw::Handle,
}

impl Library {
    /// The library at `path`, which `raw` has loaded already.
    ///
    /// # Errors
    /// Why the crate cannot drive it, or not together with `raw`.
    pub(super) fn load(path: &Path, raw: Arc<raw::Library>) -> Result<Self, String> {
        let context = Pkcs11::new(path).map_err(|why| why.to_string())?;
        if !raw.is_shared()? {
            return Err("it gives each of its users functions of their own".into());
        }
        Ok(Self { context, raw })
    }
}

impl super::Library for Library {
    fn initialize(&self, arguments: &InitializeArguments) -> Result<(), Failure> {
        if arguments.reserved.is_some() || !arguments.os_locking {
            return self.raw.initialize(arguments);
        }
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        self.context.initialize(arguments).map_err(failure::of("C_Initialize"))
    }

    fn finalize(&self) -> Result<(), Failure> {
        self.context.clone().finalize().map_err(failure::of("C_Finalize"))
    }

    fn info(&self) -> Result<LibraryInfo, Failure> {
        match self.context.get_library_info() {
            Ok(info) => Ok(LibraryInfo {
                manufacturer: text(info.manufacturer_id().as_bytes()),
                description: text(info.library_description().as_bytes()),
                version: version(info.library_version()),
                cryptoki: version(info.cryptoki_version()),
            }),
            // It has flags, which should be 0.
            Err(Error::InvalidValue) => self.raw.info(),
            Err(why) => Err(failure::of("C_GetInfo")(why)),
        }
    }

    fn slots(&self) -> Result<Vec<Slot>, Failure> {
        self.raw.slots()
    }

    fn slot_info(&self, slot: Slot) -> Result<SlotInfo, Failure> {
        let info = self.context.get_slot_info(known(slot)?).map_err(failure::of("C_GetSlotInfo"))?;
        Ok(SlotInfo {
            manufacturer: text(info.manufacturer_id().as_bytes()),
            description: text(info.slot_description().as_bytes()),
            removable: info.removable_device(),
        })
    }

    fn device_info(&self, slot: Slot) -> Result<DeviceInfo, Failure> {
        match self.context.get_token_info(known(slot)?) {
            Ok(info) => Ok(device(&info)),
            Err(why @ (Error::Pkcs11(..) | Error::NullFunctionPointer)) => {
                Err(failure::of("C_GetTokenInfo")(why))
            }
            // Its clock, most often, shows no time.
            Err(_) => self.raw.device_info(slot),
        }
    }

    fn mechanisms(&self, slot: Slot) -> Result<Vec<u64>, Failure> {
        self.raw.mechanisms(slot)
    }

    fn mechanism_info(&self, slot: Slot, mechanism: u64) -> Result<MechanismInfo, Failure> {
        // The crate does not give the flags as a number.
        self.raw.mechanism_info(slot, mechanism)
    }

    fn initialize_device(&self, slot: Slot, so_pin: &SecretString, label: &str) -> Result<(), Failure> {
        if label.len() > 32 {
            // The crate would cut it off.
            return Err(Failure::Unusable {
                function: "C_InitToken",
                problem: "the label has more than 32 bytes".into(),
            });
        }
        self.context.init_token(known(slot)?, so_pin, label).map_err(failure::of("C_InitToken"))
    }

    fn open(&self, slot: Slot, access: Access) -> Result<Box<dyn Session>, Failure> {
        let slot = known(slot)?;
        let session = match access {
            Access::ReadOnly => self.context.open_ro_session(slot),
            Access::ReadWrite => self.context.open_rw_session(slot),
        }
        .map_err(failure::of("C_OpenSession"))?;
        let raw = self.raw.session(session.handle());
        Ok(Box::new(Open { session, raw }))
    }
}

impl Session for Open {
    fn state(&self) -> Result<SessionState, Failure> {
        match self.session.get_session_info() {
            Ok(info) => Ok(match info.session_state() {
                CryptokiState::RoPublic | CryptokiState::RwPublic => SessionState::Public,
                CryptokiState::RoUser | CryptokiState::RwUser => SessionState::User,
                CryptokiState::RwSecurityOfficer => SessionState::SecurityOfficer,
            }),
            Err(Error::InvalidValue) => Ok(SessionState::Unknown),
            Err(why) => Err(failure::of("C_GetSessionInfo")(why)),
        }
    }

    fn login(&self, user: User, pin: Option<&SecretString>) -> Result<(), Failure> {
        let user = match user {
            User::SecurityOfficer => UserType::So,
            User::User => UserType::User,
            User::ContextSpecific => UserType::ContextSpecific,
            User::Vendor(number) => UserType::VendorExtension(number),
        };
        self.session.login(user, pin).map_err(failure::of("C_Login"))
    }

    fn logout(&self) -> Result<(), Failure> {
        self.session.logout().map_err(failure::of("C_Logout"))
    }

    fn initialize_pin(&self, pin: &SecretString) -> Result<(), Failure> {
        self.session.init_pin(pin).map_err(failure::of("C_InitPIN"))
    }

    fn find(&self, template: &[Attribute], most: usize) -> Result<Vec<Object>, Failure> {
        let template = converted(template, "C_FindObjectsInit")?;
        self.session
            .iter_objects_with_cache_size(&template, BATCH)
            .and_then(|found| found.take(most).map(|object| Ok(Object(object?.handle()))).collect())
            .map_err(failure::of("C_FindObjects"))
    }

    fn attributes(&self, object: Object, wanted: &[AttributeType]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        self.raw.attributes(object, wanted)
    }

    fn create(&self, template: &[Attribute]) -> Result<Object, Failure> {
        let template = converted(template, "C_CreateObject")?;
        let object = self.session.create_object(&template).map_err(failure::of("C_CreateObject"))?;
        Ok(Object(object.handle()))
    }

    fn destroy(&self, object: Object) -> Result<(), Failure> {
        self.session.destroy_object(object_handle(object)).map_err(failure::of("C_DestroyObject"))
    }

    fn generate_rsa_pair(
        &self,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(Object, Object), Failure> {
        const FUNCTION: &str = "C_GenerateKeyPair";
        let (public, private) = (converted(public, FUNCTION)?, converted(private, FUNCTION)?);
        let (public, private) = self
            .session
            .generate_key_pair(&CryptokiMechanism::RsaPkcsKeyPairGen, &public, &private)
            .map_err(failure::of(FUNCTION))?;
        Ok((Object(public.handle()), Object(private.handle())))
    }

    fn random(&self) -> Result<[u8; 8], Failure> {
        let mut random = [0; 8];
        self.session.generate_random_slice(&mut random).map_err(failure::of("C_GenerateRandom"))?;
        Ok(random)
    }

    fn sign_init(&self, mechanism: Mechanism, key: Object) -> Result<(), Failure> {
        let mechanism = match mechanism {
            Mechanism::RsaPkcs => CryptokiMechanism::RsaPkcs,
            Mechanism::Sha256RsaPkcs => CryptokiMechanism::Sha256RsaPkcs,
            Mechanism::Sha384RsaPkcs => CryptokiMechanism::Sha384RsaPkcs,
            Mechanism::Sha512RsaPkcs => CryptokiMechanism::Sha512RsaPkcs,
        };
        self.session.sign_init(&mechanism, object_handle(key)).map_err(failure::of("C_SignInit"))
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Failure> {
        self.raw.sign(data)
    }
}

fn known(slot: Slot) -> Result<CryptokiSlot, Failure> {
    CryptokiSlot::try_from(slot.0).map_err(failure::of("C_GetSlotList"))
}

/// A template in the crate's types, by its own reading of the values.
fn converted(template: &[Attribute], function: &'static str) -> Result<Vec<CryptokiAttribute>, Failure> {
    let convert = |attribute: &Attribute| {
        let row = CK_ATTRIBUTE {
            type_: attribute.kind.number(),
            pValue: attribute.value.as_ptr().cast_mut().cast(),
            ulValueLen: attribute.value.len() as u64,
        };
        CryptokiAttribute::try_from(row).map_err(failure::of(function))
    };
    template.iter().map(convert).collect()
}

fn device(info: &TokenInfo) -> DeviceInfo {
    // The crate does not give the flags as a number.
    let flags = [
        (info.rng(), cryptoki_sys::CKF_RNG),
        (info.write_protected(), cryptoki_sys::CKF_WRITE_PROTECTED),
        (info.login_required(), cryptoki_sys::CKF_LOGIN_REQUIRED),
        (info.user_pin_initialized(), cryptoki_sys::CKF_USER_PIN_INITIALIZED),
        (info.restore_key_not_needed(), cryptoki_sys::CKF_RESTORE_KEY_NOT_NEEDED),
        (info.clock_on_token(), cryptoki_sys::CKF_CLOCK_ON_TOKEN),
        (info.protected_authentication_path(), cryptoki_sys::CKF_PROTECTED_AUTHENTICATION_PATH),
        (info.dual_crypto_operations(), cryptoki_sys::CKF_DUAL_CRYPTO_OPERATIONS),
        (info.token_initialized(), cryptoki_sys::CKF_TOKEN_INITIALIZED),
        (info.secondary_authentication(), cryptoki_sys::CKF_SECONDARY_AUTHENTICATION),
        (info.user_pin_count_low(), cryptoki_sys::CKF_USER_PIN_COUNT_LOW),
        (info.user_pin_final_try(), cryptoki_sys::CKF_USER_PIN_FINAL_TRY),
        (info.user_pin_locked(), cryptoki_sys::CKF_USER_PIN_LOCKED),
        (info.user_pin_to_be_changed(), cryptoki_sys::CKF_USER_PIN_TO_BE_CHANGED),
        (info.so_pin_count_low(), cryptoki_sys::CKF_SO_PIN_COUNT_LOW),
        (info.so_pin_final_try(), cryptoki_sys::CKF_SO_PIN_FINAL_TRY),
        (info.so_pin_locked(), cryptoki_sys::CKF_SO_PIN_LOCKED),
        (info.so_pin_to_be_changed(), cryptoki_sys::CKF_SO_PIN_TO_BE_CHANGED),
        (info.error_state(), cryptoki_sys::CKF_ERROR_STATE),
    ];
    DeviceInfo {
        label: text(info.label().as_bytes()),
        manufacturer: text(info.manufacturer_id().as_bytes()),
        model: text(info.model().as_bytes()),
        serial: text(info.serial_number().as_bytes()),
        flags: flags.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag),
        max_sessions: limit(info.max_session_count()),
        sessions: info.session_count().map_or(Limit::Unknown, Limit::Most),
        max_rw_sessions: limit(info.max_rw_session_count()),
        rw_sessions: info.rw_session_count().map_or(Limit::Unknown, Limit::Most),
        pin_length: pin_length(info.min_pin_length() as u64, info.max_pin_length() as u64),
        hardware: version(info.hardware_version()),
        firmware: version(info.firmware_version()),
    }
}

fn limit(limit: CryptokiLimit) -> Limit {
    match limit {
        CryptokiLimit::Max(number) => Limit::Most(number),
        CryptokiLimit::Unavailable => Limit::Unknown,
        CryptokiLimit::Infinite => Limit::Unlimited,
    }
}

fn version(version: CryptokiVersion) -> Version {
    Version { major: version.major(), minor: version.minor() }
}
