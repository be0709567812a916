use segl::sandbox::Clients;

use crate::stand::Stand;

#[tokio::test]
async fn a_refusal_leads_to_its_explanation_in_the_users_language() {
    let stand = Stand::new().await;
    stand.configure(&stand.key_client());
    let said = stand.segl(&["token", "maskinporten", "--scope", Clients::NOT_GRANTED]).await;
    let (_, remedy) = said.failed(1);
    assert!(remedy.starts_with("Ask the API owner"), "{said:?}");
    let pointer = said.err.lines().last().unwrap().trim();
    assert_eq!(pointer, "More: segl explain MP-250");

    let norwegian = [("LC_ALL", ""), ("LANG", "nb_NO.UTF-8")];
    let said =
        stand.segl_with(&["token", "maskinporten", "--scope", Clients::NOT_GRANTED], &norwegian, "").await;
    assert!(said.err.contains("\n      Be eieren av API-et"), "{said:?}");
    assert!(said.err.ends_with("\n      Mer: segl explain MP-250\n"), "{said:?}");

    let said = stand.segl_with(&["explain", "MP-250"], &norwegian, "").await;
    assert!(said.done().contains("Hvem:           eieren av API-et"), "{said:?}");
    let said = stand.segl_with(&["--lang", "en", "explain", "MP-250"], &norwegian, "").await;
    assert!(said.done().contains("Who must act:   the API owner"), "{said:?}");
}

#[tokio::test]
async fn a_whole_answer_on_standard_input_is_explained_and_nothing_of_it_repeated() {
    let stand = Stand::new().await;
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJwaWQiOiIwMTgxMTIxMDAyOCJ9.c2lnbmF0dXJl";
    let json = format!(
        r#"{{"error":"invalid_grant","error_description":"Unknown key identifier (kid) for client {token} 01811210028 (trace_id: 0123456789abcdef0123456789abcdef)"}}"#
    );
    let said = stand.segl_with(&["explain", "-"], &[], &json).await;
    assert!(said.done().starts_with("unknown-kid: "), "{said:?}");
    assert!(said.out.contains("trace id 0123456789abcdef0123456789abcdef"), "{said:?}");
    let html =
        format!("<h1>403</h1><p>Not <i>authorized</i> to request scope toll:eu/movement/air {token}</p>");
    let page = stand.segl_with(&["explain", "-", "--output", "json"], &[], &html).await;
    assert_eq!(page.json()["matches"][0]["found"], "not authorized to request scope");
    assert_eq!(page.json()["scopes"][0]["name"], "toll:eu/movement/air");
    for said in [&said, &page] {
        assert!(!said.out.contains("eyJ") && !said.out.contains("01811210028"), "{said:?}");
    }

    let said = stand.segl_with(&["explain", "-"], &[], &format!("all is well {token}")).await;
    assert_eq!(said.failed(2).0, "nothing in this answer is known here");
    let said = stand.segl_with(&["explain", "-"], &[], &"MP-250 ".repeat(40_000)).await;
    assert_eq!(said.failed(2).0, "standard input: more than 256 KiB");
}

#[tokio::test]
async fn the_configuration_answers_what_it_can_of_customs_four_checks() {
    let stand = Stand::new().await;
    let config = stand.key_client().replace("toll:movement/road/v2", "toll:movement/road");
    stand.configure(&config);
    let said = stand.segl(&["explain", "--token", "road", "--output", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["matches"][0]["found"], "customs-scope");
    let answers = told["token"]["answers"].as_array().unwrap();
    let answered = |check: &str| &answers.iter().find(|answer| answer["check"] == check).unwrap()["holds"];
    assert_eq!(answered("family"), true);
    for check in ["registered", "integration", "granted"] {
        assert!(answered(check).is_null(), "{check}");
    }
    let caution = told["token"]["scopes"][0]["caution"].as_str().unwrap();
    assert!(caution.contains("has been replaced by toll:movement/road/v2"), "{caution}");
    assert!(said.err.contains("tokens.road.scopes: "), "the warning is said once more: {said:?}");
}
