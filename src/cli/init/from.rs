//! What another tool was configured with. Passwords are neither kept nor copied: only their place can be named.

use std::{collections::BTreeMap, ffi::OsString, fs::File, io::Read as _, path::Path};

use zeroize::Zeroizing;

use super::answers::Environment;
use crate::{
    cli::failure::Failure,
    config::{
        self, Fault,
        variables::{CLIENT_ID, CLIENT_JWK, ENABLED, Variables},
    },
};

/// Answers that were found, and what should be known about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) environment: Option<Environment>,
    pub(super) key: Option<String>,
    pub(super) pin: Option<String>,
    pub(super) kid: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Far more than such a file has.
const LARGEST: u64 = 64 * 1024;

/// Reads a `client.properties` of Digdir's jwt-grant-generator.
///
/// # Errors
/// [`Failure`] when the file cannot be read.
pub(super) fn properties(path: &Path) -> Result<Taken, Failure> {
    let unreadable = |why: String| {
        Failure::needs_person(
            format!("{}: {why}", path.display()),
            "Name a client.properties that you can read.",
        )
    };
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(|why| unreadable(why.to_string()))?;
    let read = file.take(LARGEST + 1).read_to_string(&mut text).map_err(|why| unreadable(why.to_string()))?;
    if read as u64 > LARGEST {
        return Err(unreadable("it is larger than 64 KiB".into()));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(of_properties(&text, folder))
}

/// The properties that are taken; a name with `password` in it is none of them.
const ISSUER: &str = "issuer";
const AUDIENCE: &str = "audience";
const SCOPE: &str = "scope";
const KEYSTORE: &str = "keystore.file";
const KEYSTORE_PASSWORD: &str = "keystore.password";
const KID: [&str; 3] = ["kid", "keyid", "key.id"];

fn of_properties(text: &str, folder: &Path) -> Taken {
    let found = lines(text);
    let get =
        |name: &str| found.get(name).map(|value| (*value).clone()).filter(|value| !is_placeholder(value));
    let mut taken = Taken {
        client_id: get(ISSUER),
        scopes: get(SCOPE).map(|scopes| words(&scopes)).unwrap_or_default(),
        kid: KID.iter().find_map(|name| get(name)),
        ..Taken::default()
    };
    if let Some(audience) = get(AUDIENCE) {
        taken.environment = environment(&audience, &mut taken.notes);
    }
    if let Some(keystore) = get(KEYSTORE) {
        keystore_file(&folder.join(&keystore), &mut taken);
    }
    if text.lines().any(|line| line.trim_start().starts_with(KEYSTORE_PASSWORD)) {
        taken.notes.push(
            "The keystore's password was not copied: keep it as a credential or file, and name that as pin."
                .into(),
        );
    }
    if taken.kid.is_none() && taken.certificate.is_none() && taken.key.is_some() {
        taken.certificate = Some("token".into());
    }
    taken
}

/// Names and values of a Java properties file, of which only the plain form is used here: no line goes on in the next.
/// Lines with a password are passed over unread.
fn lines(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', '!']))
        .filter_map(|line| {
            let at = line.find(['=', ':'])?;
            let (name, value) = line.split_at_checked(at)?;
            let name = name.trim().to_ascii_lowercase();
            let value = value.get(1..)?.trim();
            (!name.contains("password")).then(|| (name, value.to_owned()))
        })
        .collect()
}

/// `<your client_id>`, as in the example file.
fn is_placeholder(value: &str) -> bool {
    value.is_empty() || value.starts_with('<')
}

fn words(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Java's own keystores cannot be read; the same tool that made them turns them into PKCS#12.
fn keystore_file(path: &Path, taken: &mut Taken) {
    let shown = path.display();
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    if matches!(extension.as_deref(), Some("jks" | "keystore")) {
        let p12 = path.with_extension("p12");
        taken.notes.push(format!(
            "{shown} is a Java keystore, which Segl does not read. Run: keytool -importkeystore -srckeystore {shown} \
             -destkeystore {} -deststoretype PKCS12",
            p12.display()
        ));
        taken.key = Some(format!("file:{}", p12.display()));
    } else {
        taken.key = Some(format!("file:{shown}"));
    }
    taken.notes.push("A key file is for its owner alone: chmod 600.".into());
}

/// The environment whose issuer this is. Names of before 2024 are translated, since their hosts are gone.
fn environment(issuer: &str, notes: &mut Vec<String>) -> Option<Environment> {
    let with_slash = if issuer.ends_with('/') { issuer.to_owned() } else { format!("{issuer}/") };
    if with_slash != issuer {
        notes.push(format!("The issuer ends in a slash: {with_slash}"));
    }
    let named = |name: String| Some(Environment::Named(name));
    if let Some(built_in) = config::Environment::of_issuer(&with_slash) {
        return named(built_in.name);
    }
    match with_slash.as_str() {
        "https://ver2.maskinporten.no/" => {
            notes.push("ver2 was renamed: environment = \"test\" is taken in its place.".into());
            named(config::Environment::test().name)
        }
        old if old.contains("difi.no") || old.contains("difi.eon.no") => {
            notes.push(format!(
                "{issuer} is an address of before Maskinporten; it is gone. Say which one you mean."
            ));
            None
        }
        other => Some(Environment::Issuer(other.to_owned())),
    }
}

/// Reads the variables that platforms hand to a sidecar, as the sidecar itself would.
///
/// # Errors
/// [`Failure`] when no client is named, it is switched off, or a variable is no text.
pub(super) fn variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Taken, Failure> {
    let (set, no_text) = Variables::collect(variables);
    if let Some(name) = no_text.first() {
        let fault = Fault::VariableNotText;
        return Err(Failure::needs_person(format!("{name} {fault}"), fault.remedy()));
    }
    let Some(client_id) = set.client_id() else {
        return Err(Failure::needs_person(
            format!("{CLIENT_ID} is not set"),
            "Run this where the variables of the sidecar are set, or leave --from-env out.",
        ));
    };
    if set.is_off() {
        return Err(Failure::needs_person(
            format!("the client of {CLIENT_ID} is switched off by {ENABLED}"),
            "Set that to true, or leave --from-env out.",
        ));
    }
    let mut taken = Taken {
        client_id: Some(client_id.to_owned()),
        scopes: set.scopes(),
        kid: set.kid(),
        key: set.key().map(str::to_owned),
        pin: set.pin().map(|source| source.to_string()),
        ..Taken::default()
    };
    if let Some((issuer, _)) = set.issuer() {
        taken.environment = environment(issuer, &mut taken.notes);
    }
    if set.jwk().is_some() {
        taken.notes.push(format!(
            "The private key in {CLIENT_JWK} was not copied: write it to a file for its owner alone, and name that as key."
        ));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    const PROPERTIES: &str = "# made by hand\nissuer=0b1c2d3e-0000-4000-8000-000000000002\n\
        audience = https://ver2.maskinporten.no/\ntoken.endpoint=https://ver2.maskinporten.no/token\n\
        scope=toll:movement/road/v2 toll:movement/air\n\nkeystore.file=certs/client.p12\n\
        keystore.password=s3cret-word\nkeystore.alias=auth\nkeystore.alias.password = s3cret-word\n";

    #[test]
    fn everything_but_the_password_is_taken_from_client_properties() {
        let taken = of_properties(PROPERTIES, Path::new("/home/me"));
        assert_eq!(taken.client_id.as_deref(), Some("0b1c2d3e-0000-4000-8000-000000000002"));
        assert_eq!(taken.environment, Some(Environment::Named("test".into())));
        assert_eq!(taken.scopes, ["toll:movement/road/v2", "toll:movement/air"]);
        assert_eq!(taken.key.as_deref(), Some("file:/home/me/certs/client.p12"));
        assert_eq!(taken.certificate.as_deref(), Some("token"));
        let shown = format!("{taken:?}");
        assert!(!shown.contains("s3cret") && shown.contains("was not copied"), "{shown}");
    }

    #[test]
    fn the_example_file_with_its_placeholders_answers_nothing() {
        let taken =
            of_properties("issuer=<your client_id>\nkeystore.file=<path to keystore>\n", Path::new(""));
        assert_eq!((taken.client_id, taken.key), (None, None));
    }

    #[test]
    fn a_java_keystore_is_told_how_to_become_one_that_can_be_read() {
        let taken = of_properties("keystore.file=/k/client.jks\n", Path::new("/"));
        assert_eq!(taken.key.as_deref(), Some("file:/k/client.p12"));
        assert!(taken.notes.iter().any(|note| note.contains("keytool -importkeystore")));
    }

    #[test]
    fn addresses_that_are_gone_are_not_carried_over() {
        let taken =
            of_properties("audience=https://oidc-ver2.difi.no/idporten-oidc-provider/\n", Path::new(""));
        assert_eq!(taken.environment, None);
        assert!(taken.notes.iter().any(|note| note.contains("it is gone")), "{taken:?}");
    }

    #[test]
    fn a_private_key_in_the_environment_stays_there() {
        let set = [
            ("MASKINPORTEN_CLIENT_ID", "c"),
            ("MASKINPORTEN_CLIENT_JWK", "{\"d\":\"s3cret\"}"),
            (
                "MASKINPORTEN_WELL_KNOWN_URL",
                "https://test.maskinporten.no/.well-known/oauth-authorization-server",
            ),
        ];
        let taken = variables(set.map(|(name, value)| (name.into(), value.into()))).unwrap();
        assert_eq!(taken.environment, Some(Environment::Named("test".into())));
        assert!(!format!("{taken:?}").contains("s3cret"));
        assert!(variables([]).is_err());
    }

    #[test]
    fn variables_are_taken_as_a_sidecar_takes_them() {
        let of = |changes: &[(&str, &str)]| {
            let mut set = BTreeMap::from([("MASKINPORTEN_CLIENT_ID", "c"), ("MASKINPORTEN_ENABLED", "true")]);
            set.extend(changes.iter().copied());
            variables(set.into_iter().map(|(name, value)| (name.into(), value.into())))
        };
        let jwk = ("MASKINPORTEN_CLIENT_JWK", "{\"kid\":\"of-jwk\",\"d\":\"s3cret\"}");
        assert_eq!(of(&[jwk]).unwrap().kid.as_deref(), Some("of-jwk"));
        assert_eq!(of(&[jwk, ("MASKINPORTEN_CLIENT_KID", "said")]).unwrap().kid.as_deref(), Some("said"));
        // A comma separates no scopes: what comes of it is refused when the answers are checked.
        let scopes = of(&[("MASKINPORTEN_SCOPES", "a:b,c:d\te:f")]).unwrap().scopes;
        assert_eq!(scopes, ["a:b,c:d", "e:f"]);
        for off in ["false", "0"] {
            let refused = of(&[("MASKINPORTEN_ENABLED", off)]).unwrap_err();
            assert!(refused.what().contains("is switched off"), "{refused}");
        }
        let no_text = OsString::from_vec(vec![0xff]);
        let client = [("MASKINPORTEN_CLIENT_ID".into(), "c".into()), ("SEGL_KEY".into(), no_text)];
        assert_eq!(variables(client).unwrap_err().what(), "SEGL_KEY is no text (UTF-8)");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_password_in_what_is_taken(text in any::<String>(), secret in "[a-z]{12}") {
            let text = format!("{text}\nkeystore.password={secret}\n");
            let shown = format!("{:?}", of_properties(&text, Path::new("")));
            prop_assert!(text.matches(&secret).count() > 1 || !shown.contains(&secret), "{}", shown);
        }
    }
}
