//! The verifier's own code on simulated quotes: accepted only by who asks for it.

use attestation::judgement::Platform as Verdict;
use attestation::trust::{ExplicitRoot, SimulatedRoot};
use attestation::{Collateral, Expected, Judgement, Policy, Subject, TrustAnchors, judge};
use platform::Platform;
use platform::simulated::Installation;

use crate::fixture::{Inputs, now};

const REPORT_DATA: [u8; 64] = [3; 64];

fn quote_and_collateral(inputs: &Inputs) -> (Subject, Collateral, Expected) {
    let enclave = inputs.load().unwrap();
    let quote = enclave.quote(&REPORT_DATA).unwrap();
    let collateral = inputs.installation.collateral_for(&quote, now()).unwrap();
    let mrenclave = vec![enclave.mrenclave()];
    let expected = Expected { mrenclave, report_data: Some(REPORT_DATA), ..Expected::default() };
    (Subject::Quote(quote), collateral, expected)
}

fn judged(inputs: &Inputs, anchors: &TrustAnchors) -> Judgement {
    let (quote, collateral, expected) = quote_and_collateral(inputs);
    judge(&quote, &collateral, anchors, &Policy::strict(), &expected, now())
}

fn root_of(installation: &Installation) -> SimulatedRoot {
    SimulatedRoot::from_pem(installation.root_pem().as_bytes()).unwrap()
}

fn failures(judgement: &Judgement) -> String {
    judgement
        .failures()
        .map(|check| format!("{}: {} / {}\n", check.id, check.expected, check.found))
        .collect()
}

#[test]
fn the_strict_policy_accepts_it_under_the_installations_own_root() {
    let inputs = Inputs::new();
    let anchors = TrustAnchors::intel().with_simulated(root_of(&inputs.installation));
    let judgement = judged(&inputs, &anchors);
    assert!(judgement.is_accepted(), "{}", failures(&judgement));
    assert_eq!(judgement.platform(), Some(Verdict::Simulated));
}

#[test]
fn it_is_refused_under_intels_root_alone() {
    let judgement = judged(&Inputs::new(), &TrustAnchors::intel());
    assert!(!judgement.is_accepted());
    assert_eq!(judgement.platform(), Some(Verdict::Simulated));
}

#[test]
fn it_is_refused_under_the_root_of_another_installation() {
    let stranger = Inputs::new();
    let anchors = TrustAnchors::intel().with_simulated(root_of(&stranger.installation));
    assert!(!judged(&Inputs::new(), &anchors).is_accepted());
}

#[test]
fn even_a_root_that_is_trusted_explicitly_leaves_it_simulated() {
    let inputs = Inputs::new();
    let root = ExplicitRoot::from_pem(inputs.installation.root_pem().as_bytes()).unwrap();
    let judgement = judged(&inputs, &TrustAnchors::intel().with_explicit(root));
    assert_eq!(judgement.platform(), Some(Verdict::Simulated));
}

#[test]
fn a_debug_enclave_is_refused() {
    let inputs = Inputs::with("debug = true\n", &[]);
    let anchors = TrustAnchors::intel().with_simulated(root_of(&inputs.installation));
    assert!(!judged(&inputs, &anchors).is_accepted());
}

#[test]
fn a_verifier_whose_clock_is_a_little_late_accepts_fresh_collateral_too() {
    let inputs = Inputs::new();
    let (quote, collateral, expected) = quote_and_collateral(&inputs);
    let anchors = TrustAnchors::intel().with_simulated(root_of(&inputs.installation));
    let late = now() - jiff::SignedDuration::from_mins(5);
    let judgement = judge(&quote, &collateral, &anchors, &Policy::strict(), &expected, late);
    assert!(judgement.is_accepted(), "{}", failures(&judgement));
}
