use super::*;

/// A foreign business; tests change one line of it.
const SEAL: &str = r#"schema = 1
[signers.key]
key = "file:/run/seal.p12"
[clients.haulier]
kind = "eseal"
environment = "test"
name = "Norrbottens Åkeri AB"
signer = "key"
[tokens.road]
client = "haulier"
scopes = ["toll:eu/movement/road/v2"]
exchange = "customs"
[tokens.verksemd]
client = "haulier"
scopes = ["digdir:verksemd.eu"]
"#;

#[test]
fn an_eseal_has_a_name_and_no_client_id_and_its_certificate_stands_beside_its_key() {
    let config = parse(SEAL).unwrap();
    let haulier = &config.clients["haulier"];
    assert_eq!((haulier.issuer(), haulier.client_id()), ("Norrbottens Åkeri AB", None));
    assert!(haulier.is_eseal());
    assert_eq!(haulier.identity, Identity::CertificateBesideKey);
    assert!(matches!(config.tokens["road"].exchange, Some(Exchange::Customs { .. })));
    let shown: Vec<_> = config.show().into_iter().map(|set| (set.name, set.value)).collect();
    for (name, value) in [("kind", "eseal"), ("name", "Norrbottens Åkeri AB"), ("certificate", "token")] {
        assert!(shown.contains(&(format!("clients.haulier.{name}"), value.into())), "{name}: {shown:?}");
    }
    let file =
        parse(&SEAL.replace("signer = \"key\"", "signer = \"key\"\ncertificate = \"seal.pem\"")).unwrap();
    assert_eq!(file.clients["haulier"].identity, Identity::CertificateFile("/etc/segl/seal.pem".into()));
}

#[test]
fn every_refusal_of_an_eseal_says_what_is_wrong() {
    let name = "name = \"Norrbottens Åkeri AB\"";
    let road = "scopes = [\"toll:eu/movement/road/v2\"]\nexchange = \"customs\"";
    for (old, new, expected) in [
        (name, "", "clients.haulier: a client with kind = \"eseal\" needs a name"),
        (name, "name = \" \"", "clients.haulier.name: must not be empty"),
        (name, "client_id = \"c\"\nname = \"x\"", "clients.haulier.client_id: an eSeal has no client_id"),
        (name, "kid = \"k\"\nname = \"x\"", "clients.haulier.kid: an eSeal has no kid"),
        ("kind = \"eseal\"", "kind = \"seal\"", "clients.haulier.kind: unknown variant"),
        (
            "kind = \"eseal\"",
            "certificate = \"token\"",
            "clients.haulier.name: a name goes with kind = \"eseal\"",
        ),
        (
            road,
            "scopes = [\"toll:movement/road/v2\"]",
            "tokens.road.scopes: \"toll:movement/road/v2\" is not for eSeals",
        ),
        (road, "scopes = [\"altinn:instances.read\"]", "\"altinn:instances.read\" is not for eSeals"),
        (
            road,
            "scopes = [\"toll:eu/movement/air\", \"digdir:verksemd.eu\"]",
            "\"digdir:verksemd.eu\" and \"toll:eu/movement/air\" are of two families",
        ),
        (
            road,
            "scopes = [\"digdir:verksemd.eu\"]\nexchange = \"customs\"",
            "tokens.road.scopes: Customs does not exchange tokens for digdir:verksemd.eu",
        ),
        (
            "exchange = \"customs\"",
            "exchange = \"altinn\"",
            "tokens.road.exchange: Altinn exchanges tokens of Norwegian organisations only, and answers 401",
        ),
        ("exchange = \"customs\"", "exchange = \"altinn:tt02\"", "tokens.road.exchange: Altinn exchanges"),
        (
            "exchange = \"customs\"",
            "consumer_org = \"991825827\"",
            "tokens.road.consumer_org: goes with a client in Samarbeidsportalen",
        ),
        (
            "exchange = \"customs\"",
            "authorization_details = [{ type = \"urn:altinn:systemuser\", systemuser_org = { \
             authority = \"iso6523-actorid-upis\", ID = \"0192:991825827\" } }]",
            "tokens.road.authorization_details: goes with a client in Samarbeidsportalen",
        ),
    ] {
        let said = said(&changed(SEAL, old, new));
        assert!(said.len() == 1 && said[0].contains(expected), "{new}: {said:?}");
    }
}

#[test]
fn a_scope_on_the_wrong_kind_of_client_comes_with_the_one_to_use_where_there_is_one() {
    let remedy =
        |text: &str, old: &str, new: &str| parse(&changed(text, old, new)).unwrap_err()[0].fault.remedy();
    let (norwegian, european) = ("toll:movement/road/v2", "toll:eu/movement/road/v2");
    assert_eq!(remedy(SEAL, european, norwegian), format!("Use {european:?}."));
    assert_eq!(remedy(SOUND, norwegian, european), format!("Use {norwegian:?}."));
    // Customs has no such scope for seals, and Digdir no such one for registered clients.
    assert!(remedy(SEAL, european, "toll:declaration.feed").starts_with("Begin with"));
    assert!(remedy(SOUND, norwegian, "digdir:verksemd.eu").starts_with("Leave it out"));
}

#[test]
fn a_client_without_a_client_id_is_told_of_eseals() {
    let problems = parse(&SOUND.replace("client_id = \"c\"\n", "")).unwrap_err();
    assert!(problems[0].fault.remedy().contains("kind = \"eseal\""));
}
