//! Function lists as no library should have them.

use std::{
    cell::Cell,
    ffi::c_void,
    path::Path,
    ptr,
    sync::{Mutex, PoisonError},
};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BBOOL, CK_BYTE, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE,
    CKF_CLOCK_ON_TOKEN,
};

use super::{super::Library as _, *};
use crate::sign::pkcs11::calls::{Attribute, AttributeType, Object, ObjectClass, User};

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A library with these functions and no others; it has never been initialized and is not asked.
fn library(functions: CK_FUNCTION_LIST) -> Library {
    let mut library = Library::load(Path::new(SOFTHSM)).unwrap();
    library.functions = Box::leak(Box::new(functions));
    library
}

fn handle(functions: CK_FUNCTION_LIST) -> Handle {
    library(functions).session(7)
}

fn problem<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> (&'static str, String) {
    match outcome {
        Err(Failure::Unusable { function, problem }) => (function, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_function_that_the_list_lacks_is_a_failure_of_that_function_alone() {
    let lacking = || library(CK_FUNCTION_LIST::default());
    let pin = SecretString::from("1234");
    let expected = |function| (function, "the library does not have it".to_owned());
    assert_eq!(problem(lacking().info()), expected("C_GetInfo"));
    assert_eq!(problem(lacking().slots()), expected("C_GetSlotList"));
    assert_eq!(problem(lacking().finalize()), expected("C_Finalize"));
    assert_eq!(problem(lacking().open(Slot(0), Access::ReadOnly).map(drop)), expected("C_OpenSession"));
    let session = handle(CK_FUNCTION_LIST::default());
    assert_eq!(problem(session.login(User::User, Some(&pin))), expected("C_Login"));
    assert_eq!(problem(session.find(&[], 1)), expected("C_FindObjectsInit"));
    assert_eq!(problem(session.attributes(Object(1), &[])), expected("C_GetAttributeValue"));
    assert_eq!(problem(session.sign(b"")), expected("C_Sign"));
}

#[test]
fn a_list_that_is_not_there_or_too_old_is_no_list() {
    // SAFETY: NULL is allowed.
    assert!(unsafe { copied(ptr::null()) }.is_err());
    for (major, minor, taken) in [(1, 0, false), (2, 0, false), (2, 1, true), (2, 40, true), (3, 2, true)] {
        let list = CK_FUNCTION_LIST { version: CK_VERSION { major, minor }, ..Default::default() };
        // SAFETY: it is a list.
        assert_eq!(unsafe { copied(&raw const list) }.is_ok(), taken, "{major}.{minor}");
    }
}

unsafe extern "C" fn sign(
    _: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    _: CK_ULONG,
    _: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: there is a first byte; it says by how much the length is to be wrong.
    let wrong_by = unsafe { *data };
    // SAFETY: `length` is a place for one number.
    unsafe { *length += CK_ULONG::from(wrong_by) };
    CKR_OK
}

#[test]
fn a_signature_longer_than_its_buffer_is_not_read() {
    let session = handle(CK_FUNCTION_LIST { C_Sign: Some(sign), ..Default::default() });
    assert_eq!(session.sign(&[0]).map(|signature| signature.len()), Ok(1024));
    let (function, problem) = problem(session.sign(&[1]));
    assert_eq!(
        (function, problem.as_str()),
        ("C_Sign", "there was room for 1024 bytes, and 1025 were given")
    );
}

thread_local! {
    static FINISHED: Cell<u32> = const { Cell::new(0) };
}

unsafe extern "C" fn find_init(_: CK_SESSION_HANDLE, _: *mut CK_ATTRIBUTE, _: CK_ULONG) -> CK_RV {
    CKR_OK
}

unsafe extern "C" fn find_too_many(
    _: CK_SESSION_HANDLE,
    _: *mut CK_OBJECT_HANDLE,
    room: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: `count` is a place for one number.
    unsafe { *count = room + 1 };
    CKR_OK
}

unsafe extern "C" fn find_without_end(
    _: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    _: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: there is room for one handle.
    unsafe { *objects = 9 };
    // SAFETY: `count` is a place for one number.
    unsafe { *count = 1 };
    CKR_OK
}

unsafe extern "C" fn find_final(_: CK_SESSION_HANDLE) -> CK_RV {
    FINISHED.set(FINISHED.get() + 1);
    CKR_OK
}

#[test]
fn a_search_that_gives_more_than_was_asked_for_is_ended_and_not_read() {
    let list = |find| CK_FUNCTION_LIST {
        C_FindObjectsInit: Some(find_init),
        C_FindObjects: Some(find),
        C_FindObjectsFinal: Some(find_final),
        ..Default::default()
    };
    let template = [Attribute::class(ObjectClass::PrivateKey)];
    let (function, problem) = problem(handle(list(find_too_many)).find(&template, 10));
    assert_eq!((function, problem.as_str()), ("C_FindObjects", "64 objects were asked for, and 65 given"));
    assert_eq!(FINISHED.get(), 1);
    assert_eq!(handle(list(find_without_end)).find(&template, 10), Ok(vec![Object(9); 10]));
    assert_eq!(FINISHED.get(), 2);
    let failing = CK_FUNCTION_LIST { C_FindObjects: None, ..list(find_without_end) };
    assert!(handle(failing).find(&template, 10).is_err());
    assert_eq!(FINISHED.get(), 3, "a search that failed is over, too");
}

unsafe extern "C" fn attributes_elsewhere(
    _: CK_SESSION_HANDLE,
    _: CK_OBJECT_HANDLE,
    rows: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: there are as many rows as said.
    let rows = unsafe { std::slice::from_raw_parts_mut(rows, count as usize) };
    for row in rows {
        // The pointer of another buffer, and another type: neither is looked at again.
        *row = CK_ATTRIBUTE { type_: 0x999, pValue: ptr::dangling_mut::<c_void>(), ulValueLen: 4 };
    }
    CKR_OK
}

#[test]
fn pointers_that_a_library_leaves_in_a_row_are_not_followed() {
    let list = CK_FUNCTION_LIST { C_GetAttributeValue: Some(attributes_elsewhere), ..Default::default() };
    let values = handle(list).attributes(Object(1), &[AttributeType::Label, AttributeType::Id]);
    assert_eq!(values, Ok(vec![Some(vec![0; 4]), Some(vec![0; 4])]));
}

unsafe extern "C" fn slots_beyond_belief(_: CK_BBOOL, _: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    // SAFETY: `count` is a place for one number.
    unsafe { *count = CK_ULONG::MAX };
    CKR_OK
}

unsafe extern "C" fn mechanisms_too_many(
    _: CK_SLOT_ID,
    mechanisms: *mut CK_MECHANISM_TYPE,
    count: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: `count` is a place for one number.
    unsafe { *count = if mechanisms.is_null() { 3 } else { 4 } };
    CKR_OK
}

#[test]
fn lists_are_believed_as_far_as_their_room_goes() {
    let list = CK_FUNCTION_LIST {
        C_GetSlotList: Some(slots_beyond_belief),
        C_GetMechanismList: Some(mechanisms_too_many),
        ..Default::default()
    };
    let library = library(list);
    assert_eq!(problem(library.slots()).0, "C_GetSlotList");
    let (function, problem) = problem(library.mechanisms(Slot(0)));
    assert_eq!(
        (function, problem.as_str()),
        ("C_GetMechanismList", "there was room for 3, and 4 were given")
    );
}

unsafe extern "C" fn odd_device(_: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let odd = CK_TOKEN_INFO {
        label: [0xff; 32],
        model: *b"Model\0\0\0\0\0\0\0\0\0\0\0",
        flags: CKF_CLOCK_ON_TOKEN | 0x400,
        ulMaxSessionCount: 0,
        ulSessionCount: 0,
        ulMaxRwSessionCount: CK_ULONG::MAX,
        ulRwSessionCount: 3,
        ulMaxPinLen: 0,
        ulMinPinLen: 4,
        utcTime: *b"no time at all!!",
        ..Default::default()
    };
    // SAFETY: `info` is a place for one CK_TOKEN_INFO.
    unsafe { *info = odd };
    CKR_OK
}

#[test]
fn a_device_whose_clock_shows_no_time_and_whose_label_is_no_text_is_described() {
    let library = library(CK_FUNCTION_LIST { C_GetTokenInfo: Some(odd_device), ..Default::default() });
    let info = library.device_info(Slot(0)).unwrap();
    assert_eq!((info.label.chars().count(), info.model.as_str()), (32, "Model"));
    assert_eq!((info.max_sessions, info.sessions), (Limit::Unlimited, Limit::Most(0)));
    assert_eq!((info.max_rw_sessions, info.rw_sessions), (Limit::Unknown, Limit::Most(3)));
    assert!(info.is_initialized());
    assert_eq!(info.pin_length, (4, 0));
}

/// Where the arguments were, their flags, the reserved string, and whether NULL was behind it.
type Seen = (usize, u64, Option<String>, bool);

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

unsafe extern "C" fn initialize(arguments: *mut c_void) -> CK_RV {
    // SAFETY: it is a CK_C_INITIALIZE_ARGS with one more pointer behind it.
    let block = unsafe { arguments.cast::<arguments::Block>().as_ref() }.unwrap();
    let reserved = (!block.standard.pReserved.is_null()).then(|| {
        // SAFETY: not null, so it is a string that ends with NUL.
        let text = unsafe { std::ffi::CStr::from_ptr(block.standard.pReserved.cast()) };
        text.to_str().unwrap().to_owned()
    });
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.push((arguments as usize, block.standard.flags, reserved, block.behind.is_null()));
    CKR_OK
}

#[test]
fn arguments_stay_where_they_are_and_are_made_once() {
    let library = library(CK_FUNCTION_LIST { C_Initialize: Some(initialize), ..Default::default() });
    let plain = InitializeArguments { os_locking: true, reserved: None };
    let told = InitializeArguments { os_locking: false, reserved: Some("configdir='x'".into()) };
    for arguments in [&plain, &told, &plain, &told] {
        library.initialize(arguments).unwrap();
    }
    let seen = SEEN.lock().unwrap();
    assert_eq!((seen[0].1, seen[0].2.as_deref(), seen[0].3), (2, None, true));
    assert_eq!((seen[1].1, seen[1].2.as_deref(), seen[1].3), (0, Some("configdir='x'"), true));
    assert_eq!((&seen[0], &seen[1]), (&seen[2], &seen[3]), "a device that comes and goes costs no memory");
    assert_ne!(seen[0].0, seen[1].0);
}
