//! Enclave areas.
