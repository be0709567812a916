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

/// For the fuzzer: what is read of an object by a library that answers as `answer` does. It gets the rows of each call,
/// a buffer and the place of its length, and gives a `CKR_…`.
///
/// # Errors
/// The `CKR_…` of a library that gives nothing.
#[doc(hidden)]
pub fn attribute_values(
    mut answer: impl FnMut(&mut [(&mut [u8], &mut u64)]) -> u64,
) -> Result<Vec<Option<Vec<u8>>>, u64> {
    const WANTED: [AttributeType; 6] = [
        AttributeType::Sign,
        AttributeType::KeyType,
        AttributeType::Label,
        AttributeType::Modulus,
        AttributeType::AllowedMechanisms,
        AttributeType::Value,
    ];
    let values = read(&WANTED, |rows| {
        let places = rows.iter_mut().map(|row| (row.buffer.as_mut_slice(), &mut row.length));
        answer(&mut places.collect::<Vec<_>>())
    });
    values.map_err(|why| match why {
        Failure::Answered { code, .. } => code,
        Failure::Unusable { .. } => CKR_OK,
    })
}

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
            // The standard has the same length for a value that is not there and for one that does not fit. The code
            // tells them apart, but there is one code for all rows. Certificates may be longer than their room, and
            // NSS takes no more room for a number than it needs.
            let may_not_fit = code != CKR_OK
                && matches!(
                    self.kind,
                    AttributeType::Value
                        | AttributeType::Class
                        | AttributeType::CertificateType
                        | AttributeType::KeyType
                        | AttributeType::ModulusBits
                );
            return if may_not_fit || code == CKR_BUFFER_TOO_SMALL { Value::Unsure } else { Value::Missing };
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WANTED: [AttributeType; 4] =
        [AttributeType::Sign, AttributeType::KeyType, AttributeType::Label, AttributeType::Value];

    /// How a library treats a row whose value it has, and one that it does not give.
    #[derive(Clone, Copy, Debug)]
    enum Manner {
        /// As the standard says.
        Standard,
        /// Stops at the first row that fails, and leaves the lengths from there on as they were.
        Stops,
        /// Leaves the length of a row that fails as it was, and goes on.
        Leaves,
        /// Fails altogether when one row fails.
        FailsAll,
        /// Takes one row at a time.
        OneAtATime,
        /// Wants buffers that are just as long as the value.
        Exact,
        /// Wants that for numbers alone, and calls it a value that does not fit: NSS.
        ExactNumbers,
    }

    /// A library that has these values.
    fn library(has: &[(AttributeType, Vec<u8>)], manner: Manner) -> impl FnMut(&mut [Row]) -> CK_RV {
        move |rows| {
            if matches!(manner, Manner::OneAtATime) && rows.len() > 1 {
                return cryptoki_sys::CKR_ARGUMENTS_BAD;
            }
            let mut answer = CKR_OK;
            for row in rows {
                let value = has.iter().find(|(kind, _)| *kind == row.kind).map(|(_, value)| value);
                let room = row.buffer.len();
                let (code, length) = match value {
                    None => (CKR_ATTRIBUTE_TYPE_INVALID, CK_UNAVAILABLE_INFORMATION),
                    Some(value) if room == 0 => (CKR_OK, value.len() as u64),
                    Some(value) if matches!(manner, Manner::Exact) && room != value.len() => {
                        (cryptoki_sys::CKR_ATTRIBUTE_VALUE_INVALID, row.length)
                    }
                    Some(value)
                        if matches!(manner, Manner::ExactNumbers)
                            && row.kind == AttributeType::KeyType
                            && room != value.len() =>
                    {
                        (CKR_BUFFER_TOO_SMALL, CK_UNAVAILABLE_INFORMATION)
                    }
                    Some(value) if room < value.len() => match manner {
                        Manner::Standard | Manner::ExactNumbers => {
                            (CKR_BUFFER_TOO_SMALL, CK_UNAVAILABLE_INFORMATION)
                        }
                        _ => (CKR_BUFFER_TOO_SMALL, value.len() as u64),
                    },
                    Some(value) => {
                        row.buffer[..value.len()].copy_from_slice(value);
                        (CKR_OK, value.len() as u64)
                    }
                };
                if code != CKR_OK {
                    answer = if answer == CKR_OK { code } else { answer };
                    match manner {
                        Manner::Stops => break,
                        Manner::Leaves => continue,
                        Manner::FailsAll => return cryptoki_sys::CKR_FUNCTION_FAILED,
                        Manner::Standard | Manner::OneAtATime | Manner::Exact | Manner::ExactNumbers => {}
                    }
                }
                row.length = length;
            }
            answer
        }
    }

    #[test]
    fn all_values_are_had_from_libraries_of_every_manner() {
        let all = [
            (AttributeType::Sign, vec![1]),
            (AttributeType::KeyType, 0_usize.to_ne_bytes().to_vec()),
            (AttributeType::Label, b"seal".to_vec()),
            (AttributeType::Value, vec![0x30; 20_000]),
        ];
        for manner in [
            Manner::Standard,
            Manner::Stops,
            Manner::Leaves,
            Manner::FailsAll,
            Manner::OneAtATime,
            Manner::Exact,
            Manner::ExactNumbers,
        ] {
            for missing in 0..=all.len() {
                let mut has = all.to_vec();
                if missing < all.len() {
                    has.remove(missing);
                }
                let value = |kind| has.iter().find(|(has, _)| *has == kind).map(|(_, value)| value.clone());
                let expected = WANTED.map(value).to_vec();
                assert_eq!(
                    read(&WANTED, library(&has, manner)),
                    Ok(expected),
                    "{manner:?} without {missing}"
                );
            }
        }
    }

    #[test]
    fn an_ordinary_object_costs_one_call() {
        let has = [
            (AttributeType::Sign, vec![1]),
            (AttributeType::KeyType, 0_usize.to_ne_bytes().to_vec()),
            (AttributeType::Value, vec![7; 4000]),
        ];
        let (mut calls, mut answer) = (0, library(&has, Manner::Standard));
        let values = read(&WANTED, |rows| {
            calls += 1;
            answer(rows)
        });
        assert_eq!(values.map(|values| values.iter().filter(|value| value.is_some()).count()), Ok(3));
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_session_that_is_gone_is_no_object_without_attributes() {
        for code in [CKR_SESSION_HANDLE_INVALID, CKR_DEVICE_REMOVED, CKR_USER_NOT_LOGGED_IN] {
            let mut calls = 0;
            let answer = read(&WANTED, |_| {
                calls += 1;
                code
            });
            assert_eq!(answer, Err(Failure::Answered { function: FUNCTION, code }));
            assert_eq!(calls, 1, "asking on is of no use");
        }
        let code = cryptoki_sys::CKR_GENERAL_ERROR;
        assert_eq!(read(&WANTED, |_| code), Err(Failure::Answered { function: FUNCTION, code }));
    }

    #[test]
    fn what_is_longer_than_any_value_is_left_alone() {
        let has = [(AttributeType::Value, vec![1; LONGEST_VALUE + 1]), (AttributeType::Label, vec![2])];
        let values = read(&[AttributeType::Value, AttributeType::Label], library(&has, Manner::Leaves));
        assert_eq!(values, Ok(vec![None, Some(vec![2])]));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let has = [(AttributeType::Label, Vec::new())];
        for manner in [Manner::Standard, Manner::OneAtATime, Manner::Exact, Manner::Stops] {
            let values = read(&[AttributeType::Label, AttributeType::Sign], library(&has, manner));
            assert_eq!(values, Ok(vec![Some(Vec::new()), None]), "{manner:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_library_answers_no_value_is_longer_than_its_buffer(
            answers in prop::collection::vec((codes(), prop::collection::vec(lengths(), 4)), 1..12),
        ) {
            let mut longest = 0;
            let mut turn = 0;
            let values = read(&WANTED, |rows| {
                let (code, lengths) = &answers[turn % answers.len()];
                turn += 1;
                for (row, length) in rows.iter_mut().zip(lengths) {
                    longest = longest.max(row.buffer.len());
                    row.length = *length;
                }
                *code
            });
            prop_assert!(turn <= 1 + 2 * WANTED.len());
            prop_assert!(longest <= LONGEST_VALUE);
            if let Ok(values) = values {
                prop_assert_eq!(values.len(), WANTED.len());
                prop_assert!(values.iter().flatten().all(|value| value.len() <= longest));
            }
        }
    }

    fn codes() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => Just(CKR_OK),
            2 => prop::sample::select(vec![
                CKR_ATTRIBUTE_SENSITIVE,
                CKR_ATTRIBUTE_TYPE_INVALID,
                CKR_BUFFER_TOO_SMALL,
                cryptoki_sys::CKR_GENERAL_ERROR,
                CKR_DEVICE_ERROR,
            ]),
            1 => any::<u64>(),
        ]
    }

    fn lengths() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            Just(CK_UNAVAILABLE_INFORMATION),
            Just(u64::MAX - 1),
            Just(LONGEST_VALUE as u64),
            Just(LONGEST_VALUE as u64 + 1),
            0..10_000_u64,
            any::<u64>(),
        ]
    }
}
