//! dcap-qvl, asked as its users ask it: with a quote, collateral, a root and a time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteCollateralV3, QuotePolicy};

/// The version that is asked; the lock file names the same one.
pub const VERSION: &str = "0.7.1";

/// What it said to one quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its `verify` returned an error.
    Refused,
    /// It panicked, which a caller has to count as a refusal.
    Panicked,
    /// Its `verify` returned a report.
    Verified {
        /// The status in the report, by Intel's name.
        status: String,
        /// Whether its `QuotePolicy::strict` passes too, once hyper-threading, cached keys and dynamic platforms are
        /// allowed (correct evidence of a server has all three).
        strict: bool,
    },
}

impl Answer {
    /// Whether its `verify` returned a report, whatever is in it.
    pub fn is_ok(&self) -> bool {
        matches!(self, Answer::Verified { .. })
    }

    /// Whether the report says `UpToDate`.
    pub fn is_up_to_date(&self) -> bool {
        matches!(self, Answer::Verified { status, .. } if status == "UpToDate")
    }

    /// Whether its own strict policy passes.
    pub fn is_strictly_ok(&self) -> bool {
        matches!(self, Answer::Verified { strict: true, .. })
    }
}

/// A verifier under this root (DER), or under Intel's, which it has pinned too.
pub fn verifier(root: Option<Vec<u8>>) -> QuoteVerifier {
    root.map_or_else(QuoteVerifier::new_prod, QuoteVerifier::new)
}

/// Asks it about a raw quote, with the collateral's JSON and the time in seconds since 1970.
pub fn ask(verifier: &QuoteVerifier, quote: &[u8], collateral: &[u8], at: u64) -> Answer {
    let asked = catch_unwind(AssertUnwindSafe(|| {
        let collateral: QuoteCollateralV3 = serde_json::from_slice(collateral).ok()?;
        let report = verifier.verify(quote, &collateral, at).ok()?;
        let policy =
            QuotePolicy::strict(at).allow_smt(true).allow_cached_keys(true).allow_dynamic_platform(true);
        let strict = verifier.verify_with_policy(quote, &collateral, at, &policy).is_ok();
        Some(Answer::Verified { status: report.status, strict })
    }));
    match asked {
        Ok(answer) => answer.unwrap_or(Answer::Refused),
        Err(_) => Answer::Panicked,
    }
}

/// The certificate of a PEM file.
pub fn der_of_pem(pem: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (label, der) = pem_rfc7468::decode_vec(pem)?;
    anyhow::ensure!(label == "CERTIFICATE", "expected a PEM certificate, found {label}");
    Ok(der)
}
