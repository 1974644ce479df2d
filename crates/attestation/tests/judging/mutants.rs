//! Every mutant of the corpus fails exactly the checks it must fail; correct evidence passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use attestation::checks::Id;
use attestation::judgement::{Check, Outcome};

use crate::corpus;

#[test]
fn correct_evidence_of_every_form_is_accepted() {
    for case in corpus::sound().into_iter().chain(corpus::other_spellings()) {
        let judgement = case.judge();
        assert!(judgement.is_accepted(), "{}: {:#?}", case.name, judgement.failures().collect::<Vec<_>>());
    }
}

#[test]
fn what_was_passed_over_is_told_and_which_collateral_was_used() {
    let told = |name: &str| {
        let case = corpus::other_spellings().into_iter().find(|case| case.name == name).unwrap();
        let judgement = case.judge();
        let collateral = judgement.collateral().unwrap();
        assert_eq!((collateral.tcb_info_number, collateral.qe_identity_number), (17, 17), "{name}");
        judgement.passed_over().to_vec()
    };
    assert_eq!(told("quote-in-base64url"), [""; 0]);
    assert_eq!(told("collateral-with-the-quotes-pck-chain"), ["collateral: pck_certificate_chain"]);
    assert_eq!(told("collateral-with-a-field-more"), ["collateral: more"]);
    assert_eq!(told("evidence-whose-collateral-has-a-field-more"), ["collateral: more"]);
    assert_eq!(told("tcb-info-with-a-field-more"), ["TCB info: note"]);
    assert_eq!(told("qe-identity-with-a-field-more"), ["QE identity: note"]);
}

#[test]
fn every_mutant_fails_exactly_what_it_breaks() {
    let mut wrong = Vec::new();
    for mutant in corpus::mutants() {
        let judgement = mutant.case().judge();
        let found: BTreeSet<Id> = judgement.failures().map(|check| check.id).collect();
        let (wanted, accepted) = (mutant.fails.iter().copied().collect(), judgement.is_accepted());
        if found != wanted || accepted {
            wrong.push(format!("{}: expected {wanted:?}, found {found:?}, accepted {accepted}", mutant.name));
        }
    }
    assert!(wrong.is_empty(), "{} mutants:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_check_has_a_mutant_and_every_mutant_a_name_of_its_own() {
    let mutants = corpus::mutants();
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    assert_eq!(names.len(), mutants.len());
    let single = mutants.iter().filter(|mutant| mutant.fails.len() == 1).count();
    assert!(single >= 120, "{single} mutants that break one thing");
    let broken: BTreeSet<Id> = mutants.iter().flat_map(|mutant| mutant.fails.clone()).collect();
    let forgotten: Vec<&Id> = Id::ALL.iter().filter(|id| !broken.contains(id)).collect();
    assert!(forgotten.is_empty(), "no mutant for {forgotten:?}");
}

/// What is told of correct evidence and of every mutant, word by word: the messages are what a person acts on.
///
/// `tests/judging/judgements.txt` has what is expected, with everything that differs from run to run (hashes, serial
/// numbers, lengths that depend on a signature) left out. After an intended change: `MSE_WRITE_JUDGEMENTS=1 cargo test`, and
/// read the difference.
#[test]
fn judgements_read_as_written_down() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judging/judgements.txt");
    let mut told = String::new();
    for case in corpus::sound() {
        let every = case.policy.is_empty();
        tell(&mut told, &case, |check| every || check.id.as_str().starts_with("policy."));
    }
    for mutant in corpus::mutants() {
        tell(&mut told, &mutant.case(), |check| check.result == Outcome::Fail);
    }
    if std::env::var_os("MSE_WRITE_JUDGEMENTS").is_some() {
        std::fs::write(path, &told).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    for (found, expected) in told.lines().zip(written.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(told.lines().count(), written.lines().count());
}

/// Adds a judgement's own words and those of the checks that are `wanted`.
fn tell(told: &mut String, case: &corpus::Case, wanted: impl Fn(&Check) -> bool) {
    let judgement = case.judge();
    writeln!(
        told,
        "# {}: {:?}, platform {:?}, anchor {:?}, until {:?}",
        case.name,
        judgement.verdict(),
        judgement.platform(),
        judgement.anchor().map(|anchor| anchor.kind),
        judgement.valid_until()
    )
    .unwrap();
    if let Some(tcb) = judgement.tcb().filter(|_| judgement.is_accepted()) {
        writeln!(told, "{tcb:?}").unwrap();
    }
    if let Some(qe) = judgement.qe().filter(|_| judgement.is_accepted()) {
        writeln!(told, "{qe:?}").unwrap();
    }
    let mut unjudged = BTreeMap::<&str, Vec<&str>>::new();
    for check in judgement.checks().iter().filter(|check| check.result == Outcome::Skipped) {
        unjudged.entry(check.found.as_str()).or_default().push(check.id.as_str());
    }
    unjudged.remove("not asked for");
    for (why, ids) in unjudged {
        writeln!(told, "skipped, {why}: {} checks", ids.len()).unwrap();
    }
    for check in judgement.checks().iter().filter(|check| wanted(check)) {
        let line = format!(
            "{} {:?}: expected {}; found {}; {:?}",
            check.id, check.result, check.expected, check.found, check.fault
        );
        writeln!(told, "{}", without_chance(&line.replace('\n', " "))).unwrap();
    }
}

/// `text` without long runs of hex digits and without numbers of three and more digits.
fn without_chance(text: &str) -> String {
    let mut plain = String::new();
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    for word in words {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let long_hex = bare.len() >= 24 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = bare.len() >= 3
            && bare.bytes().all(|byte| byte.is_ascii_digit())
            && !word.ends_with('-')
            && !text.contains(&format!("at most {bare}"));
        plain.push_str(if long_hex {
            "<hex>"
        } else if number {
            "<number>"
        } else {
            bare
        });
        plain.push_str(&word[bare.len()..]);
    }
    plain
}
