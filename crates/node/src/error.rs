//! Everything that keeps a node from running. What keeps a client from being served is a [`crate::Refusal`].

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the node cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A variable of the environment is missing or not text. The manifest or the runtime sets it.
    #[error("expected the environment variable {0} to be set by whoever started the node, found none")]
    Environment(&'static str),

    /// A file of the node's places could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, in the infinitive.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// A file that the host supplies is longer than anything honest.
    #[error("expected {} to have at most {limit} bytes, found more", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: usize,
    },

    /// The sealed state does not open, and there is no room to keep it. Nothing was changed.
    #[error(
        "the sealed state does not open, and {limit} that did not open either are kept in {} already: expected fewer. \
         None is deleted, since each may hold an owner's secrets: move those away that are not needed any more, then \
         restart the node",
        directory.display()
    )]
    SetAside {
        /// Where they are.
        directory: PathBuf,
        /// Most that are kept.
        limit: usize,
    },

    /// The directory for code and secrets is not in memory.
    #[error(
        "expected {} to be memory-backed (tmpfs or ramfs), found a file system of type {found:#x}: code and secrets \
         are never written to a disk",
        path.display()
    )]
    NotInMemory {
        /// The directory.
        path: PathBuf,
        /// What `statfs` says of it.
        found: u64,
    },

    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where the instance should listen.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },

    /// The manifest's node configuration or the operator's `instance.toml` is not valid.
    #[error(transparent)]
    Package(#[from] package::Error),

    /// The platform gives no quote or no sealing key.
    #[error(transparent)]
    Platform(#[from] platform::Error),

    /// The certificate cannot be made.
    #[error(transparent)]
    Ratls(#[from] attestation::Error),

    /// A key cannot be made, sealed or opened.
    #[error(transparent)]
    Secrets(#[from] secrets::Error),

    /// The TLS key pair cannot be made, or the TLS library refuses it.
    #[error("the node's own TLS key is unusable: {0}")]
    Tls(String),

    /// The sealed state opens, and yet is not what this version writes.
    #[error("expected the sealed state of this version of the node, found {0}")]
    State(String),

    /// What was accepted at configuration cannot be prepared again.
    #[error("the configuration that was accepted earlier cannot be applied again: {0}")]
    Prepare(String),

    /// The configuration server's thread ended without a configuration.
    #[error("the configuration server ended before a configuration was accepted")]
    ServerEnded,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}
