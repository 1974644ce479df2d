//! A make-believe Intel: it issues complete and correct SGX evidence, on which the judging code runs unchanged.
//!
//! The simulated platform uses it with a root of its own for each installation; tests use it to make evidence that is wrong
//! in exactly one place. So everything that goes into a certificate, a CRL, a quote or the collateral is laid open as a
//! *plan* that starts correct and may be changed before it is signed, and everything made can be re-signed afterwards
//! ([`Signer::reissue`], [`Machine::sign_quote`]).
//!
//! ```text
//! AuthorityPlan --generate--> Authority: root -> { Platform CA, Processor CA, TCB signing }
//! MachinePlan ----machine---> Machine:   PCK (under a CA) -> QE report -> attestation key -> quotes
//! CollateralPlan --issue----> Collateral: TCB info, QE identity, root CRL, PCK CRL
//! ```
//!
//! Formats: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification" 1.5; Intel "SGX ECDSA
//! QuoteLibReference DCAP API", appendix A; Intel PCS API v4. Trust: none. Its root is not Intel's, so nothing it makes
//! passes for real unless the caller names that root as an anchor. Its keys are as safe as the place where the caller
//! keeps [`Authority::to_pem`].

mod authority;
mod collateral;
mod machine;
mod sgx_extension;
mod signer;

pub use authority::{Authority, AuthorityPlan, INTEL, SIMULATED, simulation_marker};
pub use collateral::{
    CollateralPlan, QeIdentity, QeLevel, QeTcb, Svn, TcbComponents, TcbInfo, TcbLevel, sign_text,
};
pub use machine::{Machine, MachinePlan};
pub use sgx_extension::{Element, elements, encode_elements, encode_sgx_extension, tcb_elements};
pub use signer::{CrlPlan, Signer, pem_chain, set_window};

use crate::Error;
pub use crate::pcs::PckCa;

/// An [`Error::Issue`].
fn cannot(what: &'static str, reason: impl std::fmt::Display) -> Error {
    Error::Issue { what, reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
