//! How Gramine turns a manifest and `libpal.so` into an enclave: layout, MRENCLAVE, SIGSTRUCT.
//!
//! Everything here is a pure function of bytes that the caller hands over: no files, no network, no clock.
//! Both inputs are treated as hostile; limits and errors say what was expected and where.
//!
//! The path through the modules is the path of the data:
//! [`manifest`] and [`elf`] read the inputs, [`layout`] gives every area its addresses, [`measure`] hashes the
//! pages in the order in which the loader adds them, [`attributes`] and [`sigstruct`] describe and sign the result;
//! [`loader`] says whether the result would also start.

pub mod attributes;
pub mod elf;
mod error;
pub mod layout;
pub mod loader;
pub mod manifest;
pub mod measure;
mod signer_key;
pub mod sigstruct;
mod toml_tree;

pub use error::Error;
pub use manifest::Manifest;
pub use sigstruct::{Date, SigStruct, SignerKey};
