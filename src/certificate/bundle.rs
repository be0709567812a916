//! Bundles of certificates: PKCS#7 (RFC 2315, RFC 5652 section 5) without signatures, as `.p7b`, `.p7c` and answers to
//! addresses in certificates.
//!
//! Only the certificates are taken out, each as it stands. They are often in BER: Windows and Java write lengths without
//! end, and sets in no order, both of which readers of DER refuse.

use super::{Certificate, Error, container::MOST_IN_FILE};

/// `signedData`, 1.2.840.113549.1.7.2, with tag and length.
const SIGNED_DATA: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

const SEQUENCE: u8 = 0x30;
const CONTENT: u8 = 0xa0;
const CERTIFICATES: u8 = 0xa0;

/// How deep lengths without end may stand in each other.
const DEEPEST: usize = 16;

/// Whether `bytes` begin as a bundle does.
pub(super) fn is_bundle(bytes: &[u8]) -> bool {
    // Header and object identifier; what follows may be damaged, which is said then.
    header(bytes).is_some_and(|header| {
        header.tag == SEQUENCE
            && bytes.get(header.length..).is_some_and(|inside| inside.starts_with(&SIGNED_DATA))
    })
}

/// The certificates in `bytes`, in their order.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<Certificate>, Error> {
    let damaged = || Error::Malformed { problem: "the PKCS#7 bundle is damaged".into() };
    let set = certificate_set(bytes).ok_or_else(damaged)?;
    let mut found = Vec::new();
    let mut rest = set;
    while !rest.is_empty() {
        let element = Element::first(rest).ok_or_else(damaged)?;
        // Attribute certificates and their like have other tags.
        if element.tag == SEQUENCE {
            if found.len() == MOST_IN_FILE {
                return Err(Error::TooMany { limit: MOST_IN_FILE });
            }
            found.push(Certificate::from_der(element.whole)?);
        }
        rest = element.rest;
    }
    if found.is_empty() {
        Err(Error::NoCertificate { found: vec!["an empty PKCS#7 bundle".into()] })
    } else {
        Ok(found)
    }
}

/// What is in the set of certificates; empty when there is none.
fn certificate_set(bytes: &[u8]) -> Option<&[u8]> {
    let outer = Element::first(bytes).filter(|it| it.tag == SEQUENCE)?;
    let content = Element::first(outer.content)?;
    let wrapped = Element::first(content.rest).filter(|it| it.tag == CONTENT)?;
    let signed = Element::first(wrapped.content).filter(|it| it.tag == SEQUENCE)?;
    // version, digestAlgorithms, encapContentInfo.
    let mut rest = signed.content;
    for _ in 0..3 {
        rest = Element::first(rest)?.rest;
    }
    match Element::first(rest) {
        Some(set) if set.tag == CERTIFICATES => Some(set.content),
        _ => Some(&[]),
    }
}

struct Header {
    tag: u8,
    /// Of the header itself.
    length: usize,
    /// `None`: without end, up to two bytes of zero.
    content: Option<usize>,
}

/// Tag and length (X.690 section 8.1). Tags of more than one byte stand in no bundle.
fn header(bytes: &[u8]) -> Option<Header> {
    let (&tag, rest) = bytes.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    Some(match first {
        0x80 => Header { tag, length: 2, content: None },
        0..=0x7f => Header { tag, length: 2, content: Some(usize::from(first)) },
        _ => {
            let count = usize::from(first & 0x7f);
            let digits = rest.get(..count).filter(|_| count <= 4)?;
            let content = digits.iter().fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
            Header { tag, length: 2 + count, content: Some(content) }
        }
    })
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let header = header(bytes)?;
        let (end_of_content, end) = match header.content {
            Some(content) => {
                let end = header.length.checked_add(content)?;
                (end, end)
            }
            None => {
                let end = header.length + endless(bytes.get(header.length..)?, DEEPEST)?;
                (end, end + 2)
            }
        };
        Some(Self {
            tag: header.tag,
            content: bytes.get(header.length..end_of_content)?,
            whole: bytes.get(..end)?,
            rest: bytes.get(end..)?,
        })
    }
}

/// How many bytes come before the end of a content without length.
fn endless(bytes: &[u8], depth: usize) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        if rest.starts_with(&[0, 0]) {
            return Some(at);
        }
        let header = header(rest)?;
        let length = match header.content {
            Some(content) => content,
            None => endless(rest.get(header.length..)?, depth.checked_sub(1)?)?.checked_add(2)?,
        };
        at = at.checked_add(header.length)?.checked_add(length)?;
    }
}

#[cfg(test)]
pub(crate) mod sample {
    //! Bundles for tests.

    use super::{Certificate, SIGNED_DATA};

    fn definite(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        [vec![tag, 0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8], content.to_vec()].concat()
    }

    fn endless(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x80], content, &[0, 0]].concat()
    }

    /// A bundle of `certificates`, with lengths or, as Windows writes them, without.
    pub(crate) fn bundle(certificates: &[&Certificate], with_lengths: bool) -> Vec<u8> {
        let element = if with_lengths { definite } else { endless };
        let set: Vec<u8> = certificates.iter().flat_map(|certificate| certificate.der().to_vec()).collect();
        let data = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
        let signed = [vec![2, 1, 1], vec![0x31, 0], element(0x30, &data), element(0xa0, &set), vec![0x31, 0]];
        let wrapped = element(0xa0, &element(0x30, &signed.concat()));
        element(0x30, &[SIGNED_DATA.to_vec(), wrapped].concat())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{sample::bundle, *};
    use crate::certificate::sample::Authority;

    #[test]
    fn certificates_come_out_as_they_stand_with_and_without_lengths() {
        let root = Authority::root("Rot");
        let issuing = root.below("Utsteder");
        for with_lengths in [true, false] {
            let bytes = bundle(&[&issuing.certificate, &root.certificate], with_lengths);
            assert!(is_bundle(&bytes));
            let found = certificates(&bytes).unwrap();
            assert_eq!(found, [issuing.certificate.clone(), root.certificate.clone()]);
        }
    }

    #[test]
    fn an_empty_or_damaged_bundle_says_so() {
        assert!(matches!(certificates(&bundle(&[], true)), Err(Error::NoCertificate { .. })));
        let whole = bundle(&[&Authority::root("Rot").certificate], true);
        assert!(matches!(certificates(&whole[..whole.len() - 1]), Err(Error::Malformed { .. })));
    }

    #[test]
    fn lengths_without_end_in_each_other_are_followed_only_so_far() {
        let deep: Vec<u8> = [0x30, 0x80].repeat(100_000);
        assert_eq!(endless(&deep, DEEPEST), None);
        assert!(certificates(&deep).is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_bundle_never_panics(place in any::<prop::sample::Index>(), value in any::<u8>(), with_lengths in any::<bool>()) {
            let real = Certificate::from_der(crate::certificate::sample::real()).unwrap();
            let mut bytes = bundle(&[&real], with_lengths);
            let place = place.index(bytes.len());
            bytes[place] = value;
            let _ = certificates(&bytes);
        }
    }
}
