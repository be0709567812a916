//! Signers: devices and key files, from the library's file to a signature.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::{
    Examined,
    softhsm::{LIBRARY, PIN, SoftHsm, alone, call},
    stand::Stand,
};

/// A `segl.toml` for a key called `grant` on a device called `DEVICE`, registered on the sandbox.
async fn registered(stand: &Stand, softhsm: &SoftHsm) -> String {
    softhsm.create("DEVICE");
    let modules = softhsm.modules();
    let pair = softhsm.generate(&modules, "DEVICE", "grant").await;
    modules.shutdown(&call()).await.unwrap();
    stand.device_client("pkcs11:token=DEVICE;object=grant", &pair.spki, PIN)
}

#[test]
fn a_device_that_signs_is_well_from_its_library_to_customs_test_call() {
    alone("device::a_device_that_signs_is_well_from_its_library_to_customs_test_call", async |softhsm| {
        let stand = Stand::new().await;
        let config = registered(&stand, &softhsm).await;
        let state = stand.folder().join("state");
        let variables = [("STATE_DIRECTORY", state.to_str().unwrap())];
        let examined = Examined::of(&stand, &config, &["--online"], &variables).await;
        for check in [
            "library",
            "PIN source",
            "PIN tries",
            "device",
            "key",
            "signature",
            "identity",
            "token",
            "first call",
        ] {
            assert!(
                !examined.all(check).is_empty() && examined.bad(check).is_empty(),
                "{check}: {:#}",
                examined.report
            );
        }
        assert_eq!(examined.report["failures"], 0, "{:#}", examined.report);
        // All that it warns of is the unknown expiry of the registered key.
        assert_eq!(
            (examined.code, &examined.report["warnings"]),
            (Some(4), &1.into()),
            "{:#}",
            examined.report
        );
        examined.says(
            "registered key",
            "warning",
            "registered keys die one year after upload",
            "kid_expires",
        );
    });
}

#[test]
fn what_is_wrong_with_a_device_is_named_where_it_is_and_later_checks_do_not_repeat_it() {
    alone(
        "device::what_is_wrong_with_a_device_is_named_where_it_is_and_later_checks_do_not_repeat_it",
        async |softhsm| {
            let stand = Stand::new().await;
            let config = registered(&stand, &softhsm).await;
            let state = stand.folder().join("state");
            let variables = [("STATE_DIRECTORY", state.to_str().unwrap())];
            for (old, new, code, check, reason, remedy) in [
                // It may be plugged in later.
                ("token=DEVICE", "token=DEVCIE", 3, "key", "DEVCIE", ""),
                ("object=grant", "object=grnat", 2, "key", "grnat", ""),
                ("file:pin", "file:no-pin", 2, "PIN source", "there is none", "segl pin set"),
                ("[clients.", "profile = \"luna\"\n[clients.", 2, "library", "none of", ""),
            ] {
                let broken = config.replacen(old, new, 1);
                assert_ne!(broken, config, "{old}");
                let examined = Examined::of(&stand, &broken, &[], &variables).await;
                assert_eq!(examined.code, Some(code), "{new}: {:#}", examined.report);
                examined.says(check, "failure", reason, remedy);
                assert!(examined.all("grant").is_empty() && examined.all("identity").is_empty(), "{new}");
            }
            // Of the two PINs of a seal, each has to be there.
            let broken =
                config.replacen("pin = \"file:pin\"", "pin = \"file:pin\"\nsign_pin = \"file:no-pin\"", 1);
            let examined = Examined::of(&stand, &broken, &[], &variables).await;
            examined.says("signature PIN source", "failure", "there is none", "--sign-pin");
            // A library that others can change would see the PIN.
            let open = softhsm.folder().join("open.so");
            fs::copy(LIBRARY, &open).unwrap();
            fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
            let broken =
                config.replace("object=grant", &format!("object=grant?module-path={}", open.display()));
            let examined = Examined::of(&stand, &broken, &[], &variables).await;
            assert_eq!((examined.code, examined.bad("library").len()), (Some(2), 1), "{:#}", examined.report);
        },
    );
}

#[test]
fn a_wrong_pin_is_tried_once_however_often_the_doctor_comes() {
    alone("device::a_wrong_pin_is_tried_once_however_often_the_doctor_comes", async |softhsm| {
        let stand = Stand::new().await;
        let config = registered(&stand, &softhsm).await;
        // SoftHSM2 never locks, so its profile keeps no record; a device that can lock has one.
        let config = format!(
            "{}\n[profiles.softhsm2.login]\nlockout_scope = \"token\"\nflags_reliable = false\n",
            config.replace(
                "object=grant",
                &format!("object=grant?module-path={}", crate::softhsm::spy().unwrap().display())
            )
        )
        .replace("[clients.", "profile = \"softhsm2\"\n[clients.");
        stand.write("pin", "wrong-pin");
        let state = stand.folder().join("state");
        let log = stand.folder().join("spy.log");
        let variables = [
            ("STATE_DIRECTORY", state.to_str().unwrap()),
            ("PKCS11SPY", LIBRARY),
            ("PKCS11SPY_OUTPUT", log.to_str().unwrap()),
        ];
        for round in 0..5 {
            let examined = Examined::of(&stand, &config, &[], &variables).await;
            assert_eq!(examined.code, Some(2), "{:#}", examined.report);
            let check = if round == 0 { "key" } else { "PIN tries" };
            assert_eq!(examined.bad(check).len(), 1, "{round}: {:#}", examined.report);
            assert!(
                !examined.bad("environment").is_empty(),
                "a library that writes PINs to a log goes unnoticed"
            );
        }
        let tries =
            fs::read_to_string(&log).unwrap().lines().filter(|line| line.ends_with("C_Login")).count();
        assert_eq!(tries, 1);
    });
}
