//! The built binary with a real container engine.
//!
//! Needs the engine and the image `debian:bookworm` in it (`.ci/engine` sees to both), and is skipped unless
//! `MSE_TEST_DOCKER` is set: an engine is not everybody's, and images take minutes.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../cloud/backend.rs"]
mod backend;
mod backend_nodes;
mod engine;
mod gramine;
mod images;
#[allow(dead_code)]
#[path = "../end_to_end/installation.rs"]
mod installation;
mod localtest;
mod nodes;
mod tutorial;
