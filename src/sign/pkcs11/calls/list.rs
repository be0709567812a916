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
                return Err(unusable(format!("there was room for {}, and {count} were given", numbers.len())));
            }
            // Some libraries do not say how much they need, so a little more each time.
            CKR_BUFFER_TOO_SMALL => count = count.max(numbers.len() as u64 * 2),
            code => return Err(Failure::Answered { function, code }),
        }
    }
    Err(unusable("the list kept growing".into()))
}
