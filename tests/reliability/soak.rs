//! Everything at once, for as long as one likes: faults of the device, of its library's process and of the authorities,
//! by chance, under load.

mod faults;
mod refusals;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use segl::{config::Config, pipeline::Pipeline, sign::pkcs11::Profiles};
use tokio::time::Instant;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use self::{
    faults::{AWAY, DEVICE},
    refusals::Refusals,
};
use crate::{
    Proof, cable,
    chance::Chance,
    faultp11::{FaultP11, faulty},
    faulty_module::PROFILE,
    footprint::{Footprint, median, nothing_grows},
    leap::LeapingClock,
    load::{CALLERS, Load},
    softhsm::PIN,
    stand::Stand,
};

pub(crate) fn proof() -> Proof {
    Proof {
        name: "mixed_faults_by_chance_cost_no_request_while_a_token_is_usable",
        test: |name| faulty(name, async |fault| soak(&fault).await),
        lack: None,
    }
}

/// Unless `$SEGL_SOAK_SECONDS` says otherwise.
const SECONDS: u64 = 10;

/// From here on, the slope of the memory says something. What `SLOPE` allows in two minutes is a tenth of a megabyte,
/// and an allocator takes more than that at a time.
const LONG: Duration = Duration::from_secs(600);

/// How much more memory may be taken after an hour than before, in KiB, by the slope.
const SLOPE: f64 = 4096.0;

/// Signatures that may run at a time, each in a session of its own, and one session that keeps the login.
const LANES: u64 = 2;

async fn soak(fault: &FaultP11) {
    let seconds = env::var("SEGL_SOAK_SECONDS").map_or(SECONDS, |seconds| seconds.parse().unwrap());
    let (time, begin) = (Duration::from_secs(seconds), Instant::now());
    let mut chance = Chance::seeded();
    let refusals = Refusals::default();
    tracing_subscriber::registry().with(refusals.clone()).init();

    let (stand, clock) = cable::stand().await;
    // The library lies where nobody else can write.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let load = Load::start(pipeline(fault, &stand, &clock, folder.path()), clock);
    load.all_renewed(LEFT).await;
    load.signs().await;

    let files = Files::of(&fault.hsm.tokens());
    let mut lost = 0;
    let mut met = BTreeMap::<String, usize>::new();
    let (mut calm, mut slowest) = (vec![Footprint::now()], Duration::ZERO);
    let mut times = vec![Instant::now()];
    while begin.elapsed() < time || calm.len() < 3 {
        for _ in 0..1 + chance.below(4) {
            let device = (chance.below(4) > 0).then(|| *chance.one_of(DEVICE));
            let away = (device.is_none() || chance.below(3) == 0).then(|| *chance.one_of(AWAY));
            for named in [device.map(|it| it.to_string()), away.map(|it| it.to_string())] {
                *met.entry(named.unwrap_or_default()).or_default() += 1;
            }
            device.inspect(|it| it.begin(fault));
            away.inspect(|it| it.begin(&stand));
            load.leap(chance.between(0, 90_000)).await;
            tokio::time::sleep(chance.between(50, 800)).await;
            load.leap(chance.between(0, 40_000)).await;
            tokio::time::sleep(chance.between(50, 400)).await;
            device.inspect(|it| it.end(fault));
            away.inspect(|it| it.end(&stand));
            lost += files.put_back();
        }
        let over = Instant::now();
        // Refusals are remembered for half a minute, and renewals pause for a whole one.
        load.leap(Duration::from_secs(61)).await;
        load.signs().await;
        slowest = slowest.max(over.elapsed());
        load.all_renewed(LEFT).await;
        calm.push(Footprint::now());
        times.push(Instant::now());
        let sessions = fault.calls("sessions");
        assert!(sessions <= LANES + 1, "{sessions} sessions are open");
    }
    let tally = load.end().await;
    met.remove("");
    assert!(tally.while_down + tally.failed + tally.unsigned > 0, "no fault was felt");
    println!(
        "{} s, {} faults of {} kinds:",
        begin.elapsed().as_secs(),
        met.values().sum::<usize>(),
        met.len()
    );
    for (named, times) in &met {
        println!("{times:6}  {named}");
    }
    println!(
        "{CALLERS} callers, {} requests: 0 failed with a usable token; {} were served while renewal failed",
        tally.answered(),
        tally.while_down,
    );
    println!(
        "without one {} failed, none later than {} ms after its deadline",
        tally.failed,
        tally.latest.as_millis()
    );
    println!("{} further requests were signed for, {} were not", tally.signed, tally.unsigned);
    println!(
        "{} calm moments; a signature at most {} ms after the end of all faults",
        calm.len(),
        slowest.as_millis()
    );
    println!(
        "{} wrong PINs; the library was initialized {} times, {} logins; most sessions at a time {}",
        fault.wrong_pins(),
        fault.calls("C_Initialize"),
        fault.calls("C_Login"),
        fault.most_sessions(),
    );
    println!("the authority refused: {refusals}; SoftHSM2 lost a file of its own {lost} times");
    assert_eq!(fault.wrong_pins(), 0);
    assert_eq!(refusals.of("MP-124"), 0, "a wrong signature has been sent");
    assert_eq!(refusals.of("MP-012"), 0, "a grant has been sent twice");
    // The first fifth, and the moment before all faults at least, are left out.
    let left_out = calm.len().div_ceil(5);
    let (calm, times) = (&calm[left_out..], &times[left_out..]);
    println!("memory by tenths of the time, KiB: {}", by_tenths(calm));
    nothing_grows(calm);
    let slope = slope(calm, times);
    println!("slope of the memory: {slope:.0} KiB an hour");
    assert!(begin.elapsed() < LONG || slope < SLOPE, "the memory grows");
}

/// Left of a token that was renewed after the faults.
const LEFT: Duration = Duration::from_secs(60);

/// What a program has that signs with the key of `fault`, through a copy of the module in `folder`.
fn pipeline(fault: &FaultP11, stand: &Stand, clock: &Arc<LeapingClock>, folder: &Path) -> Pipeline {
    let built = fault.hsm.folder();
    let library = folder.join("libfaultp11.so");
    fs::copy(built.join("libfaultp11.so"), &library).unwrap();
    let profile = format!(
        r#"{PROFILE}
[module]
env = ["SOFTHSM2_CONF"]
env_default = {{ FAULTP11_SCRIPT = "{script}", FAULTP11_COUNTS = "{counts}" }}
init_timeout_s = 3

[login]
flags_reliable = true

[session]
lanes = {LANES}

[sign]
call_timeout_s = 1
"#,
        script = built.join("faultp11.script").display(),
        counts = built.join("faultp11.counts").display(),
    );
    fs::write(folder.join("faultp11.toml"), profile).unwrap();
    let mut profiles = Profiles::embedded();
    profiles.load_dir(folder).unwrap();
    let key = format!("pkcs11:token=ci;object=grant?module-path={}", library.display());
    let config = stand.device_client(key, &fault.pair.spki, PIN);
    let config = Config::parse(&config, stand.folder()).unwrap();
    Pipeline::with_profiles(&config, clock.clone(), Arc::new(profiles)).unwrap()
}

/// What SoftHSM2 keeps of its device. It writes these files in place at each login, and one is empty for good when the
/// process is killed just then. No HSM does that, so they are put back as they were.
struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    fn of(tokens: &Path) -> Self {
        let devices = fs::read_dir(tokens).unwrap().map(|device| device.unwrap().path());
        let files = devices.flat_map(|device| fs::read_dir(device).unwrap()).map(|file| file.unwrap().path());
        let objects = files.filter(|file| file.extension().is_some_and(|kind| kind == "object"));
        Self(objects.map(|file| (file.clone(), fs::read(file).unwrap())).collect())
    }

    /// How many were lost.
    fn put_back(&self) -> usize {
        let lost = |(file, _): &&(PathBuf, Vec<u8>)| fs::metadata(file).is_ok_and(|found| found.len() == 0);
        let lost = self.0.iter().filter(lost);
        lost.inspect(|(file, content)| {
            let new = file.with_extension("new");
            fs::write(&new, content).unwrap();
            fs::rename(&new, file).unwrap();
        })
        .count()
    }
}

/// The memory of this process, in as many steps as there are moments for.
fn by_tenths(moments: &[Footprint]) -> String {
    let steps = moments.chunks(moments.len().div_ceil(10));
    let shown = steps.map(|step| median(step.iter().map(|at| at.own.memory)).to_string());
    shown.collect::<Vec<_>>().join(", ")
}

/// The memory of this process against time, by the middle of all slopes between two moments (Theil, Sen).
fn slope(moments: &[Footprint], times: &[Instant]) -> f64 {
    let moments: Vec<_> = moments.iter().zip(times).collect();
    let mut slopes = Vec::new();
    for (at, (first, earlier)) in moments.iter().enumerate() {
        for (second, later) in &moments[at + 1..] {
            let grown = second.own.memory as f64 - first.own.memory as f64;
            let hours = later.duration_since(**earlier).as_secs_f64() / 3600.0;
            slopes.push(grown / hours);
        }
    }
    median(slopes)
}
