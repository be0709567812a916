use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
    sync::Arc,
};

use super::Error;
use crate::{
    call::Call,
    certificate::{Certificate, Chain},
    clock::Clock,
    config::{self, Config},
    http,
    secret::{Answer, Question, Sources},
    sign::{
        self, CertificateSource, EsealSigner, Failover, FileSigner, Identity, PinProblem, Signer, Watched,
        pkcs11::{Device, Manner, Modules, Pin, PinAnswer, PinRecords, Pkcs11Signer, Profiles, Uri},
    },
};

/// Far above any chain or bundle of authorities.
const LARGEST_FILE: u64 = 1 << 20;

/// The signers of a configuration, and the PKCS#11 libraries that they share.
#[derive(Debug)]
pub(super) struct Signers {
    by_name: BTreeMap<String, Arc<dyn Signer>>,
    /// Those in devices that a client with an eSeal signs with; one for each of the signer's devices.
    seals: BTreeMap<String, Vec<EsealSigner>>,
    modules: Arc<Modules>,
}

impl Signers {
    pub(super) fn new(
        config: &Config,
        clock: Arc<dyn Clock>,
        profiles: Arc<Profiles>,
    ) -> Result<Self, Error> {
        let manner = Manner { profiles, pin_records: PinRecords::Usual, ..Manner::default() };
        let modules = Modules::build(clock.clone(), manner);
        let with_seal: BTreeSet<&String> =
            config.clients.values().filter(|client| client.is_eseal()).map(|client| &client.signer).collect();
        let mut by_name: BTreeMap<String, Arc<dyn Signer>> = BTreeMap::new();
        let mut seals: BTreeMap<String, Vec<EsealSigner>> = BTreeMap::new();
        for (name, signer) in &config.signers {
            if let Some(profile) = &signer.profile
                && modules.profiles().named(profile).is_none()
            {
                let known = modules.profiles().iter().map(|profile| profile.name.clone()).collect();
                return Err(Error::Unknown { what: "profile", name: profile.clone(), known });
            }
            let made = if with_seal.contains(name) {
                let seals = seals.entry(name.clone()).or_default();
                wired(signer, &modules, &clock, |signer| {
                    let seal = EsealSigner::new(signer);
                    seals.push(seal.clone());
                    Arc::new(seal)
                })?
            } else {
                self::signer(signer, &modules, &clock)?
            };
            by_name.insert(name.clone(), Arc::new(Watched::new(name, made, clock.clone())));
        }
        Ok(Self { by_name, seals, modules })
    }

    pub(super) fn named(&self, name: &str) -> Result<Arc<dyn Signer>, Error> {
        self.by_name.get(name).cloned().ok_or_else(|| Error::Unknown {
            what: "signer",
            name: name.to_owned(),
            known: self.by_name.keys().cloned().collect(),
        })
    }

    pub(super) fn modules(&self) -> &Arc<Modules> {
        &self.modules
    }

    /// The devices of the signer called `name` that hold a seal; none for a key file.
    pub(super) fn seals(&self, name: &str) -> Vec<EsealSigner> {
        self.seals.get(name).cloned().unwrap_or_default()
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Arc<dyn Signer>)> {
        self.by_name.iter()
    }

    pub(super) async fn shutdown(&self, call: &Call) {
        if let Err(error) = self.modules.shutdown(call).await {
            tracing::warn!(%error, "a device's thread did not end in time");
        }
    }
}

/// The signer that `signer` describes, on the libraries that the caller shares among all of them. Touches neither file
/// of a key nor device; certificates that complete the chain are read.
///
/// # Errors
/// [`Error`] when the file of certificates cannot be used, or the key URI makes no sense.
pub fn signer(
    signer: &config::Signer,
    modules: &Arc<Modules>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Signer>, Error> {
    wired(signer, modules, clock, |signer| Arc::new(signer))
}

/// The same, with what is made of the signer in each device.
fn wired(
    signer: &config::Signer,
    modules: &Arc<Modules>,
    clock: &Arc<dyn Clock>,
    mut in_device: impl FnMut(Pkcs11Signer) -> Arc<dyn Signer>,
) -> Result<Arc<dyn Signer>, Error> {
    let further = further(signer)?;
    let (name, sources) = (signer.name.clone(), signer.pin.clone());
    Ok(match &signer.key {
        config::Key::Pkcs11(uris) => {
            let mut one = |uri: &Uri| -> Result<Arc<dyn Signer>, sign::Error> {
                let device = signing_device(modules, uri.clone(), signer);
                let signer = Pkcs11Signer::new(device, signer.algorithm)?;
                Ok(in_device(signer.with_certificates(further.clone())))
            };
            match uris.only() {
                Some(uri) => one(uri)?,
                None => {
                    let mut members = uris.iter().map(one).collect::<Result<Vec<_>, _>>()?.into_iter();
                    let first = members.next().ok_or(sign::Error::Closed)?;
                    Arc::new(Failover::new(first, members, clock.clone()))
                }
            }
        }
        config::Key::File(path) => Arc::new(
            FileSigner::new(path, signer.algorithm, password(name, sources), clock.clone())
                .with_certificates(further),
        ),
        config::Key::Jwk(jwk) => Arc::new(
            FileSigner::from_jwk(jwk.clone(), signer.algorithm, clock.clone()).with_certificates(further),
        ),
    })
}

/// The device that `uri` names, with the PIN from `sources` or, when there are none, from the URI's own `pin-source`.
#[must_use]
pub fn device(modules: &Arc<Modules>, uri: Uri, profile: Option<String>, sources: Option<Sources>) -> Device {
    let pin = login_pin(&uri, sources);
    Device::new(modules.clone(), uri, profile, pin)
}

/// The same with all that `signer` says of it, which signing may take.
#[must_use]
pub fn signing_device(modules: &Arc<Modules>, uri: Uri, signer: &config::Signer) -> Device {
    let pin = both_pins(&uri, signer.pin.clone(), signer.sign_pin.clone());
    Device::new(modules.clone(), uri, signer.profile.clone(), pin)
}

fn login_pin(uri: &Uri, sources: Option<Sources>) -> Option<Pin> {
    let sources = sources.or_else(|| uri.pin_source().map(|source| Sources::new(vec![source.clone()])));
    sources.map(|sources| pin(format!("PIN for {}", uri.device()), sources))
}

/// The PIN of the login, and the one for each signature where that is another.
fn both_pins(uri: &Uri, login: Option<Sources>, signature: Option<Sources>) -> Option<Pin> {
    let login = login_pin(uri, login);
    let Some(signature) = signature else { return login };
    let signature = pin(format!("PIN for a signature on {}", uri.device()), signature);
    Some(login.unwrap_or_else(|| Pin::new(|| Ok(None))).with_signature_pin(&signature))
}

/// A PIN called `what`: asked for again after one that was mistyped, and never after one that nobody typed.
fn pin(what: String, sources: Sources) -> Pin {
    Pin::asking(!sources.are_unattended(), move |request| {
        let question = Question::new(&what).after(request.refused.into()).last_try(request.last_try);
        let answer = sources.answer(&question).map_err(|why| PinProblem::Source(why.to_string()))?;
        Ok(match answer {
            None => PinAnswer::None,
            Some(Answer { secret, typed: true, .. }) => PinAnswer::Typed(secret),
            Some(Answer { secret, origin, .. }) => PinAnswer::Stored(secret, Some(origin)),
        })
    })
}

fn password(name: String, sources: Option<Sources>) -> sign::Password {
    let what = format!("Password of the key file of {name}");
    Arc::new(move || match &sources {
        Some(sources) => sources.read(&what).map_err(|why| why.to_string()),
        None => Ok(None),
    })
}

/// Certificates that complete the chain, from the signer's file if there is one.
fn further(signer: &config::Signer) -> Result<Vec<Certificate>, Error> {
    signer.chain.as_deref().map_or(Ok(Vec::new()), certificates)
}

/// Who a client is, with the certificate file read if there is one. `signer` may know issuers that are not in it.
pub(super) fn identity(
    client: &config::Client,
    signer: Option<&config::Signer>,
    clock: &dyn Clock,
) -> Result<Identity, Error> {
    let source = match &client.identity {
        config::Identity::KeyId(kid) => return Ok(Identity::KeyId(kid.clone())),
        config::Identity::CertificateBesideKey => CertificateSource::Beside,
        config::Identity::CertificateFile(path) => {
            let chain = Chain::from_file(&read(path)?, None, clock.wall())
                .map_err(|problem| Error::Certificate { path: path.display().to_string(), problem })?;
            let issuers = signer.map_or(Ok(Vec::new()), further)?;
            CertificateSource::Given(chain.completed_from(&issuers, clock.wall()))
        }
    };
    Ok(if client.is_eseal() { Identity::Eseal(source) } else { Identity::Certificate(source) })
}

/// The outbound client's options, with the file of extra authorities read.
///
/// # Errors
/// [`Error::File`] when that file cannot be read.
pub fn http_options(http: &config::Http) -> Result<http::Options, Error> {
    Ok(http::Options {
        proxy: http.proxy.clone(),
        no_proxy: http.no_proxy.as_ref().map(|hosts| hosts.join(",")),
        extra_ca: http.extra_ca.as_deref().map(read).transpose()?.unwrap_or_default(),
        connect_timeout: http.connect_timeout,
        timeout: http.timeout,
    })
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Error> {
    Certificate::all_from_file(&read(path)?)
        .map_err(|problem| Error::Certificate { path: path.display().to_string(), problem })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |problem: String| Error::File { path: path.display().to_string(), problem };
    let file = File::open(path).map_err(|why| failed(why.to_string()))?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|why| failed(why.to_string()))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(failed("it is larger than 1 MiB".into()));
    }
    Ok(bytes)
}
