//! PKCS#11 URIs (RFC 7512): how a person names a device or a key so that it is still found tomorrow.
//!
//! Beside the attributes of the RFC there are two of our own, both for keys: `x5t-S256`, the SHA-256 thumbprint of the
//! key's certificate, and `jkt`, the thumbprint of the public key (RFC 7638). Their names are those of RFC 7515 section
//! 4.1.8 and RFC 9449 section 6.1, and their values are what `segl keys` prints.

mod compare;
mod parse;
mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) use self::compare::trimmed;
pub(super) use crate::language::printable;
use crate::secret::Source;

/// A PKCS#11 URI (RFC 7512). Attributes that are not given match anything.
///
/// PINs are refused wherever one might stand, since a URI ends up in logs and process lists. Slot numbers are read, and
/// who configures a signer has to say that they are meant, since on most devices they change from one start to the next.
///
/// Attributes that are not known: a path with one is refused, as it would match more than was asked for (RFC 7512
/// section 2.5 would match nothing), except for names that begin with `x-`; a query may have any. A name that is nearly
/// a known one, or that looks like the place of a PIN, is refused everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uri {
    token: Option<String>,
    manufacturer: Option<String>,
    serial: Option<String>,
    model: Option<String>,
    library_manufacturer: Option<String>,
    library_description: Option<String>,
    library_version: Option<LibraryVersion>,
    slot_manufacturer: Option<String>,
    slot_description: Option<String>,
    slot_id: Option<u64>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    kind: Option<ObjectKind>,
    certificate_thumbprint: Option<Thumbprint>,
    key_thumbprint: Option<Thumbprint>,
    module_path: Option<PathBuf>,
    module_name: Option<String>,
    pin_source: Option<Source>,
}

/// A SHA-256 digest that names a key or a certificate.
pub type Thumbprint = [u8; 32];

/// Value of `library-version`: major and minor number, a byte each.
type LibraryVersion = (u8, u8);

/// Value of the `type` attribute (RFC 7512 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// `cert`
    Certificate,
    /// `public`
    Public,
    /// `private`
    Private,
    /// `secret-key`
    SecretKey,
    /// `data`
    Data,
}

const SCHEME: &str = "pkcs11:";

impl Uri {
    /// `token`: label of the device.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// `serial`: serial number of the device.
    #[must_use]
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// `slot-id`: number of the slot (`CK_SLOT_ID`). 0 is a number like any other.
    #[must_use]
    pub fn slot_id(&self) -> Option<u64> {
        self.slot_id
    }

    /// `object`: `CKA_LABEL`, compared whole.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// `id`: `CKA_ID`.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_deref()
    }

    /// `type`.
    #[must_use]
    pub fn kind(&self) -> Option<ObjectKind> {
        self.kind
    }

    /// `x5t-S256`: SHA-256 of the DER of the certificate whose key is meant (RFC 7515 section 4.1.8).
    #[must_use]
    pub fn certificate_thumbprint(&self) -> Option<&Thumbprint> {
        self.certificate_thumbprint.as_ref()
    }

    /// `jkt`: JWK thumbprint of the public key (RFC 7638).
    #[must_use]
    pub fn key_thumbprint(&self) -> Option<&Thumbprint> {
        self.key_thumbprint.as_ref()
    }

    /// `module-path`: absolute path of the PKCS#11 library.
    #[must_use]
    pub fn module_path(&self) -> Option<&Path> {
        self.module_path.as_deref()
    }

    /// `module-name`: name of a profile.
    #[must_use]
    pub fn module_name(&self) -> Option<&str> {
        self.module_name.as_deref()
    }

    /// `pin-source`: the file or systemd credential that holds the PIN, and never a program. Only named here; who
    /// builds the signer reads it.
    #[must_use]
    pub fn pin_source(&self) -> Option<&Source> {
        self.pin_source.as_ref()
    }

    /// The device part alone: nothing of an object, and no query.
    #[must_use]
    pub fn device(&self) -> Self {
        Self {
            object: None,
            id: None,
            kind: None,
            certificate_thumbprint: None,
            key_thumbprint: None,
            module_path: None,
            module_name: None,
            pin_source: None,
            ..self.clone()
        }
    }

    /// The same object in the library at `path`, which is absolute.
    #[must_use]
    pub fn with_module_path(self, path: PathBuf) -> Self {
        Self { module_path: Some(path), ..self }
    }

    /// The same object in the library of the profile called `name`.
    #[must_use]
    pub fn with_module_name(self, name: String) -> Self {
        Self { module_name: Some(name), ..self }
    }

    /// The same object, found the way that `other` says: its library and where its PIN is.
    #[must_use]
    pub fn with_query_of(self, other: &Self) -> Self {
        Self {
            module_path: other.module_path.clone(),
            module_name: other.module_name.clone(),
            pin_source: other.pin_source.clone(),
            ..self
        }
    }

    /// The same object, in the slot that `other` names.
    #[must_use]
    pub fn with_slot_of(self, other: &Self) -> Self {
        Self { slot_id: other.slot_id, ..self }
    }

    /// The device part from what a device says of itself; empty texts are left out.
    pub(super) fn of_device(token: &str, serial: &str) -> Self {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self { token: given(token), serial: given(serial), ..Self::default() }
    }

    /// The same device, and on it the object with this label and `CKA_ID`.
    pub(super) fn with_object(&self, label: &str, id: &[u8]) -> Self {
        Self {
            object: Some(label.to_owned()).filter(|label| !label.is_empty()),
            id: Some(id.to_vec()).filter(|id| !id.is_empty()),
            ..self.clone()
        }
    }

    /// The same, and only certificates.
    pub(super) fn of_certificate(self) -> Self {
        Self { kind: Some(ObjectKind::Certificate), ..self }
    }
}

impl ObjectKind {
    const ALL: [Self; 5] = [Self::Certificate, Self::Public, Self::Private, Self::SecretKey, Self::Data];

    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "cert",
            Self::Public => "public",
            Self::Private => "private",
            Self::SecretKey => "secret-key",
            Self::Data => "data",
        }
    }
}

impl Serialize for Uri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
