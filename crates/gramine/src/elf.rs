//! Program headers of libpal.
