//! The functions of PKCS#11 2.40 as this module exports them: each is counted, given to the script, and passed on.

#![allow(non_snake_case, clippy::too_many_arguments, reason = "the standard's names and signatures")]

use std::{ffi::c_void, ptr, sync::OnceLock};

use cryptoki_sys::*;

use crate::{attributes, call, device, login, sign};

/// The real module.
pub(crate) fn wrapped() -> &'static CK_FUNCTION_LIST {
    static REAL: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
    REAL.get_or_init(|| {
        let path = std::env::var("FAULTP11_MODULE").unwrap_or("/usr/lib/softhsm/libsofthsm2.so".into());
        // SAFETY: who wrote the path wants that file to run.
        let library = unsafe { Pkcs11::new(&path) };
        let library =
            Box::leak(Box::new(library.unwrap_or_else(|why| crate::give_up(&format!("{path}: {why}")))));
        let mut list = ptr::null_mut();
        // SAFETY: `list` is a place for one pointer.
        let answer = unsafe { library.C_GetFunctionList(&mut list) };
        if answer != CKR_OK || list.is_null() {
            crate::give_up(&format!("{path} answers {answer:#x} to C_GetFunctionList"));
        }
        // SAFETY: the module answered CKR_OK with a list that it keeps for good.
        unsafe { *list }
    })
}

/// Calls a function of the real module.
macro_rules! real {
    ($name:ident($($argument:expr),*)) => {
        match $crate::functions::wrapped().$name {
            // SAFETY: the arguments are those of our caller, or places of ours of the types that the standard wants.
            Some(function) => unsafe { function($($argument),*) },
            None => cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}
pub(crate) use real;

macro_rules! functions {
    ($($how:ident $name:ident($($argument:ident: $kind:ty),*);)*) => {
        /// Every function that is counted.
        #[allow(non_camel_case_types, clippy::enum_variant_names, reason = "the standard's names")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Function { $($name,)* C_GetFunctionList, C_GetInterface, loading, background }

        /// Their names, in the same order.
        pub(crate) const NAMES: &[&str] =
            &[$(stringify!($name),)* "C_GetFunctionList", "C_GetInterface", "loading", "background"];

        impl Function {
            const ALL: &[Self] = &[
                $(Self::$name,)* Self::C_GetFunctionList, Self::C_GetInterface, Self::loading, Self::background,
            ];

            pub(crate) fn named(name: &str) -> Option<Self> {
                NAMES.iter().position(|known| *known == name).map(|at| Self::ALL[at])
            }

            /// Whether it is what a program calls, and not what this module does by itself.
            pub(crate) fn is_called(self) -> bool {
                !matches!(self, Self::loading | Self::background)
            }
        }

        $(unsafe extern "C" fn $name($($argument: $kind),*) -> CK_RV {
            call::run(Function::$name, |call| pass_on!($how $name call $($argument),*))
        })*

        /// The list that C_GetFunctionList gives.
        pub(crate) fn list() -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST {
                version: CK_VERSION { major: 2, minor: 40 },
                $($name: Some($name),)*
                C_GetFunctionList: Some(crate::C_GetFunctionList),
            }
        }
    };
}

macro_rules! pass_on {
    (plain $name:ident $call:ident $($argument:ident),*) => {{
        let _ = $call;
        real!($name($($argument),*))
    }};
    (session $name:ident $call:ident $session:ident $(, $argument:ident)*) => {
        match device::check_session(&$call.script, $session) {
            Ok(()) => real!($name($session $(, $argument)*)),
            Err(refusal) => refusal,
        }
    };
    (slot $name:ident $call:ident $slot:ident $(, $argument:ident)*) => {
        match device::check_slot(&$call.script, $slot) {
            Ok(slot) => real!($name(slot $(, $argument)*)),
            Err(refusal) => refusal,
        }
    };
    (own $name:ident $call:ident $($argument:ident),*) => {
        own!($name $call $($argument),*)
    };
}

macro_rules! own {
    (C_Initialize $call:ident $a:ident) => {
        device::initialize($call, $a)
    };
    (C_Finalize $call:ident $a:ident) => {
        device::finalize($call, $a)
    };
    (C_GetSlotList $call:ident $a:ident, $b:ident, $c:ident) => {
        device::slot_list($call, $a, $b, $c)
    };
    (C_GetSlotInfo $call:ident $a:ident, $b:ident) => {
        device::slot_info($call, $a, $b)
    };
    (C_GetTokenInfo $call:ident $a:ident, $b:ident) => {
        device::token_info($call, $a, $b)
    };
    (C_OpenSession $call:ident $a:ident, $b:ident, $c:ident, $d:ident, $e:ident) => {
        device::open_session($call, $a, $b, $c, $d, $e)
    };
    (C_CloseSession $call:ident $a:ident) => {
        device::close_session($call, $a)
    };
    (C_CloseAllSessions $call:ident $a:ident) => {
        device::close_all_sessions($call, $a)
    };
    (C_GetSessionInfo $call:ident $a:ident, $b:ident) => {
        device::session_info($call, $a, $b)
    };
    (C_Login $call:ident $a:ident, $b:ident, $c:ident, $d:ident) => {
        login::login($call, $a, $b, $c, $d)
    };
    (C_FindObjectsInit $call:ident $a:ident, $b:ident, $c:ident) => {
        attributes::find($call, $a, $b, $c)
    };
    (C_GetAttributeValue $call:ident $a:ident, $b:ident, $c:ident, $d:ident) => {
        attributes::read($call, $a, $b, $c, $d)
    };
    (C_SignInit $call:ident $a:ident, $b:ident, $c:ident) => {
        sign::begin($call, $a, $b, $c)
    };
    (C_Sign $call:ident $a:ident, $b:ident, $c:ident, $d:ident, $e:ident) => {
        sign::sign($call, $a, $b, $c, $d, $e)
    };
}

functions! {
    own C_Initialize(a: *mut c_void);
    own C_Finalize(a: *mut c_void);
    plain C_GetInfo(a: *mut CK_INFO);
    own C_GetSlotList(a: CK_BBOOL, b: *mut CK_SLOT_ID, c: *mut CK_ULONG);
    own C_GetSlotInfo(a: CK_SLOT_ID, b: *mut CK_SLOT_INFO);
    own C_GetTokenInfo(a: CK_SLOT_ID, b: *mut CK_TOKEN_INFO);
    slot C_GetMechanismList(a: CK_SLOT_ID, b: *mut CK_MECHANISM_TYPE, c: *mut CK_ULONG);
    slot C_GetMechanismInfo(a: CK_SLOT_ID, b: CK_MECHANISM_TYPE, c: *mut CK_MECHANISM_INFO);
    slot C_InitToken(a: CK_SLOT_ID, b: *mut CK_UTF8CHAR, c: CK_ULONG, d: *mut CK_UTF8CHAR);
    session C_InitPIN(a: CK_SESSION_HANDLE, b: *mut CK_UTF8CHAR, c: CK_ULONG);
    session C_SetPIN(a: CK_SESSION_HANDLE, b: *mut CK_UTF8CHAR, c: CK_ULONG, d: *mut CK_UTF8CHAR, e: CK_ULONG);
    own C_OpenSession(a: CK_SLOT_ID, b: CK_FLAGS, c: *mut c_void, d: CK_NOTIFY, e: *mut CK_SESSION_HANDLE);
    own C_CloseSession(a: CK_SESSION_HANDLE);
    own C_CloseAllSessions(a: CK_SLOT_ID);
    own C_GetSessionInfo(a: CK_SESSION_HANDLE, b: *mut CK_SESSION_INFO);
    session C_GetOperationState(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    session C_SetOperationState(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: CK_OBJECT_HANDLE, e: CK_OBJECT_HANDLE);
    own C_Login(a: CK_SESSION_HANDLE, b: CK_USER_TYPE, c: *mut CK_UTF8CHAR, d: CK_ULONG);
    session C_Logout(a: CK_SESSION_HANDLE);
    session C_CreateObject(a: CK_SESSION_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG, d: *mut CK_OBJECT_HANDLE);
    session C_CopyObject(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_OBJECT_HANDLE);
    session C_DestroyObject(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE);
    session C_GetObjectSize(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ULONG);
    own C_GetAttributeValue(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG);
    session C_SetAttributeValue(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG);
    own C_FindObjectsInit(a: CK_SESSION_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG);
    session C_FindObjects(a: CK_SESSION_HANDLE, b: *mut CK_OBJECT_HANDLE, c: CK_ULONG, d: *mut CK_ULONG);
    session C_FindObjectsFinal(a: CK_SESSION_HANDLE);
    session C_EncryptInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    session C_Encrypt(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_EncryptUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_EncryptFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    session C_DecryptInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    session C_Decrypt(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_DecryptUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_DecryptFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    session C_DigestInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM);
    session C_Digest(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_DigestUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    session C_DigestKey(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE);
    session C_DigestFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    own C_SignInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    own C_Sign(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_SignUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    session C_SignFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    session C_SignRecoverInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    session C_SignRecover(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_VerifyInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    session C_Verify(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: CK_ULONG);
    session C_VerifyUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    session C_VerifyFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    session C_VerifyRecoverInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    session C_VerifyRecover(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_DigestEncryptUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_DecryptDigestUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_SignEncryptUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_DecryptVerifyUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG, d: *mut CK_BYTE, e: *mut CK_ULONG);
    session C_GenerateKey(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_OBJECT_HANDLE);
    session C_GenerateKeyPair(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_ATTRIBUTE, f: CK_ULONG, g: *mut CK_OBJECT_HANDLE, h: *mut CK_OBJECT_HANDLE);
    session C_WrapKey(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: CK_OBJECT_HANDLE, e: *mut CK_BYTE, f: *mut CK_ULONG);
    session C_UnwrapKey(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: *mut CK_BYTE, e: CK_ULONG, f: *mut CK_ATTRIBUTE, g: CK_ULONG, h: *mut CK_OBJECT_HANDLE);
    session C_DeriveKey(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE, d: *mut CK_ATTRIBUTE, e: CK_ULONG, f: *mut CK_OBJECT_HANDLE);
    session C_SeedRandom(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    session C_GenerateRandom(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    session C_GetFunctionStatus(a: CK_SESSION_HANDLE);
    session C_CancelFunction(a: CK_SESSION_HANDLE);
    plain C_WaitForSlotEvent(a: CK_FLAGS, b: *mut CK_SLOT_ID, c: *mut c_void);
}
