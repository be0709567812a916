//! One suite of behaviours against real PKCS#11 modules of different makers. None of them is a mock.
//!
//! It has a `main` of its own: each behaviour is a test for each module and each way of driving it, such as
//! `tpm2-pkcs11::raw-in-process::a_wrong_pin_is_tried_once_and_never_again`, and what cannot run on this machine is
//! reported as ignored, by name. In CI, it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod choice;
mod description;
#[path = "../support/fixture.rs"]
mod fixture;
#[path = "../support/need.rs"]
mod need;
mod outage;
mod pin;
#[path = "../support/processes.rs"]
mod processes;
mod signing;

use std::{pin::Pin, process::ExitCode};

use libtest_mimic::Arguments;

use self::{
    fixture::{Fixture, KRYOPTIC, Module, NSS, Nature, P11_KIT, SOFTHSM2, TPM2, WAYS, run},
    need::Need,
};

const MODULES: [&Module; 5] = [&SOFTHSM2, &KRYOPTIC, &NSS, &P11_KIT, &TPM2];

/// What is expected of Segl on any module.
struct Behaviour {
    name: &'static str,
    test: for<'a> fn(&'a mut Fixture) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// Whether a module is of the nature that the behaviour is about.
    concerns: fn(&Nature) -> bool,
}

macro_rules! behaviours {
    ($($room:ident::$name:ident $(if $concerns:expr)?,)*) => {
        [$(Behaviour {
            name: stringify!($name),
            test: |module| Box::pin($room::$name(module)),
            concerns: behaviours!(@ $($concerns)?),
        }),*]
    };
    (@ $concerns:expr) => { $concerns };
    (@) => { |_| true };
}

const BEHAVIOURS: [Behaviour; 21] = behaviours![
    choice::a_key_is_found_by_label_by_id_and_by_serial,
    choice::a_key_is_not_guessed_among_several_and_the_candidates_are_uris_to_paste,
    choice::a_device_is_not_guessed_among_several,
    choice::a_key_among_others_is_found_by_the_thumbprint_of_its_certificate_or_of_itself,
    description::without_a_pin_the_device_is_shown_and_with_one_its_keys,
    description::certificates_stand_beside_their_key_and_come_back_as_its_chain,
    description::a_blank_device_is_made_usable_once_and_left_as_it_is_from_then_on if |nature| nature.shows_blanks,
    outage::a_device_that_was_away_signs_again_when_it_is_back,
    outage::an_interruption_between_two_signatures_costs_no_request,
    outage::a_device_that_is_away_at_the_start_is_found_when_it_appears,
    outage::a_library_that_somebody_else_finalized_is_replaced_within_one_request,
    outage::after_shutdown_the_library_is_free_for_another,
    outage::a_device_that_falls_silent_costs_no_more_than_the_deadline_and_signs_when_it_wakes
        if |nature| nature.can_fall_silent,
    outage::a_connection_that_breaks_while_a_signature_is_made_is_made_anew if |nature| nature.can_be_cut,
    pin::a_wrong_pin_is_tried_once_and_never_again,
    pin::a_missing_or_impossible_pin_costs_no_try,
    signing::every_hash_is_signed,
    signing::a_key_that_knows_only_the_raw_form_gets_it if |nature| nature.restricts_keys,
    signing::a_key_that_wants_a_pin_for_each_signature_gets_it if |nature| nature.asks_for_each_signature,
    signing::a_wrong_pin_for_a_signature_is_tried_once_and_never_again
        if |nature| nature.asks_for_each_signature,
    signing::many_requests_at_a_time_are_all_signed_after_one_login,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for module in MODULES {
        let need = Need::of(module.name, module.lack(), &arguments);
        for way in &WAYS {
            for Behaviour { name, test, .. } in BEHAVIOURS.iter().filter(|it| (it.concerns)(&module.nature)) {
                let name = format!("{}::{}::{name}", module.name, way.name);
                trials.push(need.trial(name.clone(), move || {
                    run(module, way, &name, async |fixture| test(fixture).await);
                    Ok(())
                }));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
