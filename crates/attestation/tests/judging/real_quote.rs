//! A quote of real hardware with the collateral that Intel signed for it, under Intel's pinned root.
//!
//! The files are not part of this repository; where they are missing the tests say so and pass.

use std::path::Path;

use attestation::judgement::{Fault, Outcome, Platform, Verdict};
use attestation::{
    Collateral, Expected, Input, Judgement, Policy, Quote, TrustAnchors, explain, judge_bytes,
};
use jiff::Timestamp;

const FIRST: &str = "2025-06-19T10:56:11Z";
const LAST: &str = "2025-07-19T10:01:18Z";
const INSIDE: &str = "2025-07-01T00:00:00Z";

/// Quote and collateral, where they are at hand.
fn sample() -> Option<(Vec<u8>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/quotes");
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let both = read("sgx_quote").zip(read("sgx_quote_collateral.json"));
    if both.is_none() {
        eprintln!("skipped: no sample quote in {}", folder.display());
    }
    both
}

fn tolerant() -> Policy {
    Policy::from_toml(
        r#"
        name = "tolerant"
        allowed_tcb_statuses = ["UpToDate", "ConfigurationAndSWHardeningNeeded"]
        [[advisory]]
        id = "INTEL-SA-00289"
        owner = "platform team"
        reason = "undervolting is locked"
        expires = 2026-01-01
        [[advisory]]
        id = "INTEL-SA-00615"
        owner = "platform team"
        reason = "the enclave does no MMIO"
        expires = "2026-01-01T00:00:00Z"
        "#,
    )
    .unwrap()
}

fn judge_at(quote: &[u8], collateral: &[u8], policy: &Policy, at: &str) -> Judgement {
    let at: Timestamp = at.parse().unwrap();
    let (anchors, expected) = (TrustAnchors::intel(), Expected::default());
    judge_bytes(Input::Quote(quote), Some(collateral), &anchors, policy, &expected, at)
}

fn failed(judgement: &Judgement) -> Vec<&str> {
    judgement.failures().map(|check| check.id.as_str()).collect()
}

#[test]
fn strict_refuses_it_and_names_the_status() {
    let Some((quote, collateral)) = sample() else { return };
    let judgement = judge_at(&quote, &collateral, &Policy::strict(), INSIDE);
    assert_eq!(judgement.verdict(), Verdict::Refused);
    assert_eq!(failed(&judgement), ["policy.tcb_status", "policy.advisories"]);
    let status = judgement.failures().next().unwrap();
    assert_eq!(status.found, "ConfigurationAndSWHardeningNeeded");
    assert_eq!(status.fault, Some(Fault::Platform));
    assert_eq!(judgement.valid_until(), None);
}

#[test]
fn a_policy_that_allows_the_status_accepts_it_in_its_window_only() {
    let Some((quote, collateral)) = sample() else { return };
    for at in [FIRST, INSIDE, LAST] {
        let judgement = judge_at(&quote, &collateral, &tolerant(), at);
        assert_eq!(failed(&judgement), [""; 0], "{at}");
        assert!(judgement.is_accepted(), "{at}");
        assert_eq!(judgement.platform(), Some(Platform::Sgx));
        assert_eq!(judgement.valid_until(), Some(LAST.parse().unwrap()));
        let tcb = judgement.tcb().unwrap();
        assert_eq!(tcb.status.as_str(), "ConfigurationAndSWHardeningNeeded");
        assert_eq!(tcb.advisories, ["INTEL-SA-00289", "INTEL-SA-00615"]);
    }
    let early = judge_at(&quote, &collateral, &tolerant(), "2025-06-19T10:56:10Z");
    assert_eq!(failed(&early), ["collateral.tcb_info.window"]);
    let late = judge_at(&quote, &collateral, &tolerant(), "2025-07-19T10:01:19Z");
    assert_eq!(failed(&late), ["collateral.qe_identity.window"]);
}

#[test]
fn one_advisory_less_is_refused() {
    let Some((quote, collateral)) = sample() else { return };
    let policy = Policy::from_toml(
        r#"
        allowed_tcb_statuses = ["ConfigurationAndSWHardeningNeeded"]
        advisory = [{ id = "INTEL-SA-00289", owner = "o", reason = "r", expires = 2026-01-01 }]
        "#,
    )
    .unwrap();
    let judgement = judge_at(&quote, &collateral, &policy, INSIDE);
    assert_eq!(failed(&judgement), ["policy.advisories"]);
    assert_eq!(judgement.failures().next().unwrap().found, "INTEL-SA-00615");
}

#[test]
fn every_check_of_an_accepted_quote_passed_or_was_not_asked_for() {
    let Some((quote, collateral)) = sample() else { return };
    let judgement = judge_at(&quote, &collateral, &tolerant(), INSIDE);
    for check in judgement.checks() {
        let fine = match check.result {
            Outcome::Pass => true,
            Outcome::Fail => false,
            Outcome::Skipped => check.found == "not asked for",
        };
        assert!(fine, "{check:?}");
    }
}

#[test]
fn text_forms_of_the_quote_are_recognised() {
    use base64::Engine as _;
    let Some((quote, collateral)) = sample() else { return };
    let hex = hex::encode(&quote);
    let base64 = base64::engine::general_purpose::STANDARD.encode(&quote);
    let pem = format!("-----BEGIN SGX QUOTE-----\n{base64}\n-----END SGX QUOTE-----\n");
    for text in [hex.clone(), hex.to_uppercase(), format!("0x{hex}\n"), base64, pem] {
        assert!(judge_at(text.as_bytes(), &collateral, &tolerant(), INSIDE).is_accepted());
    }
}

/// Every byte of the quote is covered: one flipped bit in each is refused.
#[test]
fn a_flipped_bit_in_any_byte_of_the_quote_is_refused() {
    let Some((quote, collateral)) = sample() else { return };
    // Steps that visit every structure without taking long; the corpus has one mutant for each field.
    for at in (0..quote.len()).step_by(23) {
        let mut bad = quote.clone();
        bad[at] ^= 1 << (at % 8);
        let judgement = judge_at(&bad, &collateral, &tolerant(), INSIDE);
        let same_chain = judgement.is_accepted() && pem_text_is_equal(&quote, &bad);
        assert!(!judgement.is_accepted() || same_chain, "byte {at}");
    }
}

/// Whether the flipped byte is white space of the PEM text, which is no part of any certificate.
fn pem_text_is_equal(one: &[u8], other: &[u8]) -> bool {
    let squeeze =
        |bytes: &[u8]| bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<_>>();
    squeeze(one) == squeeze(other)
}

#[test]
fn a_flipped_bit_in_any_part_of_the_collateral_is_refused() {
    let Some((quote, json)) = sample() else { return };
    let collateral = Collateral::from_json(&json).unwrap();
    let flip = |text: &mut String, at: usize| {
        let mut bytes = std::mem::take(text).into_bytes();
        bytes[at] ^= 1;
        *text = String::from_utf8(bytes).unwrap();
    };
    let parts: [fn(&mut Collateral) -> &mut String; 9] = [
        |c| &mut c.pck_crl_issuer_chain,
        |c| &mut c.root_ca_crl,
        |c| &mut c.pck_crl,
        |c| &mut c.tcb_info_issuer_chain,
        |c| &mut c.tcb_info,
        |c| &mut c.tcb_info_signature,
        |c| &mut c.qe_identity_issuer_chain,
        |c| &mut c.qe_identity,
        |c| &mut c.qe_identity_signature,
    ];
    for (number, part) in parts.into_iter().enumerate() {
        let length = part(&mut collateral.clone()).len();
        for at in (0..length).step_by(length / 20 + 1) {
            let mut bad = collateral.clone();
            flip(part(&mut bad), at);
            let judgement = judge_at(&quote, bad.to_json().as_bytes(), &tolerant(), INSIDE);
            assert!(!judgement.is_accepted(), "part {number}, byte {at}");
        }
    }
}

#[test]
fn its_state_is_explained() {
    let Some((quote, collateral)) = sample() else { return };
    let at = INSIDE.parse().unwrap();
    let (anchors, expected) = (TrustAnchors::intel(), Expected::default());
    let input = Input::Quote(&quote);
    let strict = explain::explain(input, Some(&collateral), &anchors, &Policy::strict(), &expected, at);
    assert_eq!(strict.days_left, Some(0));
    let text = strict.to_string();
    assert!(text.contains("TCB status: ConfigurationAndSWHardeningNeeded"), "{text}");
    assert!(text.contains("INTEL-SA-00615 (not tolerated)"), "{text}");
    assert!(text.contains("component 7"), "{text}");
    let tolerant = explain::explain(input, Some(&collateral), &anchors, &tolerant(), &expected, at);
    assert_eq!(tolerant.days_left, Some(184));
    assert!(tolerant.to_string().contains("Days until the policy \"tolerant\" refuses: 184"), "{tolerant}");
}

#[test]
fn the_chain_may_end_in_intels_earlier_certificate() {
    let Some((quote, collateral)) = sample() else { return };
    let mut read = Quote::parse(&quote).unwrap();
    let chain = String::from_utf8(read.pck_chain().unwrap().to_vec()).unwrap();
    let earlier = include_str!("intel-sgx-root-2033.pem");
    let root = chain.trim_end().rfind("-----BEGIN CERTIFICATE-----").unwrap();
    // The certification data stands outside every signature of the quote.
    read.signature.certification_data = format!("{}{earlier}", &chain[..root]).into_bytes();
    let judgement = judge_at(&read.to_bytes(), &collateral, &tolerant(), INSIDE);
    assert_eq!(failed(&judgement), [""; 0]);
    let other = earlier.replace("IQCUt8SG", "IQCUt8SH");
    read.signature.certification_data = format!("{}{other}", &chain[..root]).into_bytes();
    let judgement = judge_at(&read.to_bytes(), &collateral, &tolerant(), INSIDE);
    assert!(failed(&judgement).contains(&"pck.chain.root"), "{:?}", failed(&judgement));
}
