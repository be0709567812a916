//! A key that signs: its file or its device, from the library's file up to a signature that verifies.

mod device;
mod surroundings;

use std::time::Duration;

use super::{Ward, finding::Findings};
use crate::{
    config::{Key, Signer},
    pipeline,
    sign::{self, Fault},
};

/// How fast a signer signed once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Time for one signature.
    pub(super) one: Duration,
    /// How many it makes at a time.
    pub(super) lanes: u8,
}

impl Rate {
    /// Signatures per second, as far as one of them tells.
    pub(super) fn per_second(self) -> f64 {
        f64::from(self.lanes.max(1)) / self.one.as_secs_f64().max(1e-6)
    }
}

/// Checks one `[signers.NAME]`. How fast it signs, when it signed.
pub(super) async fn check(ward: &Ward<'_>, signer: &Signer, findings: &mut Findings<'_>) -> Option<Rate> {
    match &signer.key {
        Key::File(path) => {
            let rate = sign_once(ward, signer, 1, findings).await;
            if rate.is_some() {
                let shown = path.display();
                findings.ok("key file", &signer.name, format!("{shown}: only its owner can read it"));
            }
            rate
        }
        Key::Jwk(_) => sign_once(ward, signer, 1, findings).await,
        Key::Pkcs11(uris) => {
            let mut slowest: Option<Rate> = None;
            for uri in uris.iter() {
                // Each device of several by itself: that the one in reserve works is not seen until it is needed.
                let alone = Signer { key: Key::Pkcs11(uri.clone().into()), ..signer.clone() };
                let Some(lanes) = device::check(ward, &alone, uri, findings).await else { continue };
                let Some(rate) = sign_once(ward, &alone, lanes, findings).await else { continue };
                if slowest.is_none_or(|slowest| rate.per_second() < slowest.per_second()) {
                    slowest = Some(rate);
                }
            }
            slowest
        }
    }
}

/// What is signed: no grant, and nothing that could be taken for anything else.
const TEXT: &[u8] = b"segl doctor: this text is signed to see whether the key signs, and goes nowhere";

/// Has the key found, and one signature made; it is verified with the public key before it is handed out.
async fn sign_once(ward: &Ward<'_>, signer: &Signer, lanes: u8, findings: &mut Findings<'_>) -> Option<Rate> {
    let about = &signer.name;
    let alone = match pipeline::signer(signer, ward.pipeline.modules(), ward.clock()) {
        Ok(alone) => alone,
        Err(error) => {
            findings.failure("key", about, error.to_string(), error.remedy());
            return None;
        }
    };
    let key = match alone.key(&ward.call()).await {
        Ok(key) => key,
        Err(error) => {
            failed("key", about, &error, findings);
            return None;
        }
    };
    let place = key.device.clone().unwrap_or_else(|| signer.key.to_string());
    findings.ok("key", about, format!("RSA-{}, {}, in {place}", key.public_key.bits(), key.algorithm));
    let before = ward.clock().now();
    match alone.sign(&ward.call(), Box::new(|| TEXT.to_vec())).await {
        Ok(_) => {
            let rate = Rate { one: ward.clock().now().since(before), lanes };
            findings.ok(
                "signature",
                about,
                format!("made and verified in {:.1} ms", rate.one.as_secs_f64() * 1e3),
            );
            Some(rate)
        }
        Err(error) => {
            failed("signature", about, &error, findings);
            None
        }
    }
}

/// A failure in the words of the room that had it.
pub(super) fn failed(check: &'static str, about: &str, error: &sign::Error, findings: &mut Findings<'_>) {
    let fault = match error {
        // Whoever is examined is asked by nobody else: it is the device that is slow.
        sign::Error::Deadline => Fault::Device,
        other => other.kind(),
    };
    findings.failed(check, about, fault, error.to_string(), error.remedy());
}
