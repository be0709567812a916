//! What devices say of their PIN. To ask costs no try: nobody logs in.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{Named, trouble};
use crate::{
    call::Call,
    cli::{Context, failure::Failure},
    sign::{
        Error,
        pkcs11::{DeviceDescription, Manner, ModuleDescription, Modules, PinState, Uri},
    },
};

/// How long a library may take to show its devices.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a device says of its PIN, or why it says nothing.
#[derive(Serialize)]
pub(super) struct Told {
    /// As `label (serial)`; as it was named, when it does not answer.
    pub(super) device: String,
    /// Null when it does not answer.
    pin: Option<PinState>,
    problem: Option<String>,
}

impl Told {
    /// For people.
    pub(super) fn words(&self) -> String {
        let Some(pin) = self.pin else { return self.problem.clone().unwrap_or_default() };
        trouble(pin).unwrap_or("nothing: no wrong one was entered, or it does not tell").to_owned()
    }
}

/// Asks each of the devices.
pub(super) async fn ask(devices: &[Named], context: &Context) -> Result<Vec<Told>, Failure> {
    let work = async |modules: &Arc<Modules>| {
        let mut told = Vec::new();
        for Named { uri, profile } in devices {
            let mut answers = Vec::new();
            for library in modules.profiles().libraries_for(uri, profile.as_deref())? {
                let call = Call::within(context.clock(), PATIENCE);
                answers.push(modules.describe(&library, None, &call).await);
            }
            told.extend(told_of(uri, &answers));
        }
        Ok(told)
    };
    // In processes of their own: libraries that hang or crash cost a line.
    context.with_modules(|usual| Manner { look_around: true, ..usual }, work).await
}

fn told_of(uri: &Uri, answers: &[Result<ModuleDescription, Error>]) -> Vec<Told> {
    let slots = answers.iter().flatten().flat_map(|shown| &shown.slots).filter(|slot| slot.is_named_by(uri));
    let devices = slots.filter_map(|slot| slot.device.as_ref());
    let mut found: Vec<Told> =
        devices.filter(|device| device.initialized && device.is_named_by(uri)).map(told_by).collect();
    if found.is_empty() {
        let why = answers.iter().find_map(|answer| answer.as_ref().err()).map(ToString::to_string);
        let problem = why.unwrap_or_else(|| "it is not there".into());
        found.push(Told { device: uri.device().to_string(), pin: None, problem: Some(problem) });
    }
    found
}

fn told_by(device: &DeviceDescription) -> Told {
    Told { device: device.name(), pin: Some(device.pin), problem: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::keys::sample::device;

    #[test]
    fn what_a_device_calls_itself_steers_no_terminal() {
        let device = DeviceDescription { label: "a\u{1b}[2J\u{202e}".into(), ..device() };
        assert_eq!(told_by(&device).device, "a\u{fffd}[2J\u{fffd} (1)");
    }
}
