//! The certificate that stands for a client: what it is, for whom, where it belongs, and until when.

use super::{Ward, finding::Findings};
use crate::{
    certificate::{self, Chain, Fitness, Judgement, Way},
    config::{Client, Realm},
    http::Reach,
    language::counted,
};

/// Judges the chain that goes into the grants of `client`.
pub(super) async fn check(ward: &Ward<'_>, client: &Client, chain: &Chain, findings: &mut Findings<'_>) {
    let way = if client.is_eseal() { Way::Eseal } else { Way::Business };
    let judgement = chain.judge(ward.clock().wall());
    let about = client.name.as_str();
    let fitness = judgement.fitness_as(way);
    for obstacle in &fitness.obstacles {
        findings.failure("certificate", about, format!("{}: {obstacle}", judgement.kind), obstacle.remedy());
    }
    if fitness.works() {
        findings.ok("certificate", about, format!("{}, for {}", judgement.kind, chain.leaf().holder()));
    }
    cautions(fitness, about, findings);
    environment(client, way, &judgement, findings);
    // A seal without its whole chain never gets here.
    chain_is_whole(ward, chain, about, findings).await;
    if judgement.days_left >= 0 {
        let left = counted(judgement.days_left, "day");
        findings.ok("expiry", about, format!("the chain is valid for {left} more"));
    }
}

fn cautions(fitness: &Fitness, about: &str, findings: &mut Findings<'_>) {
    for caution in &fitness.cautions {
        findings.warning("certificate", about, caution.to_string(), caution.remedy());
    }
}

/// Norwegian certificates for tests are known in test only, and real ones in production only; seals are real ones
/// everywhere (Digdir, "European eSeals").
fn environment(client: &Client, way: Way, judgement: &Judgement, findings: &mut Findings<'_>) {
    let about = client.name.as_str();
    let belongs = match (judgement.environment, client.environment.realm, way) {
        (Some(certificate::Environment::Sandbox), Realm::Test | Realm::Prod, _) => Some("the sandbox"),
        (Some(certificate::Environment::Test), Realm::Prod, Way::Business) => Some("test"),
        (Some(certificate::Environment::Production), Realm::Test, Way::Business) => Some("production"),
        _ => None,
    };
    let has = &client.environment.name;
    match belongs {
        Some(belongs) => findings.failure(
            "certificate's environment",
            about,
            format!("the certificate belongs to {belongs}, and the client to {has}"),
            "Use a certificate of the client's environment; Maskinporten answers MP-120 or MP-124 to others.",
        ),
        None => findings.ok("certificate's environment", about, format!("it goes with {has}")),
    }
}

/// Digdir knows the Norwegian issuers, and takes a leaf alone; the whole chain is what its documentation asks for.
/// Online, what is missing is looked for where the certificates say that it is, and not kept.
async fn chain_is_whole(ward: &Ward<'_>, chain: &Chain, about: &str, findings: &mut Findings<'_>) {
    let Some(issuer) = chain.missing_issuer() else { return };
    let mut said = format!("the certificate of its issuer ({issuer}) is missing: the grant goes without");
    if ward.examination.online {
        let (http, clock) = (ward.pipeline.http(), &**ward.clock());
        let found = chain.clone().fetched(http, clock, Reach::Public, clock.wall(), &ward.call()).await;
        for fetched in &found.fetched {
            said.push_str(&format!("; {} is at {}", fetched.certificate.subject(), fetched.url));
        }
        for miss in &found.misses {
            said.push_str(&format!("; {miss}"));
        }
    }
    let remedy = "Run segl certificate fetch-chain, and name the file as chain of the signer.";
    findings.warning("chain", about, said, remedy);
}
