//! What a URI that names nothing may be a slip of.

use crate::sign::pkcs11::Uri;

/// More suggestions than this are a list, and `segl keys` prints that.
const MOST: usize = 3;

/// Less alike than this is something else.
const ALIKE: f64 = 0.5;

/// The most alike of `seen`, the best first.
pub(super) fn near<'a>(wanted: &Uri, seen: impl IntoIterator<Item = &'a Uri>) -> Vec<&'a Uri> {
    let mut scored: Vec<(f64, &Uri)> = Vec::new();
    for uri in seen {
        let likeness = likeness(wanted, uri);
        if likeness >= ALIKE && !scored.iter().any(|(_, other)| *other == uri) {
            scored.push((likeness, uri));
        }
    }
    scored.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    scored.into_iter().take(MOST).map(|(_, uri)| uri).collect()
}

/// How much of what `wanted` says fits `uri`, from 0 to 1.
fn likeness(wanted: &Uri, uri: &Uri) -> f64 {
    let parts = |uri: &Uri| {
        [
            uri.token().map(str::to_lowercase),
            uri.serial().map(str::to_lowercase),
            uri.object().map(str::to_lowercase),
            uri.id().map(hex::encode),
        ]
    };
    let pairs = parts(wanted).into_iter().zip(parts(uri));
    let likenesses: Vec<f64> =
        pairs.filter_map(|(wanted, is)| Some(alike(&wanted?, &is.unwrap_or_default()))).collect();
    match likenesses.len() {
        0 => 0.0,
        // At most four.
        number => likenesses.iter().sum::<f64>() / number as f64,
    }
}

/// Letters changed, or a name that was cut off or begun in the middle.
fn alike(wanted: &str, is: &str) -> f64 {
    let part = !wanted.is_empty() && !is.is_empty() && (is.contains(wanted) || wanted.contains(is));
    let whole = strsim::normalized_damerau_levenshtein(wanted, is);
    if part { whole.max(0.75) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_in_label_serial_object_and_id_are_found() {
        let seen: Vec<Uri> = [
            "pkcs11:token=CUSTOMS-A;serial=02A1B3C4;object=grant-2026;id=%0A%0B%0C",
            "pkcs11:token=CUSTOMS-A;serial=02A1B3C4;object=seal;id=%01",
            "pkcs11:token=ci;serial=1;object=grant;id=%02",
        ]
        .map(|uri| uri.parse().unwrap())
        .into();
        for (wanted, best) in [
            ("pkcs11:token=customs-a;object=grnat-2026", Some(0)),
            ("pkcs11:token=CUSTOMS;object=seal", Some(1)),
            ("pkcs11:serial=02A1B3C5;object=grant-2025", Some(0)),
            ("pkcs11:token=CI;object=grant-2026", Some(2)),
            ("pkcs11:id=%0A%0B%0D", Some(0)),
            ("pkcs11:object=zzzz", None),
            ("pkcs11:", None),
        ] {
            let found = near(&wanted.parse().unwrap(), &seen);
            assert_eq!(found.first().copied(), best.map(|index: usize| &seen[index]), "{wanted}");
        }
        let twice: Vec<Uri> = seen.iter().chain(&seen).cloned().collect();
        assert_eq!(near(&"pkcs11:object=grant".parse().unwrap(), &twice).len(), 2);
    }
}
