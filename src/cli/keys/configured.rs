//! Where the configuration says that the PINs of a device are.

use std::path::Path;

use super::{Work, unattended::Stored};
use crate::{
    config::{Key, Signer},
    secret::Sources,
    sign::pkcs11::{DeviceDescription, KeyDescription, Profile, Profiles, Uri},
};

/// The signers that may know the PINs of what is looked at.
#[derive(Debug, Default)]
pub(super) struct Configured {
    /// The one that was named, or made up for a URI.
    named: Option<Signer>,
    others: Vec<Signer>,
}

impl Configured {
    pub(super) fn new(named: Option<Signer>, work: &Work<'_>) -> Self {
        // That a configuration is wrong was said when the profiles were read.
        let config = work.context.configuration_if_any().unwrap_or_default();
        let others = config.into_iter().flat_map(|config| config.signers.into_values());
        Self { named, others: others.collect() }
    }

    /// Where the PIN of `device` is, on any signer there.
    pub(super) fn pin_of(&self, device: &DeviceDescription) -> Option<Sources> {
        let named = self.named.iter().filter_map(|signer| signer.pin.clone());
        let on_device = self.others.iter().filter(|signer| uris(signer).any(|uri| is_meant(device, uri)));
        named.chain(on_device.filter_map(|signer| signer.pin.clone())).next()
    }

    /// Which PINs of `key` come from somewhere that asks nobody.
    pub(super) fn stored_for(&self, device: &DeviceDescription, key: &KeyDescription) -> Stored {
        let names = |uri: &&Uri| device.is_named_by(uri) && key.is_named_by(uri);
        let named = self.named.iter().filter(|signer| uris(signer).any(|uri| names(&uri)));
        let others =
            self.others.iter().filter(|signer| uris(signer).filter(names).any(|uri| is_meant(device, uri)));
        let mut stored = Stored::default();
        for signer in named.chain(others) {
            let is_stored = |sources: &Option<Sources>| sources.as_ref().is_some_and(Sources::are_unattended);
            let in_uri = signer.pin.is_none() && uris(signer).any(|uri| uri.pin_source().is_some());
            stored.pin |= is_stored(&signer.pin) || in_uri;
            stored.sign_pin |= is_stored(&signer.sign_pin);
        }
        stored
    }

    /// The profile by which the library at `path` is driven when it signs.
    pub(super) fn profile_for(&self, path: &Path, profiles: &Profiles) -> Profile {
        let by_name = |signer: &'_ Signer| {
            signer.profile.clone().or_else(|| uris(signer).find_map(Uri::module_name).map(str::to_owned))
        };
        let asked = self.named.as_ref().and_then(by_name);
        let asked = asked.as_deref().and_then(|name| profiles.named(name)).cloned();
        asked.or_else(|| profiles.matching(path, None, None)).unwrap_or_else(Profile::unknown)
    }
}

fn uris(signer: &Signer) -> impl Iterator<Item = &Uri> {
    let uris = match &signer.key {
        Key::Pkcs11(uris) => Some(uris),
        Key::File(_) | Key::Jwk(_) => None,
    };
    uris.into_iter().flat_map(|uris| uris.iter())
}

/// Whether `uri` names this device and no other. One that fits every device may be meant for another one, and a wrong
/// PIN costs a try.
fn is_meant(device: &DeviceDescription, uri: &Uri) -> bool {
    uri.token().or(uri.serial()).is_some() && device.is_named_by(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::keys::sample;

    fn signer(uri: &str, pin: Option<&str>, sign_pin: Option<&str>) -> Signer {
        let sources = |text: &str| Sources::new(vec![text.parse().unwrap()]);
        Signer {
            pin: pin.map(sources),
            sign_pin: sign_pin.map(sources),
            ..Signer::new("a", Key::Pkcs11(uri.parse::<Uri>().unwrap().into()))
        }
    }

    fn stored(named: Option<Signer>, others: Vec<Signer>) -> (bool, bool) {
        let Stored { pin, sign_pin } =
            Configured { named, others }.stored_for(&sample::device(), &sample::key());
        (pin, sign_pin)
    }

    #[test]
    fn a_pin_counts_for_the_key_that_its_signer_names_and_for_no_other() {
        for (uri, expected) in [
            ("pkcs11:token=a;object=b", (true, true)),
            ("pkcs11:serial=1", (true, true)),
            ("pkcs11:token=a;object=c", (false, false)),
            ("pkcs11:token=c;object=b", (false, false)),
            // It fits, but it fits others as well.
            ("pkcs11:object=b", (false, false)),
        ] {
            let other = signer(uri, Some("file:/pin"), Some("file:/sign-pin"));
            assert_eq!(stored(None, vec![other]), expected, "{uri}");
        }
        // Whoever names the signer means it.
        let named = signer("pkcs11:object=b", Some("file:/pin"), None);
        assert_eq!(stored(Some(named), Vec::new()), (true, false));
    }

    #[test]
    fn a_pin_that_a_person_types_is_not_stored_and_one_in_the_uri_is() {
        let typed = signer("pkcs11:token=a", Some("prompt"), Some("prompt"));
        assert_eq!(stored(None, vec![typed]), (false, false));
        let in_uri = signer("pkcs11:token=a?pin-source=file:/pin", None, None);
        assert_eq!(stored(Some(in_uri), Vec::new()), (true, false));
    }

    #[test]
    fn the_pin_of_a_device_is_that_of_the_named_signer_before_that_of_another() {
        let (named, other) =
            (signer("pkcs11:", Some("file:/one"), None), signer("pkcs11:token=a", Some("file:/two"), None));
        let pin = |named, others| {
            Configured { named, others }.pin_of(&sample::device()).map(|sources| sources.to_string())
        };
        assert_eq!(pin(Some(named.clone()), vec![other.clone()]).as_deref(), Some("file:/one"));
        assert_eq!(pin(None, vec![other]).as_deref(), Some("file:/two"));
        assert_eq!(pin(None, vec![named]), None);
    }
}
