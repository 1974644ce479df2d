//! SGX attestation: reading quotes and Intel's collateral, judging them, and (for tests, simulation and nodes) making
//! them.
//!
//! The judging side answers two questions and keeps them apart:
//!
//! * [`verify`]: is it genuine? Signatures, chains, revocation, structure, TCB level. Needs only the bytes, the
//!   [`trust`] anchors and a time.
//! * [`validate`]: is it what the caller and the caller's [`policy`] want?
//!
//! [`judge`] asks both and returns a [`Judgement`] with every check that was made. [`admit`] does the same for an
//! [`Evidence`] file and, only where nothing failed, returns a [`Verified`]: a value that nothing else can make.
//!
//! Nothing here opens files, looks at the clock or (but for [`pcs`]) at the network: time is an argument. Nothing here
//! trusts its input: every byte is the operator's until a pinned root says otherwise.

pub mod certificate;
pub mod chain;
pub mod checks;
pub mod collateral;
pub mod crl;
pub mod error;
pub mod evidence;
pub mod explain;
pub mod issuer;
pub mod judgement;
pub mod pck;
pub mod pcs;
pub mod policy;
pub mod qe;
pub mod quote;
pub mod ratls;
pub mod recognise;
pub mod report;
pub mod signature;
pub mod tcb;
pub mod trust;
pub mod validate;
pub mod verify;

mod binding;
mod judge;
mod recorder;
mod signed_json;

pub use collateral::Collateral;
pub use error::Error;
pub use evidence::{Arguments, Evidence};
pub use judge::{Expected, Input, Subject, admit, judge, judge_bytes};
pub use judgement::{Judgement, Platform, Refused, Verified};
pub use policy::Policy;
pub use quote::Quote;
pub use report::EnclaveReport;
pub use trust::TrustAnchors;
