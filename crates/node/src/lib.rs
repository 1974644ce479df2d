//! The program inside the enclave: it waits for its configuration over RA-TLS, then prepares the application's code
//! and secrets, and hands over the listening socket.
//!
//! ```text
//! start          the process's environment -> Node and listening socket
//! node           identity, evidence and configuration of one instance: the state they form together
//! identity       TLS key, certificate, sealing key
//! state          the sealed file which makes a restart find all that again
//! set_aside      sealed files that did not open, kept and tried again
//! evidence       a fresh quote over a verifier's nonce, one at a time
//! request        the body of a configuration
//! code           the archive -> files in memory-backed storage
//! packages       the archive of Python packages -> files, before any of them is loaded
//! served         a certificate of the owner's own
//! places         where everything lives
//! configuration  the HTTPS server of the first phase
//! refusal        why something was refused, as problem+json
//! ```
//!
//! Nothing from outside is trusted: the host supplies `instance.toml`, the sealed file and the network; whoever
//! connects supplies requests. What is trusted is what the enclave measured: the node configuration and the archive.

mod code;
pub mod configuration;
mod error;
pub mod evidence;
mod identity;
mod journal;
pub mod listener;
mod node;
mod packages;
pub mod places;
mod refusal;
mod request;
mod served;
mod set_aside;
mod start;
mod state;

/// Parsers that fuzzing reaches in no other way.
#[doc(hidden)]
pub mod fuzzing {
    use crate::request::Request;

    /// Reads the body of a configuration; says whether it was taken.
    pub fn configuration_request(body: &[u8]) -> bool {
        let Ok(request) = Request::parse(body) else { return false };
        let id = request.check_id(uuid::Uuid::from_u128(0x1234)).is_ok();
        let parts = (request.secrets().is_ok(), request.sealed().is_ok(), request.code_key().is_ok());
        id && parts == (true, true, true)
    }
}

pub use error::Error;
pub use node::{Application, Node, Setup, TlsFiles};
pub use packages::unpack_packages;
pub use refusal::Refusal;
pub use start::{Started, start};

/// What every fallible function of this crate returns, except where a client is refused ([`Refusal`]).
pub type Result<T, E = Error> = std::result::Result<T, E>;
