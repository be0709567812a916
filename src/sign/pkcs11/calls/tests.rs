//! Both implementations on real libraries, each test in a process of its own: a library is one for the whole process.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

use super::*;

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const FOLDER: &str = "SEGL_TEST_CALLS_FOLDER";

const LOCKING: InitializeArguments = InitializeArguments { os_locking: true, reserved: None };

/// Runs `body` in a process of its own, with a folder and SoftHSM2 for itself; `name` is that of the calling test.
fn alone(name: &str, body: impl FnOnce(&Path)) {
    if let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) {
        body(&folder);
        fs::write(folder.join("done"), name).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (tokens, configuration) = (folder.path().join("tokens"), folder.path().join("softhsm2.conf"));
    fs::create_dir(&tokens).unwrap();
    fs::write(&configuration, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()))
        .unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args([&format!("sign::pkcs11::calls::tests::{name}"), "--exact", "--nocapture"])
        .env(FOLDER, folder.path())
        .env("SOFTHSM2_CONF", configuration)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    assert!(folder.path().join("done").exists(), "{name} is the name of no test here: {child:?}");
}

/// The library on this machine whose file has this name; `None` when it is not installed, which only a developer's
/// machine may be forgiven.
fn installed(file: &str) -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let found = folders.flat_map(|folder| [folder.join(file), folder.join("pkcs11").join(file)]);
    let found = found.chain([PathBuf::from(SOFTHSM)]).find(|path| path.ends_with(file) && path.exists());
    assert!(found.is_some() || env::var_os("CI").is_none(), "{file} is not installed");
    found
}

fn answered(function: &'static str, code: u64) -> Failure {
    Failure::Answered { function, code }
}

/// All that Segl does with a device, and that it comes out the same.
fn a_life_of_a_device(binding: Binding) {
    let (so_pin, pin) = (SecretString::from("so-4711-0815"), SecretString::from("4711-0815"));
    let library = load(Path::new(SOFTHSM), binding).unwrap();
    assert_eq!(library.info(), Err(answered("C_GetInfo", 0x190)));
    library.initialize(&LOCKING).unwrap();
    assert_eq!(library.initialize(&LOCKING), Err(answered("C_Initialize", 0x191)));
    let info = library.info().unwrap();
    assert_eq!((info.manufacturer.as_str(), info.cryptoki.major), ("SoftHSM", 2));

    let slot = library.slots().unwrap()[0];
    assert!(!library.device_info(slot).unwrap().is_initialized());
    assert!(library.slot_info(slot).unwrap().description.starts_with("SoftHSM slot"));
    let long = "a label of more than thirty-two bytes";
    assert!(matches!(library.initialize_device(slot, &so_pin, long), Err(Failure::Unusable { .. })));
    library.initialize_device(slot, &so_pin, "seal æ").unwrap();
    // SoftHSM2 gives a device its own slot once it is initialized.
    library.finalize().unwrap();
    library.initialize(&LOCKING).unwrap();
    let is_ours = |slot: &Slot| library.device_info(*slot).unwrap().is_initialized();
    let slot = library.slots().unwrap().into_iter().find(is_ours).unwrap();

    let session = library.open(slot, Access::ReadWrite).unwrap();
    session.login(User::SecurityOfficer, Some(&so_pin)).unwrap();
    assert_eq!(session.state(), Ok(SessionState::SecurityOfficer));
    session.initialize_pin(&pin).unwrap();
    session.logout().unwrap();
    let wrong = SecretString::from("0000-0000");
    assert_eq!(session.login(User::User, Some(&wrong)), Err(answered("C_Login", 0xa0)));
    assert!(library.device_info(slot).unwrap().pin_count_is_low());
    assert_eq!(session.state(), Ok(SessionState::Public));
    session.login(User::User, Some(&pin)).unwrap();
    assert_eq!(session.state(), Ok(SessionState::User));

    let device = library.device_info(slot).unwrap();
    assert_eq!((device.label.as_str(), device.model.as_str()), ("seal æ", "SoftHSM v2"));
    assert_eq!(device.serial.len(), 16);
    assert!(device.requires_login() && device.has_user_pin() && !device.has_pin_pad());
    assert!(!device.is_locked() && !device.is_at_final_try() && !device.pin_count_is_low());
    assert_eq!(device.pin_length, (4, 255));
    assert_eq!((device.max_sessions, device.rw_sessions), (Limit::Unlimited, Limit::Unknown));
    let mechanisms = library.mechanisms(slot).unwrap();
    assert!(mechanisms.contains(&Mechanism::Sha256RsaPkcs.number()));
    // CKF_SIGN
    let rsa = library.mechanism_info(slot, Mechanism::RsaPkcs.number()).unwrap();
    assert!(rsa.flags & 0x800 != 0 && rsa.key_size.1 >= 4096, "{rsa:?}");

    keys(&*session, &pin);
    drop(session);
    let other = library.open(slot, Access::ReadOnly).unwrap();
    assert_eq!(other.state(), Ok(SessionState::Public), "closing the last session logs out");
    library.finalize().unwrap();
    assert_eq!(other.state(), Err(answered("C_GetSessionInfo", 0x190)));
}

fn keys(session: &dyn Session, pin: &SecretString) {
    use AttributeType as A;
    let of = |label: &str, always: bool| {
        let (label, yes) = (Attribute::bytes(A::Label, label), true);
        let public = vec![
            Attribute::flag(A::Token, yes),
            label.clone(),
            Attribute::number(A::ModulusBits, 2048),
            Attribute::bytes(A::PublicExponent, [1, 0, 1]),
            Attribute::flag(A::Verify, yes),
        ];
        let private = vec![
            Attribute::flag(A::Token, yes),
            label,
            Attribute::bytes(A::Id, [7]),
            Attribute::flag(A::Sensitive, yes),
            Attribute::flag(A::Extractable, false),
            Attribute::flag(A::Sign, yes),
            Attribute::flag(A::AlwaysAuthenticate, always),
        ];
        session.generate_rsa_pair(&public, &private).unwrap()
    };
    let (public, private) = of("one", false);
    let (_, careful) = of("two", true);

    let named = |label: &str| [Attribute::class(ObjectClass::PrivateKey), Attribute::bytes(A::Label, label)];
    assert_eq!(session.find(&named("one"), 10), Ok(vec![private]));
    assert_eq!(session.find(&named("three"), 10), Ok(vec![]));
    let all = [Attribute::class(ObjectClass::PrivateKey)];
    assert_eq!(session.find(&all, 10).unwrap().len(), 2);
    assert_eq!(session.find(&all, 1).unwrap().len(), 1);
    assert_eq!(session.find(&all, 10).unwrap().len(), 2, "a search that stopped early is over");

    let wanted = [A::Label, A::KeyType, A::Sensitive, A::Extractable, A::Value, A::Issuer, A::Id];
    let values = session.attributes(private, &wanted).unwrap();
    assert_eq!(values[0].as_deref(), Some(&b"one"[..]));
    assert_eq!(values[1].as_deref().and_then(attribute::number_in).map(KeyType), Some(KeyType::RSA));
    assert_eq!(values[2].as_deref().and_then(attribute::flag_in), Some(true));
    assert_eq!(values[3].as_deref().and_then(attribute::flag_in), Some(false));
    assert_eq!((&values[4], &values[5]), (&None, &None), "private keys have neither");
    assert_eq!(values[6].as_deref(), Some(&[7][..]));
    let numbers = session.attributes(public, &[A::Modulus, A::PublicExponent, A::ModulusBits]).unwrap();
    let [Some(modulus), Some(exponent), Some(bits)] = numbers.as_slice() else { panic!("{numbers:?}") };
    assert_eq!(attribute::number_in(bits), Some(2048));

    let key = RsaPublicKeyComponents { n: modulus, e: exponent };
    session.sign_init(Mechanism::Sha256RsaPkcs, private).unwrap();
    let signature = session.sign(b"message").unwrap();
    key.verify(&RSA_PKCS1_2048_8192_SHA256, b"message", &signature).unwrap();

    // Between the two calls, and for each signature anew.
    session.sign_init(Mechanism::Sha256RsaPkcs, careful).unwrap();
    assert_eq!(session.sign(b"message"), Err(answered("C_Sign", 0x101)));
    for _ in 0..2 {
        let _ = session.sign_init(Mechanism::Sha256RsaPkcs, careful);
        session.login(User::ContextSpecific, Some(pin)).unwrap();
        assert_eq!(session.sign(b"message").unwrap().len(), 256);
    }

    let long = vec![0x5a; 20_000];
    let certificate = session
        .create(&[
            Attribute::class(ObjectClass::Certificate),
            Attribute::flag(A::Token, true),
            Attribute::number(A::CertificateType, 0),
            Attribute::bytes(A::Subject, b"subject"),
            Attribute::bytes(A::Value, long.clone()),
        ])
        .unwrap();
    let values = session.attributes(certificate, &[A::Label, A::Modulus, A::Value]).unwrap();
    assert_eq!(values, [Some(Vec::new()), None, Some(long)]);
    session.destroy(certificate).unwrap();
    assert_eq!(session.attributes(certificate, &[A::Value]), Err(answered("C_GetAttributeValue", 0x82)));
    assert_eq!(session.destroy(certificate), Err(answered("C_DestroyObject", 0x82)));
    assert_eq!(
        session.sign_init(Mechanism::RsaPkcs, certificate),
        Err(answered("C_SignInit", 0x82)),
        "SoftHSM2's own word for a key that is gone"
    );
}

#[test]
fn a_device_lives_through_the_crate() {
    alone("a_device_lives_through_the_crate", |_| {
        assert_eq!(raw::Library::load(Path::new(SOFTHSM)).unwrap().is_shared(), Ok(true));
        a_life_of_a_device(Binding::Either);
    });
}

#[test]
fn a_device_lives_through_its_function_list() {
    alone("a_device_lives_through_its_function_list", |_| a_life_of_a_device(Binding::Raw));
}

#[test]
fn sessions_are_used_by_several_threads_at_once() {
    alone("sessions_are_used_by_several_threads_at_once", |_| {
        for binding in [Binding::Either, Binding::Raw] {
            let library = load(Path::new(SOFTHSM), binding).unwrap();
            library.initialize(&LOCKING).unwrap();
            let slot = library.slots().unwrap()[0];
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..100 {
                            assert!(library.slots().unwrap().contains(&slot));
                            assert!(library.mechanisms(slot).unwrap().len() > 10);
                        }
                    });
                }
            });
            library.finalize().unwrap();
        }
    });
}

#[test]
fn a_file_that_is_no_pkcs11_library_says_what_it_lacks() {
    for binding in [Binding::Either, Binding::Raw] {
        let said = |path: &Path| match load(path, binding) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{} is none", path.display()),
        };
        let math = installed("libm.so.6").unwrap();
        assert!(
            said(&math).ends_with("it has no C_GetFunctionList, so it is no PKCS#11 library"),
            "{}",
            said(&math)
        );
        assert!(said(Path::new("/nonexistent/library.so")).contains("No such file"));
        assert!(
            said(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").as_path()).contains("invalid ELF")
        );
    }
}

#[test]
fn a_library_that_reads_a_string_from_the_reserved_field_gets_it() {
    alone("a_library_that_reads_a_string_from_the_reserved_field_gets_it", |folder| {
        let Some(path) = installed("libsoftokn3.so") else { return };
        for binding in [Binding::Either, Binding::Raw] {
            let database = folder.join(format!("{binding:?}"));
            fs::create_dir(&database).unwrap();
            let reserved = format!(
                "configdir='sql:{}' certPrefix='' keyPrefix='' secmod='secmod.db'",
                database.display()
            );
            let arguments = InitializeArguments { os_locking: true, reserved: Some(reserved) };
            let library = load(&path, binding).unwrap();
            for _ in 0..2 {
                library.initialize(&arguments).unwrap();
                // Without the string there would be one slot, and no database.
                assert_eq!(library.slots().unwrap().len(), 2);
                library.finalize().unwrap();
            }
            assert!(database.join("key4.db").exists());
        }
    });
}

#[test]
fn a_library_that_gives_everybody_functions_of_their_own_is_driven_by_one_set() {
    alone("a_library_that_gives_everybody_functions_of_their_own_is_driven_by_one_set", |_| {
        let Some(path) = installed("p11-kit-proxy.so") else { return };
        let library = raw::Library::load(&path).unwrap();
        assert_eq!(library.is_shared(), Ok(false));
        let library = load(&path, Binding::Either).unwrap();
        library.initialize(&LOCKING).unwrap();
        // Which devices there are is for the machine's configuration. Whoever asks by one set and works by the other
        // is told that nothing is initialized, whatever there is.
        let not_initialized = |function| answered(function, 0x190);
        for slot in library.slots().unwrap() {
            assert_ne!(library.device_info(slot), Err(not_initialized("C_GetTokenInfo")));
            library.mechanisms(slot).unwrap();
            match library.open(slot, Access::ReadOnly) {
                Ok(session) => {
                    for object in session.find(&[], 1).unwrap() {
                        session.attributes(object, &[AttributeType::Class]).unwrap();
                    }
                }
                Err(why) => assert_ne!(why, not_initialized("C_OpenSession")),
            }
        }
        library.finalize().unwrap();
    });
}

#[test]
fn a_reserved_string_with_a_nul_is_refused() {
    let arguments = InitializeArguments { os_locking: true, reserved: Some("a\0b".into()) };
    let library = load(Path::new(SOFTHSM), Binding::Raw).unwrap();
    assert!(matches!(library.initialize(&arguments), Err(Failure::Unusable { .. })));
}

#[test]
fn texts_lose_their_padding_and_nothing_else() {
    assert_eq!(text(b" seal  \0 \0\0"), " seal");
    assert_eq!(text(b"\xc3\xa6\xff "), "æ\u{fffd}");
    assert_eq!(text(&[0; 16]), "");
}
