//! Platforms: what gives a node its quotes and its sealing key.
//!
//! A node asks for two things and does not care who answers: a quote over 64 bytes of its choice, and a key that only
//! the same code on the same machine gets again. [`sgx::Gramine`] asks the processor, through the files that Gramine
//! offers inside an enclave. [`simulated::Enclave`] imitates all of it with real cryptography under a root of its own,
//! so that everything around it runs unchanged where there is no SGX; it proves nothing, and its certificates say so.
//! [`pcs_endpoint`] serves the simulator's collateral as Intel's service does. [`machine`] says what a machine has for
//! real enclaves.
//!
//! Trust: an enclave trusts the processor, not the files' owner, so what comes through them is checked for what was
//! asked. The simulator trusts whoever owns its directory: the keys in there can forge all that it vouches for.

mod error;
pub mod machine;
pub mod pcs_endpoint;
mod sealing;
pub mod sgx;
pub mod simulated;

use std::fmt;

pub use error::Error;
use zeroize::Zeroizing;

/// What a node needs from the machine it runs on.
pub trait Platform: Send + Sync {
    /// Which sort of platform this is.
    fn kind(&self) -> Kind;

    /// A quote (DCAP, version 3) whose report carries these 64 bytes. Slow on real hardware: one at a time.
    ///
    /// # Errors
    /// [`Error`] where the platform gives none, or one that is about something else.
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, Error>;

    /// The key that only an enclave of the same MRENCLAVE on the same machine gets.
    ///
    /// # Errors
    /// [`Error`] where the platform gives none.
    fn sealing_key(&self) -> Result<Zeroizing<[u8; 32]>, Error>;

    /// This enclave's measurement.
    fn mrenclave(&self) -> [u8; 32];
}

/// The sorts of platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A real enclave.
    Sgx,
    /// A make-believe one.
    Simulated,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Sgx => "sgx",
            Kind::Simulated => "simulated",
        })
    }
}
