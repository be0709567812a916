use super::*;

#[test]
fn a_seal_from_abroad_works_in_both_environments_with_its_whole_chain_only() {
    let judgement = foreign_seal().whole();
    assert!(matches!(&judgement.kind, Kind::Eseal(seal) if seal.level == Level::Qualified && !seal.qscd));
    assert_eq!((judgement.way(), &judgement.eseal), (Some(Way::Eseal), &Fitness::default()));
    assert_eq!(
        judgement.to_string(),
        "works at Maskinporten in test and production for Norrbottens Åkeri AB (VATSE-556012345601), as an eSeal, \
         until 2027-11-21"
    );
    let alone = foreign_seal().alone("Fiktivt Tillitsselskap", "Fiktiv QC CA");
    assert!(
        matches!(alone.eseal.obstacles.as_slice(), [Finding::Incomplete { urls, .. }] if urls.is_empty())
    );
    assert_eq!(alone.way(), None);
}

#[test]
fn seals_tell_their_worth() {
    let identified = || Leaf::of("Firma GmbH").identifier("NTRDE-HRB1234").with(DnType::CountryName, "DE");
    let level = |leaf: Leaf| match leaf.whole().kind {
        Kind::Eseal(seal) => (seal.level, seal.qscd),
        other => panic!("{other}"),
    };
    assert_eq!(level(identified().policies(&["0.4.0.194112.1.3"])), (Level::Qualified, true));
    assert_eq!(
        level(identified().statements(&[qc::compliance(), qc::kind(2), qc::qscd()])),
        (Level::Qualified, true)
    );
    for advanced in ["0.4.0.2042.1.1", "0.4.0.2042.1.2", "0.4.0.2042.1.3"] {
        assert_eq!(level(identified().policies(&[advanced])), (Level::Advanced, false));
    }
    let unmarked = identified().whole();
    assert_eq!((unmarked.way(), unmarked.eseal.cautions), (Some(Way::Eseal), vec![Finding::Unmarked]));
    let swiss = identified().statements(&[qc::compliance(), qc::kind(2), qc::legislation("CH")]).whole();
    assert_eq!(swiss.eseal.cautions, [Finding::Legislation(vec!["CH".into()])]);
}

#[test]
fn a_seal_for_tests_works_nowhere_since_there_is_no_list_of_test_issuers() {
    for name in ["D-Fiktiv TEST CA 1", "Test-CA", "Fiktiv Test4 CA"] {
        let judgement = foreign_seal().whole_by("Fiktivt Tillitsselskap", name);
        assert_eq!(judgement.eseal.obstacles, [Finding::TestSeal], "{name}");
    }
    assert!(foreign_seal().whole_by("Contest AB", "Attestation CA").eseal.works());
}

#[test]
fn a_foreign_seal_of_a_norwegian_issuer_is_an_eseal() {
    let judgement = foreign_seal().alone("Buypass AS", "Buypass Class 3 CA G2 ST Business");
    assert!(matches!(judgement.kind, Kind::Eseal(_)));
    assert_eq!(judgement.environment, Some(Environment::Production));
    let sandbox = foreign_seal().whole_by("Segl Sandbox (not a real issuer)", "Segl Sandbox Test CA");
    assert!(
        sandbox.to_string().starts_with("works at the sandbox only for Norrbottens Åkeri AB"),
        "{sandbox}"
    );
}

#[test]
fn the_seal_of_a_payment_service_provider_is_recognised() {
    let by_statement = foreign_seal().identifier("PSDSE-FINA-44059");
    let judgement = by_statement.whole();
    assert!(matches!(judgement.kind, Kind::Psd2Seal(_)), "{}", judgement.kind);
    let leaf = Leaf::of("Betalföretag AB")
        .identifier("PSDSE-FINA-44059")
        .policies(&["0.4.0.194112.1.1"])
        .statements(&[qc::compliance(), qc::kind(2), qc::psd2("PSP_PI", "Finansinspektionen")]);
    let judgement = leaf.whole();
    let Kind::Psd2Seal(seal) = &judgement.kind else { panic!("{}", judgement.kind) };
    assert_eq!(seal.psd2.as_ref().unwrap().roles, ["PSP_PI"]);
    assert_eq!(judgement.eseal.cautions, [Finding::Psd2("PSDSE-FINA-44059".into())]);
    let web = Leaf::of("Betalföretag AB").identifier("PSDSE-FINA-44059").statements(&[
        qc::compliance(),
        qc::kind(3),
        qc::psd2("PSP_PI", "Finansinspektionen"),
    ]);
    assert_eq!(stranger(&web.whole()), Stranger::Server);
}
