//! Every profile that is met in practice, made anew with `rcgen`.

mod seals;

use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};

use super::*;
use crate::certificate::{
    Generation, KeyKind, NotAnOrganisationNumber, Storage,
    issuers::known_by,
    qualified::sample as qc,
    sample::{Authority as SampleAuthority, Pair, days, parameters, today},
};

const ORGANISATION_IDENTIFIER: [u64; 4] = [2, 5, 4, 97];
const BUYPASS: &str = "Buypass AS-983163327";
const COMMFIDES: &str = "Commfides Norge AS";

/// An end-entity certificate in the making.
struct Leaf(CertificateParams);

impl Leaf {
    fn of(organisation: &str) -> Self {
        let mut params = parameters(organisation);
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Self(params)
    }

    fn with(mut self, kind: DnType, value: &str) -> Self {
        self.0.distinguished_name.push(kind, value);
        self
    }

    fn identifier(self, text: &str) -> Self {
        self.with(DnType::from_oid(&ORGANISATION_IDENTIFIER), text)
    }

    fn serial_number(self, text: &str) -> Self {
        self.with(DnType::from_oid(&[2, 5, 4, 5]), text)
    }

    fn usage(mut self, usage: KeyUsagePurpose) -> Self {
        self.0.key_usages = vec![usage];
        self
    }

    fn for_purpose(mut self, purpose: ExtendedKeyUsagePurpose) -> Self {
        self.0.extended_key_usages.push(purpose);
        self
    }

    fn extension(mut self, oid: &[u64], content: Vec<u8>) -> Self {
        self.0.custom_extensions.push(CustomExtension::from_oid_content(oid, content));
        self
    }

    fn policies(self, policies: &[&str]) -> Self {
        let each: Vec<Vec<u8>> = policies.iter().map(|policy| qc::sequence(&[qc::oid(policy)])).collect();
        self.extension(&[2, 5, 29, 32], qc::sequence(&each))
    }

    fn statements(self, statements: &[Vec<u8>]) -> Self {
        self.extension(&[1, 3, 6, 1, 5, 5, 7, 1, 3], qc::sequence(statements))
    }

    fn by(&self, authority: &SampleAuthority) -> Certificate {
        authority.issue(&self.0, Pair::shared()[0])
    }

    /// Issued by an authority of this name, whose certificate is not at hand.
    fn alone(&self, organisation: &str, common_name: &str) -> Judgement {
        let leaf = self.by(&SampleAuthority::root_of(organisation, common_name));
        Chain::of(leaf, &[], today()).judge(today())
    }

    /// Issued by a foreign authority, with the whole chain.
    fn whole(&self) -> Judgement {
        self.whole_by("Fiktivt Tillitsselskap", "Fiktiv QC CA")
    }

    fn whole_by(&self, organisation: &str, common_name: &str) -> Judgement {
        let root = SampleAuthority::root_of(organisation, common_name);
        Chain::of(self.by(&root), &[root.certificate], today()).judge(today())
    }
}

fn seid2() -> Leaf {
    Leaf::of("Testvirksomhet AS").identifier("NTRNO-991825827").with(DnType::CountryName, "NO")
}

fn foreign_seal() -> Leaf {
    Leaf::of("Norrbottens Åkeri AB")
        .identifier("VATSE-556012345601")
        .with(DnType::CountryName, "SE")
        .usage(KeyUsagePurpose::ContentCommitment)
        .policies(&["0.4.0.194112.1.1"])
        .statements(&[qc::compliance(), qc::kind(2), qc::semantics(2)])
}

fn stranger(judgement: &Judgement) -> Stranger {
    match judgement.kind {
        Kind::Other(stranger) => stranger,
        ref other => panic!("{other}"),
    }
}

#[test]
fn each_norwegian_issuer_and_generation_is_told_apart() {
    use Environment::{Production, Test};
    use Generation::{Seid1, Seid2};
    use Issuer::{Buypass, Commfides};
    let seid1 = || Leaf::of("Testvirksomhet AS").serial_number("991825827");
    for (leaf, organisation, ca, policy, generation, issuer, environment, storage) in [
        (
            seid1(),
            BUYPASS,
            "Buypass Class 3 Test4 CA 3",
            "2.16.578.1.26.1.0.3.2",
            Seid1,
            Buypass,
            Test,
            Some(Storage::Soft),
        ),
        (
            seid1(),
            BUYPASS,
            "Buypass Class 3 CA 3",
            "2.16.578.1.26.1.3.5",
            Seid1,
            Buypass,
            Production,
            Some(Storage::Hard),
        ),
        (
            seid2(),
            "Buypass AS",
            "Buypass Class 3 CA G2 ST Business",
            "2.16.578.1.26.1.3.2",
            Seid2,
            Buypass,
            Production,
            Some(Storage::Soft),
        ),
        (
            seid2(),
            "Buypass AS",
            "Buypass Class 3 CA G2 HT Business",
            "2.16.578.1.26.1.3.5",
            Seid2,
            Buypass,
            Production,
            Some(Storage::Hard),
        ),
        (
            seid2(),
            "Buypass AS",
            "Buypass Class 3 Test4 CA G2 ST Business",
            "2.16.578.1.26.1.3.2",
            Seid2,
            Buypass,
            Test,
            Some(Storage::Soft),
        ),
        (
            seid2(),
            COMMFIDES,
            "Commfides Legal Person - G3",
            "2.16.578.1.29.13.210.1.0",
            Seid2,
            Commfides,
            Production,
            None,
        ),
        (
            seid2(),
            COMMFIDES,
            "Commfides Legal Person - G3 - TEST",
            "2.16.578.1.29.913.210.1.0",
            Seid2,
            Commfides,
            Test,
            None,
        ),
    ] {
        let judgement = leaf.policies(&[policy]).alone(organisation, ca);
        assert_eq!(
            judgement.kind,
            Kind::Virksomhetssertifikat { generation, issuer, environment, storage },
            "{ca}"
        );
        assert_eq!(judgement.business, Fitness::default(), "{ca}");
        assert_eq!(
            judgement.to_string(),
            format!(
                "works at Maskinporten in {environment} for Testvirksomhet AS (991825827), as a Norwegian business, \
                 until 2027-11-21"
            )
        );
        assert_eq!(judgement.missing_issuer.as_deref().map(|it| it.contains(ca)), Some(true));
    }
}

#[test]
fn a_norwegian_certificate_that_is_a_seal_says_so_and_stays_a_business_certificate() {
    let judgement = seid2()
        .policies(&["0.4.0.194112.1.1", "2.16.578.1.29.13.200.1.0"])
        .statements(&[qc::compliance(), qc::kind(2), qc::semantics(2)])
        .for_purpose(ExtendedKeyUsagePurpose::ServerAuth)
        .for_purpose(ExtendedKeyUsagePurpose::EmailProtection)
        .alone(COMMFIDES, "Commfides Legal Person - G3");
    assert_eq!(judgement.way(), Some(Way::Business));
    assert_eq!(judgement.seal.as_ref().map(|seal| seal.level), Some(Level::Qualified));
    assert!(matches!(judgement.eseal.obstacles.as_slice(), [Finding::Incomplete { .. }]));
    assert_eq!(judgement.eseal.cautions, [Finding::NorwegianSeal]);
}

#[test]
fn what_digdirs_validator_would_not_like_is_said() {
    let policy = "2.16.578.1.29.13.310.1.0";
    let lcp = seid2().policies(&[policy]).alone(COMMFIDES, "Commfides Legal Person - G3");
    assert_eq!(lcp.business.obstacles, [Finding::Policies(vec![policy.into()])]);
    assert_eq!(lcp.way(), None);
    // A test policy in production.
    let mixed =
        seid2().policies(&["2.16.578.1.26.1.0.3.2"]).alone("Buypass AS", "Buypass Class 3 CA G2 ST Business");
    assert!(matches!(mixed.business.obstacles.as_slice(), [Finding::Policies(_)]));
    let hard = seid2()
        .policies(&["2.16.578.1.26.1.3.5"])
        .alone("Buypass AS", "Buypass Class 3 Test4 CA G2 HT Business");
    assert_eq!(hard.business.cautions, [Finding::HardInTest]);
    let retired = seid2()
        .policies(&["2.16.578.1.29.13.1.1.0"])
        .alone("Commfides Norge AS - 988 312 495", "CPN Enterprise SHA256 CLASS 3");
    assert!(matches!(retired.business.cautions.as_slice(), [Finding::RetiredIssuer(_)]));
    let mut odd = seid2().policies(&["2.16.578.1.26.1.3.2"]);
    let mut constraint = CustomExtension::from_oid_content(&[2, 5, 29, 36], vec![0x30, 0]);
    constraint.set_criticality(true);
    odd.0.custom_extensions.push(constraint);
    odd.0.key_usages.clear();
    let odd = odd.alone("Buypass AS", "Buypass Class 3 CA G2 ST Business");
    assert_eq!(
        odd.business.cautions,
        [Finding::KeyUsageNotCritical, Finding::Critical(vec!["2.5.29.36".into()])]
    );
}

#[test]
fn the_wrong_certificate_of_a_set_is_named() {
    let of = |usage| {
        seid2()
            .usage(usage)
            .policies(&["2.16.578.1.26.1.3.2"])
            .alone("Buypass AS", "Buypass Class 3 CA G2 ST Business")
    };
    let encryption = of(KeyUsagePurpose::KeyEncipherment);
    assert_eq!(encryption.business.obstacles, [Finding::Purpose(Purpose::Encryption)]);
    assert_eq!(
        encryption.to_string(),
        "does not work at Maskinporten: it is for encryption, so it cannot prove who signed"
    );
    let signing = of(KeyUsagePurpose::ContentCommitment);
    assert_eq!((signing.way(), signing.business.cautions), (Some(Way::Business), vec![Finding::Signing]));
}

#[test]
fn a_number_with_a_wrong_digit_or_none_at_all_is_named() {
    let of = |leaf: Leaf| {
        leaf.policies(&["2.16.578.1.26.1.3.2"])
            .alone("Buypass AS", "Buypass Class 3 CA G2 ST Business")
            .business
            .obstacles
    };
    assert!(matches!(
        of(Leaf::of("x").identifier("NTRNO-991825828")).as_slice(),
        [Finding::OrganisationNumber(number, NotAnOrganisationNumber::CheckDigit)] if number == "991825828"
    ));
    assert_eq!(of(Leaf::of("x")), [Finding::NoOrganisationNumber]);
}

#[test]
fn keys_that_maskinporten_refuses_are_named_before_anything_else() {
    let root = SampleAuthority::root_of("Buypass AS", "Buypass Class 3 CA G2 ST Business");
    let leaf = seid2().policies(&["2.16.578.1.26.1.3.2"]);
    let curve = KeyPair::generate().unwrap();
    let certificate = root.certify(&leaf.0, &curve.subject_public_key_info());
    let judgement = Chain::of(certificate, &[], today()).judge(today());
    assert_eq!(judgement.business.obstacles, [Finding::Key(KeyKind::EllipticCurve("P-256".into()))]);
    assert_eq!(judgement.business.obstacles[0].who(), Who::Issuer);
    // 1024 bits: a modulus with its highest bit set.
    let weak = crate::jose::RsaPublicKey::new(&[0xc1; 128], &[1, 0, 1]).to_spki().unwrap();
    let certificate = root.certify(&leaf.0, &weak);
    let judgement = Chain::of(certificate, &[], today()).judge(today());
    assert_eq!(judgement.business.obstacles, [Finding::Key(KeyKind::Rsa(1024))]);
}

#[test]
fn expiry_is_counted_in_days_and_is_a_matter_of_the_whole_chain() {
    let root = SampleAuthority::sandbox();
    let mut leaf = seid2().policies(&["2.16.578.1.1.1.1.100"]);
    leaf.0.not_after = days(400).into();
    let chain = Chain::of(leaf.by(&root), std::slice::from_ref(&root.certificate), today());
    let at = |day| chain.judge(days(day));
    assert_eq!(at(0).days_left, 365);
    assert_eq!(at(274).business.cautions, []);
    assert_eq!(at(276).business.cautions, [Finding::ExpiresSoon { days: 89 }]);
    assert!(
        matches!(at(366).business.obstacles.as_slice(), [Finding::IssuerValidity(what)] if what.contains("Segl Sandbox"))
    );
    assert!(matches!(at(401).business.obstacles.as_slice(), [Finding::Expired(_)]));
    assert_eq!(at(366).days_left, -2);
    assert!(matches!(at(-3).business.obstacles.as_slice(), [Finding::NotYetValid(_)]));
    assert!(at(0).to_string().starts_with("works at the sandbox only for Testvirksomhet AS (991825827)"));
}

#[test]
fn an_issuer_of_a_known_name_with_another_certificate_is_a_forgery() {
    let leaf = seid2().policies(&["2.16.578.1.26.1.3.2"]);
    let judgement = leaf.whole_by("Buypass AS", "Buypass Class 3 CA G2 ST Business");
    assert!(matches!(judgement.business.obstacles.as_slice(), [Finding::ForgedIssuer(_)]));
    let certificate = SampleAuthority::root("x").certificate;
    assert!(known_by("0").is_forged_by(&certificate));
    assert!(!known_by(certificate.fingerprint().leak()).is_forged_by(&certificate));
}

#[test]
fn a_decoy_of_the_issuers_name_stays_out_of_the_chain() {
    let name = "Buypass Class 3 Test4 CA G2 HT Business";
    let (issuer, decoy) =
        (SampleAuthority::root_of("Buypass AS", name), SampleAuthority::root_of("Buypass AS", name));
    let leaf = seid2().policies(&["2.16.578.1.26.1.3.5"]).by(&issuer);
    let with_decoy = Chain::of(leaf.clone(), std::slice::from_ref(&decoy.certificate), today());
    assert_eq!((with_decoy.len(), with_decoy.missing_issuer().is_some()), (1, true));
    let both = Chain::of(leaf, &[decoy.certificate, issuer.certificate.clone()], today());
    assert_eq!(both.certificates().last(), Some(&issuer.certificate));
}

#[test]
fn what_is_no_organisations_certificate_says_what_it_is() {
    let company = || Leaf::of("Firma GmbH").identifier("NTRDE-HRB1234");
    let mut server = company().for_purpose(ExtendedKeyUsagePurpose::ServerAuth);
    server.0.subject_alt_names = vec![SanType::DnsName("firma.example".try_into().unwrap())];
    let person =
        |oid: &[u64], value: &str| Leaf(parameters("Kari Nordmann")).with(DnType::from_oid(oid), value);
    for (leaf, expected) in [
        (server, Stranger::Server),
        (company().policies(&["2.23.140.1.1"]), Stranger::Server),
        (company().statements(&[qc::compliance(), qc::kind(3)]), Stranger::Server),
        (company().for_purpose(ExtendedKeyUsagePurpose::CodeSigning), Stranger::Code),
        (company().for_purpose(ExtendedKeyUsagePurpose::TimeStamping), Stranger::TimeStamps),
        (company().for_purpose(ExtendedKeyUsagePurpose::OcspSigning), Stranger::Revocation),
        (company().policies(&["2.23.140.1.5.2.1"]), Stranger::Mail),
        (company().with(DnType::from_oid(&[2, 5, 4, 42]), "Kari"), Stranger::Employee),
        (company().policies(&["0.4.0.194112.1.2"]), Stranger::Employee),
        (company().statements(&[qc::semantics(1)]), Stranger::Employee),
        (company().statements(&[qc::compliance(), qc::kind(1)]), Stranger::Employee),
        (person(&[2, 5, 4, 4], "Nordmann"), Stranger::Person),
        (person(&[2, 5, 4, 5], "UN:NO-9578-4050-123456789"), Stranger::Person),
        (person(&[2, 5, 4, 5], "PNOSE-197001011234"), Stranger::Person),
        (Leaf(parameters("Kari Nordmann")).policies(&["2.16.578.1.26.1.3.1"]), Stranger::Person),
        (Leaf::of("x").serial_number("991825827"), Stranger::UnknownIssuer),
        (seid2(), Stranger::UnknownIssuer),
        (Leaf::of("x").identifier("VAT-DE-123456789"), Stranger::Identifier),
        (Leaf::of("x"), Stranger::Nobody),
    ] {
        let judgement = leaf.whole();
        assert_eq!(stranger(&judgement), expected);
        assert_eq!(judgement.way(), None, "{expected}");
        let shown = judgement.to_string();
        assert!(
            shown
                .starts_with("does not work at Maskinporten: it is not a business certificate (certificate "),
            "{shown}"
        );
        assert!(!judgement.fitness().obstacles[0].remedy().is_empty());
    }
    let employee = seid2().alone("Buypass AS", "Buypass Class 3 CA G2 HT Person");
    assert_eq!(stranger(&employee), Stranger::Employee);
}

#[test]
fn the_certificate_of_an_issuer_is_not_taken_for_that_of_an_organisation() {
    let root = SampleAuthority::root_of("Buypass AS", "Buypass Class 3 CA G2 ST Business");
    let judgement = Chain::of(root.certificate, &[], today()).judge(today());
    assert_eq!((judgement.kind.clone(), judgement.way()), (Kind::Authority(Some(Issuer::Buypass)), None));
    assert!(judgement.fitness().obstacles[0].remedy().contains("behind it"));
}

#[test]
fn a_certificate_signed_with_its_own_key_is_nobodys() {
    let certificate = crate::certificate::sample::self_signed(seid2().0);
    assert_eq!(stranger(&Chain::of(certificate, &[], today()).judge(today())), Stranger::SelfSigned);
}
