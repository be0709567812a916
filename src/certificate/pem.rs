//! PEM (RFC 7468) read leniently around the blocks and strictly inside them. The text of a private key is wiped
//! when it is dropped, which general readers do not do.

use base64::{Engine, decoded_len_estimate, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::Error;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One block, not decoded yet: a damaged block that nobody wants does no harm.
pub(crate) struct Block<'a> {
    label: String,
    headers: bool,
    lines: Vec<&'a [u8]>,
}

impl Block<'_> {
    /// What stands after BEGIN.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Whether there are RFC 1421 headers, as in keys that old OpenSSL encrypted.
    pub(crate) fn has_headers(&self) -> bool {
        self.headers
    }

    /// The bytes inside.
    pub(crate) fn der(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        if self.has_headers() {
            let problem =
                format!("the {} block has headers, as keys encrypted by old OpenSSL have", self.label);
            return Err(Error::Pem { problem });
        }
        // One buffer of the size it needs: growing would leave pieces of a key behind.
        let length = self.lines.iter().map(|line| line.len()).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(length));
        text.extend(self.lines.iter().copied().flatten().filter(|byte| !byte.is_ascii_whitespace()));
        // Wiped even when it is damaged: half a key is half a key.
        let mut der = Zeroizing::new(vec![0; decoded_len_estimate(text.len())]);
        let length = STANDARD
            .decode_slice(text.as_slice(), &mut der)
            .map_err(|_| Error::Pem { problem: format!("the {} block is not base64", self.label) })?;
        der.truncate(length);
        Ok(der)
    }
}

/// The blocks of `file`, in order. Lines may be indented, end in CR LF and have any length.
pub(crate) fn blocks(file: &[u8]) -> Result<Vec<Block<'_>>, Error> {
    let file = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
    let mut lines = file.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(label) = boundary(line, BEGIN) {
            found.push(read_block(&mut lines, label)?);
        }
    }
    Ok(found)
}

/// `der` as one block, with line feeds.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

fn read_block<'a>(lines: &mut impl Iterator<Item = &'a [u8]>, label: String) -> Result<Block<'a>, Error> {
    let mut block = Block { label, headers: false, lines: Vec::new() };
    for line in lines {
        if let Some(end) = boundary(line, END) {
            return if end == block.label {
                Ok(block)
            } else {
                Err(Error::Pem { problem: format!("a {} block ends as {end}", block.label) })
            };
        }
        if boundary(line, BEGIN).is_some() {
            break;
        }
        if line.contains(&b':') {
            block.headers = true;
        } else {
            block.lines.push(line);
        }
    }
    Err(Error::Pem { problem: format!("a {} block has no end", block.label) })
}

fn boundary(line: &[u8], kind: &[u8]) -> Option<String> {
    let label = line.strip_prefix(kind)?.strip_suffix(DASHES)?;
    // Labels go into error messages, so a label is short and plain or it is none.
    let plain = label.len() <= 64 && label.iter().all(|byte| matches!(byte, b' '..=b'~'));
    plain.then(|| String::from_utf8_lossy(label).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> String {
        match blocks(text.as_bytes()) {
            Err(error) => error.to_string(),
            Ok(blocks) => blocks[0].der().unwrap_err().to_string(),
        }
    }

    #[test]
    fn a_block_that_is_damaged_says_how() {
        assert!(problem("-----BEGIN X-----\nAAAA\n").contains("has no end"));
        assert!(problem("-----BEGIN X-----\nAAAA\n-----END Y-----").contains("ends as Y"));
        assert!(problem("-----BEGIN X-----\nA*AA\n-----END X-----").contains("not base64"));
        assert!(problem("-----BEGIN X-----\nAAAA\n-----BEGIN X-----\n-----END X-----").contains("no end"));
    }

    #[test]
    fn headers_are_noticed_and_their_block_is_not_decoded() {
        let text = "-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n-----END X-----\n";
        let found = blocks(text.as_bytes()).unwrap();
        assert!(found[0].has_headers());
        assert!(found[0].der().unwrap_err().to_string().contains("headers"));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let text = encode("CERTIFICATE", &bytes);
            let found = blocks(text.as_bytes()).unwrap();
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(&*found[0].der().unwrap(), &bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(-----(BEGIN|END) [A-Z ]{0,4}-----|[A-Za-z:= ]{0,9}|\r|\n){0,30}") {
            if let Ok(found) = blocks(text.as_bytes()) {
                for block in found {
                    let _ = block.der();
                }
            }
        }
    }
}
