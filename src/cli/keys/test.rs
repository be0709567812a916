//! `segl keys test`: tries a key out on the device of whoever runs it, and writes down what a vendor's support or a new
//! profile needs to know.

mod report;
mod text;

use std::{io::Write, time::Duration};

use clap::{Args, ValueEnum};

use self::report::{Report, Trial, Verdict, reason};
use super::{
    Work, refused,
    target::{Target, uri_of},
};
use crate::{
    call::Call,
    cli::{failure::Failure, json},
    jose::Algorithm,
    pipeline,
    sign::{
        Error, Pkcs11Signer,
        pkcs11::{
            Device, FormOutcome, Pace, Particulars, Profile,
            profile::{AlwaysAuth, Finalize, LoginMode, SignForm},
        },
    },
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    target: Target,
    /// Sign in 1, 2, 4 … up to N threads at a time, under which some libraries crash [default: in one, and in as many
    /// as the device's profile allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    threads: Option<u8>,
    /// How long to sign in each number of threads
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Load the library even when others than root and you can change it
    #[arg(long)]
    trust_module: bool,
    /// Show labels, serial numbers and the reader's name, too
    #[arg(long)]
    serials: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Lines for people
    Table,
    /// JSON
    Json,
}

/// What Maskinporten takes.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];

/// For one trial, beside what it is to last; a library that hangs is ended earlier, by its profile's limits.
const PATIENCE: Duration = Duration::from_secs(240);

impl Command {
    /// Whether libraries are loaded that others can change.
    pub(super) fn trusts_any(&self) -> bool {
        self.trust_module
    }
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = command.target.resolve(work)?;
    let uri = uri_of(&signer, "no device can be tried")?.clone();
    let typed = [&signer.pin, &signer.sign_pin].into_iter().flatten().any(|pin| !pin.are_unattended());
    let device = pipeline::signing_device(&work.modules, uri, &signer);
    let key = Pkcs11Signer::new(device, signer.algorithm)?;
    let device = key.device();
    let profile = device.profile()?;
    let seen = device.particulars(&work.call).await.map_err(|error| refused(error).for_good())?;

    // Without a source, the PIN of a device that wants one was typed on its own pad.
    let logs_in = match profile.login.mode {
        LoginMode::None => false,
        LoginMode::Always => true,
        LoginMode::Auto => seen.login_required,
    };
    let person = typed || (logs_in && signer.pin.is_none());
    let mut trials =
        Trials { device, work, seen: &seen, person, lost: false, halted: None, done: Vec::new() };
    if seen.key.is_ok() {
        trials.all(&command, &profile).await;
    }
    let trials = trials.done;
    let report = Report::new(&seen, &profile, trials, command.serials);
    match command.output {
        Output::Json => json::write(&report, out)?,
        Output::Table => out.write_all(text::text(&report).as_bytes())?,
    }
    conclusion(&report)
}

/// What the exit code says.
fn conclusion(report: &Report) -> Result<(), Failure> {
    if !report.signs() {
        let why = match &report.problem {
            Some(why) => format!("the key cannot be used: {why}"),
            None => "the key signs in no form that Maskinporten takes".into(),
        };
        return Err(Failure::needs_person(
            why,
            "Use an RSA key of 2048 bits or more that may sign; the report says what the device answered.",
        ));
    }
    let odd = report.trials.iter().filter(|trial| trial.odd).count();
    if odd == 0 {
        return Ok(());
    }
    Err(Failure::needs_attention(
        format!("{odd} of {} trials did not go as the device says they should", report.trials.len()),
        "The key can be used. Send the report to the vendor's support, or to us with a profile.",
    ))
}

/// The trials, one after another.
struct Trials<'a> {
    device: &'a Device,
    work: &'a Work<'a>,
    seen: &'a Particulars,
    /// A PIN is typed by a person, whom each login would trouble.
    person: bool,
    /// The library's process ended in a trial: the next one begins with a login.
    lost: bool,
    /// Why nothing more is tried.
    halted: Option<String>,
    done: Vec<Trial>,
}

impl Trials<'_> {
    async fn all(&mut self, command: &Command, profile: &Profile) {
        // One PIN for each signature: from a file as many as one likes, from a person as few as possible.
        let often = match profile.sign.always_auth {
            AlwaysAuth::Attribute => {
                self.seen.key.as_ref().is_ok_and(|key| key.always_authenticate == Some(true))
            }
            AlwaysAuth::Yes => true,
            AlwaysAuth::No => false,
        };
        let sparing = often && self.person;
        let mut works = None;
        for algorithm in ALGORITHMS {
            for form in profile.sign.ladder.iter().copied() {
                let what = format!("{algorithm}, {}", form_name(form));
                if sparing && works.is_some() {
                    self.leave_out(what, "each signature wants a PIN to be typed");
                } else if self.form(what, algorithm, form).await {
                    works = works.or(Some((algorithm, form)));
                }
            }
        }
        let Some((algorithm, form)) = works else { return };
        for threads in thread_counts(command.threads, profile.session.lanes) {
            let what = match threads {
                1 => "one after another".to_owned(),
                _ => format!("in {threads} threads"),
            };
            if sparing {
                self.leave_out(what, "each signature wants a PIN to be typed");
            } else if threads > 1 && !profile.module.os_locking {
                self.leave_out(what, "the profile says that this library is for one thread");
            } else {
                let time = Duration::from_secs(command.seconds);
                self.pace(what, algorithm, form, threads, time).await;
            }
        }
        let what = "a new start and login".to_owned();
        if self.person {
            self.leave_out(what, "it wants a PIN to be typed once more");
        } else {
            self.renewal(what, algorithm, form, profile.module.finalize).await;
        }
    }

    /// Whether the key signs in this form.
    async fn form(&mut self, what: String, algorithm: Algorithm, form: SignForm) -> bool {
        let tried = self.step(&what, async |device, call| device.try_form(algorithm, form, call).await).await;
        let Some(tried) = tried else { return false };
        let listed = self.seen.lists(&tried.mechanism);
        let allowed = self.seen.key.as_ref().ok().and_then(|key| key.allowed.as_ref());
        let allowed = allowed.is_none_or(|allowed| allowed.contains(&tried.mechanism));
        let claims = match (listed, allowed) {
            (Some(false), _) => "; the device does not list it",
            (_, false) => "; CKA_ALLOWED_MECHANISMS leaves it out",
            (Some(true) | None, true) => "",
        };
        let (verdict, detail) = self.judged(&tried.outcome);
        let detail = detail.unwrap_or_else(|| milliseconds(tried.took));
        self.done.push(Trial {
            what,
            verdict,
            detail: format!("{detail}{claims}"),
            // A device that says beforehand what it does not do does as it says.
            odd: verdict == Verdict::Wrong || (verdict != Verdict::Ok && claims.is_empty()),
            mechanism: Some(tried.mechanism),
            pace: None,
        });
        verdict == Verdict::Ok
    }

    async fn pace(
        &mut self,
        what: String,
        algorithm: Algorithm,
        form: SignForm,
        threads: u8,
        time: Duration,
    ) {
        let pace = self
            .step(&what, async |device, call| device.try_pace(algorithm, form, threads, time, call).await)
            .await;
        let Some(pace) = pace else { return };
        let Pace { wrong, failed, no_more_sessions, .. } = &pace;
        let mut detail = format!(
            "{:.1} signatures a second, half of them within {}, all within {}",
            report::rate(&pace),
            milliseconds(pace.median),
            milliseconds(pace.slowest),
        );
        if pace.threads < threads {
            let why = no_more_sessions.as_ref().map(|why| format!(": {}", reason(why))).unwrap_or_default();
            detail += &format!("; the device has sessions for {} of {threads}{why}", pace.threads);
        }
        if *wrong > 0 {
            detail += &format!("; {wrong} of {} do not verify", pace.signatures + wrong);
        }
        if let Some(why) = failed {
            detail += &format!("; then {}", reason(why));
            self.heed(why);
        }
        let verdict = match (wrong, failed) {
            (1.., _) => Verdict::Wrong,
            (0, Some(_)) => Verdict::Failed,
            (0, None) => Verdict::Ok,
        };
        let odd = verdict != Verdict::Ok;
        self.done.push(Trial { what, mechanism: None, verdict, detail, odd, pace: Some((&pace).into()) });
    }

    async fn renewal(&mut self, what: String, algorithm: Algorithm, form: SignForm, end: Finalize) {
        let tried =
            self.step(&what, async |device, call| device.try_renewal(algorithm, form, call).await).await;
        let Some(tried) = tried else { return };
        let (verdict, detail) = self.judged(&tried.signed);
        let mut detail = detail.unwrap_or_else(|| "signs again".into());
        if end == Finalize::Skip {
            detail += "; without C_Finalize, as the profile says";
        }
        if let Some(why) = &tried.ended {
            detail += &format!("; at the end, {}", reason(why));
        }
        let odd = verdict != Verdict::Ok || tried.ended.is_some();
        self.done.push(Trial { what, mechanism: None, verdict, detail, odd, pace: None });
    }

    fn judged(&mut self, outcome: &FormOutcome) -> (Verdict, Option<String>) {
        match outcome {
            FormOutcome::Signed => (Verdict::Ok, None),
            FormOutcome::Wrong => (Verdict::Wrong, Some("the signature does not verify".into())),
            FormOutcome::Refused(why) => (Verdict::Refused, Some(reason(why))),
            FormOutcome::Failed(why) => {
                self.heed(why);
                (Verdict::Failed, Some(reason(why)))
            }
        }
    }

    /// Does `act`, unless nothing more may be tried; what keeps it from having a result is a line by itself.
    async fn step<T>(
        &mut self,
        what: &str,
        act: impl AsyncFnOnce(&Device, &Call) -> Result<T, Error>,
    ) -> Option<T> {
        if self.lost && self.halted.is_none() {
            if self.person {
                self.halted = Some("it wants a PIN to be typed once more".into());
            } else if let Err(error) = self.device.particulars(&self.call()).await {
                self.halted = Some(format!("the device did not come back: {}", reason(&error)));
            }
            self.lost = false;
        }
        if let Some(why) = self.halted.clone() {
            self.leave_out(what.to_owned(), &why);
            return None;
        }
        let error = match act(self.device, &self.call()).await {
            Ok(result) => return Some(result),
            Err(error) => error,
        };
        self.heed(&error);
        // With a deadline that passes, the process is ended, too.
        self.lost = matches!(error, Error::Host { .. } | Error::Deadline);
        let verdict = if self.lost { Verdict::Crashed } else { Verdict::Failed };
        let (what, detail) = (what.to_owned(), reason(&error));
        self.done.push(Trial { what, mechanism: None, verdict, detail, odd: true, pace: None });
        None
    }

    /// After trouble with a PIN, no other login is tried.
    fn heed(&mut self, error: &Error) {
        if matches!(error, Error::Pin { .. }) {
            self.halted = Some("after trouble with the PIN, nothing more is tried".into());
        }
    }

    fn leave_out(&mut self, what: String, why: &str) {
        let detail = why.to_owned();
        let verdict = Verdict::LeftOut;
        self.done.push(Trial { what, mechanism: None, verdict, detail, odd: false, pace: None });
    }

    fn call(&self) -> Call {
        Call::within(self.work.context.clock(), PATIENCE)
    }
}

/// Numbers of threads to sign in.
fn thread_counts(asked: Option<u8>, lanes: u8) -> Vec<u8> {
    let mut counts = match asked {
        None => vec![1, lanes.max(1)],
        Some(most) => [1, 2, 4, 8, 16, 32].into_iter().filter(|count| *count < most).chain([most]).collect(),
    };
    counts.dedup();
    counts
}

fn form_name(form: SignForm) -> &'static str {
    match form {
        SignForm::HashAndSign => "hashed by the device",
        SignForm::Raw => "hashed by Segl",
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_double_up_to_what_was_asked_for_and_are_the_profile_s_otherwise() {
        assert_eq!(thread_counts(None, 1), [1]);
        assert_eq!(thread_counts(None, 4), [1, 4]);
        assert_eq!(thread_counts(Some(1), 4), [1]);
        assert_eq!(thread_counts(Some(4), 1), [1, 2, 4]);
        assert_eq!(thread_counts(Some(6), 1), [1, 2, 4, 6]);
        assert_eq!(thread_counts(Some(32), 1).last(), Some(&32));
    }
}
