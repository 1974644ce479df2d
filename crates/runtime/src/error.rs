//! Everything that can go wrong between a package and a running process, and whose fault it is.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a node could not be made, found, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's name for a node is not one.
    #[error(
        "'{}' is no name for a node: expected a letter or digit, then letters, digits, '-' or '_', at most 63",
        .found.escape_debug()
    )]
    Name {
        /// What was given.
        found: String,
    },

    /// There is a node of that name.
    #[error("a node named '{name}' exists already")]
    NameInUse {
        /// The name.
        name: String,
    },

    /// There is no node of that name.
    #[error("there is no node named '{name}'")]
    NoSuchNode {
        /// The name.
        name: String,
    },

    /// Something listens on the port already.
    #[error("{listen} is in use{}", .by.as_ref().map(|name| format!(" by the node '{name}'")).unwrap_or_default())]
    PortInUse {
        /// The address.
        listen: SocketAddr,
        /// The node that has it, where it is one of ours.
        by: Option<String>,
    },

    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },

    /// The caller's specification is not possible.
    #[error("{what}: expected {expected}, found {found}")]
    Specification {
        /// Which part of it.
        what: &'static str,
        /// What is possible.
        expected: String,
        /// What was given.
        found: String,
    },

    /// The package is not for this runtime.
    #[error("this package cannot run as a process: {reason}")]
    NotForProcesses {
        /// Why not.
        reason: &'static str,
    },

    /// The package, or the Python on this machine, does not fit.
    #[error(transparent)]
    Package(#[from] package::Error),

    /// The enclave could not be measured or signed.
    #[error("cannot sign the enclave: {0}")]
    Signing(#[from] gramine::Error),

    /// There is no memory-backed place for decrypted code.
    #[error(
        "no memory-backed directory for decrypted code: expected tmpfs or ramfs at one of {}; \
         mount one, or set XDG_RUNTIME_DIR to a directory on one",
        .tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoMemory {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },

    /// A directory of ours belongs to somebody else, or is open to others.
    #[error("{} is not private: expected a directory of this user's with mode 0700, found {found}", .path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },

    /// The node runs, and what was asked for needs one that does not.
    #[error("the node '{name}' is running; stop it first")]
    StillRunning {
        /// The name.
        name: String,
    },

    /// The process survives even SIGKILL.
    #[error("process {pid} of the node '{name}' does not end, even when killed")]
    Unkillable {
        /// The name.
        name: String,
        /// Its process id.
        pid: u32,
    },

    /// The process could not be started.
    #[error("cannot start {}: {source}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The runtime's own record of a node cannot be read.
    #[error("{} is not a record that this runtime wrote: {reason}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A file or directory could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// What an image is to be built from is not what a build can take.
    #[error("{what}: expected {expected}, found {found}")]
    BuildContext {
        /// The file, or the part of it.
        what: String,
        /// What is needed.
        expected: String,
        /// What is there.
        found: String,
    },

    /// The package is not for containers.
    #[error("this package cannot run in a container: {reason}")]
    NotForContainers {
        /// Why not.
        reason: &'static str,
    },

    /// The engine's address is not one that can be used here.
    #[error(
        "DOCKER_HOST is '{}': expected unix:///path/to/docker.sock or tcp://host:port, without TLS",
        .found.escape_debug()
    )]
    EngineAddress {
        /// What it is.
        found: String,
    },

    /// No container engine answers.
    #[error("no container engine at {address}: {}", .reason.escape_debug())]
    EngineUnreachable {
        /// Where it was looked for.
        address: String,
        /// What happened, and what to do about it.
        reason: String,
    },

    /// An engine took the request and does not answer.
    #[error(
        "the container engine at {address} did not answer within {} s when asked to {action}; \
         it hangs or is overloaded: look at its own log, or start it again",
        .limit.as_secs()
    )]
    EngineSilent {
        /// Its address.
        address: String,
        /// What it was asked to do.
        action: String,
        /// How long it had.
        limit: Duration,
    },

    /// The engine is too old.
    #[error(
        "the container engine {version} speaks version {found} of its API; expected 1.41 or newer, as from Docker 20.10 on"
    )]
    EngineTooOld {
        /// Its version.
        version: String,
        /// The newest version of the API that it knows.
        found: String,
    },

    /// The engine refuses.
    #[error("the container engine cannot {action}: {}", .message.escape_debug())]
    EngineRefused {
        /// What it was asked to do.
        action: String,
        /// HTTP status; 200 where it began well.
        status: u16,
        /// What it says.
        message: String,
    },

    /// What the engine says makes no sense.
    #[error("the container engine was asked to {action} and did not say what it should: {}", .found.escape_debug())]
    EngineAnswer {
        /// What it was asked to do.
        action: String,
        /// Expected and found.
        found: String,
    },

    /// An image could not be built.
    #[error(
        "the image {tag} could not be built: {}{}", .reason.escape_debug(),
        .output.iter().map(|line| format!("\n    {}", line.escape_debug())).collect::<String>()
    )]
    Build {
        /// The image's tag.
        tag: String,
        /// What the engine says.
        reason: String,
        /// The end of the build's output, by lines.
        output: Vec<String>,
    },

    /// There is no such image.
    #[error("the container engine has no image {reference}")]
    NoImage {
        /// Its name or id.
        reference: String,
    },

    /// The caller's name for an image is not one.
    #[error("'{}' is no reference to an image: expected name:tag or sha256:<64 hex>", .found.escape_debug())]
    ImageReference {
        /// What was given.
        found: String,
    },

    /// Somebody removed a node's container.
    #[error(
        "the container {container} of the node '{name}' is gone: it was removed, and not by this runtime; \
         remove the node and spawn it again"
    )]
    ContainerGone {
        /// The node.
        name: String,
        /// Name of the container.
        container: String,
    },

    /// What is sent to the engine could not be read or written.
    #[error("cannot {action}: {source}")]
    Stream {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },

    /// Whoever reads the log does not take any more.
    #[error("cannot pass on the log: {0}")]
    Output(io::Error),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }
}
