//! The sandbox as an examiner: presets, faults over time, what takes a while to be known, the request log, and the
//! management interface.

use segl::sandbox::{Fault, Knobs, Manner, Scenario};

use super::*;

impl Stand {
    async fn with_management(options: Options) -> Self {
        Self::with(Options { management: Some(0), ..options }).await
    }

    /// A call of the management interface.
    async fn manage(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.sandbox.management().unwrap());
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = read(request.send().await.unwrap()).await;
        (answer.status, answer.json())
    }

    async fn managed(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, value) = self.manage(method, path, body).await;
        assert_eq!(status, StatusCode::OK, "{value}");
        value
    }
}

fn fault(value: Value) -> Fault {
    serde_json::from_value(value).unwrap()
}

fn jwk(kid: &str, usage: Option<&str>) -> Value {
    let key = segl::jose::RsaPublicKey::from_spki(&spki()).unwrap();
    let mut jwk = json!({
        "kty": "RSA",
        "kid": kid,
        "n": URL_SAFE_NO_PAD.encode(key.modulus()),
        "e": URL_SAFE_NO_PAD.encode(key.exponent()),
    });
    if let Some(usage) = usage {
        jwk["use"] = usage.into();
    }
    jwk
}

#[tokio::test]
async fn the_strict_preset_refuses_what_is_only_tolerated() {
    let stand = Stand::with(Options { knobs: Knobs::strict(), ..Options::default() }).await;
    stand.send(&stand.by_kid().set("nbf", NOW)).await.refused("invalid_request", "Unknown field nbf");
    stand.send(&stand.by_kid().set("iat", NOW - 11)).await.refused("invalid_grant", "too long ago");
    let resource = stand.by_kid().set("resource", "https://api.example.no");
    stand.send(&resource).await.refused("invalid_request", "MP-011");
    stand.token(&stand.by_kid()).await;
}

#[tokio::test]
async fn the_preset_of_2024_passes_over_unknown_claims_and_says_forbidden() {
    let stand = Stand::with(Options { knobs: Knobs::as_2024(), ..Options::default() }).await;
    let token = stand.token(&stand.by_kid().set("consumer_orgno", "x")).await;
    assert_eq!(claims(&token)["aud"], "unspecified");
    let answer = stand.send(&stand.by_kid().set("scope", Clients::NOT_GRANTED)).await;
    assert_eq!(answer.json()["error"], "forbidden");
    assert!(answer.body.contains("(correlation id: ") && answer.body.contains("MP-250"), "{}", answer.body);
}

#[tokio::test]
async fn a_changed_key_is_known_after_the_delay() {
    let stand = Stand::new().await;
    stand.sandbox.turn(|knobs| knobs.propagation_delay = 120);
    stand.sandbox.register_key(Clients::KEY_CLIENT, "late", &spki()).unwrap();
    let grant =
        |stand: &Stand, now: u64| stand.by_kid().header("kid", "late").set("iat", now).set("exp", now + 60);
    stand.send(&grant(&stand, NOW)).await.refused("invalid_grant", "Unknown key identifier");
    stand.clock.advance(Duration::from_secs(119));
    stand.send(&grant(&stand, NOW + 119)).await.refused("invalid_grant", "Unknown key identifier");
    stand.clock.advance(Duration::from_secs(1));
    stand.token(&grant(&stand, NOW + 120)).await;
}

#[tokio::test]
async fn without_its_memory_it_takes_a_grant_twice() {
    let stand = Stand::new().await;
    stand.sandbox.turn(|knobs| knobs.replay_memory = false);
    let grant = stand.by_kid().sign();
    for _ in 0..2 {
        assert_eq!(stand.post_assertion(&grant).await.status, StatusCode::OK);
    }
    // It is pointed out all the same.
    assert!(stand.sandbox.manners().iter().any(|lapse| lapse.manner == Manner::JtiTwice));
}

#[tokio::test]
async fn altinn_leaves_the_details_an_array_where_it_is_told_to() {
    let stand = Stand::new().await;
    let details = json!([{
        "type": "urn:altinn:systemuser",
        "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": format!("0192:{}", Clients::CUSTOMER) },
    }]);
    for (flatten, is_array) in [(true, false), (false, true)] {
        stand.sandbox.turn(|knobs| knobs.flatten_authorization_details = flatten);
        let grant = stand.by_kid().set("scope", INSTANCES).set("authorization_details", details.clone());
        let token = stand.token(&grant).await;
        let issued = stand.exchange_at_altinn(&token, &[]).await;
        assert_eq!(claims(&issued.body)["authorization_details"].is_array(), is_array);
    }
}

#[tokio::test]
async fn bursts_of_503_come_after_so_many_requests_and_end_after_so_many() {
    let stand = Stand::new().await;
    stand.sandbox.turn(|knobs| {
        knobs.burst_every = 3;
        knobs.burst_length = 2;
    });
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(stand.send(&stand.by_kid()).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 503, 503, 200, 200]);
}

#[tokio::test]
async fn faults_come_and_go_at_their_time() {
    let faults = vec![
        fault(json!({ "at": 10, "for": 5, "outage": ["maskinporten"] })),
        fault(json!({ "at": 20, "for": 5, "knobs": { "clock_offset": -60 } })),
        fault(json!({ "at": 30, "outage": ["customs", "altinn", "metadata"] })),
    ];
    let stand = Stand::with(Options { faults, ..Options::default() }).await;
    let mut elapsed = 0;
    let mut at = async |seconds: u64| {
        stand.clock.advance(Duration::from_secs(seconds - elapsed));
        elapsed = seconds;
        let now = NOW + seconds;
        stand.send(&stand.by_kid().set("iat", now).set("exp", now + 60)).await
    };
    assert_eq!(at(9).await.status, 200);
    assert_eq!(at(10).await.status, 503);
    assert_eq!(at(15).await.status, 200);
    at(20).await.refused("invalid_grant", "Issue time is after now");
    let answer = at(30).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(stand.exchange_at_customs(&token).await.status, 503);
    assert_eq!(stand.exchange_at_altinn(&token, &[]).await.status, 503);
    let metadata = format!("{}.well-known/oauth-authorization-server", stand.sandbox.issuer());
    assert_eq!(stand.get(&metadata, "", &[]).await.status, 503);
}

#[tokio::test]
async fn the_management_interface_shows_requests_and_grants_and_no_token() {
    let stand = Stand::with_management(Options::default()).await;
    let token = stand.token(&stand.by_kid()).await;
    stand.exchange_at_customs(&token).await;
    stand.send(&stand.by_x5c(Profile::Seid2).set("scope", Clients::NOT_GRANTED)).await;
    let mut keyless = stand.by_kid();
    keyless.header = json!({ "alg": "RS256" });
    stand.send(&keyless).await;
    stand.send(&stand.by_x5c(Profile::Seid2).header("x5c", "no array")).await;
    stand.post_assertion("no grant").await;
    stand.get(&format!("{}elsewhere", stand.sandbox.issuer()), "", &[]).await;

    let requests = stand.managed("GET", "/requests", None).await;
    assert!(!requests.to_string().contains(&token) && !requests.to_string().contains("eyJ"));
    let seen: Vec<_> = requests
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["authority"].as_str().unwrap(),
                entry["path"].as_str().unwrap(),
                entry["status"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("maskinporten", "/token", 200),
            ("customs", "/api/access/external/oauth/token", 200),
            ("maskinporten", "/token", 400),
            ("maskinporten", "/token", 400),
            ("maskinporten", "/token", 400),
            ("maskinporten", "/token", 400),
            ("maskinporten", "/elsewhere", 404),
        ]
    );
    assert_eq!(requests[1]["client"], format!("0192:{}", Clients::ORGANISATION));
    let later = stand.managed("GET", "/requests?after=6", None).await;
    assert_eq!((later.as_array().unwrap().len(), &later[0]["number"]), (1, &json!(7)));

    let grants = stand.managed("GET", "/grants", None).await;
    let of = |index: usize, name: &str| grants[index][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(grants.as_array().unwrap().len(), 4);
    assert_eq!(
        (of(0, "client"), of(0, "key"), of(0, "scopes")),
        (Clients::KEY_CLIENT.into(), format!("kid {KID}"), ROAD.into())
    );
    assert_eq!((of(1, "key"), of(1, "code")), ("x5c of 2".into(), "MP-250".into()));
    for without_a_key in [2, 3] {
        assert_eq!((of(without_a_key, "key"), of(without_a_key, "scopes")), (String::new(), ROAD.into()));
    }
    let overview = stand.managed("GET", "/", None).await;
    assert_eq!(overview["counters"]["token"]["hits"], 5);
    assert_eq!(overview["maskinporten"], stand.sandbox.issuer());
}

#[tokio::test]
async fn what_altinn_does_not_take_is_written_down_with_a_name_that_can_be_explained() {
    let stand = Stand::with_management(Options::default()).await;
    let token = stand.token(&stand.by_kid().set("scope", INSTANCES)).await;
    stand.exchange_at_altinn(&token, &[]).await;
    stand.exchange_at_altinn("no token", &[]).await;
    stand.exchange_at_altinn(&token, &[("x-altinn-enterpriseuser-authentication", "x")]).await;
    stand.get(&format!("{}/authentication/api/v1/exchange/other", stand.sandbox.altinn()), &token, &[]).await;

    let requests = stand.managed("GET", "/requests?after=1", None).await;
    let written = |name: &str| [0, 1, 2, 3].map(|index| requests[index][name].clone());
    assert_eq!(written("status"), [200, 401, 410, 400].map(Value::from));
    assert_eq!(requests[0]["client"], format!("0192:{}", Clients::ORGANISATION));
    let codes = written("code");
    assert_eq!(codes[0], Value::Null);
    for code in &codes[1..] {
        let code = code.as_str().unwrap();
        assert!(segl::advice::named(code).is_some(), "{code}");
    }
}

#[tokio::test]
async fn knobs_and_faults_are_turned_through_the_management_interface() {
    let stand = Stand::with_management(Options::default()).await;
    let turned = stand.managed("PATCH", "/knobs", Some(json!({ "token_lifetime": 30 }))).await;
    assert_eq!((&turned["token_lifetime"], &turned["strict_iat"]), (&json!(30), &json!(false)));
    assert_eq!(stand.send(&stand.by_kid()).await.json()["expires_in"], 29);

    let outage = json!({ "for": 60, "outage": ["maskinporten"] });
    stand.clock.advance(Duration::from_secs(7));
    let number = stand.managed("POST", "/faults", Some(outage)).await["number"].as_u64().unwrap();
    assert_eq!(stand.send(&stand.by_kid()).await.status, 503);
    let faults = stand.managed("GET", "/faults", None).await;
    assert_eq!((&faults[0]["on"], &faults[0]["fault"]["at"]), (&json!(true), &json!(7)));
    stand.managed("DELETE", &format!("/faults/{number}"), None).await;
    assert_eq!(stand.send(&stand.by_kid()).await.status, 200);
    stand.managed("POST", "/faults", Some(json!({ "knobs": { "strict_claims": true } }))).await;
    assert_eq!(stand.managed("DELETE", "/faults", None).await["removed"], 1);

    for (method, path, body, why) in [
        ("PATCH", "/knobs", json!({ "speed": 1 }), "unknown field `speed`"),
        ("POST", "/faults", json!({}), "neither outage nor knobs"),
        ("POST", "/faults", json!("outage"), "invalid type"),
        ("DELETE", "/faults/77", json!(null), "no fault of this number"),
        ("DELETE", "/clients/nobody", json!(null), "no such client"),
        ("PUT", "/clients/new", json!({ "organisation": "1" }), "no organisation number"),
        (
            "PUT",
            "/clients/new",
            json!({ "organisation": "312700018", "colour": 1 }),
            "unknown field `colour`",
        ),
        ("POST", "/clients/nobody/jwks", jwk("k", None), "no such client"),
    ] {
        let (status, answer) = stand.manage(method, path, Some(body)).await;
        assert!(status.is_client_error(), "{path}: {status}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_client_is_made_given_a_key_and_taken_away_while_it_runs() {
    let stand = Stand::with_management(Options::default()).await;
    stand.sandbox.turn(|knobs| knobs.jwks_require_use = true);
    let grant = || stand.by_kid().set("iss", "made").header("kid", "first");
    stand.send(&grant()).await.refused("invalid_grant", "MP-100");
    let client = json!({ "organisation": Clients::ORGANISATION, "scopes": [ROAD] });
    assert_eq!(stand.managed("PUT", "/clients/made", Some(client)).await["known_after"], 0);
    let (status, answer) = stand.manage("POST", "/clients/made/jwks", Some(jwk("first", None))).await;
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("lacks use"), "{answer}");
    stand.managed("POST", "/clients/made/jwks", Some(jwk("first", Some("sig")))).await;
    stand.token(&grant()).await;
    let clients = stand.managed("GET", "/clients", None).await;
    assert_eq!(clients["clients"]["made"]["jwks"][0], jwk("first", Some("sig")));
    stand.managed("DELETE", "/clients/made", None).await;
    stand.send(&grant()).await.refused("invalid_grant", "MP-100");
}

#[tokio::test]
async fn the_management_interface_is_not_for_web_pages() {
    let stand = Stand::with_management(Options::default()).await;
    let url = format!("{}/knobs", stand.sandbox.management().unwrap());
    assert!(url.starts_with("http://127.0.0.1:"));
    for (name, value) in [("origin", "https://example.org"), ("host", "rebound.example.org")] {
        let answer = stand.http.get(&url).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}");
    }
    let plain = stand.http.patch(&url).header("content-type", "text/plain").body("{}").send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::BAD_REQUEST);
    assert_eq!(Stand::new().await.sandbox.management(), None);
}

#[tokio::test]
async fn bad_manners_are_pointed_out_with_what_would_be_better() {
    let stand = Stand::with_management(Options::default()).await;
    stand.token(&stand.by_kid()).await;
    assert_eq!(stand.sandbox.manners(), []);
    stand.clock.advance(Duration::from_secs(60));
    let renewed = |stand: &Stand| stand.by_kid().set("iat", NOW + 60).set("exp", NOW + 120);
    stand.token(&renewed(&stand)).await;
    assert_eq!(stand.sandbox.manners(), [], "a minute ahead is good manners");
    let again = renewed(&stand).sign();
    for _ in 0..5 {
        stand.post_assertion(&again).await;
    }
    let found: Vec<_> = stand.sandbox.manners().into_iter().map(|it| (it.manner, it.times)).collect();
    assert_eq!(found, [(Manner::AskedWhileValid, 1), (Manner::JtiTwice, 4), (Manner::RefreshStorm, 1)]);
    let shown = stand.managed("GET", "/manners", None).await;
    assert_eq!(
        (&shown[1]["manner"], &shown[1]["client"]),
        (&json!("jti-twice"), &json!(Clients::KEY_CLIENT))
    );
    assert!(shown[1]["advice"].as_str().unwrap().contains("a new jti"), "{shown}");
    let requests = stand.managed("GET", "/requests", None).await;
    assert!(requests[3]["manners"][0].as_str().unwrap().contains("was tried before"), "{requests}");
}

#[tokio::test]
async fn a_scenario_is_a_plan_for_all_of_it() {
    let document = include_str!("../../docs/examiner.md");
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let Scenario { knobs, clients, faults, .. } = Scenario::from_toml(example).unwrap();
    assert!(!faults.is_empty());
    let stand = Stand::with(Options { knobs, clients: clients.unwrap(), faults, ..Options::default() }).await;
    let client = "5e610000-0000-4000-8000-0000000000aa";
    stand.sandbox.register_key(client, KID, &spki()).unwrap();
    let grant = || stand.by_kid().set("iss", client);
    assert_eq!(stand.send(&grant()).await.json()["expires_in"], 59);
    stand.clock.advance(Duration::from_secs(30));
    assert_eq!(stand.send(&grant()).await.status, 503);
}
