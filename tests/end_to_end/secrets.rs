//! No secret anywhere but in the one place where it was asked for.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use der::{Decode, Encode, asn1::OctetStringRef};
use pkcs8::{PrivateKeyInfoRef, pkcs5::pbes2};
use segl::sandbox::{Authority, Clients};

use crate::{
    device,
    pkcs1::Numbers,
    softhsm::{PIN, SoftHsm, alone},
    stand::{PID, Said, Stand, key},
};

const PASSWORD: &str = "correct-horse-4711";

/// As much said as can be; the environment variable has no say in it.
const LOUD: [(&str, &str); 2] = [("RUST_LOG", "trace"), ("SEGL_LOG", "trace")];

#[tokio::test]
async fn nothing_secret_is_said_of_a_key_in_an_encrypted_file() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    stand.write("key.pem", encrypted());
    stand.write("password", format!("{PASSWORD}\n"));
    let config = config.replace("key = \"file:key.pem\"", "key = \"file:key.pem\"\npin = \"file:password\"");
    assert!(config.contains("file:password"));
    nothing_secret_is_said(&stand, &config, &private_numbers()).await;
}

#[test]
fn nothing_secret_is_said_of_a_key_in_a_device() {
    alone("secrets::nothing_secret_is_said_of_a_key_in_a_device", async |hsm: SoftHsm| {
        let stand = Stand::new().await;
        device::provision(&stand, &hsm).await;
        let config = device::config(&stand);
        nothing_secret_is_said(&stand, &config, &[]).await;
    });
}

#[tokio::test]
async fn a_wrong_password_is_not_repeated() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    stand.write("key.pem", encrypted());
    stand.write("password", "wrong-horse-0815\n");
    stand.configure(&config.replace("file:key.pem\"", "file:key.pem\"\npin = \"file:password\""));
    let said = stand.segl_with(&["-vv", "token", "road"], &LOUD, "").await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("key.pem") && !said.err.contains("wrong-horse"), "{said:?}");
}

#[tokio::test]
async fn a_private_key_pasted_into_the_configuration_is_not_repeated() {
    let stand = Stand::new().await;
    let pem = key().serialize_pem();
    let config = stand.key_client().replace("\"file:key.pem\"", &format!("'''{pem}'''"));
    stand.configure(&config);
    for arguments in [&["token", "road"][..], &["config", "check"], &["config", "show"]] {
        let said = stand.segl(&[&["-vv"], arguments].concat()).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        for line in pem.lines().filter(|line| !line.starts_with("--")) {
            assert!(!said.err.contains(line) && !said.out.contains(line), "{said:?}");
        }
    }
}

/// Runs every command that touches a secret, loudly, where it succeeds and where it fails, and looks at all it says.
async fn nothing_secret_is_said(stand: &Stand, config: &str, further: &[String]) {
    stand.configure(config);
    let mut runs = 0;
    let mut tokens = Vec::new();
    let mut log = String::new();
    let mut look_at = |said: Said, prints_a_secret: bool| {
        let mut shown = said.err.clone();
        if prints_a_secret {
            let printed = said.out.split([' ', '"', '\n']).find(|word| word.len() > 40).unwrap();
            tokens.push(printed.to_owned());
        } else {
            shown += &said.out;
        }
        let secrets = ["eyJ", "segl-sandbox-customs", "Bearer", "PRIVATE", PIN, PASSWORD, PID];
        for secret in secrets.iter().copied().chain(further.iter().map(String::as_str)) {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        for token in &tokens {
            for piece in token.split('.').filter(|piece| piece.len() > 12) {
                assert!(!shown.contains(&piece[piece.len() - 12..]), "{shown}");
            }
        }
        log += &said.err;
        runs += 1;
    };
    for name in ["maskinporten", "road", "instances"] {
        for command in ["token", "grant"] {
            let said = stand.segl_with(&["-vv", command, name, "--pid", "-"], &LOUD, PID).await;
            assert_eq!(said.code, Some(0), "{said:?}");
            look_at(said, true);
        }
        let said = stand.segl_with(&["-vv", "probe", name, "--pid", PID], &LOUD, "").await;
        assert_eq!(said.code, Some(0), "{said:?}");
        look_at(said, false);
        for (output, prints) in [("json", true), ("header", true)] {
            look_at(stand.segl_with(&["-vv", "token", name, "--output", output], &LOUD, "").await, prints);
        }
        // Refused, and then not there.
        let scope = ["--scope", Clients::NOT_GRANTED];
        let said =
            stand.segl_with(&[&["-vv", "token", name, "--pid", PID], &scope[..]].concat(), &LOUD, "").await;
        assert_eq!(said.code, Some(1), "{said:?}");
        look_at(said, false);
        for authority in [Authority::Maskinporten, Authority::Customs, Authority::Altinn] {
            stand.sandbox.set_outage(authority, true);
        }
        let asked = ["-vv", "token", name, "--pid", PID, "--timeout", "1"];
        let said = stand.segl_with(&asked, &LOUD, "").await;
        assert_eq!(said.code, Some(3), "{said:?}");
        look_at(said, false);
        for authority in [Authority::Maskinporten, Authority::Customs, Authority::Altinn] {
            stand.sandbox.set_outage(authority, false);
        }
    }
    for arguments in [["config", "check"], ["config", "show"]] {
        look_at(stand.segl_with(&[&["-vv"], &arguments[..]].concat(), &LOUD, "").await, false);
    }
    assert_eq!((runs, tokens.len()), (23, 12));
    // It was not silence that kept the secrets.
    assert!(log.contains("trying again error="), "{log}");
    for foreign in ["hyper", "reqwest", "cryptoki", "rustls"] {
        assert!(!log.contains(foreign), "{log}");
    }
    let quiet = stand.segl_with(&["token", "road"], &LOUD, "").await;
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""), "without -v the environment changes nothing");
}

fn encrypted() -> String {
    let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(2048, &[7; 16], [9; 16]).unwrap();
    let ciphertext = parameters.encrypt(PASSWORD, key().serialized_der()).unwrap();
    let info = pkcs8::EncryptedPrivateKeyInfoRef {
        encryption_algorithm: parameters.into(),
        encrypted_data: OctetStringRef::new(&ciphertext).unwrap(),
    };
    pem::encode(&pem::Pem::new("ENCRYPTED PRIVATE KEY", info.to_der().unwrap()))
}

/// The private numbers of the key, in the spellings that a careless `Debug` or JWK would use.
fn private_numbers() -> Vec<String> {
    let info = PrivateKeyInfoRef::from_der(key().serialized_der()).unwrap();
    let numbers = Numbers::from_der(info.private_key.as_bytes()).unwrap();
    let private = numbers.private().map(|(_, number)| number);
    let spellings = |number: &[u8]| {
        let start = &number[..12];
        let list = format!("{start:?}");
        [
            hex::encode(start),
            hex::encode_upper(start),
            STANDARD.encode(start),
            URL_SAFE_NO_PAD.encode(start),
            list.trim_matches(['[', ']']).to_owned(),
        ]
    };
    private.into_iter().flat_map(spellings).collect()
}
