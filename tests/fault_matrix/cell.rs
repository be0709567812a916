//! One cell: the fault comes at its phase, lasts for one call or for a while, and ends.

use std::{sync::Arc, time::Duration};

use segl::sign::{
    Error, Pkcs11Signer,
    pkcs11::{Modules, Pin},
};
use tokio::time::{Instant, sleep};

use crate::{
    figures::Seen,
    login,
    rows::{End, Fault, HANG, LEAK, Phase, Row, WHILE},
    stand::{Bench, call, good_pins, run as run_here},
};

/// A device that does not sign for so long after a fault has ended never will. How long it took is among the figures;
/// what must hold on a busy machine, too, is how often the library is started for it.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// The library is started for a recovery this often at most: the start that was under way, and one more.
const STARTS: u64 = 2;

/// A fault lasts for so many failures or signatures at least.
const FAILURES: u64 = 2;
const SIGNATURES: u64 = 3;

/// Starts of a library that fails before there are pauses between them: one for a login that is refused, and three each
/// for the three requests after which a device is left alone (it is started, initialized anew, started in a new process).
const AT_ONCE: u64 = 10;

/// Starts for each time that a device is asked whether it is back: one for the question, and one for the request that is
/// let through when it is answered.
const EACH: u64 = 2;

/// The first pause between two such times, and the longest, as in the default profile; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));

/// Calls of the module for one request, at most.
const CALLS: u64 = 300;

/// How long a call is held that returns in the end.
const HELD: Duration = Duration::from_millis(300);

/// Runs the cell of `row` and `phase`, with the library in a child of this process.
pub(crate) fn run(bench: &Bench, row: &Row, phase: Phase, end: End) -> Result<Seen, String> {
    run_here(Cell::new(bench, row, phase, end, "").all())
}

pub(crate) struct Cell<'a> {
    pub(crate) bench: &'a Bench,
    row: &'a Row,
    phase: Phase,
    pub(crate) end: End,
    /// Fields of `[module]` in the profile.
    fields: String,
    pub(crate) seen: Seen,
}

impl<'a> Cell<'a> {
    pub(crate) fn new(bench: &'a Bench, row: &'a Row, phase: Phase, end: End, fields: &str) -> Self {
        let fields = format!("{fields}{}", row.profile().1);
        Self { bench, row, phase, end, fields, seen: Seen { cells: 1, ..Seen::default() } }
    }

    pub(crate) async fn all(mut self) -> Result<Seen, String> {
        let wrong = self.bench.wrong_pins();
        match self.row.fault {
            Fault::Be(_) => self.lasting().await?,
            Fault::Hold => self.once(self.functions()[0], self.phase.is_warm()).await?,
            Fault::Answer(_) | Fault::Act(_) if self.phase == Phase::Login && self.end != End::Harmless => {
                login::run(&mut self).await?;
                return Ok(self.seen);
            }
            Fault::Answer(_) | Fault::Act(_) => {
                let functions = self.functions();
                for function in functions.iter().take(if self.row.thorough { functions.len() } else { 1 }) {
                    self.once(function, self.phase.is_warm()).await?;
                }
                if self.row.thorough && matches!(self.phase, Phase::SignInit | Phase::Sign) {
                    // Its very first signature.
                    self.once(functions[0], false).await?;
                }
                if self.phase != Phase::Idle || self.end == End::Harmless {
                    self.lasting().await?;
                }
            }
        }
        match self.bench.wrong_pins() - wrong {
            0 => Ok(self.seen),
            wrong => Err(format!("{wrong} wrong PINs")),
        }
    }

    fn functions(&self) -> &'static [&'static str] {
        self.phase.calls(&self.row.fault)
    }

    /// What is done to a call, in the language of the script.
    pub(crate) fn action(&self) -> String {
        match self.row.fault {
            Fault::Answer(code) => format!("answer {code}"),
            Fault::Act(act) => act.to_owned(),
            Fault::Hold => "hold".to_owned(),
            Fault::Be(_) => String::new(),
        }
    }

    pub(crate) fn modules(&self, tables: &str) -> Arc<Modules> {
        self.bench.modules(&self.fields, &format!("{tables}\n{}", self.row.profile().0))
    }

    /// A signer; a `warm` one has signed.
    async fn signer(&mut self, warm: bool) -> Result<(Arc<Modules>, Pkcs11Signer), String> {
        self.bench.behave();
        let modules = self.modules("");
        let signer = self.bench.signer(&modules, good_pins());
        if warm {
            self.ask(&signer).await.map_err(|error| format!("before the fault: {error}"))?;
        }
        Ok((modules, signer))
    }

    pub(crate) fn signer_with(&self, modules: &Arc<Modules>, pin: Pin) -> Pkcs11Signer {
        self.bench.signer(modules, pin)
    }

    pub(crate) async fn ask(&mut self, signer: &Pkcs11Signer) -> Result<(), Error> {
        let outcome = self.bench.ask(signer).await;
        self.seen.requests += 1;
        self.seen.signatures += u64::from(outcome.is_ok());
        outcome
    }

    /// The fault befalls one call of `function`.
    async fn once(&mut self, function: &str, warm: bool) -> Result<(), String> {
        let (modules, signer) = self.signer(warm).await?;
        let before = Counts::now(self.bench);
        let met = self.bench.calls(function);
        let outcome = match self.row.fault {
            Fault::Hold => {
                self.bench.script([self.bench.next(function, "hold")]);
                let bench = self.bench;
                let release = async {
                    sleep(HELD).await;
                    bench.behave();
                };
                tokio::join!(self.ask(&signer), release).0
            }
            HANG if self.phase == Phase::Idle => {
                self.bench.signal("STOP");
                self.ask(&signer).await
            }
            _ => {
                self.bench.script([self.bench.next(function, &self.action())]);
                if self.phase == Phase::Idle {
                    self.wait_for(function, met).await?;
                }
                self.ask(&signer).await
            }
        };
        if let Err(error) = &outcome {
            self.check_reason(error)?;
            if self.end == End::Harmless {
                return Err(format!("{function}: {error}"));
            }
        }
        self.seen.once += 1;
        self.seen.mended += u64::from(outcome.is_ok());
        self.bench.behave();
        self.recover(&signer).await.map_err(|why| format!("after one {function}: {why}"))?;
        // A process that was stopped met that by itself, whether or not it called anything before or after.
        let is_stopped = self.row.fault == HANG && self.phase == Phase::Idle;
        if !is_stopped && self.bench.calls(function) == met {
            return Err(format!("{function} was not called"));
        }
        before.check(self.bench, self.row)?;
        modules.shutdown(&call()).await.map_err(|error| error.to_string())
    }

    /// Until the module has met its fault by itself, which may have ended its process.
    async fn wait_for(&self, function: &str, met: u64) -> Result<(), String> {
        let begun = Instant::now();
        while self.bench.calls(function) == met {
            if begun.elapsed() > LONGEST {
                return Err(format!("the module did not come to {function}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(30)).await;
        Ok(())
    }

    /// The fault lasts for a while.
    async fn lasting(&mut self) -> Result<(), String> {
        let (modules, signer) = self.signer(self.phase.is_warm()).await?;
        let before = Counts::now(self.bench);
        let (calls, requests) = (self.bench.all_calls(), self.seen.requests);
        self.bench.script(self.lines());
        let begun = Instant::now();
        let (mut failures, mut signatures, mut last) = (0, 0, None);
        let lasts = Duration::from_millis(self.row.lasts);
        // A process that grows is replaced while it does.
        let (bench, process) = (self.bench, self.bench.process());
        let grows = self.row.fault == LEAK;
        let is_to_be_replaced = || grows && bench.process() == process;
        while begun.elapsed() < lasts
            || (failures < FAILURES && signatures < SIGNATURES)
            || (is_to_be_replaced() && begun.elapsed() < LONGEST)
        {
            match self.ask(&signer).await {
                Ok(()) => signatures += 1,
                Err(error) => {
                    failures += 1;
                    self.check_reason(&error)?;
                    if self.end == End::Harmless {
                        return Err(format!("while it lasts: {error}"));
                    }
                    last = Some(error);
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        if failures == 0 && self.end != End::Harmless {
            return Err("nobody noticed it while it lasted".into());
        }
        if is_to_be_replaced() {
            return Err("it has grown beyond its limit, and was not replaced".into());
        }
        if self.row.for_good {
            return modules.shutdown(&call()).await.map_err(|error| error.to_string());
        }
        self.check_pace(
            &before,
            begun.elapsed(),
            self.bench.all_calls() - calls,
            self.seen.requests - requests,
            failures,
        )?;
        self.bench.behave();
        match self.end {
            End::Person | End::PersonUnlessClean => {
                self.stays_stopped(&signer, before.logins, last.as_ref()).await?;
            }
            End::Harmless | End::Recovers | End::No(_) => {
                self.recover(&signer).await?;
                before.check(self.bench, self.row)?;
            }
        }
        modules.shutdown(&call()).await.map_err(|error| error.to_string())
    }

    /// The script of a fault that lasts.
    fn lines(&self) -> Vec<String> {
        let function = self.functions()[0];
        match (self.row.fault, self.phase) {
            (Fault::Be(lines), Phase::Load | Phase::Idle) => {
                lines.iter().map(|line| (*line).to_owned()).collect()
            }
            (Fault::Be(lines), _) => {
                let first = self.bench.calls(function) + 1;
                lines.iter().map(|line| format!("from {function} {first} {line}")).collect()
            }
            _ => vec![self.bench.onwards(function, &self.action())],
        }
    }

    /// Nobody runs in circles: neither around the library nor, for one request, within it.
    fn check_pace(
        &mut self,
        before: &Counts,
        time: Duration,
        calls: u64,
        requests: u64,
        failures: u64,
    ) -> Result<(), String> {
        // A fault that is mended within each request costs what the requests ask for.
        if failures > 0 {
            let starts = self.bench.calls("C_Initialize").max(self.bench.calls("loading")) - before.starts;
            if self.row.lasts == WHILE {
                self.seen.starts_in_short = self.seen.starts_in_short.max(starts);
            } else {
                self.seen.starts_in_long = self.seen.starts_in_long.max(starts);
            }
            let allowed = AT_ONCE + EACH * pauses(time);
            if starts > allowed {
                return Err(format!("{starts} starts in {} ms", time.as_millis()));
            }
        }
        if calls > CALLS * requests {
            return Err(format!("{calls} calls for {requests} requests"));
        }
        Ok(())
    }

    /// Asks as a caller does, who tries again until it works.
    pub(crate) async fn recover(&mut self, signer: &Pkcs11Signer) -> Result<(), String> {
        let starts = self.bench.calls("C_Initialize");
        let ended = Instant::now();
        let mut first: Option<String> = None;
        loop {
            match self.ask(signer).await {
                Ok(()) => break,
                Err(error) if ended.elapsed() > LONGEST => {
                    let first = first.unwrap_or_default();
                    return Err(format!("no signature any more: {error}; at first: {first}"));
                }
                Err(error) => {
                    first.get_or_insert(error.to_string());
                    sleep(Duration::from_millis(5)).await;
                }
            }
        }
        let starts = self.bench.calls("C_Initialize") - starts;
        self.seen.recovered(ended.elapsed(), starts);
        if starts > STARTS {
            return Err(format!("{starts} starts after the end of the fault"));
        }
        Ok(())
    }

    /// A login that may have been a wrong one is not tried again, though nothing goes wrong any more. `last` was said
    /// while it did.
    async fn stays_stopped(
        &mut self,
        signer: &Pkcs11Signer,
        logins: u64,
        last: Option<&Error>,
    ) -> Result<(), String> {
        match (self.bench.calls("C_Login") - logins, last) {
            // It was not even tried: the device says itself that it should not be.
            (0, Some(Error::Pin { .. })) => {}
            (0, _) => return Err(format!("no login, and not for the sake of the PIN: {last:?}")),
            (1, _) => self.waits_for_a_person(signer).await?,
            (more, _) => return Err(format!("{more} logins while it lasted")),
        }
        self.seen.persons += 1;
        self.bench.unblock();
        self.recover(signer).await.map_err(|why| format!("after a person came: {why}"))
    }

    /// Every request is refused for the sake of the PIN, without a login.
    pub(crate) async fn waits_for_a_person(&mut self, signer: &Pkcs11Signer) -> Result<(), String> {
        let logins = self.bench.calls("C_Login");
        let begun = Instant::now();
        let mut refusals = 0;
        // A process that has just ended is not started anew at once: until then, that is the answer.
        while refusals < 2 {
            match self.ask(signer).await {
                Err(Error::Pin { .. }) => refusals += 1,
                Ok(()) => return Err("signed, though no person has come".into()),
                Err(error) if begun.elapsed() > LONGEST => {
                    return Err(format!("{error} is not about the PIN"));
                }
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
        match self.bench.calls("C_Login") - logins {
            0 => Ok(()),
            more => Err(format!("{more} logins, though no person has come")),
        }
    }

    /// An error says what failed: the library, the device or what it answered.
    pub(crate) fn check_reason(&self, error: &Error) -> Result<(), String> {
        let said = error.to_string();
        let named = ["libfaultp11.so", "token=ci", "ci (", "C_"].iter().any(|name| said.contains(name));
        let is_own = matches!(error, Error::WrongSignature | Error::KeyChanged);
        if named || is_own { Ok(()) } else { Err(format!("it is not said what failed: {said}")) }
    }
}

/// How many pauses are over after this time.
fn pauses(time: Duration) -> u64 {
    let (mut pause, longest) = PAUSES;
    let (mut over, mut number) = (pause, 0);
    while over <= time {
        pause = (pause * 2).min(longest);
        over += pause;
        number += 1;
    }
    number
}

/// Logins and starts so far.
struct Counts {
    logins: u64,
    starts: u64,
}

impl Counts {
    fn now(bench: &Bench) -> Self {
        Self {
            logins: bench.calls("C_Login"),
            starts: bench.calls("C_Initialize").max(bench.calls("loading")),
        }
    }

    /// A right PIN is given no more often than the library is started; twice, where the device denies a login that it
    /// confirms: it may want another for each signature.
    fn check(&self, bench: &Bench, row: &Row) -> Result<(), String> {
        let now = Self::now(bench);
        let (logins, starts) = (now.logins - self.logins, now.starts - self.starts);
        let each = if matches!(row.fault, Fault::Answer("CKR_USER_NOT_LOGGED_IN")) { 2 } else { 1 };
        if logins > each * starts { Err(format!("{logins} logins and {starts} starts")) } else { Ok(()) }
    }
}
