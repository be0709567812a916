use super::*;

fn matched(file: &str, manufacturer: Option<&str>, model: Option<&str>) -> Option<String> {
    Profiles::embedded().matching(Path::new(file), manufacturer, model).map(|profile| profile.name)
}

#[test]
fn a_library_is_known_by_its_file_before_there_is_a_device() {
    for (file, name) in [
        ("/usr/lib/softhsm/libsofthsm2.so", "softhsm2"),
        ("/opt/elsewhere/libsofthsm2.so.1", "softhsm2"),
        ("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so", "opensc"),
        ("/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so", "tpm2-pkcs11"),
        ("/usr/lib/libeToken.so.10.8", "safenet-etoken"),
        ("libCryptoki2_64.so", "luna"),
        ("libsc-hsm-pkcs11.so", "smartcard-hsm"),
        ("libIDPrimePKCS11.so", "safenet-etoken-cc"),
    ] {
        assert_eq!(matched(file, None, None).as_deref(), Some(name), "{file}");
    }
    assert_eq!(matched("/opt/vendor/libp11.so", None, None), None);
}

#[test]
fn the_device_decides_between_profiles_of_one_library() {
    let opensc = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";
    let card = matched(opensc, Some("www.CardContact.de"), Some("PKCS#15 emulated"));
    assert_eq!(card.as_deref(), Some("smartcard-hsm"));
    assert_eq!(matched(opensc, Some("piv_II"), Some("PKCS#15 emulated")).as_deref(), Some("opensc"));
    let etoken = "/usr/lib/libeToken.so";
    assert_eq!(matched(etoken, Some("SafeNet, Inc."), Some("eToken")).as_deref(), Some("safenet-etoken"));
    assert_eq!(
        matched(etoken, Some("Gemalto  "), Some("ID Prime MD\0")).as_deref(),
        Some("safenet-etoken-cc")
    );
}

#[test]
fn what_stands_behind_a_proxy_is_driven_as_the_proxy_wants_it() {
    let proxied = matched("/usr/lib/p11-kit-client.so", Some("SoftHSM project"), Some("SoftHSM v2"));
    assert_eq!(proxied.as_deref(), Some("p11-kit-remote"));
}

#[test]
fn a_device_behind_a_library_that_nobody_knows_brings_nothing_of_its_usual_library() {
    let profiles = Profiles::embedded();
    let profile = profiles.matching(Path::new("/opt/spy.so"), Some("SoftHSM project"), None).unwrap();
    assert_eq!(profile.name, "softhsm2");
    assert_eq!(profile.module, Module::default());
    assert_eq!(profile.login, profiles.named("softhsm2").unwrap().login);
    // Both of this manufacturer's profiles ask for a model.
    assert_eq!(matched("/opt/spy.so", Some("Yubico (www.yubico.com)"), None), None);
    let key = matched("/opt/spy.so", Some("Yubico (www.yubico.com)"), Some("YubiKey YK5"));
    assert_eq!(key.as_deref(), Some("yubikey-piv"));
}

#[test]
fn a_device_that_calls_itself_otherwise_is_still_known_by_its_library() {
    assert_eq!(matched("libkmsp11.so", Some("Alphabet"), None).as_deref(), Some("google-kms"));
}

#[test]
fn the_path_in_the_uri_goes_before_any_profile() {
    let uri: Uri = "pkcs11:token=a?module-path=/opt/lib.so".parse().unwrap();
    let found = Profiles::embedded().library_for(&uri, Some("softhsm2")).unwrap();
    assert_eq!(found, Path::new("/opt/lib.so"));
}

#[test]
fn an_unknown_profile_is_named_with_those_that_are_known() {
    let uri: Uri = "pkcs11:token=a?module-name=lunar".parse().unwrap();
    let error = Profiles::embedded().library_for(&uri, None).unwrap_err().to_string();
    assert!(error.contains("lunar") && error.contains("softhsm2"), "{error}");
}

#[test]
fn of_several_libraries_those_are_meant_whose_configuration_is_named() {
    let module = |config: &str, required: &[&str]| Module {
        env_config: config.into(),
        env_required: required.iter().map(ToString::to_string).collect(),
        ..Module::default()
    };
    let [plain, led, needing] = [module("", &[]), module("A_CONF", &[]), module("", &["B_DIR"])];
    let chosen = |set: &[&str]| {
        let installed = [(&plain, "plain"), (&led, "led"), (&needing, "needing"), (&plain, "plain")];
        let installed = installed.into_iter().map(|(module, path)| (module, PathBuf::from(path)));
        let found = meant(installed, |name| set.contains(&name).then(|| "x".into()));
        found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&[]), ["plain", "led"]);
    assert_eq!(chosen(&["B_DIR"]), ["plain", "led", "needing"]);
    assert_eq!(chosen(&["A_CONF"]), ["led"]);
    assert_eq!(chosen(&["A_CONF", "B_DIR"]), ["led"]);
}

fn changed(changes: &[(&str, &str)]) -> Result<Profiles, ProfileError> {
    let mut profiles = Profiles::embedded();
    let parsed = changes.iter().map(|(name, text)| ((*name).to_owned(), text.parse().unwrap())).collect();
    profiles.override_all(&parsed).map(|()| profiles)
}

#[test]
fn a_table_changes_the_fields_that_it_names_and_no_other() {
    let changes = "[session]\nlanes = 8\n[module.env_default]\nA = \"1\"";
    let profiles = changed(&[("luna", changes)]).unwrap();
    let before = Profiles::embedded().named("luna").unwrap().clone();
    let mut expected = before.clone();
    expected.session.lanes = 8;
    expected.module.env_default.insert("A".into(), "1".into());
    assert_eq!(profiles.named("luna"), Some(&expected));
    assert_eq!(profiles.origin("luna"), Some(&Origin::Configuration));
    assert_eq!(profiles.origin("nss"), Some(&Origin::Embedded));
    // It still knows its library.
    let matched = profiles.matching(Path::new("libCryptoki2_64.so"), None, None);
    assert_eq!(matched, Some(expected));
}

#[test]
fn a_profile_based_on_another_is_used_where_it_is_named_or_where_it_says() {
    let profiles = changed(&[
        ("b", "based_on = \"a\"\n[sign]\ncall_timeout_s = 9"),
        ("a", "based_on = \"luna\"\ntitle = \"Our Luna\"\n[session]\nlanes = 2"),
        ("c", "based_on = \"nss\"\n[match]\nmodule_file = [\"libCryptoki2_64.so\"]"),
    ])
    .unwrap();
    let b = profiles.named("b").unwrap();
    assert_eq!((b.title.as_str(), b.session.lanes, b.sign.call_timeout_s), ("Our Luna", 2, 9));
    assert_eq!(b.module.paths, profiles.named("luna").unwrap().module.paths);
    assert_eq!(b.matching, Match::default());
    let matched = profiles.matching(Path::new("libCryptoki2_64.so"), None, None).unwrap();
    assert_eq!(matched.name, "c", "of equals the one that was added last");
}

#[test]
fn a_change_that_makes_no_sense_is_named_by_table_and_key() {
    for (name, text, expected) in [
        ("lunar", "[session]\nlanes = 2", "[profiles.lunar]: there is no profile \"lunar\"; known are aws-"),
        ("mine", "based_on = \"lunar\"", "[profiles.mine]: there is no profile \"lunar\"; known are aws-"),
        ("mine", "based_on = \"mine\"", "[profiles.mine]: there is no profile \"mine\"; known are aws-"),
        ("luna", "based_on = 1", "[profiles.luna]: based_on: is the name of a profile"),
        ("luna", "schema = 2", "[profiles.luna]: schema: is not for changing"),
        ("luna", "name = \"x\"", "[profiles.luna]: name: is not for changing"),
        ("Luna", "based_on = \"luna\"", "[profiles.Luna]: a profile's name is made of a-z"),
        ("luna", "[session]\nlanes = 99", "[profiles.luna]: session.lanes: is 1 to 32, not 99"),
        ("luna", "[session]\nlaens = 9", "[profiles.luna]: unknown field `laens`, expected one of"),
        ("luna", "session = 3", "[profiles.luna]: invalid type: integer `3`"),
    ] {
        let error = changed(&[(name, text)]).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(!error.remedy().is_empty());
    }
}

#[test]
fn changes_of_a_profile_that_is_elsewhere_are_checked_as_far_as_they_can_be() {
    let profiles = Profiles::embedded();
    let check = |name: &str, text: &str| profiles.check_changes(name, text.parse().unwrap());
    // The hint that a format needs may stand in the profile that is changed.
    assert_eq!(check("ours", "[login]\npin_format = \"^x\""), Ok(()));
    assert_eq!(check("mine", "based_on = \"ours\"\n[session]\nlanes = 2"), Ok(()));
    assert!(check("luna", "[session]\nlanes = 99").is_err());
    assert!(check("ours", "[session]\nlanes = \"x\"").is_err());
}

#[test]
fn tables_based_on_each_other_end_in_an_error() {
    let circle = [("a", "based_on = \"b\""), ("b", "based_on = \"a\"")];
    assert!(matches!(changed(&circle), Err(ProfileError::Unknown { .. })));
}

#[test]
fn a_file_takes_the_place_of_a_profile_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mine = Profile { name: "luna".into(), title: "Mine".into(), ..Profile::unknown() };
    let path = folder.path().join("luna.toml");
    crate::state::write_file(&path, mine.to_toml().as_bytes(), crate::state::Mode::Private, false).unwrap();
    let mut profiles = Profiles::embedded();
    profiles.load_dir(folder.path()).unwrap();
    assert_eq!(profiles.named("luna"), Some(&mine));
    assert_eq!(profiles.origin("luna"), Some(&Origin::File(path)));
    assert_eq!(profiles.iter().count(), Profiles::embedded().iter().count());
}
