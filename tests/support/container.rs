//! SoftHSM2 in a container, behind p11-kit's server: a network HSM in miniature that can be stopped, killed and frozen.
//!
//! `scripts/softhsm-image` makes the image. What is missing for these tests is said for each of them by name; they
//! count as ignored then, and as failed where `CI` is set.
//!
//! `p11-kit-client.so` reads the address of its server from the environment of the process that loads it. So each test
//! runs in a process of its own: the test binary calls itself.

use std::{
    collections::HashMap,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use libtest_mimic::{Arguments, Failed};
use segl::{
    clock::SystemClock,
    sign::pkcs11::{Device, Modules, Pin as DevicePin},
};
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
    core::{Mount, WaitFor, client::docker_client_instance},
    runners::AsyncRunner,
};
use tokio::{
    io::AsyncBufReadExt,
    process::Command,
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::need::Need;

pub(crate) const LABEL: &str = "network";
pub(crate) const PIN: &str = "4711-0815";

const IMAGE: &str = "segl-softhsm";
const FOLDER: &str = "SEGL_TEST_CONTAINER_FOLDER";
const NAME: &str = "SEGL_TEST_CONTAINER_NAME";

/// Said by p11-kit's server once it listens; once for each start of the container.
const READY: &str = "P11_KIT_SERVER_ADDRESS=";

/// Longer than any test takes on a busy machine: a test that hangs is to fail, not to hang the run.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longer than an engine takes to answer what is no work.
const ANSWER: Duration = Duration::from_secs(20);

/// What a test does, in a process of its own.
pub(crate) type Body = fn(NetworkHsm) -> Pin<Box<dyn Future<Output = ()>>>;

/// Runs the tests, or in the process of one of them that one.
pub(crate) fn run(tests: &[(&'static str, Body)]) -> ExitCode {
    if let (Some(name), Some(folder)) = (env::var_os(NAME), env::var_os(FOLDER)) {
        let (_, body) = tests.iter().find(|(test, _)| *test == name).expect("a test of this name");
        let runtime = runtime();
        runtime.block_on(async {
            let hsm = NetworkHsm::start(PathBuf::from(folder)).await;
            timeout(PATIENCE, body(hsm)).await.expect("the test hangs");
        });
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let lack = runtime().block_on(lack());
    let trial = |&(name, _): &(&'static str, Body)| {
        Need::of(name, lack.clone(), &arguments)
            .trial(name, move || runtime().block_on(in_a_process_of_its_own(name)))
    };
    let trials = tests.iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What is missing on this machine for these tests, and how it is had. Removes what dead test runs left behind.
async fn lack() -> Option<String> {
    if client().is_none() {
        return Some("p11-kit-client.so is missing: apt-get install p11-kit-modules".into());
    }
    let silent = |why| Some(format!("no container engine answers ({why}): scripts/softhsm-image starts one"));
    let docker = match docker_client_instance().await {
        Ok(docker) => docker,
        Err(why) => return silent(why.to_string()),
    };
    match timeout(ANSWER, docker.ping()).await {
        Ok(Ok(_)) => {}
        Ok(Err(why)) => return silent(why.to_string()),
        Err(_) => return silent(format!("asked for {ANSWER:?}")),
    }
    remove_containers("segl.test=softhsm", |labels| {
        labels.get("segl.test.process").is_none_or(|process| !Path::new("/proc").join(process).exists())
    })
    .await;
    let image = format!("{IMAGE}:{}", tag());
    match timeout(ANSWER, docker.inspect_image(&image)).await {
        Ok(Ok(_)) => None,
        _ => Some(format!("the image {image} is missing: scripts/softhsm-image makes it")),
    }
}

/// Of the containers with this label, those whose labels are `doomed`.
async fn remove_containers(label: &str, doomed: impl Fn(&HashMap<String, String>) -> bool) {
    let docker = docker_client_instance().await.unwrap();
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let found = timeout(ANSWER, docker.list_containers(Some(options))).await.unwrap().unwrap();
    for container in found {
        if doomed(&container.labels.unwrap_or_default()) {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            // Another run may be removing it, too.
            let _ =
                timeout(ANSWER, docker.remove_container(&container.id.unwrap_or_default(), Some(options)))
                    .await;
        }
    }
}

/// The image's tag, as `scripts/softhsm-image` computes it: an image of another recipe is no image.
fn tag() -> String {
    let recipe =
        concat!(include_str!("../../scripts/softhsm-image"), include_str!("../../scripts/softhsm-entry"));
    hex::encode(digest(&SHA256, recipe.as_bytes())).chars().take(12).collect()
}

/// p11-kit's client, whose folder is named after the machine's architecture.
fn client() -> Option<PathBuf> {
    let folders = ["/usr/lib", "/usr"].into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    folders
        .filter_map(|folder| Some(folder.ok()?.path().join("pkcs11/p11-kit-client.so")))
        .find(|path| path.exists())
}

async fn in_a_process_of_its_own(name: &str) -> Result<(), Failed> {
    // Not below TMPDIR, whatever that may be: the path of a socket has 107 bytes at most.
    let folder = tempfile::Builder::new().prefix("segl-").tempdir_in("/tmp")?;
    fs::create_dir(folder.path().join("p11"))?;
    let test = Command::new(env::current_exe()?)
        .env(NAME, name)
        .env(FOLDER, folder.path())
        .env("P11_KIT_SERVER_ADDRESS", address(folder.path()))
        .env("STATE_DIRECTORY", folder.path().join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    // The test has its own patience; this is for when not even that can be had.
    let output = timeout(2 * PATIENCE, test.wait_with_output()).await;
    remove_containers(&format!("segl.test.folder={}", folder.path().display()), |_| true).await;
    let output = output.map_err(|_| "the process of the test hangs")??;
    if output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return Ok(());
    }
    let mut said = output.status.to_string();
    for stream in [&output.stdout, &output.stderr] {
        let _ = write!(said, "\n{}", String::from_utf8_lossy(stream));
    }
    Err(said.into())
}

fn address(folder: &Path) -> String {
    format!("unix:path={}", folder.join("p11/p11.sock").display())
}

/// A device in a container, reached through p11-kit's client in this process.
pub(crate) struct NetworkHsm {
    container: ContainerAsync<GenericImage>,
    folder: PathBuf,
    starts: usize,
}

impl NetworkHsm {
    async fn start(folder: PathBuf) -> Self {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let socket = Mount::bind_mount(folder.join("p11").display().to_string(), "/run/p11");
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero();
        let container = GenericImage::new(IMAGE, &tag())
            .with_wait_for(WaitFor::message_on_stdout(READY))
            .with_startup_timeout(PATIENCE)
            // The server answers nobody but its own user, and says nothing about it: there are no slots then.
            .with_user(format!("{user}:{group}"))
            .with_mount(socket)
            // A socket is all that it needs, and an engine may have no other network.
            .with_network("none")
            .with_label("segl.test", "softhsm")
            .with_label("segl.test.process", parent.to_string())
            .with_label("segl.test.folder", folder.display().to_string())
            .with_env_var("LABEL", LABEL)
            .with_env_var("PIN", PIN)
            .with_env_var("SO_PIN", "so-4711-0815")
            .start()
            .await
            .unwrap();
        Self { container, folder, starts: 1 }
    }

    /// Ends it as an orderly shutdown does.
    pub(crate) async fn stop(&self) {
        timeout(PATIENCE, self.container.stop()).await.unwrap().unwrap();
    }

    /// Ends it as a power failure does.
    pub(crate) async fn kill(&self) {
        let docker = docker_client_instance().await.unwrap();
        timeout(ANSWER, docker.kill_container(self.container.id(), None)).await.unwrap().unwrap();
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        timeout(ANSWER, self.container.start()).await.unwrap().unwrap();
        self.starts += 1;
        let mut lines = self.container.stdout(true).lines();
        let listening = async {
            let mut seen = 0;
            while seen < self.starts {
                let line = lines.next_line().await.unwrap().expect("the container has ended");
                seen += usize::from(line.contains(READY));
            }
        };
        timeout(PATIENCE, listening).await.expect("the container does not answer");
    }

    /// It is there and does not answer, as behind a firewall that swallows.
    pub(crate) async fn freeze(&self) {
        timeout(ANSWER, self.container.pause()).await.unwrap().unwrap();
    }

    pub(crate) async fn thaw(&self) {
        timeout(ANSWER, self.container.unpause()).await.unwrap().unwrap();
    }

    /// Removes the container; what a failed test leaves is removed by the process that started it.
    pub(crate) async fn remove(self) {
        timeout(PATIENCE, self.container.rm()).await.unwrap().unwrap();
    }

    /// The library that reaches it.
    pub(crate) fn library(&self) -> PathBuf {
        client().unwrap()
    }

    /// The variable with which another process reaches it.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        ("P11_KIT_SERVER_ADDRESS", address(&self.folder))
    }

    /// `pkcs11:token=…` with `attributes` (`;object=…`), through the library that reaches it.
    pub(crate) fn uri(&self, attributes: &str) -> String {
        format!("pkcs11:token={LABEL}{attributes}?module-path={}", self.library().display())
    }

    pub(crate) fn device(&self, modules: &Arc<Modules>, attributes: &str) -> Device {
        let pin = DevicePin::new(|| Ok(Some(PIN.to_owned().into())));
        Device::new(modules.clone(), self.uri(attributes).parse().unwrap(), None, Some(pin))
    }

    pub(crate) fn modules(&self) -> Arc<Modules> {
        Modules::new(SystemClock::shared())
    }
}
