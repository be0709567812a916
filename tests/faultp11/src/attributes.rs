//! Attributes that look other than they are: in what is read of objects, and in what objects are searched by.

use cryptoki_sys::*;

use crate::{call::Call, device::check_session, functions::real, script::Script};

/// The CKA_ID that every object seems to have.
const ONE_ID: &[u8] = &[1];

/// As wide as labels are padded.
const LABEL: usize = 32;

/// Longer than any attribute of use.
const LONGEST: usize = 64 * 1024;

pub(crate) fn read(
    call: &Call,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let script = &call.script;
    if let Err(refusal) = check_session(script, session) {
        return refusal;
    }
    if template.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not null, and as many as our caller says.
    let rows = unsafe { std::slice::from_raw_parts_mut(template, count as usize) };
    if !rows.iter().any(|row| is_changed(script, row.type_)) {
        return real!(C_GetAttributeValue(session, object, template, count));
    }
    let mut answer = CKR_OK;
    for row in rows {
        let kind = row.type_;
        let value = match one(session, object, kind) {
            Ok(value) => value,
            Err(why @ (CKR_ATTRIBUTE_TYPE_INVALID | CKR_ATTRIBUTE_SENSITIVE)) => {
                row.ulValueLen = CK_UNAVAILABLE_INFORMATION;
                answer = why;
                continue;
            }
            Err(why) => return why,
        };
        if script.unavailable.contains(&kind) {
            row.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            continue;
        }
        let value = changed(script, kind, value);
        if row.pValue.is_null() {
            row.ulValueLen = value.len() as CK_ULONG;
        } else if (row.ulValueLen as usize) < value.len() {
            row.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            answer = CKR_BUFFER_TOO_SMALL;
        } else {
            row.ulValueLen = value.len() as CK_ULONG;
            // SAFETY: our caller has room for as many bytes as it said, which are not fewer than these.
            unsafe { row.pValue.cast::<u8>().copy_from_nonoverlapping(value.as_ptr(), value.len()) };
        }
    }
    answer
}

/// The real value of one attribute.
fn one(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    kind: CK_ATTRIBUTE_TYPE,
) -> Result<Vec<u8>, CK_RV> {
    let mut value = vec![0_u8; LONGEST];
    let mut row =
        CK_ATTRIBUTE { type_: kind, pValue: value.as_mut_ptr().cast(), ulValueLen: value.len() as CK_ULONG };
    match real!(C_GetAttributeValue(session, object, &mut row, 1)) {
        CKR_OK => {
            value.truncate(row.ulValueLen as usize);
            Ok(value)
        }
        why => Err(why),
    }
}

fn is_changed(script: &Script, kind: CK_ATTRIBUTE_TYPE) -> bool {
    script.unavailable.contains(&kind)
        || match kind {
            CKA_LABEL => script.nul_padded_labels,
            CKA_ID => script.duplicate_ids,
            CKA_ALWAYS_AUTHENTICATE => script.signature_pin.is_some(),
            _ => false,
        }
}

fn changed(script: &Script, kind: CK_ATTRIBUTE_TYPE, mut value: Vec<u8>) -> Vec<u8> {
    if !is_changed(script, kind) {
        return value;
    }
    match kind {
        CKA_LABEL => {
            value.resize(value.len().max(LABEL), 0);
            value
        }
        CKA_ID => ONE_ID.to_vec(),
        CKA_ALWAYS_AUTHENTICATE => vec![CK_TRUE],
        _ => value,
    }
}

/// A search by what objects seem to be.
pub(crate) fn find(
    call: &Call,
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let script = &call.script;
    if let Err(refusal) = check_session(script, session) {
        return refusal;
    }
    if template.is_null() || count == 0 {
        return real!(C_FindObjectsInit(session, template, count));
    }
    // SAFETY: not null, and as many as our caller says.
    let rows = unsafe { std::slice::from_raw_parts(template, count as usize) };
    let mut real_rows = Vec::with_capacity(rows.len());
    for row in rows {
        let mut row = *row;
        let value: &[u8] = if row.pValue.is_null() {
            &[]
        } else {
            // SAFETY: not null, and as long as our caller says.
            unsafe { std::slice::from_raw_parts(row.pValue.cast(), row.ulValueLen as usize) }
        };
        match row.type_ {
            CKA_LABEL if script.nul_padded_labels => {
                if value.len() < LABEL {
                    // No object has it in this length; nor has any this one, which nobody would write.
                    row.pValue = NOWHERE.as_ptr().cast_mut().cast();
                    row.ulValueLen = NOWHERE.len() as CK_ULONG;
                } else {
                    let text = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                    row.ulValueLen = text as CK_ULONG;
                }
            }
            CKA_ID if script.duplicate_ids && value == ONE_ID => continue,
            _ => {}
        }
        real_rows.push(row);
    }
    real!(C_FindObjectsInit(session, real_rows.as_mut_ptr(), real_rows.len() as CK_ULONG))
}

const NOWHERE: &[u8] = b"\xff faultp11: no object has this label";
