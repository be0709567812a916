//! The module that misbehaves on request (`tests/faultp11`), over a SoftHSM2 of one's own.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{ops::Deref, sync::Arc};

use segl::sign::{
    Pkcs11Signer,
    pkcs11::{KeyPair, Modules},
};

use crate::{
    faulty_module::{self, FaultyModule},
    softhsm::{self, SoftHsm, call, good_pin, is_alone},
};

/// Short enough for a test to wait for a call that hangs; only for tests in which nothing else may be slow.
pub(crate) const IMPATIENT: &str = "[module]\ninit_timeout_s = 3\n[sign]\ncall_timeout_s = 1\n";

/// Runs `body` in a process of its own, with a device `ci` that holds a key `grant`; `name` is the full name of the
/// calling test.
pub(crate) fn faulty(name: &str, body: impl AsyncFnOnce(FaultP11)) {
    if !is_alone() {
        faulty_module::build();
    }
    softhsm::alone(name, async |hsm: SoftHsm| {
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        modules.shutdown(&call()).await.unwrap();
        let module = FaultyModule::in_folder(hsm.folder());
        body(FaultP11 { hsm, pair, module }).await;
    });
}

/// The module of this process, and its script.
pub(crate) struct FaultP11 {
    pub(crate) hsm: SoftHsm,
    /// The key on its device.
    pub(crate) pair: KeyPair,
    module: FaultyModule,
}

impl Deref for FaultP11 {
    type Target = FaultyModule;

    fn deref(&self) -> &FaultyModule {
        &self.module
    }
}

impl FaultP11 {
    /// Libraries as a program has them, each in a process of its own; nothing is known of this one.
    pub(crate) fn modules(&self) -> Arc<Modules> {
        self.modules_with("")
    }

    /// The same, with a profile for this one: some of the tables of a profile file.
    pub(crate) fn modules_with(&self, tables: &str) -> Arc<Modules> {
        let modules = Modules::build(segl::clock::SystemClock::shared(), self.manner(tables));
        self.hsm.keep(&modules);
        modules
    }

    /// A signer for the key, with the right PIN.
    pub(crate) fn signer(&self, modules: &Arc<Modules>) -> Pkcs11Signer {
        self.signer_of(modules, "pkcs11:token=ci;object=grant", good_pin())
    }
}
