//! What is said between Segl and the process of a library. One message of the socket is one frame; the kernel keeps
//! them apart. What comes from that process is untrusted: a library may have written all over its memory.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::super::{
    job::{Answer, Job},
    login::{LoginOutcome, LoginRequest},
    profile::Profile,
};
use crate::{
    clock::Instant,
    sign::{Error, PinProblem},
};

/// No frame is longer: below what a socket takes in one message by default.
pub(super) const LONGEST_FRAME: usize = 128 * 1024;

/// A longer answer comes in pieces of this length.
const PIECE: usize = 64 * 1024;

/// No answer is longer: a device with thousands of certificates.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// To the library's process.
#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "made, written and forgotten one at a time")]
pub(super) enum ToHost {
    /// The first frame.
    Hello(Box<Hello>),
    /// A job, when it is no longer worth doing, and the message to be signed with the time when it was made, for jobs
    /// that sign. Times are the system clock's, which both sides share.
    Ask { id: u64, expires: Instant, job: Job, message: Option<(Vec<u8>, Instant)> },
}

/// What the library's process is there for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Version of Segl: both sides must be of one build.
    pub(super) version: String,
    /// The library.
    pub(super) path: PathBuf,
    /// How it is driven.
    pub(super) profile: Profile,
}

/// From the library's process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromHost {
    /// The first frame.
    Ready { version: String },
    /// A piece of an answer: of a `Result<Answer, Error>`.
    Piece { id: u64, bytes: Vec<u8>, last: bool },
}

/// On the second socket: logins, one question and one answer at a time.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum LoginQuestion {
    Authorize { job: u64, request: LoginRequest },
    Ended { job: u64, request: LoginRequest, outcome: LoginOutcome },
}

/// What is answered to [`LoginQuestion::Authorize`]. No `Debug`: it may hold a PIN.
#[derive(Serialize, Deserialize)]
enum Authorized<'a> {
    Pin(&'a str),
    /// The device asks for it on its own pad.
    Pad,
    Refused(PinProblem),
}

/// Writes a frame.
pub(super) fn encoded(frame: &impl Serialize) -> Result<Vec<u8>, String> {
    let bytes = postcard::to_stdvec(frame).map_err(|why| format!("it cannot be written: {why}"))?;
    if bytes.len() > LONGEST_FRAME {
        return Err(format!("it has {} bytes, more than {LONGEST_FRAME}", bytes.len()));
    }
    Ok(bytes)
}

/// Reads a frame; nothing may be left of it.
pub(super) fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((frame, [])) => Ok(frame),
        Ok((_, rest)) => Err(format!("{} bytes follow after a frame's end", rest.len())),
        Err(why) => Err(format!("a frame cannot be read: {why}")),
    }
}

/// The frames of an answer.
pub(super) fn answer_frames(id: u64, answer: &Result<Answer, Error>) -> Result<Vec<Vec<u8>>, String> {
    let bytes = postcard::to_stdvec(answer).map_err(|why| format!("it cannot be written: {why}"))?;
    let count = bytes.len().div_ceil(PIECE);
    let piece = |(at, piece): (usize, &[u8])| {
        encoded(&FromHost::Piece { id, bytes: piece.to_vec(), last: at + 1 == count })
    };
    bytes.chunks(PIECE).enumerate().map(piece).collect()
}

/// An answer while its pieces come in.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<u8>);

impl Pieces {
    /// Takes a piece; the answer, once it is whole.
    pub(super) fn take(
        &mut self,
        bytes: Vec<u8>,
        last: bool,
    ) -> Result<Option<Result<Answer, Error>>, String> {
        if self.0.is_empty() {
            self.0 = bytes;
        } else {
            self.0.extend_from_slice(&bytes);
        }
        if self.0.len() > LONGEST_ANSWER {
            return Err(format!("an answer is longer than {LONGEST_ANSWER} bytes"));
        }
        if last { decoded(&std::mem::take(&mut self.0)).map(Some) } else { Ok(None) }
    }
}

/// For the fuzzer: takes `input` for what the process of a library says, on either socket, and as pieces of one answer.
/// Returns the bytes of what was understood, written again.
#[doc(hidden)]
pub fn host_says(input: &[u8]) -> Vec<Vec<u8>> {
    let mut understood = Vec::new();
    let mut pieces = Pieces::default();
    // Frames are kept apart by their lengths here, as the socket does otherwise.
    let mut rest = input;
    while let Some((length, after)) = rest.split_first() {
        let (frame, after) = after.split_at_checked(usize::from(*length)).unwrap_or((after, &[]));
        rest = after;
        if let Ok(question) = decoded::<LoginQuestion>(frame) {
            understood.extend(encoded(&question));
        }
        if let Ok(said) = decoded::<FromHost>(frame) {
            understood.extend(encoded(&said));
            if let FromHost::Piece { bytes, last, .. } = said
                && let Ok(Some(answer)) = pieces.take(bytes, last)
            {
                understood.extend(answer_frames(0, &answer).unwrap_or_default());
            }
        }
    }
    understood
}

/// Room for a reply with a PIN, wiped when it is dropped.
pub(super) type PinFrame = Zeroizing<Vec<u8>>;

/// Writes the reply to a login that was or was not authorised.
pub(super) fn encoded_pin(outcome: &Result<Option<SecretString>, PinProblem>) -> Result<PinFrame, String> {
    let reply = match outcome {
        Ok(Some(pin)) => Authorized::Pin(pin.expose_secret()),
        Ok(None) => Authorized::Pad,
        Err(problem) => Authorized::Refused(problem.clone()),
    };
    // Made at its full size: a buffer that grows leaves copies behind.
    let mut buffer = pin_buffer();
    let length = postcard::to_slice(&reply, &mut buffer).map_err(|why| why.to_string())?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// Reads the reply to a login.
pub(super) fn decoded_pin(bytes: &[u8]) -> Result<Result<Option<SecretString>, PinProblem>, String> {
    match postcard::from_bytes(bytes).map_err(|why| format!("a frame cannot be read: {why}"))? {
        Authorized::Pin(pin) => Ok(Ok(Some(SecretString::from(pin)))),
        Authorized::Pad => Ok(Ok(None)),
        Authorized::Refused(problem) => Ok(Err(problem)),
    }
}

/// A buffer as long as the longest reply with a PIN.
pub(super) fn pin_buffer() -> PinFrame {
    Zeroizing::new(vec![0; crate::secret::LONGEST + 1024])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put_together(frames: Vec<Vec<u8>>) -> Result<Answer, Error> {
        let mut pieces = Pieces::default();
        for frame in frames {
            match decoded(&frame).unwrap() {
                FromHost::Piece { id: 7, bytes, last } => {
                    if let Some(answer) = pieces.take(bytes, last).unwrap() {
                        return answer;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("no last piece");
    }

    #[test]
    fn an_answer_of_several_megabytes_comes_whole_in_frames_that_a_socket_takes() {
        let certificates: Vec<Vec<u8>> = (0..2000_u16).map(|at| vec![at as u8; 2000]).collect();
        let frames = answer_frames(7, &Ok(Answer::Certificates(certificates.clone()))).unwrap();
        assert!(frames.len() > 10 && frames.iter().all(|frame| frame.len() <= LONGEST_FRAME));
        match put_together(frames).unwrap() {
            Answer::Certificates(came) => assert_eq!(came, certificates),
            other => panic!("{other:?}"),
        }
        let frames = answer_frames(7, &Err(Error::KeyChanged)).unwrap();
        assert_eq!(put_together(frames).unwrap_err(), Error::KeyChanged);
    }

    #[test]
    fn a_pin_goes_over_as_it_is_and_so_do_its_absence_and_its_refusal() {
        let over = |outcome| decoded_pin(&encoded_pin(&outcome).unwrap()).unwrap();
        let pin = over(Ok(Some(SecretString::from("0001pa ss-ø")))).unwrap().unwrap();
        assert_eq!(pin.expose_secret(), "0001pa ss-ø");
        assert!(over(Ok(None)).unwrap().is_none());
        assert_eq!(over(Err(PinProblem::FinalTry)).unwrap_err(), PinProblem::FinalTry);
    }

    proptest! {
        #[test]
        fn no_bytes_from_a_library_s_process_make_us_panic(bytes: Vec<u8>, last: bool) {
            let _ = decoded::<FromHost>(&bytes);
            let _ = decoded::<LoginQuestion>(&bytes);
            let _ = Pieces::default().take(bytes, last);
        }
    }
}
