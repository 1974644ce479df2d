//! What starts and stops nodes.
//!
//! A runtime is the operator's own tool and protects nothing: whatever it does, the fingerprint decides what
//! the enclave is. It knows processes and files, and nothing of attestation: whether the thing on the port is
//! the right enclave is the client's question.
//!
//! * [`Runtime`]: the trait, and what goes in ([`NodeSpec`]) and comes out ([`NodeSummary`], [`ProcessState`]);
//! * [`process`]: nodes as child processes, without a container engine and without root; simulation only;
//! * [`docker`]: nodes as containers, and what else is asked of a container engine;
//! * [`runtimes`]: both behind one, each node where it was spawned;
//! * [`image_build`]: what an engine builds an image from.

pub mod docker;
pub mod error;
pub mod image_build;
pub mod name;
pub mod process;
pub mod runtimes;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use gramine::sigstruct::SignerKey;
use jiff::Timestamp;
use package::Package;
use serde::Serialize;
use uuid::Uuid;

pub use crate::docker::DockerRuntime;
pub use crate::error::Error;
pub use crate::name::NodeName;
pub use crate::process::ProcessRuntime;
pub use crate::runtimes::{Kind, Runtimes};

/// Everything a runtime needs to make a node. What is measured comes from the package and the size alone.
#[derive(Clone, Copy)]
pub struct NodeSpec<'a> {
    /// The node's name on this machine.
    pub name: &'a NodeName,
    /// The package, opened and so checked.
    pub package: &'a Package,
    /// Enclave size in MB: one of [`package::fingerprint::SIZES`].
    pub size_mb: u64,
    /// The name users call the application by: SAN of its certificate.
    pub host: &'a str,
    /// Other names that its certificate is to be for.
    pub other_hosts: &'a [String],
    /// Where it listens.
    pub listen: SocketAddr,
    /// Days until the certificate expires.
    pub days: u32,
    /// Subject of the certificate, as an RFC 4514 string.
    pub subject: &'a str,
    /// Identifier of this instance, which a configuration must name.
    pub app_id: Uuid,
    /// Signs SIGSTRUCT; not a matter of trust here, for MRENCLAVE is compared.
    pub signer: &'a SignerKey,
    /// The simulator's installation, which makes quotes and sealing keys; `None` where there is SGX.
    pub simulator: Option<&'a Path>,
    /// Whether it is to be a debug enclave, whose memory the host can read and which every policy refuses.
    pub debug: bool,
    /// The current time: start of the certificate's validity and date of the signature.
    pub now: Timestamp,
}

/// What the runtime remembers of a node, and how its process is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeSummary {
    /// Its name.
    pub name: NodeName,
    /// Which runtime runs it: `process` or `docker`.
    pub runtime: &'static str,
    /// The application's own name, from its `mse.toml`.
    pub application: String,
    /// The name users call it by.
    pub host: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Enclave size in MB.
    pub size_mb: u64,
    /// Identifier of this instance.
    pub app_id: Uuid,
    /// Path of the application's health check.
    pub healthcheck: String,
    /// The expected MRENCLAVE, in hex: from the package and the size, not from the running node.
    pub fingerprint: String,
    /// SHA-256 of the package, in hex.
    pub package_sha256: String,
    /// When it was spawned.
    pub created_at: Timestamp,
    /// Its process.
    pub process: ProcessState,
}

/// How a node's process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ProcessState {
    /// It runs.
    Alive {
        /// Process id on this host.
        pid: u32,
        /// When it was started last.
        since: Timestamp,
    },
    /// It ended by itself.
    Died,
    /// It was stopped on request.
    Stopped,
    /// The container engine that has it does not answer; only [`Runtime::list`] says so, everything else is an error.
    Unknown,
}

impl ProcessState {
    /// Whether the process runs.
    pub fn is_alive(&self) -> bool {
        matches!(self, ProcessState::Alive { .. })
    }
}

/// Starts and stops nodes. All of it blocks, and is safe to call from several processes at once.
pub trait Runtime: Send + Sync {
    /// Makes a node and starts it; returns as soon as its process runs. On an error nothing is left behind.
    fn spawn(&self, spec: &NodeSpec<'_>) -> Result<NodeSummary, Error>;
    /// The names of all nodes, in order, whether or not their records can be read.
    fn names(&self) -> Result<Vec<NodeName>, Error>;
    /// All nodes, by name. A record that cannot be read is an error: [`Runtime::names`] and [`Runtime::summary`] tell which.
    fn list(&self) -> Result<Vec<NodeSummary>, Error>;
    /// One node.
    fn summary(&self, name: &NodeName) -> Result<NodeSummary, Error>;
    /// How one node's process is doing.
    fn status(&self, name: &NodeName) -> Result<ProcessState, Error> {
        Ok(self.summary(name)?.process)
    }
    /// Copies what the node has written so far; with `follow` goes on until the node ends or `out` fails.
    fn logs(&self, name: &NodeName, follow: bool, out: &mut dyn Write) -> Result<(), Error>;
    /// Copies the end of what the node has written so far: at least the last `most` bytes of it, if there are so many.
    /// Runtimes that can skip the beginning do.
    fn log_end(&self, name: &NodeName, most: u64, out: &mut dyn Write) -> Result<(), Error> {
        let _ = most;
        self.logs(name, false, out)
    }
    /// Asks the node to end, then makes it end. One that does not run is merely noted as stopped.
    fn stop(&self, name: &NodeName) -> Result<(), Error>;
    /// Removes a node that does not run, with its sealed state: what it alone could open is lost.
    fn remove(&self, name: &NodeName) -> Result<(), Error>;
    /// Stops the node if it runs, and starts it with the same identity and sealed state.
    fn restart(&self, name: &NodeName) -> Result<NodeSummary, Error>;
}
