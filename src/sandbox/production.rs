//! The real authorities, by name: what the sandbox must never be taken for, and what must never be sent to
//! it.

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// Domains of Maskinporten, Samarbeidsportalen, Customs and Altinn, test environments included.
const DOMAINS: [&str; 8] = [
    "maskinporten.no",
    "maskinporten.dev",
    "digdir.no",
    "difi.no",
    "idporten.no",
    "toll.no",
    "altinn.no",
    "altinn.cloud",
];

/// Issuers of Norwegian enterprise certificates: the word in their names, their organisation number, their
/// name.
const ISSUERS: [(&str, &str, &str); 2] =
    [("buypass", "NTRNO-983163327", "Buypass"), ("commfides", "NTRNO-988312495", "Commfides")];

/// SHA-256 of the DER of the anchors and intermediates in Digdir's validator library
/// (felleslosninger/idporten-seid2-certificate-validator-lib), test and production.
const ANCHORS: [(&str, &str); 14] = [
    ("2a8475824d9ba398170031b9b398222f857a59bdc5cc3b49005eafdb55955da4", "Buypass"),
    ("760637a0f7da3a3876f601f96b8cf2ceb4fef80b76bd6f052e7bcb0041da350d", "Buypass"),
    ("97ea39029d946583d44539519a1f2cae4a40f9733d17dac18457246af5654325", "Commfides"),
    ("b761abd7a4c478b33be382be511943c20e50950b3b2899875a692e1bef2bdc1b", "Buypass"),
    ("2f36956beb4de4907a3a0fb09437d7d532f4a12504473a00c12ceb028df54a28", "Buypass"),
    ("94bb0e8701b61794d5d0c3154204571096b23c78b33c87e7f942097030e526d9", "Commfides"),
    ("edf7ebbca27a2a384d387b7d4010c666e2edb4843e4c29b4ae1d5b9332e6b24d", "Buypass"),
    ("f8c16c6b4fd45cb0672e16582b8805f1cafd0c48d866f4ed895b30e352a9faa6", "Buypass"),
    ("ab936dfd7f171d3a3cbd08f9bebdc3f3baaabaa79df6a908f8a7b0128627f187", "Buypass"),
    ("5ad1a2b5dae0ce7daeb4d15e3676002da387ed852c1667b1a80543c474a41ec7", "Commfides"),
    ("c49c350e5a8205e063e74c554a994335b8435c996527d4ef1a2b0c7b51584b2d", "Buypass"),
    ("318aa99dfbe3d5cf10bf1e3a5e8bd921d55c68a70901dadc2cb6ed77ac363501", "Commfides"),
    ("0ef5cedce44265b112785b359a21141e20f553aada4c579404617b5ca6046be9", "Buypass"),
    ("45e05831cddac1f2b96dc8ca54620834c87649e9ffd3b26d7dad2ad07f807232", "Buypass"),
];

/// Whether `host` belongs to a real authority, whatever its case or a final dot.
pub(super) fn is_real_host(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    DOMAINS
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.')))
}

/// The real issuer that `der` belongs to or was issued by. Bytes that are no certificate are nobody's.
pub(super) fn real_issuer(der: &[u8]) -> Option<&'static str> {
    let fingerprint = hex::encode(digest(&SHA256, der));
    if let Some((_, issuer)) = ANCHORS.iter().find(|(anchor, _)| *anchor == fingerprint) {
        return Some(issuer);
    }
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    real_name(certificate.issuer())
}

fn real_name(name: &X509Name<'_>) -> Option<&'static str> {
    let values: Vec<&str> = name.iter_attributes().filter_map(|attribute| attribute.as_str().ok()).collect();
    ISSUERS.iter().find_map(|(word, number, issuer)| {
        values
            .iter()
            .any(|value| value == number || value.to_ascii_lowercase().contains(word))
            .then_some(*issuer)
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn hosts_of_the_real_authorities_are_known_in_any_spelling() {
        for host in ["maskinporten.no", "TEST.Maskinporten.no", "api.toll.no.", "platform.tt02.altinn.no"] {
            assert!(is_real_host(host), "{host}");
        }
        for host in ["localhost", "segl-sandbox", "notmaskinporten.no", "toll.no.example.org", ""] {
            assert!(!is_real_host(host), "{host}");
        }
    }

    #[test]
    fn a_certificate_that_names_a_real_issuer_is_known() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Buypass Class 3 Test4 CA G2 ST Business");
        assert_eq!(real_issuer(params.self_signed(&key).unwrap().der()), Some("Buypass"));
        params.distinguished_name.push(DnType::CommonName, "Somebody Else");
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 97]), "NTRNO-988312495");
        assert_eq!(real_issuer(params.self_signed(&key).unwrap().der()), Some("Commfides"));
    }

    #[test]
    fn bytes_that_are_no_certificate_belong_to_nobody() {
        assert_eq!(real_issuer(b"0"), None);
    }
}
