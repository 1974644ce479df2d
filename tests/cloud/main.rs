//! The built binaries `mse` and `mse-cloud` together, as an owner and an operator use them.
//!
//! `mse-cloud` is looked for beside `mse`: `cargo test --workspace` builds both.

#![allow(clippy::unwrap_used)]

mod backend;
mod browser;
mod hostile;
#[allow(dead_code)]
#[path = "../end_to_end/installation.rs"]
mod installation;
mod operators_attacks;
mod owners_choices;
mod scenarios;
mod storm;
mod walk_through;
mod wiretap;
