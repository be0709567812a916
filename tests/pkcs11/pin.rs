//! A wrong PIN locks cards for good, so it is tried once.

use std::sync::atomic::Ordering;

use segl::{
    jose::Algorithm,
    sign::{
        Error, PinProblem, Pkcs11Signer, Signer,
        pkcs11::{DeviceDescription, ModuleDescription, Pin, PinState},
    },
};

use crate::{
    fixture::{Fixture, call, counted_pin, good_pin},
    signing::{assert_verifies, sign},
};

pub(crate) async fn a_wrong_pin_is_tried_once_and_never_again(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let pair = module.generate(&modules, "ci", "grant").await;
    modules.shutdown(&call()).await.unwrap();

    let modules = module.modules();
    let (pin, reads) = counted_pin("0000-wrong");
    let signer = |pin: Pin| {
        let device = module.device(&modules, module.watched("pkcs11:token=ci"), Some(pin));
        Pkcs11Signer::new(device, Algorithm::RS256).unwrap()
    };
    let first = signer(pin);
    let refused = problem(first.key(&call()).await.unwrap_err());
    assert_eq!(refused, PinProblem::Refused("CKR_PIN_INCORRECT".into()));
    let again = [
        first.key(&call()).await.unwrap_err(),
        sign(&first, b"m").await.unwrap_err(),
        // Another signer on the same device, even with the right PIN: a person decides, not a race.
        signer(good_pin()).key(&call()).await.unwrap_err(),
    ];
    for error in again {
        assert_eq!(problem(error), PinProblem::RefusedBefore);
    }
    assert_eq!(reads.load(Ordering::SeqCst), 1);
    let path = module.watched("pkcs11:");
    let shown = modules.describe(path.module_path().unwrap(), None, &call()).await.unwrap();
    assert_eq!(in_use(&shown).pin, module.nature.after_a_wrong_pin);
    modules.shutdown(&call()).await.unwrap();
    assert_eq!(module.calls("C_Login"), 1);

    // A program that is started anew with the right PIN signs.
    let modules = module.modules();
    let signed = sign(&module.signer(&modules, "pkcs11:token=ci"), b"m").await.unwrap();
    assert_verifies(Algorithm::RS256, &pair.spki, &signed);
    let shown = modules.describe(module.library(), None, &call()).await.unwrap();
    assert_eq!(in_use(&shown).pin, PinState::Good);
}

pub(crate) async fn a_missing_or_impossible_pin_costs_no_try(module: &mut Fixture) {
    module.create("ci");
    let modules = module.modules();
    let shown = modules.describe(module.library(), None, &call()).await.unwrap();
    let (shortest, longest) = module.nature.pin_length;
    assert_eq!(in_use(&shown).pin_length, (shortest, longest));

    let length = PinProblem::Length(shortest, longest);
    let given = |text: String| Pin::new(move || Ok(Some(text.clone().into())));
    let mut cases = vec![
        (None, PinProblem::Missing),
        (Some(Pin::new(|| Ok(None))), PinProblem::Missing),
        (Some(Pin::new(|| Err(PinProblem::Source("gone".into())))), PinProblem::Source("gone".into())),
        (Some(given(String::new())), length.clone()),
    ];
    if let Some(too_short) = shortest.checked_sub(1) {
        cases.push((Some(given("1".repeat(too_short as usize))), length.clone()));
    }
    if longest > 0 {
        cases.push((Some(given("1".repeat(longest as usize + 1))), length.clone()));
    }
    for (pin, expected) in cases {
        let device = module.device(&modules, module.watched("pkcs11:token=ci"), pin);
        let error = Pkcs11Signer::new(device, Algorithm::RS256).unwrap().key(&call()).await.unwrap_err();
        assert_eq!(problem(error), expected);
    }
    modules.shutdown(&call()).await.unwrap();
    assert_eq!(module.calls("C_Login"), 0);
    assert!(module.calls("C_OpenSession") > 0);
}

/// The only device that is not blank and wants a login.
fn in_use(shown: &ModuleDescription) -> &DeviceDescription {
    let devices = shown.slots.iter().filter_map(|slot| slot.device.as_ref());
    let mut in_use = devices.filter(|device| device.initialized && device.login_required);
    let only = in_use.next().unwrap();
    assert_eq!(in_use.next(), None);
    only
}

fn problem(error: Error) -> PinProblem {
    match error {
        Error::Pin { problem, .. } => problem,
        other => panic!("{other}"),
    }
}
