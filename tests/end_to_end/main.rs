//! End-to-end tests: the built binary, as a user types it.

#![allow(clippy::unwrap_used)]

mod installation;
mod scaffold;
mod tutorial;
