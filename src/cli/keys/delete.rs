//! `segl keys delete`: a key pair, a certificate, or both go for good.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::{
    Work,
    configured::Configured,
    list::{Place, Seen, log_in},
    listing::{Content, content_sentence},
    matched::{Object, matched, the_only},
    refused, say,
    target::{PinOption, named, usual_pin},
};
use crate::{
    certificate::Certificate,
    cli::failure::Failure,
    language::printable,
    pipeline,
    sign::pkcs11::{CertificateDescription, DeviceDescription, Doomed, ObjectKind},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    /// PKCS#11 URI of one key pair, which takes its certificates along; with type=private the pair alone, with
    /// type=cert one certificate alone
    #[arg(value_name = "URI|NAME")]
    key: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    pin: PinOption,
    /// Delete without asking
    #[arg(long)]
    yes: bool,
    /// Delete even what has a certificate that is still valid
    #[arg(long)]
    force: bool,
}

impl Command {
    /// Whether libraries are loaded that others can change.
    pub(super) fn trusts_any(&self) -> bool {
        self.place.trust_module
    }
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = named(&command.key, work)?;
    let (wanted, mut looked) = command.place.look(Some(&signer), work).await?;
    if wanted.object().is_none() && wanted.id().is_none() {
        return Err(Failure::needs_person(
            format!("{wanted} does not say which key or certificate is to go"),
            "Paste a line that `segl keys` prints: it has object= or id=.",
        ));
    }
    // Half of a key pair shows itself only to whoever is logged in.
    let pin = command.pin.sources()?;
    let configured = Configured::new(Some(signer), work);
    let pin = log_in(&mut looked, &wanted, &configured, pin, work).await?;
    let found = matched(&looked, &wanted);
    if found.is_empty() {
        return Err(Seen::of(&looked).nothing_named(&wanted, false));
    }
    let only = the_only(&found, &wanted)?;
    let (doomed, lines) = doomed(only.object, wanted.kind());
    let now = work.context.clock().wall();
    let read = |der: &Vec<u8>| Certificate::from_der(der).ok();
    let certificates = match only.object {
        Object::Key(key) => key.certificates.iter().map(|its| its.der.clone()).collect(),
        Object::Certificate(_) => doomed.certificates.clone(),
    };
    let valid = certificates.iter().filter_map(read).find(|certificate| certificate.is_valid_at(now));
    if let Some(valid) = valid.filter(|_| !command.force) {
        return Err(Failure::needs_person(
            format!("its certificate is still valid: {}", content_sentence(&Content::new(&valid))),
            "Have it revoked if its key is no longer to be used, then say --force.",
        ));
    }
    let device = only.slot.device.as_ref().map_or_else(String::new, DeviceDescription::name);
    for line in &lines {
        say(format!("on {device}: {line}"));
    }
    if !command.yes && !is_confirmed()? {
        return Err(Failure::needs_person("nothing was deleted", "Type yes to have it deleted."));
    }
    let uri = only.slot.device.as_ref().map_or_else(|| wanted.device(), |device| device.uri.clone());
    let uri = uri.with_module_path(only.library.path.clone());
    let pin = pin.or_else(|| usual_pin(&wanted));
    let device = pipeline::device(&work.modules, uri, None, pin);
    device.delete(doomed, &work.call).await.map_err(refused)?;
    for line in lines {
        writeln!(out, "deleted    {line}")?;
    }
    Ok(())
}

/// What goes with `object`, and how a person calls it.
fn doomed(object: Object<'_>, kind: Option<ObjectKind>) -> (Doomed, Vec<String>) {
    let mut doomed = Doomed::default();
    let mut lines = Vec::new();
    let mut add = |doomed: &mut Doomed, certificate: &CertificateDescription| {
        doomed.certificates.push(certificate.der.clone());
        let content =
            Certificate::from_der(&certificate.der).map(|read| content_sentence(&Content::new(&read)));
        lines.push(format!("certificate {}", content.unwrap_or_else(|_| printable(&certificate.label))));
    };
    match object {
        Object::Certificate(certificate) => add(&mut doomed, certificate),
        Object::Key(key) => {
            if kind.is_none() {
                for certificate in &key.certificates {
                    add(&mut doomed, certificate);
                }
            }
            let halves = match (key.private, key.public) {
                (true, true) => "key pair",
                (true, false) => "private key",
                _ => "public key",
            };
            let size = key.bits.map_or_else(String::new, |bits| format!("-{bits}"));
            let (kind, label) = (printable(&key.key_type), printable(&key.label));
            lines.push(format!("{kind}{size} {halves} {label:?}, id {}", key.id));
            doomed.key = Some(Box::new(key.clone()));
        }
    }
    (doomed, lines)
}

/// Whether the person at the terminal says yes.
fn is_confirmed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::needs_person(
            "nobody is there to say whether that may be deleted",
            "Run it on a terminal, or say --yes.",
        ));
    }
    let _ = write!(io::stderr(), "Delete this for good? Type yes: ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
