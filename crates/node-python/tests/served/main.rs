//! The whole node as a process: `python3 -m mse_node` with the extension, the application server and other people's
//! frameworks, on the simulated platform.
//!
//! Needs a Python interpreter with `venv`, and the package index once; the environment is kept in the target
//! directory.
#![allow(clippy::unwrap_used)]

mod asgi;
mod client;
mod development;
mod environment;
mod failures;
mod hand_over;
#[allow(missing_docs)]
#[path = "../../shared_object.rs"]
mod shared_object;
mod stage;
mod tls;
mod wsgi;
