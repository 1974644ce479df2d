//! The platforms from outside: what they accept, what they refuse, and that their quotes are what a verifier wants.
#![allow(clippy::unwrap_used)]

mod enclave;
mod endpoint;
mod fixture;
mod gramine_files;
mod installation;
mod judged;
mod machine;
