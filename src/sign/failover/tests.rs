mod device;

use std::{collections::HashMap, sync::atomic::AtomicU32, time::Duration};

use aws_lc_rs::{rsa::PublicKeyComponents, signature::RSA_PKCS1_2048_8192_SHA256};
use proptest::prelude::*;
use rcgen::DnType;

use self::device::{Device, Mood};
use super::*;
use crate::{
    certificate::{
        Certificate,
        sample::{self, Authority, Pair, days},
    },
    clock::ManualClock,
    jose::{Algorithm, RsaPublicKey},
    sign::{CertificateSource, Credential, FileSigner, Identity, PinProblem, Watched},
};

fn clock() -> Arc<ManualClock> {
    ManualClock::at(sample::today())
}

fn broken() -> Mood {
    Mood::Fails(Error::Device { function: "C_Sign".into(), code: "CKR_DEVICE_ERROR".into() }, false)
}

fn pin_refused() -> Mood {
    let problem = PinProblem::Refused("CKR_PIN_INCORRECT".into());
    Mood::Fails(Error::Pin { device: "A".into(), problem }, false)
}

fn failover(devices: &[&Arc<Device>], clock: &Arc<ManualClock>) -> Failover {
    let mut members = devices.iter().map(|device| -> Arc<dyn Signer> { (*device).clone() });
    Failover::new(members.next().unwrap(), members, clock.clone())
}

fn message() -> MakeMessage {
    Box::new(|| b"header.payload".to_vec())
}

fn verifies(signed: &Signed, key: &RsaPublicKey) -> bool {
    let components = PublicKeyComponents { n: key.modulus(), e: key.exponent() };
    components.verify(&RSA_PKCS1_2048_8192_SHA256, &signed.message, &signed.signature).is_ok()
}

/// A certificate of `pair` for this organisation, valid in these days from today.
fn certificate(pair: &Pair, number: &str, from: i64, to: i64) -> Vec<Certificate> {
    let root = Authority::root("Rot");
    let mut params = sample::parameters("Virksomhet");
    params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), format!("NTRNO-{number}"));
    params.not_before = days(from).into();
    params.not_after = days(to).into();
    vec![root.issue(&params, pair), root.certificate]
}

fn pairs() -> [&'static Pair; 2] {
    Pair::shared()
}

const DIGDIR: &str = "991825827";
const CUSTOMS: &str = "974761343";

#[tokio::test]
async fn the_other_device_takes_over_within_the_same_call_and_under_the_same_generation() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = failover(&[&a, &b], &clock);
    let before = failover.key(&Call::new(&*clock)).await.unwrap();
    for (mood, made_first) in [(broken(), false), (broken(), true)] {
        let Mood::Fails(error, _) = mood else { unreachable!() };
        let call = Call::new(&*clock);
        a.set(Mood::Fails(error.clone(), made_first));
        let signed = failover.sign(&call, message()).await.unwrap();
        assert_eq!(signed.generation, before.generation);
        assert!(verifies(&signed, &before.public_key));
        assert_eq!(failover.health().trouble, Some(error));
        assert_eq!(failover.key(&call).await.unwrap().generation, before.generation);
        a.set(Mood::Well);
        clock.advance(Duration::from_secs(301));
        failover.key(&Call::new(&*clock)).await.unwrap();
        assert_eq!(failover.health().trouble, None, "it is seen to be well again");
        b.set(broken());
        assert!(failover.sign(&Call::new(&*clock), message()).await.is_ok(), "and takes over again");
        b.set(Mood::Well);
        clock.advance(Duration::from_secs(301));
    }
}

#[tokio::test]
async fn a_device_that_failed_is_left_alone_for_longer_each_time() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = failover(&[&a, &b], &clock);
    a.set(broken());
    let mut pauses = Vec::new();
    let mut pause = 0;
    while pauses.len() < 7 {
        failover.sign(&Call::new(&*clock), message()).await.unwrap();
        if a.asked() > 0 {
            pauses.push(pause);
            pause = 0;
        }
        clock.advance(Duration::from_millis(250));
        pause += 250;
    }
    assert_eq!(pauses, [0, 250, 500, 1000, 1000, 1000, 1000]);
}

#[tokio::test]
async fn a_device_that_refused_its_pin_is_never_asked_again_and_the_other_goes_on() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = failover(&[&a, &b], &clock);
    a.set(pin_refused());
    failover.sign(&Call::new(&*clock), message()).await.unwrap();
    assert_eq!(a.asked(), 1);
    for _ in 0..5 {
        clock.advance(Duration::from_secs(1000));
        failover.sign(&Call::new(&*clock), message()).await.unwrap();
    }
    assert_eq!(a.asked(), 0);
    let health = failover.health();
    assert!(matches!(health.trouble, Some(Error::Pin { .. })));
    assert_eq!(health.away, [], "nobody is told when it is asked again");
    b.set(broken());
    assert!(failover.sign(&Call::new(&*clock), message()).await.is_err());
    assert_eq!(a.asked(), 0, "not even when it is the last");
}

/// Signs within `time`, of which `share` passes each time that `hanging` is asked.
async fn sign_past(
    hanging: &Device,
    failover: &Arc<Failover>,
    time: Duration,
    share: Duration,
) -> Result<Signed, Error> {
    let clock = hanging.clock.clone();
    let signing = tokio::spawn({
        let (failover, clock) = (failover.clone(), clock.clone());
        async move { failover.sign(&Call::within(&*clock, time), message()).await }
    });
    while !signing.is_finished() {
        tokio::task::yield_now().await;
        if hanging.asked() > 0 {
            clock.advance(share);
        }
    }
    signing.await.unwrap()
}

#[tokio::test]
async fn a_device_that_hangs_leaves_the_other_its_share_of_the_time() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = Arc::new(failover(&[&a, &b], &clock));
    failover.key(&Call::new(&*clock)).await.unwrap();
    a.set(Mood::Hangs);
    // Half of what is left, for the proof that its key is there still.
    sign_past(&a, &failover, Duration::from_secs(60), Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn a_caller_in_a_hurry_says_nothing_of_a_device() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = Arc::new(failover(&[&a, &b], &clock));
    failover.key(&Call::new(&*clock)).await.unwrap();
    a.asked();
    a.set(Mood::Hangs);
    let signed = sign_past(&a, &failover, Duration::from_secs(1), Duration::from_millis(500)).await;
    signed.expect("the other one had half of the time");
    assert_eq!(failover.health(), Health { signatures: 1, ..Health::default() });
    a.set(Mood::Well);
    b.set(broken());
    failover.sign(&Call::new(&*clock), message()).await.expect("it is not left alone");
}

#[tokio::test]
async fn a_request_too_many_says_nothing_of_the_devices() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = failover(&[&a, &b], &clock);
    failover.sign(&Call::new(&*clock), message()).await.unwrap();
    let busy = Error::Busy { waiting: 64, after: Duration::from_secs(1) };
    [&a, &b].into_iter().for_each(|device| device.set(Mood::Fails(busy.clone(), false)));
    assert_eq!(failover.sign(&Call::new(&*clock), message()).await.unwrap_err(), busy);
    assert_eq!(failover.health(), Health { signatures: 1, ..Health::default() });
}

#[tokio::test]
async fn it_is_known_which_device_is_away_and_since_when() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = failover(&[&a, &b], &clock);
    let since = clock.wall();
    b.set(broken());
    for _ in 0..4 {
        failover.sign(&Call::new(&*clock), message()).await.unwrap();
        clock.advance(Duration::from_secs(2));
    }
    let away = failover.health().away;
    let Mood::Fails(said, _) = broken() else { unreachable!() };
    let [outage] = away.as_slice() else { panic!("{away:?}") };
    assert_eq!((outage.device.as_str(), outage.since), ("device 2 of this signer", since));
    assert_eq!(*outage.error, said);
    b.set(Mood::Well);
    clock.advance(Duration::from_secs(2));
    failover.sign(&Call::new(&*clock), message()).await.unwrap();
    assert_eq!(failover.health().away, []);
}

#[tokio::test]
async fn devices_that_are_known_to_be_back_are_called_away_no_more_though_nobody_asks() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let watched = Watched::new("hsm", Arc::new(failover(&[&a, &b], &clock)), clock.clone());
    a.set(broken());
    b.set(broken());
    watched.sign(&Call::new(&*clock), message()).await.unwrap_err();
    assert_eq!(said_by(&watched), (2, true, true));
    clock.advance(Duration::from_millis(1));
    a.is_found();
    assert_eq!(said_by(&watched), (1, true, false), "one that can sign is enough");
    b.is_found();
    assert_eq!(said_by(&watched), (0, false, false));
}

#[tokio::test]
async fn a_device_that_a_person_must_mend_keeps_no_other_from_being_called_back() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let watched = Watched::new("hsm", Arc::new(failover(&[&a, &b], &clock)), clock.clone());
    a.set(broken());
    b.set(Mood::Fails(Error::Certificate("none is there".into()), false));
    watched.sign(&Call::new(&*clock), message()).await.unwrap_err();
    assert_eq!(said_by(&watched), (2, true, true));
    clock.advance(Duration::from_millis(1));
    b.is_found();
    assert_eq!(said_by(&watched), (2, true, true), "its trouble is none that ends by itself");
    clock.advance(Duration::from_millis(1));
    a.is_found();
    assert_eq!(said_by(&watched), (1, true, false));
}

/// How many devices are away, whether anything is wrong, and whether that keeps the signer from signing.
fn said_by(watched: &Watched) -> (usize, bool, bool) {
    let health = watched.health();
    (health.away.len(), health.trouble.is_some(), health.trouble_since.is_some())
}

#[tokio::test]
async fn a_device_that_is_known_to_be_back_is_asked_before_its_pause_is_over() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = failover(&[&a, &b], &clock);
    b.set(broken());
    failover.sign(&Call::new(&*clock), message()).await.unwrap();
    assert_eq!(b.asked(), 1);
    clock.advance(Duration::from_millis(1));
    failover.sign(&Call::new(&*clock), message()).await.unwrap();
    assert_eq!(b.asked(), 0);
    b.is_found();
    failover.sign(&Call::new(&*clock), message()).await.unwrap();
    assert_eq!(b.asked(), 1);
}

#[test]
fn a_message_is_made_once_and_is_stale_after_five_seconds() {
    let clock = clock();
    let message = Message::new(message(), clock.clone());
    let (first, is_stale) = message.maker();
    let made = first();
    assert!(!is_stale.load(Ordering::SeqCst));
    clock.advance(Duration::from_secs(5));
    let (second, is_stale) = message.maker();
    assert_eq!(second(), made);
    assert!(!is_stale.load(Ordering::SeqCst));
    clock.advance(Duration::from_secs(1));
    let (third, is_stale) = message.maker();
    third();
    assert!(is_stale.load(Ordering::SeqCst));
}

#[tokio::test]
async fn of_different_keys_the_one_with_the_newest_valid_certificate_signs() {
    let clock = clock();
    let [old, new] = pairs();
    let a = Device::with(old, certificate(old, DIGDIR, -300, 60), &clock);
    let b = Device::with(new, certificate(new, DIGDIR, 10, 700), &clock);
    let signer: Arc<dyn Signer> = Arc::new(failover(&[&a, &b], &clock));
    let credential = Credential::new(Identity::Certificate(CertificateSource::Beside), signer.clone());
    let proven = credential.prove(&Call::new(&*clock)).await.unwrap();
    assert_eq!(proven.key().public_key, old.public_key(), "the other one is not valid yet");

    clock.advance(Duration::from_secs(11 * 86_400));
    let call = Call::new(&*clock);
    assert_eq!(proven.sign(&call, message()).await.unwrap_err(), Error::KeyChanged);
    let proven = credential.prove(&call).await.unwrap();
    assert_eq!(proven.key().public_key, new.public_key());
    assert_eq!(proven.chain().unwrap().leaf().public_key().unwrap(), new.public_key());
    assert!(verifies(&proven.sign(&call, message()).await.unwrap(), &new.public_key()));

    b.set(broken());
    assert_eq!(proven.sign(&call, message()).await.unwrap_err(), Error::KeyChanged);
    let proven = credential.prove(&call).await.unwrap();
    assert_eq!(proven.key().public_key, old.public_key(), "the old one steps in while it is valid");
    proven.sign(&call, message()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_was_renewed_beside_its_key_is_found_in_time() {
    let clock = clock();
    let [old, new] = pairs();
    let a = Device::with(old, certificate(old, DIGDIR, -300, 60), &clock);
    let b = Device::with(new, certificate(new, DIGDIR, -100, 700), &clock);
    let failover = failover(&[&a, &b], &clock);
    let key = failover.key(&Call::new(&*clock)).await.unwrap();
    assert_eq!(key.public_key, new.public_key());
    a.comes_back_with(old, certificate(old, DIGDIR, -1, 700));
    clock.advance(Duration::from_secs(601));
    assert_eq!(failover.key(&Call::new(&*clock)).await.unwrap().public_key, old.public_key());
}

#[tokio::test]
async fn a_kid_cannot_stand_for_two_keys() {
    let clock = clock();
    let [old, new] = pairs();
    let a = Device::with(old, certificate(old, DIGDIR, -300, 60), &clock);
    let b = Device::with(new, certificate(new, DIGDIR, -10, 700), &clock);
    let credential = Credential::new(Identity::KeyId("k".into()), Arc::new(failover(&[&a, &b], &clock)));
    let error = credential.prove(&Call::new(&*clock)).await.unwrap_err();
    assert_eq!(error, Error::SeveralKeys { reason: "a kid names one key".into() });
    assert!(!error.remedy().is_empty() && error.kind() == Fault::Configuration);
}

#[tokio::test]
async fn keys_of_two_organisations_and_keys_without_certificates_are_no_pair() {
    let clock = clock();
    let [one, two] = pairs();
    let a = Device::with(one, certificate(one, DIGDIR, -10, 60), &clock);
    let b = Device::with(two, certificate(two, CUSTOMS, -10, 60), &clock);
    let error = failover(&[&a, &b], &clock).key(&Call::new(&*clock)).await.unwrap_err().to_string();
    assert!(error.contains(DIGDIR) && error.contains(CUSTOMS), "{error}");
    let [a, b] = [one, two].map(|pair| Device::with(pair, Vec::new(), &clock));
    let error = failover(&[&a, &b], &clock).key(&Call::new(&*clock)).await.unwrap_err();
    assert_eq!(error.kind(), Fault::Configuration, "{error}");
}

#[tokio::test]
async fn nothing_is_touched_before_it_is_needed() {
    let clock = clock();
    let [a, b] = [0, 0].map(|pair| Device::with(pairs()[pair], Vec::new(), &clock));
    let failover = failover(&[&a, &b], &clock);
    assert_eq!((a.asked(), b.asked(), failover.health()), (0, 0, Health::default()));
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, usize),
    ComesBack(usize, usize),
    Advance(u64),
    Prove,
    Sign,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_usize, 0..4_usize).prop_map(|(device, mood)| Step::Set(device, mood)),
        (0..3_usize, 0..2_usize).prop_map(|(device, pair)| Step::ComesBack(device, pair)),
        (1..700_u64).prop_map(Step::Advance),
        Just(Step::Prove),
        Just(Step::Sign),
        Just(Step::Sign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_devices_do_a_signature_goes_by_the_generation_of_the_key_that_made_it(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let clock = clock();
            let certified = pairs().map(|pair| certificate(pair, DIGDIR, -10, 700));
            let devices = [0, 0, 1].map(|pair| Device::with(pairs()[pair], certified[pair].clone(), &clock));
            let signer: Arc<dyn Signer> = Arc::new(failover(&devices.each_ref(), &clock));
            let identity = Identity::Certificate(CertificateSource::Beside);
            let credential = Credential::new(identity, signer.clone());
            let mut names: HashMap<u64, RsaPublicKey> = HashMap::new();
            let mut proven = None;
            for step in steps {
                let call = Call::new(&*clock);
                match step {
                    Step::Set(device, 0) => devices[device].set(Mood::Well),
                    Step::Set(device, mood) => {
                        let Mood::Fails(error, _) = broken() else { unreachable!() };
                        devices[device].set(if mood == 3 { pin_refused() } else { Mood::Fails(error, mood == 1) });
                    }
                    Step::ComesBack(device, pair) => {
                        devices[device].comes_back_with(pairs()[pair], certified[pair].clone());
                    }
                    Step::Advance(seconds) => clock.advance(Duration::from_secs(seconds)),
                    Step::Prove => {
                        if let Ok(proof) = credential.prove(&call).await {
                            let key = proof.key();
                            let known = names.entry(key.generation).or_insert_with(|| key.public_key.clone());
                            assert_eq!(*known, key.public_key);
                            assert_eq!(proof.chain().unwrap().leaf().public_key().unwrap(), key.public_key);
                            proven = Some(proof);
                        }
                    }
                    Step::Sign => {
                        let Some(proof) = &proven else { continue };
                        let made = Arc::new(AtomicU32::new(0));
                        let count = made.clone();
                        let make: MakeMessage = Box::new(move || {
                            count.fetch_add(1, Ordering::SeqCst);
                            b"m".to_vec()
                        });
                        if let Ok(signed) = proof.sign(&call, make).await {
                            assert!(verifies(&signed, &proof.key().public_key));
                        }
                        assert!(made.load(Ordering::SeqCst) <= 1);
                    }
                }
            }
            // Whatever was, as soon as all is well and its time has come, there are signatures again.
            if devices.iter().all(|device| *device.mood.lock().unwrap() != pin_refused()) {
                devices.iter().for_each(|device| device.set(Mood::Well));
                clock.advance(Duration::from_secs(301));
                let call = Call::new(&*clock);
                let left = matches!(signer.health().trouble, Some(Error::Pin { .. }));
                if !left {
                    let proof = credential.prove(&call).await.unwrap();
                    proof.sign(&call, message()).await.unwrap();
                }
            }
        });
    }
}
