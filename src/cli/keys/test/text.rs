use std::fmt::Write as _;

use super::report::{KeyFacts, Mechanism, Report, Verdict};
use crate::{cli::table, sign::pkcs11::SessionLimit};

/// Where reports are welcome.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The report for people: first what a vendor's support asks for.
pub(super) fn text(report: &Report) -> String {
    let mut text = facts(report);
    let mechanisms = report.mechanisms.iter().map(row);
    text += &format!("\n{}\n", table::plain(["MECHANISM ON ITS LIST", "KEY SIZE", "SIGNS"], mechanisms));
    if !report.trials.is_empty() {
        let trials = report.trials.iter().map(|trial| {
            let what = match &trial.mechanism {
                Some(mechanism) => format!("{}: {mechanism}", trial.what),
                None => trial.what.clone(),
            };
            let odd = if trial.odd { " (odd)" } else { "" };
            [what, format!("{}{odd}", word(trial.verdict)), trial.detail.clone()]
        });
        text += &format!("\n{}\n", table::plain(["TRIED", "RESULT", ""], trials));
    }
    let place = if REPOSITORY.is_empty() { "the project that you have Segl from" } else { REPOSITORY };
    let _ = writeln!(
        text,
        "\nIf this kind of device has no profile yet: one is welcome, with this report, at {place}."
    );
    text
}

fn facts(report: &Report) -> String {
    let (segl, library, device) = (&report.segl, &report.library, &report.device);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<21}{value}");
    };
    let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "it does not say".into());
    line("library", library.file.display().to_string());
    line("  manufacturer", said(&library.manufacturer));
    line("  description", said(&library.description));
    line("  version", said(&library.version));
    line("  PKCS#11", said(&library.cryptoki));
    line("device", device.model.clone());
    line("  manufacturer", device.manufacturer.clone());
    line("  hardware", device.hardware.clone());
    line("  firmware", device.firmware.clone());
    if let Some(names) = &device.names {
        line("  label", names.label.clone());
        line("  serial number", names.serial.clone());
        line("  slot", names.slot.clone());
    }
    let login = match (device.login_required, device.pin_pad) {
        (false, _) => "not required".into(),
        (true, false) => {
            format!("required, with a PIN of {} to {} bytes", device.pin_length.0, device.pin_length.1)
        }
        (true, true) => "required, on the device's own PIN pad".into(),
    };
    line("  login", login);
    line("  sessions", limit(device.max_sessions));
    line("  that may write", limit(device.max_rw_sessions));
    line("profile", format!("{} ({})", report.profile.name, report.profile.confidence));
    let system = segl.distribution.as_deref().unwrap_or("unknown");
    line("Segl", format!("{} on {} {}, {system}", segl.version, segl.os, segl.architecture));
    match &report.key {
        Some(KeyFacts { bits, always_authenticate, allowed_mechanisms }) => {
            line("key", format!("RSA-{bits}"));
            let always = match always_authenticate {
                Some(true) => "yes",
                Some(false) => "no",
                None => "it does not say",
            };
            line("  PIN per signature", format!("{always} (CKA_ALWAYS_AUTHENTICATE)"));
            let allowed = allowed_mechanisms.as_ref().map_or_else(|| "all".into(), |all| all.join(", "));
            line("  may be used with", format!("{allowed} (CKA_ALLOWED_MECHANISMS)"));
        }
        None => {
            line("key", format!("cannot be used: {}", report.problem.as_deref().unwrap_or("unknown")));
        }
    }
    let listed = match report.mechanisms_in_all {
        Some(all) => format!("{all} on its list, {} of them known to sign", report.mechanisms.len()),
        None => "it gives no list".into(),
    };
    line("mechanisms", listed);
    text
}

fn row(mechanism: &Mechanism) -> [String; 3] {
    let size = match (&mechanism.problem, mechanism.key_size) {
        (Some(problem), _) => problem.clone(),
        (None, Some((least, most))) => format!("{least} to {most}"),
        (None, None) => String::new(),
    };
    let signs = match mechanism.signs {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    [mechanism.name.clone(), size, signs.into()]
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Refused => "refused",
        Verdict::Wrong => "wrong",
        Verdict::Failed => "failed",
        Verdict::Crashed => "crashed",
        Verdict::LeftOut => "left out",
    }
}

fn limit(limit: SessionLimit) -> String {
    match limit {
        SessionLimit::Unknown => "it does not say".into(),
        SessionLimit::Unlimited => "as many as one likes".into(),
        SessionLimit::Most(number) => format!("{number} at most"),
    }
}
