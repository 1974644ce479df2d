//! A machine with SGX that is not there: everything around an enclave, with real cryptography and no protection.
//!
//! An [`Installation`] is one such machine: a directory with a make-believe Intel, a processor's secret and the keys of
//! its quoting enclave. An [`Enclave`] is loaded under the rules that Gramine's loader and the processor have, and then
//! quotes and seals like a real one. Quotes chain to the installation's own root and carry the simulation marker.
//!
//! Trust: whoever reads the directory can forge quotes and open sealed state. So it proves nothing, and protects nothing
//! from its owner; it keeps out the machine's other users.

mod enclave;
mod installation;
mod trusted_files;

pub use enclave::Enclave;
pub use installation::Installation;
