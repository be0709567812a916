//! `segl keys import`: certificates beside the key that they certify.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    Work,
    listing::{Content, content_sentence},
    refused, say,
    target::Target,
};
use crate::{
    certificate::{Certificate, pem, pkcs12::is_pkcs12},
    cli::{failure::Failure, file},
    jose::RsaPublicKey,
    sign::pkcs11::{Device, KeyDescription, ModuleDescription, NewCertificate},
};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    target: Target,
    /// Certificates, PEM or DER: that of the key, and those of its issuers
    file: PathBuf,
}

pub(super) async fn run(command: Command, work: &Work<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let path = &command.file;
    let certificates = certificates(path)?;
    let device = command.target.device(work, "no certificate can be stored there")?;
    let shown = device.describe(&work.call).await.map_err(refused)?;
    let keys = keys(&shown, &device);
    let of_a_key = |certificate: &Certificate| {
        certificate.public_key().is_ok_and(|certified| keys.iter().any(|(_, key)| *key == certified))
    };
    let (own, others): (Vec<_>, Vec<_>) = certificates.iter().partition(|it| of_a_key(it));
    if own.is_empty() {
        return Err(foreign(path, &certificates, &keys));
    }
    let (issuers, strangers): (Vec<_>, Vec<_>) = others.into_iter().partition(|it| it.is_ca());
    for certificate in own.into_iter().chain(issuers) {
        let new = NewCertificate { der: certificate.der().to_vec(), label: None };
        let stored = device.store_certificate(new, &work.call).await.map_err(refused)?;
        let how = if stored.was_there { "was there" } else { "stored" };
        writeln!(out, "{how:<9}  {}", content_sentence(&Content::new(certificate)))?;
    }
    for stranger in strangers {
        let it = content_sentence(&Content::new(stranger));
        say(format!("passed over: {it}; its key is not the one named"));
    }
    say("In segl.toml: certificate = \"token\" on the client.");
    Ok(())
}

/// The private keys that the device's URI names, with their public halves.
fn keys<'a>(shown: &'a ModuleDescription, device: &Device) -> Vec<(&'a KeyDescription, RsaPublicKey)> {
    let uri = device.uri();
    let slots = shown.slots.iter();
    let named =
        slots.filter(|slot| slot.device.as_ref().is_some_and(|it| it.initialized && it.is_named_by(uri)));
    named
        .flat_map(|slot| &slot.keys)
        .filter(|key| key.private && key.is_named_by(uri))
        .filter_map(|key| Some((key, RsaPublicKey::from_spki(key.spki.as_deref()?).ok()?)))
        .collect()
}

fn foreign(path: &Path, certificates: &[Certificate], keys: &[(&KeyDescription, RsaPublicKey)]) -> Failure {
    let subjects: Vec<_> = certificates.iter().map(|it| it.subject().to_string()).collect();
    let labels: Vec<_> = keys.iter().map(|(key, _)| format!("{:?}", key.label)).collect();
    let keys = if labels.is_empty() { "there is none".into() } else { labels.join(", ") };
    Failure::needs_person(
        format!(
            "{}: none of these certificates is for the key named ({keys}): {}",
            path.display(),
            subjects.join(" | ")
        ),
        "Import what was issued for the request of this key; `segl keys --login` shows the keys that there are.",
    )
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let file = file::read(path)?;
    if is_pkcs12(&file) {
        return Err(Failure::needs_person(
            format!("{} is a PKCS#12 file: the private key in it is not imported", path.display()),
            format!(
                "Make a key with `segl keys generate` and have it certified. For the certificates alone: \
                 openssl pkcs12 -in {} -nokeys -out certificates.pem",
                path.display()
            ),
        ));
    }
    let certificates = Certificate::all_from_file(&file)
        .map_err(|why| Failure::needs_person(format!("{}: {why}", path.display()), why.remedy()))?;
    let blocks = pem::blocks(&file).unwrap_or_default();
    if blocks.iter().any(|block| block.label().ends_with("PRIVATE KEY")) {
        say(format!("{} holds a private key, too; it was not imported.", path.display()));
    }
    Ok(certificates)
}
