//! Lists of numbers that a library gives in two calls: how many there are, then which.

use cryptoki_sys::{CK_RV, CKR_BUFFER_TOO_SMALL, CKR_OK};

use super::Failure;

/// No device has so many slots or mechanisms; a library that says so is not believed.
const MOST: u64 = 4096;

/// A list that grows between the two calls is asked for again, so often.
const TRIES: usize = 5;

/// Reads a list with `call`, which gets room for the numbers, or none to be told how many there are, and the place for
/// how many there are.
pub(super) fn read(
    function: &'static str,
    mut call: impl FnMut(Option<&mut [u64]>, &mut u64) -> CK_RV,
) -> Result<Vec<u64>, Failure> {
    let unusable = |problem: String| Failure::Unusable { function, problem };
    let mut count = 0;
    match call(None, &mut count) {
        CKR_OK => {}
        code => return Err(Failure::Answered { function, code }),
    }
    for _ in 0..TRIES {
        if count > MOST {
            return Err(unusable(format!("{count} entries are more than can be believed")));
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut numbers = vec![0; count as usize];
        match call(Some(&mut numbers), &mut count) {
            CKR_OK if count as usize <= numbers.len() => {
                numbers.truncate(count as usize);
                return Ok(numbers);
            }
            CKR_OK => {
                return Err(unusable(format!(
                    "there was room for {}, and {count} were given",
                    numbers.len()
                )));
            }
            // Some libraries do not say how much they need, so a little more each time.
            CKR_BUFFER_TOO_SMALL => count = count.max(numbers.len() as u64 * 2),
            code => return Err(Failure::Answered { function, code }),
        }
    }
    Err(unusable("the list kept growing".into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A library whose list is longer at each call.
    fn growing(mut lengths: Vec<usize>) -> impl FnMut(Option<&mut [u64]>, &mut u64) -> CK_RV {
        move |room, count| {
            let now: Vec<u64> = (1..=lengths.remove(0) as u64).collect();
            *count = now.len() as u64;
            match room {
                None => CKR_OK,
                Some(room) if room.len() < now.len() => CKR_BUFFER_TOO_SMALL,
                Some(room) => {
                    room[..now.len()].copy_from_slice(&now);
                    CKR_OK
                }
            }
        }
    }

    #[test]
    fn a_list_that_grows_or_shrinks_meanwhile_is_read_whole() {
        assert_eq!(read("C_GetSlotList", growing(vec![2, 2])), Ok(vec![1, 2]));
        assert_eq!(read("C_GetSlotList", growing(vec![1, 3, 3])), Ok(vec![1, 2, 3]));
        assert_eq!(read("C_GetSlotList", growing(vec![3, 1])), Ok(vec![1]));
        assert_eq!(read("C_GetSlotList", growing(vec![1, 0])), Ok(vec![]));
        assert_eq!(read("C_GetSlotList", growing(vec![0])), Ok(vec![]));
    }

    #[test]
    fn a_list_without_end_is_given_up() {
        let endless = read("C_GetSlotList", growing((0..7).map(|turn| 3_usize.pow(turn)).collect()));
        assert!(matches!(endless, Err(Failure::Unusable { .. })), "{endless:?}");
        let long = read("C_GetSlotList", growing(vec![5000, 5000]));
        assert!(matches!(long, Err(Failure::Unusable { .. })), "{long:?}");
    }

    #[test]
    fn what_the_library_answers_instead_is_passed_on() {
        let refused = read("C_GetMechanismList", |_, _| 0xe0);
        assert_eq!(refused, Err(Failure::Answered { function: "C_GetMechanismList", code: 0xe0 }));
        let refused = read("C_GetMechanismList", |room, count| {
            *count = 4;
            if room.is_some() { 0x30 } else { CKR_OK }
        });
        assert_eq!(refused, Err(Failure::Answered { function: "C_GetMechanismList", code: 0x30 }));
    }

    proptest! {
        #[test]
        fn whatever_a_library_says_of_its_list_is_survived(
            answers in prop::collection::vec(
                (prop_oneof![Just(CKR_OK), Just(CKR_BUFFER_TOO_SMALL), any::<u64>()],
                 prop_oneof![0..5000_u64, any::<u64>()]),
                1..8,
            ),
        ) {
            let (mut turn, mut room) = (0, 0);
            let numbers = read("C_GetSlotList", |given, count| {
                let (code, says) = answers[turn % answers.len()];
                turn += 1;
                room = given.map_or(room, |given| given.len());
                *count = says;
                code
            });
            prop_assert!(turn <= 1 + TRIES && room as u64 <= MOST);
            prop_assert!(numbers.map_or(0, |numbers| numbers.len()) <= room);
        }
    }
}
