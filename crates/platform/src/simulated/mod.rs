//! The simulator.
mod enclave;
mod installation;
pub use enclave::Enclave;
pub use installation::Installation;
