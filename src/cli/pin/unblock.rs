//! `segl pin unblock NAME`: a person says that a PIN may be tried again.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::{kept, named, say, sentence, status::last_try};
use crate::{
    cli::{Context, failure::Failure},
    sign::pkcs11::PinRecords,
};

#[derive(Debug, Args)]
pub(super) struct Command {
    /// Name of a [signers.NAME] table, PKCS#11 URI of a device, or name of a record as `segl pin status` shows it
    #[arg(value_name = "NAME|URI|RECORD")]
    device: String,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(command: Command, context: &Context) -> Result<(), Failure> {
    let records = PinRecords::Usual;
    let is_record = command.device.starts_with("pin-") && command.device.ends_with(".json");
    let devices = if is_record { Vec::new() } else { named(&command.device, context)? };
    let profiles = context.profiles()?;
    let mut doomed = Vec::new();
    for (name, record) in kept(&records)? {
        let line = match &record {
            Ok(record)
                if name == command.device || devices.iter().any(|it| it.may_have(record, &profiles)) =>
            {
                format!("{}: {} spent; {}", record.device(), tries(record.spent), last_try(record))
            }
            Err(problem) if name == command.device => sentence(problem).0,
            _ => continue,
        };
        say(&line);
        doomed.push(name);
    }
    if doomed.is_empty() {
        say("Nothing is blocked there.");
        return Ok(());
    }
    say(
        "Unblocked, the next PIN is tried, whichever it is. How many tries the device has left is known to the device \
         alone; one that has none left locks, and some are lost then. Make sure that the PIN is right now.",
    );
    if !command.yes && !is_confirmed()? {
        return Err(Failure::needs_person("nothing was unblocked", "Type yes to have it unblocked."));
    }
    for name in doomed {
        records.forget(&name).map_err(|problem| {
            let (what, remedy) = sentence(&problem);
            Failure::needs_person(what, remedy)
        })?;
    }
    say("unblocked");
    Ok(())
}

fn tries(spent: u8) -> String {
    if spent == 1 { "1 try".to_owned() } else { format!("{spent} tries") }
}

/// Whether the person at the terminal says yes.
fn is_confirmed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::needs_person(
            "nobody is there to say whether it may be unblocked",
            "Run it on a terminal, or say --yes.",
        ));
    }
    let _ = write!(io::stderr(), "Unblock it? Type yes: ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
