//! RA-TLS certificates and claims, made and read back, and what the strict readers refuse.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::Error;
use jiff::Timestamp;
use proptest::prelude::*;
use rcgen::{CertificateParams, CustomExtension, KeyPair};

fn claims() -> Claims {
    Claims {
        pubkey_hash: [7; 32],
        nonce: Some(vec![9; 32]),
        app: Some(AppClaims::new([1; 16], vec![2; 1216], TlsMode::OwnerCertificate)),
    }
}

fn request<'a>(
    key: &'a KeyPair,
    hosts: &'a [String],
    quote: &'a [u8],
    claims: &'a [u8],
) -> CertificateRequest<'a> {
    CertificateRequest {
        subject: "CN=myapp.fr,O=Example\\, Inc,C=FR",
        hosts,
        not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
        not_after: "2027-01-01T00:00:00Z".parse().unwrap(),
        key,
        quote,
        claims,
    }
}

fn with_extensions(extensions: Vec<CustomExtension>) -> Vec<u8> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.custom_extensions = extensions;
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn a_certificate_reads_back_as_it_was_issued() {
    let key = KeyPair::generate().unwrap();
    let hosts = ["myapp.fr".to_string(), "127.0.0.1".to_string(), "::1".to_string()];
    let (quote, claims) = (vec![3; 4600], claims().encode());
    let der = issue(&request(&key, &hosts, &quote, &claims)).unwrap();

    let certificate = RatlsCertificate::parse(&der).unwrap();
    assert_eq!(certificate.der, der);
    assert_eq!(certificate.hosts, hosts);
    assert_eq!(certificate.quote, quote);
    assert_eq!(certificate.binding, Binding::Interoperable { claims });
    assert_eq!(certificate.subject, "CN=myapp.fr,O=Example\\, Inc,C=FR");
    assert_eq!(certificate.ec_point, key.public_key_raw());
    assert_eq!(certificate.not_before, "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(certificate.not_after, "2027-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(certificate.spki_der, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert_eq!(certificate.spki_sha256, spki_sha256(&certificate.spki_der));
    assert!(certificate.self_signature_is_valid());
    assert_eq!(RatlsCertificate::from_pem(certificate.to_pem().as_bytes()).unwrap(), certificate);
}

#[test]
fn a_plain_subject_becomes_the_common_name() {
    let key = KeyPair::generate().unwrap();
    let mut request = request(&key, &[], b"quote", b"claims");
    request.subject = "my app";
    let certificate = RatlsCertificate::parse(&issue(&request).unwrap()).unwrap();
    assert_eq!(certificate.subject, "CN=my app");
}

#[test]
fn requests_that_no_certificate_can_meet_are_refused() {
    let key = KeyPair::generate().unwrap();
    let hosts = ["mañana.fr".to_string()];
    assert!(matches!(issue(&request(&key, &hosts, b"q", b"c")), Err(Error::Issue { .. })));

    let mut backwards = request(&key, &[], b"q", b"c");
    backwards.not_after = backwards.not_before;
    assert!(matches!(issue(&backwards), Err(Error::Issue { .. })));

    let mut subject = request(&key, &[], b"q", b"c");
    subject.subject = "CN=a,CN=b";
    assert!(matches!(issue(&subject), Err(Error::Issue { .. })));

    let other_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(matches!(issue(&request(&other_key, &[], b"q", b"c")), Err(Error::Issue { .. })));
}

#[test]
fn a_changed_certificate_no_longer_carries_its_own_signature() {
    let key = KeyPair::generate().unwrap();
    let mut der = issue(&request(&key, &[], &[3; 100], &claims().encode())).unwrap();
    let at = der.windows(100).position(|window| window == [3; 100]).unwrap();
    der[at] ^= 1;
    assert!(!RatlsCertificate::parse(&der).unwrap().self_signature_is_valid());
}

#[test]
fn the_legacy_form_is_read_and_the_interoperable_one_preferred() {
    let legacy = CustomExtension::from_oid_content(&[1, 2, 840, 113741, 1337, 6], b"an older quote".to_vec());
    let only = RatlsCertificate::parse(&with_extensions(vec![legacy.clone()])).unwrap();
    assert_eq!((only.quote.as_slice(), only.binding), (b"an older quote".as_slice(), Binding::Legacy));
    assert!(
        RatlsCertificate::parse(&only.der).unwrap().self_signature_is_valid(),
        "rcgen's default certificate is self-signed"
    );

    let evidence = hex::decode("d9ea6082427171426363").unwrap();
    let tagged = CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 9], evidence);
    let both = RatlsCertificate::parse(&with_extensions(vec![legacy, tagged])).unwrap();
    assert_eq!(both.quote, b"qq");
    assert_eq!(both.binding, Binding::Interoperable { claims: b"cc".to_vec() });
}

#[test]
fn certificates_that_could_mean_two_things_are_refused() {
    let tagged = |content: &str| {
        CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 9], hex::decode(content).unwrap())
    };
    let good = "d9ea6082427171426363";
    assert!(RatlsCertificate::parse(&with_extensions(vec![tagged(good)])).is_ok());

    let twice = with_extensions(vec![tagged(good), tagged(good)]);
    assert!(
        matches!(RatlsCertificate::parse(&twice), Err(Error::Malformed { found, .. }) if found.contains("twice"))
    );

    let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    unknown.set_criticality(true);
    let critical = with_extensions(vec![tagged(good), unknown]);
    assert!(
        matches!(RatlsCertificate::parse(&critical), Err(Error::Malformed { found, .. }) if found.contains("1.2.3.4"))
    );

    assert!(matches!(
        RatlsCertificate::parse(&with_extensions(vec![])),
        Err(Error::Malformed { what: EVIDENCE, .. })
    ));

    let mut trailing = with_extensions(vec![tagged(good)]);
    trailing.push(0);
    assert!(matches!(
        RatlsCertificate::parse(&trailing),
        Err(Error::Malformed { what: "RA-TLS certificate", .. })
    ));

    for (defect, content) in [
        ("another tag", "d9ea6182427171426363"),
        ("no tag", "82427171426363"),
        ("three elements", "d9ea608342717142636300"),
        ("indefinite array", "d9ea609f427171426363ff"),
        ("long form of a short length", "d9ea6082580271714263 63"),
        ("trailing byte", "d9ea608242717142636300"),
        ("text instead of bytes", "d9ea6082627171426363"),
        ("cut short", "d9ea60824271714263"),
    ] {
        let der = with_extensions(vec![tagged(&content.replace(' ', ""))]);
        assert!(
            matches!(RatlsCertificate::parse(&der), Err(Error::Malformed { what: EVIDENCE | CLAIMS, .. })),
            "{defect}"
        );
    }
}

#[test]
fn oversized_inputs_are_refused_unread() {
    let huge = vec![0x30; MAX_CERTIFICATE_BYTES + 1];
    assert!(matches!(RatlsCertificate::parse(&huge), Err(Error::TooLarge { .. })));
    assert!(matches!(Claims::decode(&vec![0xa0; MAX_CLAIMS_BYTES + 1]), Err(Error::TooLarge { .. })));
    assert!(matches!(
        LiveEvidence::from_json(&vec![b' '; MAX_LIVE_EVIDENCE_BYTES + 1]),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn the_encoding_of_claims_is_fixed() {
    let mut claims = Claims { pubkey_hash: [0xaa; 32], nonce: None, app: None };
    let hash = "aa".repeat(32);
    // {"pubkey-hash": h'82 01 58 20 aa..'}
    assert_eq!(hex::encode(claims.encode()), format!("a16b7075626b65792d68617368582482015820{hash}"));

    claims.nonce = Some(vec![0xbb; 16]);
    claims.app = Some(AppClaims {
        served_spki: Some([0xdd; 32]),
        ..AppClaims::new([0xcc; 16], vec![0xee; 2], TlsMode::RaTls)
    });
    let app = format!(
        "a5666170702d696450{}6776657273696f6e0168746c732d6d6f64656672612d746c736b7365616c696e672d6b657942eeee6b7365727665642d73706b695820{}",
        "cc".repeat(16),
        "dd".repeat(32)
    );
    let expected = format!(
        "a3636d736558{:02x}{app}656e6f6e636550{}6b7075626b65792d68617368582482015820{hash}",
        app.len() / 2,
        "bb".repeat(16)
    );
    assert_eq!(hex::encode(claims.encode()), expected);
}

#[test]
fn report_data_is_the_hash_of_the_claims_and_zeros() {
    let data = report_data(b"abc");
    assert_eq!(hex::encode(&data[..32]), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(data[32..], [0; 32]);
}

#[test]
fn claims_of_other_makers_are_stepped_over() {
    // {"x": [1, {"y": -1}, 1.5, null], "pubkey-hash": ...}, in no particular order
    let foreign = format!(
        "a2617884 01 a1617920 fb3ff8000000000000 f6 6b7075626b65792d68617368582482015820{}",
        "aa".repeat(32)
    );
    let claims = Claims::decode(&hex::decode(foreign.replace(' ', "")).unwrap()).unwrap();
    assert_eq!(claims, Claims { pubkey_hash: [0xaa; 32], nonce: None, app: None });
}

#[test]
fn claims_that_are_not_deterministic_are_refused() {
    let hash = "aa".repeat(32);
    let pubkey = format!("6b7075626b65792d68617368582482015820{hash}");
    let refused = |defect: &str, hex: String| {
        let bytes = hex::decode(hex.replace(' ', "")).unwrap();
        assert!(
            matches!(Claims::decode(&bytes), Err(Error::Malformed { what: "RA-TLS claims", .. })),
            "{defect}"
        );
    };
    refused("empty", String::new());
    refused("an empty map", "a0".into());
    refused("not a map", "80".into());
    refused("trailing byte", format!("a1{pubkey}00"));
    refused("indefinite map", format!("bf{pubkey}ff"));
    refused("length of the map not shortest", format!("b801{pubkey}"));
    refused("duplicate key", format!("a2{pubkey}{pubkey}"));
    refused("duplicate foreign key", format!("a3{pubkey}617800617800"));
    refused("key not text", format!("a2{pubkey}0000"));
    refused("nonce too short", format!("a2{pubkey}656e6f6e63654f{}", "bb".repeat(15)));
    refused("nonce too long", format!("a2{pubkey}656e6f6e63655841{}", "bb".repeat(65)));
    refused("hash of another algorithm", format!("a16b7075626b65792d68617368582482075820{hash}"));
    refused("hash too short", format!("a16b7075626b65792d6861736858238201581f{}", "aa".repeat(31)));
    refused("hash with something after it", format!("a16b7075626b65792d6861736858258201582 0{hash}00"));
    refused("foreign integer not shortest", format!("a2{pubkey}61781817"));
    refused("foreign text not UTF-8", format!("a2{pubkey}617861ff"));
    refused("foreign break", format!("a2{pubkey}6178ff"));
    refused("foreign simple value not shortest", format!("a2{pubkey}6178f81f"));
    refused("foreign nesting too deep", format!("a2{pubkey}6178{}00", "81".repeat(20)));
    refused("foreign array longer than the input", format!("a2{pubkey}61789bffffffffffffffff00"));
    refused("bytes longer than the input", "a16b7075626b65792d686173685bffffffffffffffff00".into());
}

#[test]
fn app_claims_are_complete_and_of_this_version() {
    let encode = |app: &str| {
        let app = hex::decode(app).unwrap();
        let pubkey = hex::decode(format!("6b7075626b65792d68617368582482015820{}", "aa".repeat(32))).unwrap();
        let mut bytes = vec![0xa2, 0x63, b'm', b's', b'e', 0x58, app.len() as u8];
        bytes.extend(app);
        bytes.extend(pubkey);
        bytes
    };
    let app_id = format!("666170702d696450{}", "cc".repeat(16));
    let (version, mode, key) =
        ("6776657273696f6e01", "68746c732d6d6f64656672612d746c73", "6b7365616c696e672d6b657941ee");
    assert!(Claims::decode(&encode(&format!("a4{app_id}{version}{mode}{key}"))).is_ok());
    for (defect, app) in [
        ("no app id", format!("a3{version}{mode}{key}")),
        ("no version", format!("a3{app_id}{mode}{key}")),
        ("no TLS mode", format!("a3{app_id}{version}{key}")),
        ("no sealing key", format!("a3{app_id}{version}{mode}")),
        ("empty sealing key", format!("a4{app_id}{version}{mode}6b7365616c696e672d6b657940")),
        ("version 2", format!("a4{app_id}6776657273696f6e02{mode}{key}")),
        ("unknown TLS mode", format!("a4{app_id}{version}68746c732d6d6f6465636e6f6e{key}")),
        ("unknown key", format!("a5{app_id}{version}{mode}{key}617800")),
        ("trailing byte", format!("a4{app_id}{version}{mode}{key}00")),
    ] {
        assert!(
            matches!(Claims::decode(&encode(&app)), Err(Error::Malformed { what: "RA-TLS claims", .. })),
            "{defect}"
        );
    }
}

#[test]
fn live_evidence_reads_back_and_nothing_else_is_taken_for_it() {
    let evidence = LiveEvidence::new(vec![1, 2, 255], vec![3; 100], vec![]);
    let json = evidence.to_json();
    assert_eq!(LiveEvidence::from_json(json.as_bytes()).unwrap(), evidence);
    for wrong in [
        json.replace("\"version\":1", "\"version\":2"),
        json.replace("\"claims\":", "\"Claims\":"),
        json.replace("{\"", "{\"more\":1,\""),
        json.replace("AQL_", "AQL/"),
        json.replace("AQL_", "AQL_="),
        format!("{json}x"),
        "{}".into(),
        String::new(),
    ] {
        assert!(
            matches!(
                LiveEvidence::from_json(wrong.as_bytes()),
                Err(Error::Malformed { what: "live evidence", .. })
            ),
            "{wrong}"
        );
    }
}

fn any_claims() -> impl Strategy<Value = Claims> {
    let mode = prop_oneof![
        Just(TlsMode::RaTls),
        Just(TlsMode::OwnerCertificate),
        Just(TlsMode::OperatorCertificate)
    ];
    let app =
        (any::<[u8; 16]>(), prop::collection::vec(any::<u8>(), 1..2000), mode, any::<Option<[u8; 32]>>())
            .prop_map(|(app_id, sealing_key, mode, served_spki)| AppClaims {
                served_spki,
                ..AppClaims::new(app_id, sealing_key, mode)
            });
    (any::<[u8; 32]>(), prop::option::of(prop::collection::vec(any::<u8>(), 16..=64)), prop::option::of(app))
        .prop_map(|(pubkey_hash, nonce, app)| Claims { pubkey_hash, nonce, app })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_claims_read_back(claims in any_claims()) {
        prop_assert_eq!(Claims::decode(&claims.encode()).unwrap(), claims);
    }

    /// Two different byte strings never mean the same claims, as long as only our own claims are in them.
    #[test]
    fn a_flipped_bit_changes_the_meaning_or_is_refused(claims in any_claims(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = claims.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Claims::decode(&bytes) {
            prop_assert_ne!(read, claims);
        }
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Claims::decode(&bytes);
        let _ = RatlsCertificate::parse(&bytes);
        let _ = RatlsCertificate::from_pem(&bytes);
        let _ = LiveEvidence::from_json(&bytes);
    }

    #[test]
    fn no_damage_to_a_certificate_makes_the_reader_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut der = with_extensions(vec![CustomExtension::from_oid_content(&[1, 2, 840, 113741, 1337, 6], vec![1; 64])]);
        let at = at.index(der.len());
        der[at] = byte;
        let _ = RatlsCertificate::parse(&der).map(|certificate| certificate.self_signature_is_valid());
    }
}
