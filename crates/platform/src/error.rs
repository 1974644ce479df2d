//! The one error type of this crate. Messages say what was expected, what was found and whose fault it is, and never
//! contain keys.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why a platform could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read, written or made.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Gramine, or the machine below it, answers with something else than was asked for.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Device {
        /// The file below `/dev/attestation`.
        path: PathBuf,
        /// What should be in it.
        expected: String,
        /// What is in it.
        found: String,
    },
    /// The simulator's directory is not as it was made: somebody changed it, or it is something else.
    #[error(
        "the simulator's installation in {} is damaged: expected {expected}, found {found}; move the directory away \
         and a new one is made, with another root (nodes of the old one must be spawned and verified again)",
        directory.display()
    )]
    Damaged {
        /// The installation.
        directory: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Other users of the machine can read the simulator's keys.
    #[error(
        "{}: expected keys that only their owner can read, found mode {mode:04o}; `chmod -R go= {}` closes it",
        path.display(), directory.display()
    )]
    Exposed {
        /// The installation.
        directory: PathBuf,
        /// The file or directory that is too open.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The simulator's certificates are not valid now.
    #[error(
        "the simulator's installation in {} is valid from {from} to {until}, and now it is {now}; where the clock is \
         right, move the directory away and a new one is made",
        directory.display()
    )]
    NotValidNow {
        /// The installation.
        directory: PathBuf,
        /// From when on its certificates count.
        from: jiff::Timestamp,
        /// Until when.
        until: jiff::Timestamp,
        /// What the caller's clock says.
        now: jiff::Timestamp,
    },
    /// A quote that this installation did not make.
    #[error("the quote: expected one of this installation's simulated platform, found another's")]
    ForeignQuote,
    /// The enclave would not start: the processor would refuse its SIGSTRUCT.
    #[error("SIGSTRUCT, {field}: expected {expected} (of manifest and libpal), found {found}")]
    NotSignedForThis {
        /// The field's name in the Intel manual.
        field: &'static str,
        /// What the enclave has.
        expected: String,
        /// What the SIGSTRUCT says.
        found: String,
    },
    /// The manifest describes an enclave that cannot attest itself, or names files that cannot be checked.
    #[error("manifest, {key}: expected {expected}, found {found}")]
    Manifest {
        /// The key.
        key: &'static str,
        /// What it must say.
        expected: String,
        /// What it says.
        found: String,
    },
    /// A file is not the one that the manifest trusts.
    #[error("trusted file {uri}: expected {expected}, found {found}")]
    TrustedFile {
        /// Its name in the manifest.
        uri: String,
        /// What the manifest says about it.
        expected: String,
        /// What lies there.
        found: String,
    },
    /// The endpoint cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// Manifest, libpal or SIGSTRUCT is not one.
    #[error(transparent)]
    Gramine(#[from] gramine::Error),
    /// The simulator's certificates, quotes or collateral cannot be made or read.
    #[error(transparent)]
    Attestation(#[from] attestation::Error),
}

impl Error {
    /// For `map_err`: an [`Error::Io`].
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
