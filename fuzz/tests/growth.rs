//! What parsers allocate as their inputs grow; `mse-fuzz growth` counts instructions as well. One test alone, since the
//! counters are the process's.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use fuzz::TARGETS;
use fuzz::growth::{Growth, check, subjects, toy};

#[test]
fn no_parser_allocates_more_than_in_proportion() {
    assert_eq!(Growth::of([10, 20, 40, 80], 0), Growth::Linear);
    assert_eq!(Growth::of([1010, 1020, 1040, 1080], 0), Growth::Bounded);
    assert_eq!(Growth::of([1_000, 4_000, 16_000, 64_000], 0), Growth::TooMuch);
    assert_eq!(Growth::of([10_001, 20_004, 40_016, 80_064], 0), Growth::Linear);
    assert_eq!(Growth::of([110_000, 140_000, 260_000, 740_000], 0), Growth::TooMuch);
    assert_eq!(Growth::of([1_000, 4_000, 16_000, 64_000], 100_000), Growth::Bounded);

    let subjects = subjects();
    let names: HashSet<_> = subjects.iter().map(|subject| subject.name).collect();
    assert_eq!(names.len(), subjects.len(), "two parsers of one name");
    // Extensions of certificates are measured as those.
    let missing: Vec<_> =
        TARGETS.iter().filter(|target| !names.contains(target.name)).map(|t| t.name).collect();
    assert!(missing.is_empty(), "no shapes for {missing:?}");

    toy::check(false).unwrap();
    let faults = check::faults(&check::measure(&subjects, "", false).unwrap());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
