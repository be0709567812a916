//! A key and a device as a library shows them, for the tests of what is made of them.

use crate::{
    certificate::sample::Pair,
    sign::pkcs11::{DeviceDescription, KeyDescription, PinState, SessionCounts, SessionLimit},
};

/// The shared pair on a device, to be seen whole.
pub(super) fn key() -> KeyDescription {
    KeyDescription {
        uri: "pkcs11:token=a;object=b".parse().unwrap(),
        label: "b".into(),
        id: "01".into(),
        key_type: "RSA".into(),
        bits: Some(2048),
        spki: Some(Pair::shared()[0].public_key().to_spki().unwrap()),
        private: true,
        public: true,
        signs: Some(true),
        sensitive: Some(true),
        extractable: Some(false),
        always_authenticate: Some(false),
        attributes: Vec::new(),
        certificates: Vec::new(),
    }
}

/// A device that wants a login.
pub(in crate::cli) fn device() -> DeviceDescription {
    DeviceDescription {
        uri: "pkcs11:token=a;serial=1".parse().unwrap(),
        label: "a".into(),
        serial: "1".into(),
        manufacturer: "Maker".into(),
        model: "Model".into(),
        initialized: true,
        login_required: true,
        pin_pad: false,
        pin: PinState::Good,
        pin_length: (4, 8),
        hardware_version: "1.0".into(),
        firmware_version: "1.0".into(),
        flags: Vec::new(),
        sessions: SessionCounts {
            open: None,
            most: SessionLimit::Unknown,
            open_rw: None,
            most_rw: SessionLimit::Unknown,
        },
    }
}
