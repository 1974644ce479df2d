//! The router from outside: a listener on the loopback, users who connect to it, and nodes behind it.

#![allow(clippy::unwrap_used)]

mod fixture;
mod pass_through;
mod refusals;
mod terminate;
