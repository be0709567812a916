//! Attributes of objects: their numbers, and values as bytes.

/// `CK_ATTRIBUTE_TYPE`, those that Segl reads or writes (PKCS#11 2.40, `pkcs11t.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub(in super::super) enum AttributeType {
    Class = 0x000,
    Token = 0x001,
    Private = 0x002,
    Label = 0x003,
    Value = 0x011,
    CertificateType = 0x080,
    Issuer = 0x081,
    SerialNumber = 0x082,
    KeyType = 0x100,
    Subject = 0x101,
    Id = 0x102,
    Sensitive = 0x103,
    Encrypt = 0x104,
    Decrypt = 0x105,
    Wrap = 0x106,
    Unwrap = 0x107,
    Sign = 0x108,
    Verify = 0x10a,
    Derive = 0x10c,
    StartDate = 0x110,
    EndDate = 0x111,
    Modulus = 0x120,
    ModulusBits = 0x121,
    PublicExponent = 0x122,
    Extractable = 0x162,
    Local = 0x163,
    NeverExtractable = 0x164,
    AlwaysSensitive = 0x165,
    KeyGenMechanism = 0x166,
    Modifiable = 0x170,
    EcParams = 0x180,
    EcPoint = 0x181,
    AlwaysAuthenticate = 0x202,
    WrapWithTrusted = 0x210,
    AllowedMechanisms = 0x4000_0600,
}

impl AttributeType {
    /// Its number.
    pub(super) fn number(self) -> u64 {
        self as u64
    }

    /// Its name, `CKA_…`.
    pub(in super::super) fn name(self) -> String {
        let mut name = String::from("CKA");
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }
}

/// An attribute and its value: in a template, or read from an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Attribute {
    pub(super) kind: AttributeType,
    /// As the device has it: a `CK_BBOOL`, a `CK_ULONG` in native order, or bytes.
    pub(super) value: Vec<u8>,
}

impl Attribute {
    /// A yes or no.
    pub(in super::super) fn flag(kind: AttributeType, value: bool) -> Self {
        Self { kind, value: vec![u8::from(value)] }
    }

    /// A number.
    pub(in super::super) fn number(kind: AttributeType, value: u64) -> Self {
        // CK_ULONG is as wide as a pointer on all systems that Segl is built for.
        Self { kind, value: (value as usize).to_ne_bytes().to_vec() }
    }

    /// Bytes.
    pub(in super::super) fn bytes(kind: AttributeType, value: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: value.into() }
    }

    /// `CKA_CLASS`, which stands in every template: some libraries hold a hundred other objects.
    pub(in super::super) fn class(class: ObjectClass) -> Self {
        Self::number(AttributeType::Class, class as u64)
    }
}

/// What a value says that should be a yes or no. Devices write `CK_TRUE` as 1; anything but 0 is taken for it.
pub(in super::super) fn flag_in(value: &[u8]) -> Option<bool> {
    // Some devices write it as wide as a number.
    if value.is_empty() || value.len() > size_of::<usize>() {
        return None;
    }
    Some(value.iter().any(|byte| *byte != 0))
}

/// The number in a value that should be a `CK_ULONG`.
pub(in super::super) fn number_in(value: &[u8]) -> Option<u64> {
    <[u8; size_of::<usize>()]>::try_from(value).ok().map(|bytes| usize::from_ne_bytes(bytes) as u64)
}

/// The numbers in a value that should be an array of `CK_ULONG` (`CKA_ALLOWED_MECHANISMS`).
pub(in super::super) fn numbers_in(value: &[u8]) -> Option<Vec<u64>> {
    let words = value.chunks_exact(size_of::<usize>());
    if !words.remainder().is_empty() {
        return None;
    }
    words.map(number_in).collect()
}

/// `CK_OBJECT_CLASS`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(in super::super) enum ObjectClass {
    Certificate = 1,
    PublicKey = 2,
    PrivateKey = 3,
}

/// `CK_KEY_TYPE`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct KeyType(pub(in super::super) u64);

impl KeyType {
    pub(in super::super) const RSA: Self = Self(0);
    pub(in super::super) const EC: Self = Self(3);

    /// As people name it: `RSA`, `EC`.
    pub(in super::super) fn name(self) -> String {
        match self.0 {
            0x00 => "RSA".into(),
            0x01 => "DSA".into(),
            0x02 => "DH".into(),
            0x03 => "EC".into(),
            0x40 => "EC_EDWARDS".into(),
            0x41 => "EC_MONTGOMERY".into(),
            0x4a => "ML_DSA".into(),
            other => format!("type {other:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_a_device_gives_for_a_value_is_read_without_a_panic(value: Vec<u8>) {
            let _ = (flag_in(&value), number_in(&value));
            if let Some(numbers) = numbers_in(&value) {
                prop_assert_eq!(numbers.len() * size_of::<usize>(), value.len());
            }
        }

        #[test]
        fn numbers_and_flags_come_back_as_they_were_written(number: u32, flag: bool) {
            let written = Attribute::number(AttributeType::ModulusBits, number.into());
            prop_assert_eq!(number_in(&written.value), Some(number.into()));
            prop_assert_eq!(flag_in(&Attribute::flag(AttributeType::Sign, flag).value), Some(flag));
        }
    }

    #[test]
    fn a_flag_as_wide_as_a_number_is_still_a_flag() {
        assert_eq!(flag_in(&1_usize.to_ne_bytes()), Some(true));
        assert_eq!(flag_in(&[0; 8]), Some(false));
        assert_eq!(flag_in(&[]), None);
        assert_eq!(flag_in(&[0; 9]), None);
    }
}
