//! A thread of the module's own, as makers have them for links and readers: what goes wrong there goes wrong while
//! nobody calls.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use cryptoki_sys::CKR_OK;

use crate::{call, functions::Function};

/// How often the thread does nothing in particular.
const PACE: Duration = Duration::from_millis(10);

/// Which thread is to go on; each has a number of its own.
static CURRENT: AtomicU64 = AtomicU64::new(0);

/// From C_Initialize on.
pub(crate) fn start() {
    let number = CURRENT.fetch_add(1, Ordering::SeqCst) + 1;
    thread::spawn(move || {
        while CURRENT.load(Ordering::SeqCst) == number {
            thread::sleep(PACE);
            call::run(Function::background, |_| CKR_OK);
        }
    });
}

/// Until C_Finalize.
pub(crate) fn stop() {
    CURRENT.fetch_add(1, Ordering::SeqCst);
}
