//! Evidence to measure with. The real quote is not part of this repository; whoever has it names its directory.

use std::path::{Path, PathBuf};

use anyhow::Context;
use attestation::trust::ExplicitRoot;
use attestation::{Policy, TrustAnchors};
use jiff::Timestamp;

use crate::corpus::{self, Case};
use crate::other::der_of_pem;

/// A time within the window of the real quote's collateral.
const REAL_AT: &str = "2025-07-01T00:00:00Z";
/// The real quote's platform has this status and these advisories.
const REAL_POLICY: &str = r#"
allowed_tcb_statuses = ["UpToDate", "ConfigurationAndSWHardeningNeeded"]
advisory = [
    { id = "INTEL-SA-00289", owner = "benchmark", reason = "sample", expires = 2026-01-01 },
    { id = "INTEL-SA-00615", owner = "benchmark", reason = "sample", expires = 2026-01-01 },
]
"#;

/// A quote that both verifiers accept, with all they need for it.
pub struct Sample {
    /// In words.
    pub name: &'static str,
    /// The raw quote.
    pub quote: Vec<u8>,
    /// The collateral's JSON.
    pub collateral: Vec<u8>,
    /// The root, DER; Intel's without it.
    pub root: Option<Vec<u8>>,
    /// The root, PEM.
    pub root_pem: Option<String>,
    /// The policy, TOML; empty for the strict one.
    pub policy: &'static str,
    /// The time to judge at.
    pub at: Timestamp,
}

impl Sample {
    /// The anchors of our verifier.
    pub fn anchors(&self) -> anyhow::Result<TrustAnchors> {
        let anchors = TrustAnchors::intel();
        Ok(match &self.root_pem {
            Some(pem) => anchors.with_explicit(ExplicitRoot::from_pem(pem.as_bytes())?),
            None => anchors,
        })
    }

    /// The policy of our verifier.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        Ok(if self.policy.is_empty() { Policy::strict() } else { Policy::from_toml(self.policy)? })
    }
}

/// Correct evidence of the corpus.
pub fn of_the_corpus() -> anyhow::Result<Sample> {
    let case = corpus::sound().into_iter().find(|case| case.name == "sound-quote");
    let Case { subject, collateral, root, at, .. } = case.context("the corpus has no sound-quote")?;
    Ok(Sample {
        name: "quote of the corpus",
        quote: subject,
        collateral: collateral.context("sound-quote has no collateral")?,
        root: Some(der_of_pem(root.as_bytes())?),
        root_pem: Some(root),
        policy: "",
        at,
    })
}

/// The real quote in this directory; `None` where there is none.
pub fn real(directory: &Path) -> anyhow::Result<Option<Sample>> {
    let path = |name: &str| directory.join(name);
    if !path("sgx_quote").exists() {
        return Ok(None);
    }
    let read = |name| std::fs::read(path(name)).with_context(|| format!("cannot read {name}"));
    Ok(Some(Sample {
        name: "real quote",
        quote: read("sgx_quote")?,
        collateral: read("sgx_quote_collateral.json")?,
        root: None,
        root_pem: None,
        policy: REAL_POLICY,
        at: REAL_AT.parse()?,
    }))
}

/// Where the real quote is looked for unless the caller says otherwise.
pub fn usual_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/quotes")
}
