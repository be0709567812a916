use super::*;

#[test]
fn every_other_refusal_says_what_is_wrong() {
    let cases = [
        ("schema = 1", "", "schema = 1 is missing"),
        ("schema = 1", "schema = 2", "schema: this version of Segl reads schema = 1 only"),
        ("schema = 1", "schema = \"1\"", "schema: invalid type"),
        ("schema = 1", "schema = ", "this is not TOML"),
        ("[signers.key]", "[signers.Key]", "signers.Key: a name has small letters"),
        ("[tokens.road]", "[tokens.\"road 2\"]", "tokens.road 2: a name has small letters"),
        ("[tokens.road]", "[tokens]\nroad = 1\n[tokens.x]", "tokens.road: a table is expected"),
        ("[http]", "http = 1", "tokens.road.http: this key is not known"),
        ("client_id = \"c\"\n", "", "clients.app: client_id is missing"),
        ("client_id = \"c\"", "client_id = 7", "clients.app.client_id: invalid type"),
        ("client_id = \"c\"", "client_id = \"\"", "clients.app.client_id: must not be empty"),
        ("client_id = \"c\"", "client_id = \"a b\"", "clients.app.client_id: must not be empty"),
        (
            "\"file:/run/key.pem\"",
            "[\"pkcs11:token=A\", \"file:/run/key.pem\"]",
            "signers.key.key: of several keys for one signer, each is in a device",
        ),
        (
            "\"file:/run/key.pem\"",
            "[\"pkcs11:token=A;id=j\", \"pkcs11:id=%6A;token=A\"]",
            "signers.key.key: the same key stands there twice",
        ),
        ("\"file:/run/key.pem\"", "[]", "signers.key.key: the list of keys is empty"),
        ("\"file:/run/key.pem\"", "\"pkcs11:slot-id=0\"", "signers.key.key: slot-id=0 is no lasting name"),
        ("[clients", "sign_pin = \"prompt\"\n[clients", "signers.key.sign_pin: goes with a key in a device"),
        (
            "[clients",
            "allow_unstable_slot = true\n[clients",
            "signers.key.allow_unstable_slot: goes with a key in a device",
        ),
        ("\"file:/run/key.pem\"", "7", "signers.key.key: expected text that begins with pkcs11: or file:"),
        ("\"file:/run/key.pem\"", "\"yubihsm:1\"", "signers.key.key: the key must be written as pkcs11:"),
        (
            "\"file:/run/key.pem\"",
            "\"pkcs11:token=A?pin-value=1234\"",
            "signers.key.key: a PIN in a key's URI",
        ),
        (
            "[clients",
            "algorithm = \"PS256\"\n[clients",
            "\"PS256\" cannot be used: Maskinporten accepts only RS256, RS384, RS512",
        ),
        (
            "[clients",
            "algorithm = \"ES256\"\n[clients",
            "\"ES256\" cannot be used: Maskinporten accepts only RS256, RS384, RS512",
        ),
        ("[clients", "algorithm = \"none\"\n[clients", "Maskinporten accepts only RS256, RS384, RS512"),
        ("kid = \"k\"", "kid = \"k\"\ncertificate = \"token\"", "either a kid or a certificate, not both"),
        ("kid = \"k\"", "", "clients.app: a client needs a kid or a certificate"),
        ("kid = \"k\"", "kid = \"\"", "clients.app.kid: must not be empty"),
        ("kid = \"k\"", "certificate = \"token\"\nkid_expires = 2027-01-01", "kid_expires belongs to a kid"),
        (
            "kid = \"k\"",
            "kid = \"k\"\nkid_expires = 2027-01-01T00:00:00Z",
            "kid_expires is a date without a time",
        ),
        ("kid = \"k\"", "kid = \"k\"\nkid_expires = \"2027\"", "clients.app.kid_expires: "),
        ("kid = \"k\"", "kid = \"k\"\ngrant_lifetime = 0", "1 to 119 seconds, not 0"),
        ("kid = \"k\"", "kid = \"k\"\ngrant_lifetime = 120", "1 to 119 seconds, not 120"),
        ("\"test\"", "\"ver1\"", "clients.app.environment: ver1 was closed"),
        ("\"test\"", "\"locl\"", r#"there is no environment "locl"; did you mean "local"?"#),
        ("client = \"app\"", "client = \"ap\"", r#"there is no client "ap"; did you mean "app"?"#),
        ("[\"toll:movement/road/v2\"]", "[]", "tokens.road.scopes: scope: at least one scope is needed"),
        (
            "toll:movement/road/v2",
            "road",
            "tokens.road.scopes: scope: \"road\" is not of the form prefix:subscope",
        ),
        ("toll:movement/road/v2", "toll:eu/movement/road/v2", "is for foreign companies with an eSeal"),
        ("toll:movement/road/v2", "digdir:verksemd.eu", "is for foreign companies with an eSeal"),
    ];
    for (old, new, expected) in cases {
        let said = said_of(old, new);
        assert!(said.iter().any(|said| said.contains(expected)), "{new}: {said:?}");
    }
}

#[test]
fn every_refusal_of_a_token_says_what_is_wrong() {
    let road = "client = \"app\"\nscopes";
    for (line, expected) in [
        ("resource = \"api\"", "tokens.road.resource: resource: \"api\" is no absolute URI"),
        (
            "consumer_org = \"991825826\"",
            "tokens.road.consumer_org: consumer_org: the check digit does not fit",
        ),
        ("consumer_org = \"all\"", "(or \"required\", when each call names one)"),
        ("consumer_org = 991825827", "tokens.road.consumer_org: invalid type"),
        (
            "consumer_org = \"required\"\nkeep_warm = true",
            "tokens.road.keep_warm: a token that needs a customer",
        ),
        ("authorization_details = [{ type = \"x\" }]", "tokens.road.authorization_details: "),
        ("exchange = \"toll\"", "exchange is \"customs\", \"altinn\" or \"altinn:\" and one of prod, tt02"),
        ("exchange = \"altinn:tt03\"", "not \"altinn:tt03\""),
        ("exchange = \"altinn:prod\"", "takes tokens from Maskinporten prod, and client \"app\" is in test"),
        ("probe = \"/x\"", "tokens.road.probe: a probe path goes with exchange = \"customs\""),
        ("exchange = \"customs\"\nprobe = \"//evil.example\"", "a probe path begins with one slash"),
        ("exchange = \"customs\"\nprobe = \"/../x\"", "a probe path begins with one slash"),
        ("exchange = \"customs\"\naltinn_test = true", "altinn_test goes with an Altinn exchange"),
    ] {
        let said = said_of(road, &format!("{line}\n{road}"));
        assert!(said.iter().any(|said| said.contains(expected)), "{line}: {said:?}");
    }
    let prod =
        SOUND.replace("\"test\"", "\"prod\"").replace(road, &format!("exchange = \"altinn:tt02\"\n{road}"));
    assert_eq!(
        said(&prod),
        [
            "tokens.road.exchange: \"altinn:tt02\" takes tokens from Maskinporten test, and client \"app\" is in prod"
        ]
    );
    let local = SOUND.replace("\"test\"", "\"local\"");
    for (exchange, expected) in [
        ("customs", "environment \"local\" has no address for customs"),
        ("altinn", "environment \"local\" has no address for altinn"),
        ("altinn:tt02", "has an Altinn of its own, so the exchange is plain \"altinn\" there"),
    ] {
        let said = said(&local.replace(road, &format!("exchange = \"{exchange}\"\n{road}")));
        assert!(said.len() == 1 && said[0].contains(expected), "{exchange}: {said:?}");
    }
}

#[test]
fn every_refusal_of_a_proxy_or_timeout_says_what_is_wrong() {
    for (line, expected) in [
        ("proxy = \"proxy:3128\"", "http.proxy: a proxy is an http:// or https:// address"),
        ("proxy = \"socks5://proxy\"", "http.proxy: a proxy is an http:// or https:// address"),
        ("proxy = \"http://me:98761234@proxy\"", "http.proxy: an address here must not hold a user name"),
        ("no_proxy = [\"a b\"]", "http.no_proxy: must not be empty"),
        ("timeout_seconds = 301", "1 to 300 seconds, not 301"),
        ("connect_timeout_seconds = -1", "1 to 300 seconds, not -1"),
    ] {
        let said = said_of("[http]", &format!("[http]\n{line}"));
        assert!(said.len() == 1 && said[0].contains(expected), "{line}: {said:?}");
        assert!(!said[0].contains("98761234"), "{said:?}");
    }
}
