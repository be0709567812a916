//! The functions of PKCS#11 that Segl uses, behind one seam: everything else in this folder is written against the two
//! traits here and against plain numbers and bytes.
//!
//! Two implementations: [`cryptoki`], through the crate of that name, and [`raw`], which calls the function list of
//! PKCS#11 2.40 itself. The second is there for what the first cannot do: libraries whose `C_GetInterface` fails
//! though they have it, libraries that want a string in `pReserved`, and a login between `C_SignInit` and `C_Sign`.

mod attribute;
mod code;
mod cryptoki;
#[cfg(test)]
pub(super) mod fake;
mod list;
mod mechanism;
mod raw;
mod values;

#[doc(hidden)]
pub use self::values::attribute_values;
pub(super) use self::{
    attribute::{Attribute, AttributeType, KeyType, ObjectClass, flag_in, number_in, numbers_in},
    code::{name as code_name, names as code_names, of as code_of},
    mechanism::{Mechanism, name as mechanism_name},
};

use std::{fmt, path::Path, sync::Arc};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::job::SessionLimit as Limit;
use crate::sign::Error;

/// A loaded library. It stays loaded until the process ends: unloading leaves some libraries' threads without code.
///
/// Every call blocks and none can be cancelled. Which calls may run at the same time is for the caller to know.
pub(super) trait Library: Send + Sync {
    /// C_Initialize.
    fn initialize(&self, arguments: &InitializeArguments) -> Result<(), Failure>;
    /// C_Finalize. No other call may be on its way.
    fn finalize(&self) -> Result<(), Failure>;
    /// C_GetInfo.
    fn info(&self) -> Result<LibraryInfo, Failure>;
    /// C_GetSlotList of the slots that hold a device.
    fn slots(&self) -> Result<Vec<Slot>, Failure>;
    /// C_GetSlotInfo.
    fn slot_info(&self, slot: Slot) -> Result<SlotInfo, Failure>;
    /// C_GetTokenInfo.
    fn device_info(&self, slot: Slot) -> Result<DeviceInfo, Failure>;
    /// C_GetMechanismList: the numbers (`CKM_…`), known here or not.
    fn mechanisms(&self, slot: Slot) -> Result<Vec<u64>, Failure>;
    /// C_GetMechanismInfo.
    fn mechanism_info(&self, slot: Slot, mechanism: u64) -> Result<MechanismInfo, Failure>;
    /// C_InitToken. The label has at most 32 bytes.
    fn initialize_device(&self, slot: Slot, so_pin: &SecretString, label: &str) -> Result<(), Failure>;
    /// C_OpenSession. The session is closed when it is dropped.
    fn open(&self, slot: Slot, access: Access) -> Result<Box<dyn Session>, Failure>;
}

/// An open session: of one thread at a time.
pub(super) trait Session: Send {
    /// C_GetSessionInfo.
    fn state(&self) -> Result<SessionState, Failure>;
    /// C_Login. Without a PIN (NULL) the device asks for it on its own pad.
    fn login(&self, user: User, pin: Option<&SecretString>) -> Result<(), Failure>;
    /// C_Logout.
    fn logout(&self) -> Result<(), Failure>;
    /// C_InitPIN.
    fn initialize_pin(&self, pin: &SecretString) -> Result<(), Failure>;
    /// C_FindObjectsInit, C_FindObjects and C_FindObjectsFinal; stops after `most` objects.
    fn find(&self, template: &[Attribute], most: usize) -> Result<Vec<Object>, Failure>;
    /// C_GetAttributeValue: one value for each of `wanted`, in that order. `None` for what the object does not have,
    /// what the device does not give, and what is longer than [`LONGEST_VALUE`].
    fn attributes(&self, object: Object, wanted: &[AttributeType]) -> Result<Vec<Option<Vec<u8>>>, Failure>;
    /// C_CreateObject.
    fn create(&self, template: &[Attribute]) -> Result<Object, Failure>;
    /// C_DestroyObject.
    fn destroy(&self, object: Object) -> Result<(), Failure>;
    /// C_GenerateKeyPair with `CKM_RSA_PKCS_KEY_PAIR_GEN`: the public half, then the private one.
    fn generate_rsa_pair(
        &self,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(Object, Object), Failure>;
    /// C_GenerateRandom: eight bytes.
    fn random(&self) -> Result<[u8; 8], Failure>;
    /// C_SignInit. Whatever fails from here on, the session is not to be used again.
    fn sign_init(&self, mechanism: Mechanism, key: Object) -> Result<(), Failure>;
    /// C_Sign, in one part, with a buffer that is large enough for every signature of use.
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Failure>;
}

/// No attribute that is read is longer: a certificate is the longest, with 2 to 4 kB.
pub(super) const LONGEST_VALUE: usize = 64 * 1024;

/// `CK_SLOT_ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot(pub(super) u64);

/// `CK_OBJECT_HANDLE`; good until the library is finalized or the device logged out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object(pub(super) u64);

/// What a call came to instead of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The library answered with this `CKR_…` number.
    Answered { function: &'static str, code: u64 },
    /// The library lacks the function, or what it answered makes no sense.
    Unusable { function: &'static str, problem: String },
}

/// How a library is initialized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InitializeArguments {
    /// `CKF_OS_LOCKING_OK`: calls may come from several threads.
    pub(super) os_locking: bool,
    /// `pReserved`, for the libraries that read a configuration from it.
    pub(super) reserved: Option<String>,
}

/// Which session is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

/// Who logs in (`CK_USER_TYPE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(clippy::enum_variant_names, reason = "the standard's names")]
pub(super) enum User {
    /// `CKU_SO`
    SecurityOfficer,
    /// `CKU_USER`
    User,
    /// `CKU_CONTEXT_SPECIFIC`: for the operation that has just been initialized.
    ContextSpecific,
    /// A vendor's own kind of user, at or above `0x80000000`.
    Vendor(u32),
}

impl User {
    /// Its number.
    fn number(self) -> u64 {
        match self {
            Self::SecurityOfficer => 0,
            Self::User => 1,
            Self::ContextSpecific => 2,
            Self::Vendor(number) => number.into(),
        }
    }
}

/// `CK_STATE`, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// Nobody is logged in.
    Public,
    /// The user is.
    User,
    /// The security officer is.
    SecurityOfficer,
    /// A number that the standard does not have.
    Unknown,
}

/// `CK_INFO`; texts without their padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LibraryInfo {
    pub(super) manufacturer: String,
    pub(super) description: String,
    pub(super) version: Version,
    pub(super) cryptoki: Version,
}

/// `CK_SLOT_INFO`; texts without their padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotInfo {
    pub(super) manufacturer: String,
    pub(super) description: String,
    /// `CKF_REMOVABLE_DEVICE`
    pub(super) removable: bool,
}

/// `CK_TOKEN_INFO`; texts without their padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceInfo {
    pub(super) label: String,
    pub(super) manufacturer: String,
    pub(super) model: String,
    pub(super) serial: String,
    pub(super) flags: u64,
    pub(super) max_sessions: Limit,
    pub(super) sessions: Limit,
    pub(super) max_rw_sessions: Limit,
    pub(super) rw_sessions: Limit,
    /// In bytes. A longest PIN of 0 is what some devices say when they mean nothing by it.
    pub(super) pin_length: (u64, u64),
    pub(super) hardware: Version,
    pub(super) firmware: Version,
}

impl DeviceInfo {
    /// `CKF_TOKEN_INITIALIZED`
    pub(super) fn is_initialized(&self) -> bool {
        self.flags & 0x0000_0400 != 0
    }

    /// `CKF_LOGIN_REQUIRED`
    pub(super) fn requires_login(&self) -> bool {
        self.flags & 0x0000_0004 != 0
    }

    /// `CKF_USER_PIN_INITIALIZED`
    pub(super) fn has_user_pin(&self) -> bool {
        self.flags & 0x0000_0008 != 0
    }

    /// `CKF_PROTECTED_AUTHENTICATION_PATH`: the PIN is typed on the device itself.
    pub(super) fn has_pin_pad(&self) -> bool {
        self.flags & 0x0000_0100 != 0
    }

    /// `CKF_USER_PIN_COUNT_LOW`: a wrong PIN was entered since the last good login.
    pub(super) fn pin_count_is_low(&self) -> bool {
        self.flags & 0x0001_0000 != 0
    }

    /// `CKF_USER_PIN_FINAL_TRY`
    pub(super) fn is_at_final_try(&self) -> bool {
        self.flags & 0x0002_0000 != 0
    }

    /// `CKF_USER_PIN_LOCKED`
    pub(super) fn is_locked(&self) -> bool {
        self.flags & 0x0004_0000 != 0
    }

    /// `CKF_USER_PIN_TO_BE_CHANGED`
    pub(super) fn wants_new_pin(&self) -> bool {
        self.flags & 0x0008_0000 != 0
    }
}

/// `CK_VERSION`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u8,
    pub(super) minor: u8,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// `CK_MECHANISM_INFO`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MechanismInfo {
    /// Shortest and longest key; in bits for RSA.
    pub(super) key_size: (u64, u64),
    pub(super) flags: u64,
}

/// Which implementation drives a library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Binding {
    /// `cryptoki`, and `raw` where that cannot load the library.
    #[default]
    Either,
    /// `raw` alone: `force_v2` of a profile.
    Raw,
}

/// Loads the library at `path`, for good. Running its initializers is all that happens: no C_Initialize yet.
///
/// # Errors
/// [`Error::Module`] when the file is no PKCS#11 library or cannot be loaded.
pub(super) fn load(path: &Path, binding: Binding) -> Result<Arc<dyn Library>, Error> {
    let failed = |problem| Error::Module { path: path.display().to_string(), problem };
    let raw = Arc::new(raw::Library::load(path).map_err(failed)?);
    if binding == Binding::Raw {
        return Ok(raw);
    }
    match cryptoki::Library::load(path, raw.clone()) {
        Ok(library) => Ok(Arc::new(library)),
        Err(why) => {
            // A C_GetInterface that is there and fails is the usual reason.
            tracing::debug!(library = %path.display(), why, "driven by its PKCS#11 2.40 functions alone");
            Ok(raw)
        }
    }
}

/// Shortest and longest PIN; 0 where the device does not say.
fn pin_length(min: u64, max: u64) -> (u64, u64) {
    let known = |length| if length == cryptoki_sys::CK_UNAVAILABLE_INFORMATION { 0 } else { length };
    (known(min), known(max))
}

/// A text field of fixed length without its padding: blanks, and NULs where a vendor did not read the standard.
fn text(padded: &[u8]) -> String {
    String::from_utf8_lossy(padded).trim_end_matches([' ', '\0']).to_owned()
}

#[cfg(test)]
mod tests;
