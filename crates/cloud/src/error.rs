//! Everything that can go wrong in the backend itself, and whose fault it is. What a client of the API is told is
//! another matter: see [`crate::api::problem`].

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why the backend could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database could not be opened, or refused a statement.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),

    /// The database's schema could not be brought up to date.
    #[error("the database's schema: {0}; expected one of this version or an older one")]
    Migration(#[from] sqlx::migrate::MigrateError),

    /// The database's URL is of no kind that is understood.
    #[error("the database's URL: expected sqlite://PATH or postgres://..., found the scheme '{found}'")]
    DatabaseUrl {
        /// The scheme that was given; the rest of the URL may hold a password.
        found: String,
    },

    /// What the database holds cannot be what this program wrote.
    #[error("the database holds {found} as {what}: expected {expected}; somebody else wrote to it")]
    Row {
        /// Which column.
        what: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },

    /// Another backend works on the same state.
    #[error("{what} is in use: another mse-cloud runs on it; expected to be the only one")]
    InUse {
        /// The data directory or the database.
        what: String,
    },

    /// The lock that makes this the only backend of a database went away with its connection.
    #[error(
        "the lock on the database is lost: expected to hold it until the end; its server ended the connection or does \
         not answer, and another mse-cloud may work on it by now"
    )]
    ClaimLost,

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

    /// A file holds something else than it should.
    #[error("{}: expected {expected}, found {found}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        found: String,
    },

    /// The configuration asks for something impossible.
    #[error("the configuration's {what}: expected {expected}, found {found}")]
    Configuration {
        /// Which entry.
        what: &'static str,
        /// What is possible.
        expected: String,
        /// What was given.
        found: String,
    },

    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },

    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),

    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),

    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,

    /// The runtime could not do what the database wants.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),

    /// The owner's package is not one.
    #[error(transparent)]
    Package(#[from] package::Error),

    /// The owner's package was not opened where that can do no harm.
    #[error("a package: {0}")]
    Reader(#[from] crate::reader::Refused),

    /// The operator's signer key.
    #[error("the signer's key: {0}")]
    Signer(#[from] gramine::Error),

    /// The simulator's installation.
    #[error("the simulated platform: {0}")]
    Platform(#[from] platform::Error),

    /// The router.
    #[error("the router: {0}")]
    Router(#[from] router::Error),

    /// Work on another thread did not come to its end.
    #[error("a task of the backend itself ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
