//! A device by its URI, and what is asked of it besides signing.

use std::sync::{Arc, OnceLock};

use super::{
    Doomed, KeyPair, ModuleDescription, Modules, NewCertificate, NewKeyPair, Pin, Profile, StoredCertificate,
    Uri,
    job::{Answer, Job},
    modules::{Module, mismatched},
};
use crate::{
    call::Call,
    clock::Instant,
    sign::{Error, MakeMessage, Outage},
};

/// One PKCS#11 device, by URI, and what may be done to it besides signing. Making one touches nothing.
#[derive(Debug)]
pub struct Device {
    pub(super) modules: Arc<Modules>,
    uri: Uri,
    profile: Option<String>,
    pin: Option<Pin>,
    pub(super) module: OnceLock<Arc<Module>>,
}

impl Device {
    /// The device that `uri` names, in the library that [`Profiles::library_for`](super::Profiles::library_for) finds when
    /// it is first needed.
    #[must_use]
    pub fn new(modules: Arc<Modules>, uri: Uri, profile: Option<String>, pin: Option<Pin>) -> Self {
        Self { modules, uri, profile, pin, module: OnceLock::new() }
    }

    /// As it was named.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Where its PINs come from.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// What is known of its library.
    ///
    /// # Errors
    /// [`Error::Module`] when there is no such library.
    pub fn profile(&self) -> Result<Arc<Profile>, Error> {
        Ok(self.module()?.profile.clone())
    }

    /// What the device's library shows to anybody, without a login.
    ///
    /// # Errors
    /// Those of [`Modules::describe`].
    pub async fn describe_as_found(&self, call: &Call) -> Result<ModuleDescription, Error> {
        self.describe_as(Job::Describe { login: None, whole: false }, call).await
    }

    /// All that the device's library shows, logged in to this device.
    ///
    /// # Errors
    /// Those of [`Modules::describe`].
    pub async fn describe(&self, call: &Call) -> Result<ModuleDescription, Error> {
        self.describe_as(Job::Describe { login: Some(self.uri.device()), whole: false }, call).await
    }

    /// The same with mechanisms and all attributes, which takes many more calls.
    ///
    /// # Errors
    /// Those of [`Modules::describe`].
    pub async fn inspect(&self, call: &Call) -> Result<ModuleDescription, Error> {
        self.describe_as(Job::Describe { login: Some(self.uri.device()), whole: true }, call).await
    }

    async fn describe_as(&self, job: Job, call: &Call) -> Result<ModuleDescription, Error> {
        match self.ask(call, job, None).await? {
            Answer::Description(description) => Ok(*description),
            other => Err(mismatched(&other)),
        }
    }

    /// Generates an RSA key pair inside the device: sensitive, not extractable, for signing only.
    ///
    /// # Errors
    /// [`Error::Taken`] when a key has the label or the `CKA_ID` already, [`Error::UnusableKey`] when the pair cannot be
    /// made as it should be; otherwise what the device says.
    pub async fn generate_key_pair(&self, pair: NewKeyPair, call: &Call) -> Result<KeyPair, Error> {
        match self.ask(call, Job::Generate { device: self.uri.device(), pair }, None).await? {
            Answer::Generated(pair) => Ok(*pair),
            other => Err(mismatched(&other)),
        }
    }

    /// Stores a certificate beside the key that it certifies, or by itself when that key is not here. One that is
    /// there already is left as it is.
    ///
    /// # Errors
    /// [`Error::Certificate`] when it cannot be read; otherwise what the device says.
    pub async fn store_certificate(
        &self,
        certificate: NewCertificate,
        call: &Call,
    ) -> Result<StoredCertificate, Error> {
        match self.ask(call, Job::Store { device: self.uri.device(), certificate }, None).await? {
            Answer::Stored(certificate) => Ok(*certificate),
            other => Err(mismatched(&other)),
        }
    }

    /// Deletes what is `doomed`, for good: certificates first, then the private half of the key, then the public one.
    /// Returns how many objects are gone.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when several private keys look like the doomed one, [`Error::NotFound`] when something is
    /// not there any more; then nothing has been deleted. Otherwise what the device says.
    pub async fn delete(&self, doomed: Doomed, call: &Call) -> Result<u64, Error> {
        match self.ask(call, Job::Delete { device: self.uri.device(), doomed }, None).await? {
            Answer::Deleted(gone) => Ok(gone),
            other => Err(mismatched(&other)),
        }
    }

    /// DER of every certificate on the device, in its order.
    ///
    /// # Errors
    /// What the device says.
    pub async fn certificates(&self, call: &Call) -> Result<Vec<Vec<u8>>, Error> {
        match self.ask(call, Job::Certificates(self.uri.device()), None).await? {
            Answer::Certificates(certificates) => Ok(certificates),
            other => Err(mismatched(&other)),
        }
    }

    pub(super) async fn ask(
        &self,
        call: &Call,
        job: Job,
        make: Option<MakeMessage>,
    ) -> Result<Answer, Error> {
        self.module()?.ask(call, job, make, self.pin.clone()).await
    }

    /// What is away of it: the library, the device.
    pub(super) fn outages(&self) -> Vec<Outage> {
        self.module.get().map(|module| module.outages(&Some(self.uri.device()))).unwrap_or_default()
    }

    /// When what was away of it was last found to be back.
    pub(super) fn answered(&self) -> Option<Instant> {
        self.module.get()?.answered(&Some(self.uri.device()))
    }

    /// The library, once it is there.
    pub(super) fn module(&self) -> Result<&Arc<Module>, Error> {
        if let Some(module) = self.module.get() {
            return Ok(module);
        }
        let profile = self.profile.as_deref();
        let library = self.modules.profiles().library_for(&self.uri, profile)?;
        let module = self.modules.module(&library, profile.or(self.uri.module_name()))?;
        Ok(self.module.get_or_init(|| module))
    }
}
