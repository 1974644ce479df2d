//! The other side of a node: connections that end in a verified enclave, and what is said over them.
//!
//! Trust flows one way: evidence, fetched [`live`] or read from a file, with collateral ([`collate`]) is verified by
//! `attestation`; the result, a `Verified<Evidence>`, becomes a [`records::Record`]; and only a record opens a
//! [`channel`], over which a node is [`configure`]d, probed ([`health`], [`state`]) and reached through a local
//! [`forwarder`]. [`seal`] makes the file that only a verified enclave can open. What an owner wants served instead of
//! the enclave's certificate is looked at by [`owner_certificate`] first. A [`backend`] runs nodes for many owners and is
//! asked, not believed.
//!
//! All functions block; they must not be called from inside an asynchronous runtime.

pub mod backend;
pub mod channel;
pub mod collate;
pub mod configure;
pub mod error;
pub mod evaluation;
pub mod forwarder;
pub mod health;
pub mod live;
pub mod owner_certificate;
pub mod qcnl;
pub mod records;
pub mod seal;
pub mod state;
pub mod target;

mod exchange;
#[cfg(test)]
mod testing;

pub use crate::channel::Channel;
pub use crate::configure::{Configuration, configure};
pub use crate::error::Error;
pub use crate::forwarder::Forwarder;
pub use crate::health::Probe;
pub use crate::live::{ChannelKind, Live};
pub use crate::records::{Origin, Record, Store};
pub use crate::state::{NodeState, Process};
pub use crate::target::Target;
