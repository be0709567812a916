//! The function list of PKCS#11 2.40, called directly. The only unsafe code of the crate is in this file and in those
//! below it.
//!
//! What holds at every call, so that the comments beside them need not say it again: the function comes from the list
//! that the library itself gave, its type is the standard's, and the library is never unloaded. Sessions, objects and
//! slots are numbers that the library looks up, so a wrong one is an error and not a danger. What is left, and what
//! the comments speak of, is that each pointer is good for as many bytes as the call says. No pointer is given away
//! for longer than the call, but for the arguments of C_Initialize.

#![allow(unsafe_code, reason = "a C interface; every block says why it is sound")]
#![warn(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]

mod arguments;
mod session;

pub(super) use self::session::{Handle, object_handle};

use std::{ffi::c_void, path::Path, ptr, sync::Mutex};

use cryptoki_sys::{
    CK_FLAGS, CK_FUNCTION_LIST, CK_INFO, CK_INTERFACE, CK_MECHANISM_INFO, CK_RV, CK_SLOT_ID, CK_SLOT_INFO,
    CK_TOKEN_INFO, CK_TRUE, CK_ULONG, CK_UTF8CHAR, CK_VERSION, CKF_REMOVABLE_DEVICE, CKR_OK,
};
use secrecy::{ExposeSecret, SecretString};

use self::arguments::Arguments;
use super::{
    Access, DeviceInfo, Failure, InitializeArguments, LibraryInfo, Limit, MechanismInfo, Session, Slot,
    SlotInfo, Version, code, list, pin_length, text,
};

/// A library, driven by its PKCS#11 2.40 functions.
pub(super) struct Library {
    library: &'static cryptoki_sys::Pkcs11,
    /// A copy: pointers to functions, which stay where they are.
    functions: &'static CK_FUNCTION_LIST,
    /// What C_Initialize was given, kept for the next time since it is never freed.
    given: Mutex<Vec<(InitializeArguments, Arguments)>>,
}

/// A function of the list; a failure when the library left it out.
macro_rules! function {
    ($functions:expr, $name:ident) => {
        $functions.$name.ok_or_else(|| Failure::Unusable {
            function: stringify!($name),
            problem: "the library does not have it".into(),
        })
    };
}
use function;

impl Library {
    /// Loads the library at `path`, for good, and takes its list of functions.
    ///
    /// # Errors
    /// What the loader says, or why the file is no PKCS#11 library.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: this runs whatever the file holds. Which files may be loaded is decided before.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(|why| why.to_string())?;
        // Never unloaded: some libraries leave threads and exit handlers behind, which would run without their code.
        let library: &'static cryptoki_sys::Pkcs11 = Box::leak(Box::new(library));
        let functions = Box::leak(Box::new(function_list(library)?));
        Ok(Self { library, functions, given: Mutex::default() })
    }

    /// Whether somebody who asks the library for its default interface gets the same functions. p11-kit's proxy gives
    /// everybody functions of their own, each with its own sessions. C_GetInterface is called, as it was by the one
    /// who wants to know.
    pub(super) fn is_shared(&self) -> Result<bool, String> {
        let other = match self.library.C_GetInterface.as_ref() {
            Ok(function) => default_interface(*function)?,
            Err(_) => function_list(self.library)?,
        };
        Ok(addresses(self.functions) == addresses(&other))
    }

    /// The session with this handle, which somebody else closes.
    pub(super) fn session(&self, session: u64) -> Handle {
        Handle::new(self.functions, session)
    }

    fn list(
        &self,
        name: &'static str,
        mut call: impl FnMut(*mut CK_ULONG, &mut CK_ULONG) -> CK_RV,
    ) -> Result<Vec<u64>, Failure> {
        list::read(name, |numbers, count| match numbers {
            Some(numbers) => {
                *count = numbers.len() as u64;
                call(numbers.as_mut_ptr(), count)
            }
            None => call(ptr::null_mut(), count),
        })
    }
}

/// The list that C_GetFunctionList gives.
fn function_list(library: &cryptoki_sys::Pkcs11) -> Result<CK_FUNCTION_LIST, String> {
    let Ok(function) = library.C_GetFunctionList.as_ref() else {
        return Err("it has no C_GetFunctionList, so it is no PKCS#11 library".into());
    };
    let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
    // SAFETY: `list` is a place for one pointer.
    let answer = unsafe { function(&raw mut list) };
    if answer != CKR_OK {
        return Err(format!("it answers {} to C_GetFunctionList", code::name(answer)));
    }
    // SAFETY: what C_GetFunctionList gives is NULL or a list.
    unsafe { copied(list) }
}

/// The list of the interface that C_GetInterface gives to those who do not say which.
fn default_interface(function: GetInterface) -> Result<CK_FUNCTION_LIST, String> {
    let mut interface: *mut CK_INTERFACE = ptr::null_mut();
    // SAFETY: no name and no version means the default; `interface` is a place for one pointer.
    let answer = unsafe { function(ptr::null_mut(), ptr::null_mut(), &raw mut interface, 0) };
    if answer != CKR_OK || interface.is_null() {
        return Err(format!("it answers {} to C_GetInterface", code::name(answer)));
    }
    // SAFETY: not null, so it is an interface.
    let interface = unsafe { interface.read() };
    // SAFETY: what an interface points to is NULL or a list, which begins as that of version 2.
    unsafe { copied(interface.pFunctionList.cast()) }
}

type GetInterface =
    unsafe extern "C" fn(*mut CK_UTF8CHAR, *mut CK_VERSION, *mut *mut CK_INTERFACE, CK_FLAGS) -> CK_RV;

/// A copy of a list.
///
/// # Safety
/// `list` is NULL or points to a list of functions of any version.
unsafe fn copied(list: *const CK_FUNCTION_LIST) -> Result<CK_FUNCTION_LIST, String> {
    if list.is_null() {
        return Err("it gives no list of functions".into());
    }
    // SAFETY: not null, and every version of the list begins with its number.
    let CK_VERSION { major, minor } = unsafe { list.cast::<CK_VERSION>().read() };
    if major < 2 || (major == 2 && minor == 0) {
        return Err(format!("it is made for PKCS#11 {major}.{minor}; at least 2.01 is needed"));
    }
    // SAFETY: not null, and since 2.01 the list has these functions; later versions only add to them.
    Ok(unsafe { list.read() })
}

/// Where the functions are whose state matters: those that open sessions and those that work in them.
fn addresses(list: &CK_FUNCTION_LIST) -> [Option<usize>; 7] {
    [
        list.C_Initialize.map(|function| function as usize),
        list.C_GetSlotList.map(|function| function as usize),
        list.C_GetTokenInfo.map(|function| function as usize),
        list.C_OpenSession.map(|function| function as usize),
        list.C_GetAttributeValue.map(|function| function as usize),
        list.C_SignInit.map(|function| function as usize),
        list.C_Sign.map(|function| function as usize),
    ]
}

impl super::Library for Library {
    fn initialize(&self, arguments: &InitializeArguments) -> Result<(), Failure> {
        let function = function!(self.functions, C_Initialize)?;
        let mut given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let kept = match given.iter().find(|(same, _)| same == arguments) {
            Some((_, kept)) => *kept,
            None => {
                let kept = Arguments::leak(arguments)?;
                given.push((arguments.clone(), kept));
                kept
            }
        };
        drop(given);
        // SAFETY: the arguments are a CK_C_INITIALIZE_ARGS that is never freed, so libraries may keep the pointer.
        answered("C_Initialize", unsafe { function(kept.pointer()) })
    }

    fn finalize(&self) -> Result<(), Failure> {
        let function = function!(self.functions, C_Finalize)?;
        // SAFETY: the pointer is reserved and has to be NULL.
        answered("C_Finalize", unsafe { function(ptr::null_mut::<c_void>()) })
    }

    fn info(&self) -> Result<LibraryInfo, Failure> {
        let function = function!(self.functions, C_GetInfo)?;
        let mut info = CK_INFO::default();
        // SAFETY: `info` is a place for one CK_INFO.
        answered("C_GetInfo", unsafe { function(&raw mut info) })?;
        Ok(LibraryInfo {
            manufacturer: text(&info.manufacturerID),
            description: text(&info.libraryDescription),
            version: version(info.libraryVersion),
            cryptoki: version(info.cryptokiVersion),
        })
    }

    fn slots(&self) -> Result<Vec<Slot>, Failure> {
        let function = function!(self.functions, C_GetSlotList)?;
        let slots = self.list("C_GetSlotList", |slots, count| {
            // SAFETY: `slots` is NULL, or has room for as many as `count` says.
            unsafe { function(CK_TRUE, slots, count) }
        })?;
        Ok(slots.into_iter().map(Slot).collect())
    }

    fn slot_info(&self, slot: Slot) -> Result<SlotInfo, Failure> {
        let function = function!(self.functions, C_GetSlotInfo)?;
        let mut info = CK_SLOT_INFO::default();
        // SAFETY: `info` is a place for one CK_SLOT_INFO.
        answered("C_GetSlotInfo", unsafe { function(slot.0, &raw mut info) })?;
        Ok(SlotInfo {
            manufacturer: text(&info.manufacturerID),
            description: text(&info.slotDescription),
            removable: info.flags & CKF_REMOVABLE_DEVICE != 0,
        })
    }

    fn device_info(&self, slot: Slot) -> Result<DeviceInfo, Failure> {
        let function = function!(self.functions, C_GetTokenInfo)?;
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: `info` is a place for one CK_TOKEN_INFO.
        answered("C_GetTokenInfo", unsafe { function(slot.0, &raw mut info) })?;
        // The clock is left alone: what stands there is no time on some devices, and nobody needs it.
        Ok(DeviceInfo {
            label: text(&info.label),
            manufacturer: text(&info.manufacturerID),
            model: text(&info.model),
            serial: text(&info.serialNumber),
            flags: info.flags,
            max_sessions: most(info.ulMaxSessionCount),
            sessions: count(info.ulSessionCount),
            max_rw_sessions: most(info.ulMaxRwSessionCount),
            rw_sessions: count(info.ulRwSessionCount),
            pin_length: pin_length(info.ulMinPinLen, info.ulMaxPinLen),
            hardware: version(info.hardwareVersion),
            firmware: version(info.firmwareVersion),
        })
    }

    fn mechanisms(&self, slot: Slot) -> Result<Vec<u64>, Failure> {
        let function = function!(self.functions, C_GetMechanismList)?;
        self.list("C_GetMechanismList", |mechanisms, count| {
            // SAFETY: `mechanisms` is NULL, or has room for as many as `count` says.
            unsafe { function(slot.0, mechanisms, count) }
        })
    }

    fn mechanism_info(&self, slot: Slot, mechanism: u64) -> Result<MechanismInfo, Failure> {
        let function = function!(self.functions, C_GetMechanismInfo)?;
        let mut info = CK_MECHANISM_INFO::default();
        // SAFETY: `info` is a place for one CK_MECHANISM_INFO.
        answered("C_GetMechanismInfo", unsafe { function(slot.0, mechanism, &raw mut info) })?;
        Ok(MechanismInfo { key_size: (info.ulMinKeySize, info.ulMaxKeySize), flags: info.flags })
    }

    fn initialize_device(&self, slot: Slot, so_pin: &SecretString, label: &str) -> Result<(), Failure> {
        let function = function!(self.functions, C_InitToken)?;
        let mut padded = [b' '; 32];
        let Some(place) = padded.get_mut(..label.len()) else {
            return Err(Failure::Unusable {
                function: "C_InitToken",
                problem: "the label has more than 32 bytes".into(),
            });
        };
        place.copy_from_slice(label.as_bytes());
        let pin = so_pin.expose_secret().as_bytes();
        // SAFETY: the PIN is as long as said and only read, the label has the 32 bytes that the standard wants.
        let answer =
            unsafe { function(slot.0, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG, padded.as_mut_ptr()) };
        answered("C_InitToken", answer)
    }

    fn open(&self, slot: Slot, access: Access) -> Result<Box<dyn Session>, Failure> {
        Ok(Box::new(session::Open::new(self.functions, slot.0 as CK_SLOT_ID, access)?))
    }
}

fn answered(function: &'static str, code: CK_RV) -> Result<(), Failure> {
    if code == CKR_OK { Ok(()) } else { Err(Failure::Answered { function, code }) }
}

fn version(version: CK_VERSION) -> Version {
    Version { major: version.major, minor: version.minor }
}

/// A limit of sessions, where 0 means that there is none.
fn most(number: CK_ULONG) -> Limit {
    match number {
        cryptoki_sys::CK_EFFECTIVELY_INFINITE => Limit::Unlimited,
        other => count(other),
    }
}

/// A number of open sessions, where 0 is a number like any other.
fn count(number: CK_ULONG) -> Limit {
    match number {
        cryptoki_sys::CK_UNAVAILABLE_INFORMATION => Limit::Unknown,
        number => Limit::Most(number),
    }
}

#[cfg(test)]
mod hostile;
