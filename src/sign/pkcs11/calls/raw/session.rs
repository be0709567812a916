//! Calls that take a session.

use std::{cell::Cell, ffi::c_void, marker::PhantomData, ptr};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_FUNCTION_LIST, CK_MECHANISM, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID, CK_ULONG,
    CKF_RW_SESSION, CKF_SERIAL_SESSION, CKS_RO_PUBLIC_SESSION, CKS_RO_USER_FUNCTIONS, CKS_RW_PUBLIC_SESSION,
    CKS_RW_SO_FUNCTIONS, CKS_RW_USER_FUNCTIONS,
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    super::{
        Attribute, AttributeType, Failure, Mechanism, Object, Session, SessionState, User,
        mechanism::RSA_PKCS_KEY_PAIR_GEN,
        values::{self, Row},
    },
    Access, answered, function,
};

/// So many objects are asked for at once.
const BATCH: usize = 64;

/// In bytes. An RSA key of 8192 bits, four times the usual, signs with as many.
const LONGEST_SIGNATURE: usize = 1024;

/// The handle of a session, without the duty to close it.
pub(in super::super) struct Handle {
    functions: &'static CK_FUNCTION_LIST,
    session: CK_SESSION_HANDLE,
    /// Of one thread at a time.
    not_sync: PhantomData<Cell<()>>,
}

/// A session, closed when it is dropped.
pub(super) struct Open(Handle);

impl Open {
    /// C_OpenSession, without a function to be called back.
    pub(super) fn new(
        functions: &'static CK_FUNCTION_LIST,
        slot: CK_SLOT_ID,
        access: Access,
    ) -> Result<Self, Failure> {
        let function = function!(functions, C_OpenSession)?;
        let flags = match access {
            Access::ReadOnly => CKF_SERIAL_SESSION,
            Access::ReadWrite => CKF_SERIAL_SESSION | CKF_RW_SESSION,
        };
        let mut session: CK_SESSION_HANDLE = 0;
        // SAFETY: `session` is a place for one handle; the pointer that would go to a callback may be NULL.
        let answer = unsafe { function(slot, flags, ptr::null_mut::<c_void>(), None, &raw mut session) };
        answered("C_OpenSession", answer)?;
        Ok(Self(Handle::new(functions, session)))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(function) = self.0.functions.C_CloseSession {
            // SAFETY: takes no pointer. What it answers changes nothing: the session is not used again.
            let _ = unsafe { function(self.0.session) };
        }
    }
}

impl Handle {
    pub(super) fn new(functions: &'static CK_FUNCTION_LIST, session: CK_SESSION_HANDLE) -> Self {
        Self { functions, session, not_sync: PhantomData }
    }

    fn state(&self) -> Result<SessionState, Failure> {
        let function = function!(self.functions, C_GetSessionInfo)?;
        let mut info = CK_SESSION_INFO::default();
        // SAFETY: `info` is a place for one CK_SESSION_INFO.
        answered("C_GetSessionInfo", unsafe { function(self.session, &raw mut info) })?;
        Ok(match info.state {
            CKS_RO_PUBLIC_SESSION | CKS_RW_PUBLIC_SESSION => SessionState::Public,
            CKS_RO_USER_FUNCTIONS | CKS_RW_USER_FUNCTIONS => SessionState::User,
            CKS_RW_SO_FUNCTIONS => SessionState::SecurityOfficer,
            _ => SessionState::Unknown,
        })
    }

    pub(super) fn login(&self, user: User, pin: Option<&SecretString>) -> Result<(), Failure> {
        let function = function!(self.functions, C_Login)?;
        let (pin, length) = match pin {
            Some(pin) => {
                let bytes = pin.expose_secret().as_bytes();
                (bytes.as_ptr().cast_mut(), bytes.len() as CK_ULONG)
            }
            None => (ptr::null_mut(), 0),
        };
        // SAFETY: the PIN is NULL or as long as said, and only read.
        answered("C_Login", unsafe { function(self.session, user.number(), pin, length) })
    }

    fn logout(&self) -> Result<(), Failure> {
        let function = function!(self.functions, C_Logout)?;
        // SAFETY: takes no pointer.
        answered("C_Logout", unsafe { function(self.session) })
    }

    fn initialize_pin(&self, pin: &SecretString) -> Result<(), Failure> {
        let function = function!(self.functions, C_InitPIN)?;
        let pin = pin.expose_secret().as_bytes();
        // SAFETY: the PIN is as long as said, and only read.
        let answer = unsafe { function(self.session, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG) };
        answered("C_InitPIN", answer)
    }

    pub(super) fn find(&self, template: &[Attribute], most: usize) -> Result<Vec<Object>, Failure> {
        let start = function!(self.functions, C_FindObjectsInit)?;
        let finish = function!(self.functions, C_FindObjectsFinal)?;
        let mut template = in_template(template);
        let (rows, count) = (template.as_mut_ptr(), template.len() as CK_ULONG);
        // SAFETY: `rows` are `count` attributes, each with a value as long as it says.
        answered("C_FindObjectsInit", unsafe { start(self.session, rows, count) })?;
        let found = self.found(most);
        // SAFETY: takes no pointer. Whether the search ends well is of no matter to what it found.
        let _ = unsafe { finish(self.session) };
        found
    }

    fn found(&self, most: usize) -> Result<Vec<Object>, Failure> {
        let next = function!(self.functions, C_FindObjects)?;
        let mut found = Vec::new();
        while found.len() < most {
            let mut batch = [0; BATCH];
            let mut count = 0;
            // SAFETY: `batch` has room for BATCH handles, and `count` is a place for one number.
            let answer = unsafe { next(self.session, batch.as_mut_ptr(), BATCH as CK_ULONG, &raw mut count) };
            answered("C_FindObjects", answer)?;
            let Some(batch) = batch.get(..count as usize) else {
                return Err(Failure::Unusable {
                    function: "C_FindObjects",
                    problem: format!("{BATCH} objects were asked for, and {count} given"),
                });
            };
            if batch.is_empty() {
                break;
            }
            found.extend(batch.iter().copied().map(Object));
        }
        found.truncate(most);
        Ok(found)
    }

    /// C_GetAttributeValue.
    pub(in super::super) fn attributes(
        &self,
        object: Object,
        wanted: &[AttributeType],
    ) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let function = function!(self.functions, C_GetAttributeValue)?;
        values::read(wanted, |rows: &mut [Row]| {
            let mut template: Vec<CK_ATTRIBUTE> = rows.iter_mut().map(in_row).collect();
            let (first, count) = (template.as_mut_ptr(), template.len() as CK_ULONG);
            // SAFETY: `first` are `count` attributes; each has a buffer as long as it says, or NULL and 0. The buffers
            // belong to `rows`, which nobody else touches meanwhile.
            let answer = unsafe { function(self.session, object.0, first, count) };
            // Of what the library may have written there, only the lengths are taken over.
            for (row, written) in rows.iter_mut().zip(&template) {
                row.length = written.ulValueLen;
            }
            answer
        })
    }

    fn create(&self, template: &[Attribute]) -> Result<Object, Failure> {
        let function = function!(self.functions, C_CreateObject)?;
        let mut template = in_template(template);
        let (rows, count) = (template.as_mut_ptr(), template.len() as CK_ULONG);
        let mut object = 0;
        // SAFETY: `rows` are `count` attributes, each with a value as long as it says; `object` is a place for one handle.
        answered("C_CreateObject", unsafe { function(self.session, rows, count, &raw mut object) })?;
        Ok(Object(object))
    }

    fn destroy(&self, object: Object) -> Result<(), Failure> {
        let function = function!(self.functions, C_DestroyObject)?;
        // SAFETY: takes no pointer.
        answered("C_DestroyObject", unsafe { function(self.session, object.0) })
    }

    fn generate_rsa_pair(
        &self,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(Object, Object), Failure> {
        let function = function!(self.functions, C_GenerateKeyPair)?;
        let mut mechanism = without_parameter(RSA_PKCS_KEY_PAIR_GEN);
        let (mut public, mut private) = (in_template(public), in_template(private));
        let (public_rows, public_count) = (public.as_mut_ptr(), public.len() as CK_ULONG);
        let (private_rows, private_count) = (private.as_mut_ptr(), private.len() as CK_ULONG);
        let (mut public_key, mut private_key) = (0, 0);
        // SAFETY: a mechanism without parameter, two templates with their numbers of attributes, each with a value as
        // long as it says, and two places for one handle each.
        let answer = unsafe {
            function(
                self.session,
                &raw mut mechanism,
                public_rows,
                public_count,
                private_rows,
                private_count,
                &raw mut public_key,
                &raw mut private_key,
            )
        };
        answered("C_GenerateKeyPair", answer)?;
        Ok((Object(public_key), Object(private_key)))
    }

    fn random(&self) -> Result<[u8; 8], Failure> {
        let function = function!(self.functions, C_GenerateRandom)?;
        let mut random = [0; 8];
        // SAFETY: `random` has room for as many bytes as is said.
        let answer = unsafe { function(self.session, random.as_mut_ptr(), random.len() as CK_ULONG) };
        answered("C_GenerateRandom", answer)?;
        Ok(random)
    }

    fn sign_init(&self, mechanism: Mechanism, key: Object) -> Result<(), Failure> {
        let function = function!(self.functions, C_SignInit)?;
        let mut mechanism = without_parameter(mechanism.number());
        // SAFETY: `mechanism` is one mechanism without parameter.
        answered("C_SignInit", unsafe { function(self.session, &raw mut mechanism, key.0) })
    }

    /// C_Sign.
    pub(in super::super) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Failure> {
        let function = function!(self.functions, C_Sign)?;
        let mut signature = vec![0; LONGEST_SIGNATURE];
        let mut length = LONGEST_SIGNATURE as CK_ULONG;
        let (from, count) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        // SAFETY: the data is as long as said and only read; `signature` has room for as many bytes as `length` says.
        let answer = unsafe { function(self.session, from, count, signature.as_mut_ptr(), &raw mut length) };
        answered("C_Sign", answer)?;
        if length as usize > LONGEST_SIGNATURE {
            return Err(Failure::Unusable {
                function: "C_Sign",
                problem: format!("there was room for {LONGEST_SIGNATURE} bytes, and {length} were given"),
            });
        }
        signature.truncate(length as usize);
        Ok(signature)
    }
}

impl Session for Open {
    fn state(&self) -> Result<SessionState, Failure> {
        self.0.state()
    }

    fn login(&self, user: User, pin: Option<&SecretString>) -> Result<(), Failure> {
        self.0.login(user, pin)
    }

    fn logout(&self) -> Result<(), Failure> {
        self.0.logout()
    }

    fn initialize_pin(&self, pin: &SecretString) -> Result<(), Failure> {
        self.0.initialize_pin(pin)
    }

    fn find(&self, template: &[Attribute], most: usize) -> Result<Vec<Object>, Failure> {
        self.0.find(template, most)
    }

    fn attributes(&self, object: Object, wanted: &[AttributeType]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        self.0.attributes(object, wanted)
    }

    fn create(&self, template: &[Attribute]) -> Result<Object, Failure> {
        self.0.create(template)
    }

    fn destroy(&self, object: Object) -> Result<(), Failure> {
        self.0.destroy(object)
    }

    fn generate_rsa_pair(
        &self,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(Object, Object), Failure> {
        self.0.generate_rsa_pair(public, private)
    }

    fn random(&self) -> Result<[u8; 8], Failure> {
        self.0.random()
    }

    fn sign_init(&self, mechanism: Mechanism, key: Object) -> Result<(), Failure> {
        self.0.sign_init(mechanism, key)
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Failure> {
        self.0.sign(data)
    }
}

/// A template for the library to read; it borrows the values, which have to outlive it.
fn in_template(attributes: &[Attribute]) -> Vec<CK_ATTRIBUTE> {
    let row = |attribute: &Attribute| CK_ATTRIBUTE {
        type_: attribute.kind.number(),
        pValue: attribute.value.as_ptr().cast_mut().cast(),
        ulValueLen: attribute.value.len() as CK_ULONG,
    };
    attributes.iter().map(row).collect()
}

/// A row for the library to fill. NULL instead of an empty buffer asks for the length alone.
fn in_row(row: &mut Row) -> CK_ATTRIBUTE {
    let pointer = if row.buffer.is_empty() { ptr::null_mut() } else { row.buffer.as_mut_ptr().cast() };
    CK_ATTRIBUTE { type_: row.kind.number(), pValue: pointer, ulValueLen: row.buffer.len() as CK_ULONG }
}

fn without_parameter(mechanism: u64) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 }
}

/// The same handle as the `cryptoki` crate has it.
pub(in super::super) fn object_handle(object: Object) -> cryptoki::object::ObjectHandle {
    // SAFETY: a number that the library looks up; the crate calls this unsafe since the number may be a wrong one.
    unsafe { cryptoki::object::ObjectHandle::new_from_raw(object.0) }
}
