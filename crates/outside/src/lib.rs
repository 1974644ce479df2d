//! What comes from outside, before anything is done with it.
//!
//! * [`files`]: reading what a path names, which may be anything;
//! * [`printable`]: showing text that may hold anything.

pub mod files;
pub mod printable;
