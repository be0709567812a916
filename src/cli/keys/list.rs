//! `segl keys [list]`: every device, key and certificate that the PKCS#11 libraries of this machine show.

use std::{io::Write, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    Work,
    configured::Configured,
    listing::{Device, Listing, text},
    near::near,
    refused, say,
    survey::{Looked, look},
    target::{PinOption, named, uri_of, usual_pin},
};
use crate::{
    cli::{failure::Failure, json},
    config::Signer,
    language::printable,
    pipeline,
    secret::Sources,
    sign::{
        self, Sought,
        pkcs11::{DeviceDescription, Installed, Uri},
    },
};

#[derive(Debug, Args)]
// It stands among the arguments of another one of this name, and groups bear the names of their types.
#[group(skip)]
pub(super) struct Command {
    /// Only what this PKCS#11 URI names, or the device of this [signers.NAME] table
    #[arg(value_name = "URI|NAME")]
    key: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Log in to the device, which shows the private keys that it hides otherwise
    #[arg(long)]
    login: bool,
    #[command(flatten)]
    pin: PinOption,
    /// What to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Which libraries are looked at, and how.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Place {
    /// PKCS#11 library to ask [default: all that profiles and p11-kit know on this machine]
    #[arg(long, value_name = "PATH", conflicts_with = "profile")]
    module: Option<PathBuf>,
    /// Kind of device, which says where its library lies
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Load libraries that others than root and you can change
    #[arg(long)]
    pub(super) trust_module: bool,
    /// Seconds until giving up on a library
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Lines for people; the last of each key is the one to paste
    Table,
    /// JSON; docs/keys.schema.json says what stands where
    Json,
    /// The line to paste of each key that Maskinporten takes, and nothing else
    Uri,
}

impl Command {
    /// Whether libraries are loaded that others can change.
    pub(super) fn trusts_any(&self) -> bool {
        self.place.trust_module
    }
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = match &command.key {
        Some(key) => Some(named(key, work)?),
        None => None,
    };
    let (wanted, mut looked) = command.place.look(signer.as_ref(), work).await?;
    let given = command.pin.sources()?;
    let configured = Configured::new(signer, work);
    if command.login || given.is_some() {
        log_in(&mut looked, &wanted, &configured, given, work).await?;
    }
    let seen = Seen::of(&looked);
    let (profiles, now) = (work.modules.profiles(), work.context.clock().wall());
    let listing = Listing::new(looked, profiles, &wanted, &configured, now);
    seen.must_match(&listing, &wanted)?;
    match command.output {
        Output::Json => json::write(&listing, out)?,
        Output::Table => out.write_all(text(&listing).as_bytes())?,
        Output::Uri => {
            for uri in listing.usable() {
                writeln!(out, "{uri}")?;
            }
        }
    }
    explain(&listing);
    Ok(())
}

impl Place {
    /// All libraries that are known on this machine.
    pub(super) fn anywhere() -> Self {
        Self { module: None, profile: None, trust_module: false, timeout: 20 }
    }

    /// What is wanted, and what the libraries show where it can be.
    pub(super) async fn look(
        &self,
        signer: Option<&Signer>,
        work: &Work<'_>,
    ) -> Result<(Uri, Vec<Looked>), Failure> {
        let wanted = match signer {
            Some(signer) => uri_of(signer, "it is in none of the devices that are listed here")?.clone(),
            None => Uri::default(),
        };
        let wanted = match (&self.module, &self.profile) {
            (Some(path), _) => wanted.with_module_path(std::path::absolute(path)?),
            (None, Some(name)) => wanted.with_module_name(name.clone()),
            (None, None) => wanted,
        };
        let profile = signer.and_then(|signer| signer.profile.as_deref());
        let patience = Duration::from_secs(self.timeout);
        let profiles = work.modules.profiles();
        if wanted.module_path().is_some() || wanted.module_name().is_some() || profile.is_some() {
            let only = Installed::at(&profiles.library_for(&wanted, self.profile.as_deref().or(profile))?)?;
            let looked = look(vec![only], self.trust_module, patience, work).await;
            let looked = in_slot_of(&wanted, looked);
            // The only one that was asked for: what is wrong with it is the answer.
            return match looked.iter().find_map(|looked| looked.shown.as_ref().err()) {
                Some(error) => Err(error.clone().into()),
                None => Ok((wanted, looked)),
            };
        }
        let all = Installed::all(profiles);
        if all.is_empty() {
            return Err(sign::Error::Module {
                path: "of the device".into(),
                problem: "neither a profile nor p11-kit knows one that is installed".into(),
            }
            .into());
        }
        let looked = look(all, self.trust_module, patience, work).await;
        Ok((wanted.clone(), in_slot_of(&wanted, looked)))
    }
}

/// Without what is in other slots than the one that `wanted` names, if it names one.
fn in_slot_of(wanted: &Uri, mut looked: Vec<Looked>) -> Vec<Looked> {
    for shown in looked.iter_mut().filter_map(|looked| looked.shown.as_mut().ok()) {
        shown.slots.retain(|slot| slot.is_named_by(wanted));
    }
    looked
}

/// Shows the one device that `wanted` names as it looks logged in, and says where its PIN was found.
pub(super) async fn log_in(
    looked: &mut [Looked],
    wanted: &Uri,
    configured: &Configured,
    given: Option<Sources>,
    work: &Work<'_>,
) -> Result<Option<Sources>, Failure> {
    let mut named: Vec<(usize, DeviceDescription)> = Vec::new();
    for (index, looked) in looked.iter().enumerate() {
        let slots = looked.shown.iter().flat_map(|shown| &shown.slots);
        let devices = slots.filter_map(|slot| slot.device.as_ref());
        for device in devices.filter(|device| device.initialized && device.is_named_by(wanted)) {
            // One device, seen through two libraries, is logged in to through the first.
            let is_same = |(_, other): &(usize, DeviceDescription)| other.uri == device.uri;
            if !named.iter().any(|known| known.0 != index && is_same(known)) {
                named.push((index, device.clone()));
            }
        }
    }
    let (index, device) = match named.as_slice() {
        [only] => only,
        [] => {
            let seen = looked.iter().flat_map(|looked| &looked.shown).flat_map(|shown| &shown.slots);
            let seen = seen.filter_map(|slot| slot.device.as_ref().filter(|device| device.initialized));
            return Err(sign::Error::NotFound {
                sought: Sought::Device,
                uri: wanted.device().to_string(),
                candidates: seen.map(|device| device.uri.to_string()).collect(),
            }
            .into());
        }
        several => {
            return Err(sign::Error::Ambiguous {
                sought: Sought::Device,
                uri: wanted.device().to_string(),
                candidates: several.iter().map(|(_, device)| device.uri.to_string()).collect(),
            }
            .into());
        }
    };
    let Some(looked) = looked.get_mut(*index) else { return Ok(given) };
    let pin = given.or_else(|| configured.pin_of(device)).or_else(|| usual_pin(wanted));
    let uri = device.uri.clone().with_slot_of(wanted).with_module_path(looked.library.path.clone());
    let device = pipeline::device(&work.modules, uri, None, pin.clone());
    let mut shown = device.describe(&work.call).await.map_err(refused)?;
    shown.slots.retain(|slot| slot.is_named_by(wanted));
    looked.shown = Ok(shown);
    Ok(pin)
}

/// The names of all that was seen, for whoever names something that is not there.
pub(super) struct Seen {
    devices: Vec<Uri>,
    objects: Vec<Uri>,
}

impl Seen {
    pub(super) fn of(looked: &[Looked]) -> Self {
        let mut seen = Self { devices: Vec::new(), objects: Vec::new() };
        for slot in looked.iter().flat_map(|looked| &looked.shown).flat_map(|shown| &shown.slots) {
            seen.devices
                .extend(slot.device.iter().filter(|device| device.initialized).map(|it| it.uri.clone()));
            seen.objects.extend(slot.keys.iter().map(|key| key.uri.clone()));
            let of_keys = slot.keys.iter().flat_map(|key| &key.certificates);
            seen.objects.extend(of_keys.chain(&slot.certificates).map(|certificate| certificate.uri.clone()));
        }
        seen
    }

    fn must_match(&self, listing: &Listing, wanted: &Uri) -> Result<(), Failure> {
        let found = match names_object(wanted) {
            true => listing.uris().next().is_some(),
            false => {
                wanted.device() == Uri::default()
                    || listing.devices().any(|device| device.initialized == Some(true))
            }
        };
        let hidden = listing.devices().any(Device::may_hide_keys);
        if found { Ok(()) } else { Err(self.nothing_named(wanted, hidden)) }
    }

    /// The answer to whoever names what is not there; `hidden`: a login may show more.
    pub(super) fn nothing_named(&self, wanted: &Uri, hidden: bool) -> Failure {
        let candidates = if names_object(wanted) { &self.objects } else { &self.devices };
        let near: Vec<String> = near(wanted, candidates).into_iter().map(Uri::to_string).collect();
        let near = if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) };
        let remedy = match names_object(wanted) && hidden {
            true => "Private keys may be hidden until login: add --login; `segl keys` shows what there is.",
            false => "Run `segl keys` and paste one of its lines.",
        };
        Failure::needs_person(format!("nothing that is to be seen is named {wanted}{near}"), remedy)
    }
}

fn names_object(wanted: &Uri) -> bool {
    wanted.object().is_some() || wanted.id().is_some() || wanted.kind().is_some()
}

/// What a person should know about what is not shown.
fn explain(listing: &Listing) {
    let problems = listing.modules.iter().any(|module| module.problem.is_some());
    if listing.devices().all(Device::is_blank) && !problems {
        let libraries = listing.modules.iter().map(|module| module.path.display().to_string());
        let libraries = libraries.collect::<Vec<_>>().join(", ");
        say(format!("No device that is set up shows itself through {libraries}."));
        say("Plug it in, start its service, or initialize it with the vendor's tool.");
    }
    for device in listing.devices().filter(|device| device.may_hide_keys()) {
        let name = device.label.as_deref().unwrap_or("a device");
        say(format!("Private keys may be hidden on {} until login: add --login.", printable(name)));
    }
}
