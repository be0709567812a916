//! What only the authorities can tell: that they are there, that the clocks agree, and that a token comes.

use std::collections::BTreeMap;

use super::{Ward, finding::Findings};
use crate::{
    config::{self, ConsumerOrg, Environment, Realm},
    http::Request,
    pipeline::{self, FirstCall, Overrides},
    sign::Fault,
    token::TokenSource as _,
};

/// Where Digdir says what is out of order.
const STATUS_PAGE: &str = "status.digdir.no";

pub(super) async fn check(ward: &Ward<'_>, tokens: &[&config::Token], findings: &mut Findings<'_>) {
    let config = ward.examination.config;
    let environments: BTreeMap<&str, &Environment> = tokens
        .iter()
        .filter_map(|token| config.clients.get(&token.client))
        .map(|client| (client.environment.name.as_str(), &client.environment))
        .collect();
    let mut reached = Vec::new();
    for environment in environments.values() {
        if reach(ward, environment, findings).await {
            reached.push(environment.name.as_str());
        }
    }
    for token in tokens {
        let of = config.clients.get(&token.client).map(|client| client.environment.name.as_str());
        if of.is_some_and(|name| reached.contains(&name)) {
            probe(ward, token, findings).await;
        }
    }
}

/// Whether Maskinporten answers, and what time it says that it is.
async fn reach(ward: &Ward<'_>, environment: &Environment, findings: &mut Findings<'_>) -> bool {
    let about = environment.name.as_str();
    let Ok(url) = pipeline::endpoints(environment).map(|endpoints| endpoints.metadata_url()) else {
        return true;
    };
    let request = Request { url: &url, accept: None, bearer: None, form: None };
    let asked = ward.clock().now();
    let answer = ward.pipeline.http().send(request, &ward.call()).await;
    let took = ward.clock().now().since(asked);
    match answer {
        Ok(answer) if !answer.is_unavailable() => {
            findings.ok(
                "reachable",
                about,
                format!("{} answered {} in {} ms", url, answer.status, took.as_millis()),
            );
            true
        }
        Ok(answer) => {
            let said = format!("{url} answered {}", answer.status);
            findings.failed("reachable", about, Fault::Network, said, away(environment));
            false
        }
        Err(why) => {
            findings.failed("reachable", about, Fault::Network, why.to_string(), away(environment));
            false
        }
    }
}

fn away(environment: &Environment) -> String {
    match environment.realm {
        Realm::Other => "Start it, or correct its address in [environments].".to_owned(),
        _ => format!(
            "Check firewall, proxy and DNS (segl doctor --hosts names the hosts); see {STATUS_PAGE} whether it is up."
        ),
    }
}

/// One token, and the first harmless call with it where there is one.
async fn probe(ward: &Ward<'_>, token: &config::Token, findings: &mut Findings<'_>) {
    if token.consumer_org == Some(ConsumerOrg::Required) {
        return;
    }
    let Ok(named) = ward.pipeline.token(&token.name) else { return };
    let Ok(request) = named.request(Overrides::default()) else { return };
    let about = token.name.as_str();
    let issued = match named.source().token(&request, &ward.call().fresh()).await {
        Ok(issued) => issued,
        Err(error) => {
            return findings.failed("token", about, error.kind(), error.to_string(), error.remedy());
        }
    };
    let life = issued.left(&**ward.clock());
    findings.ok("token", about, format!("{} for {} s", issued.scope(), life.as_secs()));
    if let FirstCall::TestAuth(test) = named.first_call(issued.scope()) {
        match named.test_auth(&test, &issued, &ward.call()).await {
            Ok(status) => findings.ok("first call", about, format!("GET {} answered {status}", test.url())),
            Err(error) => {
                findings.failed("first call", about, error.kind(), error.to_string(), error.remedy());
            }
        }
    }
}
