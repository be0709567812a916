//! The device asked without us, as a C program would: C_SignInit and one C_Sign with a buffer that is ready.

use std::{ptr, thread};

use cryptoki::{
    context::Pkcs11,
    object::{Attribute, ObjectClass},
    session::Session,
};
use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_MECHANISM, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CKM_SHA256_RSA_PKCS, CKR_OK,
};

/// The same library, loaded once more: it is initialized and logged in to by the time this one is made.
pub struct Raw {
    functions: CK_FUNCTION_LIST,
    key: CK_OBJECT_HANDLE,
    sessions: Vec<CK_SESSION_HANDLE>,
    message: Vec<u8>,
}

impl Raw {
    /// As many sessions as the most threads need.
    pub fn new(threads: usize, length: usize) -> Self {
        let path = super::softhsm::library();
        let context = Pkcs11::new(&path).unwrap();
        let slot = context.get_slots_with_initialized_token().unwrap()[0];
        let sessions: Vec<_> = (0..threads).map(|_| context.open_ro_session(slot).unwrap()).collect();
        let key =
            sessions[0].find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap()[0].handle();
        // SAFETY: a PKCS#11 library, whose initializers may run; it is never unloaded.
        let library = Box::leak(Box::new(unsafe { cryptoki_sys::Pkcs11::new(path) }.unwrap()));
        let mut functions = ptr::null_mut();
        // SAFETY: `functions` is a place for one pointer.
        assert_eq!(unsafe { library.C_GetFunctionList(&raw mut functions) }, CKR_OK);
        assert!(!functions.is_null());
        // SAFETY: not null, so it is the list, which the library never frees.
        let functions = unsafe { functions.read() };
        let handles = sessions.iter().map(Session::handle).collect();
        // The library stays loaded and the sessions open until the process ends.
        std::mem::forget((context, sessions));
        Self { functions, key, sessions: handles, message: vec![b'x'; length] }
    }

    /// `each` signatures by each of so many threads.
    pub fn sign(&self, threads: usize, each: u32) {
        thread::scope(|scope| {
            for session in self.sessions.iter().copied().take(threads) {
                scope.spawn(move || self.sign_in(session, each));
            }
        });
    }

    fn sign_in(&self, session: CK_SESSION_HANDLE, times: u32) {
        let (init, sign) = (self.functions.C_SignInit.unwrap(), self.functions.C_Sign.unwrap());
        let message = self.message.as_ptr().cast_mut();
        let mut signature = [0_u8; 512];
        for _ in 0..times {
            let mut mechanism = CK_MECHANISM {
                mechanism: CKM_SHA256_RSA_PKCS,
                pParameter: ptr::null_mut(),
                ulParameterLen: 0,
            };
            let mut length = signature.len() as u64;
            // SAFETY: the mechanism has no parameter, and only this thread uses this session.
            assert_eq!(unsafe { init(session, &raw mut mechanism, self.key) }, CKR_OK);
            // SAFETY: message and signature are as long as is said.
            let answer = unsafe {
                sign(session, message, self.message.len() as u64, signature.as_mut_ptr(), &raw mut length)
            };
            assert_eq!((answer, length), (CKR_OK, 256));
        }
    }
}
