//! A device that does what a test wants.

use super::*;

/// What a device does besides working.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mood {
    Well,
    /// It answers with this error; `true`: after the message was made.
    Fails(Error, bool),
    /// It never answers.
    Hangs,
}

/// A file signer that plays a device: it can fail, hang, come back, and come back with another key.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    inside: Mutex<(Arc<FileSigner>, u64)>,
    pub(super) mood: Mutex<Mood>,
    asked: AtomicU32,
    /// When it was last found to be back, by somebody else.
    answered: Mutex<Option<Instant>>,
}

impl Device {
    pub(super) fn with(pair: &Pair, certificates: Vec<Certificate>, clock: &Arc<ManualClock>) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let signer = file_signer(&folder, pair, certificates, clock);
        Arc::new(Self {
            clock: clock.clone(),
            folder,
            inside: Mutex::new((signer, 1)),
            mood: Mutex::new(Mood::Well),
            asked: AtomicU32::new(0),
            answered: Mutex::default(),
        })
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(super) fn comes_back_with(&self, pair: &Pair, certificates: Vec<Certificate>) {
        let mut inside = self.inside.lock().unwrap();
        let signer = file_signer(&self.folder, pair, certificates, &self.clock);
        *inside = (signer, inside.1 + 1);
    }

    /// Somebody else finds it to be back.
    pub(super) fn is_found(&self) {
        *self.answered.lock().unwrap() = Some(self.clock.now());
    }

    pub(super) fn asked(&self) -> u32 {
        self.asked.swap(0, Ordering::SeqCst)
    }

    fn inside(&self) -> (Arc<FileSigner>, u64) {
        self.inside.lock().unwrap().clone()
    }

    async fn answer(&self, call: &Call, make: Option<MakeMessage>) -> Result<Option<MakeMessage>, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = self.mood.lock().unwrap().clone();
        match mood {
            Mood::Well => Ok(make),
            Mood::Fails(error, spends) => {
                if let Some(make) = make.filter(|_| spends) {
                    make();
                }
                Err(error)
            }
            Mood::Hangs => {
                self.clock.sleep_until(call.deadline()).await;
                Err(Error::Deadline)
            }
        }
    }
}

fn file_signer(
    folder: &tempfile::TempDir,
    pair: &Pair,
    certificates: Vec<Certificate>,
    clock: &Arc<ManualClock>,
) -> Arc<FileSigner> {
    let path = folder.path().join("key");
    crate::state::write_file(&path, pair.pkcs8(), crate::state::Mode::Private, true).unwrap();
    let signer = FileSigner::new(&path, Algorithm::RS256, Arc::new(|| Ok(None)), clock.clone());
    Arc::new(signer.with_certificates(certificates))
}

impl Signer for Device {
    fn key<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Key, Error>> {
        Box::pin(async move {
            self.answer(call, None).await?;
            let (signer, generation) = self.inside();
            Ok(Key { generation, ..signer.key(call).await? })
        })
    }

    fn sign<'a>(&'a self, call: &'a Call, make: MakeMessage) -> BoxFuture<'a, Result<Signed, Error>> {
        Box::pin(async move {
            let make = self.answer(call, Some(make)).await?.unwrap();
            let (signer, generation) = self.inside();
            Ok(Signed { generation, ..signer.sign(call, make).await? })
        })
    }

    fn chain<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Chain, Error>> {
        Box::pin(async move {
            self.answer(call, None).await?;
            self.inside().0.chain(call).await
        })
    }

    fn health(&self) -> Health {
        Health { answered: *self.answered.lock().unwrap(), ..self.inside().0.health() }
    }
}
