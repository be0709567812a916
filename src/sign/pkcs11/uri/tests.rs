use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use proptest::prelude::*;

use super::{parse::LONGEST, *};
use crate::sign::Error;

fn problem(uri: &str) -> String {
    match uri.parse::<Uri>() {
        Err(Error::Uri { problem, .. }) => problem,
        other => panic!("{uri}: {other:?}"),
    }
}

fn written_again(uri: &str) -> String {
    uri.parse::<Uri>().unwrap().to_string()
}

#[test]
fn nothing_that_a_terminal_would_act_on_is_repeated_in_an_error() {
    for uri in ["pkcs11:\u{1b}[31mtoken=%", "pkcs11:token=\u{7}", "\u{1b}[31m", "pkcs11:to\0ken=a"] {
        let error = uri.parse::<Uri>().unwrap_err();
        let said = format!("{error} {}", error.remedy());
        assert!(!said.chars().any(char::is_control), "{said:?}");
    }
}

#[test]
fn the_examples_of_rfc_7512_section_3_that_carry_no_pin_are_read() {
    let uri: Uri = "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;\
                    model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial="
        .parse()
        .unwrap();
    assert_eq!(uri.token(), Some("The Software PKCS#11 Softtoken"));
    assert_eq!(uri.id(), Some(&[0x69, 0x95, 0x3e, 0x5c, 0xf4, 0xbd, 0xec, 0x91][..]));
    assert_eq!(uri.kind(), Some(ObjectKind::Certificate));
    for other in [
        "pkcs11:",
        "pkcs11:object=my-pubkey;type=public",
        "pkcs11:object=my-key;type=private?pin-source=file:/etc/token",
        "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;\
         library-version=1.23;token=My%20token%20created%20by%20Joe",
        "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?module-path=/opt/a%26b.so",
        "pkcs11:slot-description=Sun%20Metaslot",
        "pkcs11:slot-id=327?module-path=/usr/lib/m.so&module-name=m",
    ] {
        assert!(other.parse::<Uri>().is_ok(), "{other}");
    }
}

#[test]
fn pins_are_refused_wherever_they_stand_with_the_reason() {
    for uri in ["pkcs11:token=a?pin-value=1234", "pkcs11:token=a;pin-value=1234", "pkcs11:?x-pin=1234"] {
        assert!(problem(uri).starts_with("a PIN in a URI ends up in logs"), "{uri}");
    }
}

#[test]
fn an_error_never_repeats_the_place_where_a_pin_might_stand() {
    for uri in [
        "pkcs11:token=a?pin-value=98765",
        "pkcs11:token=a;pin-value=98765",
        "pkcs11:PIN-value=98765",
        "pkcs11:token=a;Pin=98765",
        "pkcs11:token=a;x-pin=98765",
        "pkcs11:token=a;user_pin=98765",
        "pkcs11:token=a b?pin-source=98765",
        "pkcs11:token=a?password=98765",
    ] {
        let error = uri.parse::<Uri>().unwrap_err();
        assert!(!format!("{error} {error:?} {}", error.remedy()).contains("98765"), "{error}");
    }
}

#[test]
fn a_slot_number_is_read_and_0_is_one() {
    for (uri, expected) in [
        ("pkcs11:slot-id=0", 0),
        ("pkcs11:slot-id=327", 327),
        ("pkcs11:slot-id=18446744073709551615", u64::MAX),
    ] {
        assert_eq!(uri.parse::<Uri>().unwrap().slot_id(), Some(expected));
        assert_eq!(written_again(uri), uri);
    }
    for uri in ["", "0x1", "-1", "+1", "1.0", "%30", "18446744073709551616"] {
        assert_eq!(problem(&format!("pkcs11:slot-id={uri}")), "slot-id is a decimal number", "{uri}");
    }
}

#[test]
fn a_key_can_be_named_by_the_thumbprint_of_its_certificate_or_of_itself() {
    // The certificate thumbprint's form of RFC 7515 section 4.1.8, the key thumbprint of RFC 7638 section 3.1.
    let jkt = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    let uri: Uri = format!("pkcs11:token=a;jkt={jkt}").parse().unwrap();
    let digest = *uri.key_thumbprint().unwrap();
    assert_eq!(crate::jose::base64url(digest), jkt);
    assert_eq!(uri.to_string(), format!("pkcs11:token=a;jkt={jkt}"));
    assert_eq!(uri.device().to_string(), "pkcs11:token=a");

    let digits = hex::encode_upper(digest);
    let pairs: Vec<String> =
        digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into()).collect();
    for written in [jkt.to_owned(), digits.clone(), digits.to_lowercase(), pairs.join(":")] {
        let uri: Uri = format!("pkcs11:x5t-S256={written}").parse().unwrap();
        assert_eq!(uri.certificate_thumbprint(), Some(&digest), "{written}");
        assert_eq!(uri.to_string(), format!("pkcs11:x5t-S256={jkt}"));
    }
    for wrong in ["", "AA", &jkt[1..], &digits[1..], &format!("{digits}00"), "é"] {
        let uri = format!("pkcs11:jkt={}", wrong.replace('é', "%C3%A9"));
        assert!(problem(&uri).starts_with("jkt is a SHA-256 thumbprint"), "{uri}");
    }
}

#[test]
fn unknown_attributes_are_refused_in_the_path_and_passed_over_in_the_query() {
    assert_eq!(problem("pkcs11:colour=red"), "the attribute \"colour\" is unknown");
    assert_eq!("pkcs11:x-muppet=cookie;token=a".parse::<Uri>().unwrap().token(), Some("a"));
    for uri in ["pkcs11:token=a?max-sessions=2&muppet=cookie&muppet=monster", "pkcs11:token=a?x-y=/?|"] {
        assert_eq!(written_again(uri), "pkcs11:token=a", "{uri}");
    }
}

#[test]
fn a_name_that_is_nearly_a_known_one_is_refused_with_that_one() {
    for (uri, meant) in [
        ("pkcs11:tokn=a", "token"),
        ("pkcs11:Token=a", "token"),
        ("pkcs11:lable=a;objct=b", "object"),
        ("pkcs11:slot_id=0", "slot-id"),
        ("pkcs11:token=a?modul-path=/m.so", "module-path"),
        ("pkcs11:token=a?module_path=/m.so", "module-path"),
        ("pkcs11:x5t-s256=a", "x5t-S256"),
        ("pkcs11:token=a?seriel=1", "serial"),
    ] {
        let uri = uri.replace("lable=a;", "");
        assert!(problem(&uri).ends_with(&format!("did you mean {meant}?")), "{uri}: {}", problem(&uri));
    }
    assert_eq!(problem("pkcs11:token=a;module-path=/m.so"), "module-path stands behind a ?, not behind a ;");
    assert!(problem("pkcs11:?token=a").starts_with("token stands before the ?"));
}

#[test]
fn what_the_grammar_does_not_allow_is_named() {
    for (uri, expected) in [
        ("pkcs12:token=a", "it does not begin with pkcs11:"),
        ("", "it does not begin with pkcs11:"),
        ("pkcs11:token", "an attribute has no ="),
        ("pkcs11:token=a;;serial=1", "an attribute has no ="),
        ("pkcs11:=a", "the name of an attribute has a character that none has, or is empty"),
        ("pkcs11:token=My Token", "a blank in token must be written %20"),
        ("pkcs11:token=%2", "a % in token is not followed by two hexadecimal digits"),
        ("pkcs11:token=%zz", "a % in token is not followed by two hexadecimal digits"),
        ("pkcs11:token=%%41", "a % in token is not followed by two hexadecimal digits"),
        ("pkcs11:object=a/b", "a character in object must be percent-encoded (%2F)"),
        ("pkcs11:object=a#b", "a character in object must be percent-encoded (%23)"),
        ("pkcs11:token=%FF", "token is not UTF-8"),
        ("pkcs11:token=%C0%80", "token is not UTF-8"),
        ("pkcs11:token=a;token=b", "token stands there twice"),
        ("pkcs11:type=key", "type=key is unknown"),
        (
            "pkcs11:library-version=1.2.3",
            "library-version is a number or two with a dot between, each 0 to 255",
        ),
        (
            "pkcs11:library-version=256",
            "library-version is a number or two with a dot between, each 0 to 255",
        ),
        ("pkcs11:token=a?module-path=lib.so", "module-path must be an absolute path"),
        ("pkcs11:token=a?module-path=/a%00b", "module-path has a NUL, and no path has one"),
    ] {
        assert_eq!(problem(uri), expected, "{uri}");
    }
    assert!(problem(&format!("pkcs11:token={}", "a".repeat(5000))).contains("longer"));
}

#[test]
fn the_pin_is_in_a_file_or_a_credential_and_never_behind_a_program() {
    let source = |uri: &str| uri.parse::<Uri>().map(|uri| uri.pin_source().cloned());
    let file = |path: &str| Ok(Some(Source::File(path.into())));
    for (value, expected) in [
        ("file:/etc/token", file("/etc/token")),
        ("file:///etc/token", file("/etc/token")),
        ("file://localhost/etc/token", file("/etc/token")),
        ("/etc/token", file("/etc/token")),
        ("%2Fetc%2ftoken", file("/etc/token")),
        ("credential:hsm-pin", Ok(Some(Source::Credential("hsm-pin".into())))),
    ] {
        assert_eq!(source(&format!("pkcs11:token=a?pin-source={value}")), expected, "{value}");
    }
    for program in ["|/bin/pin", "%7C/bin/pin", "exec:/bin/pin"] {
        let said = problem(&format!("pkcs11:token=a?pin-source={program}"));
        assert!(said.starts_with("no program that a URI names is run"), "{said}");
    }
    for other in
        ["1234", "file:pin", "file://host/pin", "prompt", "env:PIN", "", "credential:../pin", "file:"]
    {
        assert!(source(&format!("pkcs11:token=a?pin-source={other}")).is_err(), "{other}");
    }
}

#[test]
fn a_path_is_decoded_once() {
    let uri: Uri = "pkcs11:?module-path=/a%2520b&pin-source=file:///c%2520d".parse().unwrap();
    assert_eq!(uri.module_path(), Some(Path::new("/a%20b")));
    assert_eq!(uri.pin_source(), Some(&Source::File("/c%20d".into())));
}

#[test]
fn a_uri_written_for_people_is_the_shortest_that_says_it() {
    let uri = Uri::of_device("Min nøkkel", "02A1").with_object("grant-2026", &[1, 0xfe]);
    assert_eq!(uri.to_string(), "pkcs11:token=Min%20n%C3%B8kkel;serial=02A1;object=grant-2026;id=%01%FE");
}

#[test]
fn uris_that_differ_in_spelling_and_order_alone_are_equal() {
    // RFC 7512 section 2.6: the scheme's case, the order, and what is percent-encoded say nothing.
    let one: Uri = "pkcs11:token=a;id=%6a?module-name=m&pin-source=file:/p".parse().unwrap();
    let other: Uri = "PKCS11:id=j;token=%61?pin-source=file:%2Fp&module-name=m".parse().unwrap();
    assert_eq!(one, other);
    let version = |text: &str| format!("pkcs11:library-version={text}").parse::<Uri>().unwrap();
    assert_eq!(version("2"), version("2.0"));
    assert_ne!(version("2.1"), version("2.10"));
}

#[test]
fn a_uri_takes_over_where_another_one_looks() {
    let given: Uri = "pkcs11:token=a;object=b?module-path=/m.so&pin-source=file:/p".parse().unwrap();
    let found = Uri::of_device("a", "1").with_query_of(&given);
    assert_eq!(found.to_string(), "pkcs11:token=a;serial=1?module-path=/m.so&pin-source=file:/p");
    let slot = "pkcs11:slot-id=0".parse().unwrap();
    assert_eq!(Uri::of_device("a", "1").with_slot_of(&slot).slot_id(), Some(0));
    let elsewhere = found.with_module_path("/n.so".into());
    assert_eq!(elsewhere.module_path(), Some(Path::new("/n.so")));
}

fn any_path() -> impl Strategy<Value = PathBuf> {
    proptest::collection::vec(1..=u8::MAX, 0..30).prop_map(|mut bytes| {
        bytes.insert(0, b'/');
        PathBuf::from(OsString::from_vec(bytes))
    })
}

fn any_pin_source() -> impl Strategy<Value = Source> {
    prop_oneof![any_path().prop_map(Source::File), "[!-.0-~]{3,12}".prop_map(Source::Credential)]
}

fn any_device() -> impl Strategy<Value = Uri> {
    use proptest::option::of;
    let texts = (of(".*"), of(".{0,9}"), of(".{0,9}"), of("[0-9a-f]{0,16}"));
    let around =
        (of(".{0,9}"), of(".{0,9}"), of(any::<(u8, u8)>()), of(".{0,9}"), of(".{0,9}"), of(any::<u64>()));
    (texts, around).prop_map(|((token, manufacturer, model, serial), around)| {
        let (
            library_manufacturer,
            library_description,
            library_version,
            slot_manufacturer,
            slot_description,
            slot_id,
        ) = around;
        Uri {
            token,
            manufacturer,
            model,
            serial,
            library_manufacturer,
            library_description,
            library_version,
            slot_manufacturer,
            slot_description,
            slot_id,
            ..Uri::default()
        }
    })
}

fn any_uri() -> impl Strategy<Value = Uri> {
    use proptest::option::of;
    let object = (
        of(".*"),
        of(proptest::collection::vec(any::<u8>(), 0..40)),
        of(proptest::sample::select(ObjectKind::ALL.to_vec())),
        of(any::<Thumbprint>()),
        of(any::<Thumbprint>()),
    );
    let query = (of(any_path()), of(".{0,9}"), of(any_pin_source()));
    (any_device(), object, query).prop_map(|(device, object, (module_path, module_name, pin_source))| {
        let (object, id, kind, certificate_thumbprint, key_thumbprint) = object;
        Uri {
            object,
            id,
            kind,
            certificate_thumbprint,
            key_thumbprint,
            module_path,
            module_name,
            pin_source,
            ..device
        }
    })
}

proptest! {
    #[test]
    fn every_uri_survives_being_written_and_read(uri in any_uri()) {
        let text = uri.to_string();
        prop_assume!(text.len() <= LONGEST);
        prop_assert_eq!(text.parse::<Uri>().unwrap(), uri);
    }

    #[test]
    fn what_is_written_needs_no_quoting_beyond_single_quotes(uri in any_uri()) {
        prop_assert!(uri.to_string().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\''));
    }

    #[test]
    fn a_uri_that_was_read_reads_the_same_once_it_is_written(
        text in "pkcs11:((token|object|id|slot-id|jkt|x-a|library-version|type)=[a-z0-9%.&:-]{0,9};?){0,4}(\\?[a-z-]{1,12}=[/|?%a-z0-9:]{0,9})?",
    ) {
        if let Ok(uri) = text.parse::<Uri>() {
            prop_assert_eq!(uri.to_string().parse::<Uri>().unwrap(), uri);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(pkcs11:)?[a-z=;?&%0-9ø -]*", any in ".*") {
        let _ = text.parse::<Uri>();
        let _ = any.parse::<Uri>();
    }
}
