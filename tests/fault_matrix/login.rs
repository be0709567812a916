//! The column of C_Login: what fails there may have been a wrong PIN, so it is not tried again, except where the device
//! is known to tell truthfully that it was none.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    cell::{Cell, LONGEST},
    rows::End,
    stand::{PIN, WRONG_PIN, call, pin},
};

/// Ways in which the same fault may meet a login.
struct Case {
    what: &'static str,
    pin: &'static str,
    /// The profile says that the device's PIN flags tell the truth.
    reliable: bool,
    /// What the device is like besides; `{}` stands for the number of the login.
    script: &'static [&'static str],
    /// The fault lasts.
    lasting: bool,
    /// The device says truthfully that no wrong PIN was entered.
    clean: bool,
}

const CASES: [Case; 6] = [
    Case {
        what: "flags that nobody relies on",
        pin: PIN,
        reliable: false,
        script: &[],
        lasting: false,
        clean: false,
    },
    Case {
        what: "clean flags",
        pin: PIN,
        reliable: true,
        script: &["pin-tries 5"],
        lasting: false,
        clean: true,
    },
    Case {
        what: "clean flags, and again",
        pin: PIN,
        reliable: true,
        script: &["pin-tries 5"],
        lasting: true,
        clean: true,
    },
    Case {
        what: "flags that tell of a wrong PIN",
        pin: PIN,
        reliable: true,
        script: &["pin-tries 5", "from C_Login {} pin-spent 1"],
        lasting: false,
        clean: false,
    },
    Case {
        what: "a wrong PIN",
        pin: WRONG_PIN,
        reliable: false,
        script: &["pin-tries 5"],
        lasting: false,
        clean: false,
    },
    Case {
        what: "a wrong PIN and reliable flags",
        pin: WRONG_PIN,
        reliable: true,
        script: &["pin-tries 5"],
        lasting: false,
        clean: false,
    },
];

pub(crate) async fn run(cell: &mut Cell<'_>) -> Result<(), String> {
    for case in &CASES {
        one(cell, case).await.map_err(|why| format!("{}: {why}", case.what))?;
    }
    Ok(())
}

async fn one(cell: &mut Cell<'_>, case: &Case) -> Result<(), String> {
    let bench = cell.bench;
    bench.behave();
    bench.unblock();
    let modules = cell.modules(if case.reliable { "[login]\nflags_reliable = true\n" } else { "" });
    let signer = cell.signer_with(&modules, pin(case.pin));
    let (logins, wrong) = (bench.calls("C_Login"), bench.wrong_pins());
    let action = match cell.action() {
        // The device has seen the wrong PIN by then.
        action if case.pin == WRONG_PIN && !action.starts_with("after ") => format!("after {action}"),
        action => action,
    };
    let rule = if case.lasting { bench.onwards("C_Login", &action) } else { bench.next("C_Login", &action) };
    let number = (logins + 1).to_string();
    let device: Vec<String> = case.script.iter().map(|line| line.replace("{}", &number)).collect();
    bench.script(device.iter().chain([&rule]));

    let met = cell.ask(&signer).await;
    if let Err(error) = &met {
        cell.check_reason(error)?;
    }
    let tries_again = cell.end == End::PersonUnlessClean && case.clean;
    if tries_again && !case.lasting {
        cell.recover(&signer).await?;
        expect("logins", bench.calls("C_Login") - logins, 2)?;
    } else {
        // One that may be tried again is tried when the first pause is over.
        let begun = Instant::now();
        let mut asked = 0;
        while asked < 3 || (tries_again && bench.calls("C_Login") - logins < 2 && begun.elapsed() < LONGEST) {
            if cell.ask(&signer).await.is_ok() {
                return Err("signed, though no person has come".into());
            }
            asked += 1;
            sleep(Duration::from_millis(20)).await;
        }
        expect("logins", bench.calls("C_Login") - logins, if tries_again { 2 } else { 1 })?;
        // Nothing goes wrong any more, and still it waits.
        bench.script(&device);
        cell.waits_for_a_person(&signer).await?;
        cell.seen.persons += 1;
        bench.behave();
        bench.unblock();
        let corrected = cell.signer_with(&modules, pin(PIN));
        cell.recover(&corrected).await.map_err(|why| format!("after a person came: {why}"))?;
    }
    let spent = bench.wrong_pins() - wrong;
    cell.seen.wrong_pins = cell.seen.wrong_pins.max(spent);
    expect("wrong PINs", spent, u64::from(case.pin == WRONG_PIN))?;
    modules.shutdown(&call()).await.map_err(|error| error.to_string())
}

fn expect(what: &str, found: u64, wanted: u64) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{found} {what}, not {wanted}")) }
}
