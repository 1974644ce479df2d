//! Every mutant of the corpus fails exactly the checks it must fail; correct evidence passes.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod corpus;

use std::collections::BTreeSet;

use attestation::checks::Id;

#[test]
fn correct_evidence_of_every_form_is_accepted() {
    for case in corpus::sound() {
        let judgement = case.judge();
        assert!(judgement.is_accepted(), "{}: {:#?}", case.name, judgement.failures().collect::<Vec<_>>());
    }
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
