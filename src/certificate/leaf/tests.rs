use proptest::prelude::*;
use rcgen::{DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose};

use super::*;
use crate::certificate::{
    NotAnOrganisationNumber,
    name::{COUNTRY, SERIAL_NUMBER},
    sample,
};

const ORGANISATION_IDENTIFIER_TYPE: [u64; 4] = [2, 5, 4, 97];

fn subject(entries: &[(&str, &str)]) -> Certificate {
    let mut params = sample::parameters("Testvirksomhet");
    for (oid, value) in entries {
        let parts: Vec<u64> = oid.split('.').map(|part| part.parse().unwrap()).collect();
        params.distinguished_name.push(DnType::from_oid(&parts), *value);
    }
    sample::self_signed(params)
}

#[test]
fn the_organisation_number_is_found_in_each_of_the_three_places() {
    for (oid, value) in [
        (SERIAL_NUMBER, "991825827"),
        (ORGANISATION, "Digdir - 991825827"),
        (ORGANISATION, "Digdir-991825827"),
        (ORGANISATION_IDENTIFIER, "NTRNO-991825827"),
        (ORGANISATION_IDENTIFIER, "PSDNO-FSA-991825827"),
        (ORGANISATION_IDENTIFIER, "991825827"),
    ] {
        let number = subject(&[(oid, value)]).organisation_number().unwrap();
        assert_eq!(number.to_string(), "991825827", "{value}");
    }
}

#[test]
fn the_three_places_have_an_order() {
    let all = subject(&[
        (ORGANISATION_IDENTIFIER, "NTRNO-991825827"),
        (ORGANISATION, "Tolletaten-974761343"),
        (SERIAL_NUMBER, "974760673"),
    ]);
    assert_eq!(all.organisation_number().unwrap().to_string(), "974760673");
    let two = subject(&[
        (ORGANISATION_IDENTIFIER, "NTRNO-991825827"),
        (ORGANISATION, "Tolletaten-974761343"),
        (SERIAL_NUMBER, "UN:NO-974760673"),
    ]);
    assert_eq!(two.organisation_number().unwrap().to_string(), "974761343");
}

#[test]
fn a_foreign_identifier_is_no_norwegian_organisation_number() {
    for foreign in ["VATSE-556012345601", "VATDE-991825827", "XX:DE-991825827", "NTRDE-HRB1234", "x991825827"]
        .into_iter()
        .chain(["NTRGB+SCT-991825827", "VAT-DE-991825827", "DE-991825827", "ntrde-991825827"])
    {
        let certificate = subject(&[(ORGANISATION_IDENTIFIER, foreign)]);
        assert!(
            matches!(certificate.organisation_number(), Err(Error::NoOrganisationNumber { .. })),
            "{foreign}"
        );
        assert_eq!(certificate.organization_identifier(), Some(foreign));
    }
}

#[test]
fn nine_digits_of_another_country_are_left_alone_wherever_they_stand() {
    for (oid, value) in [
        (SERIAL_NUMBER, "991825827"),
        (ORGANISATION, "Empresa - 991825827"),
        (ORGANISATION_IDENTIFIER, "991825827"),
    ] {
        let portuguese = subject(&[(oid, value), (COUNTRY, "PT")]);
        let found = portuguese.organisation_number();
        assert!(matches!(found, Err(Error::NoOrganisationNumber { .. })), "{value}");
        assert!(subject(&[(oid, value), (COUNTRY, "no")]).organisation_number().is_ok(), "{value}");
    }
    let branch =
        [(SERIAL_NUMBER, "991825827"), (COUNTRY, "NO"), (ORGANISATION_IDENTIFIER, "VATSE-556012345601")];
    assert!(subject(&branch).organisation_number().is_err());
}

#[test]
fn a_number_whose_check_digit_does_not_fit_is_named() {
    let found = subject(&[(SERIAL_NUMBER, "991825828")]).organisation_number().unwrap_err();
    assert!(matches!(found, Error::OrganisationNumber { reason: NotAnOrganisationNumber::CheckDigit, .. }));
    assert!(found.to_string().contains("991825828"), "{found}");
}

#[test]
fn the_holder_is_called_by_name_and_number_as_far_as_there_are_any() {
    for (entries, expected) in [
        (&[(ORGANISATION, "Fiktiv AS"), (SERIAL_NUMBER, "991825827")][..], "Fiktiv AS (991825827)"),
        (&[(ORGANISATION_IDENTIFIER, "VATSE-556012345601")], "Testvirksomhet (VATSE-556012345601)"),
        (&[(SERIAL_NUMBER, "991825828")], "Testvirksomhet"),
    ] {
        assert_eq!(subject(entries).holder(), expected);
    }
}

#[test]
fn key_usage_tells_the_purpose() {
    use KeyUsagePurpose::{ContentCommitment, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment};
    for (usages, purpose) in [
        (vec![], Purpose::Unrestricted),
        (vec![DigitalSignature], Purpose::Authentication),
        (vec![DigitalSignature, KeyEncipherment], Purpose::Authentication),
        (vec![ContentCommitment], Purpose::Signing),
        (vec![KeyEncipherment], Purpose::Encryption),
        (vec![KeyAgreement], Purpose::Encryption),
        (vec![KeyCertSign], Purpose::Issuing),
    ] {
        let mut params = sample::parameters("Testvirksomhet");
        params.key_usages = usages;
        assert_eq!(sample::self_signed(params).purpose(), purpose);
    }
}

#[test]
fn fields_are_read_as_they_stand() {
    let mut params = sample::parameters("Testvirksomhet AS");
    params.serial_number = Some(vec![0x01, 0x49, 0x27].into());
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 311]),
    ];
    params.distinguished_name.push(DnType::CustomDnType(ORGANISATION_IDENTIFIER_TYPE.into()), "NTRNO-1");
    let certificate = sample::self_signed(params);
    assert_eq!(certificate.serial_number(), "014927");
    assert_eq!(certificate.extended_key_usage(), ["1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.311"]);
    assert_eq!(certificate.subject().to_string(), "CN=Testvirksomhet AS, organizationIdentifier=NTRNO-1");
    assert!(certificate.is_self_issued() && certificate.is_self_signed() && !certificate.is_ca());
    assert_eq!(certificate.fingerprint().len(), 64);
}

#[test]
fn a_negative_serial_number_and_a_certificate_without_extensions_are_read() {
    let mut params = sample::parameters("x");
    params.serial_number = Some(vec![0x7f].into());
    let mut der = sample::self_signed(params).der().to_vec();
    let serial = der.windows(3).position(|bytes| bytes == [2, 1, 0x7f]).unwrap();
    der[serial + 2] = 0xff;
    let negative = Certificate::from_der(&der).unwrap();
    assert_eq!(negative.serial_number(), "ff");
    assert_eq!(
        (negative.purpose(), negative.policies(), negative.is_ca()),
        (Purpose::Unrestricted, &[][..], false)
    );
}

#[test]
fn an_elliptic_curve_key_is_named_and_not_refused_before_it_is_asked_for() {
    let certificate = sample::self_signed(sample::parameters("Kurve"));
    assert_eq!(certificate.public_key(), Err(KeyError::NotRsa("1.2.840.10045.2.1".into())));
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut der = sample::self_signed(sample::parameters("x")).der().to_vec();
    der.push(0);
    assert!(matches!(Certificate::from_der(&der), Err(Error::Malformed { .. })));
}

#[test]
fn a_certificate_of_absurd_size_is_refused_unread() {
    assert_eq!(Certificate::from_der(&vec![0x30; LARGEST + 1]), Err(Error::TooLarge { limit: LARGEST }));
}

#[test]
fn pem_in_any_dress_gives_the_same_certificates() {
    let [one, two] =
        [sample::self_signed(sample::parameters("1")), sample::self_signed(sample::parameters("2"))];
    let plain = format!("{}{}", one.to_pem(), two.to_pem());
    let dressed = format!(
        "\u{feff}Bag Attributes\n  friendlyName: x\n-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n\
         subject=/CN=1\n{}{}{}",
        one.to_pem(),
        two.to_pem(),
        one.to_pem()
    );
    for text in [plain.clone(), plain.replace('\n', "\r\n"), dressed] {
        let read = Certificate::all_from_file(text.as_bytes()).unwrap();
        assert_eq!(read, [one.clone(), two.clone()]);
    }
    assert_eq!(Certificate::all_from_file(one.der()).unwrap(), [one]);
}

#[test]
fn a_file_without_certificates_is_told_what_it_holds() {
    let text = "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n";
    let error = Certificate::all_from_file(text.as_bytes()).unwrap_err();
    assert_eq!(error, Error::NoCertificate { found: vec!["PUBLIC KEY".into()] });
}

#[test]
fn more_certificates_than_any_chain_needs_are_refused() {
    let text: String =
        (0..=32).map(|n| sample::self_signed(sample::parameters(&n.to_string())).to_pem()).collect();
    assert_eq!(Certificate::all_from_file(text.as_bytes()), Err(Error::TooMany { limit: 32 }));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Certificate::from_der(&bytes);
        let _ = Certificate::all_from_file(&bytes);
    }

    #[test]
    fn a_damaged_certificate_never_panics(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut der = sample::real().to_vec();
        for (place, value) in changes {
            let place = place.index(der.len());
            der[place] = value;
        }
        if let Ok(certificate) = Certificate::from_der(&der) {
            let _ = (certificate.organisation_number(), certificate.public_key(), certificate.is_self_signed());
            let _ = (format!("{certificate:?}"), certificate.check_validity(UNIX_EPOCH).map_err(|e| e.to_string()));
        }
    }

    #[test]
    fn a_damaged_pem_file_never_panics(place in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut text = pem::encode("CERTIFICATE", sample::real()).into_bytes();
        let place = place.index(text.len());
        text[place] = value;
        let _ = Certificate::all_from_file(&text);
    }
}
