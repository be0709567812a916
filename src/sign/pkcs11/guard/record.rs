use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::super::{
    login::{DeviceId, Login, LoginRequest},
    profile::LockoutScope,
    uri::{Uri, printable},
};
use crate::{secret::Origin, sign::PinProblem};

/// Without a person, no more tries than these are made since the last login that went well.
pub const MOST_SPENT: u8 = 2;

/// The version of the form that records are written in.
const VERSION: u8 = 1;

/// Far more than a record takes.
pub(super) const LONGEST: usize = 16 * 1024;

/// What is remembered of a device on which PIN tries have been spent since the last login that went well.
///
/// Nothing in it comes from a PIN: whoever stole a hash of six digits would soon have the digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PinRecord {
    version: u8,
    /// The library through which it was tried.
    pub module: PathBuf,
    /// As the device calls itself.
    pub label: String,
    /// Its serial number, which may be the same on all devices of a maker.
    pub serial: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Which of its logins.
    pub login: Login,
    /// How many tries: each is counted before it is made.
    pub spent: u8,
    /// When the last one was made, in seconds since 1970.
    pub at: u64,
    /// Who gave the PIN for the last one.
    pub by: TriedBy,
    /// What the device answered to it (a CKR code); `None` when that was never learnt.
    pub answer: Option<String>,
    /// What the device said of its PIN before it.
    pub flags: PinFlags,
    /// What locks, as the name says that the record is kept under.
    #[serde(skip)]
    scope: LockoutScope,
}

/// Who gave a PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TriedBy {
    /// A source; which one is not known for PINs that a program gave in its own way.
    Source(Option<Origin>),
    /// A person at a terminal.
    Person,
    /// A person at the device's own pad.
    Pad,
}

/// What a device says of its PIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PinFlags {
    /// A wrong one was entered since the last good login (`CKF_USER_PIN_COUNT_LOW`).
    pub count_low: bool,
    /// One try is left (`CKF_USER_PIN_FINAL_TRY`).
    pub final_try: bool,
    /// None is left (`CKF_USER_PIN_LOCKED`).
    pub locked: bool,
}

/// What stands between a program and the next try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Standing {
    /// The source has been changed since: one more try will be made.
    Changed,
    /// The next try waits until this source is changed, or a person unblocks it.
    UntilChanged(String),
    /// The PIN came from where no change can be seen to be a person's: a person unblocks it.
    UntilUnblocked,
    /// So many tries have been spent that only a person unblocks it, whatever is changed.
    Exhausted,
}

impl PinRecord {
    /// For the first try.
    pub(super) fn new(module: &Path, request: &LoginRequest) -> Self {
        let DeviceId { label, serial, manufacturer, model } = request.device.clone();
        Self {
            version: VERSION,
            module: module.to_owned(),
            label,
            serial,
            manufacturer,
            model,
            login: request.login,
            spent: 0,
            at: 0,
            by: TriedBy::Source(None),
            answer: None,
            flags: request.flags(),
            scope: LockoutScope::default(),
        }
    }

    /// The record in `bytes`, which is kept under `name`.
    pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let mut record: Self = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        if record.version != VERSION {
            return Err(format!("it is of version {}, and this program knows {VERSION}", record.version));
        }
        let scopes = [LockoutScope::Device, LockoutScope::Token];
        let scope = scopes.into_iter().find(|scope| record.name(*scope) == name);
        record.scope = scope.ok_or("it is another device's")?;
        Ok(record)
    }

    pub(super) fn written(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec_pretty(self).map_err(|why| why.to_string())
    }

    /// What the record is kept under: what can be locked, by its hash.
    ///
    /// A device that several libraries lead to (a proxy, a newer version, a recorder of calls) has one record, where it
    /// can be known to be the same one: by a serial number of its own, or because the profile says that the hardware as
    /// a whole locks. Of devices with serial numbers that tell nothing, two libraries may mean two: a good login to one
    /// would forget what was refused by the other.
    pub(super) fn name(&self, scope: LockoutScope) -> String {
        let is_known = scope == LockoutScope::Device || tells_devices_apart(&self.serial);
        let module = if is_known { "".into() } else { self.module.to_string_lossy() };
        let label = if scope == LockoutScope::Device { "" } else { &self.label };
        let login = match self.login {
            Login::User => "user",
            Login::Signature => "signature",
        };
        let mut text = String::new();
        for part in [&*module, &self.manufacturer, &self.model, &self.serial, label, login] {
            // With its length before it, so that no two sets of parts look the same.
            text.push_str(&format!("{}:{part}", part.len()));
        }
        format!("pin-{}.json", hex::encode(digest(&SHA256, text.as_bytes())))
    }

    /// The device, as `label (serial)`.
    #[must_use]
    pub fn device(&self) -> String {
        printable(&format!("{} ({})", self.label, self.serial))
    }

    /// Whether it may be of the device that `uri` names. `scope` says what refused PINs lock there: where that is the
    /// hardware as a whole, the record has the label of whichever device in it was tried last.
    #[must_use]
    pub fn is_named_by(&self, uri: &Uri, scope: LockoutScope) -> bool {
        let is_shared = self.scope == LockoutScope::Device && scope == LockoutScope::Device;
        let label = uri.token().filter(|_| is_shared).unwrap_or(&self.label);
        uri.matches_device(label, &self.serial, &self.manufacturer, &self.model)
    }

    /// Whether the last try, of another login of this device, was with what `now` gives, too.
    pub(super) fn was_refused_from(&self, now: &Origin) -> bool {
        matches!(&self.by, TriedBy::Source(Some(before)) if before.is_same(now))
    }

    /// Whether a PIN from `now` may be tried although those before it were refused.
    pub(super) fn allows(&self, now: Option<&Origin>, flags: PinFlags, flags_reliable: bool) -> bool {
        self.spent < MOST_SPENT
            && (self.was_not_spent(flags, flags_reliable)
                || matches!((&self.by, now), (TriedBy::Source(Some(before)), Some(now)) if before.has_changed(now)))
    }

    /// Whether it is worth asking the source again: it may have changed.
    pub(in super::super) fn may_allow(&self, flags: PinFlags, flags_reliable: bool) -> bool {
        self.spent < MOST_SPENT
            && (self.was_not_spent(flags, flags_reliable)
                || matches!(&self.by, TriedBy::Source(Some(origin)) if origin.shows_changes()))
    }

    /// Whether the next try would be made, as far as can be told without reading the PIN.
    pub(in super::super) fn is_open(&self, flags: PinFlags, flags_reliable: bool) -> bool {
        self.spent < MOST_SPENT
            && (self.was_not_spent(flags, flags_reliable) || self.standing() == Standing::Changed)
    }

    /// The device was lost in the middle of a login and says now, and is known to say so truthfully, that no wrong PIN
    /// was entered.
    fn was_not_spent(&self, flags: PinFlags, flags_reliable: bool) -> bool {
        flags_reliable
            && says_nothing(self.answer.as_deref())
            && self.flags == PinFlags::default()
            && flags == PinFlags::default()
    }

    /// Why no try is made.
    pub(in super::super) fn problem(&self) -> PinProblem {
        refused_before(self.answer.as_deref())
    }

    /// What stands between a program and the next try, as things are now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if self.spent >= MOST_SPENT {
            return Standing::Exhausted;
        }
        match &self.by {
            TriedBy::Source(Some(origin)) if origin.shows_changes() => {
                let changed = origin.looked_at_again().is_some_and(|now| origin.has_changed(&now));
                if changed { Standing::Changed } else { Standing::UntilChanged(origin.source().to_owned()) }
            }
            _ => Standing::UntilUnblocked,
        }
    }
}

/// Whether no two devices of one maker and model have this serial number, as far as can be told from it: some makers
/// leave it empty, or write the same digit over and over.
fn tells_devices_apart(serial: &str) -> bool {
    let serial = serial.trim_matches([' ', '\0']);
    let first = serial.chars().next();
    serial.len() >= 4 && serial.chars().any(|other| Some(other) != first)
}

/// Why no login is made after one that was answered so.
pub(in super::super) fn refused_before(answer: Option<&str>) -> PinProblem {
    if says_nothing(answer) { PinProblem::CutShort } else { PinProblem::RefusedBefore }
}

/// Whether a login that was answered so ended without a word on the PIN.
fn says_nothing(answer: Option<&str>) -> bool {
    answer.is_none_or(|code| LOST.contains(&code))
}

/// Answers of a device that went away, which say nothing of the PIN.
const LOST: [&str; 4] =
    ["CKR_DEVICE_ERROR", "CKR_DEVICE_REMOVED", "CKR_TOKEN_NOT_PRESENT", "CKR_SESSION_HANDLE_INVALID"];

#[cfg(test)]
mod tests {
    use super::*;

    fn record(module: &str, serial: &str) -> PinRecord {
        PinRecord {
            version: VERSION,
            module: module.into(),
            label: "CUSTOMS-A".into(),
            serial: serial.into(),
            manufacturer: "Maker".into(),
            model: "Model".into(),
            login: Login::User,
            spent: 1,
            at: 0,
            by: TriedBy::Person,
            answer: None,
            flags: PinFlags::default(),
            scope: LockoutScope::Token,
        }
    }

    #[test]
    fn a_record_of_a_whole_hardware_is_found_by_the_name_of_any_device_in_it_and_of_no_other() {
        use LockoutScope::{Device, Token};
        let kept = |scope| {
            let record = record("/m.so", "0000");
            PinRecord::read(&record.name(scope), &record.written().unwrap()).unwrap()
        };
        let found = |kept_as, uri: &str, scope| kept(kept_as).is_named_by(&uri.parse().unwrap(), scope);
        for scope in [Device, Token] {
            assert!(found(scope, "pkcs11:token=CUSTOMS-A", scope));
            assert!(found(scope, "pkcs11:serial=0000", scope));
            assert!(!found(scope, "pkcs11:token=CUSTOMS-A;serial=0001", scope));
        }
        assert!(found(Device, "pkcs11:token=CUSTOMS-B", Device));
        assert!(!found(Device, "pkcs11:token=CUSTOMS-B;manufacturer=Other", Device));
        // A device beside it, or a record that was kept for one token alone.
        assert!(!found(Device, "pkcs11:token=CUSTOMS-B", Token));
        assert!(!found(Token, "pkcs11:token=CUSTOMS-B", Device));
    }

    #[test]
    fn a_device_has_one_record_through_whichever_library_where_its_serial_number_is_its_own() {
        for scope in [LockoutScope::Token, LockoutScope::Device] {
            let name = |module: &str| record(module, "e05ff6e461c5380f").name(scope);
            assert_eq!(name("/usr/lib/card.so"), name("/usr/lib/proxy.so"), "{scope:?}");
        }
        for serial in ["", "0", "0000000000000000", "FFFFFFFF", "    ", "12"] {
            let name = |module: &str, scope| record(module, serial).name(scope);
            let [own, other] = ["/usr/lib/card.so", "/usr/lib/proxy.so"];
            assert_ne!(name(own, LockoutScope::Token), name(other, LockoutScope::Token), "{serial:?}");
            // There is one such device, or all of them lock together.
            assert_eq!(name(own, LockoutScope::Device), name(other, LockoutScope::Device), "{serial:?}");
        }
    }

    #[test]
    fn devices_that_differ_in_anything_else_have_records_of_their_own_and_tokens_of_one_hardware_share_one() {
        let one = record("/m.so", "e05ff6e461c5380f");
        let others = [
            PinRecord { label: "CUSTOMS-B".into(), ..one.clone() },
            PinRecord { serial: "e05ff6e461c53810".into(), ..one.clone() },
            PinRecord { manufacturer: "Other".into(), ..one.clone() },
            PinRecord { model: "Other".into(), ..one.clone() },
            PinRecord { login: Login::Signature, ..one.clone() },
        ];
        for other in &others {
            assert_ne!(one.name(LockoutScope::Token), other.name(LockoutScope::Token), "{other:?}");
        }
        let [renamed, ..] = &others;
        assert_eq!(one.name(LockoutScope::Device), renamed.name(LockoutScope::Device));
    }
}
