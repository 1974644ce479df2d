//! Two defects at once: each must be told, the first not hiding the other.

use attestation::checks::Id;

use super::{Mutant, bindings, chains, collateral, crls, levels, policies, quotes};

/// Pairs of mutants of a bare quote that do not undo each other, by name. The second is applied to what the first made.
const PAIRS: &[(&str, &str)] = &[
    ("enclave-debug", "tcb-info-expired"),
    ("enclave-debug", "pck-revoked"),
    ("enclave-not-initialised", "enclave-xfrm-unknown-bit"),
    ("quote-one-byte-more", "qe-identity-expired"),
    ("quote-signature-flipped-bit", "enclave-another-mrenclave"),
    ("quote-signature-flipped-bit", "pck-crl-expired"),
    ("qe-report-signature-flipped-bit", "root-crl-expired"),
    ("qe-of-another-signer", "tcb-info-of-another-fmspc"),
    ("pck-revoked", "tcb-signing-revoked"),
    ("root-not-pinned", "enclave-another-mrsigner"),
    ("root-not-pinned", "tcb-info-version-2"),
    ("tcb-chain-signer-expired", "qe-identity-of-the-verification-enclave"),
    ("tcb-info-signature-flipped-bit", "qe-identity-signature-flipped-bit"),
    ("root-crl-signed-by-a-stranger", "pck-revoked"),
    ("pck-leaf-expired", "advisory-of-the-qe"),
    ("pck-chain-reversed", "quote-signature-zero"),
    ("sgx-extension-missing", "qe-debug"),
    ("platform-OutOfDate", "advisory-of-the-qe"),
    ("crl-chain-ca-expired", "root-may-not-revoke"),
    ("enclave-provisioning-key", "enclave-older-than-wanted"),
];

pub fn mutants() -> Vec<Mutant> {
    PAIRS.iter().map(|(first, second)| pair(first, second)).collect()
}

fn pair(first: &str, second: &str) -> Mutant {
    let (one, two) = (find(first), find(second));
    assert_eq!(one.form, two.form, "{first} and {second}");
    let form = one.form;
    let fails: Vec<Id> = one.fails.iter().chain(&two.fails).copied().collect();
    let make = move |draft: &mut super::draft::Draft| {
        (one.make)(draft);
        (two.make)(draft);
    };
    Mutant { name: format!("{first}+{second}"), form, fails, make: Box::new(make) }
}

fn find(name: &str) -> Mutant {
    let themes = [
        quotes::mutants(),
        chains::mutants(),
        crls::mutants(),
        collateral::mutants(),
        levels::mutants(),
        bindings::mutants(),
        policies::mutants(),
    ];
    let found = themes.into_iter().flatten().find(|mutant| mutant.name == name);
    found.unwrap_or_else(|| panic!("there is no mutant {name}"))
}
