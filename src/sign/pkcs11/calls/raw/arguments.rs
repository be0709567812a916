//! What C_Initialize is given, on memory that is never freed: some libraries keep the pointer.

use std::{
    ffi::{CString, c_void},
    ptr::{self, NonNull},
};

use cryptoki_sys::{CK_C_INITIALIZE_ARGS, CKF_OS_LOCKING_OK};

use super::{Failure, InitializeArguments};

/// NSS reads a string where the standard has `pReserved`, and one more pointer behind it, which has to be NULL.
/// Others see a `CK_C_INITIALIZE_ARGS` as it should be.
#[repr(C)]
pub(super) struct Block {
    pub(super) standard: CK_C_INITIALIZE_ARGS,
    pub(super) behind: *mut c_void,
}

/// A leaked block of arguments.
#[derive(Clone, Copy)]
pub(super) struct Arguments(NonNull<Block>);

// SAFETY: the block is never freed, and nobody here looks into it again after it was made.
unsafe impl Send for Arguments {}

impl Arguments {
    /// # Errors
    /// When there is a NUL in the string.
    pub(super) fn leak(arguments: &InitializeArguments) -> Result<Self, Failure> {
        let reserved = match &arguments.reserved {
            Some(reserved) => CString::new(reserved.as_str())
                .map_err(|_| Failure::Unusable {
                    function: "C_Initialize",
                    problem: "there is a NUL in the reserved string".into(),
                })?
                .into_raw()
                .cast(),
            None => ptr::null_mut(),
        };
        let standard = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: if arguments.os_locking { CKF_OS_LOCKING_OK } else { 0 },
            pReserved: reserved,
        };
        Ok(Self(NonNull::from(Box::leak(Box::new(Block { standard, behind: ptr::null_mut() })))))
    }

    pub(super) fn pointer(self) -> *mut c_void {
        self.0.as_ptr().cast()
    }
}
