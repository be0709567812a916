//! One suite of behaviours against real PKCS#11 modules of different makers. None of them is a mock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and clippy knows only #[test] functions as tests"
)]

mod choice;
mod description;
#[path = "../support/fixture.rs"]
mod fixture;
mod outage;
mod pin;
mod signing;

use self::fixture::{KRYOPTIC, NSS, P11_KIT, SOFTHSM2, TPM2};

/// One test for each behaviour of the suite, in a module of tests that is named after the PKCS#11 module.
macro_rules! on_every_module {
    ($($name:ident = $module:expr $(, besides $($room:ident::$behaviour:ident),+)?;)*) => {
        $(on_one_module! {
            $name = $module;
            choice::a_key_is_found_by_label_by_id_and_by_serial,
            choice::a_key_is_not_guessed_among_several_and_the_candidates_are_uris_to_paste,
            choice::a_device_is_not_guessed_among_several,
            description::without_a_pin_the_device_is_shown_and_with_one_its_keys,
            description::certificates_stand_beside_their_key_and_come_back_as_its_chain,
            outage::a_device_that_was_away_signs_again_when_it_is_back,
            outage::an_interruption_between_two_signatures_costs_no_request,
            outage::a_device_that_is_away_at_the_start_is_found_when_it_appears,
            outage::a_library_that_somebody_else_finalized_is_replaced_within_one_request,
            outage::after_shutdown_the_library_is_free_for_another,
            pin::a_wrong_pin_is_tried_once_and_never_again,
            pin::a_missing_or_impossible_pin_costs_no_try,
            signing::every_hash_is_signed,
            signing::many_requests_at_a_time_are_all_signed_after_one_login,
            $($($room::$behaviour,)+)?
        })*
    };
}

macro_rules! on_one_module {
    ($name:ident = $module:expr; $($room:ident::$behaviour:ident,)*) => {
        mod $name {
            $(#[test]
            fn $behaviour() {
                let name = concat!(module_path!(), "::", stringify!($behaviour));
                crate::fixture::with(&$module, name, crate::$room::$behaviour);
            })*
        }
    };
}

// Not every module has blank devices to make devices of, holds a key to one mechanism, or talks to anybody at all.
on_every_module! {
    softhsm2 = crate::SOFTHSM2, besides
        description::a_blank_device_is_made_usable_once_and_left_as_it_is_from_then_on,
        signing::a_key_that_knows_only_the_raw_form_gets_it;
    kryoptic = crate::KRYOPTIC, besides
        description::a_blank_device_is_made_usable_once_and_left_as_it_is_from_then_on,
        signing::a_key_that_knows_only_the_raw_form_gets_it;
    nss = crate::NSS;
    p11_kit = crate::P11_KIT, besides
        description::a_blank_device_is_made_usable_once_and_left_as_it_is_from_then_on,
        outage::a_connection_that_breaks_while_a_signature_is_made_is_made_anew,
        outage::a_device_that_falls_silent_costs_no_more_than_the_deadline_and_signs_when_it_wakes,
        signing::a_key_that_knows_only_the_raw_form_gets_it;
    tpm2_pkcs11 = crate::TPM2, besides
        description::a_blank_device_is_made_usable_once_and_left_as_it_is_from_then_on,
        outage::a_device_that_falls_silent_costs_no_more_than_the_deadline_and_signs_when_it_wakes;
}
