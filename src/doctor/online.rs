//! What only the authorities can tell: that they are there, that the clocks agree, and that a token comes.

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use super::{Ward, finding::Findings};
use crate::{
    clock::Offset,
    config::{self, ConsumerOrg, Environment, Realm},
    http::Request,
    pipeline::{self, FirstCall, Overrides},
    sign::Fault,
    token::{CLOCK_LIMIT, TokenSource as _},
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
    let Ok(endpoints) = pipeline::endpoints(environment) else { return true };
    let mut clock = None;
    for url in [Some(endpoints.metadata_url()), health(environment, &endpoints.issuer)].into_iter().flatten()
    {
        let request = Request { url: &url, accept: None, bearer: None, form: None };
        let asked = ward.clock().now();
        let problem = match ward.pipeline.http().send(request, &ward.call()).await {
            Ok(answer) if answer.is_unavailable() => format!("{url} answered {}", answer.status),
            // A proxy that wants a password, or a page to log in at, is not the authority.
            Ok(answer) if !answer.is_success() => {
                format!("{url} answered {}, which may be a proxy's answer", answer.status)
            }
            Ok(answer) => {
                let took = ward.clock().now().since(asked).as_millis();
                findings.ok("reachable", about, format!("{url} answered {} in {took} ms", answer.status));
                clock = clock.or(answer.clock);
                continue;
            }
            Err(why) => why.to_string(),
        };
        findings.failed("reachable", about, Fault::Network, problem, away(environment));
        return false;
    }
    if let Some(offset) = clock {
        compare(offset, about, findings);
    }
    true
}

/// Where production says how it is (Digdir, "Endepunkter"); the test environment has no such address.
fn health(environment: &Environment, issuer: &Url) -> Option<Url> {
    let is_production = environment.realm == Realm::Prod && !environment.is_custom();
    issuer.join("health").ok().filter(|_| is_production)
}

/// Maskinporten refuses grants from clocks that are further ahead than this (Digdir, "JWT grant").
const REFUSED_AHEAD: Duration = Duration::from_secs(10);

fn compare(offset: Offset, about: &str, findings: &mut Findings<'_>) {
    let said = format!("this machine's clock is {offset} of Maskinporten's");
    let remedy = "Let NTP keep this machine's clock: timedatectl set-ntp true.";
    if offset.ahead_ms > 0 && offset.surely_exceeds(REFUSED_AHEAD) {
        findings.failure("clock", about, format!("{said}: its grants are refused"), remedy);
    } else if offset.surely_exceeds(CLOCK_LIMIT) {
        findings.warning("clock", about, said, remedy);
    } else {
        findings.ok("clock", about, said);
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
