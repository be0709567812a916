//! A PKCS#11 module that misbehaves on request: it wraps a real one and does to its calls what a script says, which
//! may be changed while it runs. README.md has the script's language.

mod attributes;
mod background;
mod call;
mod code;
mod device;
mod functions;
mod login;
mod place;
mod script;
mod sign;
mod tally;

use std::{ffi::c_void, ptr, sync::OnceLock};

use cryptoki_sys::{
    CK_FLAGS, CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_2, CK_INTERFACE, CK_RV, CK_UTF8CHAR, CK_VERSION,
    CKR_ARGUMENTS_BAD, CKR_OK,
};

use self::{functions::Function, script::Interface};

/// A structure that the module hands out and never changes.
struct Given<T>(*mut T);

// SAFETY: nobody writes to what it points to.
unsafe impl<T> Send for Given<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Given<T> {}

fn give<T>(value: T) -> Given<T> {
    Given(Box::leak(Box::new(value)))
}

fn list() -> *mut CK_FUNCTION_LIST {
    static LIST: OnceLock<Given<CK_FUNCTION_LIST>> = OnceLock::new();
    LIST.get_or_init(|| give(functions::list())).0
}

/// The functions of 2.40 in a list that says 3.0: the functions that came later are not there.
fn list_that_says_3_0() -> *mut c_void {
    static LIST: OnceLock<Given<CK_FUNCTION_LIST_3_2>> = OnceLock::new();
    let list = LIST.get_or_init(|| {
        let longer = give(CK_FUNCTION_LIST_3_2::default());
        // SAFETY: every version of the list begins as that of version 2, and nobody else knows this one yet.
        unsafe { longer.0.cast::<CK_FUNCTION_LIST>().write(functions::list()) };
        // SAFETY: as above.
        unsafe { (*longer.0).version = CK_VERSION { major: 3, minor: 0 } };
        longer
    });
    list.0.cast()
}

/// The one symbol that a PKCS#11 2.40 module must have.
///
/// # Safety
/// `place` is NULL or a place for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(place: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    call::run(Function::C_GetFunctionList, |_| {
        if place.is_null() {
            return CKR_ARGUMENTS_BAD;
        }
        // SAFETY: not null, so it is a place for one pointer.
        unsafe { place.write(list()) };
        CKR_OK
    })
}

/// What a PKCS#11 3.0 module has besides.
///
/// # Safety
/// `place` is NULL or a place for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetInterface(
    _name: *mut CK_UTF8CHAR,
    _version: *mut CK_VERSION,
    place: *mut *mut CK_INTERFACE,
    _flags: CK_FLAGS,
) -> CK_RV {
    static INTERFACES: OnceLock<[Given<CK_INTERFACE>; 2]> = OnceLock::new();
    call::run(Function::C_GetInterface, |call| {
        if place.is_null() {
            return CKR_ARGUMENTS_BAD;
        }
        let interfaces = INTERFACES.get_or_init(|| {
            [list().cast(), list_that_says_3_0()].map(|functions| {
                let name = c"PKCS 11".as_ptr().cast_mut().cast();
                give(CK_INTERFACE { pInterfaceName: name, pFunctionList: functions, flags: 0 })
            })
        });
        let interface = match call.script.interface {
            Interface::V2 => interfaces[0].0,
            Interface::V3 => interfaces[1].0,
            Interface::Null => ptr::null_mut(),
        };
        // SAFETY: not null, so it is a place for one pointer.
        unsafe { place.write(interface) };
        CKR_OK
    })
}

/// What the loader runs before it hands the library out.
#[used]
#[unsafe(link_section = ".init_array")]
static LOADING: extern "C" fn() = {
    extern "C" fn loading() {
        call::run(Function::loading, |_| CKR_OK);
    }
    loading
};

/// Ends the process: with a script that means nothing, what follows would prove nothing.
fn give_up(why: &str) -> ! {
    eprintln!("faultp11: {why}");
    std::process::abort()
}
