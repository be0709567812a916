//! Where this module finds its files: where the environment says, else beside the library's own file.

use std::{
    env,
    ffi::{CStr, OsStr, c_void},
    mem,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// The file that `variable` names, else `name` in the folder of the library.
pub(crate) fn file(variable: &str, name: &str) -> PathBuf {
    match env::var_os(variable) {
        Some(path) => path.into(),
        None => library().with_file_name(name),
    }
}

/// The file that this code was loaded from.
fn library() -> PathBuf {
    // SAFETY: made of pointers and nothing else, for which nought is a value.
    let mut info: libc::Dl_info = unsafe { mem::zeroed() };
    let here = library as fn() -> PathBuf as *const c_void;
    // SAFETY: `info` is a place for one Dl_info.
    let known = unsafe { libc::dladdr(here, &mut info) };
    if known == 0 || info.dli_fname.is_null() {
        crate::give_up("the loader does not say where this library lies");
    }
    // SAFETY: the name of a loaded object, which stays as long as that.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    PathBuf::from(OsStr::from_bytes(name.to_bytes()))
}
