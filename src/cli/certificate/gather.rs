//! Certificates from where a person says: a file, a device, or what segl.toml names.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Work;
use crate::{
    certificate::{self, Certificate, Container},
    cli::{
        failure::Failure,
        file, is_pkcs11_uri,
        secret_source::{SecretSource, person, secret_source},
    },
    config::{Client, Config, Identity, Key, Signer},
    pipeline,
    secret::Sources,
    sign::pkcs11::Uri,
};

/// What a certificate is taken from.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Target {
    /// File (PEM, DER, PKCS#7, PKCS#12; - for standard input), PKCS#11 URI, or name of a client, token or signer
    #[arg(value_name = "FILE|URI|NAME")]
    target: String,
    /// Where the password of a PKCS#12 file is found: file:PATH, credential:NAME, exec:COMMAND, prompt, env:NAME; for a
    /// device its PIN, which few ask for before they show certificates [default: the pin of a signer whose key is that
    /// file, else prompt; none for a device]
    #[arg(long, value_name = "SOURCE", value_parser = secret_source, visible_alias = "pin")]
    password: Option<SecretSource>,
}

/// Certificates, and what else was there.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Those that were meant.
    pub(super) certificates: Vec<Certificate>,
    /// Further ones that may be their issuers.
    pub(super) issuers: Vec<Certificate>,
    /// What should be known of the place.
    pub(super) notices: Vec<String>,
}

impl Target {
    /// The certificates there; at least one.
    pub(super) async fn gather(&self, work: &Work<'_>) -> Result<Gathered, Failure> {
        let given =
            self.password.as_ref().map(|source| source.sources("--password", "password")).transpose()?;
        let text = self.target.as_str();
        if is_pkcs11_uri(text) {
            return in_device(&text.parse()?, None, given, work).await;
        }
        if let Some(path) = text.strip_prefix("file:") {
            return in_file(Path::new(path), given);
        }
        // A file that is there goes before a name; what looks like a path is never a name.
        let path = Path::new(text);
        if text == "-" || text.contains('/') || path.exists() {
            return in_file(path, given);
        }
        let Some(config) = work.context.configuration_if_any()? else {
            return Err(Failure::needs_person(
                format!(
                    "{text:?} is no file here, and there is no configuration that could name something so"
                ),
                "Give a file, or pkcs11:token=LABEL;object=LABEL; `segl keys` shows what there is.",
            ));
        };
        let client =
            config.clients.get(text).or_else(|| config.clients.get(&config.tokens.get(text)?.client));
        match (client, config.signers.get(text)) {
            (Some(client), _) => of_client(client, &config, given, work).await,
            (None, Some(signer)) => of_signer(signer, given, work).await,
            (None, None) => Err(unknown(text, &config)),
        }
    }
}

fn unknown(name: &str, config: &Config) -> Failure {
    let known = config.clients.keys().chain(config.tokens.keys()).chain(config.signers.keys());
    let known: Vec<&str> = known.map(String::as_str).collect();
    Failure::needs_person(
        format!("{name:?} is neither a file nor a client, token or signer of the configuration"),
        format!("These are: {}.", known.join(", ")),
    )
}

async fn of_client(
    client: &Client,
    config: &Config,
    given: Option<Sources>,
    work: &Work<'_>,
) -> Result<Gathered, Failure> {
    let signer = config.signers.get(&client.signer);
    match &client.identity {
        Identity::CertificateFile(path) => {
            let mut gathered = in_file(path, given)?;
            gathered.add_chain(signer)?;
            Ok(gathered)
        }
        Identity::KeyId(kid) => Err(Failure::needs_person(
            format!(
                "the client {} is known by the key {kid} that was registered, and needs no certificate",
                client.name
            ),
            "Give a file or a signer; certificate = \"token\" on the client would have it use one.",
        )),
        _ => match signer {
            Some(signer) => of_signer(signer, given, work).await,
            None => Err(unknown(&client.signer, config)),
        },
    }
}

async fn of_signer(signer: &Signer, given: Option<Sources>, work: &Work<'_>) -> Result<Gathered, Failure> {
    let mut gathered = match &signer.key {
        Key::Pkcs11(uris) => {
            let mut all = Gathered::default();
            let mut failure = None;
            for uri in uris.iter() {
                match in_device(uri, signer.profile.clone(), given.clone(), work).await {
                    Ok(found) => all.append(found),
                    Err(why) => failure = failure.or(Some(why)),
                }
            }
            match failure {
                Some(why) if all.certificates.is_empty() => return Err(why),
                Some(why) => all.notices.push(why.what().to_owned()),
                None => {}
            }
            all
        }
        Key::File(path) => match in_file(path, given.or_else(|| signer.pin.clone())) {
            Ok(found) => found,
            Err(why) if signer.chain.is_none() => return Err(why),
            // It may hold the key alone, with the certificates in the file of the chain; or its password is missing.
            Err(why) => Gathered { notices: vec![why.what().to_owned()], ..Gathered::default() },
        },
        _ => {
            return Err(Failure::needs_person(
                format!("the key of {} stood in the environment, with no certificate", signer.name),
                "Give a file with the certificate.",
            ));
        }
    };
    gathered.add_chain(Some(signer))?;
    if gathered.certificates.is_empty() {
        gathered.certificates = std::mem::take(&mut gathered.issuers);
    }
    Ok(gathered)
}

fn in_file(path: &Path, password: Option<Sources>) -> Result<Gathered, Failure> {
    let file = file::read(path)?;
    let shown = path.display();
    let ask = || match password.clone().or_else(|| person().map(|person| Sources::new(vec![person]))) {
        Some(sources) => sources.read(&format!("Password of {shown}")).map_err(|why| why.to_string()),
        None => Ok(None),
    };
    let container = Container::read(&file, &ask).map_err(|why| match why {
        certificate::Error::NoPassword => Failure::needs_person(
            format!("{shown}: {why}"),
            "Say where the password is found: --password file:PATH, credential:NAME, exec:COMMAND, prompt or env:NAME.",
        ),
        why => unreadable(path, &why),
    })?;
    let mut notices = Vec::new();
    if container.trailing_bytes > 0 {
        notices.push(format!(
            "{} bytes behind the end of a certificate were left out",
            container.trailing_bytes
        ));
    }
    if container.holds_private_key {
        notices.push("the file holds a private key, too, of which no use was made".into());
    }
    Ok(Gathered { certificates: container.certificates, issuers: Vec::new(), notices })
}

fn unreadable(path: &Path, why: &certificate::Error) -> Failure {
    let failure = Failure::needs_person(format!("{}: {why}", path.display()), why.remedy());
    match why {
        certificate::Error::WrongPassword => failure.after_refused_pin(),
        _ => failure,
    }
}

async fn in_device(
    uri: &Uri,
    profile: Option<String>,
    pin: Option<Sources>,
    work: &Work<'_>,
) -> Result<Gathered, Failure> {
    let with_login = pin.is_some();
    let device = pipeline::device(&work.modules, uri.clone(), profile, pin);
    let shown = match with_login {
        true => device.describe(&work.call).await?,
        false => device.describe_as_found(&work.call).await?,
    };
    let mut gathered = Gathered::default();
    let slots = shown.slots.iter().filter(|slot| slot.is_named_by(uri));
    for slot in
        slots.filter(|slot| slot.device.as_ref().is_some_and(|it| it.initialized && it.is_named_by(uri)))
    {
        let own = slot.keys.iter().flat_map(|key| {
            let all = key.is_named_by(uri);
            key.certificates.iter().map(move |it| (it, all))
        });
        let lone = slot.certificates.iter().map(|it| (it, false));
        for (described, of_named_key) in own.chain(lone) {
            let Ok(read) = Certificate::from_der(&described.der) else {
                gathered.notices.push(format!("the certificate {:?} cannot be read", described.label));
                continue;
            };
            match of_named_key || described.is_named_by(uri) {
                true => gathered.certificates.push(read),
                false => gathered.issuers.push(read),
            }
        }
    }
    if gathered.certificates.is_empty() {
        return Err(Failure::needs_person(
            format!("{uri} names no certificate that is to be seen"),
            "`segl keys --login` shows what there is; some devices show certificates only after --password SOURCE.",
        ));
    }
    Ok(gathered)
}

impl Gathered {
    fn append(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
        self.issuers.extend(other.issuers);
        self.notices.extend(other.notices);
    }

    /// Adds the file that completes the signer's chain.
    fn add_chain(&mut self, signer: Option<&Signer>) -> Result<(), Failure> {
        let path: Option<&PathBuf> = signer.and_then(|signer| signer.chain.as_ref());
        if let Some(path) = path {
            let file = file::read(path)?;
            self.issuers.extend(Certificate::all_from_file(&file).map_err(|why| unreadable(path, &why))?);
        }
        Ok(())
    }
}
