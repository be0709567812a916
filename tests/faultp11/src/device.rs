//! Slots, devices and sessions, as the script wants them to look.

use std::{
    collections::HashMap,
    ffi::c_void,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use cryptoki_sys::*;

use crate::{
    background,
    call::Call,
    functions::{Function, real},
    script::Script,
    tally,
};

/// What this process has of the device.
#[derive(Default)]
pub(crate) struct Device {
    pub(crate) sessions: HashMap<CK_SESSION_HANDLE, Session>,
    /// The insertion that the real sessions are of.
    insertion: u64,
    /// C_Initialize found no slot.
    no_slots: bool,
}

/// An open session.
pub(crate) struct Session {
    /// As the real module counts them.
    slot: CK_SLOT_ID,
    insertion: u64,
    /// A signature has been begun, and whether its PIN has been given.
    pub(crate) signing: bool,
    pub(crate) authorized: bool,
}

/// So far apart are the slots' numbers after one C_Initialize from those after the next.
const MOVE: u64 = 1000;

pub(crate) fn device() -> MutexGuard<'static, Device> {
    static DEVICE: LazyLock<Mutex<Device>> = LazyLock::new(Mutex::default);
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn initialize(call: &Call, arguments: *mut c_void) -> CK_RV {
    tally::row(tally::PROCESS).first.store(std::process::id().into(), Ordering::SeqCst);
    let answer = real!(C_Initialize(arguments));
    if answer == CKR_OK {
        *device() =
            Device { insertion: call.script.insertion, no_slots: call.script.no_slots, ..Device::default() };
        count_sessions(0);
        background::start();
    }
    answer
}

pub(crate) fn finalize(_: &Call, reserved: *mut c_void) -> CK_RV {
    let answer = real!(C_Finalize(reserved));
    if answer == CKR_OK {
        device().sessions.clear();
        count_sessions(0);
        background::stop();
    }
    answer
}

/// The real number of `slot`, where there is a device in it.
pub(crate) fn check_slot(script: &Script, slot: CK_SLOT_ID) -> Result<CK_SLOT_ID, CK_RV> {
    let slot = real_slot(script, slot)?;
    if script.removed { Err(CKR_TOKEN_NOT_PRESENT) } else { Ok(slot) }
}

/// Whether `session` is one that the device would still know.
pub(crate) fn check_session(script: &Script, session: CK_SESSION_HANDLE) -> Result<(), CK_RV> {
    let mut device = device();
    if script.removed {
        return Err(CKR_DEVICE_REMOVED);
    }
    device.notice(script);
    match device.sessions.get(&session) {
        Some(open) if open.insertion != script.insertion => Err(CKR_SESSION_HANDLE_INVALID),
        // One that is not known is for the real module to refuse.
        _ => Ok(()),
    }
}

impl Device {
    /// A device that was out has forgotten its sessions and who had logged in.
    fn notice(&mut self, script: &Script) {
        if self.insertion == script.insertion {
            return;
        }
        self.insertion = script.insertion;
        let mut slots: Vec<CK_SLOT_ID> = self.sessions.values().map(|session| session.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            real!(C_CloseAllSessions(slot));
        }
    }

    fn live(&self) -> u64 {
        self.sessions.values().filter(|session| session.insertion == self.insertion).count() as u64
    }
}

/// Logs out behind everybody's back.
pub(crate) fn log_out() {
    let session = device().sessions.keys().next().copied();
    if let Some(session) = session {
        real!(C_Logout(session));
    }
}

fn offset(script: &Script) -> u64 {
    let moved = if script.slots_move { MOVE * tally::calls(Function::C_Initialize) } else { 0 };
    script.slot_offset + moved
}

fn real_slot(script: &Script, slot: CK_SLOT_ID) -> Result<CK_SLOT_ID, CK_RV> {
    slot.checked_sub(offset(script)).ok_or(CKR_SLOT_ID_INVALID)
}

pub(crate) fn slot_list(
    call: &Call,
    present: CK_BBOOL,
    slots: *mut CK_SLOT_ID,
    count: *mut CK_ULONG,
) -> CK_RV {
    if count.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let none = device().no_slots || (call.script.removed && present != CK_FALSE);
    // The real module must be asked all the same: it may not be initialized.
    let answer = real!(C_GetSlotList(present, slots, count));
    if answer == CKR_OK && none {
        // SAFETY: not null, and our caller's place for one number.
        unsafe { count.write(0) };
    } else if answer == CKR_OK && !slots.is_null() {
        // SAFETY: the real module has just written as many there.
        let written = unsafe { std::slice::from_raw_parts_mut(slots, *count as usize) };
        for slot in written {
            *slot += offset(&call.script);
        }
    }
    answer
}

pub(crate) fn slot_info(call: &Call, slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) -> CK_RV {
    let slot = match real_slot(&call.script, slot) {
        Ok(slot) => slot,
        Err(refusal) => return refusal,
    };
    let answer = real!(C_GetSlotInfo(slot, info));
    if answer == CKR_OK && call.script.removed {
        // SAFETY: the real module has just written there.
        unsafe { (*info).flags &= !CKF_TOKEN_PRESENT };
    }
    answer
}

pub(crate) fn token_info(call: &Call, slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let script = &call.script;
    let slot = match check_slot(script, slot) {
        Ok(slot) => slot,
        Err(refusal) => return refusal,
    };
    let answer = real!(C_GetTokenInfo(slot, info));
    if answer != CKR_OK {
        return answer;
    }
    // SAFETY: the real module has just written there.
    let info = unsafe { &mut *info };
    if script.nul_padded_labels {
        for byte in info.label.iter_mut().rev().take_while(|byte| **byte == b' ') {
            *byte = 0;
        }
    }
    if script.max_sessions != 0 && !script.max_sessions_unreported {
        let open = device().live();
        (info.ulMaxSessionCount, info.ulMaxRwSessionCount) = (script.max_sessions, script.max_sessions);
        (info.ulSessionCount, info.ulRwSessionCount) = (open, open);
    }
    if script.unavailable_limits {
        for limit in [
            &mut info.ulMaxSessionCount,
            &mut info.ulSessionCount,
            &mut info.ulMaxRwSessionCount,
            &mut info.ulRwSessionCount,
            &mut info.ulMaxPinLen,
            &mut info.ulMinPinLen,
            &mut info.ulTotalPublicMemory,
            &mut info.ulFreePublicMemory,
        ] {
            *limit = CK_UNAVAILABLE_INFORMATION;
        }
    }
    tell_of_pin(script, &mut info.flags);
    answer
}

/// Wrong PINs since the last right one.
pub(crate) fn wrong_pins(script: &Script, pin: usize) -> u64 {
    script.pin_spent + tally::row(pin).second.load(Ordering::SeqCst)
}

fn tell_of_pin(script: &Script, flags: &mut CK_FLAGS) {
    if !script.pin_flags_hidden && script.pin_tries == 0 {
        return;
    }
    *flags &= !(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
    if script.pin_flags_hidden {
        return;
    }
    let wrong = wrong_pins(script, tally::USER_PIN);
    if wrong > 0 {
        *flags |= CKF_USER_PIN_COUNT_LOW;
    }
    if wrong + 1 == script.pin_tries {
        *flags |= CKF_USER_PIN_FINAL_TRY;
    }
    if wrong >= script.pin_tries {
        *flags |= CKF_USER_PIN_LOCKED;
    }
}

pub(crate) fn open_session(
    call: &Call,
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    place: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    let slot = match check_slot(&call.script, slot) {
        Ok(slot) => slot,
        Err(refusal) => return refusal,
    };
    let mut device = device();
    device.notice(&call.script);
    if call.script.max_sessions != 0 && device.live() >= call.script.max_sessions {
        return CKR_SESSION_COUNT;
    }
    let answer = real!(C_OpenSession(slot, flags, application, notify, place));
    if answer == CKR_OK {
        // SAFETY: the real module has just written there.
        let handle = unsafe { *place };
        let insertion = device.insertion;
        device.sessions.insert(handle, Session { slot, insertion, signing: false, authorized: false });
        count_sessions(device.live());
    }
    answer
}

pub(crate) fn close_session(call: &Call, session: CK_SESSION_HANDLE) -> CK_RV {
    let answer = match check_session(&call.script, session) {
        Ok(()) => real!(C_CloseSession(session)),
        Err(refusal) => refusal,
    };
    let mut device = device();
    device.sessions.remove(&session);
    count_sessions(device.live());
    answer
}

pub(crate) fn close_all_sessions(call: &Call, slot: CK_SLOT_ID) -> CK_RV {
    let slot = match check_slot(&call.script, slot) {
        Ok(slot) => slot,
        Err(refusal) => return refusal,
    };
    let mut device = device();
    device.sessions.retain(|_, session| session.slot != slot);
    count_sessions(device.live());
    real!(C_CloseAllSessions(slot))
}

pub(crate) fn session_info(call: &Call, session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO) -> CK_RV {
    if let Err(refusal) = check_session(&call.script, session) {
        return refusal;
    }
    let answer = real!(C_GetSessionInfo(session, info));
    if answer == CKR_OK {
        // SAFETY: the real module has just written there.
        unsafe { (*info).slotID += offset(&call.script) };
    }
    answer
}

fn count_sessions(open: u64) {
    let row = tally::row(tally::SESSIONS);
    row.first.store(open, Ordering::SeqCst);
    row.second.fetch_max(open, Ordering::SeqCst);
}
