//! The node as a CPython extension.
