//! `segl init`: what it writes is a configuration that `segl doctor` takes.

use segl::sandbox::Clients;

use crate::{
    Examined,
    stand::{KID, Stand, key, spki},
};

const SCOPE: &str = "toll:movement/road/v2";

#[tokio::test]
async fn what_is_written_from_options_gets_a_token_and_is_never_written_over() {
    let stand = Stand::new().await;
    stand.sandbox.register_key(Clients::KEY_CLIENT, KID, &spki(key())).unwrap();
    stand.write("key.pem", key().serialize_pem());
    let arguments = [
        "init",
        "--who",
        "company",
        "--key",
        "file:key.pem",
        "--client-id",
        Clients::KEY_CLIENT,
        "--kid",
        KID,
        "--kid-expires",
        "2099-01-31",
        "--scope",
        SCOPE,
        "--environment",
        "test",
    ];
    let said = stand.segl(&arguments).await;
    assert!(
        said.done().starts_with("written: segl.toml\n") && said.out.ends_with("next: segl doctor\n"),
        "{said:?}"
    );
    let examined = Examined::read(&stand.segl(&["doctor", "--output", "json"]).await);
    examined.is_well();
    let again = stand.segl(&arguments).await;
    assert!(again.failed(2).0.contains("is there already"), "{again:?}");
}

#[tokio::test]
async fn what_another_tool_was_configured_with_is_taken_over_without_its_password() {
    let stand = Stand::new().await;
    stand.sandbox.register_key(Clients::KEY_CLIENT, KID, &spki(key())).unwrap();
    stand.write("key.pem", key().serialize_pem());
    let properties = format!(
        "issuer={}\naudience={}\ntoken.endpoint={}token\nscope={SCOPE}\nkeystore.file=key.pem\n\
         keystore.password=s3cret-word\nkid={KID}\n",
        Clients::KEY_CLIENT,
        stand.sandbox.issuer(),
        stand.sandbox.issuer(),
    );
    stand.write("client.properties", properties);
    let said = stand.segl(&["init", "--who", "company", "--from", "client.properties"]).await;
    assert!(said.out.contains("password was not copied"), "{said:?}");
    let written = std::fs::read_to_string(stand.folder().join("segl.toml")).unwrap();
    assert!(!written.contains("s3cret-word"), "{written}");
    // Customs' address is not in such a file.
    assert!(said.out.contains("add customs = "), "{said:?}");
    stand.segl(&["token", "first"]).await.token();
}

#[tokio::test]
async fn the_variables_of_a_sidecar_become_a_file_without_the_private_key() {
    let stand = Stand::new().await;
    stand.sandbox.register_key(Clients::KEY_CLIENT, KID, &spki(key())).unwrap();
    let path = stand.write("key.pem", key().serialize_pem());
    let key = format!("file:{}", path.display());
    let variables = [
        ("MASKINPORTEN_CLIENT_ID", Clients::KEY_CLIENT),
        ("MASKINPORTEN_CLIENT_KID", KID),
        ("MASKINPORTEN_SCOPES", "sandbox:anything"),
        ("MASKINPORTEN_ISSUER", stand.sandbox.issuer()),
        ("SEGL_KEY", &key),
    ];
    let said = stand.segl_with(&["init", "--who", "company", "--from-env"], &variables, "").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let examined = Examined::read(&stand.segl(&["doctor", "--output", "json"]).await);
    assert_eq!(examined.report["failures"], 0, "{:#}", examined.report);
}

#[tokio::test]
async fn without_a_person_the_option_that_is_missing_is_named() {
    let stand = Stand::new().await;
    let said = stand.segl(&["init", "--who", "company"]).await;
    let (what, remedy) = said.failed(2);
    assert!(what.contains("nobody answers") && remedy.contains("--key"), "{said:?}");
    assert!(!stand.folder().join("segl.toml").exists());
}

#[tokio::test]
async fn an_option_goes_before_what_another_tool_was_told() {
    let stand = Stand::new().await;
    stand.write("key.pem", key().serialize_pem());
    let variables = [
        ("MASKINPORTEN_CLIENT_ID", Clients::KEY_CLIENT),
        ("MASKINPORTEN_CLIENT_KID", KID),
        ("MASKINPORTEN_SCOPES", "sandbox:anything"),
        ("MASKINPORTEN_ISSUER", "https://test.maskinporten.no/"),
    ];
    let arguments =
        ["init", "--who", "company", "--from-env", "--key", "file:key.pem", "--certificate", "token"];
    let said = stand.segl_with(&arguments, &variables, "").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let written = std::fs::read_to_string(stand.folder().join("segl.toml")).unwrap();
    let client = &written.parse::<toml::Table>().unwrap()["clients"]["app"];
    assert_eq!((client["certificate"].as_str(), client.get("kid")), (Some("token"), None), "{written}");
}

#[tokio::test]
async fn an_option_that_does_not_go_with_the_others_is_refused_and_not_passed_over() {
    let stand = Stand::new().await;
    for (arguments, option) in [
        (&["init", "--eseal", "--kid", "k"][..], "--kid"),
        (&["init", "--eseal", "--client-id", "c"], "--client-id"),
        (&["init", "--who", "company", "--name", "n"], "--name"),
    ] {
        let said = stand.segl(arguments).await;
        assert!(said.failed(2).0.starts_with(option), "{said:?}");
    }
}
