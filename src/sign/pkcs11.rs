//! Keys in PKCS#11 devices: smart cards, USB tokens, network HSMs, SoftHSM.
//!
//! ```text
//!   Pkcs11Signer ─┐                    ┌─ lanes ─▶ owner ─▶ calls ─▶ library     (threads of this process)
//!   Device ───────┼─ job ─▶ queue ─────┤
//!   Modules ──────┘        (bounded)   └─ host ══▶ lanes ─▶ owner ─▶ calls ─▶ library      (one of its own)
//! ```
//!
//! A PKCS#11 library is shared state of the whole process, its calls block, many are not thread-safe, and some crash or
//! hang. So nobody calls one directly: jobs are plain data, and cross a thread or the border of a process alike. What
//! differs from one kind of device to another stands in its [`Profile`], in `hsm-profiles/`.

mod authenticate;
mod breaker;
mod calls;
mod code;
mod delete;
mod describe;
mod detail;
mod device;
mod ec;
mod find;
mod guard;
mod holders;
mod host;
mod installed;
mod job;
mod key;
mod ladder;
mod lane;
mod login;
mod manner;
mod mechanism;
mod modules;
mod object;
mod owner;
mod pairing;
pub mod profile;
mod provision;
mod queue;
mod session;
mod signer;
mod trial;
mod uri;

#[doc(hidden)]
pub use self::{calls::attribute_values, host::host_says};
pub use self::{
    code::{return_value_name, return_values},
    device::Device,
    guard::{KeptRecord, MOST_SPENT, PinFlags, PinRecord, PinRecords, Standing, TriedBy},
    holders::{Holder, holders, may_be_held},
    host::{HostProgram, module_host},
    installed::{Installed, NamedBy, check_trust},
    job::{
        CertificateDescription, DeviceDescription, Doomed, KeyDescription, KeyPair, LibraryDescription,
        MechanismDescription, ModuleDescription, NewCertificate, NewKeyPair, PinState, Problem,
        SessionCounts, SessionLimit, SlotDescription, StoredCertificate,
    },
    login::{Login, Pin, PinAnswer, PinRequest},
    manner::Manner,
    modules::Modules,
    profile::{Confidence, Profile, Profiles, library_for},
    signer::Pkcs11Signer,
    trial::{FormOutcome, ListedMechanism, MechanismUse, Pace, Particulars, Renewal, TriedForm, TriedKey},
    uri::{ObjectKind, Thumbprint, Uri},
};
