//! A token: its scopes, for whom it is, and how often it is renewed.

use std::{collections::BTreeMap, time::Duration};

use super::{Ward, finding::Findings, signer::Rate};
use crate::{
    config::{self, ConsumerOrg, Exchange, Realm, Token},
    language::Language,
    pipeline::Overrides,
    scope::{self, Caution},
    token::lead_time,
};

/// Checks one `[tokens.NAME]`. `signs`: the signer of its client does.
pub(super) async fn check(ward: &Ward<'_>, token: &Token, signs: bool, findings: &mut Findings<'_>) {
    scopes(ward, token, findings);
    customer(token, findings);
    system_user(token, findings);
    renewal(token, findings);
    if signs {
        request(ward, token, findings).await;
    }
}

fn scopes(ward: &Ward<'_>, token: &Token, findings: &mut Findings<'_>) {
    for name in &token.scopes {
        match (scope::caution(name), scope::named(name)) {
            (Some(caution), _) => warn(caution, name, token, findings),
            (None, Some(known)) => {
                let purpose = known.purpose.in_language(Language::English);
                findings.ok("scope", &token.name, format!("{name}: {purpose}"));
            }
            (None, None) => {
                let said = format!("{name} is not among the known ones, which may well be right");
                findings.ok("scope", &token.name, said);
            }
        }
        exchange(ward, token, name, findings);
    }
}

fn warn(caution: Caution, name: &str, token: &Token, findings: &mut Findings<'_>) {
    let (said, remedy) = match caution {
        Caution::Misspelt(_) => (
            format!("{name}: {caution}"),
            "Run segl scopes, and correct the scope here and on the client.".to_owned(),
        ),
        Caution::NotReady(_) => (
            caution.to_string(),
            format!("Look at the page that segl scopes {name} names, whether it is ready by now."),
        ),
        Caution::Legacy(known) => (
            caution.to_string(),
            match &known.successor {
                Some(successor) => format!("Add {successor} to the client, and ask for it here."),
                None => "Leave it out here and on the client.".to_owned(),
            },
        ),
    };
    findings.warning("scope", &token.name, said, remedy);
}

/// Whether the token is exchanged where the scope's API wants that. In an environment of one's own there may be no such
/// API.
fn exchange(ward: &Ward<'_>, token: &Token, name: &str, findings: &mut Findings<'_>) {
    let client = ward.examination.config.clients.get(&token.client);
    if client.is_none_or(|client| client.environment.realm == Realm::Other) {
        return;
    }
    let has = match &token.exchange {
        Some(Exchange::Customs { .. }) => scope::Exchange::Customs,
        Some(Exchange::Altinn { .. }) => scope::Exchange::Altinn,
        None => scope::Exchange::None,
    };
    let Some(wanted) = scope::named(name).map(|scope| scope.exchange) else { return };
    let fits = match wanted {
        scope::Exchange::Either => has != scope::Exchange::Customs,
        wanted => wanted == has,
    };
    if !fits {
        let remedy = match wanted {
            scope::Exchange::Customs => "Set exchange = \"customs\" on the token.",
            scope::Exchange::Altinn => "Set exchange = \"altinn\" on the token.",
            _ => "Leave exchange out of the token: its API takes Maskinporten's own.",
        };
        findings.warning(
            "exchange",
            &token.name,
            format!("the API of {name} wants another authority's token"),
            remedy,
        );
    }
}

fn customer(token: &Token, findings: &mut Findings<'_>) {
    match token.consumer_org {
        None => {}
        Some(ConsumerOrg::Fixed(number)) => {
            findings.ok(
                "customer",
                &token.name,
                format!("always {number}, who must have delegated the scopes in Altinn"),
            );
        }
        Some(ConsumerOrg::Required) => {
            findings.ok("customer", &token.name, "each call names one, with --consumer-org");
        }
    }
}

fn system_user(token: &Token, findings: &mut Findings<'_>) {
    let Some(details) = token.authorization_details.as_ref().and_then(|details| details.get(0)) else {
        return;
    };
    let text = |pointer: &str| details.pointer(pointer).and_then(|value| value.as_str());
    let owner = text("/systemuser_org/ID").unwrap_or("somebody");
    let reference =
        text("/externalRef").map_or(String::new(), |reference| format!(", externalRef {reference}"));
    findings.ok("system user", &token.name, format!("of {owner}{reference}"));
}

/// Lives that the authorities give by default; the real ones are in their answers.
fn usual_life(token: &Token) -> Duration {
    Duration::from_secs(match token.exchange {
        None => 120,
        Some(Exchange::Customs { .. }) => 970,
        Some(Exchange::Altinn { .. }) => 1_800,
    })
}

fn renewal(token: &Token, findings: &mut Findings<'_>) {
    let life = usual_life(token);
    let said = format!(
        "with the usual life of {} s it is renewed {} s before its end",
        life.as_secs(),
        lead_time(life).as_secs()
    );
    findings.ok("renewal", &token.name, said);
}

/// What only key and certificate can tell of a request: one grant is made, and none is sent.
async fn request(ward: &Ward<'_>, token: &Token, findings: &mut Findings<'_>) {
    if token.consumer_org == Some(ConsumerOrg::Required) {
        return;
    }
    let Ok(named) = ward.pipeline.token(&token.name) else { return };
    let request = match named.request(Overrides::default()) {
        Ok(request) => request,
        Err(error) => return findings.failure("grant", &token.name, error.to_string(), error.remedy()),
    };
    match named.client().assert(&request, &ward.call()).await {
        Ok(_) => findings.ok("grant", &token.name, "made, and not sent"),
        Err(error) => {
            findings.failed("grant", &token.name, error.kind(), error.to_string(), error.remedy());
        }
    }
}

/// Below this share of what a signer can do, nobody waits for another.
const COMFORTABLE: f64 = 0.5;

/// Compares the signatures that `keep_warm` takes with what each signer was seen to make.
pub(super) fn check_rates(ward: &Ward<'_>, rates: &BTreeMap<&str, Rate>, findings: &mut Findings<'_>) {
    let config = ward.examination.config;
    let mut wanted: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for token in config.tokens.values().filter(|token| token.keep_warm) {
        let Some(client) = config.clients.get(&token.client) else { continue };
        let (per_second, tokens) = wanted.entry(client.signer.as_str()).or_default();
        *per_second += needed(token);
        *tokens += 1;
    }
    for (signer, (needed, tokens)) in wanted {
        let Some(rate) = rates.get(signer) else { continue };
        let can = rate.per_second();
        let said = format!(
            "keep_warm of {tokens} takes {needed:.3} signatures per second; the signer makes about {can:.0}"
        );
        if needed > can * COMFORTABLE {
            let remedy =
                "Keep fewer tokens warm, ask for longer lives, or add lanes where the device allows them.";
            findings.warning("keep warm", signer, said, remedy);
        } else {
            findings.ok("keep warm", signer, said);
        }
    }
}

/// Signatures per second that keep this token warm.
fn needed(token: &config::Token) -> f64 {
    let life = usual_life(token);
    1.0 / (life - lead_time(life)).as_secs_f64().max(1.0)
}
