//! PINs: counted as a card counts them, in memory that no crash resets.

use std::sync::atomic::Ordering;

use cryptoki_sys::*;

use crate::{
    call::Call,
    device::{check_session, device, wrong_pins},
    functions::real,
    tally,
};

pub(crate) fn login(
    call: &Call,
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> CK_RV {
    if let Err(refusal) = check_session(&call.script, session) {
        return refusal;
    }
    match (user, &call.script.signature_pin) {
        (CKU_CONTEXT_SPECIFIC, Some(right)) => {
            if device().sessions.get(&session).is_none_or(|session| !session.signing) {
                return CKR_OPERATION_NOT_INITIALIZED;
            }
            counted(call, tally::SIGNATURE_PIN, || {
                if is(pin, length, right) { CKR_OK } else { CKR_PIN_INCORRECT }
            })
            .inspect_right(|| {
                if let Some(session) = device().sessions.get_mut(&session) {
                    session.authorized = true;
                }
            })
        }
        (CKU_USER | CKU_CONTEXT_SPECIFIC, _) => {
            counted(call, tally::USER_PIN, || real!(C_Login(session, user, pin, length)))
        }
        _ => real!(C_Login(session, user, pin, length)),
    }
}

/// Does `attempt`, unless the PIN is locked, and counts it.
fn counted(call: &Call, pin: usize, attempt: impl FnOnce() -> CK_RV) -> CK_RV {
    let row = tally::row(pin);
    let tries = call.script.pin_tries;
    if tries != 0 && wrong_pins(&call.script, pin) >= tries {
        return call.script.locked_answer.0;
    }
    let answer = attempt();
    match answer {
        CKR_OK => row.second.store(0, Ordering::SeqCst),
        CKR_PIN_INCORRECT | CKR_PIN_LEN_RANGE | CKR_PIN_INVALID => {
            row.first.fetch_add(1, Ordering::SeqCst);
            row.second.fetch_add(1, Ordering::SeqCst);
        }
        _ => {}
    }
    answer
}

trait Right: Sized {
    fn inspect_right(self, act: impl FnOnce()) -> Self;
}

impl Right for CK_RV {
    fn inspect_right(self, act: impl FnOnce()) -> Self {
        if self == CKR_OK {
            act();
        }
        self
    }
}

fn is(pin: *mut CK_UTF8CHAR, length: CK_ULONG, right: &str) -> bool {
    if pin.is_null() {
        return false;
    }
    // SAFETY: not null, and as long as our caller says.
    let given = unsafe { std::slice::from_raw_parts(pin, length as usize) };
    given == right.as_bytes()
}
