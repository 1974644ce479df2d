//! The judging side from outside, in one binary: the corpus and its mutants, what is admitted, what our own issuer makes,
//! and a quote of real hardware.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../corpus/mod.rs"]
mod corpus;

mod admission;
mod issued_evidence;
mod mutants;
mod real_quote;
