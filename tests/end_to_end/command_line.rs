use std::time::{Duration, Instant};

use crate::stand::Stand;

#[tokio::test]
async fn an_unknown_token_is_answered_with_the_names_there_are() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    for command in ["token", "grant", "probe"] {
        let said = stand.segl(&[command, "raod"]).await;
        let (what, remedy) = said.failed(2);
        assert_eq!(what, r#"there is no token called "raod"; there are: instances, maskinporten, road"#);
        assert!(remedy.contains("[tokens.NAME]"), "{remedy}");
    }
}

#[tokio::test]
async fn a_misspelt_key_is_named_with_file_line_and_nearest_name() {
    let stand = Stand::new().await;
    let config = stand.key_client().replace("exchange = \"customs\"", "exchage = \"customs\"");
    stand.configure(&config);
    let line = 1 + config.lines().position(|line| line.starts_with("exchage")).unwrap();
    for arguments in [&["token", "road"][..], &["config", "check"]] {
        let said = stand.segl(arguments).await;
        let (what, _) = said.failed(2);
        assert!(what.contains(&format!("segl.toml:{line}: tokens.road.exchage: ")), "{what}");
        assert!(what.contains(r#"did you mean "exchange"?"#), "{what}");
    }
    assert_eq!(stand.sandbox.counters(), Default::default());
}

#[tokio::test]
async fn what_a_person_must_mend_ends_with_2_and_says_how() {
    let stand = Stand::new().await;
    let config = stand.key_client();
    for (broken, what, how) in [
        (config.replace("kid = ", "certificate = \"none.pem\"\nkid = "), "kid or a certificate", ""),
        (config.replace("file:key.pem", "file:none.pem"), "none.pem", ""),
        (config.replace("file:key.pem", "file:open.pem"), "open.pem", "chmod"),
        (config.replace("schema = 1", ""), "schema = 1 is missing", ""),
        ("schema = [".to_owned(), "not TOML", ""),
    ] {
        std::fs::write(stand.folder().join("open.pem"), crate::stand::key().serialize_pem()).unwrap();
        stand.configure(&broken);
        let said = stand.segl(&["token", "road"]).await;
        let (said_what, remedy) = said.failed(2);
        assert!(said_what.contains(what) && remedy.contains(how), "{said:?}");
    }
    let said = stand.segl(&["--config", "nowhere.toml", "token", "road"]).await;
    assert!(said.failed(2).0.contains("nowhere.toml"), "{said:?}");
}

#[tokio::test]
async fn an_authority_that_is_not_there_is_named_within_the_time_allowed() {
    let stand = Stand::new().await;
    // A port that was free a moment ago and is held without listening, so that nobody else takes it.
    let port = tokio::net::TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = format!("http://{}", port.local_addr().unwrap());
    let config = stand.key_client();
    for (name, config) in [
        ("Maskinporten", config.replace(stand.sandbox.issuer(), &format!("{nowhere}/"))),
        ("Customs", config.replace(stand.sandbox.customs(), &nowhere)),
    ] {
        stand.configure(&config);
        for command in ["token", "probe"] {
            let began = Instant::now();
            let said = stand.segl(&[command, "road", "--timeout", "1"]).await;
            assert_eq!(said.code, Some(3), "{said:?}");
            assert!(said.err.contains(&format!("{name} cannot be reached: no connection to ")), "{said:?}");
            assert!(said.err.contains(&format!("see whether {name} is up")), "{said:?}");
            // One second, and what a busy machine needs to start a program.
            assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        }
    }
}
