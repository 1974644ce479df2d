//! `admit` makes a `Verified<Evidence>` of accepted evidence, and of nothing else.

use crate::corpus::draft::{AT, Draft, MRENCLAVE, NONCE};
use crate::corpus::{self, Form};
use attestation::judgement::{Outcome, Platform};
use attestation::ratls::{AppClaims, Claims, spki_sha256};
use attestation::tcb::TcbStatus;
use attestation::trust::ExplicitRoot;
use attestation::{Arguments, Evidence, Expected, Policy, Refused, TrustAnchors, Verified, admit};
use rcgen::PublicKeyData as _;

fn try_admit(change: impl FnOnce(&mut Draft)) -> Result<Verified<Evidence>, Box<Refused>> {
    let mut draft = Draft::new(Form::Evidence);
    draft.expected = Expected {
        mrenclave_by_size: [(2048, [0; 32]), (4096, MRENCLAVE)].into(),
        nonce: Some(NONCE.to_vec()),
        ..Expected::default()
    };
    change(&mut draft);
    let case = draft.finish("case".into(), Vec::new());
    let anchors = TrustAnchors::intel().with_explicit(ExplicitRoot::from_pem(case.root.as_bytes()).unwrap());
    let evidence = Evidence::from_json(&case.subject).unwrap();
    admit(evidence, &anchors, &Policy::strict(), &case.expected, case.at)
}

#[test]
fn accepted_evidence_says_what_it_proves() {
    let verified = try_admit(|_| {}).unwrap();
    assert_eq!(verified.platform(), Platform::Sgx);
    assert_eq!(verified.tcb_status(), TcbStatus::UpToDate);
    assert_eq!(verified.mrenclave(), MRENCLAVE);
    assert_eq!(verified.size_mb(), Some(4096));
    assert_eq!(verified.app().unwrap().app_id, [1; 16]);
    assert_eq!(verified.claims().pubkey_hash, verified.spki_sha256());
    assert_eq!(verified.claims().nonce.as_deref(), Some(&NONCE[..]));
    assert!(verified.judgement().is_accepted());
    assert_eq!(verified.judgement().policy(), "strict");
    assert!(verified.judgement().valid_until() > Some(verified.judgement().judged_at()));
}

#[test]
fn without_a_fingerprint_to_compare_nothing_is_admitted() {
    let refused = try_admit(|draft| draft.expected = Expected::default()).unwrap_err();
    let failed: Vec<&str> = refused.judgement.failures().map(|check| check.id.as_str()).collect();
    assert_eq!(failed, ["quote.mrenclave"]);
    assert!(refused.to_string().contains("quote.mrenclave"), "{refused}");
}

#[test]
fn another_fingerprint_is_refused() {
    let refused = try_admit(|draft| draft.expected.mrenclave_by_size = [(4096, [8; 32])].into()).unwrap_err();
    assert_eq!(refused.judgement.failures().count(), 1);
}

#[test]
fn evidence_survives_its_file_and_its_json_has_every_field() {
    let verified = try_admit(|_| {}).unwrap();
    let again = Evidence::from_json(verified.evidence().to_json().as_bytes()).unwrap();
    assert_eq!(&again, verified.evidence());

    let json: serde_json::Value = serde_json::from_str(&verified.judgement().to_json()).unwrap();
    assert_eq!(json["verdict"], "accepted");
    assert_eq!(json["platform"], "sgx");
    assert_eq!(json["anchor"]["kind"], "explicit");
    assert_eq!(json["policy"], "strict");
    assert_eq!(json["tcb"]["status"], "UpToDate");
    assert_eq!(json["tcb"]["evaluation_data_number"], 17);
    assert_eq!(json["qe"]["status"], "UpToDate");
    assert_eq!(json["measurements"]["mrenclave"], hex::encode(MRENCLAVE));
    assert_eq!(json["judged_at"], corpus::draft::AT);
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), verified.judgement().checks().len());
    assert!(checks.iter().all(|check| ["pass", "skipped"].contains(&check["result"].as_str().unwrap())));
    let passed = verified.judgement().checks().iter().filter(|check| check.result == Outcome::Pass).count();
    assert!(passed > 90, "{passed} checks");
}

#[test]
fn a_judgement_says_what_was_judged_and_when() {
    let verified = try_admit(|_| {}).unwrap();
    let judgement = verified.judgement();
    assert_eq!(judgement.judged_at(), AT.parse().unwrap());
    let measurements = judgement.measurements().unwrap();
    assert_eq!(measurements.mrenclave, hex::encode(MRENCLAVE));
    assert_eq!(measurements.config_id, None);
    let configured = try_admit(|draft| {
        draft.report.config_id[63] = 1;
        draft.remake_node();
    });
    let config_id = configured.unwrap().judgement().measurements().unwrap().config_id.clone();
    assert_eq!(config_id, Some(format!("{}01", "00".repeat(63))));
    assert_eq!(Platform::Sgx.warning(), None);
    assert_eq!(Platform::Simulated.warning(), Some("SIMULATED"));
}

#[test]
fn arguments_survive_their_file() {
    let verified = try_admit(|_| {}).unwrap();
    let arguments = &verified.evidence().arguments;
    assert_eq!(&Arguments::from_toml(&arguments.to_toml()).unwrap(), arguments);
}

/// The certificate's own quote may be of the legacy form: it has to bind the key all the same.
#[test]
fn a_legacy_certificate_in_evidence_binds_its_key() {
    let mut data = [0; 64];
    let legacy = |draft: &mut Draft, data| {
        let quote = draft.quote_over(data).to_bytes();
        draft.certificate = draft.issue_legacy(&quote);
    };
    let refused = try_admit(|draft| legacy(draft, data)).unwrap_err();
    let failed: Vec<&str> = refused.judgement.failures().map(|check| check.id.as_str()).collect();
    assert_eq!(failed, ["binding.certificate_quote"]);
    try_admit(|draft| {
        data[..32].copy_from_slice(&spki_sha256(&draft.key.subject_public_key_info()));
        legacy(draft, data);
    })
    .unwrap();
}

/// The key that the application serves may be set after the certificate was made; nothing else of it may change.
#[test]
fn only_the_served_key_may_be_newer_than_the_certificate() {
    let served = |draft: &mut Draft, change: fn(&mut AppClaims)| {
        let mut claims = Claims { nonce: Some(NONCE.to_vec()), ..draft.claims.clone() };
        change(claims.app.as_mut().unwrap());
        draft.set_fresh_claims(claims.encode());
    };
    let verified = try_admit(|draft| served(draft, |app| app.served_spki = Some([5; 32]))).unwrap();
    assert_eq!(verified.app().unwrap().served_spki, Some([5; 32]));
    let refused = try_admit(|draft| served(draft, |app| app.sealing_key[0] ^= 1)).unwrap_err();
    let failed: Vec<&str> = refused.judgement.failures().map(|check| check.id.as_str()).collect();
    assert_eq!(failed, ["binding.certificate_quote"]);
}
