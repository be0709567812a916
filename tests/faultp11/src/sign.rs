//! Signatures: with a PIN of their own, wrong ones, short ones.

use cryptoki_sys::*;

use crate::{
    call::Call,
    device::{check_session, device},
    functions::real,
    script::Action,
};

pub(crate) fn begin(
    call: &Call,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    if let Err(refusal) = check_session(&call.script, session) {
        return refusal;
    }
    let answer = real!(C_SignInit(session, mechanism, key));
    if let Some(session) = device().sessions.get_mut(&session) {
        (session.signing, session.authorized) = (answer == CKR_OK, false);
    }
    answer
}

pub(crate) fn sign(
    call: &Call,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_length: CK_ULONG,
    signature: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    if let Err(refusal) = check_session(&call.script, session) {
        return refusal;
    }
    let refused = call.script.signature_pin.is_some()
        && device().sessions.get(&session).is_some_and(|session| session.signing && !session.authorized);
    let answer = real!(C_Sign(session, data, data_length, signature, length));
    if answer != CKR_BUFFER_TOO_SMALL
        && !signature.is_null()
        && let Some(session) = device().sessions.get_mut(&session)
    {
        (session.signing, session.authorized) = (false, false);
    }
    if answer != CKR_OK || signature.is_null() {
        return answer;
    }
    // SAFETY: the real module has just written there, as much as it says there.
    let (made, length) =
        unsafe { (std::slice::from_raw_parts_mut(signature, *length as usize), &mut *length) };
    if refused {
        // It has ended the operation, as the standard wants, and the signature stays here.
        made.fill(0);
        return CKR_USER_NOT_LOGGED_IN;
    }
    for action in call.spoils() {
        match action {
            Action::Spoil => {
                let middle = made.len() / 2;
                made[middle] ^= 0x10;
            }
            Action::Blank => made.fill(0),
            Action::Truncate(most) => *length = (*length).min(*most),
            _ => {}
        }
    }
    CKR_OK
}
