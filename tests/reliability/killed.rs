//! Segl itself is killed, at any point of whatever it writes: nothing is half written, nothing is left behind, and the
//! next start works.

use std::{
    collections::BTreeMap,
    env, fs,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
    process::{WaitOptions, getpid, set_child_subreaper},
};
use segl::sandbox::{Clients, Profile};
use tokio::time::Instant;

use crate::{
    Proof,
    chance::Chance,
    fixture::{self, Fixture, P11_KIT, PIN, WAYS},
    footprint::{children, is_of_a_library},
    stand::{PATIENCE, Said, Stand},
};

pub(crate) fn proof() -> Proof {
    Proof {
        name: "a_program_that_is_killed_at_any_point_leaves_nothing_in_the_way_of_the_next",
        test: |name| fixture::run(&P11_KIT, &WAYS[1], name, async |hsm| at_any_point(hsm).await),
        lack: P11_KIT.lack(),
    }
}

/// A device that can lock, and whose flags tell the truth: after a login whose end nobody learnt, it may be asked again.
/// As with any HSM, it is not its own process that is killed: SoftHSM2 in our own would lose its files with us.
const PROFILE: &str = "[profiles.p11-kit-remote.login]\nflags_reliable = true\n";

const DEVICE: &str = "pkcs11:token=ci";

/// Those that are there to be stored; one that is stored already is left as it is.
const CERTIFICATES: usize = 16;

/// One program to kill: what it is told to do, and how often; so many times as often as `$SEGL_KILLS` says.
struct Deed {
    name: &'static str,
    kills: usize,
    /// The arguments of the nth start.
    arguments: fn(usize) -> String,
    /// Which files the nth start may leave, whole or not at all.
    writes: fn(usize) -> Option<String>,
}

static DEEDS: [Deed; 9] = [
    Deed { name: "token", kills: 45, arguments: |_| "token maskinporten".into(), writes: |_| None },
    Deed {
        name: "keys generate",
        kills: 6,
        arguments: |n| format!("keys generate {DEVICE};object=key-{n} --bits 2048 --pin file:pin"),
        writes: |_| None,
    },
    Deed {
        name: "keys delete",
        kills: 6,
        arguments: |n| format!("keys delete {DEVICE};object=key-{n} --yes --pin file:pin"),
        writes: |_| None,
    },
    Deed {
        name: "keys import",
        kills: 9,
        arguments: |n| {
            format!("keys import {DEVICE};object=grant leaf-{}.pem --pin file:pin", n % CERTIFICATES)
        },
        writes: |_| None,
    },
    Deed {
        name: "keys csr",
        kills: 9,
        arguments: |n| {
            let who = "--organisation Kai --organisation-number 991825827";
            format!("keys csr {DEVICE};object=grant {who} --out csr-{n}.pem --pin file:pin")
        },
        writes: |n| Some(format!("csr-{n}.pem")),
    },
    Deed {
        name: "pin set",
        kills: 24,
        arguments: |_| "pin set sandbox --from file:new-pin --force".into(),
        writes: |_| Some("pin".into()),
    },
    Deed {
        name: "init",
        kills: 9,
        arguments: |n| {
            let client = "--client-id 0b1c2d3e-0000-4000-8000-000000000001 --kid key-2026";
            let asked = "--who company --environment test --scope toll:movement/road/v2";
            format!("init {asked} {client} --key {DEVICE};object=grant --pin file:pin --out init-{n}.toml")
        },
        writes: |n| Some(format!("init-{n}.toml")),
    },
    Deed {
        name: "sandbox",
        kills: 3,
        arguments: |n| {
            let files = format!("--state ca-{n} --ready-file ready-{n} --write-config made-{n}.toml");
            format!("sandbox --any-ports {files}")
        },
        writes: |n| Some(format!("made-{n}.toml")),
    },
    Deed {
        name: "sandbox issue",
        kills: 9,
        arguments: |n| format!("sandbox issue whole.csr --state ca-0 --out issued-{n}.pem"),
        writes: |n| Some(format!("issued-{n}.pem")),
    },
];

fn deed(name: &str) -> &'static Deed {
    DEEDS.iter().find(|deed| deed.name == name).unwrap()
}

/// More than happen while a file is written and renamed, or a PIN try written down and struck out.
const MOST_EVENTS: usize = 12;

/// When to kill.
#[derive(Clone, Copy)]
enum When {
    After(Duration),
    /// When so many things have happened to files.
    Event(usize),
}

async fn at_any_point(hsm: &mut Fixture) {
    // Whoever loses their parent becomes a child of this process.
    set_child_subreaper(Some(getpid())).unwrap();
    let mut chance = Chance::seeded();
    let desk = Desk::new(hsm).await;
    let times = env::var("SEGL_KILLS").map_or(1, |times| times.parse().expect("SEGL_KILLS is a number"));
    let begin = Instant::now();
    let mut all = 0;
    for deed in &DEEDS {
        let (took, starts) = (desk.warm_up(deed).await, deed.kills * times);
        let (mut killed, mut orphans, mut trying) = (0, 0, 0);
        for n in 0..starts {
            let when = match n % 3 {
                0 => When::Event(1 + n / 3 % MOST_EVENTS),
                1 => When::After(took.mul_f64((n / 3) as f64 / (starts / 3) as f64)),
                _ => When::After(took.mul_f64(chance.below(1_200) as f64 / 1_000.0)),
            };
            killed += usize::from(desk.start_and_kill(&(deed.arguments)(n), when).await);
            orphans += reap_orphans().await;
            trying += usize::from(desk.all_is_whole((deed.writes)(n)));
            desk.next_start_works(deed, n).await;
        }
        println!(
            "{}: {} starts of some {} ms, {killed} killed, {orphans} processes of libraries went with them, \
             {trying} had a PIN try under way",
            deed.name,
            starts,
            took.as_millis(),
        );
        all += killed;
    }
    desk.key_pairs_can_be_deleted().await;
    println!("{all} kills in {} s: every file whole, every next start worked", begin.elapsed().as_secs());
    assert!(all > 30, "hardly anything was killed in time");
}

struct Desk {
    stand: Stand,
    state: PathBuf,
    /// What the library needs to know.
    variables: Vec<(&'static str, String)>,
    library: String,
}

impl Desk {
    async fn new(hsm: &mut Fixture) -> Self {
        let stand = Stand::new().await;
        hsm.create("ci");
        let modules = hsm.modules();
        let pair = hsm.generate(&modules, "ci", "grant").await;
        modules.shutdown(&fixture::call()).await.unwrap();
        for n in 0..CERTIFICATES {
            let issued =
                stand.sandbox.ca().issue_for(&pair.spki, Clients::ORGANISATION, Profile::Seid2).unwrap();
            stand.write(&format!("leaf-{n}.pem"), issued.chain_pem());
        }
        stand.write("new-pin", PIN);
        let key = hsm.uri(&format!("{DEVICE};object=grant")).to_string();
        stand.configure(&format!("{}{PROFILE}", stand.device_client(key, &pair.spki, PIN)));
        let state = stand.folder().join("state");
        fs::create_dir(&state).unwrap();
        let address = env::var("P11_KIT_SERVER_ADDRESS").unwrap();
        let variables =
            vec![("STATE_DIRECTORY", state.display().to_string()), ("P11_KIT_SERVER_ADDRESS", address)];
        let desk = Self { state, variables, library: hsm.library().display().to_string(), stand };
        let csr = desk.run(&(deed("keys csr").arguments)(1000)).await;
        assert_eq!(csr.code, Some(0), "{csr:?}");
        fs::rename(desk.path("csr-1000.pem"), desk.path("whole.csr")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stand.folder().join(name)
    }

    /// `arguments`, each device in them with its library.
    fn arguments(&self, arguments: &str) -> Vec<String> {
        let whole = |argument: &str| match argument.starts_with(DEVICE) && !argument.contains('?') {
            true => format!("{argument}?module-path={}", self.library),
            false => argument.to_owned(),
        };
        arguments.split(' ').map(whole).collect()
    }

    async fn run(&self, arguments: &str) -> Said {
        let arguments = self.arguments(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.stand.segl_with(&arguments, &variables, "").await
    }

    /// The program, in silence.
    fn program(&self, arguments: &str) -> Program {
        let mut program = Command::new(env!("CARGO_BIN_EXE_segl"));
        program.args(self.arguments(arguments)).current_dir(self.stand.folder());
        program.envs(self.variables.iter().cloned()).env_remove("SEGL_CONFIG");
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Program(program.spawn().unwrap())
    }

    /// How long it takes when nobody kills it, at the least.
    async fn warm_up(&self, deed: &Deed) -> Duration {
        let mut least = Duration::MAX;
        for n in 1000..1003 {
            let begin = Instant::now();
            if deed.name == "sandbox" {
                self.sandbox_starts(n).await;
            } else {
                let said = self.run(&(deed.arguments)(n)).await;
                assert_eq!(said.code, Some(0), "{}: {said:?}", deed.name);
            }
            least = least.min(begin.elapsed());
        }
        least
    }

    /// Starts the program and kills it; `false` when it had ended by then.
    async fn start_and_kill(&self, arguments: &str, when: When) -> bool {
        let (mut program, watched) = (self.program(arguments), self.watched());
        blocking(move || {
            let (begin, mut events) = (Instant::now(), 0);
            loop {
                events += happened(&watched);
                let due = match when {
                    When::After(time) => begin.elapsed() >= time,
                    When::Event(number) => events >= number,
                };
                if due || program.0.try_wait().unwrap().is_some() {
                    return program.kill().signal() == Some(9);
                }
                assert!(begin.elapsed() < PATIENCE, "the program hangs");
            }
        })
        .await
    }

    /// What happens to the files that programs write here.
    fn watched(&self) -> OwnedFd {
        let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        let kinds = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE;
        for folder in [self.stand.folder(), &self.state] {
            inotify::add_watch(&events, folder, kinds).unwrap();
        }
        events
    }

    /// Fails when a file under its own name is not whole. Whether a PIN is written down as being tried.
    fn all_is_whole(&self, written: Option<String>) -> bool {
        let mut trying = false;
        for (name, content) in files(&self.state) {
            if name.ends_with(".json") {
                let record: serde_json::Value = serde_json::from_slice(&content)
                    .unwrap_or_else(|why| panic!("{name} is broken ({why}): {content:?}"));
                assert_eq!(record["spent"], 1, "{record}");
                trying = true;
            } else {
                assert!(name.ends_with(".lock") || name.starts_with(".segl-"), "{name}");
            }
        }
        if let Some(name) = written
            && let Ok(content) = fs::read_to_string(self.path(&name))
        {
            let whole = match name.rsplit_once('.') {
                Some((_, "pem")) => pem::parse_many(&content).is_ok_and(|parts| !parts.is_empty()),
                Some((_, "toml")) => content.ends_with('\n') && content.parse::<toml::Table>().is_ok(),
                _ => content == PIN,
            };
            assert!(whole, "{name} is not whole: {content:?}");
        }
        trying
    }

    /// The same program does what the killed one was to do, or finds it done; and the key signs.
    async fn next_start_works(&self, deed: &Deed, n: usize) {
        if deed.name == "sandbox" {
            self.sandbox_starts(n).await;
        } else {
            let said = self.run(&(deed.arguments)(n)).await;
            let done = match deed.name {
                // A key of that name, or half of one, is there; or it is gone; or the file is written.
                "keys generate" | "keys csr" | "init" | "sandbox issue" => said.err.contains("already"),
                // A device that was still at it when the next start looked makes two pairs of one name.
                "keys delete" => {
                    ["nothing that is to be seen", "more than one"].iter().any(|why| said.err.contains(why))
                }
                _ => false,
            };
            assert!(done || said.code == Some(0), "{n}: {said:?}");
        }
        if deed.name != "token" {
            let said = self.run("token maskinporten").await;
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        let left = files(&self.state).into_keys().filter(|name| !name.ends_with(".lock"));
        // A sandbox writes into its own directories the next time.
        let beside = files(self.stand.folder()).into_keys().filter(|name| name.starts_with(".segl-"));
        let left: Vec<_> = left.chain(beside.filter(|_| deed.name != "sandbox")).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Starts a sandbox on what a killed one has left, until it is ready.
    async fn sandbox_starts(&self, n: usize) {
        let arguments = (deed("sandbox").arguments)(n).replace(&format!(" --write-config made-{n}.toml"), "");
        let ready = self.path(&format!("ready-{n}"));
        let (mut program, watched) = (self.program(&arguments), self.watched());
        blocking(move || {
            let begin = Instant::now();
            while !names(&ready, program.0.id()) {
                happened(&watched);
                assert_eq!(program.0.try_wait().unwrap(), None, "the sandbox has ended");
                assert!(begin.elapsed() < PATIENCE, "the sandbox does not get ready");
            }
        })
        .await;
        for file in [format!("ready-{n}"), format!("made-{n}.toml")] {
            let _ = fs::remove_file(self.path(&file));
        }
    }

    /// What was generated and deleted half can be deleted whole.
    async fn key_pairs_can_be_deleted(&self) {
        let said = self.run(&format!("keys {DEVICE} --login --pin file:pin --output json")).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let listing: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let keys = listing["modules"][0]["devices"][0]["keys"].as_array().unwrap().clone();
        println!("keys on the device at the end: {}", keys.len());
        assert!(!keys.is_empty(), "the one that signs is there");
        for key in keys.iter().map(|key| key["uri"].as_str().unwrap()) {
            let said = self.run(&format!("keys delete {key} --yes --force --pin file:pin")).await;
            assert_eq!(said.code, Some(0), "{said:?}");
        }
    }
}

/// A program that is killed when it is dropped.
struct Program(Child);

impl Program {
    /// Kills it, unless it has ended; how it ended.
    fn kill(&mut self) -> ExitStatus {
        let _ = self.0.kill();
        self.0.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Does `work` where the sandbox need not wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Whether this ready file is that of the process.
fn names(ready: &Path, process: u32) -> bool {
    let content = fs::read(ready).unwrap_or_default();
    let ready: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
    ready["pid"] == process
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// What has happened since it was last asked; waits a moment for something.
fn happened(watched: &OwnedFd) -> usize {
    let moment = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    poll(&mut [PollFd::new(watched, PollFlags::IN)], Some(&moment)).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watched, &mut buffer);
    let mut number = 0;
    while reader.next().is_ok() {
        number += 1;
        // What else was read with it; the next look is for what comes then.
        if reader.is_buffer_empty() {
            break;
        }
    }
    number
}

/// Waits until all processes are gone that those who were killed had started; how many there were.
async fn reap_orphans() -> usize {
    let begin = Instant::now();
    let mut gone = 0;
    loop {
        let lives = children().into_iter().any(is_of_a_library);
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {
            gone += 1;
        }
        if !lives {
            return gone;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "a library's process lives on");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
