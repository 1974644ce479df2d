//! The package tar.
