//! What the make-believe Intel issues, read back with the judging side's readers.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::certificate::{Certificate, chain_from_pem};
use crate::pck::{Configuration, SGX_EXTENSION, SIMULATION_MARKER, SgxExtension, SgxType};
use crate::quote::Quote;
use crate::signature::{point_of, verify_fixed};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn authority(prefix: &str) -> Authority {
    let plan = AuthorityPlan::new(prefix, at("2026-01-01T00:00:00Z"), at("2046-01-01T00:00:00Z")).unwrap();
    Authority::generate(&plan).unwrap()
}

fn machine(authority: &Authority, ca: PckCa) -> Machine {
    authority.machine(MachinePlan::new(authority, ca, *b"MSESIM", [7; 16]).unwrap()).unwrap()
}

#[test]
fn every_certificate_is_signed_by_the_authority_above() {
    for ca in [PckCa::Platform, PckCa::Processor] {
        let authority = authority(SIMULATED);
        let machine = machine(&authority, ca);
        let quote = machine.make_quote(&machine.report()).unwrap();
        let chain = chain_from_pem(&quote.signature.certification_data).unwrap();
        let chain: Vec<_> = chain.iter().map(|der| Certificate::parse(der).unwrap()).collect();
        let [pck, pck_ca, root] = chain.as_slice() else { panic!("{} certificates", chain.len()) };
        assert!(pck.is_signed_by(&pck_ca.key().unwrap()));
        assert!(pck_ca.is_signed_by(&root.key().unwrap()));
        assert!(root.is_signed_by(&root.key().unwrap()));
        assert_eq!(
            (pck.issuer(), pck_ca.issuer(), root.issuer()),
            (pck_ca.subject(), root.subject(), root.subject())
        );
        assert_eq!(pck.common_name().unwrap(), "SIMULATED SGX PCK Certificate");
        assert_eq!(root.common_name().unwrap(), "SIMULATED SGX Root CA");
        assert_eq!(SgxExtension::parse(pck.extension(&SGX_EXTENSION).unwrap()).unwrap(), machine.plan.sgx);
    }
}

#[test]
fn only_a_simulated_authority_marks_its_machines() {
    for (prefix, marked) in [(SIMULATED, true), (INTEL, false)] {
        let authority = authority(prefix);
        let machine = machine(&authority, PckCa::Platform);
        let pck = Certificate::parse(&machine.pck.certificate).unwrap();
        let marker = pck.extension(&SIMULATION_MARKER);
        assert_eq!(marker.is_some(), marked);
        if let Some(value) = marker {
            assert_eq!(value, b"\x0c\x16MSE simulated platform");
        }
        let marker = pck.extensions().iter().find(|extension| extension.extn_id == SIMULATION_MARKER);
        assert!(marker.is_none_or(|extension| !extension.critical));
    }
}

#[test]
fn quotes_carry_the_three_signatures_and_the_binding() {
    let authority = authority(SIMULATED);
    let machine = machine(&authority, PckCa::Platform);
    let mut report = machine.report();
    report.mr_enclave = [3; 32];
    report.report_data = [4; 64];
    let quote = Quote::parse(&machine.quote(&report).unwrap()).unwrap();
    assert_eq!(quote.report, report);

    let tail = &quote.signature;
    assert!(verify_fixed(&point_of(&tail.attestation_key), &quote.signed_bytes(), &tail.signature));
    let pck_key = point_of(&machine.pck.public_key());
    assert!(verify_fixed(&pck_key, &tail.qe_report.to_bytes(), &tail.qe_report_signature));
    let bound = [&tail.attestation_key[..], &tail.qe_auth_data].concat();
    assert_eq!(tail.qe_report.report_data[..32], Sha256::digest(bound)[..]);
    assert_eq!(tail.qe_report.report_data[32..], [0; 32]);
}

#[test]
fn collateral_is_signed_by_tcb_signing() {
    let authority = authority(INTEL);
    let machine = machine(&authority, PckCa::Processor);
    let issued = at("2026-03-01T12:00:00.5Z");
    let collateral = authority.collateral(&machine.plan, issued, SignedDuration::from_hours(24)).unwrap();
    let key = point_of(&authority.tcb_signing.public_key());
    for (text, signature) in [
        (&collateral.tcb_info, &collateral.tcb_info_signature),
        (&collateral.qe_identity, &collateral.qe_identity_signature),
    ] {
        assert!(verify_fixed(&key, text.as_bytes(), &hex::decode(signature).unwrap()));
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(document["issueDate"], "2026-03-01T12:00:00Z");
        assert_eq!(document["nextUpdate"], "2026-03-02T12:00:00Z");
    }
    let chain = chain_from_pem(collateral.tcb_info_issuer_chain.as_bytes()).unwrap();
    assert_eq!(chain, [authority.tcb_signing.certificate.clone(), authority.root.certificate.clone()]);
    let crl_chain = chain_from_pem(collateral.pck_crl_issuer_chain.as_bytes()).unwrap();
    assert_eq!(crl_chain[0], authority.processor_ca.certificate);
}

#[test]
fn crls_name_the_revoked_serials() {
    let authority = authority(INTEL);
    let machine = machine(&authority, PckCa::Platform);
    let mut plan = CrlPlan::new(at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
    let clean = authority.platform_ca.crl(&plan).unwrap();
    plan.revoked.push(machine.pck.serial());
    let revoking = authority.platform_ca.crl(&plan).unwrap();
    let serial = Certificate::parse(&machine.pck.certificate).unwrap().serial().as_bytes().to_vec();
    let contains = |der: &[u8]| der.windows(serial.len()).any(|window| window == serial);
    assert!(contains(&revoking) && !contains(&clean));

    plan.next_update = plan.this_update;
    assert!(matches!(authority.platform_ca.crl(&plan), Err(Error::Issue { .. })));
}

#[test]
fn an_authority_and_its_machine_survive_their_files() {
    let authority = authority(SIMULATED);
    let machine = machine(&authority, PckCa::Platform);
    let restored = Authority::from_pem(&authority.to_pem()).unwrap();
    assert_eq!(restored.prefix, SIMULATED);
    assert_eq!(restored.window, authority.window);
    assert_eq!(*restored.to_pem(), *authority.to_pem());

    // What the restored authority issues hangs under the same root, with the same names.
    let later = self::machine(&restored, PckCa::Platform);
    let pck = Certificate::parse(&later.pck.certificate).unwrap();
    let ca = Certificate::parse(&authority.platform_ca.certificate).unwrap();
    assert!(pck.is_signed_by(&ca.key().unwrap()));
    assert_eq!(pck.issuer(), ca.subject());

    let again = restored.machine_from_pem(machine.plan.clone(), &machine.to_pem()).unwrap();
    assert_eq!(again.pck_chain, machine.pck_chain);
    assert_eq!(again.pck.serial(), machine.pck.serial());
    assert_eq!(*again.to_pem(), *machine.to_pem());
}

#[test]
fn key_files_that_are_not_whole_are_refused() {
    let authority = authority(SIMULATED);
    let other = self::authority(SIMULATED);
    let pem = authority.to_pem();
    assert!(Authority::from_pem("").is_err());
    assert!(Authority::from_pem(&pem[..pem.len() - 100]).is_err());
    assert!(Authority::from_pem(&format!("{}more", *pem)).is_err());
    assert!(
        Authority::from_pem(&pem.replace("SIMULATED", "")).is_ok(),
        "names stand in DER, not in the PEM text"
    );
    // The root of one authority with the key of another.
    let (root, _) = pem.split_once("-----BEGIN PRIVATE").unwrap();
    let other_pem = other.to_pem();
    let (_, key_and_rest) = other_pem.split_once("-----BEGIN PRIVATE").unwrap();
    let mixed = format!("{root}-----BEGIN PRIVATE{key_and_rest}");
    assert!(matches!(Authority::from_pem(&mixed), Err(Error::Issue { .. })));
    // Platform CA and processor CA in each other's place.
    let blocks: Vec<_> = pem.split_inclusive("-----END PRIVATE KEY-----\n").collect();
    let swapped = [blocks[0], blocks[2], blocks[1], blocks[3]].concat();
    assert!(matches!(Authority::from_pem(&swapped), Err(Error::Issue { .. })));
}

#[test]
fn debug_output_shows_no_keys() {
    let authority = authority(SIMULATED);
    let machine = machine(&authority, PckCa::Platform);
    let text = format!("{authority:?} {machine:?}");
    assert!(!text.contains("serialized_der") && !text.contains("KeyPair"), "{text}");
}

#[test]
fn a_certificate_can_be_changed_and_signed_again() {
    let authority = authority(INTEL);
    let machine = machine(&authority, PckCa::Platform);
    let changed = authority
        .platform_ca
        .reissue(&machine.pck.certificate, |tbs| {
            let place = tbs.windows(6).position(|window| window == b"MSESIM").unwrap();
            tbs[place] = b'X';
        })
        .unwrap();
    let pck = Certificate::parse(&changed).unwrap();
    assert!(pck.is_signed_by(&point_of(&authority.platform_ca.public_key())));
    assert_eq!(SgxExtension::parse(pck.extension(&SGX_EXTENSION).unwrap()).unwrap().fmspc, *b"XSESIM");
    let untouched = authority.platform_ca.reissue(&machine.pck.certificate, |_| {}).unwrap();
    assert!(
        Certificate::parse(&untouched).unwrap().is_signed_by(&point_of(&authority.platform_ca.public_key()))
    );
}

/// Intel's own encoder and this one agree to the byte.
#[test]
fn the_extension_of_a_real_pck_certificate_is_encoded_as_intel_did() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/quotes/sgx_quote");
    let Ok(bytes) = std::fs::read(path) else {
        eprintln!("skipped: {path} is not there");
        return;
    };
    let mut pem = Quote::parse(&bytes).unwrap().signature.certification_data;
    if pem.last() == Some(&0) {
        pem.pop();
    }
    let pck = Certificate::parse(&chain_from_pem(&pem).unwrap()[0]).unwrap();
    let value = pck.extension(&SGX_EXTENSION).unwrap();
    assert_eq!(encode_sgx_extension(&SgxExtension::parse(value).unwrap()), value);
}

fn any_sgx_extension() -> impl Strategy<Value = SgxExtension> {
    let kinds =
        prop_oneof![Just(SgxType::Standard), Just(SgxType::Scalable), Just(SgxType::ScalableWithIntegrity)];
    let configuration = any::<(Option<bool>, Option<bool>, Option<bool>)>().prop_map(
        |(dynamic_platform, cached_keys, smt)| Configuration { dynamic_platform, cached_keys, smt },
    );
    let octets =
        (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 2]>(), any::<[u8; 6]>());
    (octets, any::<u16>(), kinds, any::<Option<[u8; 16]>>(), prop::option::of(configuration)).prop_map(
        |(
            (ppid, components, cpu_svn, pce_id, fmspc),
            pce_svn,
            sgx_type,
            platform_instance_id,
            configuration,
        )| {
            SgxExtension {
                ppid,
                components,
                pce_svn,
                cpu_svn,
                pce_id,
                fmspc,
                sgx_type,
                platform_instance_id,
                configuration,
            }
        },
    )
}

proptest! {
    #[test]
    fn any_sgx_extension_reads_back(sgx in any_sgx_extension()) {
        prop_assert_eq!(SgxExtension::parse(&encode_sgx_extension(&sgx)).unwrap(), sgx);
    }

    #[test]
    fn no_text_makes_the_key_file_reader_panic(text in "(-----BEGIN |PRIVATE KEY|CERTIFICATE|-----END |-----|\n|[a-zA-Z0-9+/=])*") {
        let _ = Authority::from_pem(&text);
    }
}
