//! The verifier next to another one: what each refuses of the corpus, and how long each takes.
//!
//! ```text
//! samples  evidence to measure with: of the corpus, and of real hardware where it is at hand
//! other    dcap-qvl, asked as its users ask it
//! table    the corpus through both, as a document
//! ```

/// The corpus of correct and broken evidence, as the verifier's own tests have it.
#[allow(dead_code, missing_docs, clippy::unwrap_used)]
#[path = "../../crates/attestation/tests/corpus/mod.rs"]
pub mod corpus;
pub mod other;
pub mod samples;
pub mod table;
