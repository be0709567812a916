//! What a vendor's support wants to know of a device: flags, limits, mechanisms, attributes.

use super::{
    calls::{
        AttributeType, DeviceInfo, Library, MechanismInfo, Object, Session, Slot, flag_in, mechanism_name,
        number_in, numbers_in,
    },
    ec::Curve,
    job::{MechanismDescription, SessionCounts, SessionLimit},
    object,
    uri::printable,
};

/// Attributes of a key that are shown besides those that Segl itself goes by, and whose values are no secret.
const SHOWN: &[AttributeType] = &[
    AttributeType::Token,
    AttributeType::Private,
    AttributeType::Modifiable,
    AttributeType::Local,
    AttributeType::KeyGenMechanism,
    AttributeType::AllowedMechanisms,
    AttributeType::Sign,
    AttributeType::Decrypt,
    AttributeType::Unwrap,
    AttributeType::Derive,
    AttributeType::Sensitive,
    AttributeType::AlwaysSensitive,
    AttributeType::Extractable,
    AttributeType::NeverExtractable,
    AttributeType::AlwaysAuthenticate,
    AttributeType::WrapWithTrusted,
    AttributeType::StartDate,
    AttributeType::EndDate,
    AttributeType::EcParams,
];

/// `CKF_…` of `CK_TOKEN_INFO` (PKCS#11 2.40 section 3.2), without the prefix.
const DEVICE_FLAGS: &[(u64, &str)] = &[
    (0x0000_0001, "RNG"),
    (0x0000_0002, "WRITE_PROTECTED"),
    (0x0000_0004, "LOGIN_REQUIRED"),
    (0x0000_0008, "USER_PIN_INITIALIZED"),
    (0x0000_0020, "RESTORE_KEY_NOT_NEEDED"),
    (0x0000_0040, "CLOCK_ON_TOKEN"),
    (0x0000_0100, "PROTECTED_AUTHENTICATION_PATH"),
    (0x0000_0200, "DUAL_CRYPTO_OPERATIONS"),
    (0x0000_0400, "TOKEN_INITIALIZED"),
    (0x0000_0800, "SECONDARY_AUTHENTICATION"),
    (0x0001_0000, "USER_PIN_COUNT_LOW"),
    (0x0002_0000, "USER_PIN_FINAL_TRY"),
    (0x0004_0000, "USER_PIN_LOCKED"),
    (0x0008_0000, "USER_PIN_TO_BE_CHANGED"),
    (0x0010_0000, "SO_PIN_COUNT_LOW"),
    (0x0020_0000, "SO_PIN_FINAL_TRY"),
    (0x0040_0000, "SO_PIN_LOCKED"),
    (0x0080_0000, "SO_PIN_TO_BE_CHANGED"),
    (0x0100_0000, "ERROR_STATE"),
];

/// `CKF_…` of `CK_MECHANISM_INFO` (PKCS#11 2.40 section 3.5).
const USES: &[(u64, &str)] = &[
    (0x0000_0001, "hardware"),
    (0x0000_0100, "encrypt"),
    (0x0000_0200, "decrypt"),
    (0x0000_0400, "digest"),
    (0x0000_0800, "sign"),
    (0x0000_2000, "verify"),
    (0x0000_8000, "generate"),
    (0x0001_0000, "generate-key-pair"),
    (0x0002_0000, "wrap"),
    (0x0004_0000, "unwrap"),
    (0x0008_0000, "derive"),
];

/// Flags of the device that are set.
pub(super) fn flags(info: &DeviceInfo) -> Vec<String> {
    names(info.flags, DEVICE_FLAGS)
}

/// Its sessions.
pub(super) fn sessions(info: &DeviceInfo) -> SessionCounts {
    let counted = |count| match count {
        SessionLimit::Most(count) => Some(count),
        SessionLimit::Unlimited => Some(0),
        SessionLimit::Unknown => None,
    };
    SessionCounts {
        open: counted(info.sessions),
        most: info.max_sessions,
        open_rw: counted(info.rw_sessions),
        most_rw: info.max_rw_sessions,
    }
}

/// What the device can do. One that does not say is one that shows none.
pub(super) fn mechanisms(library: &dyn Library, slot: Slot) -> Vec<MechanismDescription> {
    let listed = library.mechanisms(slot).unwrap_or_default();
    let described = listed.into_iter().map(|mechanism| {
        let info = library.mechanism_info(slot, mechanism);
        let info = info.unwrap_or(MechanismInfo { key_size: (0, 0), flags: 0 });
        MechanismDescription {
            name: mechanism_name(mechanism),
            key_size: info.key_size,
            uses: names(info.flags, USES),
        }
    });
    described.collect()
}

fn names(flags: u64, known: &[(u64, &str)]) -> Vec<String> {
    known.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| (*name).to_owned()).collect()
}

/// The attributes of a key that the device gives.
pub(super) fn attributes(session: &dyn Session, key: Object) -> Vec<(String, String)> {
    let Ok(values) = object::read(session, key, SHOWN) else { return Vec::new() };
    let shown = SHOWN.iter().filter_map(|kind| Some((kind, values.bytes(*kind)?)));
    shown.map(|(kind, value)| (kind.name(), written(*kind, value))).collect()
}

/// The value as text.
fn written(kind: AttributeType, value: &[u8]) -> String {
    let text = match kind {
        AttributeType::StartDate | AttributeType::EndDate => Some(printable(&String::from_utf8_lossy(value))),
        AttributeType::EcParams => Curve::of(value).map(|curve| curve.name.to_owned()),
        AttributeType::KeyGenMechanism => number_in(value).map(mechanism_name),
        AttributeType::AllowedMechanisms => numbers_in(value)
            .map(|allowed| allowed.into_iter().map(mechanism_name).collect::<Vec<_>>().join(", ")),
        _ => flag_in(value).map(|flag| flag.to_string()),
    };
    text.unwrap_or_else(|| hex::encode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_for_people() {
        assert_eq!(written(AttributeType::Sign, &[1]), "true");
        let two = [1_usize.to_ne_bytes(), 0x40_usize.to_ne_bytes()].concat();
        assert_eq!(written(AttributeType::AllowedMechanisms, &two), "CKM_RSA_PKCS, CKM_SHA256_RSA_PKCS");
        assert_eq!(written(AttributeType::AllowedMechanisms, &two[1..]), hex::encode(&two[1..]));
        assert_eq!(written(AttributeType::EcParams, &[6, 5, 0x2b, 0x81, 4, 0, 0x22]), "P-384");
        assert_eq!(written(AttributeType::EcParams, &[0x30, 0]), "3000");
        assert_eq!(written(AttributeType::EndDate, b"2027\x1b0101"), "2027\u{fffd}0101");
    }

    #[test]
    fn flags_have_the_names_of_the_standard() {
        assert_eq!(
            names(0x0004_0404, DEVICE_FLAGS),
            ["LOGIN_REQUIRED", "TOKEN_INITIALIZED", "USER_PIN_LOCKED"]
        );
        assert_eq!(names(0x0801, USES), ["hardware", "sign"]);
    }
}
