//! What a URI names among all that the libraries show, as it was described.

use super::survey::Looked;
use crate::{
    cli::failure::Failure,
    sign::{
        self, Sought,
        pkcs11::{CertificateDescription, Installed, KeyDescription, ObjectKind, SlotDescription, Uri},
    },
};

/// One thing that a URI names, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matched<'a> {
    pub(super) library: &'a Installed,
    pub(super) slot: &'a SlotDescription,
    pub(super) object: Object<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Object<'a> {
    Key(&'a KeyDescription),
    Certificate(&'a CertificateDescription),
}

impl Matched<'_> {
    pub(super) fn uri(&self) -> &Uri {
        match self.object {
            Object::Key(key) => &key.uri,
            Object::Certificate(certificate) => &certificate.uri,
        }
    }
}

/// All keys and certificates that `wanted` names; a certificate of a key only where the type says so.
pub(super) fn matched<'a>(looked: &'a [Looked], wanted: &Uri) -> Vec<Matched<'a>> {
    let mut found = Vec::new();
    for Looked { library, shown } in looked {
        let slots = shown.iter().flat_map(|shown| &shown.slots);
        for slot in slots.filter(|slot| slot.device.as_ref().is_some_and(|device| device.is_named_by(wanted)))
        {
            let place = |object| Matched { library, slot, object };
            for key in &slot.keys {
                let named = key.certificates.iter().filter(|its| its.is_named_by(wanted));
                if wanted.kind() == Some(ObjectKind::Certificate) {
                    found.extend(named.map(Object::Certificate).map(place));
                } else if key.is_named_by(wanted) {
                    found.push(place(Object::Key(key)));
                }
            }
            let lone = slot.certificates.iter().filter(|certificate| certificate.is_named_by(wanted));
            found.extend(lone.map(Object::Certificate).map(place));
        }
    }
    found
}

/// The only one of `found`.
pub(super) fn the_only<'a>(found: &[Matched<'a>], wanted: &Uri) -> Result<Matched<'a>, Failure> {
    match found {
        [only] => Ok(*only),
        // One device that is seen through two libraries is one.
        [first, rest @ ..]
            if rest
                .iter()
                .all(|other| other.uri() == first.uri() && !std::ptr::eq(other.library, first.library)) =>
        {
            Ok(*first)
        }
        _ => Err(sign::Error::Ambiguous {
            sought: Sought::Key,
            uri: wanted.to_string(),
            candidates: found.iter().map(|it| it.uri().to_string()).collect(),
        }
        .into()),
    }
}
