mod eseal;
mod refusals;

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::jose::Algorithm;

const EXAMPLE: &str = include_str!("../../docs/segl.example.toml");

/// A file with one of each; tests change one line of it.
const SOUND: &str = r#"schema = 1
[signers.key]
key = "file:/run/key.pem"
[clients.app]
environment = "test"
client_id = "c"
signer = "key"
kid = "k"
[environments.local]
issuer = "http://127.0.0.1:8400/"
[tokens.road]
client = "app"
scopes = ["toll:movement/road/v2"]
[http]
"#;

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, Path::new("/etc/segl"))
}

fn said(text: &str) -> Vec<String> {
    parse(text).map(|_| Vec::new()).unwrap_or_else(|problems| {
        assert!(problems.iter().all(|problem| !problem.fault.remedy().is_empty()));
        problems.iter().map(ToString::to_string).collect()
    })
}

/// `text` with `new` in the place of `old`, which stands there.
fn changed(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old}");
    text.replacen(old, new, 1)
}

/// What is said of the sound file with `old` replaced by `new`.
fn said_of(old: &str, new: &str) -> Vec<String> {
    said(&changed(SOUND, old, new))
}

#[test]
fn the_example_holds_what_operators_need_and_loads() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    let road = &config.tokens["road"];
    assert_eq!(road.exchange, Some(Exchange::Customs { base: "https://api.toll.no".parse().unwrap() }));
    assert!(road.keep_warm);
    let instances = &config.tokens["instances"];
    let tt02 = "https://platform.tt02.altinn.no".parse().unwrap();
    assert_eq!(instances.exchange, Some(Exchange::Altinn { base: tt02, test: false }));
    assert_eq!(config.tokens["vat"].consumer_org, Some(ConsumerOrg::Required));
    let request = config.tokens["system-user"].request().build().unwrap();
    assert!(request.authorization_details().is_some());
    let haulier = &config.clients["haulier"];
    assert!(haulier.is_eseal() && haulier.identity == Identity::CertificateBesideKey);
    assert_eq!(config.tokens["road-eu"].exchange, road.exchange);
    let test = &config.clients["forwarder-test"];
    assert_eq!(test.environment, Environment::test());
    assert_eq!(test.identity, Identity::KeyId("991825827-2026-11".into()));
    // 2027-11-20T00:00:00Z.
    assert_eq!(test.kid_expires, Some(std::time::UNIX_EPOCH + Duration::from_secs(1_826_668_800)));
    assert_eq!(config.clients["forwarder"].identity, Identity::CertificateBesideKey);
    assert_eq!(config.signers["hsm"].algorithm, Algorithm::RS256);
    assert!(
        matches!(&config.signers["file"].key, Key::File(path) if path == Path::new("/etc/segl/client.p12"))
    );
}

#[test]
fn a_signer_may_name_several_devices_and_a_pin_for_each_signature() {
    let text = SOUND.replace(
        "\"file:/run/key.pem\"",
        "[\"pkcs11:token=A\", \"pkcs11:slot-id=0\"]\npin = \"prompt\"\nsign_pin = \"file:seal\"\n\
         allow_unstable_slot = true",
    );
    let config = parse(&text).unwrap();
    let signer = &config.signers["key"];
    let Key::Pkcs11(uris) = &signer.key else { panic!("{:?}", signer.key) };
    assert_eq!(
        uris.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["pkcs11:token=A", "pkcs11:slot-id=0"]
    );
    assert_eq!((uris.first().token(), uris.only()), (Some("A"), None));
    assert_eq!(signer.sign_pin.as_ref().unwrap().to_string(), "file:/etc/segl/seal");
    let shown = |name: &str| config.show().into_iter().find(|setting| setting.name == name).unwrap().value;
    assert_eq!(shown("signers.key.key"), "pkcs11:token=A, pkcs11:slot-id=0");
    assert_eq!(shown("signers.key.allow_unstable_slot"), "true");
    for key in ["pin", "sign_pin"] {
        let text = SOUND.replace("\"file:/run/key.pem\"", &format!("\"pkcs11:token=A\"\n{key} = 98765"));
        let said = said(&text).join("\n");
        assert!(said.contains("credential:NAME") && !said.contains("98765"), "{said}");
        let text = SOUND.replace("\"file:/run/key.pem\"", &format!("\"pkcs11:token=A\"\n{key} = \"env:X\""));
        assert!(parse(&text).unwrap().warnings[0].starts_with(&format!("signers.key.{key}: ")));
    }
}

#[test]
fn a_file_that_nobody_named_is_trusted_when_it_is_the_users_own_or_roots() {
    assert!(trusts(1000, 1000) && trusts(1000, 0) && trusts(0, 0));
    assert!(!trusts(1000, 1001) && !trusts(0, 1000));
    let error = Error::Stranger { path: "segl.toml".into(), owner: 1001 };
    assert!(error.to_string().contains("1001") && error.remedy().contains("--config segl.toml"));
}

#[test]
fn profiles_are_changed_field_by_field_and_made_out_of_others() {
    let changes = "[profiles.luna.session]\nlanes = 8\n[profiles.spare]\nbased_on = \"luna\"\n\
                   module.paths = [\"/opt/spare.so\"]\n[http]\n";
    let config = parse(&SOUND.replace("[http]\n", changes)).unwrap();
    let profiles = config.profiles(None).unwrap();
    assert_eq!(profiles.named("luna").unwrap().session.lanes, 8);
    let spare = profiles.named("spare").unwrap();
    assert_eq!((spare.session.lanes, spare.module.paths.as_slice()), (8, &["/opt/spare.so".to_owned()][..]));
    let shown = config.show();
    let lanes = shown.iter().find(|set| set.name == "profiles.luna.session.lanes").unwrap();
    assert_eq!((lanes.value.as_str(), lanes.origin), ("8", Origin::File { line: 15 }));
}

#[test]
fn a_change_of_a_profile_that_makes_no_sense_is_named_by_its_key() {
    for (change, expected) in [
        (
            "[profiles.luna.session]\nlanse = 8",
            r#"profiles.luna.session.lanse: this key is not known; did you mean "lanes"?"#,
        ),
        (
            "[profiles.luna]\nbase_on = \"nss\"",
            r#"profiles.luna.base_on: this key is not known; did you mean "based_on"?"#,
        ),
        ("[profiles.luna]\nname = \"x\"", "profiles.luna.name: this key is not known"),
        ("[profiles.luna.session]\nlanes = 99", "profiles.luna.session.lanes: is 1 to 32, not 99"),
        ("[profiles.ours.session]\nlanes = \"two\"", "profiles.ours: invalid type: string \"two\""),
        ("[profiles]\nluna = 3", "profiles.luna: a table is expected here"),
        ("[profiles.Luna]", "profiles.Luna: a profile's name is made of a-z"),
    ] {
        let said = said_of("[http]\n", &format!("{change}\n"));
        assert!(matches!(said.as_slice(), [one] if one.starts_with(expected)), "{change}: {said:?}");
    }
    let lost = parse(&SOUND.replace("[http]\n", "[profiles.ours.session]\nlanes = 2\n")).unwrap();
    assert!(lost.profiles(None).unwrap_err().to_string().contains("\"ours\""));
}

#[test]
fn the_sound_file_of_these_tests_is_sound() {
    assert_eq!(said(SOUND), [""; 0]);
}

#[test]
fn the_json_schema_in_the_documentation_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/segl.schema.json");
    let current = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("SEGL_WRITE_SCHEMA").is_some() {
        fs::write(path, &current).unwrap();
    }
    assert!(
        fs::read_to_string(path).unwrap() == current,
        "docs/segl.schema.json is old: run this test once with SEGL_WRITE_SCHEMA=1"
    );
}

#[test]
fn the_json_schema_takes_the_example_and_refuses_unknown_keys() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    // An editor sees dates as text.
    let dates_as_text = EXAMPLE.replace("= 2027-11-20", "= \"2027-11-20\"");
    let example: serde_json::Value = toml::from_str(&dates_as_text).unwrap();
    assert!(validator.is_valid(&example), "{:?}", validator.iter_errors(&example).next());
    for (table, key) in
        [("/signers/hsm", "rotating"), ("/clients/vendor", "act_for"), ("/http", "x"), ("", "serve")]
    {
        let mut spoilt = example.clone();
        spoilt.pointer_mut(table).unwrap()[key] = "x".into();
        assert!(!validator.is_valid(&spoilt), "{table} {key}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    for (old, new, expected) in [
        ("kid =", "kidd =", r#"clients.app.kidd: this key is not known; did you mean "kid"?"#),
        ("[tokens.road]", "[token.road]", r#"token: this key is not known; did you mean "tokens"?"#),
        (
            "[http]",
            "[http]\ntimeout = 3",
            r#"http.timeout: this key is not known; did you mean "timeout_seconds"?"#,
        ),
        ("[http]", "[serve]", "serve: this key is not known"),
        ("[http]", "[callers]", "callers: this key is not known"),
        ("[http]", "[routes]", "routes: this key is not known"),
        ("kid = \"k\"", "kid = \"k\"\nact_for = \"*\"", "clients.app.act_for: this key is not known"),
        ("[clients", "rotating = true\n[clients", "signers.key.rotating: this key is not known"),
    ] {
        let said = said_of(old, new);
        assert!(said.iter().any(|said| said.starts_with(expected)), "{new}: {said:?}");
    }
}

#[test]
fn all_problems_of_a_file_are_reported_at_once_each_with_its_line() {
    let text = SOUND
        .replace("signer = \"key\"", "signer = \"kee\"\ncolour = 1")
        .replace("\"toll:movement/road/v2\"", "\"toll\"")
        .replace("[http]", "[http]\ntimeout_seconds = 0");
    let problems = parse(&text).unwrap_err();
    let found: Vec<_> = problems.iter().map(|problem| (problem.place.as_str(), problem.origin)).collect();
    assert_eq!(
        found,
        [
            ("clients.app.signer", Origin::File { line: 7 }),
            ("clients.app.colour", Origin::File { line: 8 }),
            ("tokens.road.scopes", Origin::File { line: 14 }),
            ("http.timeout_seconds", Origin::File { line: 16 }),
        ]
    );
    let path = Some("/etc/segl/segl.toml".into());
    let whole = Error::Invalid { path, problems }.to_string();
    assert!(
        whole.contains(
            "/etc/segl/segl.toml:7: clients.app.signer: there is no signer \"kee\"; did you mean \"key\"?"
        ),
        "{whole}"
    );
}

#[test]
fn an_altinn_test_environment_is_found_by_name() {
    for (exchange, base) in [
        ("altinn", "https://platform.tt02.altinn.no/"),
        ("altinn:at22", "https://platform.at22.altinn.cloud/"),
        ("altinn:yt01", "https://platform.yt01.altinn.cloud/"),
    ] {
        let text = SOUND.replace("[http]", &format!("exchange = \"{exchange}\"\naltinn_test = true"));
        let config = parse(&text).unwrap();
        let expected = Exchange::Altinn { base: base.parse().unwrap(), test: true };
        assert_eq!(config.tokens["road"].exchange, Some(expected));
    }
}

#[test]
fn scopes_that_lead_nowhere_are_warned_about_and_unknown_ones_are_not() {
    for (scope, warning) in [
        ("toll:movement/raod/v2", "this scope is not known; did you mean toll:movement/road/v2?"),
        ("toll:movement/road", "toll:movement/road has been replaced by toll:movement/road/v2"),
        ("toll:declaration.feed", "the API of toll:declaration.feed is not ready (as of 2026-06-20)"),
    ] {
        let config = parse(&SOUND.replace("toll:movement/road/v2", scope)).unwrap();
        assert_eq!(config.warnings, [format!("tokens.road.scopes: {warning}")]);
    }
    let config = parse(&SOUND.replace("toll:movement/road/v2", "nav:unheard/of")).unwrap();
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn ver2_is_taken_as_test_with_a_warning() {
    let config = parse(&SOUND.replace("\"test\"", "\"ver2\"")).unwrap();
    assert_eq!(config.clients["app"].environment, Environment::test());
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].contains("ver2 was renamed"));
}

#[test]
fn a_secret_in_the_wrong_place_is_never_repeated() {
    for line in [
        "pin = \"98761234\"",
        "pin = 98761234",
        "pin = 98761234x",
        "pin = \"98761234",
        "pin = [\"98761234\", 5]",
        "pin = { pin = \"98761234\" }",
        "pin = 98761234-01-01",
        "pin = 9876-12-34",
        "pin = \"file:/x\"\npin = \"98761234\"",
        "pin 98761234",
    ] {
        let text = SOUND.replace("[clients", &format!("{line}\n[clients"));
        let problems = parse(&text).unwrap_err();
        let said = format!("{problems:?} {}", Error::Invalid { path: None, problems: problems.clone() });
        assert!(!said.contains("98761234") && !said.contains("9876-12-34"), "{line}: {said}");
        assert!(
            problems.iter().any(|problem| matches!(problem.origin, Origin::File { line: 4 | 5 })),
            "{said}"
        );
    }
    let key = SOUND.replace("file:/run/key.pem", "-----BEGIN PRIVATE KEY-----98761234");
    assert!(!format!("{:?}", parse(&key).unwrap_err()).contains("98761234"));
}

#[test]
fn one_mistake_in_a_table_is_not_repeated_by_the_tables_that_name_it() {
    for (old, new) in [
        ("key = \"file:/run/key.pem\"", "key = \"x\""),
        ("key = \"file:/run/key.pem\"", "key = 7"),
        ("client_id = \"c\"", "client_id = 7"),
    ] {
        assert_eq!(said_of(old, new).len(), 1, "{new}");
    }
}

#[test]
fn show_tells_every_value_with_where_it_comes_from_and_no_secret() {
    let config = parse(&SOUND.replace("[clients", "pin = \"exec:/bin/pin 98761234\"\n[clients")).unwrap();
    let shown = config.show();
    let find = |name: &str| shown.iter().find(|setting| setting.name == name).unwrap();
    assert_eq!(find("clients.app.kid").origin, Origin::File { line: 9 });
    assert_eq!(find("clients.app.grant_lifetime").value, "60");
    assert_eq!(find("clients.app.grant_lifetime").origin, Origin::Default);
    assert_eq!(find("clients.app.issuer").value, "https://test.maskinporten.no/");
    assert_eq!(find("signers.key.pin").value, "exec:/bin/pin …");
    assert!(!format!("{shown:?} {config:?}").contains("98761234"));
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_first_file_that_is_there_is_taken_and_a_named_one_must_be_there() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    for name in ["flag", "variable", "here", "etc"] {
        write(&path(name), SOUND, 0o644);
    }
    let (here, etc, absent) = (path("here"), path("etc"), path("absent"));
    let variable = |name: &str| vec![("SEGL_CONFIG".into(), path(name).into_os_string())];
    let usual = [here.as_path(), etc.as_path()];
    let found = |named: Option<&Path>, variables: Vec<_>, usual: &[&Path]| {
        Config::find_in(named, || variables, usual).map(|config| config.path.unwrap())
    };
    assert_eq!(found(Some(&path("flag")), variable("variable"), &usual), Ok(path("flag")));
    assert_eq!(found(None, variable("variable"), &usual), Ok(path("variable")));
    assert_eq!(found(None, vec![], &usual), Ok(here.clone()));
    assert_eq!(found(None, vec![], &[&absent, &etc]), Ok(etc.clone()));
    let missing = Err(Error::Unreadable { path: absent.clone(), kind: io::ErrorKind::NotFound });
    assert_eq!(found(Some(&absent), vec![], &usual), missing);
    assert_eq!(found(None, variable("absent"), &usual), missing);
    assert_eq!(found(None, vec![], &[&absent]), Err(Error::Absent { searched: vec![absent] }));
}

#[test]
fn a_file_that_everybody_can_write_or_that_is_too_large_or_no_text_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("segl.toml");
    write(&path, SOUND, 0o646);
    assert_eq!(Config::load(&path).unwrap_err(), Error::TooOpen { path: path.clone(), mode: 0o646 });
    write(&path, &"#".repeat(LARGEST + 1), 0o644);
    assert_eq!(Config::load(&path).unwrap_err(), Error::TooLong { path: path.clone() });
    fs::write(&path, [0xff]).unwrap();
    assert_eq!(Config::load(&path).unwrap_err(), Error::NotText { path });
    assert!(matches!(Config::load(home.path()), Err(Error::Unreadable { .. })));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_in_any_place_makes_the_reader_panic(
        line in 0..14_usize,
        value in prop_oneof![
            Just("[[a]]".to_owned()), Just("1979-05-27".to_owned()), Just("{ a = [1, {}] }".to_owned()),
            "\"[ -~]{0,20}\"", "[-+0-9a-z_.]{1,12}",
        ],
    ) {
        let spoilt = |(index, text): (usize, &str)| match text.split_once(" = ") {
            Some((key, _)) if index == line => format!("{key} = {value}\n"),
            _ => format!("{text}\n"),
        };
        let _ = parse(&SOUND.lines().enumerate().map(spoilt).collect::<String>());
    }
}
