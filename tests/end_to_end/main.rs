//! End-to-end tests: the built binary, as a user types it.

#![allow(clippy::unwrap_used)]

mod demo;
mod doctor;
mod frameworks;
mod installation;
mod interruptions;
mod live;
mod localtest;
mod odd_files;
mod quotes;
mod refusals;
mod scaffold;
mod sgx;
mod tutorial;
mod two_homes;
