//! Values of an object's attributes, out of what C_GetAttributeValue answers. Codes and lengths are a device's word
//! and not trusted: nothing is read but what lies in the buffers.

use cryptoki_sys::{
    CK_RV, CK_UNAVAILABLE_INFORMATION, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_BUFFER_TOO_SMALL, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY,
    CKR_DEVICE_REMOVED, CKR_HOST_MEMORY, CKR_OBJECT_HANDLE_INVALID, CKR_OK, CKR_SESSION_CLOSED,
    CKR_SESSION_HANDLE_INVALID, CKR_SLOT_ID_INVALID, CKR_TOKEN_NOT_PRESENT, CKR_TOKEN_NOT_RECOGNIZED,
    CKR_USER_NOT_LOGGED_IN,
};

use super::{AttributeType, Failure, LONGEST_VALUE};

const FUNCTION: &str = "C_GetAttributeValue";

/// A row of what the library is asked: `CK_ATTRIBUTE` with a buffer that is its own.
pub(super) struct Row {
    pub(super) kind: AttributeType,
    /// Room for the value, all zeros. No room at all asks for the length.
    pub(super) buffer: Vec<u8>,
    /// What the library left in `ulValueLen`.
    pub(super) length: u64,
}

/// What a row came to.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    Read(Vec<u8>),
    /// The object does not have it, or it is not for others to see.
    Missing,
    /// To be asked for alone: the room was too small, or the answer does not say.
    Unsure,
}

/// Reads `wanted` with `call`, which asks the library for some rows at once and gives its answer.
///
/// All are asked for at once, with room that is usually enough: one call for an object instead of two for each
/// attribute, which is what a network HSM is slow at. What that leaves open is asked for one by one.
pub(super) fn read(
    wanted: &[AttributeType],
    mut call: impl FnMut(&mut [Row]) -> CK_RV,
) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let mut rows: Vec<Row> = wanted.iter().map(|kind| Row::with_room(*kind, usual_room(*kind))).collect();
    let code = call(&mut rows);
    if ends_all(code) {
        return Err(Failure::Answered { function: FUNCTION, code });
    }
    let mut refused = None;
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        values.push(match row.value(code) {
            Value::Read(value) => Some(value),
            Value::Missing => None,
            Value::Unsure => match alone(row.kind, &mut call) {
                Ok(value) => value,
                Err(code) if ends_all(code) => return Err(Failure::Answered { function: FUNCTION, code }),
                Err(code) => {
                    refused = Some(code);
                    None
                }
            },
        });
    }
    // An object that gives nothing at all is no object without attributes.
    match refused {
        Some(code) if values.iter().all(Option::is_none) => {
            Err(Failure::Answered { function: FUNCTION, code })
        }
        _ => Ok(values),
    }
}

/// One attribute by itself, as the standard describes it: first its length, then its value.
fn alone(kind: AttributeType, call: &mut impl FnMut(&mut [Row]) -> CK_RV) -> Result<Option<Vec<u8>>, CK_RV> {
    let mut row = Row::with_room(kind, 0);
    match call(std::slice::from_mut(&mut row)) {
        CKR_OK | CKR_BUFFER_TOO_SMALL => {}
        CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID => return Ok(None),
        code => return Err(code),
    }
    if row.length == 0 {
        return Ok(Some(Vec::new()));
    }
    let Some(room) = believable(row.length) else { return Ok(None) };
    let mut row = Row::with_room(kind, room);
    match call(std::slice::from_mut(&mut row)) {
        CKR_OK => {}
        CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID | CKR_BUFFER_TOO_SMALL => return Ok(None),
        code => return Err(code),
    }
    match row.value(CKR_OK) {
        Value::Read(value) => Ok(Some(value)),
        Value::Missing | Value::Unsure => Ok(None),
    }
}

impl Row {
    fn with_room(kind: AttributeType, room: usize) -> Self {
        Self { kind, buffer: vec![0; room], length: room as u64 }
    }

    /// What is in the row after the library answered with `code`.
    fn value(&self, code: CK_RV) -> Value {
        if self.length == CK_UNAVAILABLE_INFORMATION {
            return Value::Missing;
        }
        match code {
            CKR_OK => {}
            // These concern one row, and the others are to be filled all the same. Some libraries stop at that row,
            // though, and leave the lengths after it as they were given.
            CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID | CKR_BUFFER_TOO_SMALL
                if self.length != self.buffer.len() as u64 => {}
            _ => return Value::Unsure,
        }
        match believable(self.length) {
            None if self.length != 0 => Value::Missing,
            _ => match self.buffer.get(..self.length as usize) {
                Some(value) => Value::Read(value.to_vec()),
                None => Value::Unsure,
            },
        }
    }
}

/// A length that a value may have.
fn believable(length: u64) -> Option<usize> {
    usize::try_from(length).ok().filter(|length| (1..=LONGEST_VALUE).contains(length))
}

/// Room that is enough for nearly all values, in bytes. Never just enough for a flag or number: a length that is left
/// as it was would look like that of a value.
fn usual_room(kind: AttributeType) -> usize {
    match kind {
        AttributeType::Value => 8192,
        AttributeType::Label
        | AttributeType::Id
        | AttributeType::Issuer
        | AttributeType::SerialNumber
        | AttributeType::Subject
        | AttributeType::Modulus
        | AttributeType::PublicExponent
        | AttributeType::EcParams
        | AttributeType::EcPoint
        | AttributeType::AllowedMechanisms => 1025,
        _ => 32,
    }
}

/// Whether the session, the object or the device is gone, so that asking on is of no use.
fn ends_all(code: CK_RV) -> bool {
    matches!(
        code,
        CKR_SESSION_HANDLE_INVALID
            | CKR_SESSION_CLOSED
            | CKR_OBJECT_HANDLE_INVALID
            | CKR_USER_NOT_LOGGED_IN
            | CKR_CRYPTOKI_NOT_INITIALIZED
            | CKR_SLOT_ID_INVALID
            | CKR_DEVICE_ERROR
            | CKR_DEVICE_MEMORY
            | CKR_DEVICE_REMOVED
            | CKR_TOKEN_NOT_PRESENT
            | CKR_TOKEN_NOT_RECOGNIZED
            | CKR_HOST_MEMORY
    )
}
