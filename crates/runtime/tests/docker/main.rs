//! Nodes as containers, on a real engine. Each test says that it is skipped unless `MSE_TEST_DOCKER` is set; then the
//! engine must be there, with the image `debian:bookworm`, and its programs `docker` and `dockerd`.
#![allow(clippy::unwrap_used, missing_docs)]

mod disturbed;
mod engine;
mod fixture;
mod nodes;
