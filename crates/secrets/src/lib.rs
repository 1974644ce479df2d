//! The ciphers that carry an owner's code and secrets to an enclave and keep them there.
//!
//! | module | protects | against |
//! |---|---|---|
//! | [`code`] | the code archive of a package | the operator who stores it |
//! | [`seal`] | secrets and the code key on their way to one enclave | everybody but that enclave |
//! | [`state`] | what a node keeps between two starts | the host's disk |
//! | [`fernet`], [`aes`] | results that an application hands out | everybody without the key |
//!
//! Nothing here knows of files, of the network or of enclaves: bytes and keys come from the caller.

pub mod aes;
pub mod code;
mod error;
pub mod fernet;
pub mod seal;
pub mod state;

pub use error::Error;
