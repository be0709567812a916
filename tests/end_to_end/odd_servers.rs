//! Servers that no authority should be: what stands between here and there can answer anything.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use segl::{
    clock::ManualClock,
    pipeline::NamedToken,
    token::{Error, TokenSource},
};

use crate::{
    odd_server::{Answer, Server, json, ok, status},
    stand::{Stand, as_time_passes, call, in_trouble, part, until},
};

#[tokio::test]
async fn an_odd_answer_to_a_grant_is_a_clear_error_in_time_and_does_no_lasting_harm() {
    let (stand, clock) = Stand::by_hand().await;
    let server = Server::start().await;
    let config = stand.key_client().replace(stand.sandbox.issuer(), &server.issuer());
    let unusable = "Maskinporten gave an answer that cannot be used: ";
    let unreachable = "Maskinporten cannot be reached: ";
    let token_of = |life: &str| json(&format!(r#"{{"access_token":"a.b.c","expires_in":{life}}}"#));
    let header = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    for (what, answer, expected) in [
        ("2 MiB", Answer::Whole(ok(&"x".repeat(2 << 20))), [unreachable, "more than 1 MiB"]),
        ("no end", Answer::Endless, [unreachable, "more than 1 MiB"]),
        ("a start", Answer::ThenSilence(header.into()), [unreachable, "did not answer in time"]),
        ("nothing", Answer::ThenSilence(String::new()), [unreachable, "did not answer in time"]),
        ("a closed door", Answer::Whole(String::new()), [unreachable, "broke off"]),
        ("half an answer", Answer::Whole(header.replace("\r\n\r\n", "\r\n")), [unreachable, "broke off"]),
        ("another protocol", Answer::Whole("SSH-2.0-OpenSSH_9.2\r\n".into()), [unreachable, "broke off"]),
        (
            "an error page",
            status("502 Bad Gateway", "<html>no</html>"),
            ["Maskinporten cannot serve", "HTTP 502"],
        ),
        (
            "a forbidding page",
            status("403 Forbidden", "<h1>\u{1b}[31mno</h1>"),
            ["(HTTP 403)", "[31mno</h1>"],
        ),
        ("a redirection", redirection(&server), ["Maskinporten refused (HTTP 307)", "it gave no reason"]),
        ("a page", Answer::Whole(ok("<html>Log in to the guest network</html>")), [unusable, "no JSON"]),
        ("an empty page", Answer::Whole(ok("")), [unusable, "no JSON"]),
        ("no token", json(r#"{"expires_in":120}"#), [unusable, "no JSON with a token"]),
        ("a number", json(r#"{"access_token":7,"expires_in":120}"#), [unusable, "no JSON with a token"]),
        ("an empty token", json(r#"{"access_token":"","expires_in":120}"#), [unusable, "empty"]),
        ("two lines", json(r#"{"access_token":"a\nb","expires_in":120}"#), [unusable, "no token has"]),
        ("a long one", long_token(), [unusable, "too long"]),
        ("no life", token_of("0"), [unusable, "expired already"]),
        ("a past life", token_of("-1"), [unusable, "no JSON with a token"]),
        ("a date", token_of("1800000120"), [unusable, "1800000120 s"]),
        ("an eternal life", token_of("18446744073709551615"), [unusable, "18446744073709551615 s"]),
        ("a longer life", token_of("1e300"), [unusable, "no JSON with a token"]),
        ("a text", token_of(r#""120""#), [unusable, "no JSON with a token"]),
        (
            "another type",
            json(r#"{"access_token":"a","token_type":"mac","expires_in":9}"#),
            [unusable, "bearer"],
        ),
    ] {
        server.answers(answer);
        let pipeline = stand.pipeline(&config, clock.clone());
        let named = pipeline.token("maskinporten").unwrap();
        let error = error_of(named, &server, &clock).await;
        for expected in expected {
            assert!(error.to_string().contains(expected), "{what}: {error}");
        }
        assert!(!error.to_string().contains('\u{1b}'), "{what}: {error:?}");
        assert!(error.remedy().ends_with('.'), "{what}: {}", error.remedy());

        server.answers(good());
        // A refusal without a reason is remembered for so long; and somebody may have seen just now that it is away.
        clock.advance(Duration::from_secs(5));
        let token = as_time_passes(&clock, named.token(&call(&clock))).await;
        token.unwrap_or_else(|error| panic!("after {what}: {error}"));
    }
}

#[tokio::test]
async fn an_odd_answer_to_an_exchange_is_a_clear_error_in_time_and_names_who_gave_it() {
    let (stand, clock) = Stand::by_hand().await;
    let server = Server::start().await;
    let config = stand.key_client().replace(stand.sandbox.customs(), server.base());
    let config = config.replace(stand.sandbox.altinn(), server.base());
    let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    let page = || Answer::Whole(ok("<html></html>"));
    for (name, what, answer, expected) in [
        ("road", "2 MiB", Answer::Whole(ok(&"x".repeat(2 << 20))), "Customs cannot be reached: "),
        ("road", "nothing", Answer::ThenSilence(String::new()), "Customs cannot be reached: "),
        ("road", "a page", page(), "Customs gave an answer that cannot be used: it is no JSON"),
        ("road", "no life", json(r#"{"access_token":"a","expires_in":0}"#), "Customs gave an answer"),
        ("instances", "no end", Answer::Endless, "Altinn cannot be reached: "),
        ("instances", "nothing", Answer::ThenSilence(String::new()), "Altinn cannot be reached: "),
        ("instances", "a page", page(), "Altinn gave an answer that cannot be used: it is no JWT"),
        ("instances", "an empty page", Answer::Whole(ok("")), "it is no JWT"),
        ("instances", "half a quote", Answer::Whole(ok("\"a.b.c")), "its quotes do not match"),
        ("instances", "no exp", Answer::Whole(ok(&jwt("{}"))), "the token has no exp"),
        ("instances", "the past", Answer::Whole(ok(&jwt(r#"{"exp":1}"#))), "or has expired already"),
        ("instances", "eternity", Answer::Whole(ok(&jwt(r#"{"exp":18446744073709551615}"#))), " s"),
    ] {
        server.answers(answer);
        let pipeline = stand.pipeline(&config, clock.clone());
        let error = error_of(pipeline.token(name).unwrap(), &server, &clock).await;
        assert!(error.to_string().contains(expected), "{name}, {what}: {error}");
    }
}

#[tokio::test]
async fn each_try_sends_a_grant_of_its_own() {
    let (stand, clock) = Stand::by_hand().await;
    let server = Server::start().await;
    let config = stand.key_client().replace(stand.sandbox.issuer(), &server.issuer());
    let pipeline = stand.pipeline(&config, clock.clone());
    let named = pipeline.token("maskinporten").unwrap();
    server.answers(status("503 Service Unavailable", ""));
    let call = call(&clock);
    let (token, ()) = tokio::join!(named.token(&call), async {
        in_trouble(named.source()).await;
        server.answers(good());
        clock.advance(Duration::from_secs(2));
    });
    let token = token.unwrap();
    let grants = server.grants();
    let [first, second] = &grants[..] else { panic!("{} grants", grants.len()) };
    let claim = |grant: &str, name: &str| part(grant, 1)[name].clone();
    assert_ne!(claim(first, "jti"), claim(second, "jti"));
    assert_eq!(claim(second, "iat").as_u64(), claim(first, "iat").as_u64().map(|iat| iat + 2));
    assert_eq!(claim(second, "jti"), token.provenance().jti);
    assert_eq!(claim(second, "aud"), server.issuer());
}

#[tokio::test]
async fn metadata_of_another_issuer_or_with_an_endpoint_elsewhere_is_no_place_to_send_a_grant() {
    let (stand, clock) = Stand::by_hand().await;
    let (server, elsewhere) = (Server::start().await, Server::start().await);
    let config = stand.key_client().replace(stand.sandbox.issuer(), &server.issuer());
    let document = |issuer: &str, endpoint: &str| {
        json(&format!(r#"{{"issuer":"{issuer}","token_endpoint":"{endpoint}"}}"#))
    };
    let (own, other) = (server.issuer(), elsewhere.issuer());
    for (metadata, expected) in [
        (document(&other, &format!("{own}token")), "its metadata is that of"),
        (document(own.trim_end_matches('/'), &format!("{own}token")), "its metadata is that of"),
        (document(&own, &format!("{other}token")), "is on another host"),
        (document(&own, "https://maskinporten.no/token"), "is on another host"),
        (document(&own, "token"), "its token_endpoint is no URL"),
        (json("{}"), "its metadata is no JSON with issuer and token_endpoint"),
        (Answer::Whole(ok("<html></html>")), "its metadata is no JSON with issuer and token_endpoint"),
    ] {
        server.describes_itself(metadata);
        // Nothing is known of it yet.
        let pipeline = stand.pipeline(&config, clock.clone());
        let error = error_of(pipeline.token("maskinporten").unwrap(), &server, &clock).await;
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("Maskinporten gave an answer that cannot be used"), "{error}");
    }
    assert_eq!((server.grants().len(), elsewhere.grants().len()), (0, 0));

    server.describes_itself(document(&own, &format!("{own}another/place")));
    server.answers(good());
    let pipeline = stand.pipeline(&config, clock.clone());
    pipeline.token("maskinporten").unwrap().token(&call(&clock)).await.unwrap();
    assert_eq!(server.grants().len(), 1);
}

#[tokio::test]
async fn metadata_that_does_not_end_or_does_not_come_costs_a_few_seconds_at_most() {
    let (stand, clock) = Stand::by_hand().await;
    let server = Server::start().await;
    let config = stand.key_client().replace(stand.sandbox.issuer(), &server.issuer());
    server.answers(good());
    for metadata in [Answer::Endless, Answer::ThenSilence(String::new()), status("404 Not Found", "")] {
        let waits = matches!(metadata, Answer::ThenSilence(_));
        server.describes_itself(metadata);
        let pipeline = stand.pipeline(&config, clock.clone());
        let call = call(&clock);
        let (token, ()) = tokio::join!(pipeline.token("maskinporten").unwrap().token(&call), async {
            if waits {
                until("silence", || server.is_silent()).await;
                clock.advance(Duration::from_secs(3));
            }
        });
        token.unwrap();
    }
}

/// The real program, on the real clock.
#[tokio::test]
async fn the_program_gives_up_when_it_was_told_to() {
    let stand = Stand::new().await;
    let server = Server::start().await;
    stand.configure(&stand.key_client().replace(stand.sandbox.issuer(), &server.issuer()));
    server.answers(Answer::ThenSilence("HTTP/1.1 200 OK\r\n\r\n".into()));
    let began = std::time::Instant::now();
    let said = stand.segl(&["token", "maskinporten", "--timeout", "3"]).await;
    assert!(said.failed(3).0.contains("Maskinporten cannot be reached: it did not answer"), "{said:?}");
    // Three seconds, and what a busy machine needs to start a program; 30 s is what it has untold.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// How a caller fares whose time passes when the server has shown what it does.
async fn error_of(named: &NamedToken, server: &Server, clock: &Arc<ManualClock>) -> Error {
    let call = call(clock);
    let (result, ()): (Result<_, Error>, ()) = tokio::join!(named.token(&call), async {
        until("an odd answer", || server.is_silent() || named.source().trouble().is_some()).await;
        clock.advance(call.left(&**clock));
    });
    result.unwrap_err()
}

fn good() -> Answer {
    json(r#"{"access_token":"a.b.c","token_type":"Bearer","expires_in":119,"scope":"a:b"}"#)
}

fn long_token() -> Answer {
    json(&format!(r#"{{"access_token":"{}","expires_in":120}}"#, "x".repeat(100_000)))
}

/// To a place that would take the grant.
fn redirection(server: &Server) -> Answer {
    let place = server.issuer();
    Answer::Whole(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}elsewhere\r\nContent-Length: 0\r\n\r\n"
    ))
}
