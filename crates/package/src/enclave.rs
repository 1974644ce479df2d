//! The Gramine manifest.
