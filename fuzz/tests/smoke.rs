//! A short run of every target, the same each time.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use fuzz::{TARGETS, campaign};

/// Mutations of each target's corpus. The tests are for regressions; `cargo run -p mse-fuzz -- run` looks for news.
const INPUTS: u64 = 150;

#[test]
fn no_target_panics() {
    let mut crashes = Vec::new();
    for target in TARGETS {
        let outcome = campaign::run(target, 1, |inputs| inputs < INPUTS).unwrap();
        crashes.extend(
            outcome
                .crash
                .map(|crash| format!("{}: {}: {}", crash.target, crash.message, hex::encode(crash.input))),
        );
    }
    assert!(crashes.is_empty(), "{}", crashes.join("\n"));
}

#[test]
fn every_target_has_a_name_and_a_corpus_of_its_own() {
    let names: HashSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    for entry in campaign::corpus_directory(".").read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(name.as_str()), "corpus/{name} belongs to no target");
    }
}

/// Mutations of what is refused anyway would not get far.
#[test]
fn every_target_takes_something_of_its_corpus() {
    for target in TARGETS {
        let corpus = campaign::corpus(target.name).unwrap();
        assert!(corpus.iter().any(|input| (target.run)(input)), "{} takes nothing", target.name);
    }
}

/// A run that finds nothing says something only if it would notice.
#[test]
fn a_panic_is_noticed() {
    let target = fuzz::Target {
        name: "url",
        run: |data| {
            assert!(data.starts_with(b"https://"), "another start");
            true
        },
        repair: None,
    };
    let outcome = campaign::run(&target, 1, |inputs| inputs < 10_000).unwrap();
    let crash = outcome.crash.unwrap();
    assert_eq!(crash.message, "another start");
    assert!(!crash.input.starts_with(b"https://"));
}
