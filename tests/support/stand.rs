//! A sandbox, a folder with keys and a `segl.toml`, and the real program beside them.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    env,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use segl::{
    call::Call,
    clock::{Clock, ManualClock, SystemClock},
    config::Config,
    pipeline::{NamedToken, Pipeline},
    sandbox::{Authentication, Clients, Issued, Options, Profile, Sandbox, Setup, TestCa},
    token::{AccessToken, Error, TokenSource},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// Name under which keys are registered.
pub(crate) const KID: &str = "end-to-end-2026";

/// A synthetic national identity number with valid check digits.
pub(crate) const PID: &str = "01811210028";

/// Longer than anything takes on a busy machine: what hangs is to fail, not to hang the run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running sandbox with what one user of it has on disk.
pub(crate) struct Stand {
    pub(crate) sandbox: Sandbox,
    folder: TempDir,
}

impl Stand {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// A sandbox whose time, and that of the pipelines made with it, is moved by hand.
    pub(crate) async fn by_hand() -> (Self, Arc<ManualClock>) {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let options = Options { clock: Some(clock.clone()), ..Options::default() };
        (Self::with(options).await, clock)
    }

    /// All sandboxes of a test binary share a CA: making one costs time.
    pub(crate) async fn with(options: Options) -> Self {
        let sandbox = Sandbox::start_with(Options { ca: Some(ca().clone()), ..options }).await.unwrap();
        Self { sandbox, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file that nobody else may read.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(content.as_ref()).unwrap();
        path
    }

    /// Registers the key on the client for keys, writes it to a file, and returns the `segl.toml` for it.
    pub(crate) fn key_client(&self) -> String {
        self.sandbox.register_key(Clients::KEY_CLIENT, KID, &spki(key())).unwrap();
        self.write("key.pem", key().serialize_pem());
        self.sandbox.config_toml_for(&Setup {
            key: "file:key.pem".into(),
            pin: None,
            authentication: Authentication::Kid(KID.into()),
        })
    }

    /// Registers a key of a device on the client for keys, writes the PIN to a file, and returns the `segl.toml` for them.
    pub(crate) fn device_client(&self, key: impl Into<String>, spki: &[u8], pin: &str) -> String {
        self.sandbox.register_key(Clients::KEY_CLIENT, KID, spki).unwrap();
        self.write("pin", pin);
        self.sandbox.config_toml_for(&Setup {
            key: key.into(),
            pin: Some("file:pin".into()),
            authentication: Authentication::Kid(KID.into()),
        })
    }

    /// Has a certificate issued for the key, writes both to files, and returns the `segl.toml` for them.
    pub(crate) fn certificate_client(&self) -> (String, Issued) {
        let issued =
            self.sandbox.ca().issue_for(&spki(key()), Clients::ORGANISATION, Profile::Seid2).unwrap();
        (self.client_with(&issued), issued)
    }

    /// As [`certificate_client`](Self::certificate_client), with this certificate. The root is in the file, too.
    pub(crate) fn client_with(&self, issued: &Issued) -> String {
        self.write("key.pem", key().serialize_pem());
        self.write("certificate.pem", issued.chain_pem() + &issued.root_pem());
        self.sandbox.config_toml_for(&Setup {
            key: "file:key.pem".into(),
            pin: None,
            authentication: Authentication::Certificate("certificate.pem".into()),
        })
    }

    /// Puts `config` where [`segl`](Self::segl) finds it.
    pub(crate) fn configure(&self, config: &str) {
        self.write("segl.toml", config);
    }

    /// What `config` names, wired.
    pub(crate) fn pipeline(&self, config: &str, clock: Arc<dyn Clock>) -> Pipeline {
        let config = Config::parse(config, self.folder()).unwrap_or_else(|problems| panic!("{problems:?}"));
        Pipeline::new(&config, clock).unwrap()
    }

    /// The same on the system's clock.
    pub(crate) fn live_pipeline(&self, config: &str) -> Pipeline {
        self.pipeline(config, SystemClock::shared())
    }

    /// Runs the program in the folder, with nothing but these arguments.
    pub(crate) async fn segl(&self, arguments: &[&str]) -> Said {
        self.segl_with(arguments, &[], "").await
    }

    /// Runs the program with further environment variables and something on standard input.
    pub(crate) async fn segl_with(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
        input: &str,
    ) -> Said {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_segl"));
        command.args(arguments).current_dir(self.folder()).env_clear().kill_on_drop(true);
        for name in ["PATH", "SOFTHSM2_CONF"] {
            command.envs(env::var_os(name).map(|value| (name, value)));
        }
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that does not read its input may be gone before it is written.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("segl {arguments:?} hangs"))
            .unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Standard output of a run that succeeded without a word on standard error.
    #[track_caller]
    pub(crate) fn done(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        &self.out
    }

    /// The token that was printed alone on a line.
    #[track_caller]
    pub(crate) fn token(&self) -> &str {
        let token = self.done().strip_suffix('\n').unwrap();
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "{self:?}");
        token
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.done()).unwrap()
    }

    /// What happened and what to do, of a run that failed with `code`: one line each. A third one says where more is
    /// told, and that there is more.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32) -> (&str, &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        let lines: Vec<&str> = self.err.lines().collect();
        let [what, remedy, more @ ..] = lines.as_slice() else { panic!("{self:?}") };
        for line in more {
            let topic = line.strip_prefix("      More: segl explain ").unwrap_or_else(|| panic!("{self:?}"));
            assert!(segl::advice::named(topic).is_some() && more.len() == 1, "{self:?}");
        }
        let what = what.strip_prefix("segl: ").unwrap_or_else(|| panic!("{self:?}"));
        let remedy = remedy.strip_prefix("      ").unwrap_or_else(|| panic!("{self:?}"));
        assert!(!what.is_empty() && !remedy.is_empty(), "{self:?}");
        (what, remedy)
    }
}

/// The CA of this test binary.
pub(crate) fn ca() -> &'static TestCa {
    static CA: OnceLock<TestCa> = OnceLock::new();
    CA.get_or_init(|| TestCa::ephemeral().unwrap())
}

/// The user's key.
pub(crate) fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(new_key)
}

/// Somebody else's key.
pub(crate) fn other_key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(new_key)
}

fn new_key() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

/// DER SubjectPublicKeyInfo.
pub(crate) fn spki(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}

/// Header (0) or claims (1) of a JWT.
#[track_caller]
pub(crate) fn part(jwt: &str, index: usize) -> Value {
    let text = jwt.trim().split('.').nth(index).unwrap_or_else(|| panic!("no JWT: {jwt}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// Seconds since 1970 by the system's clock.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A call with the default patience.
pub(crate) fn call(clock: &Arc<ManualClock>) -> Call {
    Call::new(&**clock)
}

/// Lets everything else run until `reached`. For what has no signal to wait on, on a runtime of one thread.
pub(crate) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let waiting = async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Waits until a try of `source` has failed. It then sleeps, on the clock moved by hand, until its next try.
pub(crate) async fn in_trouble(source: &dyn TokenSource) {
    until("trouble", || source.trouble().is_some()).await;
}

/// Lets whatever can happen happen without the clock moving: long enough for many requests over loopback.
pub(crate) async fn settle() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

/// Does `work` while the clock moves, slowly enough for signatures and requests to keep up.
pub(crate) async fn as_time_passes<T>(clock: &ManualClock, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = settle() => clock.advance(Duration::from_millis(100)),
        }
    }
}

/// How a caller fares whose time passes while the authority is down.
pub(crate) async fn out_of_time(named: &NamedToken, clock: &Arc<ManualClock>) -> Error {
    let call = call(clock);
    let (result, ()): (Result<AccessToken, Error>, ()) = tokio::join!(named.token(&call), async {
        in_trouble(named.source()).await;
        while !call.is_over(&**clock) {
            clock.advance(Duration::from_secs(1));
            settle().await;
        }
    });
    result.unwrap_err()
}
