//! `admit` makes a `Verified<Evidence>` of accepted evidence, and of nothing else.

use crate::corpus::draft::{Draft, MRENCLAVE, NONCE};
use crate::corpus::{self, Form};
use attestation::judgement::{Outcome, Platform};
use attestation::tcb::TcbStatus;
use attestation::trust::ExplicitRoot;
use attestation::{Evidence, Expected, Policy, Refused, TrustAnchors, Verified, admit};

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
