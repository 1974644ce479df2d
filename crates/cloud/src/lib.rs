//! The multi-tenant backend: it runs other people's nodes, and none of them trusts it.
//!
//! What it holds is worth nothing to a thief of code or data: packages whose code is encrypted, tokens as digests.
//! What it says of a node, its owner checks with the node itself.
//!
//! * [`store`]: the database, which holds all state but what the runtime holds;
//! * [`blobs`]: the bytes of uploads, in files;
//! * [`lifecycle`], [`placement`]: what to do next, as pure functions;
//! * [`reconcile`]: makes what is so what is wanted; [`probe`]: looks at nodes' ports;
//!   [`pulse`]: whether that still goes on;
//! * [`turns`]: who may do what costs much, and when; [`reader`]: tenants' packages, opened in a process with limits;
//! * [`routes`]: what the public port leads where; [`upstream`]: the attested way to a node where TLS ends there;
//! * [`api`]: what clients ask for, over HTTP; [`authority`] and [`server`]: the TLS around it; [`key_log`]: its keys, if
//!   the operator wants them;
//! * [`config`], [`serve`], [`backup`]: the program.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod authority;
pub mod backup;
pub mod bearer;
pub mod blobs;
pub mod config;
pub mod error;
pub mod key_log;
pub mod lifecycle;
pub mod placement;
pub mod probe;
pub mod pulse;
pub mod reader;
pub mod reconcile;
pub mod routes;
pub mod serve;
pub mod server;
pub mod store;
pub mod tls_mode;
pub mod turns;
pub mod upstream;

#[cfg(test)]
pub(crate) mod testing;

pub use crate::error::{Error, Result};
