//! A client: its identifier, the key or certificate that stands for it, and whether that is the signer's key.

use uuid::Uuid;

use super::{Ward, certificate, finding::Findings, signer::failed};
use crate::config::{self, Client, Identity, Registration};

/// Checks one `[clients.NAME]` of these tokens. `signs`: its signer does; what else there is to find was found there.
pub(super) async fn check(
    ward: &Ward<'_>,
    client: &Client,
    signs: bool,
    tokens: &[&config::Token],
    findings: &mut Findings<'_>,
) {
    client_id(client, findings);
    addresses(client, findings);
    if let Identity::KeyId(kid) = &client.identity {
        registered_key(ward, client, kid, findings);
    }
    if !signs {
        return;
    }
    let named = tokens.iter().find(|token| token.client == client.name);
    let Some(Ok(named)) = named.map(|token| ward.pipeline.token(&token.name)) else { return };
    match named.client().check_unattended(&ward.call()).await {
        None => {}
        Some(Ok(())) => findings.ok("unattended", &client.name, "the seal signs with nobody there"),
        Some(Err(error)) => {
            findings.warning("unattended", &client.name, error.to_string(), error.remedy());
        }
    }
    match named.client().prove(&ward.call()).await {
        Err(error) => failed("identity", &client.name, &error, findings),
        Ok(proven) => {
            let said = match (proven.kid(), proven.chain()) {
                (Some(kid), _) => format!(
                    "kid {kid} in the header and no certificate; its public key must be the one that `segl keys jwk` prints"
                ),
                (None, Some(_)) => {
                    "certificate in the header and no kid; it is the certificate of the key".to_owned()
                }
                (None, None) => "neither kid nor certificate".to_owned(),
            };
            findings.ok("identity", &client.name, said);
            if let Some(chain) = proven.chain() {
                certificate::check(ward, client, chain, findings).await;
            }
        }
    }
}

/// New clients are UUIDs; older ones have names.
fn client_id(client: &Client, findings: &mut Findings<'_>) {
    let Some(id) = client.client_id() else {
        return findings.ok("client id", &client.name, "none: an eSeal says who it is".to_owned());
    };
    if Uuid::parse_str(id).is_ok() {
        findings.ok("client id", &client.name, format!("{id} has the form of one"));
    } else if client.environment.is_custom() {
        findings.ok("client id", &client.name, format!("{id}, in an environment of your own"));
    } else {
        findings.warning(
            "client id",
            &client.name,
            format!("{id} is no UUID, as those of older clients are not"),
            "Compare it with the client's page in Samarbeidsportalen; an organisation number is no client id.",
        );
    }
}

fn addresses(client: &Client, findings: &mut Findings<'_>) {
    let environment = &client.environment;
    let others = [("Customs", &environment.customs), ("Altinn", &environment.altinn)];
    let others: Vec<String> = others
        .into_iter()
        .filter_map(|(name, url)| Some(format!("{name} {}", url.as_ref()?.host_str()?)))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) };
    let said = format!("{}: Maskinporten {}{others}", environment.name, environment.issuer);
    findings.ok("addresses", &client.name, said);
}

/// A key that is registered under a `kid` dies a year after its upload. Certificate clients have none.
fn registered_key(ward: &Ward<'_>, client: &Client, kid: &str, findings: &mut Findings<'_>) {
    let (check, about) = ("registered key", client.name.as_str());
    let renew =
        "Upload the same public key again, or a new one, in Samarbeidsportalen: it lives a year from then.";
    let Some(registration) = client.registration(ward.clock().wall()) else {
        return findings.warning(
            check,
            about,
            format!("it is not known when {kid} expires: registered keys die one year after upload"),
            format!(
                "Enter the date that Samarbeidsportalen shows: kid_expires = YYYY-MM-DD in [clients.{about}]."
            ),
        );
    };
    let said = format!("{kid} {registration}");
    match registration {
        Registration::Expired => findings.failure(check, about, said, renew),
        Registration::ExpiresSoon { .. } => findings.warning(check, about, said, renew),
        Registration::Lasts { .. } => findings.ok(check, about, said),
    }
}
